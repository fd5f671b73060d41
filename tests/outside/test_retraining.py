"""retrain-if from the reason to the gate: a real training, its registration, and the promotion that is refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from convpredict.workflows import list_models, nightly, retrain_if
from nightly_project import make_project

pytestmark = pytest.mark.skipif(
    not os.environ.get("CONVPREDICT_OUTSIDE"), reason="trains and registers a model; run by make outside"
)
NIGHT = datetime(2025, 10, 12, tzinfo=UTC)
LATER = NIGHT + timedelta(days=7)


def test_a_challenger_that_is_not_promoted_gives_exit_code_10_and_a_pause(tmp_path):
    project = make_project(tmp_path / "project")
    folder = project.config.parent / "nightly"
    nightly(project.config, start=NIGHT, end=NIGHT, run=project.run)
    strict = ["monitoring.retrain.age=7d", "promotion.min_converting_leads=100000"]
    strict += ["evaluation.resamples=50", "leakage.enabled=false", "labels.horizons=[30d]"]
    given = {"overrides": strict, "out": tmp_path / "trained"}
    run = retrain_if(project.config, now=LATER, **given)
    assert (run.outcome, run.exit_code) == ("not promoted", 10)
    assert (tmp_path / "trained" / "metrics.json").is_file()
    assert "not promoted" in run.text
    assert list_models(project.config).versions[0].version == "1"
    state = folder / "monitoring" / "retrain.json"
    assert json.loads(state.read_text())["outcome"] == "not promoted"
    again = retrain_if(project.config, now=LATER + timedelta(days=6), **given)
    assert (again.outcome, again.exit_code) == ("paused", 0)
    assert again.reasons
    assert len(list_models(project.config).versions) == 1
    due = retrain_if(project.config, dry_run=True, now=LATER + timedelta(days=8), **given)
    assert due.outcome == "would train"
