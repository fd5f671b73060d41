"""How near to the truth the level of heavy-tailed revenue comes: plain mean, a lognormal's, and what the model takes.

    python benchmarks/value_tail.py [--leads 40 150 600 2000] [--draws 1000]

Draws amounts of known mean. Per law and number of leads: root mean square of ln(estimate / truth), and the mean of
estimate / truth less 1. No data is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from convpredict.models.value_level import tail_factor

Draw = Callable[[np.random.Generator, int], np.ndarray]


def lognormal(deviation: float, zeros: float = 0.0) -> tuple[Draw, float]:
    """Lognormal amounts, some of them zero."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.lognormal(0.0, deviation, n) * (rng.random(n) >= zeros)

    return draw, (1.0 - zeros) * float(np.exp(deviation**2 / 2))


def pareto(index: float) -> tuple[Draw, float]:
    """Pareto amounts from 1 on."""
    return lambda rng, n: rng.pareto(index, n) + 1.0, index / (index - 1.0)


def gamma(shape: float) -> tuple[Draw, float]:
    """Gamma amounts."""
    return lambda rng, n: rng.gamma(shape, 1.0, n), shape


def mixture(share: float, factor: float, deviation: float) -> tuple[Draw, float]:
    """Lognormal amounts, a share of them multiplied by a factor (planted whales, or crumbs)."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.lognormal(0.0, deviation, n) * np.where(rng.random(n) < share, factor, 1.0)

    return draw, float(np.exp(deviation**2 / 2)) * (1.0 + share * (factor - 1.0))


LAWS = {
    **{f"lognormal {s}": lognormal(s) for s in (0.5, 1.0, 1.5, 2.0, 2.5)},
    "lognormal 1.5, 40 % zeros": lognormal(1.5, 0.4),
    **{f"Pareto {a}": pareto(a) for a in (1.3, 1.6, 2.0, 3.0)},
    **{f"gamma {k}": gamma(k) for k in (0.3, 0.6, 1.0)},
    "5 % x 400, lognormal 0.5": mixture(0.05, 400.0, 0.5),
    "5 % x 400, lognormal 1": mixture(0.05, 400.0, 1.0),
    "5 % x 30, lognormal 1": mixture(0.05, 30.0, 1.0),
    "1 % x 100, lognormal 1": mixture(0.01, 100.0, 1.0),
    "12 % x 20, lognormal 0.3": mixture(0.12, 20.0, 0.3),
    "30 % / 100, lognormal 1": mixture(0.3, 0.01, 1.0),
}


def lognormal_mean(amount: np.ndarray) -> float:
    """Share of those who paid times the lognormal's mean (Aitchison, 1955; Finney's first correction)."""
    logs = np.log(amount[amount > 0])
    spread = float(logs.var(ddof=1))
    mean = np.exp(logs.mean() + spread / 2 - spread * (0.5 + spread / 4) / len(logs))
    return float(mean) * len(logs) / len(amount)


def measure(draw: Draw, truth: float, n_leads: int, draws: int) -> list[tuple[float, float]]:
    """Error and bias of the three estimates."""
    rng = np.random.default_rng(n_leads)
    found = np.empty((draws, 3))
    for row in found:
        amount = draw(rng, n_leads)
        mean = amount.mean()
        row[:] = (
            mean,
            lognormal_mean(amount),
            mean * tail_factor(amount, np.ones(n_leads), np.arange(n_leads)),
        )
    found /= truth
    errors = np.sqrt(np.mean(np.log(found) ** 2, axis=0))
    return list(zip(errors.tolist(), (found.mean(axis=0) - 1.0).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, nargs="+", default=[40, 150, 600, 2000])
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    for n_leads in arguments.leads:
        print(f"\n{n_leads} leads: error / bias\n{'':>26}{'mean':>18}{'lognormal':>18}{'model':>18}")
        ratio = []
        for name, (draw, truth) in LAWS.items():
            found = measure(draw, truth, n_leads, arguments.draws)
            cells = "".join(f"{f'{error:.3f} / {bias:+.3f}':>18}" for error, bias in found)
            print(f"{name:>26}{cells}")
            ratio.append(found[2][0] / found[0][0])
        print(f"model over mean: best {min(ratio):.3f}, worst {max(ratio):.3f}")


if __name__ == "__main__":
    main()
