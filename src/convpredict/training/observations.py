"""Observations: which leads are looked at, at which cutoffs, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.config.training import AfterInteractionCutoffs, AgeCutoffs, GridCutoffs, ObservationsConfig
from convpredict.errors import ConfigError
from convpredict.features.time_rule import MICROSECONDS_PER_DAY, NEVER, observation_bounds
from convpredict.history.history import TIMESTAMP, History

from .lead_ages import LearntAges
from .lead_times import LeadTimes, to_microseconds
from .outcomes import OutcomeKind

EXCLUSIONS: Mapping[str, str] = {
    "undated_conversion": "the lead converted, but nobody knows when",
    "before_creation": "the cutoff is not after the lead's creation",
    "after_known_until": "the data is not complete up to the cutoff",
    "after_conversion": "the lead had converted before the cutoff",
    "after_loss": "the lead was lost before the cutoff",
    "too_old": "the lead had reached the maximal age",
}
"""Why a candidate is not observed, in the order in which the reasons are looked at: the first one counts."""

MOST_OBSERVATIONS = 300_000_000
"""A grid that asks for more is taken for a mistake: the observations alone would fill 10 GB."""

_TAKE_ROWS = 1_000_000
_BLOCK_LEADS = 50_000


@dataclass(frozen=True)
class Observations:
    """The observations made and the number of candidates left out, by reason (see ``EXCLUSIONS``).

    ``table`` has lead_row (int32), lead_id and cutoff (UTC), sorted by lead_row and cutoff, each pair once.
    """

    table: pa.Table
    excluded: dict[str, int]

    @property
    def candidates(self) -> int:
        """Number of (lead, cutoff) pairs that were considered."""
        return int(self.table.num_rows) + sum(self.excluded.values())


def make_observations(
    history: History, config: ObservationsConfig, outcome: OutcomeKind = "conversion"
) -> Observations:
    """Observe every lead at every cutoff that the configuration asks for and the time rule allows.

    Cutoffs on a grid run from ``start`` (default: the first midnight UTC after the first lead was created) in
    steps of ``every``, before ``end``; a lead's candidates are those after its creation. Cutoffs after
    interactions lie 1 µs after an interaction became visible, once where several coincide. Cutoffs at ages
    lie that long after the creation. No cutoff lies after ``history.known_until``. Where the outcome is a
    ``purchase``, leads (customers) stay observable after they converted.

    Time grows with the leads and the observations made, not with the product of leads and cutoffs.

    Raises
    ------
    ConfigError
        A kind named under ``after`` does not occur among the interactions, or there would be more than
        ``MOST_OBSERVATIONS``.
    """
    times = LeadTimes.of(history, outcome)
    max_age = config.max_age.microseconds if config.max_age is not None else NEVER
    cutoffs = config.cutoffs
    if isinstance(cutoffs, AfterInteractionCutoffs):
        lead_row, cutoff = _after_interactions(history, cutoffs)
        reason = reasons_against(times, lead_row, cutoff, max_age, to_microseconds(history.known_until))
        keep = reason < 0
        return Observations(observation_table(history, lead_row[keep], cutoff[keep]), _counted(reason))
    if isinstance(cutoffs, AgeCutoffs):
        steps = np.unique(np.array([age.microseconds for age in cutoffs.ages], np.int64))
        lead_row, cutoff, excluded = _climb(history, times, steps, times.created_at, max_age)
    else:
        steps = _grid(cutoffs, times, to_microseconds(history.known_until))
        lead_row, cutoff, excluded = _climb(history, times, steps, np.zeros_like(times.created_at), max_age)
    return Observations(observation_table(history, lead_row, cutoff), excluded)


def open_observations(
    history: History,
    as_of: datetime,
    max_age: Duration | None = None,
    outcome: OutcomeKind = "conversion",
    ages: LearntAges | None = None,
) -> Observations:
    """Observe every lead that is open at one instant: what a scoring run scores.

    The rule is that of the training set, except that ``as_of`` may lie after ``history.known_until``: nothing
    later is known anyway. With the ``ages`` that a model learnt from, leads of ages that these do not cover are left
    out. Every lead that is left out is counted under its reason (``EXCLUSIONS``, with ``ages`` also
    ``lead_ages.AGE_EXCLUSIONS``).
    """
    times = LeadTimes.of(history, outcome)
    lead_row = np.arange(history.n_leads, dtype=np.int32)
    cutoff = np.full(history.n_leads, to_microseconds(as_of), np.int64)
    oldest = max_age.microseconds if max_age is not None else NEVER
    reason = reasons_against(times, lead_row, cutoff, oldest, NEVER)
    excluded, keep = _counted(reason), reason < 0
    if ages is not None:
        age = cutoff - times.created_at
        excluded |= ages.beyond(age[keep])
        keep &= ages.covers(age)
    return Observations(observation_table(history, lead_row[keep], cutoff[keep]), excluded)


def reasons_against(
    times: LeadTimes,
    lead_row: NDArray[np.int32],
    cutoff: NDArray[np.int64],
    max_age: int,
    known_until: int,
) -> NDArray[np.int8]:
    """Per (lead, cutoff), the position in ``EXCLUSIONS`` of the first reason against observing it, or -1."""
    first, *ends = observation_bounds(
        times.created_at[lead_row], times.converted_at[lead_row], times.lost_at[lead_row], max_age
    )
    against = [times.undated[lead_row], cutoff < first, cutoff > known_until]
    against += [cutoff >= end for end in ends]
    return np.select(against, np.arange(len(against), dtype=np.int8), np.int8(-1)).astype(np.int8)


def observation_table(history: History, lead_row: NDArray[np.int32], cutoff: NDArray[np.int64]) -> pa.Table:
    """The table of observations for lead rows and cutoffs (µs) that are already sorted."""
    lead_ids = history.leads["lead_id"].combine_chunks()
    chunks = [
        lead_ids.take(pa.array(lead_row[start : start + _TAKE_ROWS]))
        for start in range(0, max(len(lead_row), 1), _TAKE_ROWS)
    ]
    return pa.table(
        {
            "lead_row": pa.array(lead_row, pa.int32()),
            "lead_id": pa.chunked_array(chunks),
            "cutoff": pa.array(cutoff, pa.int64()).cast(TIMESTAMP),
        }
    )


def _counted(reason: NDArray[np.int8]) -> dict[str, int]:
    counts = np.bincount(reason[reason >= 0], minlength=len(EXCLUSIONS))
    return dict(zip(EXCLUSIONS, map(int, counts), strict=True))


def _grid(config: GridCutoffs, times: LeadTimes, known_until: int) -> NDArray[np.int64]:
    """The cutoffs of a calendar grid: up to ``known_until``, and before ``end`` where that is given."""
    if not len(times.created_at):
        return np.empty(0, np.int64)
    midnight = (int(times.created_at.min()) // MICROSECONDS_PER_DAY + 1) * MICROSECONDS_PER_DAY
    start = to_microseconds(config.start) if config.start is not None else midnight
    stop = min(known_until + 1, to_microseconds(config.end) if config.end is not None else NEVER)
    return np.arange(start, max(start, stop), config.every.microseconds, dtype=np.int64)


def _climb(
    history: History,
    times: LeadTimes,
    steps: NDArray[np.int64],
    origin: NDArray[np.int64],
    max_age: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], dict[str, int]]:
    """Observe each lead at ``origin + steps``: a lead's allowed steps are one run of the sorted ladder."""
    first, *ends = observation_bounds(times.created_at, times.converted_at, times.lost_at, max_age)
    known_end = np.full_like(first, to_microseconds(history.known_until) + 1)
    low = np.searchsorted(steps, first - origin)
    high = np.full_like(low, len(steps))
    excluded = dict.fromkeys(EXCLUSIONS, 0)
    excluded["undated_conversion"] = int((high - low)[times.undated].sum())
    high[times.undated] = low[times.undated]
    for reason, end in zip(list(EXCLUSIONS)[2:], (known_end, *ends), strict=True):
        lowered = np.clip(np.searchsorted(steps, end - origin), low, high)
        excluded[reason] = int((high - lowered).sum())
        high = lowered
    total = int((high - low).sum())
    if total > MOST_OBSERVATIONS:
        raise ConfigError(
            f"observations.cutoffs asks for {total:,} observations, more than the {MOST_OBSERVATIONS:,} that "
            "are made at once; use fewer cutoffs (a longer 'every'), a shorter max_age, or fewer leads"
        )
    lead_row, cutoff = _expand(steps, origin, low, high - low)
    return lead_row, cutoff, excluded


def _expand(
    steps: NDArray[np.int64], origin: NDArray[np.int64], low: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Per lead the cutoffs ``origin + steps[low : low + count]``, written block by block of leads."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    lead_row, cutoff = np.empty(total, np.int32), np.empty(total, np.int64)
    for start in range(0, len(count), _BLOCK_LEADS):
        block = slice(start, start + _BLOCK_LEADS)
        size, begins = count[block], ends[block] - count[block]
        out = slice(int(begins[0]), int(begins[0] + size.sum()))
        position = np.arange(out.start, out.stop) - np.repeat(begins - low[block], size)
        lead_row[out] = np.repeat(np.arange(start, start + len(size), dtype=np.int32), size)
        cutoff[out] = steps[position] + np.repeat(origin[block], size)
    return lead_row, cutoff


def _after_interactions(
    history: History, config: AfterInteractionCutoffs
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct (lead_row, cutoff) 1 µs after the interactions (of the named kinds) became visible, sorted."""
    condition = ""
    if config.after != "any":
        present = history.query("SELECT DISTINCT kind FROM interactions WHERE kind IS NOT NULL ORDER BY kind")
        kinds = present["kind"].to_pylist()
        unknown = [kind for kind in config.after if kind not in kinds]
        if unknown:
            raise ConfigError(
                f"observations.cutoffs.after names {', '.join(map(repr, unknown))}, but no interaction is of "
                "that kind, so no lead would be observed there; the kinds are: "
                f"{', '.join(map(repr, kinds[:50])) or 'none'}"
            )
        quoted = ", ".join("'" + kind.replace("'", "''") + "'" for kind in config.after)
        condition = f"WHERE kind IN ({quoted})"
    found = history.query(
        f"SELECT DISTINCT lead_row, visible_at + 1 AS cutoff FROM interactions {condition} ORDER BY ALL"
    )
    return found["lead_row"].to_numpy().astype(np.int32), found["cutoff"].to_numpy()
