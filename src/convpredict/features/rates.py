"""Conversion rates and loads across leads, exact at every cutoff.

The tables hold sorted instants per group of leads: when each lead's outcome became settled, and from when
on it counts as converted. What a cutoff may know of other leads is then a matter of counting instants
before it, and the observed lead's own contribution is taken out again. Nothing here is learnt or frozen:
the same history gives the same numbers at the same cutoff, in training and in scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from convpredict.config.features import LoadFeature
from convpredict.history.history import History

from .grouped_times import GroupedTimes, Instants, Moments, instants_of

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class KnownOutcomes:
    """Per observation: whether the lead's own outcome counts, and the smoothed rate of all other leads."""

    own_settled: npt.NDArray[np.bool_]
    own_converted: npt.NDArray[np.bool_]
    base: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Per lead, the first cutoffs at which its outcome is settled and at which it counts as converted."""

    settled_from: Instants
    converted_from: Instants
    all_settled: GroupedTimes
    all_converted: GroupedTimes

    @classmethod
    def build(cls, history: History, within_us: int) -> Outcomes:
        """Outcomes within a span after creation."""
        settled_from, converted_from = outcome_instants(history, within_us)
        return cls(settled_from, converted_from, _times_of(settled_from), _times_of(converted_from))

    def at(self, lead_row: npt.NDArray[np.int64], cutoff: Instants, moments: Moments) -> KnownOutcomes:
        """``base = (K + 0.5) / (N + 1)`` of the N settled and K converted leads, the lead itself left out."""
        own_settled = self.settled_from[lead_row] <= cutoff
        own_converted = self.converted_from[lead_row] <= cutoff
        settled = self.all_settled.total(moments, inclusive=True) - own_settled
        converted = self.all_converted.total(moments, inclusive=True) - own_converted
        return KnownOutcomes(own_settled, own_converted, (converted + 0.5) / (settled + 1.0))


@dataclass(frozen=True)
class RateTable:
    """Settled leads and conversions by group; ``group`` is each lead's."""

    group: npt.NDArray[np.int32]
    settled: GroupedTimes
    converted: GroupedTimes

    @classmethod
    def build(cls, history: History, keys: Sequence[str], outcomes: Outcomes) -> RateTable:
        """The table of leads grouped by ``keys``; a missing value is a group of its own."""
        group, n_groups = group_codes(history, keys)
        return cls(
            group,
            outcomes.all_settled.regroup(group[outcomes.settled_from < NEVER], n_groups=n_groups),
            outcomes.all_converted.regroup(group[outcomes.converted_from < NEVER], n_groups=n_groups),
        )

    def at(
        self, lead_row: npt.NDArray[np.int64], moments: Moments, known: KnownOutcomes, prior_leads: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Rate ``(k + m * base) / (n + m)`` and volume n per observation, the lead itself left out.

        n and k are the settled and converted leads of the lead's group, and m is ``prior_leads``.
        """
        group = self.group[lead_row]
        settled = self.settled.count(group, moments, inclusive=True) - known.own_settled
        converted = self.converted.count(group, moments, inclusive=True) - known.own_converted
        return (converted + prior_leads * known.base) / (settled + prior_leads), settled


@dataclass(frozen=True)
class LoadTable:
    """Creation instants by group; ``group`` is each lead's, ``missing`` says where there is no key."""

    group: npt.NDArray[np.int32]
    missing: npt.NDArray[np.bool_]
    created_at: Instants
    created: GroupedTimes

    @classmethod
    def build(cls, history: History, declaration: LoadFeature) -> LoadTable:
        """The table of one declaration."""
        group, n_groups = group_codes(history, (declaration.key,))
        missing = np.asarray(pc.is_null(history.leads[declaration.key]).to_numpy())
        created_at = instants_of(history.leads["created_at"])
        return cls(group, missing, created_at, GroupedTimes(group, created_at, n_groups=n_groups))

    def at(
        self, lead_row: npt.NDArray[np.int64], cutoff: Instants, moments: Moments, window_us: int | None
    ) -> npt.NDArray[np.float64]:
        """Per observation, the other leads of its group with ``cutoff - window <= created_at < cutoff``."""
        group, own = self.group[lead_row], self.created_at[lead_row]
        leads = self.created.count(group, moments) - (own < cutoff)
        if window_us is not None:
            leads -= self.created.count(group, moments, shift_us=window_us) - (own < cutoff - window_us)
        return np.where(self.missing[lead_row], np.nan, leads.astype(np.float64))


def outcome_instants(history: History, within_us: int) -> tuple[Instants, Instants]:
    """Per lead, the first cutoffs at which its outcome is settled, and at which it counts as converted.

    A lead is settled at cutoffs from ``created_at + within`` on. It counts as converted if it did so before
    then, at cutoffs after the conversion became known; of several conversions in time, after the first that
    became known. A conversion without a date never counts: that it came is known today, and nobody knows since
    when, so no past cutoff may see it.
    """
    settled_from = instants_of(history.leads["created_at"]) + within_us
    converted_from = np.full(len(settled_from), NEVER, np.int64)
    conversions = history.all_conversions
    dated = conversions.filter(pc.is_valid(conversions["converted_at"]))
    row = np.asarray(dated["lead_row"].to_numpy())
    converted_at = instants_of(dated["converted_at"])
    recorded_at = instants_of(pc.coalesce(dated["recorded_at"], dated["converted_at"]))
    visible_from = np.where(recorded_at > converted_at, recorded_at, converted_at) + 1
    in_time = converted_at < settled_from[row]
    np.minimum.at(converted_from, row[in_time], np.maximum(settled_from[row], visible_from)[in_time])
    return settled_from, converted_from


def group_codes(history: History, keys: Sequence[str]) -> tuple[npt.NDArray[np.int32], int]:
    """Each lead's group by the values of one or two attributes, and how many groups there may be.

    A missing value is a group of its own.
    """
    codes, n_groups = np.zeros(history.n_leads, np.int64), 1
    for key in keys:
        encoded = pc.dictionary_encode(history.leads[key].cast(pa.string()).combine_chunks())
        n_values = len(encoded.dictionary)
        indices = encoded.indices.fill_null(n_values).to_numpy()
        codes, n_groups = codes * (n_values + 1) + indices, n_groups * (n_values + 1)
    if len(keys) > 1:
        used, codes = np.unique(codes, return_inverse=True)
        n_groups = len(used)
    return codes.astype(np.int32), n_groups


def _times_of(instants: Instants) -> GroupedTimes:
    """The instants that ever come, of all leads in one group."""
    happening = instants[instants < NEVER]
    return GroupedTimes(np.zeros(len(happening), np.int32), happening, n_groups=1)
