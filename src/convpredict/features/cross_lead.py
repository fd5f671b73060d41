"""Rates and loads across leads as of one instant, as plain JSON: what scoring a single lead needs of all others.

A snapshot is taken by the same tables that features are built from. For a lead that is scored at the snapshot's
instant it gives the same bits; later it is as old as the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.features import LoadFeature, RateFeature
from convpredict.errors import BundleError
from convpredict.history.history import History

from .declarations import FeatureColumn
from .feature_set import FeatureSet
from .grouped_times import GroupedTimes, Moments
from .lead_columns import RateKey
from .rates import LoadTable, Outcomes, RateTable
from .vocabulary import microseconds_of

FORMAT = 1
KIND = "convpredict cross-lead snapshot"
Group = tuple[str | None, ...]
Floats = npt.NDArray[np.float32]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def needs_snapshot(feature_set: FeatureSet) -> bool:
    """Whether any column of a feature set looks across leads."""
    return any(isinstance(column.declaration, RateFeature | LoadFeature) for column in feature_set.columns)


def snapshot_cross_lead(history: History, feature_set: FeatureSet, cutoff: datetime) -> dict[str, Any]:
    """What the rates and loads of a feature set count at a cutoff, group by group: plain lists and numbers for JSON.

    Groups are values of lead attributes (a source, an owner); no lead is in it. The same history and cutoff
    give the same content. Without such features the lists are empty. Raises BundleError where the history lacks an
    attribute that is read.
    """
    feature_set.check_history(history)
    at = microseconds_of(cutoff)
    declared = list(dict.fromkeys(column.declaration for column in feature_set.columns))
    rates: dict[RateKey, RateFeature] = {}
    loads: dict[str, list[int | None]] = {}
    for declaration in declared:
        if isinstance(declaration, RateFeature):
            rates.setdefault((declaration.keys, declaration.within.microseconds), declaration)
    for column in feature_set.columns:
        if isinstance(column.declaration, LoadFeature):
            windows = loads.setdefault(column.declaration.key, [])
            windows.extend({column.window_us} - set(windows))
    spans = {span: Outcomes.build(history, span) for span in dict.fromkeys(span for _, span in rates)}
    return {
        "kind": KIND,
        "format": FORMAT,
        "as_of": (_EPOCH + timedelta(microseconds=at)).isoformat(),
        "outcomes": [_outcomes_at(outcomes, span, at) for span, outcomes in spans.items()],
        "rates": [_rates_at(history, keys, span, spans[span], at) for keys, span in rates],
        "loads": [_loads_at(history, key, windows, at) for key, windows in loads.items()],
    }


@dataclass(frozen=True)
class RawOutcomes:
    """Per lead, the first cutoffs (µs) at which its outcome is settled, and at which it counts as converted."""

    created_at: npt.NDArray[np.int64]
    converted_at: npt.NDArray[np.int64]
    conversion_known_at: npt.NDArray[np.int64]
    """Both :data:`~.rates.NEVER` where the lead has not converted, or nobody knows when."""

    def at(self, within_us: int, instant: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether each lead is settled and counts as converted at an instant, as in ``rates.outcome_instants``."""
        settled_from = self.created_at + within_us
        converted = (self.converted_at < settled_from) & (self.conversion_known_at < instant)
        return settled_from <= instant, converted & (settled_from <= instant)


@dataclass(frozen=True)
class CrossLead:
    """A snapshot that was read back: counts by group as of the instant ``at`` (µs)."""

    at: int
    totals: Mapping[int, tuple[int, int]]
    rates: Mapping[RateKey, Mapping[Group, tuple[int, int]]]
    loads: Mapping[str, Mapping[int | None, Mapping[str, int]]]

    @property
    def as_of(self) -> str:
        """The instant of the snapshot, ISO 8601 in UTC."""
        return (_EPOCH + timedelta(microseconds=self.at)).isoformat()

    @property
    def averages(self) -> dict[int, float]:
        """The conversion rate of all leads by the span in µs, where any lead's outcome is settled."""
        return {
            span: converted / settled for span, (settled, converted) in sorted(self.totals.items()) if settled
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CrossLead:
        """Read what :func:`snapshot_cross_lead` gave. Raises BundleError for anything else."""
        try:
            if stored["kind"] != KIND or stored["format"] != FORMAT:
                raise ValueError(f"kind {stored['kind']!r}, format {stored['format']!r}")
            rates = {
                (tuple(entry["keys"]), int(entry["within_us"])): {
                    tuple(values): (int(settled), int(converted))
                    for values, settled, converted in entry["groups"]
                }
                for entry in stored["rates"]
            }
            loads = {
                entry["key"]: {
                    window["window_us"]: {value: int(count) for value, count in window["groups"]}
                    for window in entry["windows"]
                }
                for entry in stored["loads"]
            }
            totals = {
                int(entry["within_us"]): (int(entry["settled"]), int(entry["converted"]))
                for entry in stored["outcomes"]
            }
            return cls(microseconds_of(datetime.fromisoformat(stored["as_of"])), totals, rates, loads)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"the snapshot of rates and loads cannot be understood ({type(error).__name__}: {str(error)[:100]}); "
                "publish it again with this version of convpredict"
            ) from None

    def check(self, feature_set: FeatureSet) -> None:
        """Raise BundleError if a rate or load of a feature set is not in the snapshot."""
        for column in feature_set.columns:
            declaration = column.declaration
            lacks = (
                isinstance(declaration, RateFeature)
                and (declaration.keys, declaration.within.microseconds) not in self.rates
            ) or (
                isinstance(declaration, LoadFeature)
                and column.window_us not in self.loads.get(declaration.key, {})
            )
            if lacks:
                raise BundleError(
                    f"the snapshot of rates and loads as of {self.as_of} has nothing for the column {column.name}, so "
                    "it belongs to another model; publish it again with this one"
                )

    def columns(
        self,
        columns: Iterable[FeatureColumn],
        outcomes: RawOutcomes,
        attributes: Mapping[str, Sequence[str | None]],
    ) -> dict[str, Floats]:
        """The rates and loads among ``columns`` for leads whose own part is taken out again.

        ``attributes`` are the leads' own values, by attribute.
        """
        result: dict[str, Floats] = {}
        known: dict[tuple[RateKey, float], tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]] = {}
        for column in columns:
            declaration = column.declaration
            if isinstance(declaration, RateFeature):
                key = (declaration.keys, declaration.within.microseconds), declaration.prior_leads
                if key not in known:
                    known[key] = self._rate(*key, outcomes, attributes)
                result[column.name] = known[key][column.function == "volume"].astype(np.float32)
            elif isinstance(declaration, LoadFeature):
                values = attributes[declaration.key]
                result[column.name] = self._load(declaration.key, column.window_us, outcomes, values)
        return result

    def _rate(
        self,
        key: RateKey,
        prior_leads: float,
        outcomes: RawOutcomes,
        attributes: Mapping[str, Sequence[str | None]],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Rate and volume, by the formulas of :class:`~.rates.RateTable` and :class:`~.rates.Outcomes`."""
        names, within_us = key
        own_settled, own_converted = outcomes.at(within_us, self.at)
        all_settled, all_converted = self.totals[within_us]
        base = (_without(all_converted, own_converted) + 0.5) / (_without(all_settled, own_settled) + 1.0)
        groups = self.rates[key]
        rows = zip(*(attributes[name] for name in names), strict=True)
        counts = np.array([groups.get(values, (0, 0)) for values in rows], np.int64).reshape(-1, 2)
        settled, converted = _without(counts[:, 0], own_settled), _without(counts[:, 1], own_converted)
        return (converted + prior_leads * base) / (settled + prior_leads), settled

    def _load(
        self, key: str, window_us: int | None, outcomes: RawOutcomes, values: Sequence[str | None]
    ) -> Floats:
        """Other leads of each lead's group in a window, by the formula of :class:`~.rates.LoadTable`."""
        groups = self.loads[key][window_us]
        own = outcomes.created_at
        counted = own < self.at if window_us is None else (own < self.at) & (own >= self.at - window_us)
        leads = np.array([groups.get(value, 0) if value is not None else 0 for value in values], np.int64)
        missing = np.array([value is None for value in values], np.bool_)
        return np.where(missing, np.nan, _without(leads, counted).astype(np.float64)).astype(np.float32)


def _without(counts: npt.ArrayLike, own: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Counts less the lead itself; a group of none did not count it: the lead was not known, or had another value."""
    return np.maximum(np.asarray(counts, np.int64) - own, 0)


def _outcomes_at(outcomes: Outcomes, span: int, at: int) -> dict[str, Any]:
    moments = Moments.of(np.array([at], np.int64))
    return {
        "within_us": span,
        "settled": int(outcomes.all_settled.total(moments, inclusive=True)[0]),
        "converted": int(outcomes.all_converted.total(moments, inclusive=True)[0]),
    }


def _rates_at(
    history: History, keys: tuple[str, ...], span: int, outcomes: Outcomes, at: int
) -> dict[str, Any]:
    table = RateTable.build(history, keys, outcomes)
    groups = _groups(history, keys, table.group)
    settled, converted = (_counts(each, list(groups), at, True) for each in (table.settled, table.converted))
    entries = [[list(values), settled[code], converted[code]] for code, values in groups.items()]
    kept = [entry for entry in entries if entry[1] or entry[2]]
    return {"keys": list(keys), "within_us": span, "groups": sorted(kept, key=_order)}


def _loads_at(history: History, key: str, windows: Sequence[int | None], at: int) -> dict[str, Any]:
    table = LoadTable.build(history, LoadFeature(key=key, windows=("all",)))
    groups = {code: values for code, values in _groups(history, (key,), table.group).items() if values[0]}
    found = []
    for window in windows:
        leads = _counts(table.created, list(groups), at, False)
        if window is not None:
            before = _counts(table.created, list(groups), at - window, False)
            leads = {code: leads[code] - before[code] for code in leads}
        entries = [[values[0], leads[code]] for code, values in groups.items() if leads[code]]
        found.append({"window_us": window, "groups": sorted(entries, key=lambda entry: str(entry[0]))})
    return {"key": key, "windows": found}


def _groups(history: History, keys: Sequence[str], group: npt.NDArray[np.int32]) -> dict[int, Group]:
    """The values that each group of leads stands for."""
    codes, first = np.unique(group, return_index=True)
    rows = pa.array(first)
    values = [history.leads[key].cast(pa.string()).take(rows).to_pylist() for key in keys]
    return dict(zip(codes.tolist(), zip(*values, strict=True), strict=True))


def _counts(times: GroupedTimes, codes: Sequence[int], at: int, inclusive: bool) -> dict[int, int]:
    moments = Moments.of(np.full(len(codes), at, np.int64))
    found = times.count(np.array(codes, np.int64), moments, inclusive=inclusive)
    return dict(zip(codes, found.tolist(), strict=True))


def _order(entry: Sequence[Any]) -> list[tuple[bool, str]]:
    return [(value is None, value or "") for value in entry[0]]
