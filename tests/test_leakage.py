"""Planted hindsight is found, honest twins are left alone, and the statistics are those of the books."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from convpredict.config.load import parse_project
from convpredict.errors import DataError, LeakageError
from convpredict.evaluation.leakage.attribute_checks import Setting, check_strength
from convpredict.evaluation.leakage.audit import audit_table, audit_training_set
from convpredict.evaluation.leakage.columns import column_of
from convpredict.evaluation.leakage.event_checks import Occurrence, _outcome_event
from convpredict.evaluation.leakage.findings import Finding, LeakageReport
from convpredict.evaluation.leakage.order_checks import id_numbers
from convpredict.evaluation.leakage.statistics import associate, critical_value, stratified_auc
from convpredict.evaluation.leakage.view import DAY_US, LeadView
from convpredict.features.time_rule import NEVER
from convpredict.training.training_set import build_training_set
from planted_leaks import CONFIG, HONEST, PLANTED, Frames, simulated_frames

ALONE = (
    *("ids by outcome", "duplicates across the split", "opens deleted for won leads"),
    "refusals deleted for won leads",
)
WARNED = {"tickets at export"}
"""As strong as an honest attribute hardly ever is: told, but training goes on."""
EVENTS = (
    *("welcome call dated before", "invoice dated by day", "conversion logged twice", "backdated analysis"),
    *("entered later", "creation at midnight"),
)
NOT_FOUND = {"entered later", "team at export", "noisy copy"}
"""Some visit reports are typed in months later for open leads too; only one seed in four finds it. The team and the
noisy copy are as strong as an honest attribute may be, and 3,500 leads are too few for the open ones to tell: they
are told of as such (info)."""

BY_NAME = {planted.name: planted for planted in PLANTED}
ADDED = {planted.name for planted in PLANTED[19:]}
GROUPS = (
    tuple(name for name in BY_NAME if name not in (*ALONE, *EVENTS)),
    EVENTS,
    *((name,) for name in ALONE),
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return simulated_frames(tmp_path_factory.mktemp("planted"), seed=3)


def audited(frames: Frames, names: tuple[str, ...], which: str, **config) -> LeakageReport:
    changed = replace(frames, rng=np.random.default_rng(14))
    for name in names:
        changed = getattr(BY_NAME[name], which)(changed)
    project = parse_project({**CONFIG, **config})
    history = changed.history()
    return audit_training_set(history, project, build_training_set(history, project))


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_planted_leaks_are_found_and_their_twins_are_not(frames: Frames, names: tuple[str, ...]) -> None:
    """24 of 27 leaks are found, with no false alarm: neither on the twins nor on the columns beside a leak."""
    leaking, clean = audited(frames, names, "leak"), audited(frames, names, "twin")
    expected = {BY_NAME[name].column for name in names if name not in NOT_FOUND}
    assert expected <= leaking.flagged
    assert leaking.flagged <= {BY_NAME[name].column for name in names}
    assert clean.flagged == frozenset()
    stopping = {name for finding in leaking.severe for name in finding.columns}
    assert {BY_NAME[name].column for name in set(names) & ADDED - NOT_FOUND - WARNED} <= stopping
    for finding in leaking.findings:
        assert finding.remedy
        assert any(character.isdigit() for character in finding.evidence)


@pytest.mark.parametrize("honest", HONEST, ids=lambda honest: honest.__name__)
def test_honest_data_that_resemble_hindsight_raise_no_alarm(frames: Frames, honest) -> None:
    changed = honest(replace(frames, rng=np.random.default_rng(14)))
    project = parse_project(CONFIG)
    history = changed.history()
    assert audit_training_set(history, project, build_training_set(history, project)).flagged == frozenset()


def _many_leads(seed: int, leads: int = 20_000, days: int = 540) -> tuple[LeadView, np.ndarray, np.ndarray]:
    """Leads without interactions, who converts in the end, and their place between the first and the last."""
    rng = np.random.default_rng(seed)
    created = np.sort(rng.uniform(0, days, leads))
    in_the_end = rng.random(leads) < 0.09
    converted = created + rng.lognormal(np.log(85), 0.8, leads)
    won = in_the_end & (converted < days)
    converted_us = np.where(won, converted * DAY_US, NEVER).astype(np.int64)
    view = LeadView.of_times((created * DAY_US).astype(np.int64), converted_us, won, days * DAY_US)
    return view, in_the_end, created / days


def _strength(values: np.ndarray, view: LeadView) -> list[str]:
    found = check_strength(column_of("team", values), Setting(view, critical_value(40)))
    return [finding.severity for finding in found]


@pytest.mark.parametrize("seed", range(200, 206))
def test_open_leads_tell_a_copy_from_an_honest_attribute_of_the_same_strength(seed: int) -> None:
    """Some of the copies; none of the honest ones, whatever came or went over the years."""
    view, in_the_end, place = _many_leads(seed)
    draw = np.random.default_rng(seed + 1000).random((2, len(place)))
    honest = np.where(draw[0] < np.where(in_the_end, 0.8, 0.2), "north", "south")
    new = (place > 0.85) & (draw[1] < np.where(in_the_end, 0.2, 0.5))
    assert set(_strength(honest, view)) <= {"info"}
    assert set(_strength(np.where(new, "new", honest), view)) <= {"info"}
    assert set(_strength(np.where(place > 0.85, "not asked", honest), view)) <= {"info"}


def test_most_copies_among_many_leads_are_found() -> None:
    found = []
    for seed in range(200, 206):
        view, _, place = _many_leads(seed)
        draw = np.random.default_rng(seed + 1000).random(len(place))
        found += _strength(np.where(draw < np.where(view.outcome, 0.8, 0.2), "north", "south"), view)
    assert found.count("severe") >= 3


def test_what_cannot_be_told_is_said(frames: Frames) -> None:
    report = audited(frames, ("team at export",), "leak")
    (finding,) = report.findings
    assert finding.severity == "info"
    assert "cannot be told" in finding.evidence
    assert report.flagged == frozenset()
    report.raise_if_severe()


def test_a_severe_finding_stops_until_it_is_waived_by_name_with_a_reason(frames: Frames) -> None:
    name = "attribute filled after winning"
    report = audited(frames, (name,), "leak")
    assert [finding.name for finding in report.severe] == ["late_filled:billing_city"]
    with pytest.raises(LeakageError, match="late_filled:billing_city") as raised:
        report.raise_if_severe()
    assert raised.value.exit_code == 6
    waive = {"late_filled:billing_city": "asked at creation", "late_filled:gone": "once there"}
    waived = audited(frames, (name,), "leak", leakage={"waive": waive})
    waived.raise_if_severe()
    assert waived.unknown_waivers == ("late_filled:gone",)
    assert any("waived (asked at creation)" in text for text in waived.warnings)
    assert any("'late_filled:gone', which was not found" in text for text in waived.warnings)
    document = json.loads(json.dumps(waived.to_dict()))
    assert document["findings"][0]["waiver_reason"] == "asked at creation"
    assert not document["stops_training"]


def _with_a_telling_value(rows: int = 3000) -> LeakageReport:
    """A table where a product is sold to converted leads alone, and an amount of 77 stands for the others."""
    rng = np.random.default_rng(8)
    y = rng.random(rows) < 0.3
    product = np.where(y & (rng.random(rows) < 0.8), "Geheimtarif", rng.choice(["Grund", "Plus"], rows))
    amount = np.where(y, rng.uniform(100.0, 900.0, rows).round(2), 77.0)
    table = pd.DataFrame({"produkt": product, "betrag": amount, "besuche": rng.poisson(3, rows)})
    return audit_table(table, y)


def test_errors_and_notes_name_columns_and_figures_but_no_values() -> None:
    report = _with_a_telling_value()
    found = {finding.name: finding for finding in report.findings}
    assert "'Geheimtarif'" in found["outcome_value:produkt"].evidence
    assert found["outcome_value:produkt"].figures["value"] == "Geheimtarif"
    assert "Geheimtarif" in json.dumps(report.to_dict())
    assert "differs from 77 " in found["late_filled:betrag"].evidence
    severe = replace(report, findings=tuple(replace(each, severity="severe") for each in report.findings))
    waived = tuple(replace(each, waived=True, waiver_reason="known") for each in severe.findings)
    warned = tuple(replace(each, severity="warning") for each in report.findings)
    with pytest.raises(LeakageError, match="outcome_value:produkt") as raised:
        severe.raise_if_severe()
    said = [str(raised.value)]
    for findings in (waived, warned):
        said += replace(report, findings=findings).warnings
    assert any("one value of 'produkt'" in text and "odds ratio" in text for text in said)
    assert any("differs from its most frequent number for" in text for text in said)
    for text in said:
        assert "Geheimtarif" not in text
        assert " 77 " not in text


@pytest.mark.parametrize("column", ["kind", "Ergebnis"])
def test_a_value_of_an_interaction_attribute_is_named_in_files_only(column: str) -> None:
    none = np.zeros(20, np.bool_)
    finding = _outcome_event(Occurrence(column, "Zusage", none, none, 18, 2, 4), 18, 20, 99.0)
    report = LeakageReport((finding,))
    with pytest.raises(LeakageError) as raised:
        report.raise_if_severe()
    kept = column == "kind"
    assert ("Zusage" in str(raised.value)) == kept
    assert ("outcome_event:Zusage" if kept else "outcome_event:Ergebnis: 18 of the 20") in str(raised.value)
    assert finding.name == ("outcome_event:Zusage" if kept else "outcome_event:Ergebnis=Zusage")
    assert "Zusage" in finding.evidence
    assert "Zusage" in finding.remedy
    report = LeakageReport((finding,), {}, ("outcome_event:Ergebnis",))
    assert ("Zusage" in "".join(report.warnings)) == kept


def test_an_attribute_that_no_feature_uses_is_not_looked_at(frames: Frames) -> None:
    name = "attribute filled after winning"
    report = audited(frames, (name,), "leak", features={"exclude": ["*billing_city*"]})
    assert report.findings == ()


def test_the_report_is_the_same_at_every_run(frames: Frames) -> None:
    first, second = (audited(frames, EVENTS, "leak").to_dict() for _ in range(2))
    assert first == second


def _table(rows: int = 4000) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(5)
    y = rng.random(rows) < 0.3
    table = pd.DataFrame(
        {
            "Number": rng.permutation(rows) + 100_000,
            "Source": rng.choice(["ads", "fair", "web"], rows),
            "Visits": rng.poisson(np.where(y, 4, 3)),
            "Score of interest": rng.normal(np.where(y, 0.25, 0.0), 1),
            "Phone": np.where(rng.random(rows) < np.where(y, 0.6, 0.45), "given", "Select"),
        }
    )
    return table, y


def test_an_honest_table_gives_no_finding() -> None:
    assert audit_table(*_table()).flagged == frozenset()


def test_rows_sorted_by_outcome_and_ids_given_by_outcome_are_found() -> None:
    table, y = _table()
    order = np.argsort(~y, kind="stable")
    assert audit_table(table.iloc[order], y[order]).flagged == {"row order"}
    table["Number"] = np.argsort(np.argsort(y + np.random.default_rng(0).random(len(y)))) + 5000
    assert audit_table(table, y).flagged == {"Number"}


def test_a_suspicious_name_makes_a_weak_signal_a_warning_and_never_more() -> None:
    table, y = _table()
    signal = np.random.default_rng(1).normal(np.where(y, 0.7, 0.0), 1)
    named = audit_table(table.assign(**{"last result": signal}), y)
    assert [(finding.name, finding.severity) for finding in named.findings] == [
        ("tells_outcome:last result", "warning")
    ]
    assert audit_table(table.assign(**{"household income": signal}), y).findings == ()
    noise = np.random.default_rng(2).normal(size=len(y))
    assert audit_table(table.assign(**{"last result": noise}), y).findings == ()


def test_a_table_needs_both_outcomes() -> None:
    table, y = _table(200)
    with pytest.raises(DataError, match="both outcomes"):
        audit_table(table, np.ones(200))
    with pytest.raises(DataError, match="both outcomes"):
        audit_table(table, y[:100])


def test_mantel_haenszel_ratio_by_hand() -> None:
    """Two strata of 10 and 20 leads without empty cells; 0.5 leads are added, a third and two thirds of it.

    Stratum 1: a=3 b=2 c=1 d=4; stratum 2: a=4 b=4 c=3 d=9. Without the additions the ratio is
    (3*4/10 + 4*9/20) / (2*1/10 + 4*3/20) = 3.0 / 0.8 = 3.75.
    """
    cells = [
        (0, 1, 1, 3),
        (0, 0, 1, 2),
        (0, 1, 0, 1),
        (0, 0, 0, 4),
        (1, 1, 1, 4),
        (1, 0, 1, 4),
        (1, 1, 0, 3),
        (1, 0, 0, 9),
    ]
    rows = np.array([cell[:3] for cell in cells for _ in range(cell[3])])
    found = associate(rows[:, 1] == 1, rows[:, 2] == 1, rows[:, 0].astype(np.intp), 1.96)
    assert found.odds_ratio == pytest.approx(3.75, rel=0.12)
    assert found.converted == pytest.approx(7 / 13)
    assert found.others == pytest.approx((5 * 1 / 5 + 8 * 3 / 12) / 13)
    assert found.low < found.odds_ratio < found.high


def test_the_area_under_the_curve_is_taken_inside_cohorts() -> None:
    """Between the cohorts the score would rank perfectly; inside each of them it knows nothing."""
    stratum = np.repeat([0, 1], 100)
    outcome = np.concatenate([np.arange(100) < 10, np.arange(100) < 90])
    found = stratified_auc(stratum.astype(float), outcome, stratum, critical_value(1))
    assert found.auc == 0.5
    assert found.low <= 0.5 <= found.high


def test_ids_without_an_order_are_left_alone() -> None:
    assert id_numbers(["3f2a9c", "77e0b1"]) is None
    assert id_numbers(["c-0b1d", "a-9f3e"]) is None
    assert list(id_numbers(["5805028000052825311", "5805028000053098851"])) == [0.0, 1.0]


def test_findings_are_sorted_and_told_once() -> None:
    findings = [
        Finding("tells_outcome", ("b",), "warning", "b is 1.", "r", "m"),
        Finding("late_filled", ("a",), "severe", "a is 1.", "r", "m"),
    ]
    report = LeakageReport.of(findings, {}, {"leads": 2})
    assert [finding.name for finding in report.findings] == ["late_filled:a", "tells_outcome:b"]
    assert report.to_dict()["counts"] == {"severe": 1, "warning": 1, "info": 0}
