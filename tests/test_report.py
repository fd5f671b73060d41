"""The report as text: well formed, complete, escaped, without ids, its figures those of the metrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from convpredict.evaluation.report import numbers
from convpredict.evaluation.report.render import content_policy, render_report, write_report
from convpredict.evaluation.report.sections import capacity_view, replay
from convpredict.evaluation.report.verdicts import judge_comparison
from report_inputs import HOSTILE, full_inputs, plain_inputs, predictions

VOID = {"meta", "link", "br", "input", "img", "hr"}
SVG_LEAVES = {"line", "circle", "rect", "path"}


class Page(HTMLParser):
    """Checks nesting while it reads; collects elements, ids, headings, text, and what runs."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.headings: list[int] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_LEAVES
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.elements if attrs.get("id")]


@pytest.fixture(scope="module")
def inputs():
    return full_inputs()


@pytest.fixture(scope="module")
def html(inputs):
    return render_report(inputs)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def capacity_of(page: Page) -> dict:
    return next(json.loads(text) for text in page.scripts if text.startswith('{"start"'))


def test_is_well_formed_and_in_order(page):
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.ids()) == len(set(page.ids()))
    assert ("html", {"lang": "en"}) in page.elements
    linked = [attrs["href"][1:] for tag, attrs in page.elements if tag == "a"]
    assert set(linked) <= set(page.ids())
    assert linked[1:] == [i for i in page.ids() if i in linked[1:]]


def test_nothing_comes_from_elsewhere(html, page):
    assert not re.search(r"https?://|//[a-z]|@import|url\(", html.replace("http-equiv", ""))
    for _, attrs in page.elements:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attrs)
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    assert policy == content_policy(style, script)


def test_every_chart_can_be_read_without_seeing_it(page):
    charts = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("class") == "chart"]
    assert len(charts) == 6
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 40 for attrs in charts)
    hidden = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("class") != "chart"]
    assert all(attrs["aria-hidden"] == "true" for attrs in hidden)
    for table in (
        "by predicted probability",
        "by month",
        "at some shares",
        "at some capacities",
        "by tenths",
    ):
        assert f"The numbers {table}" in page.text


def test_figures_are_those_of_the_metrics(inputs, page):
    judged = inputs.metrics["test"]
    for who in ("model", "scorecard", "difference"):
        for name in ("auc", "average_precision", "calibration_slope"):
            entry = judged[who][name]
            text = numbers.entry_text(entry, 3, signed=who == "difference")
            assert f"{text['value']} {text['interval']}" in page.text
    captured = judged["model"]["captured_top_5pct"]
    assert f"{100 * captured['value']:.1f} %" in page.text
    assert f"{judged['counts']['rows']:,}" in page.text


def test_every_section_is_there(page):
    for wanted in (
        "calibration",
        "gain",
        "capacity",
        "value",
        "comparison",
        "concepts",
        "stability",
        "horizons",
    ):
        assert wanted in page.ids()
    for wanted in ("quality", "leakage", "model", "limits", "glossary"):
        assert wanted in page.ids()
    for said in (
        "1,234 of the newest",
        "7 leads converted at an unknown time",
        "A note from the run.",
        "3 times before",
    ):
        assert said in page.text
    assert "severe findings stand" in page.text
    assert re.search(r"7d 5 2 0\.610 \[0\.520, 0\.690\]", page.text)
    assert "300d – – one class only" in page.text


def test_names_from_data_are_text(html, page):
    assert HOSTILE not in html
    assert page.text.count("window.hacked") == 4  # concept, finding, reason, segment
    assert not any("hacked" in text for text in page.scripts)


def test_no_lead_is_named(inputs, html):
    assert "lead-0" not in html
    points = inputs.predictions["p"].iloc[0]
    assert repr(float(points)) not in html


def test_is_small_and_the_same_every_time(inputs, html):
    assert len(html.encode()) < 300_000
    assert render_report(inputs) == html


def test_slider_holds_at_most_400_points_and_starts_where_asked(page):
    data = capacity_of(page)
    per_week = data["columns"]["per_week"]
    assert len(per_week) <= 400
    assert per_week[data["start"]] == 20
    assert "lead_id" not in data["columns"]


def test_headline_and_slider_agree(page):
    data = capacity_of(page)
    at = {name: values[data["start"]] for name, values in data["columns"].items()}
    gap = round(at["model_conversions"]) - round(at["scorecard_conversions"])
    more = "more" if at["gain"] >= 0 else "fewer"
    said = f"At 20 calls a week the model's lists hold {abs(gap):,} {more} conversions"
    assert min(at["model_conversions"], at["scorecard_conversions"]) >= 10
    assert said in page.text


def test_small_counts_and_their_intervals_are_rounded_alike(inputs):
    view = capacity_view(inputs, replay(inputs), 0)
    assert all(
        ("." in row[2]) == ("." in row[3]) == ("." in row[4]) == ("." in row[5]) for row in view["rows"]
    )
    assert {"." in row[2] for row in view["rows"]} == {True, False}


def test_one_value_for_all_is_said_and_not_ranked(inputs):
    unknown = {"value": None, "low": None, "high": None}
    same = {"normalised_gini": unknown, "spearman": None, "rmse": 12.0}
    alone = {"model": same, "same_value": same, "complete_share": 0.75, "one_value_for_all": True}
    page = Page(render_report(replace(inputs, value={"value": alone})))
    assert "The model chose one value for all" in page.text
    assert "75 % of the converted leads were followed" in page.text
    assert "Converted leads alone" in page.text
    assert "RMSE (EUR) ↓ 12.00 12.00" in page.text
    assert "Rank correlation" not in page.text
    assert "One value for all 1" not in page.text


def test_the_head_says_what_revenue_came(inputs):
    entry = {"value": 2.79, "low": 1.69, "high": 6.22}
    judged = {"total_ratio": entry, "normalised_gini": {"value": 0.2, "low": -0.2, "high": 0.6}}
    value = {
        "expected_value": {"model": judged, "same_value": judged},
        "value": {"model": {"rmse": 246.3, "mae": 77.29}, "complete_share": 1.0},
        "mean_above_interval": 0.94,
    }
    page = Page(render_report(replace(inputs, value=value, calls=None, currency="BRL")))
    head = page.text[: page.text.index("Do the probabilities come true?")]
    assert (
        "Revenue as expected? No expected / came 2.79 [1.69, 6.22] it promises too much revenue; one" in head
    )
    assert "Expected revenue: 2.79 (1.69 to 6.22) times what came [95 % interval]." in head
    assert "The value model adds nothing" in head
    assert "A few customers bring most of the revenue: for 94 % of the leads the mean lies above" in head
    assert capacity_of(page)["so_far"] is False
    assert "RMSE (BRL) ↓ 246 MAE (BRL) ↓ 77" in page.text
    model, card, gap = (
        {"value": v, "low": a, "high": b} for v, a, b in ((40, 1, 90), (52, 1, 99), (-12, -60, 30))
    )
    amount = {"model": model, "scorecard": card, "difference": gap}
    calls = {"calls_per_week": 20.0, "conversions": amount, "amount": amount}
    page = Page(render_report(replace(inputs, value=value, calls=calls, currency="BRL")))
    expects = capacity_of(page)["columns"]["model_expected_revenue"][capacity_of(page)["start"]]
    assert (
        f"were expected to bring {expects:,.0f} BRL per quarter and brought 40 BRL, those on the points' lists 52 BRL: "
        "12 BRL less [95 % interval -60 to 30, which includes no difference]."
    ) in page.text


def test_customers_complete_windows_are_told(inputs):
    judged = {"model": {"spearman": 0.3, "rmse": 12.0}, "complete_share": 0.4, "coverage": 0.81}
    page = Page(render_report(replace(inputs, value={"value": None, "expected_value": judged})))
    assert "40 % of the observations were followed" in page.text
    assert "chose one value" not in page.text


def test_core_alone(tmp_path):
    frame = predictions(120).drop(columns=["expected_value", "revenue"])
    without = plain_inputs(frame.drop(columns="scorecard_points"))
    frame["scorecard_points"] = np.nan
    path = write_report(tmp_path / "deep" / "report.html", replace(without, predictions=frame))
    page = Page(path.read_text(encoding="utf-8"))
    for gone in (
        "value",
        "concepts",
        "horizons",
        "quality",
        "model",
        "segment-chooser",
        "scorecard-found",
        "gain-found",
    ):
        assert gone not in page.ids()
    assert "No scorecard" in page.text
    assert "Nobody looked" in page.text
    assert "gain" not in capacity_of(page)["columns"]


def test_no_conversion_at_all():
    frame = predictions(40)
    frame["label"] = 0
    page = Page(render_report(full_inputs(frame)))
    assert "gain" not in page.ids()
    assert "Cannot tell" in page.text
    assert "none convert" in page.text


def test_tiny_data():
    frame = predictions(40).head(3).assign(label=[0, 1, 0], lead_id=["a-1", "b-1", "c-1"])
    frame["cutoff"] = frame["cutoff"].iloc[0]
    page = Page(render_report(plain_inputs(frame)))
    assert "too few" in page.text
    assert capacity_of(page)["columns"]["per_week"][0] == 1


def test_constant_scores_and_tied_points():
    frame = predictions(80, tied=True)
    frame["p"] = 0.05
    page = Page(render_report(plain_inputs(frame)))
    assert "capacity" in page.ids()


def test_one_class_segment_says_so():
    frame = predictions(120)
    segment = np.where(frame["label"].to_numpy() > 0, "all convert", "none converts")
    page = Page(render_report(plain_inputs(frame, segments=pd.DataFrame({"stage": segment}))))
    row = re.search(r"none converts [\d,]+ 0 (.*?) all convert|none converts [\d,]+ 0 (.*)", page.text)
    assert (row[1] or row[2]).startswith("too few none convert")


def test_unknown_part_is_refused(inputs):
    with pytest.raises(KeyError, match="no part 'calibrate'"):
        render_report(replace(inputs, part="calibrate"))


def test_calls_that_were_given_are_the_headline(inputs):
    model, card, gap = ({"value": value, "low": 12.0, "high": 49.0} for value in (131.0, 100.0, 31.0))
    calls = {"calls_per_week": 20.0, "conversions": {"model": model, "scorecard": card, "difference": gap}}
    page = Page(render_report(replace(inputs, calls=calls)))
    assert "hold 31 more conversions per quarter than the points' [95 % interval 12 to 49]" in page.text


def gap(value, low, high):
    return {"value": value, "low": low, "high": high}


BETTER, SAME, WORSE = gap(0.1, 0.05, 0.15), gap(0.0, -0.1, 0.1), gap(-0.1, -0.15, -0.05)
OFF = {
    "model": gap(1.54, 1.27, 1.92),
    "scorecard": gap(1.35, 1.11, 1.68),
    "difference": gap(0.19, 0.15, 0.25),
}
OTHER_SIDE = {"model": gap(1.2, 1.05, 1.4), "scorecard": gap(0.8, 0.7, 0.9), "difference": gap(0.4, 0.3, 0.5)}
LEVEL = {"model": gap(1.0, 0.9, 1.1), "scorecard": gap(0.9, 0.8, 1.0), "difference": gap(0.1, 0.05, 0.15)}


@pytest.mark.parametrize(
    ("auc", "log_loss", "calls", "ratio", "answer"),
    [
        (BETTER, SAME, SAME, OFF, "Mixed"),
        (BETTER, SAME, SAME, LEVEL, "Better ranking"),
        (BETTER, SAME, SAME, OTHER_SIDE, "Better ranking"),
        (BETTER, WORSE, BETTER, LEVEL, "Yes"),
        (BETTER, SAME, None, LEVEL, "Yes"),
        (SAME, WORSE, SAME, LEVEL, "Better probabilities"),
        (SAME, SAME, BETTER, LEVEL, "Yes"),
        (BETTER, SAME, WORSE, LEVEL, "Mixed"),
        (SAME, SAME, SAME, OFF, "No"),
        (SAME, SAME, SAME, LEVEL, "Not shown"),
    ],
)
def test_better_than_the_scorecard_is_claimed_where_calls_find_more(auc, log_loss, calls, ratio, answer):
    judged = {name: {"calibration_ratio": entry} for name, entry in ratio.items()}
    judged["difference"] |= {"auc": auc, "log_loss": log_loss}
    found = {"model": {"value": 28.4}, "scorecard": {"value": 18.6}, "difference": calls}
    verdict = judge_comparison(judged, calls and {"conversions": found})
    assert verdict.answer == answer
    assert ("conversions by calls +9 [" in verdict.figures) is (calls is not None)
