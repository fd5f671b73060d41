"""What was rewritten because of the outcome: times of creation, and interactions that are gone from the past."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convpredict.features.time_rule import NEVER
from convpredict.history.history import History

from .attribute_checks import FILLED_SEVERE, Setting
from .findings import Finding
from .statistics import Bools, Floats, associate, critical_value, share_bounds
from .view import DAY_US, LeadView

GONE_ODDS = 0.1
GONE_EXPECTED_SEVERE = 0.5
GONE_EXPECTED = 0.2
GONE_FOLLOWED = 0.5
_HOUR_US = DAY_US // 24
_LEAST_LEADS = 20
_MOST_KINDS = 60


def check_creation(setting: Setting) -> Iterator[Finding]:
    """Whether the times of creation of converted leads lie on whole hours, or those of all others do.

    Midnight of any time zone is a whole hour of UTC.
    """
    view = setting.view
    if view.created_us is None:
        return
    whole = view.created_us % _HOUR_US == 0
    if min(int(whole.sum()), int((~whole).sum())) < _LEAST_LEADS:
        return
    against = associate(whole, view.outcome, view.stratum, setting.z)
    strength = max(against.low, 1.0 / against.high)
    if strength < FILLED_SEVERE:
        return
    yield Finding(
        "rewritten",
        ("created_at",),
        "severe",
        f"the time of creation lies on a whole hour for {against.converted:.0%} of the converted leads and for "
        f"{against.others:.0%} of the others of the same age (odds ratio {against.odds_ratio:.3g}, at least "
        f"{strength:.3g} either way).",
        "It was written anew when the outcome was known: ages, and whatever is counted from the creation, tell it.",
        "Export the time at which the lead was first known, in one form for all leads.",
        {
            "converted": against.converted,
            "others": against.others,
            "odds_ratio": against.odds_ratio,
            "odds_ratio_low": against.low,
            "odds_ratio_high": against.high,
        },
    )


def check_gone(history: History, setting: Setting) -> Iterator[Finding]:
    """Kinds that leads of the same cohort have by that age, and converted leads lack in their open life.

    A kind that ends a lead's life (a refusal) is lacked for a good reason: only kinds after which life goes on
    for most leads count.
    """
    view = setting.view
    if view.converted_us is None or view.created_us is None or not history.n_interactions:
        return
    first, life_ends = _first_seen(history, view)
    dated = view.converted_us != NEVER
    z = critical_value(max(len(first), 1))
    for kind, seen_us in first.items():
        seen = seen_us != NEVER
        others = seen & ~view.outcome
        if int(others.sum()) < _LEAST_LEADS:
            continue
        due = _due(seen_us, view, dated)
        expected = float(due.mean()) if len(due) else 0.0
        if expected < GONE_EXPECTED:
            continue
        had = int((seen & dated).sum())
        _, most = share_bounds(had, int(dated.sum()), z)
        odds = most / max(1 - most, 1e-12) * (1 - expected) / max(expected, 1e-12)
        followed = float((life_ends[others] - seen_us[others] > DAY_US).mean())
        if odds > GONE_ODDS or followed < GONE_FOLLOWED:
            continue
        yield Finding(
            "gone_from_past",
            (kind,),
            "severe" if expected >= GONE_EXPECTED_SEVERE else "warning",
            f"{had:,} of {int(dated.sum()):,} converted leads had '{kind}' while open; by that age {expected:.0%} of "
            f"the other leads created at the same time had it (odds ratio at most {odds:.2g}), and for {followed:.0%} "
            "of them more came after it.",
            "What is deleted, or moved to another record, when a lead converts tells the outcome by its absence.",
            f"Export '{kind}' of converted leads too, or leave it out of the interactions.",
            {"had": had, "expected": expected, "odds_ratio_high": odds, "followed": followed},
        )


def _first_seen(history: History, view: LeadView) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """When each lead first had each frequent kind while it was open (NEVER: not), and when it last had any."""
    leads = pd.DataFrame(
        {
            "lead_row": view.lead_row.astype(np.int32),
            "converted_us": view.converted_us,
            "place": np.arange(len(view)),
        }
    )
    history.connection.register("leakage_leads", leads)
    try:
        found = history.connection.sql(
            "SELECT l.place, i.kind, min(visible_at) AS first_at, max(visible_at) AS last_at FROM interactions i "
            "JOIN leakage_leads l USING (lead_row) WHERE visible_at < converted_us AND i.kind IS NOT NULL "
            "GROUP BY ALL ORDER BY ALL"
        ).df()
    finally:
        history.connection.unregister("leakage_leads")
    ends = np.full(len(view), -NEVER, np.int64)
    np.maximum.at(ends, found["place"].to_numpy(), found["last_at"].to_numpy(np.int64))
    first: dict[str, NDArray[np.int64]] = {}
    for kind in found["kind"].value_counts().index[:_MOST_KINDS]:
        rows = found[found["kind"] == kind]
        seen = np.full(len(view), NEVER, np.int64)
        seen[rows["place"].to_numpy()] = rows["first_at"].to_numpy(np.int64)
        first[str(kind)] = seen
    return first, ends


def _due(seen_us: NDArray[np.int64], view: LeadView, dated: Bools) -> Floats:
    """Kaplan and Meier's share of the other leads of the cohort that had the kind by each converted lead's age."""
    assert view.created_us is not None
    assert view.converted_us is not None
    due: list[Floats] = []
    for code in np.unique(view.stratum):
        inside = view.stratum == code
        rows, won = np.flatnonzero(inside & ~view.outcome), np.flatnonzero(inside & dated)
        if not len(rows) or not len(won):
            continue
        had = seen_us[rows] != NEVER
        span = np.where(had, seen_us[rows], view.known_until_us) - view.created_us[rows]
        order = np.argsort(span, kind="stable")
        reached = 1.0 - np.cumprod(1.0 - had[order] / (len(rows) - np.arange(len(rows))))
        place = np.searchsorted(span[order], view.converted_us[won] - view.created_us[won], side="left") - 1
        due.append(np.where(place >= 0, reached[np.maximum(place, 0)], 0.0))
    return np.concatenate(due) if due else np.zeros(0)
