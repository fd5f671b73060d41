"""The nights that a model's profile is made of: every weekday, at the hour of the nightly run, open leads only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import parse_project
from convpredict.features.build import build_features
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.models.fitting import fit_conversion_model, fit_night_profile, fit_profile
from convpredict.models.profile import SCORE, stability_of
from convpredict.training.as_of import history_as_of
from convpredict.training.lead_times import microseconds_of
from convpredict.training.observations import open_observations
from convpredict.training.reference_nights import reference_nights
from convpredict.training.training_set import TrainingSet, build_training_set

BEGIN = datetime(2025, 9, 1, tzinfo=UTC)
SOURCES = {name: {"file": f"{name}.parquet"} for name in ("leads", "interactions", "conversions")}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("nights")
    simulate(SimulatorConfig(leads=2_000, seed=5), folder)
    config = {
        "name": "nights",
        "sources": SOURCES,
        "history": {
            **{name: {"source": name} for name in SOURCES},
            "known_until": "2025-12-31T09:00:00Z",
        },
    }
    project = parse_project(config, data=Path(folder))
    return load_history(project.config, project.data_dir)


def test_there_is_a_night_on_each_of_the_last_28_days_at_the_hour_of_the_run(history: History) -> None:
    table = reference_nights(history, begin=BEGIN, at="02:30")
    nights = sorted(set(table["cutoff"].to_pylist()))
    assert nights[-1] == datetime(2025, 12, 31, 2, 30, tzinfo=UTC)
    assert [later - earlier for earlier, later in pairwise(nights)] == [timedelta(days=1)] * 27
    assert {night.weekday() for night in nights} == set(range(7))
    late = reference_nights(history, begin=BEGIN, at="23:00")
    assert max(late["cutoff"].to_pylist()) == datetime(2025, 12, 30, 23, tzinfo=UTC)


def test_the_leads_of_a_night_are_those_that_were_open_by_what_was_known(history: History) -> None:
    table = reference_nights(history, begin=BEGIN, at="00:00")
    for night in (datetime(2025, 12, 6, tzinfo=UTC), datetime(2025, 12, 30, tzinfo=UTC)):
        expected = open_observations(history_as_of(history, night), night).table["lead_id"].to_pylist()
        own = [row["lead_id"] for row in table.to_pylist() if row["cutoff"] == night]
        assert own == expected


def test_no_night_lies_before_the_begin_and_none_is_there_when_it_is_late(history: History) -> None:
    table = reference_nights(history, begin=datetime(2025, 12, 25, tzinfo=UTC), at="00:00")
    assert min(table["cutoff"].to_pylist()) == datetime(2025, 12, 25, tzinfo=UTC)
    none = reference_nights(history, begin=datetime(2026, 2, 1, tzinfo=UTC), at="00:00")
    assert none.num_rows == 0
    assert none.column_names == ["lead_row", "lead_id", "cutoff"]


def test_of_many_rows_other_leads_are_taken_on_every_night(history: History) -> None:
    whole = reference_nights(history, begin=BEGIN, at="00:00")
    part = reference_nights(history, begin=BEGIN, at="00:00", most_rows=whole.num_rows // 4 + 1)
    assert part.num_rows == pytest.approx(whole.num_rows / 4, rel=0.1)
    taken = microseconds_of(part["cutoff"])
    counts = np.unique(taken, return_counts=True)[1]
    assert len(counts) == 28
    assert counts.min() > 0.7 * counts.mean()
    first, second = (
        set(part["lead_row"].to_numpy()[taken == night].tolist()) for night in np.unique(taken)[:2]
    )
    assert not first & second
    rows, cutoffs = part["lead_row"].to_numpy(), taken
    assert (np.lexsort((cutoffs, rows)) == np.arange(len(rows))).all()


def test_no_weekday_is_a_drift_of_a_profile_made_on_nights(history: History) -> None:
    config = {
        "name": "nights",
        "sources": SOURCES,
        "history": {name: {"source": name} for name in SOURCES},
        "observations": {"cutoffs": {"every": "14d"}},
        "model": {"n_estimators": 20, "num_leaves": 4, "seeds": 1, "logistic_weight": 0.0},
    }
    project = parse_project(config)
    training_set: TrainingSet = build_training_set(history, project)
    model = fit_conversion_model(training_set, project.config.model)
    nights = reference_nights(history, begin=BEGIN, at="00:00")
    profile = fit_night_profile(history, training_set, model, nights)
    assert profile.parts == ("nights",)
    grid = fit_profile(training_set, model)
    excess = {"nights": 0.0, "grid": 0.0}
    for day in range(7):
        night = datetime(2025, 11, 20, tzinfo=UTC) + timedelta(days=day)
        observed = open_observations(history_as_of(history, night), night).table
        frame = build_features(history, observed, training_set.feature_set).to_pandas()
        inputs = frame[list(training_set.feature_set.model_names)]
        matrix, p = model.encoder_.encode(inputs).astype(np.float32), model.predict_proba(inputs)[:, 1]
        for name, own in (("nights", profile), ("grid", grid)):
            moved = stability_of(own, own.count(matrix, p))
            for column in ("recency", SCORE):
                excess[name] = max(excess[name], moved[column] - 2 * own.natural[column])
    assert excess["nights"] <= 0
    assert excess["grid"] > 0.05
