"""hillstrom: a randomised e-mail test. Here visit and conversion are predicted plainly; uplift is another matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from convpredict.models.conversion import ConversionModel

from .rows import Row, paired, plain_lightgbm, row

PROTOCOL = "static table, a fifth by hash of the row; the arm of the e-mail is a feature"
FEATURES = (
    "recency",
    "history_segment",
    "history",
    "mens",
    "womens",
    "zip_code",
    "newbie",
    "channel",
    "segment",
)


def read_table(data: Path) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Features, outcomes and which rows are held out."""
    frame = pd.read_csv(data / "hillstrom" / "hillstrom.csv.gz")
    features = frame[list(FEATURES)]
    text = [name for name in features if not pd.api.types.is_numeric_dtype(features[name])]
    held_out = pd.util.hash_array(np.arange(len(frame))) % np.uint64(5) == 0
    return features.astype(dict.fromkeys(text, "category")), frame[["visit", "conversion"]], held_out


def measure(data: Path) -> list[Row]:
    """AUC and log loss of visit and conversion, ours and a plain LightGBM on the same rows."""
    features, outcomes, held_out = read_table(data)
    customers = np.flatnonzero(held_out)
    rows = []
    for outcome in ("visit", "conversion"):
        label = outcomes[outcome].to_numpy(np.float64)
        model = ConversionModel().fit(features[~held_out], label[~held_out])
        ours = model.predict_proba(features[held_out])[:, 1]
        plain = plain_lightgbm(features[~held_out], label[~held_out], features[held_out])
        for metric, entry in paired(label[held_out], ours, plain, customers, ("auc", "log_loss")).items():
            rows += [
                row(
                    "hillstrom",
                    PROTOCOL,
                    f"{outcome}: {metric}",
                    *entry["ours"],
                    entry["reference"][0],
                    "plain LightGBM",
                ),
                row(
                    "hillstrom",
                    PROTOCOL,
                    f"{outcome}: {metric}, difference",
                    *entry["difference"],
                    0.0,
                    "plain LightGBM",
                ),
            ]
    return rows
