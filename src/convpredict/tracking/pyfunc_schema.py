"""What the MLflow model takes and gives, as MLflow's signature, and an invented lead as the input example."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from convpredict.models.bundle import Bundle

from .mlflow_pyfunc import AnyType, ColSpec, ModelSignature, ParamSchema, ParamSpec, Schema, TensorSpec

RAW_COLUMNS = (
    "lead_id",
    "created_at",
    "cutoff",
    "interactions",
    "attribute_changes",
    "converted_at",
    "conversion_recorded_at",
)
_EXAMPLE_AGE_US = 70 * 3_600_000_000
_ANY = AnyType()  # type: ignore[no-untyped-call]
VALUE_COLUMNS = (
    "expected_value",
    "expected_value_low",
    "expected_value_high",
    "value",
    "value_low",
    "value_high",
)


def signature_of(bundle: Bundle) -> ModelSignature:
    """Inputs, outputs and parameters.

    Every input column is optional: a row has either the model's columns or the raw columns and attributes. Numbers
    of a feature table are doubles. What else there is has the type ``any``: MLflow would refuse a text
    column whose values are all missing in a CSV file, or whole numbers in a frame, and put the rows into its message.
    """
    columns = bundle.feature_set.columns
    attributes = lead_attributes(bundle)
    doubles = [c.name for c in columns if c.type == "number" and c.name not in {*RAW_COLUMNS, *attributes}]
    rest = dict.fromkeys((*RAW_COLUMNS, *attributes, *(c.name for c in columns if c.name not in doubles)))
    inputs: list[ColSpec | TensorSpec] = [ColSpec(_ANY, name, required=False) for name in rest]
    inputs += [ColSpec("double", name, required=False) for name in doubles]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in output_columns(bundle)]
    params = [
        ParamSpec("reasons", "boolean", False),
        ParamSpec("locale", "string", "en"),
        ParamSpec("top", "long", 3),
        ParamSpec("cutoff", "string", ""),
        ParamSpec("allow_later_rates", "boolean", False),
        ParamSpec("allow_untrained_ages", "boolean", False),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=ParamSchema(params))


def output_columns(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """The columns that are always there, and their MLflow types."""
    for horizon in bundle.horizons:
        yield f"p_convert_{horizon}", "double"
    if bundle.profile is not None:
        yield "score", "long"
    if bundle.value is not None:
        for name in VALUE_COLUMNS:
            yield name, "double"
    if bundle.scorecard is not None:
        yield "scorecard_points", "double"
        yield "scorecard_grade", "string"
    yield "model_digest", "string"
    yield "cross_lead_as_of", "string"


def lead_attributes(bundle: Bundle) -> dict[str, str]:
    """The lead attributes that the features read, with their types."""
    return {
        name: kind
        for (table, name), kind in bundle.feature_set.vocabularies.types.items()
        if table == "leads"
    }


def interaction_attributes(bundle: Bundle) -> dict[str, str]:
    """The attributes of the interactions that the features read, with their types; the kind is none of them."""
    types = bundle.feature_set.vocabularies.types
    return {name: kind for (table, name), kind in types.items() if table == "interactions" and name != "kind"}


def example_of(bundle: Bundle, cutoff: str = "2024-03-07T06:00:00+00:00") -> pd.DataFrame:
    """An invented lead with two interactions, as raw history, to be scored at a cutoff (ISO 8601 with an offset).

    It is 70 hours old, or as near to that as the leads that the model learnt from.
    """
    vocabularies = bundle.feature_set.vocabularies
    invented = {"category": "example", "number": 1.0, "time": "2024-01-01T00:00:00Z"}

    def value_of(table: str, name: str, kind: str) -> Any:
        known = vocabularies.get((table, name), ())
        return known[0] if known else invented[kind]

    lead = {name: value_of("leads", name, kind) for name, kind in lead_attributes(bundle).items()}
    event = {
        name: value_of("interactions", name, kind) for name, kind in interaction_attributes(bundle).items()
    }
    kind = value_of("interactions", "kind", "category")
    at = datetime.fromisoformat(cutoff)
    age_us = _EXAMPLE_AGE_US
    if bundle.ages is not None:
        age_us = min(max(age_us, bundle.ages.youngest_us), bundle.ages.oldest_us)
    created, *times = (
        (at - timedelta(microseconds=round(age_us * part))).isoformat() for part in (1, 68.5 / 70, 15 / 70)
    )
    row = {
        "lead_id": "example",
        "created_at": created,
        "cutoff": at.isoformat(),
        "interactions": [{"kind": kind, "occurred_at": time, **event} for time in times],
        **lead,
    }
    return pd.DataFrame([row])
