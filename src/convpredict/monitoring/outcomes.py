"""Which past nights can be judged by now, and what became of the leads that were scored on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..config.base import Duration
from ..features.time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, NEVER
from ..history.history import TIMESTAMP, History
from ..scoring.ledger.ledger import Ledger
from ..training.labels import label_column, label_observations
from ..training.lead_times import microseconds_of, to_microseconds
from ..training.outcomes import OutcomeKind
from .weights import PREFIX

if TYPE_CHECKING:
    from ..scoring.ledger.index import LedgerRun

RECORDED_SHARE = 0.99
"""A night is settled once this share of the outcomes within its horizon is recorded."""

LONGEST_DELAY_DAYS = 30
_LEARNT_DAYS = 365
_FEWEST = 20


@dataclass(frozen=True)
class DueNight:
    """A published night whose outcomes within ``horizon`` are settled."""

    run: LedgerRun = field(repr=False)
    horizon: Duration

    @property
    def key(self) -> tuple[str, str]:
        """What is judged once: the cutoff and the horizon."""
        return self.run.cutoff.isoformat(), str(self.horizon)


@dataclass(frozen=True)
class JudgedRows:
    """The leads of a night whose outcome is known, aligned: ``lead_row``, ``p`` and ``label`` (1.0 or 0.0).

    ``unknown`` leads have none: erased since, or converted before the cutoff though nobody knew.
    """

    lead_row: NDArray[np.int64] = field(repr=False)
    p: NDArray[np.float64] = field(repr=False)
    label: NDArray[np.float64] = field(repr=False)
    unknown: int = 0


def recording_delays(
    history: History, as_of: datetime, outcome: OutcomeKind = "conversion"
) -> NDArray[np.int64]:
    """How long (µs, ascending) after they happened the outcomes of the last year before ``as_of`` were recorded.

    Empty where too few are there to tell.
    """
    table, column = (
        (history.conversions, "converted_at") if outcome == "conversion" else (history.revenue, "occurred_at")
    )
    happened = microseconds_of(table[column])
    recorded = microseconds_of(table["recorded_at"], missing=-NEVER)
    now = to_microseconds(as_of)
    recent = (happened < now) & (happened >= now - _LEARNT_DAYS * MICROSECONDS_PER_DAY) & (recorded < now)
    if recent.sum() < _FEWEST:
        return np.zeros(0, np.int64)
    return np.sort(np.maximum(recorded[recent] - happened[recent], 0))


def settling_delay(delays: NDArray[np.int64], horizon: Duration) -> int:
    """How long (µs, whole hours) after its horizon a night is settled: 99 % of the outcomes within it are recorded.

    Outcomes are taken to be spread evenly over the horizon, so that most of the late ones are recorded by its end.
    At most 30 days.

    >>> late = np.array([0] * 90 + [48 * 3_600_000_000] * 10)
    >>> [settling_delay(late, Duration(h)) / 3_600_000_000 for h in ("30d", "7d", "1d")]
    [0.0, 32.0, 46.0]
    """
    for hours in range(24 * LONGEST_DELAY_DAYS):
        missing = np.clip((delays - hours * MICROSECONDS_PER_HOUR) / horizon.microseconds, 0, 1)
        if not len(delays) or missing.mean() <= 1 - RECORDED_SHARE:
            return hours * MICROSECONDS_PER_HOUR
    return LONGEST_DELAY_DAYS * MICROSECONDS_PER_DAY


def due_nights(
    runs: Sequence[LedgerRun],
    judged: Collection[tuple[str, str]],
    as_of: datetime,
    delays: NDArray[np.int64],
) -> list[DueNight]:
    """The published nights that have become judgeable, by horizon and cutoff; ``judged``: keys of those that were.

    ``delays`` are the :func:`recording_delays`. Of several publications of one cutoff the last one counts. Nights
    whose model knew later outcomes are left out.
    """
    now = to_microseconds(as_of)
    latest: dict[datetime, LedgerRun] = {}
    for run in sorted(runs, key=lambda each: each.number):
        if not run.model_knew_later and to_microseconds(run.cutoff) < now:
            latest[run.cutoff] = run
    cutoffs = sorted(latest)
    done = set(judged)
    horizons = {
        column: Duration(column.removeprefix(PREFIX))
        for run in latest.values()
        for column in run.probability_columns
    }
    settled = {
        column: horizon.microseconds + settling_delay(delays, horizon) for column, horizon in horizons.items()
    }
    found = []
    for cutoff in cutoffs:
        for column in latest[cutoff].probability_columns:
            if to_microseconds(cutoff) + settled[column] > now:
                continue
            night = DueNight(latest[cutoff], horizons[column])
            if night.key not in done:
                found.append(night)
    return sorted(found, key=lambda night: (night.horizon.microseconds, night.run.cutoff))


def judged_rows(
    history: History, ledger: Ledger, night: DueNight, outcome: OutcomeKind = "conversion"
) -> JudgedRows:
    """The scores of a night beside what became of its leads, as far as ``history`` (cut at the instant) knows."""
    column = f"{PREFIX}{night.horizon}"
    rows = ledger.read(run_ids=[night.run.run_id], columns=["lead_id", column])
    place = pc.index_in(rows["lead_id"].combine_chunks(), history.leads["lead_id"].combine_chunks())
    there = place.is_valid().to_numpy(zero_copy_only=False)
    lead_row = place.drop_null().to_numpy().astype(np.int32)
    p = rows[column].to_numpy()[there]
    cutoff = np.full(len(lead_row), to_microseconds(night.run.cutoff), np.int64)
    observed = pa.table({"lead_row": lead_row, "cutoff": pa.array(cutoff).cast(TIMESTAMP)})
    label = label_observations(history, observed, [night.horizon], outcome)[label_column(night.horizon)]
    known = label.is_valid().to_numpy() & np.isfinite(p)
    y = label.fill_null(0).to_numpy().astype(np.float64)
    return JudgedRows(lead_row[known].astype(np.int64), p[known], y[known], int(rows.num_rows - known.sum()))
