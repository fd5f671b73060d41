"""What a night costs, step by step: python benchmarks/nightly.py [--leads 100000 1000000] [--config default|large].

A history comes from the simulator (20 interactions a lead). The model is trained on a smaller history of another seed
(it is not part of what is measured): `default` as the library sizes it, `large` with 300 trees of 63 leaves; three
horizons, expected value, reasons for the 5 % with the highest probability. Then `convpredict nightly` runs as the
operator would run it, in a process of its own, publishing to Parquet; the table is what its manifest says, beside the
process's wall time and peak memory as the system counted them. A second night, run again, shows what `nothing to do`
costs. At last the scores of the first 200,000 leads are computed once by LightGBM and once by the compiled trees.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from convpredict import load_bundle, load_history, load_project, open_observations
from convpredict.config.history import SimulatorConfig
from convpredict.features.batches import map_features
from convpredict.history.simulator import simulate
from convpredict.models.batch_scoring import encode_batch
from convpredict.workflows import train

TABLES = ("leads", "interactions", "conversions", "revenue", "spend")
AS_OF = "2025-12-31"
LARGE = {"n_estimators": 300, "num_leaves": 63, "seeds": 1, "logistic_weight": 0.0}


def write_config(folder: Path, data: Path, size: str) -> Path:
    history: dict[str, Any] = {name: {"source": name} for name in TABLES}
    history["leads"]["attributes"] = {
        **dict.fromkeys(("industry", "company_size", "country", "job_role", "channel", "owner"), "category"),
        "employees": "number",
    }
    history["interactions"]["attributes"] = {"topic": "category", "duration_seconds": "number"}
    history["known_until"] = AS_OF
    content: dict[str, Any] = {
        "name": "benchmark",
        "data": str(data),
        "sources": {name: {"file": f"{name}.parquet"} for name in TABLES},
        "history": history,
        "observations": {"cutoffs": {"every": "28d"}},
        "labels": {"horizons": ["30d", "7d", "90d"], "value_horizon": "180d"},
        "reasons": {"leads": 0.05},
        "nightly": {"folder": str(folder / "state"), "publish": [{"parquet": str(folder / "scores")}]},
    }
    if size == "large":
        content["model"] = LARGE
    path = folder / "nightly.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def nightly(config: Path, bundle: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of one command."""
    command = [
        sys.executable,
        "-m",
        "convpredict.cli",
        "nightly",
        str(config),
        "--bundle",
        str(bundle),
        "--as-of",
        AS_OF,
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the nightly run ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def compare_trees(config: Path, bundle_folder: Path, rows: int = 200_000) -> None:
    import lightgbm

    project, bundle = load_project(config), load_bundle(bundle_folder)
    history = load_history(project.config, project.data_dir)
    observed = open_observations(history, history.known_until).table.slice(0, rows)
    matrices = [
        matrix
        for _, _, matrix in map_features(
            history,
            [(observed, bundle.feature_set)],
            lambda _, batch: encode_batch(bundle.model.encoder_, batch),
        )
    ]
    booster = lightgbm.Booster(model_str=bundle.model.trees_.texts[0])
    seconds = {"Booster.predict": 1e9, "compiled trees": 1e9}
    for _ in range(3):
        begin = time.perf_counter()
        theirs = [booster.predict(matrix, raw_score=True, num_threads=2) for matrix in matrices]
        seconds["Booster.predict"] = min(seconds["Booster.predict"], time.perf_counter() - begin)
        begin = time.perf_counter()
        ours = [bundle.model.trees_.raw_logit(matrix, n_threads=2) for matrix in matrices]
        seconds["compiled trees"] = min(seconds["compiled trees"], time.perf_counter() - begin)
    if len(bundle.model.trees_.texts) == 1:
        worst = max(float(abs(a - b).max()) for a, b in zip(theirs, ours, strict=True))
        print(f"largest difference of a logit: {worst:.1e}")
    n, seeds = observed.num_rows, len(bundle.model.trees_.texts)
    for what, took in seconds.items():
        per_seed = took * (seeds if what == "Booster.predict" else 1)
        print(f"{what:<18}{per_seed:8.2f} s for {n:,} rows and {seeds} x {booster.num_trees()} trees")
    print(f"ratio {seconds['Booster.predict'] * seeds / seconds['compiled trees']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, nargs="+", default=[100_000])
    parser.add_argument("--config", choices=("default", "large"), default="default")
    parser.add_argument("--train-leads", type=int, default=30_000)
    parser.add_argument(
        "--keep", type=Path, help="folder for the simulated histories, used again where they are there"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        training = simulated(root, options.train_leads, seed=1)
        (Path(scratch) / "train").mkdir()
        config = write_config(Path(scratch) / "train", training, options.config)
        train(config, out=Path(scratch) / "run", track=False)
        bundle = Path(scratch) / "run" / "bundle"
        for leads in options.leads:
            measure(
                Path(scratch) / f"night_{leads}",
                simulated(root, leads, seed=2),
                bundle,
                options.config,
                leads,
            )


def simulated(root: Path, leads: int, seed: int) -> Path:
    folder = root / f"leads_{leads}_{seed}"
    if not (folder / "done").exists():
        simulate(SimulatorConfig(leads=leads, interactions_per_lead=20.0, seed=seed), folder)
        (folder / "done").touch()
    return folder


def measure(folder: Path, data: Path, bundle: Path, size: str, leads: int) -> None:
    folder.mkdir()
    config = write_config(folder, data, size)
    seconds, cpu, peak = nightly(config, bundle)
    manifest = json.loads(next((folder / "state" / "runs").glob("*.json")).read_text())
    scored, told = manifest["leads"], manifest.get("explained", 0)
    print(f"\n{leads:,} leads, {scored:,} of them scored, {told:,} explained; {size} model")
    print(f"{'step':<14}{'seconds':>9}{'peak GB':>9}{'rows':>12}")
    for step in manifest["steps"]:
        peak_gb = step["peak_memory_bytes"] / 2**30
        print(f"{step['step']:<14}{step['seconds']:>9.1f}{peak_gb:>9.2f}{step.get('rows') or 0:>12,}")
    print(f"{'whole process':<14}{seconds:>9.1f}{peak:>9.2f}   ({cpu:.1f} CPU seconds)")
    again, _, _ = nightly(config, bundle)
    print(f"{'run again':<14}{again:>9.1f}")
    if leads <= 1_000_000:
        compare_trees(config, bundle)


if __name__ == "__main__":
    main()
