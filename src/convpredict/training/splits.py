"""Splits by time into train, calibrate and test, with a gap of one horizon between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from convpredict.config.base import Duration
from convpredict.config.training import SplitConfig
from convpredict.errors import NotEnoughDataError
from convpredict.history.history import History

from .labels import label_column, mature_rows
from .lead_times import LeadTimes, microseconds_of, to_instant, to_microseconds

PARTS = ("train", "calibrate", "test")
DEVELOPMENT = ("train", "between", "calibrate")
KEPT = (*PARTS, "between", "recent")
ROLES = (*KEPT, "gap", "immature", "unusable")
"""What becomes of an observation; the last three are set aside and counted.

``between`` lies in the gap between train and calibrate: in neither, but its label is known when the test
part begins. A model that is fitted again on everything before the test part, once its calibrator is
chosen, may use it. ``recent`` lies before the test part, but its label is not yet known when that begins.
"""

_PURPOSE = {
    "train": "no model can be learnt",
    "calibrate": "its probabilities cannot be calibrated",
    "test": "the model cannot be judged",
}


@dataclass(frozen=True)
class Split:
    """The role of each observation, as a position in ``ROLES``, and the instants between the parts.

    ``horizon`` is the first one, the model's: its label interval of a train, between or calibrate row never
    reaches into a later part.
    """

    role: NDArray[np.int8]
    calibrate_from: datetime
    test_from: datetime
    horizon: Duration

    def rows(self, part: str) -> NDArray[np.intp]:
        """Positions of the observations that have a role (``train`` to ``unusable``)."""
        return np.flatnonzero(self.role == ROLES.index(part))

    @property
    def counts(self) -> dict[str, int]:
        """Number of observations by role."""
        return dict(zip(ROLES, map(int, np.bincount(self.role, minlength=len(ROLES))), strict=True))


def split_observations(
    history: History,
    observations: pa.Table,
    labels: pa.Table,
    config: SplitConfig,
    horizon: Duration,
    *,
    judged: bool = True,
) -> Split:
    """Give each observation its part, or say why it is in none.

    With H the (first) horizon, C = ``calibrate_from`` and T = ``test_from``:

    ``by: cutoff``
        train: cutoff + H <= C; calibrate: C <= cutoff and cutoff + H <= T; test: T <= cutoff. A lead may
        be in several parts, each time with what was known by then; intervals of the evaluation resample
        leads.
    ``by: lead_start``
        the same with whole leads: train: created before C and cutoff + H <= C; calibrate: created in [C,
        T) and cutoff + H <= T; test: created at or after T. No lead is in two parts.

    Instants that are not given come from shares. ``by: cutoff``: ``test_share`` of the usable
    observations, the latest, are test; of those whose label ends before T, ``calibrate_share`` are
    calibrate. ``by: lead_start`` counts leads instead, all observed ones for the test part. Observations
    at one instant stay together.

    An observation is ``immature`` or ``unusable`` where its label is unknown. What lies between train and
    calibrate is ``between``; what lies before T and reaches into the test part is ``recent``; ``gap`` are the
    later rows, from T on, of leads that were created before T (only by lead start).

    With ``judged=False`` there is no test part: T is the end of the data, whatever the configuration says, and
    the rows whose label is not known then are ``recent``. That is how a model is trained to be used.

    Raises
    ------
    NotEnoughDataError
        A part has no observation, or only one class of the first horizon's label.
    """
    role = np.full(observations.num_rows, ROLES.index("gap"), np.int8)
    known = pc.is_valid(labels[label_column(horizon)]).to_numpy()
    role[~known] = ROLES.index("unusable")
    role[~mature_rows(history, observations, horizon)] = ROLES.index("immature")
    usable = role == ROLES.index("gap")
    if not usable.any():
        raise NotEnoughDataError(
            f"none of the {len(role):,} observations has a known label: the data is complete until "
            f"{_show(history.known_until)} and labels reach {horizon} beyond the cutoff; use a shorter "
            "labels.horizons, earlier cutoffs, or data that covers a longer time"
        )
    if not judged:
        config = config.model_copy(update={"test_from": history.known_until, "calibrate_from": None})
    calibrate_from, test_from = _assign(history, observations, config, horizon.microseconds, role, usable)
    if not judged:
        role[role == ROLES.index("immature")] = ROLES.index("recent")
    split = Split(role, to_instant(calibrate_from), to_instant(test_from), horizon)
    _check(split, labels, horizon, config, judged=judged)
    return split


def _assign(
    history: History,
    observations: pa.Table,
    config: SplitConfig,
    reach: int,
    role: NDArray[np.int8],
    usable: NDArray[np.bool_],
) -> tuple[int, int]:
    """Write the parts of the usable observations into ``role``; returns C and T (µs)."""
    cutoff = microseconds_of(observations["cutoff"])
    lead_row = observations["lead_row"].to_numpy()
    by_lead = config.by == "lead_start"
    start = LeadTimes.of(history).created_at[lead_row] if by_lead else cutoff
    one_each = np.unique(lead_row, return_index=True)[1] if by_lead else np.flatnonzero(usable)
    test_from = _boundary(config.test_from, start[one_each], config.test_share)
    before = usable & (start < test_from) & (cutoff + reach <= test_from)
    rows = np.flatnonzero(before)
    one_each = rows[np.unique(lead_row[rows], return_index=True)[1]] if by_lead else rows
    calibrate_from = _boundary(config.calibrate_from, start[one_each], config.calibrate_share, test_from)
    role[usable & (cutoff < test_from)] = ROLES.index("recent")
    role[usable & (start >= test_from)] = PARTS.index("test")
    role[before] = ROLES.index("between")
    role[before & (start >= calibrate_from)] = PARTS.index("calibrate")
    earliest = before & (start < calibrate_from) & (cutoff + reach <= calibrate_from)
    role[earliest] = PARTS.index("train")
    return calibrate_from, test_from


def _boundary(
    given: datetime | None, starts: NDArray[np.int64], share: float, otherwise: int | None = None
) -> int:
    """The instant from which at least ``share`` of the starts lie, unless one is given (µs)."""
    if given is not None:
        return to_microseconds(given)
    if not len(starts):
        return int(otherwise or 0)
    return int(np.partition(starts, position := int(len(starts) * (1 - share)))[position])


def _check(split: Split, labels: pa.Table, horizon: Duration, config: SplitConfig, *, judged: bool) -> None:
    """Refuse parts without rows or with one class only: say which instants led there and what to change."""
    label = labels[label_column(horizon)].fill_null(0).to_numpy()
    for part in PARTS if judged else PARTS[:2]:
        rows = split.rows(part)
        positives = int(label[rows].sum())
        if 0 < positives < len(rows):
            continue
        if not len(rows):
            problem = "has no observations"
        else:
            kind = "negative" if positives else "positive"
            problem = f"has {len(rows):,} observations, but no {kind} ones (within {horizon} of the cutoff)"
        counts = ", ".join(f"{name} {count:,}" for name, count in split.counts.items())
        if not judged:
            raise NotEnoughDataError(
                f"the {part} part {problem}, so {_PURPOSE[part]}: what was known at {_show(split.test_from)} is too "
                "little to learn from. Start later (--start of a backtest), use a shorter labels.horizons, or give "
                "data that begins earlier"
            )
        raise NotEnoughDataError(
            f"the {part} part {problem}, so {_PURPOSE[part]}. The parts lie by {config.by} before and from "
            f"split.calibrate_from = {_show(split.calibrate_from)} and "
            f"split.test_from = {_show(split.test_from)}, with gaps of {split.horizon}; observations: "
            f"{counts}. Move these instants (or split.test_share {config.test_share:g}, "
            f"split.calibrate_share {config.calibrate_share:g}), use a shorter labels.horizons, or give data "
            "that covers a longer time"
        )


def _show(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
