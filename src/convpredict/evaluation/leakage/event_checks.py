"""Kinds of interactions that announce the outcome: only converted leads have them, or they were entered later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.features.time_rule import NEVER
from convpredict.history.history import History, quoted_name

from .attribute_checks import Setting
from .findings import Finding, Public
from .statistics import associate, critical_value, share_bounds
from .view import DAY_US, LeadView, hindsight_share

EVENT_LEAST_SHARE = 0.8
EVENT_LEAST_ODDS = 20.0
EVENT_CONFIRMED_ODDS = 3.0
EVENT_LEAST_GAP = 0.15
_EARLY_DAYS = 7
_LEAST_LEADS = 15
_MOST_VALUES = 60

_EVENT_REMEDY = (
    "Leave {name} out of the interactions, end the history before it, or give recorded_at (when entered)."
)
_PAST = ", but not more often for young open leads, some of which will convert: it is entered later and dated back"
_PERHAPS = "; so strong a sign so early is mostly entered later and dated back"


@dataclass(frozen=True)
class Occurrence:
    """Leads and days of one value (a kind, or an attribute's) among the interactions that were visible in time.

    ``before`` is how many of the occurrences on converted leads were visible before the conversion; ``after``
    how many came at or after it; ``near`` is, per lead that had it before, whether it converted within a day.
    """

    column: str
    value: str
    holders: NDArray[np.bool_]
    early: NDArray[np.bool_]
    before: int
    after: int
    near: int

    @property
    def name(self) -> str:
        """The kind, or the attribute and its value."""
        return self.value if self.column == "kind" else f"{self.column}={self.value}"

    @property
    def words(self) -> tuple[str, str]:
        """What it is called in full, and without values of the data (kinds are names, and stay)."""
        return (
            f"'{self.name}'",
            f"'{self.name}'" if self.column == "kind" else f"one value of '{self.column}'",
        )

    def public(self, evidence: str, remedy: str) -> Public:
        """What errors and notes say of it."""
        return Public(self.name if self.column == "kind" else self.column, evidence, remedy)


def check_events(history: History, setting: Setting) -> Iterator[Finding]:
    """Findings on the kinds and on the values of the interactions' categories."""
    view = setting.view
    if view.converted_us is None or not history.n_interactions:
        return
    columns = ["kind", *(name for name, kind in history.interaction_attributes.items() if kind == "category")]
    by_kind: set[bytes] = set()
    for column in columns:
        found = list(_occurrences(history, view, column))
        z = critical_value(3 * len(found) * len(columns))
        for occurrence in found:
            mark = np.packbits(occurrence.holders).tobytes()
            if column != "kind" and mark in by_kind:
                continue
            for finding in _check_occurrence(occurrence, view, z):
                by_kind.add(mark)
                yield finding


def _occurrences(history: History, view: LeadView, column: str) -> Iterator[Occurrence]:
    """Per frequent value: read once, grouped by lead; a lead's open life ends with its conversion."""
    assert view.converted_us is not None
    assert view.created_us is not None
    name = quoted_name(column)
    history.connection.register(
        "leakage_leads",
        pd.DataFrame(
            {
                "lead_row": view.lead_row.astype(np.int32),
                "converted_us": view.converted_us,
                "created_us": view.created_us,
                "place": np.arange(len(view)),
            }
        ),
    )
    try:
        found = history.connection.sql(
            f"SELECT l.place, i.{name} AS value, count(*) FILTER (visible_at < converted_us) AS before, "
            "count(*) FILTER (visible_at >= converted_us) AS after, "
            "max(visible_at) FILTER (visible_at < converted_us) AS last_before, "
            f"bool_or(visible_at < converted_us AND occurred_at < created_us + {_EARLY_DAYS * DAY_US}) AS early "
            f"FROM interactions i JOIN leakage_leads l USING (lead_row) WHERE i.{name} IS NOT NULL "
            "GROUP BY ALL ORDER BY ALL"
        ).df()
    finally:
        history.connection.unregister("leakage_leads")
    sizes = found["value"].value_counts()
    undated = view.outcome & (view.converted_us == NEVER)
    for value in sorted(sizes.index[sizes >= _LEAST_LEADS][:_MOST_VALUES]):
        rows = found[found["value"] == value]
        place = rows["place"].to_numpy()
        converted = view.converted_us[place] != NEVER
        holders, early = np.zeros(len(view), np.bool_), np.zeros(len(view), np.bool_)
        had = rows["before"].to_numpy() > 0
        holders[place[had]] = True
        early[place] = rows["early"].fillna(False).to_numpy(bool)
        holders &= ~undated
        last = rows["last_before"].fillna(0).to_numpy(np.int64)
        near = had & converted & (view.converted_us[place] - last <= DAY_US)
        yield Occurrence(
            column,
            str(value),
            holders,
            early & ~undated,
            int(rows["before"].to_numpy()[converted].sum()),
            int(rows["after"].to_numpy()[converted].sum()),
            int(near.sum()),
        )


def _check_occurrence(occurrence: Occurrence, view: LeadView, z: float) -> Iterator[Finding]:
    count = int(occurrence.holders.sum())
    if count >= _LEAST_LEADS:
        hits = int((occurrence.holders & view.outcome).sum())
        low, _ = share_bounds(hits, count, z)
        against = associate(occurrence.holders, view.outcome, view.stratum, z)
        if low >= EVENT_LEAST_SHARE and against.low >= EVENT_LEAST_ODDS:
            yield _outcome_event(occurrence, hits, count, against.odds_ratio)
            return
    yield from _check_early(occurrence, view, z)


def _outcome_event(occurrence: Occurrence, hits: int, count: int, odds_ratio: float) -> Finding:
    coincide = f"; for {occurrence.near:,} of them within a day" if occurrence.near else ""
    after = (
        f"; {occurrence.after:,} of {occurrence.before + occurrence.after:,} occurrences on converted leads lie at or "
        "after the conversion"
        if occurrence.after
        else ""
    )
    full, public = (
        (
            f"{hits:,} of the {count:,} leads that had {name} while open converted{coincide}{after}.",
            _EVENT_REMEDY.format(name=name),
        )
        for name in occurrence.words
    )
    return Finding(
        "outcome_event",
        (occurrence.name,),
        "severe",
        full[0],
        "What only ever comes with the conversion is part of it, or was entered because of it.",
        full[1],
        {
            "leads": count,
            "converted": hits,
            "odds_ratio": odds_ratio,
            "within_a_day": occurrence.near,
            "after_conversion": occurrence.after,
        },
        public=occurrence.public(*public),
    )


def _check_early(occurrence: Occurrence, view: LeadView, z: float) -> Iterator[Finding]:
    """Kinds in a lead's first week that young leads lack: entered later, with a date in the past."""
    if int(occurrence.early.sum()) < _LEAST_LEADS or view.created_us is None:
        return
    against = associate(occurrence.early, view.outcome, view.stratum, z)
    if against.low < EVENT_CONFIRMED_ODDS or against.converted - against.others < EVENT_LEAST_GAP:
        return
    aged = hindsight_share(occurrence.early.astype(np.float64), view, least_age_days=_EARLY_DAYS)
    confirmed = aged is not None and aged.confirms
    share = float(view.outcome[occurrence.early].mean())
    if not confirmed and (
        against.low < EVENT_LEAST_ODDS or share < 0.5 or (aged is not None and aged.contradicts)
    ):
        return
    full, public = (
        (
            f"{name} in the first {_EARLY_DAYS} days is found for {against.converted:.0%} of the converted "
            f"leads and for {against.others:.0%} of the others of the same age (odds ratio {against.odds_ratio:.3g}, "
            f"at least {against.low:.3g}){_PAST if confirmed else _PERHAPS}.",
            _EVENT_REMEDY.format(name=name),
        )
        for name in occurrence.words
    )
    yield Finding(
        "backdated",
        (occurrence.name,),
        "severe" if confirmed else "warning",
        full[0],
        "A cutoff sees it before anybody had entered it.",
        full[1],
        {
            "converted": against.converted,
            "others": against.others,
            "odds_ratio": against.odds_ratio,
            "odds_ratio_low": against.low,
            "written_with_outcome": aged.value if aged is not None else None,
        },
        public=occurrence.public(*public),
    )
