"""Labels at boundary instants by hand, and against the definition in plain Python."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.training import AfterInteractionCutoffs, LabelsConfig, ObservationsConfig
from convpredict.training.labels import label_observations, mature_rows
from convpredict.training.observations import make_observations, open_observations
from factories import day, make_history, random_history

TICK = timedelta(microseconds=1)
MONTH = Duration("30d")
COMPLETE = day(100)


def label_at(
    cutoff: datetime,
    *,
    converted: Any = (),
    recorded: datetime | None = None,
    lost: datetime | None = None,
    known_until: datetime = COMPLETE,
) -> int | None:
    """The 30-day label of one lead, created on day 0."""
    history = make_history(
        [("a", day(0), lost)],
        conversions=[("a", when, recorded) for when in converted],
        known_until=known_until,
    )
    rows = pa.table({"lead_row": pa.array([0], pa.int32()), "cutoff": [cutoff]})
    labels = label_observations(history, rows, [MONTH])
    assert labels.schema == pa.schema([("label_30d", pa.int8())])
    value: int | None = labels["label_30d"][0].as_py()
    return value


class TestBoundaries:
    @pytest.mark.parametrize(
        ("converted", "label"),
        [
            (day(10) - TICK, None),
            (day(10), 1),
            (day(40) - TICK, 1),
            (day(40), 0),
        ],
    )
    def test_the_label_covers_the_cutoff_but_not_its_end(
        self, converted: datetime, label: int | None
    ) -> None:
        assert label_at(day(10), converted=[converted]) == label

    def test_maturity_needs_the_data_up_to_the_end_of_the_interval(self) -> None:
        assert label_at(day(10), known_until=day(40)) == 0
        assert label_at(day(10), known_until=day(40) - TICK) is None

    def test_an_immature_positive_stays_unknown(self) -> None:
        assert label_at(day(10), converted=[day(11)], known_until=day(20)) is None

    def test_a_lost_lead_is_a_negative_and_a_later_conversion_still_counts(self) -> None:
        assert label_at(day(10), lost=day(12)) == 0
        assert label_at(day(10), lost=day(12), converted=[day(20)]) == 1

    def test_when_a_conversion_was_recorded_does_not_matter(self) -> None:
        assert label_at(day(10), converted=[day(20)], recorded=day(90)) == 1

    def test_a_conversion_without_a_date_is_unknown_not_negative(self) -> None:
        assert label_at(day(10), converted=[None]) is None


def test_several_horizons_agree_with_the_definition() -> None:
    horizons = [Duration("7d"), Duration("30d"), Duration("12h")]

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def check(seed: int) -> None:
        history = random_history(np.random.default_rng(seed), conversion_share=0.7)
        if seed % 2:
            observations = open_observations(history, day(20)).table
        else:
            config = ObservationsConfig(cutoffs=AfterInteractionCutoffs(after="any"))
            observations = make_observations(history, config).table
        labels = label_observations(history, observations, horizons)
        assert labels.column_names == ["label_7d", "label_30d", "label_12h"]
        converted = {row["lead_row"]: row["converted_at"] for row in history.conversions.to_pylist()}
        for horizon in horizons:
            length = timedelta(microseconds=horizon.microseconds)
            expected = []
            for row in observations.to_pylist():
                cutoff, when = row["cutoff"], converted.get(row["lead_row"])
                if cutoff + length > history.known_until:
                    expected.append(None)
                else:
                    expected.append(int(when is not None and cutoff <= when < cutoff + length))
            assert labels[f"label_{horizon}"].to_pylist() == expected
            mature = mature_rows(history, observations, horizon)
            assert mature.tolist() == [value is not None for value in expected]

    check()


def test_labels_follow_the_order_of_the_rows_given() -> None:
    history = make_history([("a", day(0)), ("b", day(0))], conversions=[("b", day(5))], known_until=day(90))
    rows = pa.table({"lead_row": pa.array([1, 0, 1], pa.int32()), "cutoff": [day(1), day(2), day(6)]})
    assert label_observations(history, rows, [MONTH])["label_30d"].to_pylist() == [1, 0, None]


def test_a_horizon_named_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"names a horizon twice: 1d, 1d; drop"):
        LabelsConfig(horizons=(Duration("24h"), Duration("1d")))
