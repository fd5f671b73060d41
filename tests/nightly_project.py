"""A small simulated project with a fitted model, for nights that take about a second."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from convpredict.config.history import SimulatorConfig
from convpredict.config.load import load_project
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.models.bundle import write_bundle
from convpredict.models.fitting import fit_conversion_model, fit_scorecard, make_bundle
from convpredict.models.horizons import fit_further_horizons
from convpredict.models.scorecard import Scorecard
from convpredict.training.training_set import build_training_set
from convpredict.workflows.nightly import nightly

TABLES = ("leads", "interactions", "conversions", "revenue")
NIGHT = datetime(2025, 11, 30, tzinfo=UTC)


@dataclass(frozen=True)
class NightlyProject:
    """A configuration file, the results folder of a training run, and when its test part begins."""

    config: Path
    run: Path
    trained_until: datetime


def make_project(folder: Path, leads: int = 600, **nightly: Any) -> NightlyProject:
    """Simulate, fit with few trees, write the results folder as training does, without judging anything."""
    simulate(SimulatorConfig(leads=leads, seed=7), folder / "data")
    history: dict[str, Any] = {name: {"source": name} for name in TABLES}
    history["leads"]["attributes"] = {"channel": "category", "owner": "category", "employees": "number"}
    history["interactions"]["attributes"] = {"topic": "category"}
    content = {
        "name": "demo",
        "data": "data",
        "sources": {name: {"file": f"{name}.parquet"} for name in TABLES},
        "history": history,
        "observations": {"cutoffs": {"every": "28d"}, "max_age": "365d"},
        "labels": {"horizons": ["30d", "90d"]},
        "features": {"bucket_events": 2_000},
        "model": {"n_estimators": 8, "num_leaves": 5, "seeds": 1, "logistic_weight": 0.0},
        "scorecard": {
            "rules": [{"kind": "email_click", "points": 5}, {"kind": "demo_request", "points": 30}]
        },
        "reasons": {"leads": 0.2},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        "nightly": {"bucket_leads": 40, **nightly},
    }
    config = folder / "project.yaml"
    config.write_text(yaml.safe_dump(content))
    project = load_project(config)
    loaded = load_history(project.config, project.data_dir)
    card = Scorecard(project.config.scorecard)
    training_set = build_training_set(loaded, project, extra_features=card.declarations())
    model = fit_conversion_model(training_set, project.config.model)
    further = fit_further_horizons(training_set, project.config.model, model)
    bundle = make_bundle(training_set, model, fit_scorecard(training_set, card), further)
    run = folder / "run"
    write_bundle(run / "bundle", bundle)
    (run / "manifest.json").write_text(json.dumps(training_set.manifest))
    (run / "metrics.json").write_text("{}")
    told = training_set.manifest["split"]["test_from"]
    return NightlyProject(config, run, datetime.fromisoformat(told.replace("Z", "+00:00")))


class Nights:
    """The project with a nightly folder and targets of its own."""

    def __init__(self, project: NightlyProject, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.state, self.scores = folder / "state", folder / "scores"
        self.targets = f"nightly.publish=[{{parquet: '{self.scores}'}}]"

    def run(self, as_of: datetime | None = NIGHT, *overrides: str, **options):
        options.setdefault("run", self.project.run)
        where = (f"nightly.folder={self.state}", self.targets)
        return nightly(self.project.config, as_of=as_of, overrides=(*where, *overrides), **options)

    def id_of(self, night: datetime = NIGHT) -> str:
        return f"demo-{night:%Y%m%dT%H%M%SZ}"

    def latest(self):
        return pq.ParquetFile(self.scores / "latest.parquet").read()

    def manifest(self, night: datetime = NIGHT, suffix: str = ""):
        return json.loads((self.state / "runs" / f"{self.id_of(night)}{suffix}.json").read_text())

    def files(self) -> dict[str, str]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
