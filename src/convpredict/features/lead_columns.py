"""Columns that do not come from interactions: lead attributes, age, calendar, rates and loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.features import (
    AgeFeature,
    AttributeFeature,
    CalendarFeature,
    LoadFeature,
    RateFeature,
)
from convpredict.history.history import History

from .attribute_values import MISSING_TIME, AttributeTable
from .declarations import FeatureColumn
from .feature_set import FeatureSet
from .grouped_times import Instants, Moments, instants_of
from .rates import LoadTable, Outcomes, RateTable
from .time_rule import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, is_visible

Rows = npt.NDArray[np.int64]
_THURSDAY = 3
RateKey = tuple[tuple[str, ...], int]


def is_lead_column(column: FeatureColumn) -> bool:
    """Whether a column is computed here, and not from the lead's interactions."""
    declaration = column.declaration
    if isinstance(declaration, AgeFeature):
        return declaration.of == "creation"
    return isinstance(declaration, AttributeFeature | CalendarFeature | RateFeature | LoadFeature)


@dataclass(frozen=True)
class CrossLeadTables:
    """What is computed once per run from the small tables, for the columns of one feature set.

    Rates and loads look across leads, exactly as of each cutoff, and from the history at hand: scoring
    builds these tables from the history as it is then, so no rate is frozen with a model.
    """

    attributes: Mapping[str, AttributeTable]
    outcomes: Mapping[int, Outcomes]
    rates: Mapping[RateKey, RateTable]
    loads: Mapping[str, LoadTable]

    @classmethod
    def build(
        cls, history: History, feature_set: FeatureSet, *, shared: CrossLeadTables | None = None
    ) -> CrossLeadTables:
        """Build the tables that the columns of ``feature_set`` need, in O(leads log leads).

        ``shared`` are tables of the same history for another feature set: what does not depend on a vocabulary that
        differs is taken from there. Raises BundleError where the history lacks a column that the feature set reads.
        """
        feature_set.check_history(history)
        attributes: dict[str, AttributeTable] = {}
        outcomes: dict[int, Outcomes] = dict(shared.outcomes) if shared is not None else {}
        rates: dict[RateKey, RateTable] = dict(shared.rates) if shared is not None else {}
        loads: dict[str, LoadTable] = dict(shared.loads) if shared is not None else {}
        for column in feature_set.columns:
            declaration = column.declaration
            if isinstance(declaration, AttributeFeature) and declaration.attribute not in attributes:
                name = declaration.attribute
                kind, known = history.lead_attributes[name], shared.attributes.get(name) if shared else None
                if known is not None and known.categories == column.categories:
                    attributes[name] = known
                else:
                    attributes[name] = AttributeTable.build(history, name, kind, column.categories)
            elif isinstance(declaration, RateFeature) and _rate_key(declaration) not in rates:
                within_us = declaration.within.microseconds
                if within_us not in outcomes:
                    outcomes[within_us] = Outcomes.build(history, within_us)
                key = _rate_key(declaration)
                rates[key] = RateTable.build(history, declaration.keys, outcomes[within_us])
            elif isinstance(declaration, LoadFeature) and declaration.key not in loads:
                loads[declaration.key] = LoadTable.build(history, declaration)
        return cls(attributes, outcomes, rates, loads)


def lead_columns(
    history: History, tables: CrossLeadTables, observations: pa.Table, columns: Sequence[FeatureColumn]
) -> dict[str, npt.NDArray[Any]]:
    """Compute the columns for any slice of observations (lead_row, cutoff); pure and thread-safe.

    Returns float32 arrays for numbers (NaN: missing) and int32 codes for categories (-1: missing, else the
    index into ``column.categories``). Columns that come from interactions are left out.
    """
    lead_row = np.asarray(observations["lead_row"].to_numpy()).astype(np.int64)
    cutoff = instants_of(observations["cutoff"])
    moments = Moments.of(cutoff)
    known = {
        within_us: outcomes.at(lead_row, cutoff, moments) for within_us, outcomes in tables.outcomes.items()
    }
    rates: dict[tuple[RateKey, float], tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
    result: dict[str, npt.NDArray[Any]] = {}
    for column in columns:
        declaration = column.declaration
        if isinstance(declaration, AttributeFeature):
            values = tables.attributes[declaration.attribute].at(lead_row, moments)
            result[column.name] = _attribute_column(values, cutoff)
        elif isinstance(declaration, AgeFeature) and declaration.of == "creation":
            created_at = instants_of(history.leads["created_at"])
            result[column.name] = _days(cutoff - created_at[lead_row])
        elif isinstance(declaration, CalendarFeature):
            result[column.name] = _calendar(moments.distinct, column.function)[moments.position]
        elif isinstance(declaration, RateFeature):
            key, m = _rate_key(declaration), declaration.prior_leads
            if (key, m) not in rates:
                rates[key, m] = tables.rates[key].at(lead_row, moments, known[key[1]], m)
            result[column.name] = rates[key, m][column.function == "volume"].astype(np.float32)
        elif isinstance(declaration, LoadFeature):
            load = tables.loads[declaration.key].at(lead_row, cutoff, moments, column.window_us)
            result[column.name] = load.astype(np.float32)
    return result


def _rate_key(declaration: RateFeature) -> RateKey:
    return declaration.keys, declaration.within.microseconds


def _attribute_column(values: npt.NDArray[Any], cutoff: Instants) -> npt.NDArray[Any]:
    """Codes and numbers as they are, dates as days that have passed: one that lies ahead is not known yet."""
    if values.dtype == np.int32:
        return values
    if values.dtype == np.int64:
        passed = (values != MISSING_TIME) & is_visible(values, cutoff)
        return np.where(passed, _days(cutoff - np.where(passed, values, 0)), np.float32(np.nan))
    return values.astype(np.float32)


def _days(microseconds: Instants) -> npt.NDArray[np.float32]:
    return (microseconds / MICROSECONDS_PER_DAY).astype(np.float32)


def _calendar(cutoff: Instants, part: str | None) -> npt.NDArray[np.float32]:
    if part == "hour":
        numbers = cutoff // MICROSECONDS_PER_HOUR % 24
    elif part == "weekday":
        numbers = (cutoff // MICROSECONDS_PER_DAY + _THURSDAY) % 7
    else:
        numbers = cutoff.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    return numbers.astype(np.float32)
