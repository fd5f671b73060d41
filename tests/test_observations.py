"""Which leads are observed when: boundary instants by hand, then every rule against a brute-force oracle."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.training import AfterInteractionCutoffs, AgeCutoffs, GridCutoffs, ObservationsConfig
from convpredict.errors import ConfigError, DataError
from convpredict.history.history import History
from convpredict.training.given_observations import observations_from_file
from convpredict.training.observations import EXCLUSIONS, make_observations, open_observations
from factories import day, make_history, random_history

TICK = timedelta(microseconds=1)


def pairs(table: pa.Table) -> list[tuple[Any, datetime]]:
    return list(zip(table["lead_id"].to_pylist(), table["cutoff"].to_pylist(), strict=True))


def grid(*instants: datetime, **kwargs: Any) -> ObservationsConfig:
    """Cutoffs at exactly one or two instants."""
    every = instants[1] - instants[0] if len(instants) > 1 else timedelta(days=1)
    step = Duration(every // TICK)
    return ObservationsConfig(
        cutoffs=GridCutoffs(every=step, start=instants[0], end=instants[-1] + TICK), **kwargs
    )


def reason_by_hand(history: History, lead_row: int, cutoff: datetime, max_age: Duration | None) -> str | None:
    """The time rule, read off its definition in plain Python."""
    lead = history.leads.slice(lead_row, 1).to_pylist()[0]
    outcome = [row for row in history.conversions.to_pylist() if row["lead_row"] == lead_row]
    converted = outcome[0]["converted_at"] if outcome else None
    if outcome and converted is None:
        return "undated_conversion"
    if not lead["created_at"] < cutoff:
        return "before_creation"
    if cutoff > history.known_until:
        return "after_known_until"
    if converted is not None and converted < cutoff:
        return "after_conversion"
    if lead["lost_at"] is not None and lead["lost_at"] < cutoff:
        return "after_loss"
    if max_age is not None and cutoff - lead["created_at"] >= timedelta(microseconds=max_age.microseconds):
        return "too_old"
    return None


def check_against_oracle(
    history: History, candidates: list[tuple[int, datetime]], config: ObservationsConfig
) -> None:
    made = make_observations(history, config)
    lead_ids = history.leads["lead_id"].to_pylist()
    reasons = [reason_by_hand(history, row, cutoff, config.max_age) for row, cutoff in candidates]
    expected = [
        (row, lead_ids[row], cutoff)
        for (row, cutoff), reason in zip(candidates, reasons, strict=True)
        if reason is None
    ]
    assert [tuple(row.values()) for row in made.table.to_pylist()] == sorted(expected)
    counts = Counter(reason for reason in reasons if reason is not None)
    assert {reason: n for reason, n in made.excluded.items() if n} == dict(counts)
    assert list(made.excluded) == list(EXCLUSIONS)
    assert made.candidates == len(candidates)


class TestBoundaries:
    """A lead created on day 1; what happens exactly at the cutoff has not happened before it."""

    def observed(
        self, cutoff: datetime, *, lost: datetime | None = None, converted: Any = (), **kwargs: Any
    ) -> bool:
        history = make_history(
            [("a", day(1), lost)], conversions=[("a", when) for when in converted], known_until=day(100)
        )
        return make_observations(history, grid(cutoff, **kwargs)).table.num_rows == 1

    def test_creation_exactly_at_the_cutoff_is_not_before_it(self) -> None:
        assert not self.observed(day(1))
        assert self.observed(day(1) + TICK)

    def test_a_conversion_exactly_at_the_cutoff_is_still_to_come(self) -> None:
        assert self.observed(day(5), converted=[day(5)])
        assert not self.observed(day(5), converted=[day(5) - TICK])

    def test_a_loss_exactly_at_the_cutoff_is_still_to_come(self) -> None:
        assert self.observed(day(5), lost=day(5))
        assert not self.observed(day(5), lost=day(5) - TICK)

    def test_a_lead_is_too_old_from_the_maximal_age_on(self) -> None:
        assert self.observed(day(11) - TICK, max_age=Duration("10d"))
        assert not self.observed(day(11), max_age=Duration("10d"))

    def test_a_lead_with_an_undated_conversion_is_never_observed(self) -> None:
        assert not self.observed(day(5), converted=[None])

    def test_no_cutoff_lies_after_known_until(self) -> None:
        assert self.observed(day(100))
        assert not self.observed(day(100) + TICK)


class TestGrid:
    def test_starts_at_the_first_midnight_after_the_first_lead_and_ends_at_known_until(self) -> None:
        history = make_history([("b", day(3.5)), ("a", day(0.5))], known_until=day(5))
        made = make_observations(history, ObservationsConfig(cutoffs=GridCutoffs(every=Duration("2d"))))
        assert pairs(made.table) == [("a", day(1)), ("a", day(3)), ("a", day(5)), ("b", day(5))]
        assert made.table.schema.names == ["lead_row", "lead_id", "cutoff"]
        assert made.table.schema.field("lead_row").type == pa.int32()

    def test_a_first_lead_created_at_midnight_is_first_observed_a_day_later(self) -> None:
        history = make_history([("a", day(1))], known_until=day(3))
        made = make_observations(history, ObservationsConfig(cutoffs=GridCutoffs(every=Duration("1d"))))
        assert pairs(made.table) == [("a", day(2)), ("a", day(3))]
        assert sum(made.excluded.values()) == 0

    def test_end_is_exclusive(self) -> None:
        history = make_history([("a", day(0))], known_until=day(9))
        config = ObservationsConfig(cutoffs=GridCutoffs(every=Duration("1d"), start=day(1), end=day(3)))
        assert pairs(make_observations(history, config).table) == [("a", day(1)), ("a", day(2))]

    def test_a_history_without_leads_gives_no_observations(self) -> None:
        made = make_observations(make_history([], known_until=day(9)), ObservationsConfig())
        assert (made.table.num_rows, made.candidates) == (0, 0)

    def test_leads_created_before_1970_do_not_overflow(self) -> None:
        history = make_history([("a", datetime(1960, 1, 1))], known_until=datetime(1960, 1, 20))
        assert make_observations(history, ObservationsConfig()).table.num_rows == 3

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        every=st.sampled_from(["6h", "1d", "7d", "40d"]),
        start=st.sampled_from([None, day(-3), day(7.25), day(55)]),
        end=st.sampled_from([None, day(60.25), day(90)]),
        max_age=st.sampled_from([None, "1d", "9d", "30d"]),
    )
    def test_agrees_with_the_rule(
        self, seed: int, every: str, start: Any, end: Any, max_age: str | None
    ) -> None:
        history = random_history(np.random.default_rng(seed), integer_ids=seed % 2 == 0)
        config = ObservationsConfig(
            cutoffs=GridCutoffs(every=Duration(every), start=start, end=end),
            max_age=Duration(max_age) if max_age else None,
        )
        created = history.leads["created_at"].to_pylist()
        cutoff = start or (min(created) + timedelta(days=1)).replace(hour=0)
        cutoffs = []
        while cutoff <= history.known_until and (end is None or cutoff < end):
            cutoffs.append(cutoff)
            cutoff += timedelta(microseconds=Duration(every).microseconds)
        candidates = [(row, c) for row in range(history.n_leads) for c in cutoffs if created[row] < c]
        undated = {r["lead_row"] for r in history.conversions.to_pylist() if r["converted_at"] is None}
        assert undated <= set(range(history.n_leads))
        check_against_oracle(history, candidates, config)

    def test_an_absurdly_fine_grid_is_refused_before_it_fills_the_memory(self) -> None:
        history = make_history([(n, day(0)) for n in range(100)], known_until=day(36_500))
        config = ObservationsConfig(cutoffs=GridCutoffs(every=Duration("1m")))
        with pytest.raises(ConfigError, match=r"asks for 5,255,8[0-9,]+ observations.*longer 'every'"):
            make_observations(history, config)


class TestAges:
    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        ages=st.lists(st.sampled_from(["6h", "1d", "3d", "9d", "30d", "59d"]), min_size=1, max_size=5),
        max_age=st.sampled_from([None, "60d"]),
    )
    def test_agrees_with_the_rule(self, seed: int, ages: list[str], max_age: str | None) -> None:
        history = random_history(np.random.default_rng(seed))
        config = ObservationsConfig(
            cutoffs=AgeCutoffs(ages=tuple(map(Duration, ages))),
            max_age=Duration(max_age) if max_age else None,
        )
        lengths = sorted({timedelta(microseconds=Duration(age).microseconds) for age in ages})
        created = history.leads["created_at"].to_pylist()
        check_against_oracle(
            history, [(row, start + age) for row, start in enumerate(created) for age in lengths], config
        )


class TestAfterInteractions:
    def test_the_interaction_itself_is_visible_and_coinciding_ones_give_one_cutoff(self) -> None:
        history = make_history(
            [("a", day(0)), ("b", day(0))],
            [
                ("a", day(1), "call"),
                ("a", day(1), "mail"),
                ("a", day(2), "call", day(4)),
                ("a", day(3), "mail"),
                ("b", day(-1), "call"),
            ],
            known_until=day(10),
        )
        made = make_observations(history, ObservationsConfig(cutoffs=AfterInteractionCutoffs(after="any")))
        assert pairs(made.table) == [("a", day(n) + TICK) for n in (1, 3, 4)]
        assert made.excluded["before_creation"] == 1
        calls = ObservationsConfig(cutoffs=AfterInteractionCutoffs(after=("call",)))
        assert pairs(make_observations(history, calls).table) == [("a", day(1) + TICK), ("a", day(4) + TICK)]

    def test_an_unknown_kind_is_an_error_that_lists_the_kinds(self) -> None:
        history = make_history([("a", day(0))], [("a", day(1), "it's a call")])
        config = ObservationsConfig(cutoffs=AfterInteractionCutoffs(after=("it's a call", "fax")))
        with pytest.raises(ConfigError, match=r"""'fax'.*"it's a call\""""):
            make_observations(history, config)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        kinds=st.sampled_from(["any", ("call",), ("call", "mail")]),
        max_age=st.sampled_from([None, "9d"]),
    )
    def test_agrees_with_the_rule(self, seed: int, kinds: Any, max_age: str | None) -> None:
        history = random_history(np.random.default_rng(seed), leads=15)
        present = set(history.query("SELECT DISTINCT kind FROM interactions")["kind"].to_pylist())
        kinds = kinds if kinds == "any" else tuple(kind for kind in kinds if kind in present) or "any"
        config = ObservationsConfig(
            cutoffs=AfterInteractionCutoffs(after=kinds), max_age=Duration(max_age) if max_age else None
        )
        events = history.query("SELECT lead_row, visible_at, kind FROM interactions").to_pylist()
        epoch = day(0) - timedelta(days=19723)
        candidates = {
            (row["lead_row"], epoch + timedelta(microseconds=row["visible_at"] + 1))
            for row in events
            if kinds == "any" or row["kind"] in kinds
        }
        check_against_oracle(history, sorted(candidates), config)


class TestOpenLeads:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6), as_of=st.sampled_from([day(-1), day(20), day(59), day(60), day(90)]))
    def test_scoring_observes_whom_training_observes(self, seed: int, as_of: datetime) -> None:
        history = random_history(np.random.default_rng(seed))
        max_age = Duration("30d")
        made = open_observations(history, as_of, max_age)
        reasons = [reason_by_hand(history, row, as_of, max_age) for row in range(history.n_leads)]
        later = [reason if reason != "after_known_until" else None for reason in reasons]
        if as_of <= history.known_until:
            assert made.table["lead_row"].to_pylist() == [r for r, why in enumerate(later) if why is None]
            trained = make_observations(history, grid(as_of, max_age=max_age)).table
            assert made.table.equals(trained)
        assert made.candidates == history.n_leads
        assert set(made.table["cutoff"].to_pylist()) <= {as_of}

    def test_a_later_instant_than_the_data_covers_is_allowed(self) -> None:
        history = make_history([("a", day(0)), ("b", day(1), day(2))], known_until=day(3))
        made = open_observations(history, day(50))
        assert pairs(made.table) == [("a", day(50))]
        assert made.excluded["after_loss"] == 1


class TestGivenObservations:
    history = make_history(
        [("0012", day(1)), ("b", day(2), day(6)), ("c", day(2)), ("d", day(2))],
        conversions=[("c", day(4)), ("d", None)],
        known_until=day(30),
    )
    rows = (
        ("b", "2024-01-05"),
        ("0012", "2024-01-05T00:00:00Z"),
        ("12", "2024-01-05"),
        ("0012", "2024-01-05 02:00:00+02:00"),
        ("0012", "5 January"),
        ("0012", "2024-01-03T12:30"),
        ("b", "2024-01-20"),
        ("c", "2024-01-20"),
        ("d", "2024-01-20"),
        ("0012", "2024-01-02"),
        ("0012", "2024-03-20"),
        ("", ""),
    )

    @pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "arrow", "pandas"])
    def test_every_row_is_accepted_or_refused_with_a_reason(self, form: str, tmp_path: Any) -> None:
        frame = pd.DataFrame(self.rows, columns=["lead_id", "cutoff"]).assign(note=1.5)
        path = tmp_path / f"wanted.{form}"
        source: Any = path
        if form == "csv":
            frame.to_csv(path, index=False)
        elif form == "csv.gz":
            path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
        elif form == "parquet":
            pq.write_table(pa.Table.from_pandas(frame), path)
        else:
            source = frame if form == "pandas" else pa.Table.from_pandas(frame)
        given_rows = observations_from_file(self.history, source)
        assert pairs(given_rows.table) == [("0012", day(2.520833333333333)), ("0012", day(4)), ("b", day(4))]
        assert [(r["row"], r["reason"]) for r in given_rows.rejected.to_pylist()] == [
            (3, "unknown_lead"),
            (4, "duplicate"),
            (5, "unreadable_cutoff"),
            (7, "after_loss"),
            (8, "after_conversion"),
            (9, "undated_conversion"),
            (10, "before_creation"),
            (11, "after_known_until"),
            (12, "unknown_lead"),
        ]
        assert given_rows.rejected["lead_id"].to_pylist()[0] == "12"
        assert given_rows.excluded["duplicate"] == 1
        assert sum(given_rows.excluded.values()) + given_rows.table.num_rows == len(self.rows)

    def test_without_the_rule_any_known_lead_is_accepted(self) -> None:
        frame = pd.DataFrame({"lead_id": ["d", "c", "b"], "cutoff": [day(20)] * 3})
        assert observations_from_file(self.history, frame, check_eligibility=False).table.num_rows == 3

    def test_integer_ids_meet_integers_and_text(self) -> None:
        history = make_history([(12, day(1)), (9_007_199_254_740_993, day(1))], known_until=day(30))
        for lead_ids in ([9_007_199_254_740_993, 13], ["9007199254740993", "13"]):
            found = observations_from_file(history, pa.table({"lead_id": lead_ids, "cutoff": [day(5)] * 2}))
            assert found.table["lead_id"].to_pylist() == [9_007_199_254_740_993]
            assert found.rejected["reason"].to_pylist() == ["unknown_lead"]

    def test_dates_and_naive_or_nanosecond_times_are_utc(self) -> None:
        for values in (
            pa.array([19727], pa.date32()),
            pa.array([day(4).replace(tzinfo=None)], pa.timestamp("ns")),
            pa.array([day(4).replace(tzinfo=None)], pa.timestamp("s", tz="Europe/Berlin")),
        ):
            found = observations_from_file(self.history, pa.table({"lead_id": ["b"], "cutoff": values}))
            assert pairs(found.table) == [("b", day(4))]

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (pa.table({"lead_id": [1.0], "cutoff": ["2024-01-05"]}), "digits"),
            (pa.table({"lead_id": ["b"], "cutoff": [5]}), "no instant"),
            (pa.table({"id": ["b"], "cutoff": ["2024-01-05"]}), "no column lead_id.*got: id, cutoff"),
            ("no_such_file.csv", "cannot be read.*lead_id and cutoff"),
            ("no_such_file.parquet", "cannot be read.*lead_id and cutoff"),
        ],
    )
    def test_unusable_tables_are_explained(self, table: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            observations_from_file(self.history, table)


class TestConfiguration:
    def test_ages_that_are_never_observed_are_an_error(self) -> None:
        ages = AgeCutoffs(ages=(Duration("1d"), Duration("30d")))
        with pytest.raises(ValueError, match="ages 30d are never observed, because max_age is 30d"):
            ObservationsConfig(cutoffs=ages, max_age=Duration("30d"))

    def test_no_kind_at_all_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least 1 item"):
            AfterInteractionCutoffs(after=())
