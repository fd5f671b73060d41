"""The reasons of a scored list: for every lead, or for the share with the highest probability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from math import ceil

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..config.features import RateFeature
from ..config.reasons import ReasonsConfig
from ..engines.buckets import BUCKET_EVENTS
from ..features.batches import map_features
from ..features.feature_set import FeatureSet
from ..features.rates import outcome_instants
from ..history.history import History
from ..models.bundle import Bundle
from ..models.contributions import Explainer
from ..models.reasons import REASON_SCHEMA, explain_leads
from ..training.lead_times import to_microseconds


class LeadReasons:
    """Explains leads as ``reasons`` of the configuration says; usable from several threads at once.

    What it says of a lead does not depend on which others are explained: only on the history, the bundle and the
    cutoff.
    """

    def __init__(self, history: History, bundle: Bundle, config: ReasonsConfig, cutoff: datetime) -> None:
        self._bundle, self._config = bundle, config
        self._explainer = Explainer(bundle)
        self._averages = conversion_rates(history, bundle.feature_set, cutoff)

    def explain(self, batch: pa.RecordBatch, *, n_jobs: int | None = 1) -> pa.Table:
        """The reasons of each row of a feature table with lead_id and cutoff (columns of ``REASON_SCHEMA``)."""
        return explain_leads(
            self._explainer,
            batch.to_pandas(),
            columns=self._bundle.feature_set.model_columns,
            locale=self._config.locale,
            top=self._config.top,
            names=self._config.names.get(self._config.locale),
            averages=self._averages,
            n_jobs=n_jobs,
        )


def explained_rows(probability: npt.NDArray[np.float64], config: ReasonsConfig) -> npt.NDArray[np.intp]:
    """Which rows of a list are explained, ascending: all, none, or the share with the highest probability (rounded up;
    of equal ones the first).

    >>> explained_rows(np.array([0.1, 0.4, 0.4, 0.3]), ReasonsConfig(leads=0.4)).tolist()
    [1, 2]
    """
    rows = np.arange(len(probability))
    if config.leads == "none":
        return rows[:0]
    if config.leads == "all":
        return rows
    order = np.lexsort((rows, -probability))
    return np.sort(order[: ceil(config.leads * len(probability))])


def explain_observations(
    history: History,
    observations: pa.Table,
    bundle: Bundle,
    config: ReasonsConfig,
    cutoff: datetime,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> pa.Table:
    """The reasons of chosen observations (lead_row, lead_id, cutoff, sorted), a row each, in their order.

    ``config.leads`` plays no role: whoever chose the observations has looked at it (:func:`explained_rows`). Their
    features are built anew, which takes less memory than keeping everybody's. ``cutoff`` is that of the list: the
    averages that rates are compared with are what was known then. Columns as ``REASON_SCHEMA``.
    """
    pieces = iterate_reasons(
        history,
        observations,
        bundle,
        config,
        cutoff,
        bucket_events=bucket_events,
        n_jobs=n_jobs,
        progress=progress,
    )
    return pa.concat_tables([REASON_SCHEMA.empty_table(), *(told for _, told in pieces)]).combine_chunks()


def iterate_reasons(
    history: History,
    observations: pa.Table,
    bundle: Bundle,
    config: ReasonsConfig,
    cutoff: datetime,
    *,
    bucket_events: int = BUCKET_EVENTS,
    n_jobs: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, pa.Table]]:
    """:func:`explain_observations` piece by piece: the position of the first row of each, and its reasons."""
    reasons = LeadReasons(history, bundle, config, cutoff)

    def explain(_: int, batch: pa.RecordBatch) -> pa.Table:
        return reasons.explain(batch)

    requests = [(observations, bundle.feature_set)]
    for _, first, told in map_features(
        history, requests, explain, bucket_events=bucket_events, n_jobs=n_jobs, progress=progress
    ):
        yield first, told


def spread_reasons(told: pa.Table, rows: npt.NDArray[np.intp], n_rows: int) -> pa.Table:
    """Reasons of some rows (ascending positions) as a table of all rows, null where a row is not explained."""
    place = np.full(n_rows, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return told.combine_chunks().take(pa.array(place, mask=place < 0))


def conversion_rates(history: History, feature_set: FeatureSet, cutoff: datetime) -> dict[int, float]:
    """The conversion rate of all leads as of the cutoff, by the span in µs of each rate in the feature set.

    Leads whose span has ended count, as in the features; a span that has ended for no lead has no rate.
    """
    at = to_microseconds(cutoff)
    declarations = [column.declaration for column in feature_set.model_columns]
    spans = {d.within.microseconds for d in declarations if isinstance(d, RateFeature)}
    rates = {}
    for span in sorted(spans):
        settled_from, converted_from = outcome_instants(history, span)
        settled = int((settled_from <= at).sum())
        if settled:
            rates[span] = float((converted_from <= at).sum()) / settled
    return rates
