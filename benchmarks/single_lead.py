"""How fast one lead is scored from its raw history: python benchmarks/single_lead.py [--leads N] [--json].

A funnel is simulated and trained on as the commands do (default features, three horizons, values, a scorecard), and
the bundle written as a model directory. Open leads of the last day are then scored one at a time in this process, once
warm: by ``mlflow.pyfunc.load_model(...).predict`` on a frame of one row, MLflow's own checks included, and by the
model itself. A line gives the median and the 95th percentile of the milliseconds. Each lead's score is held against
the scored list, to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from convpredict.config.load import load_project
from convpredict.features.cross_lead import snapshot_cross_lead
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.models.bundle import Bundle, load_bundle
from convpredict.scoring.scores import score_open_leads
from convpredict.tracking.mlflow_pyfunc import quiet
from convpredict.tracking.model_directory import write_model_directory
from convpredict.workflows.data import simulate_data
from convpredict.workflows.training import train

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"


def fit(folder: Path, leads: int) -> tuple[Bundle, History]:
    """Simulate and train as the commands do, without MLflow."""
    settings = [f"simulator.leads={leads}"]
    simulate_data(CONFIG, data=folder / "data", overrides=settings)
    train(CONFIG, out=folder / "run", data=folder / "data", overrides=settings, track=False)
    project = load_project(CONFIG, data=folder / "data", overrides=settings)
    return load_bundle(folder / "run" / "bundle"), load_history(project.config, folder / "data")


def raw_leads(history: History, bundle: Bundle, lead_ids: list[Any], cutoff: Any) -> list[dict[str, Any]]:
    """The leads' rows and all their interactions, as a web service would hold them."""
    rows = {lead_id: row for row, lead_id in enumerate(history.leads["lead_id"].to_pylist())}
    events = defaultdict(list)
    wanted = ", ".join(str(rows[lead_id]) for lead_id in lead_ids)
    found = history.query(f"SELECT * FROM interactions WHERE lead_row IN ({wanted}) ORDER BY tie").to_pylist()
    for event in found:
        times = {
            name: (pd.Timestamp(event[column], unit="us", tz="UTC")).isoformat()
            for name, column in (("occurred_at", "occurred_at"), ("recorded_at", "visible_at"))
        }
        values = {name: event[name] for name in ("kind", *history.interaction_attributes)}
        events[event["lead_row"]].append({**values, **times})
    table = history.leads.take([rows[lead_id] for lead_id in lead_ids]).to_pylist()
    return [
        {
            **{name: row[name] for name in ("lead_id", *history.lead_attributes)},
            "created_at": row["created_at"].isoformat(),
            "cutoff": cutoff.isoformat(),
            "interactions": events[rows[row["lead_id"]]],
        }
        for row in table
    ]


def measure(
    predict: Any, rows: list[dict[str, Any]], expected: dict[Any, float], name: str
) -> dict[str, float]:
    took = []
    for number, row in enumerate([*rows[:20], *rows]):
        begin = time.perf_counter()
        found = predict(pd.DataFrame([row]))
        if number >= 20:
            took.append(1000 * (time.perf_counter() - begin))
        assert found[name][0] == expected[row["lead_id"]], row["lead_id"]
    return {
        "median_ms": float(np.median(took)),
        "p95_ms": float(np.percentile(took, 95)),
        "max_ms": max(took),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--leads", type=int, default=6_000, help="simulated leads")
    parser.add_argument("--scored", type=int, default=300, help="leads scored one at a time")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, quiet():
        import mlflow.pyfunc

        folder = Path(temporary)
        bundle, history = fit(folder, options.leads)
        cutoff = history.known_until - timedelta(days=1)
        listed = score_open_leads(history, bundle, as_of=cutoff).table
        chosen = np.random.default_rng(0).permutation(listed.num_rows)[: options.scored]
        rows = raw_leads(history, bundle, listed.take(chosen)["lead_id"].to_pylist(), cutoff)
        snapshot = snapshot_cross_lead(history, bundle.feature_set, cutoff)
        write_model_directory(folder / "model", bundle, cross_lead=snapshot)
        served = mlflow.pyfunc.load_model(str(folder / "model"))
        name = f"p_convert_{bundle.horizon}"
        expected = dict(zip(listed["lead_id"].to_pylist(), listed[name].to_pylist(), strict=True))
        itself = served.unwrap_python_model()
        results = {
            "mlflow.pyfunc predict": measure(served.predict, rows, expected, name),
            "the model itself": measure(lambda frame: itself.predict(None, frame), rows, expected, name),
            "mlflow.pyfunc predict with reasons": measure(
                lambda frame: served.predict(frame, params={"reasons": True}), rows, expected, name
            ),
        }
    events = [len(row["interactions"]) for row in rows]
    facts = {
        "leads": len(rows),
        "columns": len(bundle.feature_set),
        "trees": bundle.model.capacity_.n_estimators * len(bundle.model.trees_.texts) * len(bundle.horizons),
        "events_median": float(np.median(events)),
        "events_max": max(events),
    }
    if options.json:
        print(json.dumps({**facts, **results}))
        return
    print(
        f"{facts['leads']} leads with {facts['events_median']:.0f} interactions (median; most {facts['events_max']}), "
        f"{facts['columns']} columns, {len(bundle.horizons)} horizons, {facts['trees']} trees in all"
    )
    for label, result in results.items():
        print(f"{label:<36} median {result['median_ms']:6.1f} ms   p95 {result['p95_ms']:6.1f} ms")


if __name__ == "__main__":
    main()
