"""How fast trees are scored beside LightGBM's own Booster.predict: python benchmarks/scoring.py; prints a table.

Both score the same rows in turn, in one process; the ratio is of the medians, and the results must be equal to the bit.
"""

from __future__ import annotations

import argparse
import time

import lightgbm
import numpy as np

from convpredict.models.tree_scoring import compile_trees

SMALL = {"num_leaves": 7, "max_bin": 31, "extra_trees": True, "feature_fraction": 0.2}
MODELS = {
    "7 leaves x 150 trees x 2 seeds": (SMALL, 150, 2),
    "7 leaves x 150 trees x 5 seeds": (SMALL, 150, 5),
    "31 leaves x 300 trees": ({"num_leaves": 31}, 300, 1),
    "63 leaves x 300 trees": ({"num_leaves": 63}, 300, 1),
}
COLUMNS = 150


def draw_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts, recencies and categories with missing values, and a label that some of them move."""
    rng = np.random.default_rng(0)
    X = rng.exponential(10.0, (n, COLUMNS)).astype(np.float32)
    X[:, ::2] = rng.poisson(1.0, (n, COLUMNS // 2))
    X[:, -10:] = rng.integers(0, 20, (n, 10))
    X[rng.random(X.shape) < 0.1] = np.nan
    logit = np.nan_to_num(X[:, :30]) @ rng.normal(0, 0.1, 30)
    return X, (rng.random(n) < 1 / (1 + np.exp(1 - logit))).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    X, y = draw_rows(options.rows)
    rows, columns = np.ascontiguousarray(X), np.asfortranarray(X)
    print(f"{options.rows:,} rows x {COLUMNS} columns, float32; µs per row, median of {options.repeats}\n")
    print(f"{'model':<32}{'threads':>8}{'LightGBM':>10}{'ours':>8}{'ratio':>8}{'ratio of CPU':>14}")
    for name, (settings, trees, seeds) in MODELS.items():
        data = lightgbm.Dataset(X, y, categorical_feature=list(range(COLUMNS - 10, COLUMNS)))
        fixed = {"objective": "binary", "verbosity": -1, "max_cat_to_onehot": 1000, **settings}
        boosters = [lightgbm.train({**fixed, "seed": seed}, data, trees) for seed in range(seeds)]
        compiled = compile_trees([booster.model_to_string() for booster in boosters], COLUMNS)
        for threads in (1, 2):

            def with_lightgbm() -> np.ndarray:
                parts = [b.predict(rows, raw_score=True, num_threads=threads) for b in boosters]  # noqa: B023
                return sum(parts, start=np.zeros(len(rows))) / len(parts)

            def with_ours() -> np.ndarray:
                return compiled.mean_logit(columns, n_threads=threads)  # noqa: B023

            assert np.array_equal(with_lightgbm(), with_ours())
            seconds: dict[str, list[tuple[float, float]]] = {"theirs": [], "ours": []}
            for _ in range(options.repeats):
                for who, call in (("theirs", with_lightgbm), ("ours", with_ours)):
                    begin, cpu = time.perf_counter(), time.process_time()
                    call()
                    seconds[who].append((time.perf_counter() - begin, time.process_time() - cpu))
            theirs, ours = (1e6 * np.median(seconds[who], axis=0) / len(X) for who in ("theirs", "ours"))
            print(
                f"{name:<32}{threads:>8}{theirs[0]:>10.2f}{ours[0]:>8.2f}{theirs[0] / ours[0]:>8.1f}"
                f"{theirs[1] / ours[1]:>14.1f}"
            )


if __name__ == "__main__":
    main()
