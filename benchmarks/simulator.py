"""Time the simulator and its truth: python benchmarks/simulator.py --leads 10000 1000000 --truth 200000."""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from convpredict.config.history import SimulatorConfig
from convpredict.history.simulator import simulate


def measure(leads: int, observations: int) -> tuple[int, float, float, float, int, float]:
    """Interactions, seconds, peak MB, MB written, observations judged, seconds of the truth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        simulate(SimulatorConfig(leads=100), path)
        start = time.perf_counter()
        simulation = simulate(SimulatorConfig(leads=leads), path)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        written = sum(file.stat().st_size for file in path.rglob("*.parquet")) / 1e6
        interactions = pq.read_metadata(path / "interactions.parquet").num_rows
        table = pq.read_table(path / "leads.parquet", columns=["lead_id", "created_at"])
        wanted = np.random.default_rng(0).choice(leads, min(leads, observations // 3), replace=False)
        chosen = table.take(np.sort(wanted))
        ids = np.repeat(chosen["lead_id"].to_numpy(), 3)
        created = chosen["created_at"].cast("int64").to_numpy()
        cutoffs = (created[:, None] + np.array([7, 30, 60]) * 86_400_000_000).ravel()
        simulation.true_probability(ids[:3], cutoffs[:3], "30d")
        start = time.perf_counter()
        truth = simulation.true_probability(ids, cutoffs, "30d")
        return (
            interactions,
            seconds,
            peak,
            written,
            int(np.isfinite(truth).sum()),
            time.perf_counter() - start,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--truth", type=int, default=200_000, help="observations whose truth is asked for")
    arguments = parser.parse_args()
    print(
        "| leads | interactions | seconds | peak MB | MB written | observations judged | seconds of truth |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for leads in arguments.leads:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measure, (leads, arguments.truth))
        interactions, seconds, peak, written, judged, truth = row
        print(
            f"| {leads:,} | {interactions:,} | {seconds:.1f} | {peak:,.0f} | {written:,.1f} "
            f"| {judged:,} | {truth:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
