"""The reasons of a scored list: for every lead, or for the share with the highest probability."""

from __future__ import annotations

from datetime import datetime
from math import ceil

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ..config.features import RateFeature
from ..config.reasons import ReasonsConfig
from ..features.batches import iterate_features
from ..features.feature_set import FeatureSet
from ..features.rates import outcome_instants
from ..history.history import History
from ..models.bundle import Bundle
from ..models.contributions import Explainer
from ..models.reasons import REASON_SCHEMA, explain_leads
from ..training.lead_times import to_microseconds


class LeadReasons:
    """Explains the leads of one scored list, as ``reasons`` of the configuration says."""

    def __init__(self, history: History, bundle: Bundle, config: ReasonsConfig, cutoff: datetime) -> None:
        self._history, self._bundle, self._config = history, bundle, config
        self._explainer = Explainer(bundle)
        self._averages = conversion_rates(history, bundle.feature_set, cutoff)
        self._told: list[pa.Table] = []

    def see(self, frame: pd.DataFrame) -> None:
        """Take the feature table of the next leads, and explain them if all leads are explained."""
        if self._config.leads == "all":
            self._told.append(self._explain(frame))

    def columns(
        self, observed: pa.Table, probability: npt.NDArray[np.float64], bucket_events: int
    ) -> dict[str, pa.Array]:
        """The columns of the reasons, a row per observation, null where a lead is not explained.

        Features of the share with the highest probability are built once more: keeping everybody's would take
        more memory than the list.
        """
        rows = np.arange(len(probability))
        if isinstance(self._config.leads, float):
            order = np.lexsort((rows, -probability))
            rows = np.sort(order[: ceil(self._config.leads * len(probability))])
            chosen = observed.take(pa.array(rows))
            batches = iterate_features(
                self._history, chosen, self._bundle.feature_set, bucket_events=bucket_events
            )
            self._told = [self._explain(batch.to_pandas()) for batch in batches]
        told = pa.concat_tables([REASON_SCHEMA.empty_table(), *self._told]).combine_chunks()
        place = np.full(len(probability), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        spread = told.take(pa.array(place, mask=place < 0))
        return {name: spread[name].combine_chunks() for name in REASON_SCHEMA.names}

    def _explain(self, frame: pd.DataFrame) -> pa.Table:
        return explain_leads(
            self._explainer,
            frame,
            columns=self._bundle.feature_set.model_columns,
            locale=self._config.locale,
            top=self._config.top,
            names=self._config.names.get(self._config.locale),
            averages=self._averages,
        )


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
