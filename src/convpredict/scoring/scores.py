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
from ..models.bundle import Bundle
from ..training.observations import open_observations
from .lead_reasons import LeadReasons


@dataclass(frozen=True)
class Scores:
    """A scored lead list and the account of who is not on it.

    ``table``: lead_id, cutoff, run_id, model_name, model_version, p_convert_<horizon> (float64), rank (1 is
    the most likely; ties by lead_id) and, where the bundle has a scorecard, scorecard_points and
    scorecard_grade, and, where reasons are wanted, reasons_for, reasons_against and reason_contributions (see
    models.reasons); most likely lead first. ``excluded``: leads left out, by reason.
    """

    table: pa.Table = field(repr=False)
    probability_column: str
    excluded: dict[str, int]


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
    observed = open_observations(history, cutoff, max_age)
    probability: list[np.ndarray] = []
    points: list[np.ndarray] = []
    wanted = reasons if reasons is not None and reasons.leads != "none" else None
    told = LeadReasons(history, bundle, wanted, cutoff) if wanted is not None else None
    for batch in iterate_features(
        history, observed.table, bundle.feature_set, bucket_events=bucket_events, progress=progress
    ):
        frame = batch.to_pandas()
        probability.append(bundle.predict(frame))
        if told is not None:
            told.see(frame)
        if bundle.scorecard is not None:
            points.append(bundle.scorecard.points(frame))
    p = np.concatenate(probability) if probability else np.zeros(0)
    order = np.lexsort((np.arange(len(p)), -p))
    name = f"p_convert_{bundle.horizon}"
    columns: dict[str, pa.Array] = {
        "lead_id": observed.table["lead_id"].combine_chunks(),
        "cutoff": observed.table["cutoff"].combine_chunks(),
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), len(p)),
        "model_name": pa.repeat(pa.scalar(bundle.name, pa.string()), len(p)),
        "model_version": pa.repeat(pa.scalar(bundle.digest, pa.string()), len(p)),
        name: pa.array(p, pa.float64()),
    }
    if bundle.scorecard is not None:
        total = np.concatenate(points) if points else np.zeros(0)
        columns["scorecard_points"] = pa.array(total, pa.float64())
        columns["scorecard_grade"] = pa.array(bundle.scorecard.grade(total), pa.string())
    if told is not None:
        columns |= told.columns(observed.table, p, bucket_events)
    table = pa.table(columns).take(pa.array(order))
    position = table.schema.get_field_index(name) + 1
    table = table.add_column(position, "rank", pa.array(np.arange(1, len(p) + 1), pa.int64()))
    return Scores(table, name, observed.excluded)
