"""An AutoML ensemble on the very rows and features of a configuration's training set: a reference for quality.py.

    pip install 'convpredict[benchmarks]'
    python benchmarks/automl.py configs/school_crm.yaml --data ../shared/data/school_crm --out automl.parquet \
        --beside runs/RUN/test_predictions.parquet

FLAML searches LightGBM, XGBoost, random forests, extra trees, CatBoost (where installed) and a linear model within
``--minutes`` (8). It validates with leads kept whole (``--validate group``; it then stacks the best of each kind) or
forward in time (``--validate time``; FLAML cannot stack these). It learns from every row whose label was known before
the test part, as our model does. Its predictions of the test part (lead_id, cutoff, label, p) are written to
``--out``. ``--beside`` names the test predictions of a training run on the same configuration: the difference, ours
minus AutoML's, has an interval from resampling leads. *levelled* is log loss after a constant on the logit, fitted to
the test part itself, made the predictions add up: hindsight, granted to both.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from convpredict.config.load import load_project
from convpredict.evaluation.metrics import calibration_ratio
from convpredict.models.calibration import level_shift
from convpredict.training.training_set import TrainingSet, build_training_set
from convpredict.workflows.common import read_history
from protocols.rows import paired

METRICS = ("auc", "average_precision", "log_loss")


def predict_by_automl(training_set: TrainingSet, *, minutes: float, validate: str, n_jobs: int) -> np.ndarray:
    """Probabilities of the test part by FLAML; rows are given in the order of their cutoffs."""
    from flaml import AutoML

    part = training_set.part("development").sort_values(["cutoff", "lead_id"], kind="stable")
    names = list(training_set.feature_set.model_names)
    label = part[training_set.y("train").name].to_numpy()
    settings: dict[str, object] = {"split_type": "time"}
    if validate == "group":
        leads = pd.factorize(part["lead_id"])[0]
        settings = {"split_type": "group", "groups": leads, "ensemble": True}
    automl = AutoML()
    automl.fit(
        part[names].reset_index(drop=True),
        label,
        task="classification",
        metric="log_loss",
        time_budget=60 * minutes,
        eval_method="cv",
        n_splits=4,
        n_jobs=n_jobs,
        seed=0,
        verbose=0,
        **settings,
    )
    best = {name: loss for name, loss in automl.best_loss_per_estimator.items() if np.isfinite(loss)}
    print(f"best {automl.best_estimator}; validated log loss {json.dumps(best, default=float)}", flush=True)
    return np.asarray(automl.predict_proba(training_set.X("test").reset_index(drop=True)))[:, 1]


def compare(predictions: pd.DataFrame, run: Path | None) -> str:
    """A line per metric: AutoML's value, ours and the difference with their intervals."""
    frame = predictions.assign(p_ours=predictions["p"])
    if run is not None:
        ours = pd.read_parquet(run).drop(columns="label").rename(columns={"p": "p_ours"})
        frame = predictions.merge(ours, on=["lead_id", "cutoff"], validate="one_to_one")
        if len(frame) != len(predictions):
            raise SystemExit(f"{run} holds other test observations; train on the same configuration and data")
    label, reference, p_ours = (frame[name].to_numpy(np.float64) for name in ("label", "p", "p_ours"))
    entries = paired(label, p_ours, reference, frame["lead_id"], METRICS)
    levelled = paired(
        label, _levelled(p_ours, label), _levelled(reference, label), frame["lead_id"], ("log_loss",)
    )
    entries["log_loss, levelled"] = levelled["log_loss"]
    lines = [f"{'':<22}{'AutoML':>30}{'ours':>30}{'ours minus AutoML':>32}"]
    for metric, found in entries.items():
        cells = (f"{v:.5f} [{low:.5f}, {high:.5f}]" for v, low, high in (found["reference"], found["ours"]))
        gap = "{:+.5f} [{:+.5f}, {:+.5f}]".format(*found["difference"]) if run is not None else ""
        lines.append(f"{metric:<22}" + "".join(f"{cell:>30}" for cell in cells) + f"{gap:>32}")
    ratios = [calibration_ratio(label, p) for p in (reference, p_ours)]
    lines.append(f"{'predicted / observed':<22}{ratios[0]:>30.3f}{ratios[1]:>30.3f}")
    return "\n".join(lines)


def _levelled(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    z = logit(np.clip(p, 1e-9, 1 - 1e-9))
    return expit(z + level_shift(z, float(label.sum())))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, nargs="?", help="left out: only compare --out with --beside")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--validate", choices=("group", "time"), default="group")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    arguments = parser.parse_args()
    if arguments.config is not None:
        project = load_project(arguments.config, data=arguments.data)
        training_set = build_training_set(read_history(project, require=("conversions",)), project)
        started = time.monotonic()
        p = predict_by_automl(
            training_set, minutes=arguments.minutes, validate=arguments.validate, n_jobs=arguments.jobs
        )
        print(f"{time.monotonic() - started:.0f} s of wall time")
        test = training_set.part("test")
        label = training_set.y("test").to_numpy()
        predictions = pd.DataFrame(
            {
                "lead_id": test["lead_id"].astype(str).to_numpy(),
                "cutoff": test["cutoff"].array,
                "label": label,
                "p": p,
            }
        )
        predictions.to_parquet(arguments.out)
    print(compare(pd.read_parquet(arguments.out), arguments.beside))


if __name__ == "__main__":
    main()
