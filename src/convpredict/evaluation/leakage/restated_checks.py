"""Attributes that were overwritten at the export: they restate what the interactions say at the very end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from convpredict.features.time_rule import NEVER
from convpredict.history.history import History

from .attribute_checks import Setting
from .columns import Column, listed
from .findings import Finding
from .names import tells_of_a_process
from .statistics import Bools, Floats, share_bounds
from .view import DAY_US, LeadView

RESTATED_EQUAL = 0.8
RESTATED_RANKS = 0.95
RESTATED_DATES = 0.6
DATED_AT_OUTCOME = 0.3
_LEAST_LEADS = 50
_MOST_KINDS = 40

_REASON = "It tells what happened up to the export, the time after each cutoff included."
_REMEDY = "Drop '{name}': counts, last kinds and recency as of each cutoff are features of the interactions already."


@dataclass(frozen=True)
class Ending:
    """What the interactions of each lead amount to at the end of the data, arrays of shape (leads,)."""

    counts: Mapping[str, Floats]
    last_us: NDArray[np.int64]
    first_us: NDArray[np.int64]
    last_kind: NDArray[np.intp]
    first_kind: NDArray[np.intp]


def ending_of(history: History, view: LeadView) -> Ending | None:
    """Read it for the leads of a view; None for a history without interactions."""
    if not history.n_interactions:
        return None
    found = history.query(
        "SELECT lead_row, kind, count(*)::DOUBLE AS n, max(occurred_at) AS last_at, min(occurred_at) AS first_at "
        "FROM interactions GROUP BY ALL ORDER BY lead_row, kind"
    )
    place = np.full(history.n_leads, -1, np.intp)
    place[view.lead_row] = np.arange(len(view))
    row = place[found["lead_row"].to_numpy()]
    kept = row >= 0
    row = row[kept]
    kinds, code = np.unique(np.array([str(kind) for kind in found["kind"].to_pylist()]), return_inverse=True)
    code = code[kept]
    number = found["n"].to_numpy()[kept]
    last, first = found["last_at"].to_numpy()[kept], found["first_at"].to_numpy()[kept]
    size = len(view)
    total = np.bincount(row, weights=number, minlength=size)
    counts: dict[str, Floats] = {"interactions": np.asarray(total, np.float64)}
    often = np.argsort(-np.bincount(code, weights=number, minlength=len(kinds)), kind="stable")[:_MOST_KINDS]
    for kind in often:
        of_kind = code == kind
        counts[f"'{kinds[kind]}'"] = np.asarray(
            np.bincount(row[of_kind], weights=number[of_kind], minlength=size), np.float64
        )
    last_us, last_kind = _extreme(row, last, code, size, latest=True)
    first_us, first_kind = _extreme(row, first, code, size, latest=False)
    return Ending(counts, last_us, first_us, last_kind, first_kind)


def _extreme(
    row: NDArray[np.intp], instant: NDArray[np.int64], code: NDArray[np.intp], size: int, *, latest: bool
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    order = np.lexsort((code, instant if latest else -instant, row))
    moment, kind = np.full(size, NEVER, np.int64), np.full(size, -1, np.intp)
    moment[row[order]], kind[row[order]] = instant[order], code[order]
    return moment, kind


def check_restated(columns: Sequence[Column], ending: Ending, setting: Setting) -> Iterator[Finding]:
    """Attributes that equal a count, the last kind, or the last date of the lead's interactions at the end."""
    for column in columns:
        if column.kind == "number":
            yield from _check_count(column, ending)
        elif column.kind == "time":
            yield from _check_last_date(column, ending)
        else:
            yield from _check_last_kind(column, ending)


def _check_count(column: Column, ending: Ending) -> Iterator[Finding]:
    best: tuple[float, float, str] | None = None
    for name, counts in ending.counts.items():
        rows = np.flatnonzero(column.filled & ((counts > 0) | (column.numbers > 0)))
        if (
            len(rows) < _LEAST_LEADS
            or len(np.unique(counts[rows])) < 3
            or len(np.unique(column.numbers[rows])) < 3
        ):
            continue
        equal = float((column.numbers[rows] == counts[rows]).mean())
        ranks = float(stats.spearmanr(column.numbers[rows], counts[rows]).statistic)
        if (equal >= RESTATED_EQUAL or ranks >= RESTATED_RANKS) and (
            best is None or (equal, ranks) > best[:2]
        ):
            best = (equal, ranks, name)
    if best is None:
        return
    equal, ranks, name = best
    yield Finding(
        "restates_history",
        (column.name,),
        "severe",
        f"'{column.name}' is the number of {name} of the lead at the end of the data: equal for {equal:.0%} of the "
        f"leads that have any, rank correlation {ranks:.2f}.",
        _REASON,
        _REMEDY.format(name=column.name),
        {"equal": equal, "rank_correlation": ranks, "count_of": name},
    )


def _check_last_date(column: Column, ending: Ending) -> Iterator[Finding]:
    """Only leads whose interactions span more than three days can tell the last from the first."""
    spread = (ending.last_us != NEVER) & (ending.last_us - ending.first_us > 3 * DAY_US)
    rows = np.flatnonzero(column.filled & spread)
    if len(rows) < _LEAST_LEADS:
        return
    equal = float((np.abs(column.numbers[rows] - ending.last_us[rows] / DAY_US) < 1.0).mean())
    if equal < RESTATED_DATES:
        return
    yield Finding(
        "restates_history",
        (column.name,),
        "severe",
        f"'{column.name}' lies within a day of the lead's last interaction at the end of the data for {equal:.0%} of "
        f"{len(rows):,} leads.",
        _REASON,
        _REMEDY.format(name=column.name),
        {"equal": equal, "leads": len(rows)},
    )


def _check_last_kind(column: Column, ending: Ending) -> Iterator[Finding]:
    """Only leads whose first kind differs from the last can tell which of them the attribute holds."""
    moved = (ending.last_kind >= 0) & (ending.last_kind != ending.first_kind) & column.filled
    rows = np.flatnonzero(moved)
    if len(rows) < _LEAST_LEADS or not 2 <= len(column.values) <= 200:
        return
    last, first = (_told(column.codes[rows], kind[rows]) for kind in (ending.last_kind, ending.first_kind))
    usual = float(np.bincount(ending.last_kind[rows]).max() / len(rows))
    if last < RESTATED_EQUAL or last - usual < 0.2 or last - first < 0.1:
        return
    yield Finding(
        "restates_history",
        (column.name,),
        "severe",
        f"'{column.name}' tells the kind of the lead's last interaction at the end of the data for {last:.0%} of "
        f"{len(rows):,} leads (the most frequent kind alone: {usual:.0%}).",
        _REASON,
        _REMEDY.format(name=column.name),
        {"equal": last, "usual": usual, "leads": len(rows)},
    )


def _told(codes: NDArray[np.intp], kinds: NDArray[np.intp]) -> float:
    """How often each code's most frequent kind is the kind."""
    table = np.zeros((codes.max() + 1, kinds.max() + 1))
    np.add.at(table, (codes, kinds), 1)
    return float(table.max(1).sum() / len(codes))


def check_dates(columns: Sequence[Column], setting: Setting) -> Iterator[Finding]:
    """Dates of leads that coincide with the conversion, or that only look back from the end of the data."""
    view = setting.view
    if view.created_us is None or view.converted_us is None:
        return
    dated: Bools = view.converted_us != NEVER
    created = view.created_us / DAY_US
    for column in columns:
        if column.kind != "time":
            continue
        rows = np.flatnonzero(dated & column.filled & (view.converted_us - view.created_us > 3 * DAY_US))
        if len(rows) < 20:
            continue
        distance = column.numbers[rows] - view.converted_us[rows] / DAY_US
        later_than_creation = column.numbers[rows] > created[rows] + 1.0
        at_outcome = (np.abs(distance) <= 3.0) & later_than_creation
        low, _ = share_bounds(int(at_outcome.sum()), len(rows), setting.z)
        after = float((distance > 0).mean())
        if low < DATED_AT_OUTCOME and not (after >= 0.8 and tells_of_a_process(column.name)):
            continue
        visible = float((distance < 0).mean())
        yield Finding(
            "dated_at_outcome",
            (column.name,),
            "severe" if low >= DATED_AT_OUTCOME and visible >= 0.05 else "warning",
            f"'{column.name}' lies within three days of the conversion for {at_outcome.mean():.0%} of {len(rows):,} "
            f"converted leads, before it for {visible:.0%}.",
            "Such a date is set when the outcome comes; where it lies before the outcome, it announces it, and where "
            "it lies after, its absence before tells that the lead will convert.",
            f"Drop {listed([column.name])}, or log it as an interaction with recorded_at, when it was entered.",
            {"at_outcome": float(at_outcome.mean()), "before": visible, "leads": len(rows)},
        )
