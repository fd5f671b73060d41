"""Time of an evaluation with intervals, and of its parts: ``python benchmarks/evaluation.py [--rows N]``."""

from __future__ import annotations

import argparse
import time

import numpy as np

from convpredict.config.training import EvaluationConfig
from convpredict.evaluation.calibration import Calibration
from convpredict.evaluation.comparison import evaluate
from convpredict.evaluation.ranking import Ranking


def make_observations(rows: int, per_lead: int, rate: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    logit = np.log(rate / (1 - rate)) - 0.5 + rng.normal(size=rows)
    p = 1 / (1 + np.exp(-logit))
    points = np.round(10 * (logit + rng.normal(size=rows)))
    p_scorecard = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) - 0.3 + 0.05 * (points - points.mean()))))
    return (rng.random(rows) < p).astype(int), p, points, p_scorecard, np.arange(rows) // per_lead


def time_once(task, repeats: int = 20) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        task()
    return (time.perf_counter() - started) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    print(f"evaluate() with {options.resamples} resamples; CPU s counts all threads")
    print(f"{'rows':>9} {'rate':>6} {'ranking ms':>11} {'calibration ms':>15} {'wall s':>7} {'CPU s':>6}")
    for rate in (0.002, 0.02, 0.2):
        label, p, points, p_scorecard, leads = make_observations(options.rows, 5, rate)
        weight = np.random.default_rng(1).poisson(1.0, options.rows).astype(float)
        ranking, calibration = Ranking(label, p), Calibration(label, p)
        calibration.statistics()
        rank_s = time_once(lambda r=ranking, w=weight: r.statistics((0.01, 0.05, 0.1, 0.2), w))
        calibration_s = time_once(lambda c=calibration, w=weight: c.statistics(w))
        config = EvaluationConfig(resamples=options.resamples)
        started, started_cpu = time.perf_counter(), time.process_time()
        evaluate(label, p, points, p_scorecard, leads, config)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
        parts = f"{1000 * rank_s:>11.2f} {1000 * calibration_s:>15.2f} {wall_s:>7.1f} {cpu_s:>6.1f}"
        print(f"{options.rows:>9,} {rate:>6} {parts}")


if __name__ == "__main__":
    main()
