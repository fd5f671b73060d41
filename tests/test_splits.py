"""Splits by time: boundaries by hand, no label reaches over a gap, and errors that say what to change."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate

from convpredict.config.base import Duration
from convpredict.config.training import GridCutoffs, ObservationsConfig, SplitConfig
from convpredict.errors import NotEnoughDataError
from convpredict.history.history import History
from convpredict.training.labels import label_observations
from convpredict.training.observations import make_observations
from convpredict.training.splits import PARTS, ROLES, Split, split_observations
from convpredict.training.time_split import TimeSplit
from factories import day, make_history, random_history

TICK = timedelta(microseconds=1)
WEEK = Duration("7d")


def steady_history(days: int = 100) -> History:
    """A lead is created every day; every third one converts three and a half days later."""
    leads = [(f"lead-{n:03d}", day(n)) for n in range(days)]
    conversions = [(f"lead-{n:03d}", day(n + 3.5)) for n in range(0, days, 3)]
    return make_history(leads, conversions=conversions, known_until=day(days))


def split(
    history: History, config: SplitConfig, horizons: Any = (WEEK,), max_age: str = "20d"
) -> tuple[pa.Table, Split]:
    made = make_observations(
        history, ObservationsConfig(cutoffs=GridCutoffs(every=Duration("1d")), max_age=Duration(max_age))
    )
    labels = label_observations(history, made.table, horizons)
    return made.table, split_observations(history, made.table, labels, config, horizons[0])


def cutoffs_of(table: pa.Table, parts: Split, role: str) -> list[datetime]:
    return sorted(set(table["cutoff"].take(pa.array(parts.rows(role))).to_pylist()))


class TestByCutoff:
    def test_explicit_instants_with_a_gap_of_one_horizon(self) -> None:
        table, parts = split(steady_history(), SplitConfig(calibrate_from=day(40), test_from=day(70)))
        assert cutoffs_of(table, parts, "train") == [day(n) for n in range(1, 34)]
        assert cutoffs_of(table, parts, "calibrate") == [day(n) for n in range(40, 64)]
        assert cutoffs_of(table, parts, "test") == [day(n) for n in range(70, 94)]
        assert cutoffs_of(table, parts, "between") == [day(n) for n in range(34, 40)]
        assert cutoffs_of(table, parts, "recent") == [day(n) for n in range(64, 70)]
        assert parts.counts["gap"] == 0
        assert cutoffs_of(table, parts, "immature") == [day(n) for n in range(94, 101)]
        assert sum(parts.counts.values()) == table.num_rows
        assert (parts.calibrate_from, parts.test_from) == (day(40), day(70))

    def test_instants_off_the_grid(self) -> None:
        config = SplitConfig(calibrate_from=day(40) + TICK, test_from=day(70) - TICK)
        table, parts = split(steady_history(), config)
        assert cutoffs_of(table, parts, "train")[-1] == day(33)
        assert cutoffs_of(table, parts, "calibrate")[0] == day(41)
        assert cutoffs_of(table, parts, "calibrate")[-1] == day(62)
        assert cutoffs_of(table, parts, "test")[0] == day(70)

    def test_the_first_horizon_sets_gap_and_maturity(self) -> None:
        config = SplitConfig(calibrate_from=day(40), test_from=day(70))
        for horizons, reach in (((WEEK, Duration("14d")), 7), ((Duration("14d"), WEEK), 14)):
            table, parts = split(steady_history(), config, horizons)
            assert cutoffs_of(table, parts, "train")[-1] == day(40 - reach)
            assert cutoffs_of(table, parts, "calibrate")[-1] == day(70 - reach)
            assert cutoffs_of(table, parts, "recent") == [day(n) for n in range(71 - reach, 70)]
            assert cutoffs_of(table, parts, "test")[-1] == day(100 - reach)
            assert str(parts.horizon) == f"{reach}d"

    def test_shares_count_usable_observations(self) -> None:
        table, parts = split(steady_history(), SplitConfig(test_share=0.25, calibrate_share=0.3))
        usable = table.num_rows - parts.counts["immature"]
        one_day = usable / 93
        assert 0.25 * usable <= parts.counts["test"] <= 0.25 * usable + 2 * one_day
        week = timedelta(days=7)
        before = sum(cutoff + week <= parts.test_from for cutoff in table["cutoff"].to_pylist())
        assert 0.3 * before <= parts.counts["calibrate"] <= 0.3 * before + 2 * one_day


class TestByLeadStart:
    def test_whole_leads_with_a_gap(self) -> None:
        history = steady_history()
        config = SplitConfig(by="lead_start", calibrate_from=day(40), test_from=day(70))
        table, parts = split(history, config)
        created = {row["lead_id"]: row["created_at"] for row in history.leads.to_pylist()}
        rows = list(zip(table["lead_id"].to_pylist(), table["cutoff"].to_pylist(), parts.role, strict=True))
        week = timedelta(days=7)
        for lead_id, cutoff, code in rows:
            start = created[lead_id]
            if cutoff + week > day(100):
                role = "immature"
            elif start >= day(70):
                role = "test"
            elif start >= day(40):
                role = "calibrate" if cutoff + week <= day(70) else "recent" if cutoff < day(70) else "gap"
            elif cutoff + week <= day(40):
                role = "train"
            elif cutoff + week <= day(70):
                role = "between"
            else:
                role = "recent" if cutoff < day(70) else "gap"
            assert ROLES[code] == role

    def test_the_share_counts_observed_leads(self) -> None:
        _, parts = split(steady_history(100), SplitConfig(by="lead_start", test_share=0.2))
        assert parts.test_from == day(80)


def check_no_label_reaches_over(history: History, table: pa.Table, parts: Split, by: str) -> None:
    cutoff = np.array([c.timestamp() for c in table["cutoff"].to_pylist()])
    reach = cutoff + parts.horizon.microseconds / 1e6
    earliest = {part: cutoff[parts.rows(part)].min() for part in PARTS}
    for earlier, later in (
        ("train", "calibrate"),
        ("train", "test"),
        ("calibrate", "test"),
        ("between", "test"),
    ):
        assert reach[parts.rows(earlier)].max(initial=0) <= earliest[later]
    assert reach[parts.rows("train")].max() <= parts.calibrate_from.timestamp()
    assert reach[parts.rows("test")].max() <= history.known_until.timestamp()
    recent = parts.rows("recent")
    assert (cutoff[recent] < parts.test_from.timestamp()).all()
    assert (reach[recent] > parts.test_from.timestamp()).all()
    lead_rows = table["lead_row"].to_numpy()
    if by == "lead_start":
        members = [set(lead_rows[parts.rows(part)].tolist()) for part in PARTS]
        assert not members[0] & members[1]
        other = set(lead_rows[np.concatenate([parts.rows("between"), recent])].tolist())
        assert not (members[0] | members[1] | other) & members[2]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    by=st.sampled_from(["cutoff", "lead_start"]),
    horizon=st.sampled_from(["1d", "3d", "8d"]),
    test_share=st.sampled_from([0.2, 0.4]),
    calibrate_share=st.sampled_from([0.2, 0.5]),
)
def test_no_label_reaches_into_a_later_part(
    seed: int, by: Any, horizon: str, test_share: float, calibrate_share: float
) -> None:
    history = random_history(np.random.default_rng(seed), leads=40, conversion_share=0.8, lost_share=0.05)
    config = SplitConfig(by=by, test_share=test_share, calibrate_share=calibrate_share)
    try:
        table, parts = split(history, config, (Duration(horizon),), "30d")
    except NotEnoughDataError:
        assume(False)
    check_no_label_reaches_over(history, table, parts, by)
    assert sum(parts.counts.values()) == table.num_rows
    assert parts.counts["unusable"] == 0


class TestErrors:
    def test_an_empty_part_names_instants_and_remedies(self) -> None:
        with pytest.raises(NotEnoughDataError) as caught:
            split(steady_history(), SplitConfig(calibrate_from=day(66), test_from=day(70)))
        message = str(caught.value)
        assert "the calibrate part has no observations" in message
        assert "split.calibrate_from = 2024-03-07T00:00:00Z" in message
        assert "split.test_from = 2024-03-11T00:00:00Z" in message
        assert "recent" in message
        assert "split.test_share" in message
        assert "labels.horizons" in message

    @pytest.mark.parametrize(
        ("config", "part"),
        [
            (SplitConfig(calibrate_from=day(-5), test_from=day(50)), "train"),
            (SplitConfig(calibrate_from=day(50), test_from=day(500)), "test"),
            (SplitConfig(by="lead_start", calibrate_from=day(50), test_from=day(98)), "test"),
        ],
    )
    def test_each_part_is_checked(self, config: SplitConfig, part: str) -> None:
        with pytest.raises(NotEnoughDataError, match=f"the {part} part has no observations"):
            split(steady_history(), config)

    def test_a_part_without_positives(self) -> None:
        leads = [(f"lead-{n:03d}", day(n)) for n in range(100)]
        history = make_history(leads, conversions=[("lead-001", day(3))], known_until=day(100))
        with pytest.raises(
            NotEnoughDataError, match=r"the calibrate part has [\d,]+ observations, but no positive"
        ):
            split(history, SplitConfig(calibrate_from=day(40), test_from=day(70)))

    def test_nothing_mature(self) -> None:
        with pytest.raises(NotEnoughDataError, match=r"none of the [\d,]+ observations has a known label"):
            split(steady_history(30), SplitConfig(), (Duration("60d"),))


class TestTimeSplit:
    cutoffs = pd.date_range("2024-01-01", periods=100, freq="D", tz="UTC").repeat(4)
    leads = np.arange(400) % 25
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = (X[:, 0] > 0).astype(int)

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        n_splits=st.integers(1, 6),
        gap=st.sampled_from(["0d", "1d", "12h", "10d"]),
        lead_groups=st.integers(1, 3),
    )
    def test_trains_on_what_was_known(self, seed: int, n_splits: int, gap: str, lead_groups: int) -> None:
        rng = np.random.default_rng(seed)
        cutoffs = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 60, 150), unit="D")
        leads = rng.integers(0, 20, 150)
        folds = TimeSplit(n_splits, gap=gap, cutoffs=cutoffs, leads=leads, lead_groups=lead_groups)
        try:
            pairs = list(folds.split(np.zeros((150, 1))))
        except NotEnoughDataError:
            assume(False)
        assert len(pairs) == folds.get_n_splits() == n_splits * lead_groups
        length = pd.Timedelta(microseconds=Duration(gap).microseconds)
        for train, validate in pairs:
            assert cutoffs[train].max() < cutoffs[validate].min()
            assert cutoffs[train].max() + length <= cutoffs[validate].min()
            if lead_groups > 1:
                assert not set(leads[train]) & set(leads[validate])
        validated = np.concatenate([validate for _, validate in pairs])
        assert len(set(validated)) == len(validated)
        starts = [cutoffs[validate].min() for _, validate in pairs]
        last = cutoffs >= min(starts)
        assert set(np.flatnonzero(last)) == set(validated)

    def test_is_a_splitter_for_scikit_learn(self) -> None:
        folds = TimeSplit(3, gap="7d", cutoffs=self.cutoffs, leads=self.leads, lead_groups=2)
        scores = cross_validate(LogisticRegression(), self.X, self.y, cv=folds, scoring="roc_auc")
        assert len(scores["test_score"]) == 6
        assert scores["test_score"].min() > 0.9
        search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=TimeSplit(2, gap="7d"))
        search.fit(self.X, self.y, groups=self.cutoffs)
        assert search.n_splits_ == 2
        by_groups = cross_validate(
            LogisticRegression(), self.X, self.y, groups=self.cutoffs, cv=TimeSplit(3, gap="7d")
        )
        assert len(by_groups["test_score"]) == 3

    def test_naive_cutoffs_and_frames(self) -> None:
        naive = pd.Series(self.cutoffs.tz_convert(None))
        frame = pd.DataFrame(self.X)
        expected = list(TimeSplit(3, gap="7d", cutoffs=self.cutoffs).split(self.X))
        found = list(TimeSplit(3, gap=Duration("7d")).split(frame, self.y, naive))
        for (train, validate), (same_train, same_validate) in zip(found, expected, strict=True):
            assert np.array_equal(train, same_train)
            assert np.array_equal(validate, same_validate)

    @pytest.mark.parametrize(
        ("folds", "error", "message"),
        [
            (TimeSplit(3, gap="7d"), ValueError, "needs the cutoff of each row"),
            (TimeSplit(3, gap="7d", cutoffs=cutoffs[:9]), ValueError, "one cutoff per row, got 9 for 400"),
            (TimeSplit(3, gap="7d", cutoffs=cutoffs, lead_groups=2), ValueError, "needs the lead of each"),
            (TimeSplit(0, gap="7d", cutoffs=cutoffs), ValueError, "at least 1, got 0"),
            (TimeSplit(3, gap="400d", cutoffs=cutoffs), NotEnoughDataError, "within one gap.*shorter gap"),
            (TimeSplit(150, gap="7d", cutoffs=cutoffs), NotEnoughDataError, "fewer distinct cutoffs"),
        ],
    )
    def test_errors(self, folds: TimeSplit, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            list(folds.split(self.X))
