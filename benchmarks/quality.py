"""Quality on real lead histories: the protocol, our figures with their intervals, and the reference beside them.

    python benchmarks/quality.py [--data ../shared/data] [--only school_crm] [--json]

Each line is measured by training on the project's own configuration exactly as ``convpredict train`` does. References
are those of the data folder's README; they were measured by other scripts on the same protocol.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from convpredict import workflows
from convpredict.evaluation.metrics import auc

ROOT = Path(__file__).parent.parent
PROTOCOLS = {
    "school_crm": "weekly cutoffs, leads up to 120 days old, converts within 30 days, test cutoffs from 2024-03-18",
    "bpic2012": "a cutoff after every event, approved within 14 days, the last 20 % of cases by start",
    "olist_funnel": "one day after the first contact, won within 30 days, the last 20 % of leads by first contact",
}
REFERENCES = {
    "school_crm": {"auc": 0.871, "average_precision": 0.056, "log_loss": 0.02223, "captured_top_5pct": 0.47},
    "olist_funnel": {"auc": 0.697},
}
METRICS = (
    "auc",
    "average_precision",
    "log_loss",
    "calibration_ratio",
    "captured_top_5pct",
    "captured_top_10pct",
)
PREFIXES = ((1, 3), (4, 6), (7, 10), (11, 15), (16, 20), (21, 30), (31, 10**6))


def measure(name: str, data: Path) -> dict[str, Any]:
    """Train on one configuration; its metrics and, for the loan applications, the AUC by prefix length."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run = workflows.train(ROOT / f"configs/{name}.yaml", out=out, data=data / name, track=False)
        result: dict[str, Any] = {"protocol": PROTOCOLS[name], "counts": run.metrics["test"]["counts"]}
        for who in ("model", "scorecard", "difference"):
            result[who] = {metric: run.metrics["test"][who][metric] for metric in METRICS}
        result["reference"] = REFERENCES.get(name, {})
        if name == "bpic2012":
            result["by_prefix"] = by_prefix(out)
    return result


def by_prefix(run: Path) -> list[dict[str, Any]]:
    """AUC of model and scorecard by the number of events before the cutoff."""
    predictions = pq.read_table(run / "test_predictions.parquet").to_pandas()
    features = pq.read_table(
        run / "training_set/training_set.parquet", columns=["lead_id", "cutoff", "count_all"]
    )
    frame = predictions.merge(features.to_pandas(), on=["lead_id", "cutoff"], validate="one_to_one")
    rows = []
    for first, last in PREFIXES:
        part = frame[frame["count_all"].between(first, last)]
        label = part["label"].to_numpy(np.float64)
        rows.append(
            {
                "events": f"{first}-{last}" if last < 10**6 else f"{first}+",
                "rows": len(part),
                "positives": int(label.sum()),
                "auc_model": _auc(label, part["p"]),
                "auc_scorecard": _auc(label, part["scorecard_points"]),
                "predicted_over_observed": float(part["p"].sum() / label.sum()) if label.any() else None,
            }
        )
    return rows


def _auc(label: np.ndarray, score: pd.Series) -> float | None:
    return float(auc(label, score.to_numpy())) if 0 < label.sum() < len(label) else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--only", choices=sorted(PROTOCOLS), action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {name: measure(name, arguments.data) for name in arguments.only or PROTOCOLS}
    if arguments.json:
        print(json.dumps(results, default=str))
        return
    for name, result in results.items():
        counts = result["counts"]
        print(f"\n{name}: {result['protocol']}")
        print(
            f"  {counts['rows']:,} test observations of {counts['leads']:,} leads, {counts['positives']:,} positive"
        )
        print(f"  {'':<20}{'model':>28}{'scorecard':>28}{'difference':>30}{'reference':>12}")
        for metric in METRICS:
            cells = "".join(_cell(result[who][metric]) for who in ("model", "scorecard", "difference"))
            reference = result["reference"].get(metric)
            print(f"  {metric:<20}{cells}{'' if reference is None else format(reference, '.5g'):>12}")
        if "by_prefix" in result:
            print(pd.DataFrame(result["by_prefix"]).round(3).to_string(index=False))


def _cell(entry: dict[str, float | None]) -> str:
    value, low, high = (np.nan if entry[end] is None else entry[end] for end in ("value", "low", "high"))
    return f"{f'{value:.4f} [{low:.4f}, {high:.4f}]':>29}"


if __name__ == "__main__":
    main()
