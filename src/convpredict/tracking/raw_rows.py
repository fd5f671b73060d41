"""Rows of raw leads as MLflow hands them over, checked and read into what features are built from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from convpredict.errors import DataError
from convpredict.features.raw_leads import RawChanges, RawEvents, RawFeatures, RawLeads
from convpredict.features.time_rule import MICROSECONDS_PER_DAY
from convpredict.training.lead_ages import LearntAges

from .feature_rows import is_missing
from .raw_values import (
    Place,
    changed_value,
    entries_of,
    instant_of,
    needed_instant,
    optional_instant,
    optional_instants,
    ties_of,
    value_of,
)


def is_raw(frame: pd.DataFrame) -> bool:
    """Whether the rows are leads with their raw history: those have ``created_at``."""
    return "created_at" in frame.columns and bool(frame["created_at"].notna().any())


def check_not_before(cutoffs: Sequence[int], at: int, as_of: str) -> None:
    """Raise DataError for a cutoff before the snapshot's instant (both in µs): its rates know of later outcomes."""
    early = next((row for row, cutoff in enumerate(cutoffs, 1) if cutoff < at), None)
    if early is not None:
        raise DataError(
            f"row {early}: 'cutoff' lies before {as_of}, the instant of the rates and loads across leads that this "
            "model reads: they count outcomes that were not known at the cutoff, so the scores would look better on "
            "past leads than they are. Give a later cutoff, name a snapshot that is as old as the cutoff "
            "(CONVPREDICT_CROSS_LEAD), or, where that does not matter, set the parameter allow_later_rates"
        )


def check_ages(created_at: Sequence[int], cutoffs: Sequence[int], ages: LearntAges | None) -> None:
    """Raise DataError for the first lead of an age (µs) that the model's rows do not cover."""
    if ages is None:
        return
    for row, (created, cutoff) in enumerate(zip(created_at, cutoffs, strict=True), 1):
        if not ages.covers(cutoff - created):
            days = (cutoff - created) / MICROSECONDS_PER_DAY
            raise DataError(
                f"row {row}: the lead is {days:.3g} days old at its cutoff, and the model learnt from leads of {ages}: "
                "its score would be a guess. Leave the lead out, train on cutoffs that meet leads of this age, or, "
                "where a guess will do, set the parameter allow_untrained_ages"
            )


class RawRows:
    """Reads frames of raw leads for one feature set. ``sells_to_customers``: leads stay open after they converted."""

    def __init__(self, features: RawFeatures, *, sells_to_customers: bool) -> None:
        self._features = features
        self._converted_may_be_scored = sells_to_customers
        only_kind = features.feature_set.vocabularies.get(("interactions", "kind")) == ("interaction",)
        self._kind_unless_stated = "interaction" if only_kind else None

    def read(self, frame: pd.DataFrame, cutoff: str = "") -> RawLeads:
        """Leads in the order of the rows; ``cutoff`` is for rows that state none.

        Raises DataError for what cannot be read or is missing.
        """
        self._check_columns(frame, cutoff)
        created_at = self._instants(frame, "created_at")
        cutoffs = self._cutoffs(frame, cutoff)
        for row, (created, at) in enumerate(zip(created_at, cutoffs, strict=True), 1):
            if created >= at:
                raise DataError(
                    f"row {row}: 'cutoff' must lie after 'created_at': a lead is scored with what was known before the "
                    "cutoff; give a later one"
                )
        attributes = {
            name: [
                value_of(value, kind, Place(row, name)) for row, value in enumerate(frame[name].tolist(), 1)
            ]
            for name, kind in self._features.lead_attributes.items()
        }
        converted, known = self._conversions(frame, cutoffs)
        return RawLeads(
            created_at, cutoffs, attributes, self._events(frame), self._changes(frame), converted, known
        )

    def _check_columns(self, frame: pd.DataFrame, cutoff: str) -> None:
        wanted = [*self._features.lead_attributes, *(["interactions"] if self._features.reads_events else [])]
        missing = [name for name in wanted if name not in frame.columns]
        if missing:
            raise DataError(
                f"the raw leads lack the column {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}, which "
                "the model reads; give it, with nothing in it where it is not known"
            )
        if "cutoff" not in frame.columns and not cutoff:
            raise DataError(
                "the raw leads have no cutoff, the instant to score them at; give the column 'cutoff', or the "
                "parameter 'cutoff' for all rows"
            )

    def _instants(self, frame: pd.DataFrame, column: str) -> list[int]:
        found = []
        for row, value in enumerate(frame[column].tolist(), 1):
            if is_missing(value):
                raise DataError(f"row {row}: '{column}' is missing; every row needs it")
            found.append(instant_of(value, Place(row, column)))
        return found

    def _cutoffs(self, frame: pd.DataFrame, cutoff: str) -> list[int]:
        if not cutoff:
            return self._instants(frame, "cutoff")
        try:
            given = instant_of(cutoff, Place(1, "cutoff"))
        except DataError:
            raise DataError(
                "the parameter 'cutoff' is no time with an offset, like 2024-03-18T02:00:00Z; give one"
            ) from None
        if "cutoff" not in frame.columns:
            return [given] * len(frame)
        return [
            given if is_missing(value) else instant_of(value, Place(row, "cutoff"))
            for row, value in enumerate(frame["cutoff"].tolist(), 1)
        ]

    def _conversions(
        self, frame: pd.DataFrame, cutoffs: Sequence[int]
    ) -> tuple[list[int | None] | None, list[int | None] | None]:
        """When each lead converted and when that was known."""
        if "converted_at" not in frame.columns:
            return None, None
        converted = optional_instants(frame, "converted_at")
        recorded: list[int | None] = [None] * len(frame)
        if "conversion_recorded_at" in frame.columns:
            recorded = optional_instants(frame, "conversion_recorded_at")
        known = [
            None if at is None else at if late is None else max(at, late)
            for at, late in zip(converted, recorded, strict=True)
        ]
        if not self._converted_may_be_scored:
            for row, (at, cutoff) in enumerate(zip(known, cutoffs, strict=True), 1):
                if at is not None and at < cutoff:
                    raise DataError(
                        f"row {row}: the lead has converted before its cutoff, and the model was trained on leads that "
                        "had not; leave it out"
                    )
        return converted, known

    def _events(self, frame: pd.DataFrame) -> RawEvents:
        categories, numbers = self._features.event_categories, self._features.event_numbers
        events = RawEvents(
            categories={name: [] for name in categories}, numbers={name: [] for name in numbers}
        )
        if not self._features.reads_events:
            return events
        for row, value in enumerate(frame["interactions"].tolist(), 1):
            entries = list(entries_of(value, row, "interactions"))
            ids = [entry.get("event_id") for entry in entries]
            events.tie.extend(ties_of(ids, row) if not all(map(is_missing, ids)) else range(len(entries)))
            for number, entry in enumerate(entries, 1):
                place = Place(row, "interactions", number, "occurred_at")
                occurred_at = needed_instant(entry, place)
                events.lead.append(row - 1)
                events.occurred_at.append(occurred_at)
                events.recorded_at.append(
                    optional_instant(entry, "recorded_at", place, unless_stated=occurred_at)
                )
                for name in categories:
                    default = self._kind_unless_stated if name == "kind" else None
                    text = value_of(entry.get(name), "category", Place(row, "interactions", number, name))
                    events.categories[name].append(default if text is None else text)
                for name in numbers:
                    amount = value_of(entry.get(name), "number", Place(row, "interactions", number, name))
                    events.numbers[name].append(math.nan if amount is None else amount)
        return events

    def _changes(self, frame: pd.DataFrame) -> RawChanges:
        changes = RawChanges()
        if "attribute_changes" not in frame.columns:
            return changes
        for row, value in enumerate(frame["attribute_changes"].tolist(), 1):
            for number, entry in enumerate(entries_of(value, row, "attribute_changes"), 1):
                name = entry.get("attribute")
                if not isinstance(name, str) or not name:
                    raise DataError(
                        f"{Place(row, 'attribute_changes', number, 'attribute')} must be the name of an attribute"
                    )
                kind = self._features.lead_attributes.get(name)
                if kind is None:
                    continue
                place = Place(row, "attribute_changes", number, "valid_from")
                changes.lead.append(row - 1)
                changes.attribute.append(name)
                changes.value.append(changed_value(entry.get("value"), kind, row, number))
                changes.valid_from.append(needed_instant(entry, place))
                recorded = entry.get("recorded_at")
                changes.recorded_at.append(
                    None
                    if is_missing(recorded)
                    else instant_of(recorded, Place(row, "attribute_changes", number, "recorded_at"))
                )
        return changes
