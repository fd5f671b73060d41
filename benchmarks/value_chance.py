"""How often would somebody who makes no mistake meet the aims for expected values? What chance alone allows.

    python benchmarks/value_chance.py [--data ../shared/data/olist_funnel]

Simulator: revenue is drawn from its law, the shape of the value is known, and only the level (a mean) and the interval
are learnt, from as many converted leads as `benchmarks/value.py` finds. olist_funnel: won sellers of the training part
are drawn with replacement as those of a test part, of which the mean is known. No test row is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from convpredict.config.load import load_project
from convpredict.history.simulator.kernels import MICROSECONDS_PER_DAY
from convpredict.history.simulator.revenue import mean_revenue, simulate_revenue
from convpredict.models.value_development import LEAST_DEVELOPMENT
from convpredict.models.value_fitting import followed_share, learn_development
from convpredict.models.value_intervals import fit_interval
from convpredict.training.labels import label_column
from convpredict.training.training_set import build_training_set
from convpredict.workflows.common import read_outcomes

VALUE_DAYS, DRAWS, SHAPE_DEVIATION = 180, 1000, 0.55
CONVERTED = {
    20_000: (370, 545, 160),
    50_000: (935, 1_330, 405),
    200_000: (3_740, 5_320, 1_620),
}
"""Per simulated leads: the converted ones with complete windows, all by share of the window, and the tested ones."""
WON_IN_TEST = 97


def simulated_ratios(n_leads: int) -> np.ndarray:
    """Revenue over its mean of converted leads of the simulator."""
    streams = np.random.default_rng(1).integers(1, 2**63, n_leads).astype(np.uint64)
    zeros = np.zeros(n_leads)
    end = VALUE_DAYS * MICROSECONDS_PER_DAY
    position, _, amount = simulate_revenue(streams, np.zeros(n_leads, np.int64), zeros, end)
    revenue = np.bincount(position, amount, minlength=n_leads)
    return np.asarray(revenue / mean_revenue(zeros[:1], VALUE_DAYS)[0], np.float64)


def simulator() -> None:
    """Deviation of the level and of the coverage, and how often the aims of 3 % and .77 to .83 are met."""
    ratios, rng = simulated_ratios(400_000), np.random.default_rng(0)
    for leads, (complete, taught, tested) in CONVERTED.items():
        covered, level = np.empty(DRAWS), np.empty(DRAWS)
        for i in range(DRAWS):
            learnt, new, shape = (
                np.exp(SHAPE_DEVIATION * rng.normal(size=size)) for size in (complete, tested, taught)
            )
            interval = fit_interval(learnt, learnt * rng.choice(ratios, complete), np.ones(complete))
            revenue = new * rng.choice(ratios, tested)
            low, high = interval.at(new)
            covered[i] = np.mean((low <= revenue) & (revenue <= high))
            level[i] = np.average(rng.choice(ratios, taught), weights=shape)
        met = np.mean((covered >= 0.77) & (covered <= 0.83))
        print(
            f"{leads:>8,} leads: total value {level.mean():.3f} +- {level.std():.3f}, within 3 %: "
            f"{np.mean(np.abs(level - 1) <= 0.03):.2f}; coverage {covered.mean():.3f} +- {covered.std():.3f}, "
            f"within .77-.83: {met:.2f}, at most .765: {np.mean(covered <= 0.765):.2f}"
        )


def sellers(data: Path) -> None:
    """Known mean over drawn revenue of as many sellers as were won in the test part, and with a mean that is learnt."""
    project = load_project(Path(__file__).parents[1] / "configs/olist_funnel.yaml", data=data)
    history, labels = read_outcomes(project), project.config.labels
    training_set = build_training_set(history, project)
    frame = training_set.frame
    won = frame[label_column(training_set.horizons[0])] == 1
    rows = frame[(frame["split"] != "test") & (frame["revenue_followed_us"] >= 0) & won]
    share = learn_development(training_set, rows, labels, history).at(followed_share(rows, labels))
    used = share >= LEAST_DEVELOPMENT
    revenue, counts = rows["revenue"].to_numpy()[used] / share[used], share[used] / share[used].sum()
    rng, n = np.random.default_rng(0), int(used.sum())
    draws = 10 * DRAWS
    brought = np.array([rng.choice(revenue, WON_IN_TEST, p=counts).mean() for _ in range(draws)])
    learnt = np.array([rng.choice(revenue, n, p=counts).mean() for _ in range(draws)])
    mean = float(counts @ revenue)
    largest = np.sort(counts * revenue)[::-1][:2] / mean
    print(f"{n} sellers, the two largest bring {largest[0]:.2f} and {largest[1]:.2f} of the revenue")
    for name, level in (("known", mean), ("learnt", learnt)):
        ratio = level / brought
        ends = np.percentile(ratio, [2.5, 50, 97.5])
        print(
            f"mean {name:>6}: over the revenue of {WON_IN_TEST} {ends[1]:.2f} [{ends[0]:.2f}, {ends[2]:.2f}], within "
            f"15 %: {np.mean(np.abs(ratio - 1) <= 0.15):.2f}, at least 1.8: {np.mean(ratio >= 1.8):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    simulator()
    if arguments.data is not None:
        sellers(arguments.data)


if __name__ == "__main__":
    main()
