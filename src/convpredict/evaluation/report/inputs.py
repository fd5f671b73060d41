"""What a report is made from; everything but the judged part is optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from convpredict.config.base import Duration
from convpredict.training.lead_ages import LearntAges

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
        columns concept, importance (mean absolute contribution on the logit), label (of its main column) and
        direction ("higher is likelier", "higher is less likely", other words, or a number by its sign).
    ``leakage``
        ``LeakageReport.to_dict()``: ``findings``, each with name, severity, columns, evidence, remedy, waived,
        reason. None: nobody looked.
    ``value``
        result of :func:`.value_judgement.judge_value`: ``deciles`` (rows, predicted, actual totals, the highest
        first), ``expected_value`` and ``value`` (who predicts, to metrics).
    ``horizons``
        ``metrics["horizons"]``: by horizon an entry per metric, and ``counts``; None where one class only is known.
    ``calls``
        result of :func:`.calls.replay_calls`; without it the lists are replayed for the report alone.
    ``calls_per_week``
        capacity to start with (None: a twentieth of the leads on a list).
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
    def horizon_days(self) -> float:
        """The horizon in days."""
        return Duration(self.horizon).microseconds / 86_400_000_000

    @property
    def horizon_text(self) -> str:
        """The horizon in words: ``30 days``, ``1.5 days``, ``1 day``."""
        return f"{self.horizon_days:g} day" if self.horizon_days == 1 else f"{self.horizon_days:g} days"

    @property
    def learnt_ages(self) -> str:
        """The ages of the leads that were learnt from, in words; empty where the manifest does not tell."""
        stored = (self.manifest or {}).get("learnt_ages")
        return str(LearntAges.from_dict(stored)) if stored else ""

    @property
    def points(self) -> pd.Series[Any] | None:
        """The scorecard's points, if there is a scorecard."""
        points = self.predictions.get("scorecard_points")
        return None if points is None or points.isna().all() else points
