"""From files and frames to cells: what the loader hands on gives the features that the raw rows promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cells import cells_of, observations_of
from convpredict.config.load import parse_project
from convpredict.features.build import build_features
from convpredict.history.frames import history_from_frames
from convpredict.history.history import History
from convpredict.history.load import load_history
from every_family import INTERACTION_ATTRIBUTES, LEAD_ATTRIBUTES, every_family_set
from factories import day
from oracle import Rows
from strategies import from_seed, make_cutoff, make_rows
from test_oracle import disagreements

KNOWN_UNTIL = day(200)
COLUMNS = {
    "interactions": ["lead_id", "occurred_at", "kind", "recorded_at"],
    "conversions": ["lead_id", "converted_at", "recorded_at"],
    "attribute_changes": ["lead_id", "attribute", "value", "valid_from", "recorded_at"],
}


def acceptable(rows: Rows) -> Rows:
    """The rows that validation has nothing against: conversions after creation, interactions with a kind."""
    created = {row[0]: row[1] for row in rows.leads}
    return rows.with_(
        conversions=[row for row in rows.conversions if row[1] is None or row[1] > created[row[0]]],
        interactions=[row for row in rows.interactions if row[2] is not None],
        attribute_changes=[row for row in rows.attribute_changes if row[1] != "renewal"],
    )


def frames_of(rows: Rows) -> dict[str, pd.DataFrame]:
    """The tables as pandas frames with convpredict's column names."""
    frames = {
        "leads": pd.DataFrame(
            [{"lead_id": row[0], "created_at": row[1], "lost_at": row[2], **row[3]} for row in rows.leads]
        )
    }
    for name, columns in COLUMNS.items():
        table = [
            {**dict(zip(columns, row, strict=False)), **(row[4] if name == "interactions" else {})}
            for row in getattr(rows, name)
        ]
        frames[name] = pd.DataFrame(table)
    for frame in frames.values():
        for column in frame.columns:
            if column.endswith("_at") or column in ("valid_from", "renewal"):
                frame[column] = pd.to_datetime(frame[column], utc=True).astype("datetime64[us, UTC]")
    return frames


def from_frames(rows: Rows, _: Path) -> History:
    return history_from_frames(
        **frames_of(rows),
        lead_attributes=LEAD_ATTRIBUTES,
        interaction_attributes=INTERACTION_ATTRIBUTES,
        known_until=KNOWN_UNTIL,
    )


def from_files(rows: Rows, folder: Path, suffix: str) -> History:
    frames = frames_of(rows)
    for name, frame in frames.items():
        path = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False)
    project: dict[str, Any] = {
        "name": "files",
        "sources": {name: {"file": f"{name}.{suffix}"} for name in frames},
        "history": {name: {"source": name} for name in frames},
    }
    project["history"]["leads"]["attributes"] = LEAD_ATTRIBUTES
    project["history"]["interactions"]["attributes"] = INTERACTION_ATTRIBUTES
    project["history"]["known_until"] = KNOWN_UNTIL.isoformat()
    return load_history(parse_project(project).config, folder)


WAYS: dict[str, Callable[[Rows, Path], History]] = {
    "frames": from_frames,
    "parquet": lambda rows, folder: from_files(rows, folder, "parquet"),
    "csv": lambda rows, folder: from_files(rows, folder, "csv"),
    "csv.gz": lambda rows, folder: from_files(rows, folder, "csv.gz"),
}


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_history_gives_the_cells_that_its_rows_promise(way: str, seed: int, tmp_path: Path) -> None:
    choose = from_seed(seed)
    rows = acceptable(make_rows(choose, most_leads=60, most_events=15))
    history = WAYS[way](rows, tmp_path)
    assert history.n_leads == len(rows.leads)
    assert history.n_interactions == len(rows.interactions)
    assert history.conversions.num_rows == len(rows.conversions)
    pairs = [(lead[0], make_cutoff(choose, rows)) for lead in rows.leads for _ in range(2)]
    table = build_features(history, observations_of(rows, pairs), every_family_set())
    cells = cells_of(table)
    assert len(cells) > 1000
    assert disagreements(rows, cells) == []
