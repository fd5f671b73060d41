"""The comparison of model and scorecard, and the sentences drawn from it."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from convpredict.config.training import EvaluationConfig
from convpredict.evaluation import metrics
from convpredict.evaluation.comparison import count_observations, evaluate, metric_names
from convpredict.evaluation.report.verdicts import judge_calibration
from convpredict.evaluation.sentences import state_comparison, state_further
from convpredict.evaluation.tables import metric_cells, metrics_table

CONFIG = EvaluationConfig(resamples=120)


def make_observations(rows=4000, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    leads = np.repeat(np.arange(rows // 4), 4)
    logit = np.repeat(rng.normal(-2.5, 1.2, rows // 4), 4) + 0.2 * rng.normal(size=rows)
    p = 1 / (1 + np.exp(-logit))
    label = (rng.random(rows) < p).astype(int)
    points = np.round(5 * (logit + noise * rng.normal(size=rows)))
    p_scorecard = 1 / (1 + np.exp(-(0.2 * points / (1 + noise))))
    return label, p, points, p_scorecard, leads


@pytest.fixture(scope="module")
def observations():
    return make_observations(noise=2.0)


@pytest.fixture(scope="module")
def result(observations):
    cutoff = pd.date_range("2024-03-18", periods=4000, freq="h")
    return evaluate(*observations, CONFIG, cutoff=cutoff)


def test_every_metric_stands_with_its_interval_for_both_and_the_difference(result):
    for who in ("model", "scorecard", "difference"):
        assert list(result["test"][who]) == metric_names(CONFIG)
        for name, entry in result["test"][who].items():
            assert entry["low"] <= entry["value"] <= entry["high"], (who, name)


def test_values_are_those_of_the_metrics(observations, result):
    label, p, points, p_scorecard, _ = observations
    model, scorecard = result["test"]["model"], result["test"]["scorecard"]
    assert model["auc"]["value"] == metrics.auc(label, p)
    assert scorecard["auc"]["value"] == metrics.auc(label, points)
    assert scorecard["captured_top_5pct"]["value"] == metrics.captured_in_top(label, points, 0.05)
    assert scorecard["log_loss"]["value"] == metrics.log_loss(label, p_scorecard)
    assert scorecard["calibration_ratio"]["value"] == metrics.calibration_ratio(label, p_scorecard)
    for name, entry in result["test"]["difference"].items():
        assert entry["value"] == pytest.approx(model[name]["value"] - scorecard[name]["value"]), name


@pytest.mark.parametrize(
    "convert",
    [
        lambda column: pa.array(column.to_pydatetime(), pa.timestamp("us", tz="UTC")),
        lambda column: pa.chunked_array([pa.array(column.as_unit("us").asi8)]),
        lambda column: column.as_unit("us").asi8,
        lambda column: pd.Series(column, index=range(7, 7 + len(column))),
        lambda column: column.tz_localize(None).to_numpy(),
    ],
    ids=["arrow", "arrow microseconds", "microseconds", "series", "numpy"],
)
def test_cutoffs_of_every_kind(convert):
    cutoff = pd.date_range("2024-03-18", periods=3, freq="D", tz="UTC")
    counts = count_observations(
        np.array([0.0, 1.0, 1.0]), pa.chunked_array([["a", "b"], ["b"]]), convert(cutoff)
    )
    assert counts["leads"] == 2
    assert counts["first_cutoff"] == "2024-03-18T00:00:00+00:00"
    assert counts["last_cutoff"] == "2024-03-20T00:00:00+00:00"


def test_the_table_shows_all_metrics_with_intervals(result):
    console = Console(width=110, file=io.StringIO(), highlight=False)
    console.print(metrics_table(result["test"], title="Test"))
    text = console.file.getvalue()
    auc = result["test"]["difference"]["auc"]
    expected = f"{auc['value']:+.3f} [{auc['low']:+.3f}, {auc['high']:+.3f}]".replace("0.", ".")
    assert expected in text
    assert len(text.splitlines()) < 25
    assert "Captured in top 5 %" in text
    assert "4,000 observations of 1,000 leads; [95 % interval over leads]" in text
    assert len(metrics_table(result["test"]).rows) == len(metric_names(CONFIG))


def test_counts_and_span(observations, result):
    label, leads = observations[0], observations[4]
    counts = result["test"]["counts"]
    assert counts["rows"] == 4000
    assert counts["leads"] == 1000
    assert counts["positives"] == label.sum()
    assert counts["converting_leads"] == len(set(leads[label == 1]))
    assert counts["base_rate"] == pytest.approx(label.mean())
    assert counts["first_cutoff"] == "2024-03-18T00:00:00+00:00"


def test_a_paired_difference_is_narrower_than_two_apart():
    label, p, points, p_scorecard, leads = make_observations(noise=0.3)
    part = evaluate(label, p, points, p_scorecard, leads, CONFIG)["test"]

    def width(who):
        return part[who]["auc"]["high"] - part[who]["auc"]["low"]

    assert width("difference") < 0.6 * width("model")


def test_a_scorecard_that_is_the_model_shows_no_difference(observations):
    label, p, _, _, leads = observations
    difference = evaluate(label, p, p, p, leads, CONFIG)["test"]["difference"]
    assert all(value == 0 for entry in difference.values() for value in entry.values())


def test_same_seed_same_bytes_and_safe_json(observations, result):
    again = evaluate(*observations, CONFIG, cutoff=pd.date_range("2024-03-18", periods=4000, freq="h"))
    assert json.dumps(again, allow_nan=False) == json.dumps(result, allow_nan=False)
    other = evaluate(*observations, EvaluationConfig(resamples=120, seed=1))
    assert other["test"]["model"]["auc"]["low"] != result["test"]["model"]["auc"]["low"]


def test_without_converters_undefined_is_null(observations):
    _, p, points, p_scorecard, leads = observations
    part = evaluate(np.zeros(4000), p, points, p_scorecard, leads, CONFIG)["test"]
    json.dumps(part, allow_nan=False)
    assert part["model"]["auc"] == {"value": None, "low": None, "high": None}
    assert part["model"]["calibration_ratio"]["value"] is None
    assert part["model"]["log_loss"]["value"] > 0
    sentences = state_comparison({"test": part})
    assert "no observation converted" in " ".join(sentences)


def test_a_single_converter_gets_no_interval_and_no_claim():
    label = np.zeros(200)
    label[7] = 1
    part = evaluate(label, np.linspace(0.1, 0.2, 200), np.arange(200), None, np.arange(200), CONFIG)["test"]
    assert part["model"]["auc"]["value"] is not None
    assert part["model"]["auc"]["low"] is None
    assert "too few converters for an interval" in " ".join(state_comparison({"test": part}))


def test_without_a_scorecard_or_without_its_probabilities(observations):
    label, p, points, _, leads = observations
    alone = evaluate(label, p, None, None, leads, CONFIG, part="train")
    assert set(alone["train"]) == {"model", "counts", "interval"}
    ranked = evaluate(label, p, points, None, leads, CONFIG)["test"]
    assert (
        list(ranked["scorecard"]) == list(ranked["difference"]) == metric_names(CONFIG, probabilities=False)
    )
    assert list(ranked["model"]) == metric_names(CONFIG)
    for part in (*state_comparison(alone, part="train"), *state_comparison({"test": ranked})):
        assert part.endswith(".")


def test_rows_must_match(observations):
    label, p, points, p_scorecard, leads = observations
    with pytest.raises(ValueError, match="'lead_ids' has 3999 rows and 'label' has 4000"):
        evaluate(label, p, points, p_scorecard, leads[1:], CONFIG)
    with pytest.raises(ValueError, match="probabilities in \\[0, 1\\]"):
        evaluate(label, points, points, p_scorecard, leads, CONFIG)


def test_sentences_claim_what_the_interval_supports():
    clear = evaluate(*make_observations(8000, noise=3.0), CONFIG)
    text = state_comparison(clear)
    assert text[1].endswith("the model finds more.")
    assert text[2].endswith("the model is better.")
    assert text[3].endswith("the model is better.")
    label, p, _, p_scorecard, leads = make_observations(8000, noise=3.0)
    swapped = evaluate(label, p_scorecard, p, p, leads, CONFIG)
    text = state_comparison(swapped)
    assert text[1].endswith("the scorecard finds more.")
    assert text[3].endswith("the scorecard is better.")
    level = evaluate(*make_observations(800, noise=0.05), CONFIG)
    assert "which includes no difference" in state_comparison(level)[1]


def test_sentences_on_calibration():
    label, p, *_, leads = make_observations(8000)
    for probability, ending in ((p, "which includes 1."), (p**0.5, "too many."), (p**2, "too few.")):
        metrics_json = evaluate(label, probability, None, None, leads, CONFIG)
        assert state_comparison(metrics_json)[-1].endswith(ending)
    with pytest.raises(KeyError, match="no part 'valid'; they have: test"):
        state_comparison(metrics_json, part="valid")


@pytest.mark.parametrize(
    ("low", "high", "leads", "answer", "ending"),
    [
        (0.85, 1.2, 50, "Yes", "which includes 1."),
        (
            0.69,
            1.14,
            50,
            "Cannot tell",
            "which includes 1, but is too wide to tell whether it is calibrated.",
        ),
        (0.85, 1.3, 50, "Cannot tell", "too wide to tell whether it is calibrated."),
        (
            0.85,
            None,
            50,
            "Cannot tell",
            "0.85 or more, which includes 1, but is too wide to tell whether it is calibrated.",
        ),
        (0.85, 1.2, 19, "Cannot tell", "too few convert to tell whether it is calibrated."),
        (1.1, 1.2, 19, "Cannot tell", "too few convert to tell whether it is calibrated."),
        (1.1, 1.2, 20, "No", "it promises too many."),
    ],
)
def test_calibration_is_claimed_only_where_the_interval_is_narrow(
    low: float, high: float | None, leads: int, answer: str, ending: str
) -> None:
    ratio = {"calibration_ratio": {"value": 1.0, "low": low, "high": high}}
    counts = {"rows": 9000, "leads": 900, "converting_leads": leads, "base_rate": 0.001}
    part = {"model": ratio, "counts": counts, "interval": {"confidence": 0.95}}
    assert judge_calibration(part).answer == answer
    assert state_comparison({"test": part})[-1].endswith(ending)


def test_an_open_end_in_the_table_is_said() -> None:
    ratio = {"calibration_ratio": {"value": 1.2, "low": 0.391, "high": None}}
    assert metric_cells({"model": ratio})[1] == [["Predicted / observed → 1", "1.200 [.391 or more]"]]


def test_further_sentences() -> None:
    entry = lambda value, low, high: {"value": value, "low": low, "high": high}  # noqa: E731
    horizon = {
        "auc": entry(0.79, 0.73, 0.84),
        "calibration_ratio": entry(0.86, 0.69, None),
        "counts": {"converting_leads": 1059},
    }
    own = {"total_ratio": entry(0.72, 0.51, 1.09), "normalised_gini": entry(0.683, 0.533, 0.806)}
    same = {"normalised_gini": entry(0.61, 0.5, 0.7)}
    metrics = {
        "test": {"interval": {"confidence": 0.95}},
        "horizons": {"30d": horizon, "90d": None},
        "value": {"expected_value": {"model": own, "same_value": same}},
        "leakage": {"severe": 1, "warning": 2, "info": 3},
    }
    text = state_further(metrics)
    assert text == [
        "Within 30d, 1,059 convert: AUC 0.790 (0.730 to 0.840), predicted / observed 0.86 (0.69 or more), "
        "95 % intervals.",
        "Within 90d: cannot be judged, because only one class is known.",
        "Expected revenue: 0.72 (0.51 to 1.09) times what came [95 % interval].",
        "Ranking by revenue (normalised Gini): 0.683 (0.533 to 0.806) with the value model, 0.610 (0.500 to 0.700) "
        "with one value for all [95 % intervals].",
        "Hindsight: 1 severe, waived; 2 warnings: see leakage.json.",
    ]
    same["normalised_gini"] = own["normalised_gini"]
    own["total_ratio"] = entry(None, None, None)
    assert state_further(
        {**metrics, "horizons": {"30d": horizon}, "leakage": {"severe": 0, "warning": 0}}
    ) == [
        "Expected revenue: cannot be judged, because no revenue came.",
        "No hindsight was found.",
    ]
    own["total_ratio"] = entry(0.9, None, None)
    assert state_further({"test": metrics["test"], "value": metrics["value"]}) == [
        "Expected revenue: 0.90 times what came, with too few converters for an interval.",
        "The value model adds nothing: with one value for all, leads rank as well by revenue (0.683).",
    ]


@pytest.mark.parametrize(("converting", "said"), [(2, True), (19, True), (20, False)])
def test_few_converters_are_said_beside_their_number(converting: int, said: bool) -> None:
    counts = {"rows": 9000, "leads": 900, "converting_leads": converting, "base_rate": 0.001}
    part = {"model": {}, "counts": counts, "interval": {"confidence": 0.95}}
    (sentence,) = state_comparison({"test": part})
    assert ("So few decide little" in sentence) is said
