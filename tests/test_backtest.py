"""The backtest: only what was known trains and scores, nights equal single scoring runs, and the account is right."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from convpredict.config.base import Duration
from convpredict.config.load import Project, parse_project
from convpredict.config.training import EvaluationConfig
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.evaluation.backtest import NightlyRows, judge_nights, score_drift
from convpredict.features.build import build_features
from convpredict.history.history import TIMESTAMP, History
from convpredict.models.batch_scoring import encode_batch
from convpredict.scoring.nights import NightScores, Stretch, score_nights
from convpredict.scoring.scores import score_open_leads
from convpredict.training.as_of import history_as_of
from convpredict.workflows.backtesting import plan_nights, train_as_of
from factories import day, make_history, random_history

MAX_AGE = Duration("60d")
NIGHTS = tuple(day(70 + 4 * number) for number in range(6))


def project(**sections: Any) -> Project:
    content = {
        "name": "tests",
        "sources": {"nothing": {"file": "nothing.csv"}},
        "history": {"leads": {"source": "nothing"}},
        "observations": {"cutoffs": {"every": "3d"}, "max_age": str(MAX_AGE)},
        "labels": {"horizons": ["10d"]},
        "features": {"min_count": 2},
        "model": {"n_estimators": 8, "num_leaves": 4, "logistic_weight": 0.3, "seeds": 2},
        "scorecard": {
            "rules": [{"kind": "call", "points": 5}, {"attribute": "source", "values": ["ads"], "points": 3}]
        },
    }
    return parse_project({**content, **sections})


@pytest.fixture(scope="module")
def history() -> History:
    return random_history(
        np.random.default_rng(3), leads=160, days=110, interactions_per_lead=6, conversion_share=0.7
    )


def run(history: History) -> tuple[NightScores, list[Stretch]]:
    stretches = [
        Stretch(train_as_of(history, project(), nights[0])[0], nights[0], nights)
        for nights in (NIGHTS[:3], NIGHTS[3:])
    ]
    return score_nights(history, stretches, max_age=MAX_AGE, bucket_events=200), stretches


@pytest.fixture(scope="module")
def ran(history: History) -> tuple[NightScores, list[Stretch]]:
    return run(history)


def test_a_night_equals_a_scoring_run_on_what_was_known_then(
    history: History, ran: tuple[NightScores, list[Stretch]]
) -> None:
    scores, stretches = ran
    lead_ids = history.leads["lead_id"].to_numpy(zero_copy_only=False)
    for stretch in stretches:
        for night in stretch.nights:
            own = scores.night == NIGHTS.index(night)
            single = score_open_leads(
                history_as_of(history, night), stretch.bundle, as_of=night, max_age=MAX_AGE
            )
            alone = single.table.to_pandas().set_index("lead_id")
            assert own.sum() == len(alone) > 10
            alone = alone.loc[lead_ids[scores.lead_row[own]]]
            np.testing.assert_array_equal(scores.p[own], alone[single.probability_column])
            assert scores.points is not None
            np.testing.assert_array_equal(scores.points[own], alone["scorecard_points"])


def test_what_became_known_later_changes_no_earlier_night(
    history: History, ran: tuple[NightScores, list[Stretch]]
) -> None:
    last = NIGHTS[3]
    before, _ = ran
    after, _ = run(altered_from(history, last))
    kept, again = before.night <= 3, after.night <= 3
    np.testing.assert_array_equal(before.lead_row[kept], after.lead_row[again])
    np.testing.assert_array_equal(before.p[kept], after.p[again])
    assert not np.array_equal(before.p[~kept], after.p[~again])


def altered_from(history: History, instant: datetime) -> History:
    """The history with everything that became known at an instant or later thrown over."""
    known = history_as_of(history, instant)
    us = pa.scalar(int(instant.timestamp() * 1e6), pa.int64())
    events = history.query("SELECT * FROM interactions")
    late = np.asarray(events["visible_at"].to_numpy() >= us.as_py())
    kind = events["kind"].to_numpy(zero_copy_only=False).astype(object)
    kind[late] = "call"
    position = events.schema.get_field_index("kind")
    events = events.set_column(position, "kind", pa.array(kind, pa.string()))
    converted = set(known.conversions["lead_row"].to_pylist())
    fresh = [row for row in range(0, history.n_leads, 2) if row not in converted]
    at = [instant + timedelta(days=row % 7) for row in fresh]
    added = pa.table(
        {
            "lead_row": pa.array(fresh, pa.int32()),
            "converted_at": pa.array(at, TIMESTAMP),
            "recorded_at": pa.array([None] * len(fresh), TIMESTAMP),
        }
    )
    conversions = pa.concat_tables([known.conversions, added]).sort_by("lead_row")
    return History.trusted(
        known.leads,
        events,
        conversions=conversions,
        attribute_changes=known.attribute_changes,
        lead_attributes=history.lead_attributes,
        interaction_attributes=history.interaction_attributes,
        known_until=history.known_until,
    )


def test_a_conversion_that_is_recorded_late_keeps_the_lead_on_the_list_without_a_label() -> None:
    source = make_history(
        [("a", day(1)), ("b", day(1)), ("c", day(1)), ("d", day(1))],
        [("a", day(2), "call"), ("b", day(2), "call")],
        [("a", day(10), day(20)), ("b", day(12)), ("d", None)],
        known_until=day(40),
    )
    known = history_as_of(source, day(15))
    assert known.conversions["lead_row"].to_pylist() == [1, 3]
    from convpredict.scoring.nights import open_on_nights

    nights = np.array([int(day(n).timestamp() * 1e6) for n in (11, 15, 20, 21)])
    lead_row, night = open_on_nights(source, nights, None)
    pairs = list(zip(lead_row.tolist(), night.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_the_matrix_of_a_batch_is_that_of_the_data_frame(
    history: History, ran: tuple[NightScores, list[Stretch]]
) -> None:
    from convpredict.training.observations import open_observations

    bundle = ran[1][0].bundle
    table = build_features(history, open_observations(history, NIGHTS[0]).table, bundle.feature_set)
    encoder = bundle.model.encoder_
    direct = encode_batch(encoder, table.combine_chunks().to_batches()[0])
    np.testing.assert_array_equal(
        direct, encoder.encode(table.to_pandas()[list(bundle.feature_set.model_names)])
    )


def rows(**changes: Any) -> NightlyRows:
    """Two nights of four leads; the points rank the second night's converter last."""
    content: dict[str, Any] = {
        "nights": [day(10), day(17)],
        "trained_at": [day(10), day(10)],
        "reference": [(np.linspace(0.01, 0.9, 40), 40)] * 2,
        "night": np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        "lead": np.array([0, 1, 2, 3, 0, 1, 2, 4]),
        "p": np.array([0.1, 0.2, 0.3, 0.6, 0.1, 0.7, 0.3, 0.2]),
        "points": np.array([1.0, 2.0, 3.0, 4.0, 4.0, 1.0, 3.0, 2.0]),
        "label": np.array([0, 0, 0, 1, -1, 1, 0, 0], np.int8),
    }
    return NightlyRows(**{**content, **changes})


def test_nights_are_judged_on_known_outcomes_and_lists_hold_every_open_lead() -> None:
    config = EvaluationConfig(resamples=50, calls_per_week=1)
    judged = judge_nights(rows(), config, horizon="10d")
    nights = judged.nights
    assert nights["open_leads"].tolist() == [4, 4]
    assert nights["judged"].tolist() == [4, 3]
    assert nights["conversions"].tolist() == [1, 1]
    np.testing.assert_allclose(nights["expected"], [1.2, 1.2])
    assert nights["auc_model"].tolist() == [1.0, 1.0]
    assert nights["auc_scorecard"].tolist() == [1.0, 0.0]
    assert nights["found_model"].tolist() == [1.0, 1.0]
    assert nights["found_scorecard"].tolist() == [1.0, 0.0]
    assert nights["model_age_days"].tolist() == [0.0, 7.0]
    assert "At 1 call a week" in judged.sentences[0]
    assert judged.months["rows"].sum() == 7


def test_without_outcomes_drift_is_still_shown() -> None:
    judged = judge_nights(rows(label=np.full(8, -1, np.int8)), EvaluationConfig(resamples=50), horizon="10d")
    assert judged.nights["auc_model"].isna().all()
    assert judged.nights["psi"].notna().all()
    assert "No outcome is known yet" in judged.sentences[-1]


def test_where_drift_is_known_on_no_night_it_is_left_out() -> None:
    """No lead was scored on any night, or the training rows had no scores to hold them against."""
    config = EvaluationConfig(resamples=50, calls_per_week=1)
    empty = {name: getattr(rows(), name)[:0] for name in ("night", "lead", "p", "points", "label")}
    judged = judge_nights(rows(**empty), config, horizon="10d")
    assert judged.nights["open_leads"].tolist() == [0, 0]
    assert judged.summary["largest_drift"] is None
    assert judged.sentences[-1] == "No lead was scored on any of these nights, so nothing can be told."
    assert len(judged.figure().axes) == 4
    without = [(np.array([]), 0)] * 2
    judged = judge_nights(rows(reference=without), config, horizon="10d")
    assert judged.summary["largest_drift"] is None
    assert "times the conversions that came" in judged.sentences[-1]
    assert "drift" not in " ".join(judged.sentences)
    one = judge_nights(rows(reference=[without[0], rows().reference[1]]), config, horizon="10d")
    assert one.summary["largest_drift"] == one.nights["drift"][1]
    assert "largest drift of the scores" in one.sentences[-1]


def test_drift_is_nought_on_average_without_drift_and_plain_with_it() -> None:
    rng = np.random.default_rng(0)
    plain = [score_drift(rng.beta(1, 9, 2000), rng.beta(1, 9, 300)) for _ in range(200)]
    by_chance = 9 * (1 / 300 + 1 / 2000)
    assert np.mean([index for index, _ in plain]) == pytest.approx(by_chance, rel=0.15)
    assert np.mean([drift for _, drift in plain]) < by_chance / 2
    assert score_drift(rng.beta(1, 9, 2000), rng.beta(2, 9, 300))[1] > 0.25


def test_nights_are_planned_up_to_the_last_known_outcome(history: History) -> None:
    nights = plan_nights(history, project(), Duration("7d"), day(80), None)
    assert nights[0] == day(80)
    assert nights[-1] + timedelta(days=10) <= history.known_until
    assert nights[-1] + timedelta(days=17) > history.known_until
    with pytest.raises(ConfigError, match="nights"):
        plan_nights(history, project(), Duration("7d"), day(80), day(70))
    with pytest.raises(ConfigError, match="--every is 0d"):
        plan_nights(history, project(), Duration("0d"), day(80), None)


def test_a_start_with_too_little_to_learn_says_what_to_do(history: History) -> None:
    with pytest.raises(NotEnoughDataError, match=r"Start later \(--start of a backtest\)") as caught:
        train_as_of(history, project(), day(12))
    assert "split." not in str(caught.value)


def test_nights_that_do_not_ascend_are_refused(
    history: History, ran: tuple[NightScores, list[Stretch]]
) -> None:
    first = ran[1][0]
    with pytest.raises(ConfigError, match="ascend"):
        score_nights(history, [replace(first, nights=first.nights[::-1])])


def test_the_table_fits_a_terminal() -> None:
    from io import StringIO
    from pathlib import Path

    from rich.console import Console

    from convpredict.cli.backtesting import backtest_lines
    from convpredict.workflows.backtesting import BacktestRun

    judged = judge_nights(rows(), EvaluationConfig(resamples=50, calls_per_week=1), horizon="10d")
    console = Console(file=StringIO(), width=110)
    for line in backtest_lines(BacktestRun(Path("folder"), judged, ())):
        console.print(line)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert "2024-01-18" in text
    assert isinstance(judged.nights, pd.DataFrame)


def test_the_figure_has_four_panels_and_says_who_is_who() -> None:
    figure = judge_nights(rows(), EvaluationConfig(resamples=50, calls_per_week=1), horizon="10d").figure()
    assert len(figure.axes) == 4
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["model", "points"]
