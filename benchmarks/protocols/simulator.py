"""The simulator: the truth is known, so that what is missed of it can be said. No data is read."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .rows import ROOT, Row, row

LEADS = 20_000
SEEDS = (2, 3)
TOTAL, REGRET = "expected over true value", "true value that the lists miss"
WITHIN, COVERAGE = 0.03, (0.77, 0.83)


def measure(data: Path) -> list[Row]:
    """Probabilities as ``benchmarks/recovery.py`` judges them, values as ``benchmarks/value.py`` does."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.insert(0, str(ROOT / "benchmarks"))
    return [*probabilities(), *values()]


def probabilities() -> list[Row]:
    """Log loss over the truth's, and predicted over true conversions."""
    import recovery

    rows = []
    for seed in SEEDS:
        protocol = (
            f"{LEADS:,} simulated leads, seed {seed}, weekly cutoffs, the last 20 % of the observations"
        )
        with tempfile.TemporaryDirectory() as folder:
            entries = recovery.measure(LEADS, seed, Path(folder))["rows"]
        ours = entries["model"]
        for name in ("scorecard", "base rate"):
            ratio, other = ours["log_loss_ratio"], entries[name]["log_loss_ratio"]
            rows.append(
                row(
                    "simulator",
                    protocol,
                    "log loss over the truth's",
                    ratio,
                    None,
                    None,
                    other,
                    name,
                    met=ratio < other,
                )
            )
        level = "predicted over true conversions"
        rows.append(row("simulator", protocol, level, ours["sum_over_truth"], None, None, 1.0, "truth"))
    return rows


def values() -> list[Row]:
    """Expected values against the true ones: their sum, the regret of weekly lists, the coverage of the intervals."""
    import value

    rows = []
    for seed in SEEDS:
        protocol = f"{LEADS:,} simulated leads, seed {seed}, revenue within 180 days, lists of 5 % a night"
        with tempfile.TemporaryDirectory() as folder:
            figures = value.measure(LEADS, seed, ("auto",), Path(folder))
        expected = figures["expected_value"]
        ours = expected["P x value"]
        total = ours["over truth"]
        met = abs(total - 1) <= WITHIN
        rows.append(row("simulator", protocol, TOTAL, total, None, None, 1.0, "truth, within 3 %", met=met))
        for name in ("scorecard", "random"):
            regret, other = ours["regret"], expected[name]["regret"]
            rows.append(
                row("simulator", protocol, REGRET, regret, None, None, other, name, met=regret < other)
            )
        coverage = next(entry for name, entry in figures["value"].items() if name.startswith("auto"))[
            "coverage"
        ]
        met = COVERAGE[0] <= coverage <= COVERAGE[1]
        rows.append(
            row(
                "simulator",
                protocol,
                "coverage of 80 % intervals",
                coverage,
                None,
                None,
                0.8,
                ".77-.83",
                met=met,
            )
        )
    return rows
