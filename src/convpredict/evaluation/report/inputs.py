"""What a report is made from; everything but the judged part is optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Tables = Mapping[str, Any]


@dataclass(frozen=True)
class ReportInputs:
    """The content of a report. Without an optional part its section is left out, or says that it is missing.

    ``name``, ``run_id``, ``horizon``
        of the run; ``horizon`` like ``30d``.
    ``metrics``
        ``metrics.json`` (see :func:`.comparison.evaluate`); the part ``part`` of it is reported.
    ``predictions``
        one row per judged observation: lead_id, cutoff, label (0 or 1), p, and where there is one
        scorecard_points (NaN: none), expected_value (p times value), revenue (what came; NaN: nothing).
        Ids are only counted and grouped by; none is written.
    ``segments``
        lead attributes, a column each (its name is shown), rows as in ``predictions``.
    ``manifest``
        of the training set: parts, spans, positives, exclusions.
    ``validation``
        the report on the history as plain data (``ValidationReport.to_dict()``).
    ``model_card``
        how the model was made: plain names to numbers, texts or mappings (see :func:`.from_run.describe_model`).
    ``importance``
        columns concept, mean_abs (mean absolute contribution on the logit) and direction (text, or a number:
        positive where more of it raises the probability).
    ``leakage``
        ``LeakageReport.to_dict()``: ``findings``, each with name, severity, columns, evidence, remedy, waived,
        reason. None: nobody looked.
    ``value``
        ``deciles`` (frame or list of mappings: predicted, actual, and where given rows, actual_low,
        actual_high) and ``metrics`` (name to number or entry).
    ``horizons``
        by horizon: an entry per metric, and ``counts``, as in a part of ``metrics``.
    ``calls``
        result of :func:`.calls.replay_calls`; without it the lists are replayed for the report alone.
    ``calls_per_week``
        capacity to start with (None: a twentieth of the open leads).
    ``currency``
        of revenue, as it is shown behind amounts.
    ``notes``
        warnings to show among the limits.
    ``test_looks``
        how often results on the test part were looked at before this one, where somebody counted.
    ``resamples``, ``seed``
        of intervals that are computed for the report.
    """

    name: str
    run_id: str
    horizon: str
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame = field(repr=False)
    part: str = "test"
    segments: pd.DataFrame | None = field(default=None, repr=False)
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)
    validation: Mapping[str, Any] | None = field(default=None, repr=False)
    model_card: Mapping[str, Any] | None = field(default=None, repr=False)
    importance: pd.DataFrame | None = field(default=None, repr=False)
    leakage: Tables | None = field(default=None, repr=False)
    value: Tables | None = field(default=None, repr=False)
    horizons: Tables | None = field(default=None, repr=False)
    calls: Tables | None = field(default=None, repr=False)
    calls_per_week: float | None = None
    currency: str = ""
    notes: tuple[str, ...] = ()
    test_looks: int | None = None
    resamples: int = 200
    seed: int = 0

    @property
    def judged(self) -> Mapping[str, Any]:
        """The reported part of the metrics.

        Raises ``KeyError`` if the metrics have no such part.
        """
        if self.part not in self.metrics:
            raise KeyError(f"the metrics have no part '{self.part}'; they have: {', '.join(self.metrics)}")
        found: Mapping[str, Any] = self.metrics[self.part]
        return found

    @property
    def confidence(self) -> float:
        """Of all intervals."""
        return float(self.judged["interval"]["confidence"])

    @property
    def points(self) -> pd.Series[Any] | None:
        """The scorecard's points, if there is a scorecard."""
        points = self.predictions.get("scorecard_points")
        return None if points is None or points.isna().all() else points
