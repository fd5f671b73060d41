"""bpic2012: AUC by prefix length, beside XGBoost on the three usual encodings of a prefix.

The encodings follow Teinemaa et al. (2019), Outcome-oriented predictive process monitoring: *last state* (the last
event's attributes), *aggregation* (counts of each activity and resource over the prefix), *index* (the activity at
each position, and the hours between them, of the latest fifteen events). Each has the case's static attribute, the
hours since its start and the weekday and hour of the cutoff too. XGBoost learns from the rows that our model is fitted
on, and is judged on the same test rows. Without the package its columns stay empty
(``pip install 'convpredict[benchmarks]'``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from convpredict.config.load import load_project
from convpredict.training.training_set import TrainingSet
from convpredict.workflows.common import read_history

from .rows import ROOT, Row, paired, row, trained

PREFIXES = ((1, 3), (4, 6), (7, 10), (11, 15), (16, 20), (21, 30), (31, 10**6))
PROTOCOL = "a cutoff after every event, approved within 14 days, the last 20 % of cases by start"
POSITIONS = 15


class Prefixes:
    """Every prefix of the log: per observation its events' codes, in order, up to the cutoff."""

    def __init__(self, data: Path, rows: pd.DataFrame) -> None:
        project = load_project(ROOT / "configs/bpic2012.yaml", data=data / "bpic2012")
        history = read_history(project)
        events = history.query(
            "SELECT lead_row, occurred_at, kind, resource FROM interactions "
            "ORDER BY lead_row, occurred_at, visible_at"
        ).to_pandas()
        leads = history.leads.select(["lead_id", "created_at", "amount_requested"]).to_pandas()
        of_event = leads.iloc[events["lead_row"].to_numpy()].reset_index(drop=True)
        self.kind, self.kinds = pd.factorize(events["kind"].astype(str))
        self.resource, self.resources = pd.factorize(events["resource"].astype(str))
        self.at = events["occurred_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
        lead = of_event["lead_id"].astype(str).to_numpy()
        first = pd.Series(np.arange(len(lead))).groupby(lead).min()
        cutoff = pd.DatetimeIndex(rows["cutoff"]).tz_convert(None).as_unit("us").asi8
        ids = rows["lead_id"].astype(str)
        self.start = first.reindex(ids).to_numpy()
        per_case = pd.Series(self.at).groupby(lead)
        times = {case: values.to_numpy() for case, values in per_case}
        self.length = np.array([np.searchsorted(times[i], c) for i, c in zip(ids, cutoff, strict=True)])
        created = of_event["created_at"].to_numpy().astype("datetime64[us]").astype(np.int64)[self.start]
        when = pd.DatetimeIndex(rows["cutoff"])
        self.common = np.column_stack(
            [
                of_event["amount_requested"].to_numpy(np.float64)[self.start],
                (cutoff - created) / 3.6e9,
                when.day_of_week,
                when.hour,
                self.length,
            ]
        )

    def last_state(self) -> np.ndarray:
        """The last event's activity and resource, one-hot."""
        last = self.start + self.length - 1
        kinds, resources = (
            np.eye(len(self.kinds))[self.kind[last]],
            np.eye(len(self.resources))[self.resource[last]],
        )
        return np.hstack([self.common, kinds, resources]).astype(np.float32)

    def aggregation(self) -> np.ndarray:
        """How often each activity and resource occurred in the prefix."""
        return np.hstack([self.common, self._counts(self.kind), self._counts(self.resource)]).astype(
            np.float32
        )

    def index(self) -> np.ndarray:
        """The activity (one-hot) and the hours since the event before, at each of the latest positions."""
        blocks = [self.common]
        for back in range(1, POSITIONS + 1):
            there = self.length >= back
            position = np.where(there, self.start + self.length - back, 0)
            hours = np.where(self.length > back, (self.at[position] - self.at[position - 1]) / 3.6e9, np.nan)
            blocks += [np.eye(len(self.kinds))[self.kind[position]] * there[:, None], hours[:, None]]
        return np.hstack(blocks).astype(np.float32)

    def _counts(self, codes: np.ndarray) -> np.ndarray:
        running = np.vstack([np.zeros(codes.max() + 1), np.cumsum(np.eye(codes.max() + 1)[codes], axis=0)])
        return running[self.start + self.length] - running[self.start]


def xgboost_predictions(data: Path, training_set: TrainingSet, test: pd.DataFrame) -> dict[str, np.ndarray]:
    """Probabilities of the test rows by encoding; empty where XGBoost is not installed."""
    try:
        from xgboost import XGBClassifier
    except ImportError:
        return {}
    development = training_set.part("development")
    label = training_set.y("development").to_numpy()
    learn, judge = Prefixes(data, development), Prefixes(data, test)
    encodings: dict[str, Callable[[Prefixes], np.ndarray]] = {
        "last state": Prefixes.last_state,
        "aggregation": Prefixes.aggregation,
        "index": Prefixes.index,
    }
    result = {}
    for name, encode in encodings.items():
        model = XGBClassifier(
            n_estimators=300, learning_rate=0.05, max_depth=6, subsample=0.8, colsample_bytree=0.5,
            tree_method="hist", random_state=0, n_jobs=1,
        )  # fmt: skip
        result[name] = model.fit(encode(learn), label).predict_proba(encode(judge))[:, 1]
    return result


def measure(data: Path) -> list[Row]:
    """AUC over all prefixes and by their length: ours, each encoding of XGBoost, and hand-set points."""
    with trained("bpic2012", data) as run:
        training_set = TrainingSet.load(run.folder / "training_set")
        frame = run.predictions
        counts = training_set.part("test")[["lead_id", "cutoff", "count_all"]]
        frame = frame.merge(counts, on=["lead_id", "cutoff"], validate="one_to_one")
        references = xgboost_predictions(data, training_set, frame)
        ratio = run.entry("calibration_ratio")
    named = {f"XGBoost, {name}": p for name, p in references.items()}
    named["hand-set points"] = frame["scorecard_points"].to_numpy(np.float64)
    rows = [row("bpic2012", PROTOCOL, "predicted / observed", *ratio, 1.0, "perfect calibration")]
    for first, last in ((1, 10**6), *PREFIXES):
        inside = frame["count_all"].between(first, last).to_numpy()
        events = f"{first}-{last}" if last < 10**6 else f"{first} or more"
        for name, score in named.items():
            entry = paired(
                frame["label"].to_numpy(np.float64)[inside],
                frame["p"].to_numpy()[inside],
                score[inside],
                frame["lead_id"][inside],
                ("auc",),
            )["auc"]
            not_worse = entry["difference"][2] >= 0
            rows.append(
                row(
                    "bpic2012",
                    PROTOCOL,
                    f"auc, {events} events",
                    *entry["ours"],
                    entry["reference"][0],
                    name,
                    met=not_worse,
                )
            )
    return rows
