"""Features of leads whose raw history is in memory, without a database: the same bits as from a loaded history.

What a web service needs for one lead. The events go into the same index, the attributes into the same tables, and the
same kernels walk them; only rates and loads come from a snapshot (:mod:`.cross_lead`) instead of all other leads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.features import AttributeFeature, LoadFeature, RateFeature
from convpredict.engines.buckets import Events
from convpredict.errors import BundleError
from convpredict.history.history import TIMESTAMP, AttributeType, History, empty

from .attribute_values import AttributeTable
from .cross_lead import CrossLead, RawOutcomes, needs_snapshot
from .declarations import FeatureColumn
from .event_columns import walk_events
from .event_plan import code_values, plan_events
from .feature_set import FeatureSet
from .index import index_events
from .lead_columns import CrossLeadTables, is_lead_column, lead_columns
from .rates import NEVER

Ints = npt.NDArray[np.int64]
_ARROW: Mapping[str, pa.DataType] = {"category": pa.string(), "number": pa.float64(), "time": TIMESTAMP}


@dataclass
class RawEvents:
    """Interactions of some leads, in the order of their source within each lead.

    ``lead`` is the lead's position; times are µs; ``recorded_at`` is ``occurred_at`` where nothing is stated;
    ``tie`` orders equal times; ``categories`` (``kind`` among them) hold text or None, ``numbers`` floats or NaN.
    """

    lead: list[int] = field(default_factory=list)
    occurred_at: list[int] = field(default_factory=list)
    recorded_at: list[int] = field(default_factory=list)
    tie: list[int] = field(default_factory=list)
    categories: dict[str, list[str | None]] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class RawChanges:
    """Changes of lead attributes: the lead's position, the attribute, its value as text, and times in µs."""

    lead: list[int] = field(default_factory=list)
    attribute: list[str] = field(default_factory=list)
    value: list[str | None] = field(default_factory=list)
    valid_from: list[int] = field(default_factory=list)
    recorded_at: list[int | None] = field(default_factory=list)


@dataclass
class RawLeads:
    """Leads with their raw history, one entry each: times in µs, ``converted_at`` and ``conversion_known_at`` None
    where the lead has not converted. ``attributes``: text, floats (None: missing) or µs, by attribute."""

    created_at: Sequence[int]
    cutoffs: Sequence[int]
    attributes: Mapping[str, Sequence[Any]]
    events: RawEvents
    changes: RawChanges = field(default_factory=RawChanges)
    converted_at: Sequence[int | None] | None = None
    conversion_known_at: Sequence[int | None] | None = None

    def outcomes(self) -> RawOutcomes:
        """What is known of the leads' own conversions."""

        def instants(given: Sequence[int | None] | None) -> Ints:
            entries = given if given is not None else [None] * len(self.cutoffs)
            return np.array([NEVER if entry is None else entry for entry in entries], np.int64)

        return RawOutcomes(
            np.array(self.created_at, np.int64),
            instants(self.converted_at),
            instants(self.conversion_known_at),
        )


class RawFeatures:
    """Builds the columns of one feature set for leads in memory; prepared once, safe to use from several threads."""

    def __init__(self, feature_set: FeatureSet) -> None:
        self.feature_set = feature_set
        columns = feature_set.columns
        self._plan = plan_events(columns, feature_set.vocabularies)
        self._across = [c for c in columns if isinstance(c.declaration, RateFeature | LoadFeature)]
        self._own = [c for c in columns if is_lead_column(c) and c not in self._across]
        self._event_names = [c.name for c in (*self._plan.numbers, *self._plan.categories)]
        self._categories = {
            c.name: pa.array(c.categories, pa.string()) for c in columns if c.type == "category"
        }
        self.event_categories = tuple(dict.fromkeys(("kind", *self._plan.read_categories)))
        self.event_numbers = self._plan.read_numbers
        self.lead_attributes: dict[str, AttributeType] = {
            name: kind for (table, name), kind in feature_set.vocabularies.types.items() if table == "leads"
        }
        self.needs_snapshot = needs_snapshot(feature_set)

    @property
    def reads_events(self) -> bool:
        """Whether any column is computed from interactions."""
        return bool(self._plan.jobs)

    def build(self, leads: RawLeads, cross_lead: CrossLead | None = None) -> pa.RecordBatch:
        """The feature table of the leads at their cutoffs, in their order, without lead_id and cutoff.

        Raises BundleError if the features look across leads and there is no snapshot, or one of another model;
        DataError for changes of an attribute that cannot be read as what it is.
        """
        if self.needs_snapshot and cross_lead is None:
            raise BundleError(
                f"the features look across leads ({self._across[0].name}, for one), which a lead's own rows do not "
                "tell; give a snapshot of them, which every nightly run publishes"
            )
        cutoffs = np.array(leads.cutoffs, np.int64)
        arrays = self._event_columns(leads.events, cutoffs) | self._lead_columns(leads, cutoffs)
        if cross_lead is not None and self._across:
            arrays |= cross_lead.columns(self._across, leads.outcomes(), leads.attributes)
        columns = self.feature_set.columns
        return pa.RecordBatch.from_arrays(
            [self._array(column, arrays[column.name], len(cutoffs)) for column in columns],
            list(self.feature_set.names),
        )

    def _event_columns(self, events: RawEvents, cutoffs: Ints) -> dict[str, npt.NDArray[Any]]:
        plan = self._plan
        if not plan.jobs:
            return {}
        occurred_at = np.array(events.occurred_at, np.int64)
        visible_at = np.maximum(occurred_at, np.array(events.recorded_at, np.int64))
        lead = np.array(events.lead, np.int32)
        seen = visible_at < cutoffs[lead]
        values: dict[str, tuple[str, ...]] = {}
        codes = {}
        for name in plan.read_categories:
            known: dict[str, int] = {}
            coded = [
                -1 if text is None else known.setdefault(text, len(known)) for text in events.categories[name]
            ]
            codes[name] = np.array(coded, np.int32)[seen]
            values[name] = tuple(known)
        numbers = {name: np.array(events.numbers[name], np.float64)[seen] + 0.0 for name in plan.read_numbers}
        tie = np.array(events.tie, np.int64)[seen]
        times = occurred_at[seen], visible_at[seen], tie
        indexed = index_events(Events(0, len(cutoffs), lead[seen], *times, codes, numbers))
        rows = np.arange(len(cutoffs), dtype=np.int32)
        matrices = walk_events(indexed, rows, cutoffs, plan, code_values(plan, values))
        return dict(zip(self._event_names, (*matrices.numbers, *matrices.categories), strict=True))

    def _lead_columns(self, leads: RawLeads, cutoffs: Ints) -> dict[str, npt.NDArray[Any]]:
        instants = pa.array(cutoffs).cast(TIMESTAMP)
        history = self._history(leads)
        attributes: dict[str, AttributeTable] = {}
        for column in self._own:
            declaration = column.declaration
            if isinstance(declaration, AttributeFeature) and declaration.attribute not in attributes:
                kind = self.lead_attributes[declaration.attribute]
                attributes[declaration.attribute] = AttributeTable.build(
                    history, declaration.attribute, kind, column.categories
                )
        observations = pa.table({"lead_row": np.arange(len(cutoffs)), "cutoff": instants})
        return lead_columns(history, CrossLeadTables(attributes, {}, {}, {}), observations, self._own)

    def _history(self, leads: RawLeads) -> History:
        """The leads as the small tables of a history, without a database."""
        columns = {"created_at": pa.array(np.array(leads.created_at, np.int64)).cast(TIMESTAMP)}
        for name, kind in self.lead_attributes.items():
            columns[name] = pa.array(leads.attributes[name], _ARROW[kind])
        changes, changed = leads.changes, empty("attribute_changes")
        if changes.lead:
            changed = pa.table(
                [
                    pa.array(changes.lead, pa.int32()),
                    pa.array(changes.attribute, pa.string()),
                    pa.array(changes.value, pa.string()),
                    pa.array(changes.valid_from, pa.int64()).cast(TIMESTAMP),
                    pa.array(changes.recorded_at, pa.int64()).cast(TIMESTAMP),
                ],
                schema=changed.schema,
            )
        nothing = empty("conversions")
        return History(
            connection=cast(Any, None),
            leads=pa.table(columns),
            conversions=nothing,
            revenue=nothing,
            spend=nothing,
            attribute_changes=changed,
            lead_attributes=self.lead_attributes,
            interaction_attributes={},
            known_until=datetime(1970, 1, 1, tzinfo=UTC),
            n_interactions=0,
            fingerprint="",
        )

    def _array(self, column: FeatureColumn, values: npt.NDArray[Any], n: int) -> pa.Array:
        if column.type == "number":
            return pa.array(values[:n])
        codes = pa.array(values[:n], mask=values[:n] < 0)
        return pa.DictionaryArray.from_arrays(codes, self._categories[column.name])
