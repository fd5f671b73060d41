"""Rows of the table that quality.py prints, and the two ways in which they come about."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from convpredict import workflows
from convpredict.evaluation.metrics import auc, average_precision, log_loss
from convpredict.evaluation.ranking import Ranking
from convpredict.evaluation.resampling import interval, resample_leads

ROOT = Path(__file__).parent.parent.parent
RESAMPLES = 500
Row = dict[str, Any]
Metric = Callable[..., float]
METRICS: Mapping[str, Metric] = {"auc": auc, "average_precision": average_precision, "log_loss": log_loss}


def row(
    data_set: str,
    protocol: str,
    metric: str,
    ours: float | None,
    low: float | None = None,
    high: float | None = None,
    reference: float | None = None,
    reference_name: str = "",
    *,
    met: bool | None = None,
) -> Row:
    """One line: our figure with its 95 % interval (resampled leads), the reference, and whether the bar is met.

    ``met`` None: there is no bar.
    """
    return {
        "data_set": data_set,
        "protocol": protocol,
        "metric": metric,
        "ours": ours,
        "low": low,
        "high": high,
        "reference": reference,
        "reference_name": reference_name,
        "met": met,
    }


@dataclass(frozen=True)
class TrainedRun:
    """What ``convpredict train`` left behind: its metrics on the test part, and the test predictions."""

    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    folder: Path

    def entry(self, metric: str, who: str = "model") -> tuple[float, float | None, float | None]:
        """Value, low and high of a metric of ``model``, ``scorecard`` or ``difference``."""
        found = self.metrics["test"][who][metric]
        return found["value"], found["low"], found["high"]


@contextmanager
def trained(name: str, data: Path, overrides: Sequence[str] = ()) -> Iterator[TrainedRun]:
    """Train on ``configs/<name>.yaml`` exactly as ``convpredict train`` does; the folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run = workflows.train(
            ROOT / f"configs/{name}.yaml", out=out, data=data / name, overrides=overrides, track=False
        )
        predictions = pq.read_table(out / "test_predictions.parquet").to_pandas()
        yield TrainedRun(run.metrics, predictions, out)


def paired(
    label: np.ndarray, ours: np.ndarray, reference: np.ndarray | None, lead_ids: Any, metrics: Sequence[str]
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Per metric the value, low and high of ours, of the reference and of their difference, on the same resamples.

    Scores have the shape (rows,), or (repeats, rows): the metric is then the mean over the repeats.
    """
    scores = [ours] if reference is None else [ours, reference]
    measures = [[_weighed(metric, label, np.atleast_2d(score)) for score in scores] for metric in metrics]
    drawn = resample_leads(
        lambda weight: np.array([measure(weight) for both in measures for measure in both]),
        lead_ids,
        resamples=RESAMPLES,
    )
    value = drawn.value.reshape(len(metrics), -1)
    draws = drawn.draws.reshape(RESAMPLES, len(metrics), -1)
    result = {}
    for i, metric in enumerate(metrics):
        entries = {"ours": _with_interval(value[i, 0], draws[:, i, 0])}
        if reference is not None:
            entries["reference"] = _with_interval(value[i, 1], draws[:, i, 1])
            entries["difference"] = _with_interval(value[i, 0] - value[i, 1], draws[:, i, 0] - draws[:, i, 1])
        result[metric] = entries
    return result


def _with_interval(value: float, draws: np.ndarray) -> tuple[float, float, float]:
    return float(value), *interval(float(value), draws)


def _weighed(metric: str, label: np.ndarray, repeats: np.ndarray) -> Callable[[np.ndarray | None], float]:
    """The metric as a function of row weights; rankings are sorted once, not once per resample."""
    if metric in ("auc", "average_precision"):
        rankings = [getattr(Ranking(label, score), metric) for score in repeats]
        return lambda weight: float(np.mean([ranking(weight) for ranking in rankings]))
    function = METRICS[metric]
    return lambda weight: float(np.mean([function(label, score, weight=weight) for score in repeats]))


def plain_lightgbm(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    """What a data scientist writes first: 200 trees of 31 leaves at .05, categories as LightGBM takes them."""
    import lightgbm

    model = lightgbm.LGBMClassifier(
        n_estimators=200, learning_rate=0.05, num_leaves=31, random_state=0, n_jobs=1, verbose=-1
    )
    return np.asarray(model.fit(train, y).predict_proba(test))[:, 1]
