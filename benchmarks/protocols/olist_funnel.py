"""olist_funnel: scored one day after the first contact; leads of the last fifth may still be won after the export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from convpredict.training.training_set import TrainingSet

from .rows import Row, TrainedRun, paired, plain_lightgbm, row, trained

SOURCES = "olist_marketing_qualified_leads_dataset.csv.gz", "olist_closed_deals_dataset.csv.gz"
BAR = 0.70
REFERENCE = 0.697
WITHIN = 0.15
PROTOCOL = "one day after the first contact, the last 20 % of leads by first contact; {}"


def days_to_win(data: Path, lead_ids: pd.Series) -> np.ndarray:
    """Days from the first contact to the win, infinite where none is known by the end of the export."""
    folder = data / "olist_funnel"
    leads, deals = (pd.read_csv(folder / name) for name in SOURCES)
    joined = leads.merge(deals[["mql_id", "won_date"]], on="mql_id", how="left").set_index("mql_id")
    days = (
        pd.to_datetime(joined["won_date"]) - pd.to_datetime(joined["first_contact_date"])
    ).dt.total_seconds()
    return days.reindex(lead_ids.astype(str)).fillna(np.inf).to_numpy() / 86_400


def value_rows(run: TrainedRun) -> list[Row]:
    """Predicted over actual revenue: of all leads (P x value), and of the converted ones alone (value)."""
    protocol = PROTOCOL.format("revenue within 90 days, the undated totals spread evenly")
    rows = []
    for who, name in (
        ("expected_value", "expected revenue / revenue brought"),
        ("value", "the same, of the won leads alone"),
    ):
        ratio = run.metrics["value"][who]["model"]["total_ratio"]
        figures = ratio["value"], ratio["low"], ratio["high"]
        met = abs(ratio["value"] - 1) <= WITHIN
        rows.append(row("olist_funnel", protocol, name, *figures, 1.0, "within 15 %", met=met))
    coverage = run.metrics["value"]["value"]["coverage"]
    name = "share of the won leads inside their interval"
    return [*rows, row("olist_funnel", protocol, name, coverage, None, None, 0.8, "the interval's claim")]


def measure(data: Path) -> list[Row]:
    """AUC of one score against what it predicts and against every later win; and how well it is calibrated."""
    with trained("olist_funnel", data) as run:
        frame = run.predictions
        training_set = TrainingSet.load(run.folder / "training_set")
        rows = [
            row(
                "olist_funnel",
                PROTOCOL.format("won within 30 days"),
                "auc",
                *run.entry("auc"),
                BAR,
                "the bar",
                met=run.entry("auc")[0] > BAR,
            ),
            row(
                "olist_funnel",
                PROTOCOL.format("won within 30 days"),
                "predicted / observed",
                *run.entry("calibration_ratio"),
                1.0,
                "perfect calibration",
            ),
            *value_rows(run),
        ]
    plain = plain_lightgbm(
        training_set.X("development"), training_set.y("development").to_numpy(), training_set.X("test")
    )
    beside = paired(
        frame["label"].to_numpy(np.float64), frame["p"].to_numpy(), plain, frame["lead_id"], ("auc",)
    )["auc"]
    name = "plain LightGBM, same rows known by then"
    within = PROTOCOL.format("won within 30 days")
    rows += [
        row("olist_funnel", within, "auc", *beside["ours"], beside["reference"][0], name),
        row("olist_funnel", within, "auc, difference", *beside["difference"], 0.0, name),
    ]
    days = days_to_win(data, frame["lead_id"])
    for name, limit in (("won within 90 days", 91.0), ("won by the end of the export", np.inf)):
        label = (days < limit).astype(np.float64)
        entry = paired(label, frame["p"].to_numpy(), None, frame["lead_id"], ("auc",))["auc"]["ours"]
        reference = REFERENCE if limit == np.inf else BAR
        rows.append(
            row(
                "olist_funnel",
                PROTOCOL.format(f"the same score against {name}"),
                "auc",
                *entry,
                reference,
                "plain LightGBM told who won later" if limit == np.inf else "the bar",
                met=entry[0] > BAR,
            )
        )
    return rows
