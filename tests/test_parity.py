"""Training and scoring agree: what a model learnt from is what it is asked about, cell for cell.

The training set is built from the whole history, long afterwards. The scoring path gets only what was known
at the time: the history is cut off there, as if the night of the scoring run were today.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cells import cells_of
from convpredict.config.base import Duration
from convpredict.config.load import Project, parse_project
from convpredict.features.build import build_features
from convpredict.training.observations import open_observations
from convpredict.training.training_set import TrainingSet, build_training_set
from every_family import ACROSS_LEADS, OWN_ROWS
from oracle import Rows
from strategies import from_seed, history_of, known, make_rows

MAX_AGE = Duration("60d")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make_rows(from_seed(11), most_leads=400, most_events=12)


def project(*, default: bool) -> Project:
    declared = [declaration.model_dump(mode="json") for declaration in (*OWN_ROWS, *ACROSS_LEADS)]
    return parse_project(
        {
            "name": "parity",
            "sources": {"nothing": {"file": "nothing.csv"}},
            "history": {"leads": {"source": "nothing"}},
            "observations": {"cutoffs": {"every": "1d"}, "max_age": str(MAX_AGE)},
            "labels": {"horizons": ["3d"]},
            "split": {"calibrate_from": "2024-01-15", "test_from": "2024-01-25"},
            "features": {"min_count": 5, "default": default, "declare": [] if default else declared},
        }
    )


def as_known_at(rows: Rows, instant: datetime) -> Rows:
    """What anybody could know just before an instant."""
    leads = [row for row in rows.leads if known(row[1], None, instant)]
    ids = {row[0] for row in leads}
    return rows.with_(
        leads=[(*row[:2], row[2] if row[2] and row[2] < instant else None, row[3]) for row in leads],
        interactions=[row for row in rows.interactions if row[0] in ids and known(row[1], row[3], instant)],
        conversions=[
            row
            for row in rows.conversions
            if row[0] in ids and (row[1] is None or known(row[1], row[2], instant))
        ],
        attribute_changes=[
            row for row in rows.attribute_changes if row[0] in ids and known(row[3], row[4], instant)
        ],
    )


def frame_cells(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[Any, Any]:
    """The cells of a training frame, in the form of ``cells_of``."""
    keys = list(zip(frame["lead_id"], frame["cutoff"], strict=True))
    found: dict[Any, Any] = {}
    for name in names:
        if frame[name].dtype == np.float32:
            values: list[Any] = [value.tobytes() for value in frame[name].to_numpy()]
        else:
            values = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        found.update({(*key, name): value for key, value in zip(keys, values, strict=True)})
    return found


@pytest.mark.parametrize("default", [True, False], ids=["default features", "every family"])
def test_the_same_cell_comes_out_in_the_training_set_and_in_scoring(rows: Rows, default: bool) -> None:
    training: TrainingSet = build_training_set(history_of(rows), project(default=default))
    frame = training.frame
    instants = Counter(frame["cutoff"]).most_common()
    assert len(instants) > 20
    compared = 0
    for instant, _ in instants[::3]:
        as_of = instant.to_pydatetime()
        then = history_of(as_known_at(rows, as_of), known_until=as_of)
        scored = open_observations(then, as_of, MAX_AGE).table
        cells = cells_of(build_features(then, scored, training.feature_set))
        learnt = frame_cells(frame[frame["cutoff"] == instant], training.feature_set.names)
        assert {key: cells.get(key, "not scored") for key in learnt} == learnt
        compared += len(learnt)
    assert compared > 10_000
