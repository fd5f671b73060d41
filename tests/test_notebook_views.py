"""How objects show themselves: a table in a notebook, a line in a terminal, and nobody's data beyond ids."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import convpredict as cp
from convpredict.config.base import Duration
from convpredict.config.history import ValidationConfig
from convpredict.config.training import ScorecardConfig
from convpredict.evaluation.judgement import Judgement
from convpredict.evaluation.leakage.findings import Finding, LeakageReport
from convpredict.evaluation.plots import draw_scores
from convpredict.evaluation.tables import horizon_cells, value_cells
from convpredict.features.vocabulary import Vocabularies
from convpredict.history.notebook_view import facts_html, list_html, paragraph_html, table_html
from convpredict.scoring.scores import Scores

NASTY = "<script>alert('x')</script>&"


class Balanced(HTMLParser):
    """Collects tags that are not closed, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.scripts += tag == "script"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> list[str]:
    """The texts of well-formed HTML that holds no script."""
    parsed = Balanced(html)
    assert parsed.open == []
    assert parsed.scripts == 0
    return parsed.text


class TestParts:
    def test_texts_are_escaped_everywhere(self) -> None:
        parts = [
            paragraph_html(NASTY),
            list_html([NASTY]),
            table_html([NASTY], [[NASTY]]),
            facts_html({NASTY: NASTY}),
        ]
        for html in parts:
            assert set(read(html)) == {NASTY}

    def test_cells_are_written_for_people(self) -> None:
        table = table_html(["a", "b", "c", "d"], [[12345, 0.5, None, True]])
        assert re.findall(r"<td[^>]*>(.*?)</td>", table) == ["12,345", "0.5", "", "True"]
        assert facts_html({"a": None, "b": 0}).count("<tr>") == 1

    def test_a_row_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            table_html(["a", "b"], [["one"]])


def some_history() -> cp.History:
    leads = {"lead_id": ["a", "b"], "created_at": "2024-01-01", "source": [NASTY, "fair"]}
    interactions = {"lead_id": ["a", "zz"], "occurred_at": "2024-02-01", "kind": "call"}
    return cp.history_from_frames(
        leads=pd.DataFrame(leads),
        interactions=pd.DataFrame(interactions),
        conversions=pd.DataFrame({"lead_id": ["a"], "converted_at": ["2024-02-10"]}),
        timezone="UTC",
        known_until="2024-03-01",
        validation=ValidationConfig(max_bad_share=0.9),
    )


def test_a_history_shows_its_tables_and_what_was_set_apart() -> None:
    history = some_history()
    html = history._repr_html_()
    texts = read(html)
    assert "2 leads, 1 converted; known until 2024-03-01 00:00 UTC" in texts
    assert "unknown lead" in texts
    assert "source (category)" in texts
    assert NASTY not in texts, "values of leads are not shown"
    assert repr(history) == "History(2 leads, 1 interactions, 1 converted, known until 2024-03-01 00:00 UTC)"


def test_a_history_without_a_report_shows_its_line() -> None:
    history = some_history()
    bare = cp.History.trusted(history.leads, known_until=history.known_until)
    assert read(bare._repr_html_()) == [repr(bare)]


@pytest.fixture(scope="module")
def fitted() -> tuple[pd.DataFrame, cp.ConversionModel]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"calls": rng.poisson(3.0, 300), "source": pd.Categorical(rng.choice(["ads", "fair"], 300))}
    )
    y = rng.random(300) < 1 / (1 + np.exp(3 - X["calls"]))
    return X, cp.ConversionModel(seeds=1, n_estimators=20, num_leaves=4, logistic_weight=0.3).fit(X, y)


class TestEstimators:
    def test_a_model_shows_parameters_and_what_was_fitted(
        self, fitted: tuple[pd.DataFrame, cp.ConversionModel]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            new, html = cp.ConversionModel()._repr_html_(), fitted[1]._repr_html_()
        assert "Fitted attributes" in html
        assert "Fitted attributes" not in new
        assert "TreeEnsemble(" in html
        assert repr(fitted[1].trees_) == "TreeEnsemble(1 seeds, 2 features)"
        assert "object at 0x" not in html
        assert len(html) < 60_000

    def test_value_models_and_scorecards_show_themselves(self, fitted: tuple[pd.DataFrame, Any]) -> None:
        X = fitted[0]
        value = cp.ValueModel(family="mean").fit(X, np.exp(np.linspace(1.0, 5.0, 300)))
        card = cp.Scorecard(ScorecardConfig(rules=[{"kind": "call", "points": 5}]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shown = value._repr_html_()
            assert "ValueModel" in shown
            assert "object at 0x" not in shown
            assert "Scorecard" in card._repr_html_()


def test_a_bundle_says_what_it_predicts(fitted: tuple[pd.DataFrame, cp.ConversionModel]) -> None:
    words = Vocabularies({}, {})
    month, week = Duration("30d"), Duration("7d")
    features = cp.FeatureSet.declare((), words)
    bundle = cp.Bundle(NASTY, fitted[1], features, month, further={week: fitted[1]})
    texts = read(bundle._repr_html_())
    assert NASTY in texts
    assert "conversion within 7d, 30d" in texts
    assert "20 trees of 4 leaves, logistic part 0.3, calibrator none" in texts
    assert "value" not in texts
    assert repr(bundle) == f"Bundle({NASTY!r}, horizons 7d, 30d, 0 features)"


def test_scores_show_counts_and_no_rows() -> None:
    cutoff = pd.Timestamp("2025-06-01", tz="UTC")
    table = pa.table(
        {
            "lead_id": ["anna@example.org", "ben@example.org"],
            "cutoff": pa.array([cutoff, cutoff], pa.timestamp("us", tz="UTC")),
            "p_convert_30d": [0.25, 0.05],
            "expected_value": [1000.0, 234.4],
        }
    )
    scores = Scores(table, "p_convert_30d", {"too_old": 3, "after_loss": 0})
    texts = read(scores._repr_html_())
    assert "0.3 (sum of p_convert_30d)" in texts
    assert {"2", "2025-06-01 00:00 UTC", "25.0%", "15.00%", "too_old 3", "1,234"} <= set(texts)
    assert "anna" not in scores._repr_html_()
    assert repr(scores) == "Scores(2 open leads by p_convert_30d)"
    empty = Scores(table.slice(0, 0), "p_convert_30d", {})
    assert "0.0 (sum of p_convert_30d)" in read(empty._repr_html_())


def entry(
    value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def judged(**blocks: Any) -> Judgement:
    counts = {"rows": 900, "leads": 90, "converting_leads": 9, "base_rate": 0.01}
    test = {
        "model": {"auc": entry(0.8, 0.7, 0.9), "calibration_ratio": entry(1.1, 0.9, 1.3)},
        "scorecard": {"auc": entry(0.7, 0.6, 0.8), "calibration_ratio": entry(1.0, 0.9, 1.1)},
        "difference": {"auc": entry(0.1, -0.1, 0.3), "calibration_ratio": entry(0.1, 0.0, 0.2)},
        "counts": counts,
        "interval": {"confidence": 0.95},
    }
    return Judgement({"test": test, **blocks}, pd.DataFrame(), pd.DataFrame())


class TestJudgement:
    def test_sentences_then_the_metrics(self) -> None:
        texts = read(judged()._repr_html_())
        assert "AUC ↑" in texts
        assert ".800 [.700, .900]" in texts
        assert any("includes no difference" in text for text in texts)
        assert "Horizon" not in texts
        assert repr(judged()).startswith("Judged on 900 observations of 90 leads")

    def test_horizons_and_values_where_there_are_some(self) -> None:
        horizon = {
            "auc": entry(0.8),
            "log_loss": entry(0.02),
            "calibration_ratio": entry(1.0),
            "counts": {"rows": 1200},
        }
        heads, rows = horizon_cells({"7d": horizon, "90d": None})
        assert heads == ["Horizon", "Observations", "AUC ↑", "Log loss ↓", "Predicted / observed → 1"]
        assert rows == [
            ["7d", "1,200", ".800", ".02000", "1.000"],
            ["90d", "cannot be judged", "", "", ""],
        ]
        plain = {"spearman": 0.25, "decile_mape": None, "rmse": 1234.0, "mae": 12.0}
        ratios = {"total_ratio": entry(1.05, 0.9, 1.2), "normalised_gini": entry(0.5, 0.4, 0.6)}
        value = {
            "expected_value": {
                "model": {**plain, **ratios},
                "same_value": {**plain, **ratios},
                "coverage": 0.8,
            }
        }
        heads, rows = value_cells(value)
        assert heads == ["", "Model", "Same value"]
        assert [row[1] for row in rows] == [
            *("1.050 [.900, 1.200]", ".500 [.400, .600]", ".250", "undefined", "1234", "12"),
        ]
        texts = read(judged(horizons={"7d": horizon}, value=value)._repr_html_())
        assert {"cannot be judged"}.isdisjoint(texts)
        assert {"7d", "Same value", "Normalised Gini ↑"} <= set(texts)


def test_findings_are_a_table_and_nothing_found_is_a_line() -> None:
    finding = Finding("late_filled", ("product",), "severe", f"evidence {NASTY}", "reason", "remedy")
    found = LeakageReport.of([finding], {"other:x": "why"}, {"leads": 1200})
    texts = read(found._repr_html_())
    assert "findings of hindsight: 1 severe; stops training; looked at 1,200 leads" in texts
    assert {"late_filled:product", "severe", f"evidence {NASTY}", "remedy"} <= set(texts)
    assert "the waiver other:x fits no finding" in texts
    waived = LeakageReport.of([finding], {"late_filled:product": "set at creation"}, {})
    assert "severe, waived: set at creation" in read(waived._repr_html_())
    assert repr(waived) == "LeakageReport(findings of hindsight: 1 severe)"
    nothing = LeakageReport.of([], {}, {"leads": 2})
    assert read(nothing._repr_html_()) == ["no findings of hindsight; looked at 2 leads"]


def test_figures_show_themselves_without_a_display() -> None:
    figure = draw_scores([0, 1, 0, 1], [0.1, 0.4, 0.2, 0.6])
    picture, size = figure._repr_png_()  # type: ignore[attr-defined]
    assert picture.startswith(b"\x89PNG")
    assert size == {"width": 600, "height": 315}
