"""How fast leads are explained: python benchmarks/shap.py [--quick] [--json]; prints a table of ratios.

Our TreeSHAP and LightGBM's ``predict(pred_contrib=True)`` take turns in one process on the same rows and with the same
number of threads; a line gives the medians over the repeats, and the ratio's range over pairs of turns. Data and models
are made here: 150 columns (numbers with missing values, coarse numbers, eight categories), 63 leaves and 300 trees as a
large model, 7 leaves and 200 trees as the usual small one. LightGBM takes the same time for every row, so it is timed
on at most ``--baseline-rows`` of them, and its time scaled to all; ours is always timed on all.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from statistics import median
from typing import Any

import lightgbm
import numpy as np

from convpredict.models.shap import TreeExplainer

COLUMNS = 150
CATEGORIES = range(140, 148)
MODELS = {"large": (63, 300), "small": (7, 200)}
ROWS = (400, 4_000, 20_000)


def make_rows(n_rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, COLUMNS))
    rows[:, ::3] = np.round(np.exp(rows[:, ::3]))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    for column in CATEGORIES:
        rows[:, column] = rng.integers(0, 12, n_rows)
    return rows


def train(leaves: int, trees: int, n_rows: int) -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    rows = make_rows(n_rows, 1)
    known = np.nan_to_num(rows)
    score = known[:, :30] @ rng.normal(size=30) * 0.3 + known[:, 1] * known[:, 2] + (known[:, 141] > 8) - 2
    label = rng.random(n_rows) < 1 / (1 + np.exp(-score))
    parameters = {
        "objective": "binary",
        "num_leaves": leaves,
        "learning_rate": 0.05,
        "max_cat_to_onehot": 64,
        "verbose": -1,
        "num_threads": 1,
    }
    return lightgbm.train(
        parameters, lightgbm.Dataset(rows, label, categorical_feature=list(CATEGORIES)), trees
    )


def measure(
    booster: lightgbm.Booster,
    explainer: TreeExplainer,
    rows: np.ndarray,
    *,
    threads: int,
    repeats: int,
    baseline_rows: int,
) -> dict[str, Any]:
    ours, theirs, gap = [], [], 0.0
    sample = rows[:baseline_rows]
    explainer.explain(rows[:100], n_jobs=threads)
    booster.predict(rows[:100], pred_contrib=True, num_threads=threads)
    for _ in range(repeats):
        start = time.perf_counter()
        reference = booster.predict(sample, pred_contrib=True, num_threads=threads)
        middle = time.perf_counter()
        result = explainer.explain(rows, n_jobs=threads)
        end = time.perf_counter()
        theirs.append((middle - start) * len(rows) / len(sample))
        ours.append(end - middle)
        gap = max(gap, float(np.abs(result[: len(sample)] - reference[:, :-1]).max()))
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return {
        "rows": len(rows),
        "threads": threads,
        "lightgbm_s": median(theirs),
        "ours_s": median(ours),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "rows_per_s": len(rows) / median(ours),
        "largest_difference": gap,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only batches of 400 and 4,000 rows, 3 repeats")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="sizes of a batch")
    parser.add_argument("--repeats", type=int, default=5, help="turns for each line (20,000 rows: at most 3)")
    parser.add_argument(
        "--baseline-rows", type=int, default=4_000, help="most rows that LightGBM is timed on"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    options = parser.parse_args()
    repeats = min(3, options.repeats) if options.quick else options.repeats
    if not options.json:
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start")
        print("model  rows   threads LightGBM s   ours s  ratio [range]            rows/s  difference")
    for name in options.models:
        leaves, trees = MODELS[name]
        booster = train(leaves, trees, 20_000)
        start = time.perf_counter()
        explainer = TreeExplainer(booster.model_to_string(), COLUMNS)
        prepared_s = time.perf_counter() - start
        for n_rows in ROWS[:2] if options.quick else options.rows:
            turns = repeats if n_rows < 20_000 else min(3, repeats)
            for threads in (1, 2):
                line = measure(
                    booster,
                    explainer,
                    make_rows(n_rows, 2),
                    threads=threads,
                    repeats=turns,
                    baseline_rows=options.baseline_rows,
                )
                if options.json:
                    print(json.dumps({"model": name, "leaves": leaves, "trees": trees, **line}), flush=True)
                    continue
                spread = f"{line['ratio']:5.1f} [{line['ratio_low']:.1f}, {line['ratio_high']:.1f}]"
                print(
                    f"{name:6s} {n_rows:6,d} {threads:7d} {line['lightgbm_s']:10.3f} {line['ours_s']:8.4f}  "
                    f"{spread:20s} {line['rows_per_s']:10,.0f}  {line['largest_difference']:.0e}",
                    flush=True,
                )
        if not options.json:
            print(f"{name}: {leaves} leaves, {trees} trees, prepared once in {prepared_s:.2f} s")


if __name__ == "__main__":
    main()
