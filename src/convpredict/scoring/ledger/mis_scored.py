"""The worst misses of past nights: cold leads that bought and hot ones that did not, to learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...config.base import Duration
from ...features.time_rule import NEVER
from ...history.history import TIMESTAMP, History
from ...training.labels import label_column, label_observations
from ...training.lead_times import to_microseconds
from ...training.outcomes import OutcomeKind, next_events
from .expectations import Expected, expected_of
from .index import LedgerRun
from .ledger import Ledger

HOT_SHARE = 0.1
"""Leads in this share of their night, by rank, were hot."""

COLD_SHARE = 0.5
"""Leads below this share of their night, by rank, were cold."""

COLUMNS = ("lead_id", "run_id", "rank", "features_hash")
_CHUNK_ROWS = 1_000_000
_NONE = -1
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """Scores picked out of the ledger, an entry each: the lead's row, the position of its run, and what it said
    (``expected_value``: NaN where the model predicted none)."""

    lead_row: Ints
    run: Ints
    p: npt.NDArray[np.float64]
    rank: Ints
    features_hash: npt.NDArray[np.uint64]
    expected_value: npt.NDArray[np.float64]

    def take(self, rows: npt.NDArray[Any]) -> Chosen:
        """Some of the entries."""
        return Chosen(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.lead_row)


@dataclass(frozen=True)
class Misses:
    """What the judged nights say. ``cold`` bought though cold, ``hot`` did not though hot: worst first, one per lead.

    ``cold_right`` and ``hot_right`` are leads of the same kind that were judged rightly, each on its first judged
    night, to compare with. ``judged`` counts leads and scores whose outcome is known, ``unknown`` scores without one
    (lead gone, or already converted).
    """

    runs: tuple[LedgerRun, ...]
    horizon: Duration
    cold: Chosen = field(repr=False)
    hot: Chosen = field(repr=False)
    cold_right: Chosen = field(repr=False)
    hot_right: Chosen = field(repr=False)
    buyers_among_cold: Expected
    others_among_hot: Expected
    leads: int
    scores: int
    unknown: int

    def instants(self, chosen: Chosen) -> Ints:
        """The cutoff (µs) of each entry."""
        cutoffs = np.array([to_microseconds(run.cutoff) for run in self.runs], np.int64)
        return cutoffs[chosen.run] if len(chosen) else chosen.run


def judgeable(
    runs: Sequence[LedgerRun], history: History, horizon: Duration, nights: int | None = None
) -> tuple[list[LedgerRun], dict[str, int]]:
    """The nights that can be judged (ascending), and how many others there are, by reason.

    A night counts once its horizon has ended, if its model did not know later outcomes; of several publications of a
    cutoff the last. ``nights`` takes the latest so many.
    """
    known_until = to_microseconds(history.known_until)
    column = f"p_convert_{horizon}"
    left_out = {"model knew later": 0, "horizon has not ended": 0, "published again": 0, "other horizons": 0}
    latest: dict[Any, LedgerRun] = {}
    for run in sorted(runs, key=lambda each: (each.cutoff, each.number)):
        if run.model_knew_later:
            left_out["model knew later"] += 1
        elif column not in run.probability_columns:
            left_out["other horizons"] += 1
        elif to_microseconds(run.cutoff) + horizon.microseconds > known_until:
            left_out["horizon has not ended"] += 1
        else:
            left_out["published again"] += run.cutoff in latest
            latest[run.cutoff] = run
    found = list(latest.values())
    return found[-nights:] if nights is not None else found, {why: n for why, n in left_out.items() if n}


def find_misses(
    history: History,
    ledger: Ledger,
    runs: Sequence[LedgerRun],
    horizon: Duration,
    *,
    outcome: OutcomeKind = "conversion",
    top: int = 20,
    compared: int = 200,
    weigh: Callable[[Chosen, bool], npt.NDArray[np.float64]] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Misses:
    """The ``top`` worst misses of either kind, one per lead: on the night with its greatest log loss (ties: earliest).

    Cold leads that bought converted within the horizon after a night on which they ranked in the lower half; hot ones
    that did not ranked in the first tenth. ``weigh`` ranks them by another measure than the log loss: it is given the
    entries and whether they bought. ``compared`` leads of either kind that were judged rightly are drawn by a fixed
    seed. The scores are read in pieces; what is kept grows with the leads, not with the nights.
    """
    seen = _Seen(history.n_leads)
    scores = unknown = 0
    for piece, label, gone in _labelled(history, ledger, runs, horizon, outcome, progress):
        known = label >= 0
        scores, unknown = scores + int(known.sum()), unknown + int((~known).sum()) + gone
        seen.add(piece.take(known), label[known], runs)
    sizes = np.array([run.rows + run.erased for run in runs], np.int64)
    cold, hot = seen.worst(True, sizes), seen.worst(False, sizes)
    cold, hot = (_ranked(chosen, bought, top, weigh) for chosen, bought in ((cold, True), (hot, False)))
    first, bought = seen.first()
    is_cold, is_hot = (first.rank > COLD_SHARE * sizes[first.run], first.rank <= HOT_SHARE * sizes[first.run])
    return Misses(
        runs=tuple(runs),
        horizon=horizon,
        cold=cold,
        hot=hot,
        cold_right=_drawn(first.take(is_cold & ~bought), compared),
        hot_right=_drawn(first.take(is_hot & bought), compared),
        buyers_among_cold=expected_of(first.p[is_cold], int(bought[is_cold].sum())),
        others_among_hot=expected_of(1 - first.p[is_hot], int((~bought)[is_hot].sum())),
        leads=len(first),
        scores=scores,
        unknown=unknown,
    )


def log_loss(chosen: Chosen, bought: bool) -> npt.NDArray[np.float64]:
    """What each entry adds to the log loss: -ln p of who bought, -ln (1 - p) of who did not."""
    p = chosen.p if bought else 1 - chosen.p
    return np.asarray(-np.log(np.clip(p, 1e-15, 1.0)))


def converted_after(
    history: History, chosen: Chosen, instants: Ints, outcome: OutcomeKind
) -> npt.NDArray[np.float64]:
    """Days from the night of each entry to the outcome, however late it came; NaN: none is known."""
    rows = chosen.lead_row.astype(np.int32)
    happened, _ = next_events(history, outcome, rows, instants)
    return np.where(happened == NEVER, np.nan, (happened - instants) / 86_400_000_000)


class _Seen:
    """For every lead its first judged night, and the worst for each outcome."""

    def __init__(self, n_leads: int) -> None:
        self._kept = {name: _Best(n_leads) for name in ("first", "bought", "not bought")}
        self._first_label = np.full(n_leads, _NONE, np.int8)

    def add(self, piece: Chosen, label: npt.NDArray[np.int8], runs: Sequence[LedgerRun]) -> None:
        """Look at further scores; ``run`` ascends with the cutoff."""
        night = piece.run.astype(np.float64)
        changed = self._kept["first"].add(piece, night, night)
        self._first_label[piece.lead_row[changed]] = label[changed]
        for name, value, key in (("bought", 1, piece.p), ("not bought", 0, -piece.p)):
            rows = np.flatnonzero(label == value)
            self._kept[name].add(piece.take(rows), key[rows], night[rows])

    def worst(self, bought: bool, sizes: Ints) -> Chosen:
        """The worst night of every lead that bought though cold, or did not though hot."""
        found = self._kept["bought" if bought else "not bought"].all()
        size = sizes[found.run] if len(found) else found.run
        return found.take(found.rank > COLD_SHARE * size if bought else found.rank <= HOT_SHARE * size)

    def first(self) -> tuple[Chosen, npt.NDArray[np.bool_]]:
        """The first judged night of every lead, and whether it bought within the horizon after it."""
        found = self._kept["first"].all()
        return found, self._first_label[found.lead_row] == 1


class _Best:
    """For every lead the entry with the lowest key, of equal ones the earliest."""

    def __init__(self, n_leads: int) -> None:
        self._key = np.full(n_leads, np.inf)
        self._second = np.full(n_leads, np.inf)
        self._run = np.full(n_leads, _NONE, np.int32)
        self._p = np.zeros(n_leads)
        self._rank = np.zeros(n_leads, np.int32)
        self._hash = np.zeros(n_leads, np.uint64)
        self._expected = np.full(n_leads, np.nan)

    def add(self, piece: Chosen, key: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Ints:
        """Look at further entries; gives the positions of those that are kept."""
        order = np.lexsort((second, key, piece.lead_row))
        rows = order[np.unique(piece.lead_row[order], return_index=True)[1]]
        lead = piece.lead_row[rows]
        better = (key[rows] < self._key[lead]) | (key[rows] == self._key[lead]) & (
            second[rows] < self._second[lead]
        )
        rows, lead = rows[better], lead[better]
        self._key[lead], self._second[lead] = key[rows], second[rows]
        self._run[lead], self._p[lead] = piece.run[rows], piece.p[rows]
        self._rank[lead], self._hash[lead] = piece.rank[rows], piece.features_hash[rows]
        self._expected[lead] = piece.expected_value[rows]
        return np.asarray(rows, np.int64)

    def all(self) -> Chosen:
        """The entries of all leads that have one."""
        lead = np.flatnonzero(self._run != _NONE)
        return Chosen(
            lead,
            self._run[lead].astype(np.int64),
            self._p[lead],
            self._rank[lead].astype(np.int64),
            self._hash[lead],
            self._expected[lead],
        )


def _labelled(
    history: History,
    ledger: Ledger,
    runs: Sequence[LedgerRun],
    horizon: Duration,
    outcome: OutcomeKind,
    progress: Callable[[float], None] | None,
) -> Iterator[tuple[Chosen, npt.NDArray[np.int8], int]]:
    """The scores of the runs in pieces with their labels, -1 where the outcome is not known, and how many belong to
    leads that the data no longer has."""
    column = f"p_convert_{horizon}"
    ids = history.leads["lead_id"].combine_chunks()
    names = pa.array([run.run_id for run in runs], pa.string())
    instants = np.array([to_microseconds(run.cutoff) for run in runs], np.int64)
    total, done = max(sum(run.rows for run in runs), 1), 0
    for table in _pieces(
        ledger.scan([run.run_id for run in runs], None, [*COLUMNS, column, "expected_value"])
    ):
        place = pc.index_in(table["lead_id"], ids)
        there = place.is_valid().combine_chunks()
        kept = table.filter(there)
        lead_row = place.drop_null().to_numpy().astype(np.int64)
        run = pc.index_in(kept["run_id"], names).to_numpy().astype(np.int64)
        piece = Chosen(
            lead_row,
            run,
            kept[column].to_numpy(),
            kept["rank"].to_numpy().astype(np.int64),
            kept["features_hash"].to_numpy(),
            _numbers(kept, "expected_value"),
        )
        observed = pa.table(
            {"lead_row": lead_row.astype(np.int32), "cutoff": pa.array(instants[run]).cast(TIMESTAMP)}
        )
        label = label_observations(history, observed, [horizon], outcome)[label_column(horizon)]
        yield piece, label.fill_null(_NONE).to_numpy().astype(np.int8), table.num_rows - kept.num_rows
        done += table.num_rows
        if progress is not None:
            progress(done / total)


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A column of numbers; NaN where there is none, or no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].fill_null(np.nan).to_numpy(), np.float64)


def _pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Record batches put together to about a million rows."""
    kept: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        kept.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield pa.Table.from_batches(kept)
            kept, rows = [], 0
    if rows:
        yield pa.Table.from_batches(kept)


def _ranked(
    chosen: Chosen, bought: bool, top: int, weigh: Callable[[Chosen, bool], npt.NDArray[np.float64]] | None
) -> Chosen:
    weight = (weigh or log_loss)(chosen, bought)
    return chosen.take(np.lexsort((chosen.lead_row, -np.nan_to_num(weight, nan=-np.inf)))[:top])


def _drawn(chosen: Chosen, n: int) -> Chosen:
    """At most so many entries, drawn by a fixed seed, in their order."""
    if len(chosen) <= n:
        return chosen
    return chosen.take(np.sort(np.random.default_rng(0).choice(len(chosen), n, replace=False)))
