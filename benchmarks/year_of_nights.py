"""A year of weekly nights with planted faults: how soon each is found, by what, and how many false alarms there are.

    python benchmarks/year_of_nights.py [--leads 60000] [--seeds 2] [--channel organic_search] [--no-clean]

The simulator writes two years. One model learns from the first; then 52 weekly nights are scored, judged by the
gates, published and monitored by the parts of the nightly job itself, each with what was known then. Planted are a
channel whose leads convert half as often from day 213 of that year on (month 8), and interactions of one kind that
stop arriving for three days, which end on a night (the only outage that weekly nights can see while it lasts) in
month 5. Every seed is run once more without them. ``--every 1`` makes the nights daily.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from convpredict.config.history import ChannelDrift, KindOutage, SimulatorConfig
from convpredict.config.load import Project, parse_project
from convpredict.history.load import load_history
from convpredict.history.simulator import simulate
from convpredict.history.simulator.run import simulation_config_tables
from convpredict.models.bundle import Bundle, write_bundle
from convpredict.models.fitting import fit_conversion_model, make_bundle
from convpredict.models.horizons import fit_further_horizons
from convpredict.monitoring.after_night import after_night
from convpredict.monitoring.reports import read_manifests, read_reports
from convpredict.scoring.nightly.facts import ModelIdentity
from convpredict.scoring.nightly.model import NightModel
from convpredict.scoring.nightly.run import run_nights
from convpredict.scoring.nightly.session import Session
from convpredict.scoring.nightly.state import NightFolder
from convpredict.scoring.run_log import RunLog
from convpredict.training.as_of import history_as_of
from convpredict.training.training_set import build_training_set

START = datetime(2024, 1, 1, tzinfo=UTC)
SCORED_FROM = datetime(2025, 1, 1, tzinfo=UTC)
DRIFT_DAY, OUTAGE_NIGHT, OUTAGE_DAYS = 213, 18, 3
WATCHED = ("channel", "company_size", "job_role")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leads", type=int, default=60_000)
    parser.add_argument("--events", type=float, default=10.0, help="interactions per lead")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--channel", default="organic_search")
    parser.add_argument("--kind", default="email_open")
    parser.add_argument("--every", type=int, default=7, help="days between nights")
    parser.add_argument("--no-clean", action="store_true", help="leave out the years without plants")
    parser.add_argument("--keep", type=Path, help="keep the folders here")
    options = parser.parse_args()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        bundle = None
        for planted in (True,) if options.no_clean else (True, False):
            with tempfile.TemporaryDirectory() as folder:
                at = (
                    options.keep / f"{seed}-{'planted' if planted else 'clean'}"
                    if options.keep
                    else Path(folder)
                )
                bundle = run(at, options, seed, planted, bundle)


def run(folder: Path, options: argparse.Namespace, seed: int, planted: bool, bundle: Bundle | None) -> Bundle:
    """One year: simulate, train, publish every night, print what was found; gives the model.

    ``bundle``: of the same seed with the plants or without: what was known before the scored year is the same.
    """
    began = time.perf_counter()
    offset = (SCORED_FROM - START).days
    outage_day = offset + 7 * OUTAGE_NIGHT - OUTAGE_DAYS
    config = SimulatorConfig(
        leads=options.leads,
        seed=seed,
        start=START,
        days=offset + 365,
        interactions_per_lead=options.events,
        drift=ChannelDrift(channel=options.channel, from_day=offset + DRIFT_DAY) if planted else None,
        outage=KindOutage(kind=options.kind, from_day=outage_day, days=OUTAGE_DAYS) if planted else None,
    )
    simulate(config, folder / "data")
    project = project_of(folder, config)
    history = load_history(project.config, project.data_dir)
    bundle = bundle or train(history, project)
    write_bundle(folder / "bundle", bundle)
    trained = time.perf_counter()
    identity = ModelIdentity(bundle.name, "1", bundle.digest, SCORED_FROM, SCORED_FROM)
    model = NightModel(bundle, identity)
    last = SCORED_FROM + timedelta(days=7 * 51)
    nights = [SCORED_FROM + timedelta(days=k) for k in range(0, (last - SCORED_FROM).days + 1, options.every)]
    session = Session(
        project=project,
        folder=NightFolder(folder / "nightly", project.config.name),
        choose_model=lambda cutoff, afterwards: model,
        read=lambda quarantine: history,
        log=RunLog(False, io.StringIO()),
        afterwards=True,
        after_night=after_night,
        clock=lambda: last,
    )
    for night in run_nights(session, nights):
        if night.exit_code not in (0, 7):
            print(f"  {night.run_id}: {night.message}")
    took = time.perf_counter() - trained
    print(
        f"\nseed {seed}, {'planted' if planted else 'no plants'}: {options.leads:,} leads, {history.n_interactions:,} "
        f"interactions, {history.conversions.num_rows:,} conversions; {trained - began:.0f} s to simulate and train, "
        f"{took:.0f} s for {len(nights)} nights"
    )
    tell(folder / "nightly", options, planted)
    return bundle


def train(history: Any, project: Project) -> Bundle:
    """The model that learns from all that was known before the scored year."""
    known = history_as_of(history, SCORED_FROM)
    training_set = build_training_set(known, project, judged=False)
    model = fit_conversion_model(training_set, project.config.model)
    further = fit_further_horizons(training_set, project.config.model, model)
    return make_bundle(training_set, model, None, further)


def project_of(folder: Path, config: SimulatorConfig) -> Project:
    """The project: two horizons, three attributes watched, nobody explained."""
    content = {
        "name": "year",
        "data": "data",
        **simulation_config_tables(config),
        "observations": {"cutoffs": {"every": "28d"}, "max_age": "180d"},
        "labels": {"horizons": ["30d", "7d"]},
        "model": {"n_estimators": 100, "num_leaves": 7, "seeds": 1},
        "reasons": {"leads": "none"},
        "monitoring": {"segments": list(WATCHED)},
        "nightly": {"publish": [{"parquet": str(folder / "scores")}]},
    }
    return parse_project(content, data=folder / "data")


def tell(folder: Path, options: argparse.Namespace, planted: bool) -> None:
    """Print what was found, when, and what was no plant."""
    drift_from = SCORED_FROM + timedelta(days=DRIFT_DAY)
    outage_from = SCORED_FROM + timedelta(days=7 * OUTAGE_NIGHT - OUTAGE_DAYS)
    outage_to = outage_from + timedelta(days=OUTAGE_DAYS)
    gates: dict[str, list[str]] = {}
    for manifest in read_manifests(folder):
        for gate in manifest["gates"]:
            if gate["verdict"] in ("warn", "stop"):
                gates.setdefault(gate["gate"], []).append(f"{manifest['cutoff'][:10]} {gate['verdict']}")
    raised = [
        (report.cutoff, alarm)
        for report in read_reports(folder)
        for alarm in report.alarms
        if alarm["since"] == report.cutoff
    ]
    if planted:
        halved = f"channel={options.channel}"
        found = [
            cutoff for cutoff, alarm in raised if alarm["kind"] == "quality" and alarm["subject"] == halved
        ]
        found = [cutoff for cutoff in found if _instant(cutoff) > drift_from]
        print(f"  {halved} halved on {drift_from:%Y-%m-%d}: {_delay(found, drift_from)}")
        silent = [
            entry[:10] for entry in gates.get("freshness_kinds", []) if entry[:10] >= f"{outage_to:%Y-%m-%d}"
        ]
        print(
            f"  {options.kind} missing {outage_from:%Y-%m-%d} to {outage_to:%Y-%m-%d}: {_delay(silent, outage_from)}"
        )
    for name, entries in gates.items():
        print(
            f"  gate {name}: {', '.join(entries[:6])}{f' and {len(entries) - 6} more' if len(entries) > 6 else ''}"
        )
    for cutoff, alarm in raised:
        when = (
            ""
            if not planted
            else " (before the drift)"
            if _instant(cutoff) <= drift_from
            else " (after the drift)"
        )
        print(f"  alarm {cutoff[:10]}{when} {alarm['kind']}: {_short(alarm)}")


def _delay(found: list[str], planted: datetime) -> str:
    if not found:
        return "not found"
    return f"found on {found[0][:10]}, {(_instant(found[0]) - planted).days} days later"


def _short(alarm: Mapping[str, Any]) -> str:
    return str(alarm["sentence"]).split(" All segments")[0]


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
