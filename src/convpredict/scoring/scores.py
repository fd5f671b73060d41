"""Score every open lead at one instant with a bundle, into a list that is sorted by probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from ..config.base import Duration
from ..config.reasons import ReasonsConfig
from ..engines.buckets import BUCKET_EVENTS
from ..features.batches import iterate_features
from ..history.history import History
from ..history.notebook_view import facts_html
from ..models.bundle import Bundle
from ..models.horizons import median_days
from ..training.observations import open_observations
from .lead_reasons import LeadReasons


@dataclass(frozen=True)
class Scores:
    """A scored lead list and the account of who is not on it.

    ``table``: lead_id, cutoff, run_id, model_name, model_version, p_convert_<horizon> (float64) for
    every horizon from the shortest to the longest, never falling, with more than one horizon
    median_days_to_conversion (given that it comes within the longest; null where it cannot be told), rank (by
    the bundle's horizon, 1 is the most likely; ties by lead_id) and, where the bundle predicts values,
    expected_value with its _low and _high (P times value, value_low and value_high; of customers, with outcome
    purchase, these themselves), value, value_low and
    value_high (revenue given a conversion and the interval of one lead's, in the currency of the data); where it has
    a scorecard, scorecard_points and scorecard_grade; where reasons are wanted, reasons_for, reasons_against and
    reason_contributions (see models.reasons); most likely lead first. ``excluded``: leads left out, by reason.
    """

    table: pa.Table = field(repr=False)
    probability_column: str
    excluded: dict[str, int]

    def __repr__(self) -> str:
        return f"Scores({self.table.num_rows:,} open leads by {self.probability_column})"

    def _repr_html_(self) -> str:
        p = self.table[self.probability_column].to_numpy()
        left_out = [f"{name} {count:,}" for name, count in self.excluded.items() if count]
        facts: dict[str, object] = {
            "open leads": len(p),
            "as of": f"{self.table['cutoff'][0].as_py():%Y-%m-%d %H:%M} UTC" if len(p) else None,
            "conversions expected": f"{p.sum():,.1f} (sum of {self.probability_column})",
            "highest probability": f"{p.max():.1%}" if len(p) else None,
            "median probability": f"{np.median(p):.2%}" if len(p) else None,
            "left out": ", ".join(left_out) or None,
            "columns of .table": ", ".join(self.table.column_names),
        }
        if "expected_value" in self.table.column_names:
            facts["revenue expected"] = f"{np.sum(self.table['expected_value'].to_numpy()):,.0f}"
        return facts_html(facts)


def score_open_leads(
    history: History,
    bundle: Bundle,
    *,
    as_of: datetime | None = None,
    max_age: Duration | None = None,
    run_id: str = "",
    bucket_events: int = BUCKET_EVENTS,
    progress: Callable[[float], None] | None = None,
    reasons: ReasonsConfig | None = None,
) -> Scores:
    """Score all leads that may be observed at ``as_of`` (default: the end of the data), bucket by bucket.

    ``reasons`` says how the leads are explained, in which language, and which of them (None: none).
    Raises BundleError if the history lacks what the bundle's features are computed from.
    """
    cutoff = (as_of or history.known_until).astimezone(UTC)
    bundle.feature_set.check_history(history)
    observed = open_observations(history, cutoff, max_age, bundle.outcome)
    probability: dict[Duration, list[np.ndarray]] = {horizon: [] for horizon in bundle.horizons}
    values_of: list[np.ndarray] = []
    points: list[np.ndarray] = []
    wanted = reasons if reasons is not None and reasons.leads != "none" else None
    told = LeadReasons(history, bundle, wanted, cutoff) if wanted is not None else None
    for batch in iterate_features(
        history, observed.table, bundle.feature_set, bucket_events=bucket_events, progress=progress
    ):
        frame = batch.to_pandas()
        for horizon, values in bundle.predict_horizons(frame).items():
            probability[horizon].append(values)
        if bundle.value is not None:
            values_of.append(np.column_stack(bundle.predict_value(frame)))
        if told is not None:
            told.see(frame)
        if bundle.scorecard is not None:
            points.append(bundle.scorecard.points(frame))
    predicted = {
        horizon: np.concatenate(values) if values else np.zeros(0) for horizon, values in probability.items()
    }
    p = predicted[bundle.horizon]
    order = np.lexsort((np.arange(len(p)), -p))
    name = f"p_convert_{bundle.horizon}"
    columns: dict[str, pa.Array] = {
        "lead_id": observed.table["lead_id"].combine_chunks(),
        "cutoff": observed.table["cutoff"].combine_chunks(),
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), len(p)),
        "model_name": pa.repeat(pa.scalar(bundle.name, pa.string()), len(p)),
        "model_version": pa.repeat(pa.scalar(bundle.digest, pa.string()), len(p)),
        **{f"p_convert_{horizon}": pa.array(values, pa.float64()) for horizon, values in predicted.items()},
    }
    last = next(reversed(columns))
    if len(predicted) > 1:
        last = "median_days_to_conversion"
        columns[last] = pa.array(median_days(predicted), pa.float64(), from_pandas=True)
    if bundle.value is not None:
        columns |= _value_columns(bundle, p, np.concatenate(values_of) if values_of else np.zeros((0, 3)))
    if bundle.scorecard is not None:
        total = np.concatenate(points) if points else np.zeros(0)
        columns["scorecard_points"] = pa.array(total, pa.float64())
        columns["scorecard_grade"] = pa.array(bundle.scorecard.grade(total), pa.string())
    if told is not None:
        columns |= told.columns(observed.table, p, bucket_events)
    table = pa.table(columns).take(pa.array(order))
    position = table.schema.get_field_index(last) + 1
    table = table.add_column(position, "rank", pa.array(np.arange(1, len(p) + 1), pa.int64()))
    return Scores(table, name, observed.excluded)


def _value_columns(bundle: Bundle, p: np.ndarray, values: np.ndarray) -> dict[str, pa.Array]:
    """The expected value and its ends, then the value given a conversion and its ends, in the currency of the data."""
    names = (
        "expected_value",
        "expected_value_low",
        "expected_value_high",
        "value",
        "value_low",
        "value_high",
    )
    expected = [bundle.expected_value(p, each) for each in values.T]
    amounts = np.column_stack([*expected, values])
    return {name: pa.array(amounts[:, i], pa.float64()) for i, name in enumerate(names)}
