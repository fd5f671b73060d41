"""Quality on every data set, in one table: protocol, ours with its interval, the reference, and whether the bar is met.

    python benchmarks/quality.py [--data ../shared/data] [--only school_crm] [--json]

XGBoost, for the loan log, comes with ``pip install 'convpredict[benchmarks]'``; without it these lines are left out.

Each data set has a module in ``benchmarks/protocols`` whose ``measure(data)`` gives its lines. Lead histories are
trained on exactly as ``convpredict train`` does; static tables use :class:`convpredict.ConversionModel` on the frame.
Intervals are 95 %, by resampling leads. References are measured on the same rows in the same run, unless their name
says otherwise (the plain models of the data folder's README, the AutoML ensemble of ``benchmarks/automl.py``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PROTOCOLS = ("school_crm", "olist_funnel", "bpic2012", "xeducation", "hillstrom", "cdnow", "simulator")
WIDTHS = {"metric": 46, "ours": 30, "reference": 10, "reference_name": 38}


def measure(name: str, data: Path) -> list[dict[str, Any]]:
    """The lines of one data set."""
    return list(importlib.import_module(f"protocols.{name}").measure(data))


def show(rows: list[dict[str, Any]]) -> str:
    """The table as text: a heading per protocol, a line per figure."""
    lines, heading = [], None
    for entry in rows:
        if (entry["data_set"], entry["protocol"]) != heading:
            heading = entry["data_set"], entry["protocol"]
            lines += ["", f"{heading[0]}: {heading[1]}"]
            lines.append(
                f"  {'metric':<{WIDTHS['metric']}}{'ours':<{WIDTHS['ours']}}{'reference':>{WIDTHS['reference']}}"
                f"  {'of':<{WIDTHS['reference_name']}}bar"
            )
        met = entry.get("met")
        lines.append(
            f"  {entry['metric']:<{WIDTHS['metric']}}{_figure(entry):<{WIDTHS['ours']}}"
            f"{_number(entry['reference']):>{WIDTHS['reference']}}"
            f"  {entry['reference_name'] or '':<{WIDTHS['reference_name']}}"
            f"{'' if met is None else 'met' if met else 'missed'}"
        )
    return "\n".join(lines)


def _figure(entry: dict[str, Any]) -> str:
    ends = [entry.get(end) for end in ("low", "high")]
    if None in ends:
        return _number(entry["ours"])
    return f"{_number(entry['ours'])} [{_number(ends[0])}, {_number(ends[1])}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}" if abs(value) < 0.1 else f"{value:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--only", choices=PROTOCOLS, action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows, failed = [], []
    for name in arguments.only or PROTOCOLS:
        if name != "simulator" and not (arguments.data / name).is_dir():
            print(f"{name}: {arguments.data / name} is not there, left out", file=sys.stderr)
            continue
        started = time.monotonic()
        try:
            rows += measure(name, arguments.data)
        except Exception:  # the others took long to measure: show them, and fail at the end
            print(f"{name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(rows) if arguments.json else show(rows))
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
