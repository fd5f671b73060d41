"""A forgotten lead that the sources still hold: to training and to scored lists it has not come yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from convpredict import workflows
from convpredict.config.history import SimulatorConfig
from convpredict.config.load import Project, load_project
from convpredict.history.simulator import simulate
from convpredict.scoring.forget.forgotten import read_forgotten, write_forgotten
from convpredict.training.as_of import without_leads
from convpredict.training.lead_times import LeadTimes, to_microseconds
from convpredict.training.training_set import build_training_set
from convpredict.workflows.common import read_history, read_outcomes

CONFIG = """
name: forgotten
data: data
sources: {leads: {file: leads.parquet}, interactions: {file: interactions.parquet},
  conversions: {file: conversions.parquet}, revenue: {file: revenue.parquet}}
history:
  leads: {source: leads, attributes: {channel: category, owner: category}}
  interactions: {source: interactions}
  conversions: {source: conversions}
  revenue: {source: revenue}
  known_until: "2025-12-31"
observations: {cutoffs: {every: 28d}, max_age: 180d}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("forgotten")
    simulate(SimulatorConfig(leads=1_200, seed=3), folder / "data")
    (folder / "project.yaml").write_text(CONFIG)
    return load_project(folder / "project.yaml")


def test_no_training_row_nor_outcome_of_a_forgotten_lead_is_left(project: Project) -> None:
    history = read_outcomes(project)
    before = build_training_set(history, project)
    converted = history.conversions["lead_row"].to_numpy()
    names = history.leads["lead_id"].to_pylist()
    chosen = [name for name in before.frame["lead_id"].unique() if names.index(name) in set(converted)][:3]
    nightly = project.path.parent / project.config.nightly.folder
    write_forgotten(nightly, read_forgotten(nightly).adding(chosen))
    without = read_outcomes(project)
    rows = [names.index(name) for name in chosen]
    assert not set(without.conversions["lead_row"].to_pylist()) & set(rows)
    assert not set(without.revenue["lead_row"].to_pylist()) & set(rows)
    after = build_training_set(without, project)
    assert set(before.frame["lead_id"]) - set(after.frame["lead_id"]) == set(chosen)
    assert without.fingerprint != history.fingerprint
    out = project.path.parent / "features.parquet"
    workflows.write_feature_table(project.path, out)
    assert not set(pq.read_table(out)["lead_id"].to_pylist()) & set(chosen)


def test_the_history_is_the_same_where_nobody_was_forgotten(project: Project) -> None:
    history = read_outcomes(project)
    assert without_leads(history, np.zeros(history.n_leads, bool)) is history


def test_a_left_out_lead_is_neither_settled_nor_at_work_for_the_rates_of_others(project: Project) -> None:
    history = read_history(project)
    gone = np.zeros(history.n_leads, bool)
    gone[:5] = True
    created = LeadTimes.of(without_leads(history, gone), "conversion").created_at
    assert (created[:5] > to_microseconds(history.known_until)).all()
    assert (created[5:] == LeadTimes.of(history, "conversion").created_at[5:]).all()


def test_a_damaged_list_of_the_forgotten_stops_the_training(tmp_path: Path, project: Project) -> None:
    from convpredict.errors import DataError

    folder = project.path.parent / project.config.nightly.folder
    folder.mkdir(exist_ok=True)
    kept = (folder / "forgotten.json").read_bytes() if (folder / "forgotten.json").exists() else None
    (folder / "forgotten.json").write_text("{")
    try:
        with pytest.raises(DataError, match="forgotten"):
            read_outcomes(project)
    finally:
        (folder / "forgotten.json").unlink()
        if kept is not None:
            (folder / "forgotten.json").write_bytes(kept)
