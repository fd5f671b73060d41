"""The output of the MLflow model for a batch of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.config.reasons import Locale
from convpredict.errors import DataError
from convpredict.models.batch_scoring import BatchScorer
from convpredict.models.bundle import Bundle
from convpredict.models.contributions import Explainer
from convpredict.models.reasons import REASON_SCHEMA, explain_leads

from .pyfunc_schema import VALUE_COLUMNS, output_columns

_MOST_REASONS = 20


class LeadScores:
    """Scores batches with one bundle; ``digest`` is the bundle's."""

    def __init__(self, bundle: Bundle, digest: str) -> None:
        self.bundle = bundle
        self._digest = digest
        self._scorer = BatchScorer(bundle)
        self._names = [name for name, _ in output_columns(bundle)]

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.bundle)

    def table(
        self,
        batch: pa.RecordBatch,
        params: Mapping[str, Any],
        *,
        cutoffs: Sequence[int] | None = None,
        cross_lead_as_of: str | None = None,
        averages: Mapping[int, float] | None = None,
    ) -> pd.DataFrame:
        """The columns of :func:`~.pyfunc_schema.output_columns`, and the reasons where ``params`` ask for them.

        ``cutoffs`` (µs) let reasons say "yesterday", ``averages`` let them compare rates, see ``models.reasons``.
        """
        _check(params)
        scored = self._scorer.score(_with_card_columns(batch, self.bundle))
        columns: dict[str, Any] = {f"p_convert_{h}": values for h, values in scored.probabilities.items()}
        if scored.score is not None:
            columns["score"] = scored.score.astype(np.int64)
        if scored.value is not None:
            p = scored.probabilities[self.bundle.horizon]
            values = (scored.value, scored.value_low, scored.value_high)
            expected = [self.bundle.expected_value(p, each) for each in values if each is not None]
            columns |= dict(zip(VALUE_COLUMNS, (*expected, *values), strict=True))
        if scored.points is not None:
            read = (
                {term.column for term in self.bundle.scorecard.terms or ()}
                if self.bundle.scorecard
                else set()
            )
            known = read <= set(batch.schema.names)
            columns["scorecard_points"] = scored.points if known else np.full(scored.rows, np.nan)
            columns["scorecard_grade"] = scored.grades if known else None
        columns["model_digest"] = self._digest
        columns["cross_lead_as_of"] = cross_lead_as_of
        table = pd.DataFrame({name: columns[name] for name in self._names}, index=range(scored.rows))
        if params.get("reasons"):
            frame = batch.to_pandas()
            if cutoffs is not None:
                frame["cutoff"] = pd.to_datetime(np.array(cutoffs, np.int64), unit="us", utc=True)
            table = table.join(self._reasons(frame, params, averages or {}))
        return table

    def _reasons(
        self, frame: pd.DataFrame, params: Mapping[str, Any], averages: Mapping[int, float]
    ) -> pd.DataFrame:
        told = explain_leads(
            self._explainer,
            frame,
            columns=self.bundle.feature_set.model_columns,
            locale=params.get("locale", "en"),
            top=int(params.get("top", 3)),
            averages=averages,
            n_jobs=1,
        )
        return pd.DataFrame({name: told[name].to_pylist() for name in REASON_SCHEMA.names})


def _check(params: Mapping[str, Any]) -> None:
    known = get_args(Locale)
    if params.get("locale", "en") not in known or not 1 <= params.get("top", 3) <= _MOST_REASONS:
        raise DataError(
            f"the parameter locale is one of {', '.join(known)}, and top a number from 1 to {_MOST_REASONS}; "
            "correct them"
        )


def _with_card_columns(batch: pa.RecordBatch, bundle: Bundle) -> pa.RecordBatch:
    """The batch with columns that only the scorecard reads, empty where a feature table came without them."""
    there = set(batch.schema.names)
    lacking = [column for column in bundle.feature_set.columns if column.name not in there]
    for column in lacking:
        if column.type == "number":
            empty = pa.array(np.full(batch.num_rows, np.nan, np.float32))
        else:
            codes = pa.nulls(batch.num_rows, pa.int32())
            empty = pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string()))
        batch = batch.append_column(column.name, empty)
    return batch
