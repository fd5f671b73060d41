"""The output of the MLflow model for a batch of features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from convpredict.config.reasons import Locale
from convpredict.errors import DataError
from convpredict.models.bundle import Bundle
from convpredict.models.contributions import Explainer
from convpredict.models.reasons import REASON_SCHEMA, explain_leads

from .pyfunc_schema import VALUE_COLUMNS, output_columns


class LeadScores:
    """Scores batches with one bundle; ``version`` is the bundle's digest."""

    def __init__(self, bundle: Bundle, version: str) -> None:
        self.bundle = bundle
        self._version = version

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.bundle)

    def table(
        self,
        batch: pa.RecordBatch,
        params: Mapping[str, Any],
        *,
        cross_lead_as_of: str | None = None,
        averages: Mapping[int, float] | None = None,
    ) -> pd.DataFrame:
        """The columns of :func:`~.pyfunc_schema.output_columns`, and the reasons where ``params`` ask for them."""
        frame = batch.to_pandas()
        columns: dict[str, Any] = {
            f"p_convert_{horizon}": values for horizon, values in self.bundle.predict_horizons(frame).items()
        }
        if self.bundle.value is not None:
            p = columns[f"p_convert_{self.bundle.horizon}"]
            values = self.bundle.predict_value(frame)
            expected = [self.bundle.expected_value(p, each) for each in values]
            columns |= dict(zip(VALUE_COLUMNS, (*expected, *values), strict=True))
        if self.bundle.scorecard is not None:
            columns |= self._points(frame)
        columns["model_version"] = self._version
        columns["cross_lead_as_of"] = cross_lead_as_of
        names = [name for name, _ in output_columns(self.bundle)]
        table = pd.DataFrame(columns, index=range(len(frame)))[names]
        if params.get("reasons"):
            table = table.join(self._reasons(frame, params, averages or {}))
        return table

    def _points(self, frame: pd.DataFrame) -> dict[str, Any]:
        card = self.bundle.scorecard
        assert card is not None
        if not {term.column for term in card.terms or ()} <= set(frame.columns):
            return {"scorecard_points": np.full(len(frame), np.nan), "scorecard_grade": None}
        points = card.points(frame)
        return {"scorecard_points": points, "scorecard_grade": card.grade(points)}

    def _reasons(
        self, frame: pd.DataFrame, params: Mapping[str, Any], averages: Mapping[int, float]
    ) -> pd.DataFrame:
        locale, top = params.get("locale", "en"), params.get("top", 3)
        known = get_args(Locale)
        if locale not in known or not 1 <= top <= 20:
            raise DataError(
                f"the parameter locale is one of {', '.join(known)}, and top a number from 1 to 20; correct them"
            )
        told = explain_leads(
            self._explainer,
            frame,
            columns=self.bundle.feature_set.model_columns,
            locale=locale,
            top=int(top),
            averages=averages,
            n_jobs=1,
        )
        return pd.DataFrame({name: told[name].to_pylist() for name in REASON_SCHEMA.names})
