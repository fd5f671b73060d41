"""Forgotten leads count for nobody: nights, lists and explanations see the same history without them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from convpredict import workflows
from convpredict.scoring.forget.forgotten import read_forgotten, write_forgotten
from nightly_project import NIGHT, NightlyProject, make_project

SCORES = ["lead_id", "p_convert_30d", "p_convert_90d"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> NightlyProject:
    """A project with one night, after which a tenth of the leads was forgotten."""
    made = make_project(tmp_path_factory.mktemp("nights"), leads=400, publish=[{"parquet": "scores"}])
    workflows.nightly(made.config, as_of=NIGHT, run=made.run)
    leads = pq.read_table(made.config.parent / "data" / "leads.parquet")["lead_id"].to_pylist()
    nightly = made.config.parent / "nightly"
    write_forgotten(nightly, read_forgotten(nightly).adding(leads[::10]))
    return made


def by_lead(path: Path) -> dict[int, tuple[float, float]]:
    rows = pq.read_table(path, columns=SCORES).to_pylist()
    return {row["lead_id"]: (row["p_convert_30d"], row["p_convert_90d"]) for row in rows}


def test_an_explanation_tells_that_leads_were_forgotten_since(project: NightlyProject) -> None:
    nightly = project.config.parent / "nightly"
    left = [
        lead
        for lead in by_lead(project.config.parent / "scores" / "latest.parquet")
        if lead not in read_forgotten(nightly)
    ]
    found = workflows.explain(project.config, str(left[0]), bundle=project.run / "bundle")
    assert found.to_dict()["verdict"] == "data changed"
    assert "Leads were forgotten since" in found.text


def test_a_night_gives_every_lead_the_score_of_a_list(project: NightlyProject, tmp_path: Path) -> None:
    folder = project.config.parent
    before = json.loads((folder / "nightly" / "cross_lead.json").read_text())
    (night,) = workflows.nightly(project.config, as_of=NIGHT, run=project.run, again="leads were forgotten")
    workflows.score(project.config, tmp_path / "list.parquet", bundle=project.run / "bundle", as_of=NIGHT)
    scored = by_lead(folder / "scores" / "latest.parquet")
    assert scored == by_lead(tmp_path / "list.parquet")
    assert night.manifest["forgotten"] > 0
    after = json.loads((folder / "nightly" / "cross_lead.json").read_text())
    assert before["outcomes"][0]["settled"] > after["outcomes"][0]["settled"]
    some = str(next(iter(scored)))
    told = workflows.explain(project.config, some, bundle=project.run / "bundle")
    assert told.to_dict()["verdict"] == "reproduced exactly"
    assert "forgotten since" not in told.text
