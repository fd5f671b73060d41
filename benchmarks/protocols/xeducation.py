"""xeducation: one row per lead, no dates. Columns that sales fill in during the process are left out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from convpredict.evaluation.leakage.audit import audit_table
from convpredict.models.conversion import ConversionModel

from .rows import Row, paired, plain_lightgbm, row

WRITTEN_BY_SALES = (
    "Tags",
    "Lead Quality",
    "Lead Profile",
    "Last Activity",
    "Last Notable Activity",
    "Asymmetrique Activity Index",
    "Asymmetrique Profile Index",
    "Asymmetrique Activity Score",
    "Asymmetrique Profile Score",
)
IDS = ("Prospect ID", "Lead Number")
REPEATS, FOLDS = 3, 5
PROTOCOL = "static table, 3 x 5-fold; without ids and the nine columns that sales fill in"


def read_table(data: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and labels of the honest table; ``Select`` and empty cells are missing, text is a category."""
    frame = pd.read_csv(data / "xeducation" / "Leads.csv.gz", na_values=["Select"])
    label = frame.pop("Converted").to_numpy(np.float64)
    frame = frame.drop(columns=[*WRITTEN_BY_SALES, *IDS]).dropna(axis=1, how="all")
    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    return frame.astype(dict.fromkeys(text, "category")), label


def audit(data: Path) -> list[Row]:
    """The leakage gate on the whole table: how many of the nine columns it flags, and how many others."""
    table = pd.read_csv(data / "xeducation" / "Leads.csv.gz")
    flagged = audit_table(table.drop(columns="Converted"), table["Converted"]).flagged
    found, others = flagged & set(WRITTEN_BY_SALES), sorted(flagged - set(WRITTEN_BY_SALES))
    protocol = f"leakage gate on all columns; flagged beside the nine: {', '.join(others) or 'none'}"
    total = len(WRITTEN_BY_SALES)
    return [
        row(
            "xeducation",
            protocol,
            "columns flagged of those that sales fill in",
            len(found),
            None,
            None,
            total,
            "the data's README",
            met=len(found) == total,
        )
    ]


def measure(data: Path) -> list[Row]:
    """AUC and log loss over the repeats, ours and a plain LightGBM on the same folds."""
    features, label = read_table(data)
    gate = audit(data)
    ours, plain = np.empty((REPEATS, len(label))), np.empty((REPEATS, len(label)))
    for repeat in range(REPEATS):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(features, label)
        for train, held_out in folds:
            inside, outside = features.iloc[train], features.iloc[held_out]
            model = ConversionModel().fit(inside, label[train])
            ours[repeat, held_out] = model.predict_proba(outside)[:, 1]
            plain[repeat, held_out] = plain_lightgbm(inside, label[train], outside)
    result = paired(label, ours, plain, np.arange(len(label)), ("auc", "log_loss"))
    fold_auc = result["auc"]
    return [
        *gate,
        row(
            "xeducation",
            PROTOCOL,
            "auc",
            *fold_auc["ours"],
            0.880,
            "the bar",
            met=fold_auc["ours"][0] >= 0.880,
        ),
        row(
            "xeducation",
            PROTOCOL,
            "auc",
            *fold_auc["ours"],
            fold_auc["reference"][0],
            "plain LightGBM, same folds",
        ),
        row(
            "xeducation",
            PROTOCOL,
            "auc, difference",
            *fold_auc["difference"],
            0.0,
            "plain LightGBM, same folds",
        ),
        row(
            "xeducation",
            PROTOCOL,
            "log_loss",
            *result["log_loss"]["ours"],
            result["log_loss"]["reference"][0],
            "plain LightGBM, same folds",
        ),
    ]
