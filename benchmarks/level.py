"""Do probabilities mean what they say? Predicted over observed conversions of the weeks after each boundary.

    python benchmarks/level.py [--data ../shared/data] [--only school_crm ...] [--json]

Trains at many instants of the past, on each data set before its test part, and predicts the rows of the next 28 days
(bpic2012: 7) whose outcomes were known before the test part begins. One model, four levels:

    long run   probabilities of the rows whose horizon had ended add up to their conversions
    newest     what became known within the last horizon over what was expected of it, taken as it is
    forecast   what the product does: models/level.py
    chance     95 % interval of predicted / observed were every probability right: Poisson's, of converting leads

The last lines give, over the boundaries, the root mean square of the log ratio, and what chance alone would give.
Neighbouring boundaries share outcomes: read the rows as a picture, not as independent trials.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from convpredict.config.load import load_project
from convpredict.history.history import History
from convpredict.history.load import load_history
from convpredict.models.calibration import level_shift
from convpredict.models.completion import DevelopmentCurve, microseconds
from convpredict.models.fitting import fit_conversion_model
from convpredict.models.level import count_by_period, shift_to
from convpredict.training.training_set import TrainingSet, build_training_set

ROOT = Path(__file__).parent.parent
WAYS = ("long run", "newest", "forecast")
SIZE = ["model.n_estimators=150", "model.num_leaves=7", "model.logistic_weight=0.3", "model.seeds=1"]
"""Set by hand: the level is compared, not the size."""


@dataclass(frozen=True)
class Plan:
    """Boundaries of a data set, all so early that the outcomes were known before the test part begins."""

    first: datetime
    last: datetime
    every_days: int
    period_days: int


PLANS = {
    "school_crm": Plan(datetime(2023, 10, 16, tzinfo=UTC), datetime(2024, 1, 15, tzinfo=UTC), 14, 28),
    "bpic2012": Plan(datetime(2011, 11, 14, tzinfo=UTC), datetime(2011, 12, 26, tzinfo=UTC), 14, 7),
    "olist_funnel": Plan(datetime(2018, 2, 12, tzinfo=UTC), datetime(2018, 2, 24, tzinfo=UTC), 4, 28),
}


@dataclass(frozen=True)
class Row:
    """Predicted over observed by level, of the rows after one boundary."""

    data_set: str
    boundary: str
    leads_converting: int
    ratio: dict[str, float]
    chance: tuple[float, float]


def measure(name: str, data: Path) -> Iterator[Row]:
    """One row per boundary."""
    plan, history = PLANS[name], None
    boundary = plan.first
    while boundary <= plan.last:
        project = load_project(
            ROOT / f"configs/{name}.yaml",
            data=data / name,
            overrides=[f"split.test_from={boundary.isoformat()}", *SIZE],
        )
        history = history or load_history(project.config, project.data_dir, require=("conversions",))
        yield one(name, history, build_training_set(history, project), project.config.model, boundary, plan)
        boundary += timedelta(days=plan.every_days)


def one(
    name: str, history: History, training_set: TrainingSet, config: object, boundary: datetime, plan: Plan
) -> Row:
    """The levels of one model, judged on the rows of the period that follows."""
    model = fit_conversion_model(training_set, config)  # type: ignore[arg-type]
    part = training_set.part("test")
    near = (part["cutoff"] < boundary + timedelta(days=plan.period_days)).to_numpy()
    label = training_set.y("test").to_numpy()[near]
    z = model.decision_function(training_set.X("test")[near])
    shifts = _shifts(training_set, model)
    forecast = model.selection_["level"]["shift"]
    leads = int(part["lead_id"][near][label == 1].nunique())
    ratio = {way: float(expit(z - forecast + shift).sum() / label.sum()) for way, shift in shifts.items()}
    ratio["forecast"] = float(expit(z).sum() / label.sum())
    low, high = chi2.ppf(0.025, 2 * leads) / 2, chi2.ppf(0.975, 2 * leads + 2) / 2
    return Row(name, f"{boundary:%Y-%m-%d}", leads, ratio, (leads / high, leads / low))


def _shifts(training_set: TrainingSet, model: object) -> dict[str, float]:
    """What would have been added to the logit instead, counted as the product counts."""
    moved = model.calibrator_.shifted(-model.selection_["level"]["shift"])  # type: ignore[attr-defined]
    logits = {
        part: moved.transform_logit(model.raw_logit(training_set.X(part)))  # type: ignore[attr-defined]
        for part in ("development", "recent")
    }
    ended, recent = training_set.part("development"), training_set.part("recent")
    known, label = training_set.outcomes("recent"), training_set.y("development").to_numpy()
    long_run = level_shift(logits["development"], float(label.sum()))
    curve = DevelopmentCurve.learn(
        logits["development"][label == 1], ended["event_known_after_us"].to_numpy()[label == 1]
    )
    after = [
        ended["event_known_after_us"].where(label == 1, -1),
        recent["event_known_after_us"].where(known.label == 1, -1),
    ]
    cutoff = np.concatenate([microseconds(rows["cutoff"]) for rows in (ended, recent)])
    periods = count_by_period(
        np.concatenate(list(logits.values())) + long_run,
        cutoff,
        np.concatenate(after),
        int(training_set.test_from.timestamp() * 1e6),
        training_set.horizons[0].microseconds,
        curve,
        groups=np.concatenate([ended["lead_id"], recent["lead_id"]]),
    )
    newest = (periods.conversions[-4:].sum() + 0.5) / (periods.expected[-4:].sum() + 0.5)
    return {
        "long run": long_run,
        "newest": long_run + shift_to(logits["recent"] + long_run, float(newest)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--only", action="append", choices=list(PLANS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if not arguments.json:
        print(
            f"{'data set':>14}{'boundary':>12}{'leads':>7}"
            + "".join(f"{way:>10}" for way in WAYS)
            + "  chance"
        )
    for name in arguments.only or PLANS:
        for row in measure(name, arguments.data):
            rows.append(row)
            if not arguments.json:
                ratios = "".join(f"{row.ratio[way]:>10.2f}" for way in WAYS)
                low, high = row.chance
                print(
                    f"{name:>14}{row.boundary:>12}{row.leads_converting:>7}{ratios}  {low:.2f}-{high:.2f}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print("\nroot mean square of ln(predicted / observed)")
    for name in dict.fromkeys(row.data_set for row in rows):
        mine = [row for row in rows if row.data_set == name]
        off = {way: float(np.sqrt(np.mean([np.log(row.ratio[way]) ** 2 for row in mine]))) for way in WAYS}
        chance = float(np.sqrt(np.mean([1 / row.leads_converting for row in mine])))
        print(f"{name:>33}" + "".join(f"{off[way]:>10.3f}" for way in WAYS) + f"  {chance:.3f}")


if __name__ == "__main__":
    main()
