"""The simulator: the truth is known, so that what is missed of it can be said. No data is read."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .rows import ROOT, Row, row

LEADS = 20_000
SEEDS = (2, 3)


def measure(data: Path) -> list[Row]:
    """Log loss over the truth's, and predicted over true conversions, as ``benchmarks/recovery.py`` has them."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.insert(0, str(ROOT / "benchmarks"))
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
