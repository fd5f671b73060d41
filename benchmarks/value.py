"""Do expected values add up to the truth, do intervals cover, and what does a call list by expected value lose?

    python benchmarks/value.py [--leads 50000] [--seeds 1 2 3] [--family auto --family mean ...] [--json]

Simulates funnels of 910 days, trains on what was known at day 560 (many value windows of 180 days are open then), and
judges on the cutoffs from there to day 700, whose windows the data covers to the end. The truth is the simulator's.
Three tables, means over the seeds with the standard deviation between them:

* the value of converted leads, by family, each lead counting one: predicted over actual and over true total,
  normalised Gini, ranks against revenue and truth, decile MAPE, RMSE, coverage and width of the 80 % interval;
* what becomes of windows that are open at training: completed, taken as complete, or left out;
* expected values (P x value) of all observations, also with either factor replaced by the truth, and the share of the
  true expected value that a weekly list of the best 5 % of the open leads captures, relative to the list by the truth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import Project, parse_project
from convpredict.evaluation.value_metrics import (
    coverage,
    decile_mape,
    mae,
    normalised_gini,
    rmse,
    spearman,
    total_ratio,
)
from convpredict.history.load import load_history
from convpredict.history.simulator import Simulation, simulate, simulation_config_tables
from convpredict.models.fitting import fit_conversion_model, fit_scorecard
from convpredict.models.scorecard import Scorecard
from convpredict.models.value import ValueModel
from convpredict.models.value_fitting import fit_value_model, followed_share, learn_development
from convpredict.training.training_set import TrainingSet, build_training_set

DAYS, TEST_FROM, LAST_CUTOFF, VALUE_HORIZON, HORIZON = 910, 560, 700, "180d", "30d"
LIST_SHARE = 0.05
FAMILIES = ("auto", "mean", "lognormal", "gamma", "tweedie", "zero_inflated_lognormal")
SCORECARD = {
    "name": "points set by feeling",
    "rules": [
        {"kind": "email_click", "points": 5},
        {"kind": "download", "points": 10},
        {"kind": "webinar", "points": 15},
        {"kind": "meeting", "points": 25},
        {"kind": "demo_request", "points": 30},
    ],
}


def measure(n_leads: int, seed: int, families: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The three tables of one simulated funnel."""
    simulator = SimulatorConfig(leads=n_leads, seed=seed, days=DAYS)
    truth = simulate(simulator, folder)
    project = _project(simulator, truth, folder)
    history = load_history(project.config, project.data_dir, require=("conversions",))
    card = Scorecard(project.config.scorecard)
    training_set = build_training_set(history, project, extra_features=card.declarations())
    models = {
        family: fit_value_model(
            training_set,
            project.config.value.model_copy(update={"family": family}),
            project.config.labels,
            history=history,
        )
        for family in families
    }
    converted = _converted(training_set, truth)
    values = {
        "zero for everybody": _value_figures(converted, np.zeros(len(converted)), None),
        "mean of all": _value_figures(converted, np.full(len(converted), _training_mean(training_set)), None),
    }
    for family, model in models.items():
        rows = training_set.X("test").loc[converted.index]
        figures = _value_figures(converted, model.predict(rows), model.predict_interval(rows))
        values[f"auto ({model.candidate_.family})" if family == "auto" else family] = figures
    return {
        "seed": seed,
        "value": values,
        "open_windows": _open_windows(training_set, project, history, converted),
        "expected_value": _expected(training_set, project, truth, card, models[families[0]]),
    }


def _project(simulator: SimulatorConfig, truth: Simulation, folder: Path) -> Project:
    start = truth.known_until - timedelta(days=DAYS)
    cutoffs = {"every": "14d", "end": (start + timedelta(days=LAST_CUTOFF)).isoformat()}
    return parse_project(
        {
            "name": "value",
            "data": str(folder),
            **simulation_config_tables(simulator),
            "observations": {"cutoffs": cutoffs, "max_age": "120d"},
            "labels": {"horizons": [HORIZON], "value_horizon": VALUE_HORIZON},
            "split": {"test_from": (start + timedelta(days=TEST_FROM)).isoformat()},
            "scorecard": SCORECARD,
        }
    )


def _converted(training_set: TrainingSet, truth: Simulation) -> pd.DataFrame:
    """Converted test rows: revenue, its true mean, and the weight that lets each lead count one."""
    part = training_set.part("test")
    part = part[training_set.y("test").to_numpy() == 1]
    ids, cutoffs = part["lead_id"].to_numpy(), part["cutoff"].to_numpy()
    mean = truth.true_value(ids, cutoffs, HORIZON, VALUE_HORIZON) / truth.true_probability(
        ids, cutoffs, HORIZON
    )
    _, code, count = np.unique(ids, return_inverse=True, return_counts=True)
    return pd.DataFrame(
        {"revenue": part["revenue"].to_numpy(), "truth": mean, "weight": 1.0 / count[code]}, index=part.index
    )


def _taught(training_set: TrainingSet) -> pd.DataFrame:
    frame = training_set.frame
    return frame[
        (frame["split"] != "test") & (frame[f"label_{HORIZON}"] == 1) & (frame["revenue_followed_us"] >= 0)
    ]


def _training_mean(training_set: TrainingSet) -> float:
    """Mean revenue of the converted leads whose window was complete when the test part began."""
    rows = _taught(training_set)
    complete = rows[rows["revenue_followed_us"] >= int(VALUE_HORIZON[:-1]) * 86_400_000_000]
    return float(complete.groupby("lead_id")["revenue"].mean().mean())


def _value_figures(
    rows: pd.DataFrame, predicted: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, float]:
    actual, truth, weight = (rows[name].to_numpy() for name in ("revenue", "truth", "weight"))
    return {
        "over actual": total_ratio(actual, predicted, weight=weight),
        "over truth": total_ratio(truth, predicted, weight=weight),
        "gini": normalised_gini(actual, predicted, weight=weight),
        "spearman": spearman(actual, predicted, weight=weight),
        "with truth": spearman(truth, predicted, weight=weight),
        "decile MAPE": decile_mape(actual, predicted, weight=weight),
        "RMSE": rmse(actual, predicted, weight=weight),
        "MAE": mae(actual, predicted, weight=weight),
        "coverage": np.nan if ends is None else coverage(actual, *ends, weight=weight),
        "width": np.nan if ends is None else float(np.average(ends[1] - ends[0], weights=weight)),
    }


def _open_windows(
    training_set: TrainingSet, project: Project, history: Any, converted: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Total over truth of one family by what is done with windows that are open at training."""
    rows = _taught(training_set)
    labels, names = project.config.labels, list(training_set.feature_set.model_names)
    followed = followed_share(rows, labels)
    choices = {
        "completed, by course": {"development": learn_development(training_set, rows, labels, history)},
        "completed, by totals": {},
        "taken as complete": None,
        "left out": None,
    }
    result = {}
    for name, options in choices.items():
        used = followed >= 1.0 if name == "left out" else np.ones(len(rows), np.bool_)
        options = {} if options is None else {"followed_share": followed[used], **options}
        model = ValueModel(family="lognormal").fit(
            rows.loc[used, names],
            rows.loc[used, "revenue"].to_numpy(),
            groups=rows.loc[used, "lead_id"].to_numpy(),
            times=rows.loc[used, "cutoff"].to_numpy(),
            **options,
        )
        predicted = model.predict(training_set.X("test").loc[converted.index])
        weight, truth = converted["weight"].to_numpy(), converted["truth"].to_numpy()
        result[name] = {
            "converted leads": model.n_leads_,
            "over truth": total_ratio(truth, predicted, weight=weight),
            "with truth": spearman(truth, predicted, weight=weight),
            "RMS log error": float(np.sqrt(np.average(np.log(predicted / truth) ** 2, weights=weight))),
        }
    return result


def _expected(
    training_set: TrainingSet, project: Project, truth: Simulation, card: Scorecard, value: ValueModel
) -> dict[str, dict[str, float]]:
    """Totals of expected values, and what the lists of each night capture of the best list's true value."""
    part, rows = training_set.part("test"), training_set.X("test")
    model = fit_conversion_model(training_set, project.config.model)
    p = model.predict_proba(rows)[:, 1]
    ids, cutoffs = part["lead_id"].to_numpy(), part["cutoff"].to_numpy()
    true = truth.true_value(ids, cutoffs, HORIZON, VALUE_HORIZON)
    true_p = truth.true_probability(ids, cutoffs, HORIZON)
    predicted = value.predict(rows)
    actual = np.where(training_set.y("test").to_numpy() == 1, np.nan_to_num(part["revenue"].to_numpy()), 0.0)
    scores = {
        "truth": true,
        "P x value": p * predicted,
        "true P x value": true_p * predicted,
        "P x true value": p * true / true_p,
        "P alone": p,
        "scorecard": fit_scorecard(training_set, card).points(part),
        "random": np.random.default_rng(0).random(len(part)),
    }
    result = {}
    for name, score in scores.items():
        amounts = name == "truth" or name.endswith(" value")
        result[name] = {
            "over truth": total_ratio(true, score) if amounts else np.nan,
            "over actual": total_ratio(actual, score) if amounts else np.nan,
            "gini": normalised_gini(actual, score),
            "captured": _captured(part["cutoff"].to_numpy(), score, true)
            / _captured(part["cutoff"].to_numpy(), true, true),
        }
        result[name]["regret"] = 1.0 - result[name]["captured"]
    return result


def _captured(cutoff: np.ndarray, score: np.ndarray, true: np.ndarray) -> float:
    """True expected value of the best 5 % of the open leads by a score, over all nights."""
    total = 0.0
    for night in np.unique(cutoff):
        rows = np.flatnonzero(cutoff == night)
        size = max(1, round(LIST_SHARE * len(rows)))
        total += float(true[rows[np.argsort(-score[rows], kind="stable")[:size]]].sum())
    return total


def _print(title: str, tables: list[dict[str, dict[str, float]]]) -> None:
    print(f"\n{title}")
    kinds = list(dict.fromkeys(name for table in tables for name in table))
    columns = list(next(iter(tables[0].values())))
    print(f"{'':>34}" + "".join(f"{column:>20}" for column in columns))
    for kind in kinds:
        found = [table[kind] for table in tables if kind in table]
        cells = ""
        for column in columns:
            numbers = np.array([entry[column] for entry in found])
            cells += f"{f'{numbers.mean():,.3f} +- {numbers.std():,.3f}':>20}"
        print(f"{f'{kind} (n={len(found)})':>34}" + cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            families = tuple(arguments.family or FAMILIES)
            results.append(measure(arguments.leads, seed, families, Path(folder)))
    if arguments.json:
        print(json.dumps(results))
        return
    _print(
        "Value of converted leads (mean +- deviation between seeds)", [entry["value"] for entry in results]
    )
    _print("Windows that are open at training (lognormal)", [entry["open_windows"] for entry in results])
    _print("Expected value of all observations", [entry["expected_value"] for entry in results])


if __name__ == "__main__":
    main()
