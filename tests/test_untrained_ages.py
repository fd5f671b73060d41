"""Leads of an age that no training row had: never scored unsaid, by score, nights, backtest or the MLflow model."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from convpredict.config.base import Duration
from convpredict.config.history import SimulatorConfig
from convpredict.config.load import Project, load_project, parse_project
from convpredict.config.training import ObservationsConfig
from convpredict.errors import ConfigError, DataError
from convpredict.features.cross_lead import snapshot_cross_lead
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.models.bundle import Bundle, load_bundle, write_bundle
from convpredict.scoring.forget.forgotten import Forgotten
from convpredict.scoring.nightly.score import observe
from convpredict.scoring.nights import Stretch, score_nights
from convpredict.scoring.scores import score_open_leads
from convpredict.tracking.mlflow_pyfunc import PythonModelContext
from convpredict.tracking.model_directory import verify_model_directory, write_model_directory
from convpredict.tracking.pyfunc_model import LeadModel
from convpredict.tracking.pyfunc_schema import example_of
from convpredict.tracking.raw_rows import check_ages
from convpredict.training.as_of import history_as_of
from convpredict.training.lead_ages import TOO_OLD, TOO_YOUNG, LearntAges
from convpredict.training.lead_times import LeadTimes, to_microseconds
from convpredict.training.observations import open_observations
from convpredict.training.reference_nights import reference_nights
from convpredict.workflows.backtesting import train_as_of
from convpredict.workflows.scoring import score
from factories import day, make_history

TRAINED = datetime(2025, 9, 1, tzinfo=UTC)
AS_OF = datetime(2025, 10, 1, tzinfo=UTC)
NAMES = ("leads", "interactions", "conversions")
DAY = MICROSECONDS_PER_DAY


@dataclasses.dataclass(frozen=True)
class Case:
    """A simulated history, learnt from at the age of one day only."""

    config: Path
    project: Project
    history: History
    bundle: Bundle
    folder: Path


def written(folder: Path, **observations: Any) -> Path:
    content = {
        "name": "ages",
        "data": ".",
        "sources": {name: {"file": f"{name}.parquet"} for name in NAMES},
        "history": {name: {"source": name} for name in NAMES} | {"known_until": "2025-12-31"},
        "observations": {"cutoffs": {"ages": ["1d"]}, **observations},
        "model": {"n_estimators": 5, "num_leaves": 4, "logistic_weight": 0.5, "seeds": 1},
    }
    path = folder / f"{'_'.join(['ages', *map(str, observations.values())])}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("ages")
    simulate(SimulatorConfig(leads=2_000, seed=5), folder)
    config = written(folder)
    project = load_project(config)
    history = load_history(project.config, project.data_dir)
    bundle, _ = train_as_of(history, project, TRAINED)
    write_bundle(folder / "bundle", bundle)
    return Case(config, project, history, bundle, folder / "bundle")


def ages_at(history: History, as_of: datetime) -> np.ndarray:
    """Ages (µs) of all open leads."""
    rows = open_observations(history, as_of).table["lead_row"].to_numpy()
    return to_microseconds(as_of) - LeadTimes.of(history).created_at[rows]


def test_the_bundle_keeps_the_ages_of_its_rows(case: Case, tmp_path: Path) -> None:
    assert case.bundle.ages == LearntAges(DAY, DAY)
    assert load_bundle(case.folder).ages == case.bundle.ages
    assert load_bundle(case.folder).digest == case.bundle.digest


def test_score_gives_no_score_to_leads_of_other_ages_and_says_so(case: Case, tmp_path: Path) -> None:
    age = ages_at(case.history, AS_OF)
    young, old = int((age < DAY / 2).sum()), int((age > 2 * DAY).sum())
    result = score(case.config, tmp_path / "scores.parquet", bundle=case.folder, as_of=AS_OF)
    assert result.summary["left_out"][TOO_OLD] == old > 200
    assert result.summary["left_out"].get(TOO_YOUNG, 0) == young
    assert result.summary["leads"] == len(age) - young - old > 0
    assert len(result.summary["warnings"]) == 1
    assert f"{old:,} open leads are older than 2 days" in result.summary["warnings"][0]
    assert "more than twice as old" in result.text


def test_the_conversions_promised_are_those_that_come() -> None:
    """Planted: who converts does so at the age of 3 days, so that nothing comes of the many leads that are older."""
    leads = [(f"l{number:03d}", day(number / 4), None, {"source": "ads"}) for number in range(560)]
    history = make_history(
        leads,
        conversions=[(lead[0], lead[1] + timedelta(days=3)) for lead in leads[::3]],
        known_until=day(140),
    )
    content = {
        "name": "planted",
        "sources": {"nothing": {"file": "nothing.csv"}},
        "history": {"leads": {"source": "nothing"}},
        "observations": {"cutoffs": {"ages": ["1d"]}},
        "labels": {"horizons": ["10d"]},
        "model": {"n_estimators": 5, "num_leaves": 4, "logistic_weight": 0.5, "seeds": 1},
    }
    bundle, _ = train_as_of(history, parse_project(content), day(100))
    as_of = day(120.1)
    sold = {f"l{number:03d}" for number in range(0, 560, 3)}

    def promised_and_came(**settings: Any) -> tuple[float, int]:
        scores = score_open_leads(history_as_of(history, as_of), bundle, as_of=as_of, **settings)
        came = sold & set(scores.table["lead_id"].to_pylist())
        return float(scores.table["p_convert_10d"].to_numpy().sum()), len(came)

    promised, came = promised_and_came()
    assert abs(promised - came) < 1 < came
    promised, came = promised_and_came(untrained_ages="score")
    assert promised > 15 * came


def test_leads_scored_all_the_same_are_told_of(case: Case) -> None:
    everybody = score_open_leads(case.history, case.bundle, as_of=AS_OF, untrained_ages="score")
    held = score_open_leads(case.history, case.bundle, as_of=AS_OF)
    ages = ages_at(case.history, AS_OF)
    assert everybody.table.num_rows == len(ages) > 50 * held.table.num_rows > 0
    assert everybody.age_doubt is not None
    assert "their scores are a guess" in everybody.age_doubt


def test_a_configuration_may_want_all_leads_scored_and_is_warned(case: Case, tmp_path: Path) -> None:
    config = written(case.config.parent, untrained_ages="score")
    result = score(config, tmp_path / "scores.parquet", bundle=case.folder, as_of=AS_OF)
    assert result.summary["leads"] == len(ages_at(case.history, AS_OF))
    assert TOO_OLD not in result.summary["left_out"]
    assert "their scores are a guess" in result.summary["warnings"][0]


def test_max_age_says_that_old_leads_are_not_wanted(case: Case, tmp_path: Path) -> None:
    config = written(case.config.parent, max_age="2d")
    result = score(config, tmp_path / "scores.parquet", bundle=case.folder, as_of=AS_OF)
    assert TOO_OLD not in result.summary["left_out"]
    assert result.summary["left_out"]["too_old"] > 200
    assert not any("older" in warning for warning in result.summary["warnings"])


def test_a_bundle_from_before_ages_were_kept_scores_as_it_did(case: Case, tmp_path: Path) -> None:
    write_bundle(tmp_path / "old", dataclasses.replace(case.bundle, ages=None))
    old = load_bundle(tmp_path / "old")
    assert old.ages is None
    scores = score_open_leads(case.history, old, as_of=AS_OF)
    assert scores.table.num_rows == len(ages_at(case.history, AS_OF))
    assert scores.age_doubt is None
    assert TOO_OLD not in scores.excluded


def test_a_night_leaves_out_what_a_list_leaves_out(case: Case) -> None:
    night = observe(case.history, case.bundle, case.project.config, AS_OF, Forgotten(bytes(32)))
    listed = score_open_leads(case.history, case.bundle, as_of=AS_OF)
    assert sorted(night.table["lead_id"].to_pylist()) == sorted(listed.table["lead_id"].to_pylist())
    assert night.excluded == listed.excluded
    assert night.age_doubt == listed.age_doubt is not None


def test_the_nights_of_a_backtest_leave_out_the_same_and_count_it(case: Case) -> None:
    nights = (AS_OF, datetime(2025, 10, 2, tzinfo=UTC))
    scores = score_nights(case.history, [Stretch(case.bundle, TRAINED, nights)])
    ids = case.history.leads["lead_id"].to_pylist()
    n_open = 0
    for number, night in enumerate(nights):
        then = history_as_of(case.history, night)
        single = score_open_leads(then, case.bundle, as_of=night)
        own = [ids[row] for row in scores.lead_row[scores.night == number]]
        assert sorted(own) == sorted(single.table["lead_id"].to_pylist())
        n_open += open_observations(then, night).table.num_rows
    assert scores.left_out == n_open - len(scores.lead_row) > 0
    everybody = score_nights(case.history, [Stretch(case.bundle, TRAINED, nights)], untrained_ages="score")
    assert (len(everybody.lead_row), everybody.left_out) == (n_open, 0)


def test_models_of_two_stretches_are_each_held_to_their_own_ages(case: Case) -> None:
    nights = (AS_OF, datetime(2025, 10, 2, tzinfo=UTC))
    free = dataclasses.replace(case.bundle, ages=None)
    scores = score_nights(
        case.history, [Stretch(case.bundle, TRAINED, nights[:1]), Stretch(free, TRAINED, nights[1:])]
    )
    then = history_as_of(case.history, nights[1])
    assert (scores.night == 1).sum() == open_observations(then, nights[1]).table.num_rows
    assert 0 < (scores.night == 0).sum() < (scores.night == 1).sum() / 20


def test_the_profile_of_nights_is_of_leads_that_a_night_scores(case: Case) -> None:
    table = reference_nights(case.history, begin=TRAINED, at="00:00", ages=case.bundle.ages)
    created = LeadTimes.of(case.history).created_at[table["lead_row"].to_numpy()]
    age = table["cutoff"].cast("int64").to_numpy() - created
    assert len(age) > 0
    assert case.bundle.ages is not None
    assert case.bundle.ages.covers(age).all()


def test_the_invented_lead_of_a_model_directory_is_of_a_learnt_age(case: Case) -> None:
    example = example_of(case.bundle).iloc[0]
    assert pd.Timestamp(example["cutoff"]) - pd.Timestamp(example["created_at"]) == pd.Timedelta(days=1)


def test_a_raw_lead_of_another_age_is_refused_by_its_row() -> None:
    ages = LearntAges(DAY, 30 * DAY)
    check_ages([0, 0, 0], [DAY // 2, 7 * DAY, 60 * DAY], ages)
    check_ages([0], [900 * DAY], None)
    with pytest.raises(
        DataError, match=r"^row 2: the lead is 61 days old .* learnt from leads of 1 to 30 days"
    ):
        check_ages([0, 0], [DAY, 61 * DAY], ages)
    with pytest.raises(DataError, match=r"^row 1: the lead is 0\.25 days old .* allow_untrained_ages"):
        check_ages([0], [DAY // 4], ages)


def test_a_grid_meets_leads_from_their_first_moment_on() -> None:
    grid = ObservationsConfig.model_validate({"cutoffs": {"every": "7d"}})
    at_ages = ObservationsConfig.model_validate({"cutoffs": {"ages": ["3d", "119d"]}})
    age = np.array([3 * DAY, 119 * DAY])
    assert LearntAges.of_rows(age, grid) == LearntAges(0, 119 * DAY)
    assert LearntAges.of_rows(age, at_ages) == LearntAges(3 * DAY, 119 * DAY)
    assert LearntAges.of_rows(age[:0], grid) is None


def test_left_out_leads_are_counted_once_and_nobody_is_lost() -> None:
    history = make_history(
        [("fresh", day(9.9)), ("good", day(9)), ("old", day(1)), ("sold", day(1)), ("later", day(11))],
        conversions=[("sold", day(3))],
        known_until=day(12),
    )
    found = open_observations(history, day(10), ages=LearntAges(DAY, DAY))
    assert found.table["lead_id"].to_pylist() == ["good"]
    told = {reason: count for reason, count in found.excluded.items() if count}
    assert told == {TOO_YOUNG: 1, TOO_OLD: 1, "after_conversion": 1, "before_creation": 1}
    assert found.candidates == 5
    max_age = open_observations(history, day(10), Duration("5d"), ages=LearntAges(DAY, DAY))
    assert (max_age.excluded["too_old"], max_age.excluded[TOO_OLD]) == (1, 0)


@pytest.mark.parametrize("option", ["every", "retrain_every"])
def test_a_backtest_names_the_option_that_is_no_duration(case: Case, tmp_path: Path, option: str) -> None:
    from convpredict.workflows.backtesting import backtest

    with pytest.raises(
        ConfigError, match=f"--{option.replace('_', '-')}: a duration must be .* got 'weekly'"
    ):
        backtest(case.config, tmp_path / "out", **{option: "weekly"})


def test_the_mlflow_model_refuses_a_raw_lead_of_another_age_unless_asked(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    rates = snapshot_cross_lead(case.history, case.bundle.feature_set, TRAINED)
    write_model_directory(folder, case.bundle, cross_lead=rates)
    model = LeadModel()
    of_mlflow: Any = PythonModelContext
    model.load_context(of_mlflow({"bundle": str(verify_model_directory(folder))}, {}))
    lead = example_of(case.bundle, str(rates["as_of"]))
    assert len(model.predict(None, lead)) == 1
    old = lead.assign(created_at="2025-01-01T00:00:00Z")
    with pytest.raises(DataError, match=r"^row 2: the lead is 243 days old at its cutoff"):
        model.predict(None, pd.concat([lead, old], ignore_index=True))
    scored = model.predict(None, pd.concat([lead, old], ignore_index=True), {"allow_untrained_ages": True})
    assert scored["p_convert_30d"].notna().all()
