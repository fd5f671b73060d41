"""Customers as leads, on the real purchases of configs/cdnow*.yaml: nothing is lost on the way in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convpredict.config.load import load_project
from convpredict.history.history import History
from convpredict.training.labels import label_observations
from convpredict.training.observations import make_observations
from convpredict.training.repeat_revenue import repeat_revenue
from convpredict.workflows.common import read_history

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared/data/cdnow"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real purchases are not there ({DATA})")


@pytest.fixture(scope="module")
def history() -> History:
    return read_history(load_project(ROOT / "configs/cdnow.yaml", data=DATA), require=())


def test_every_purchase_arrives_also_several_a_day_and_those_for_nothing(history: History) -> None:
    assert (history.n_leads, history.n_interactions, history.revenue.num_rows) == (23_570, 69_659, 69_659)
    amount = history.revenue["amount"].to_numpy()
    assert (amount == 0).sum() == 80
    assert (amount < 0).sum() == 0


def test_everybody_is_a_customer_when_the_test_part_begins(history: History) -> None:
    for name, n_cutoffs in (("cdnow", 11), ("cdnow_spend", 8)):
        config = load_project(ROOT / f"configs/{name}.yaml", data=DATA).config
        made = make_observations(history, config.observations).table
        cutoffs = made["cutoff"].to_pylist()
        assert len(set(cutoffs)) == n_cutoffs
        assert max(cutoffs) == config.split.test_from
        assert cutoffs.count(max(cutoffs)) == 23_570


def test_the_labels_of_the_half_year_are_known(history: History) -> None:
    config = load_project(ROOT / "configs/cdnow.yaml", data=DATA).config
    made = make_observations(history, config.observations).table
    labels = label_observations(history, made, config.labels.horizons[-1:], config.labels.outcome)
    assert labels.column(0).null_count < made.num_rows


def test_repeat_revenue_leaves_the_first_day_out(history: History) -> None:
    test_from = load_project(ROOT / "configs/cdnow_spend.yaml", data=DATA).config.split.test_from
    assert test_from is not None
    revenue, exposure = repeat_revenue(history, test_from)
    assert len(revenue) == 39
    assert (np.diff(exposure) <= 0).all()
    assert revenue.sum() < history.revenue["amount"].to_numpy().sum()
