"""Monitoring, night by night over a ledger: reports, alarms, the page, the rule of retraining."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from convpredict.config.base import Duration
from convpredict.config.monitoring import DriftConfig, MonitoringConfig, RetrainConfig
from convpredict.errors import DataError, MonitoringError
from convpredict.files import write_json
from convpredict.models.profile import ColumnProfile, Profile, ProfileCounts
from convpredict.monitoring.night import Watch, judge_by, monitor_night
from convpredict.monitoring.page import render_page, write_page
from convpredict.monitoring.reports import read_manifests, read_reports
from convpredict.monitoring.retraining import retrain_reasons
from convpredict.scoring.ledger.ledger import Ledger
from factories import day, make_history

WEEKS, HALVED, GROUP = 26, 14, 60
WATCH = Watch(MonitoringConfig(), ("channel",))
SECRET = "lead-of-somebody"
EVEN = np.array([250, 250, 250, 250, 0])
PROFILE = Profile(
    (ColumnProfile("visits_7d", "number", (1.0, 2.0, 3.0)),),
    (0.5,),
    ProfileCounts(1000, {"visits_7d": EVEN}, np.array([500, 500])),
    natural={"visits_7d": 0.01, "score": 0.01},
)


def lead_of(week, channel, k):
    return f"{SECRET}-{week:02d}-{channel}-{k:02d}"


def converts(week, channel, k):
    """A quarter of the leads; of those from the web only an eighth from week HALVED on."""
    return k % (8 if channel == "web" and week >= HALVED else 4) == 0


@pytest.fixture(scope="module")
def history():
    """Every week new leads, scored once on day 7 * week, some of which convert two days later; one is recorded late."""
    everybody = [(w, c, k) for w in range(WEEKS) for c in ("web", "fair") for k in range(GROUP)]
    leads = [
        (lead_of(w, c, k), day(7 * w - 1), None, {"channel": c, "size": "1-10"}) for w, c, k in everybody
    ]
    outcomes = [(lead_of(w, c, k), day(7 * w + 2)) for w, c, k in everybody if converts(w, c, k)]
    return make_history(leads, conversions=outcomes, known_until=day(400))


def manifest_of(week, **given):
    cutoff = day(7 * week)
    counts = ProfileCounts(1000, {"visits_7d": given.pop("visits", EVEN)}, np.array([500, 500]))
    return {
        "run_id": f"demo-{cutoff:%Y%m%dT%H%M%SZ}",
        "name": "demo",
        "status": "published",
        "cutoff": cutoff.isoformat().replace("+00:00", "Z"),
        "data": {"known_until": (cutoff + timedelta(hours=1)).isoformat()},
        "model": {"name": "demo", "version": "3", "digest": "abc", "trained_until": day(-60).isoformat()},
        "model_knew_later": False,
        "leads": 2 * GROUP,
        "expected_conversions": 30.0,
        "counts": counts.to_dict(),
        "gates": [],
        **given,
    }


def publish(folder, manifest, week):
    ids = [lead_of(week, channel, k) for channel in ("web", "fair") for k in range(GROUP)]
    rows = pa.table(
        {
            "lead_id": ids,
            "p_convert_7d": pa.array([0.25] * len(ids)),
            "p_convert_30d": pa.array([0.26] * len(ids)),
            "rank": pa.array(range(1, len(ids) + 1)),
            "features_hash": pa.array(range(len(ids)), pa.uint64()),
        }
    )
    Ledger(folder / "ledger").append(manifest, rows)
    write_json(manifest, folder / "runs" / f"{manifest['run_id']}.json")


def run_weeks(folder, history, weeks, **given):
    for week in weeks:
        manifest = manifest_of(week, **given)
        publish(folder, manifest, week)
        monitor_night(folder, manifest, PROFILE, history, Ledger(folder / "ledger"), WATCH)


@pytest.fixture(scope="module")
def year(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("nights")
    run_weeks(folder, history, range(WEEKS))
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "monitoring").glob("*.json"))}


def test_each_night_judges_only_what_became_settled_since(year):
    reports = read_reports(year)
    judged = [[(entry["cutoff"], entry["horizon"]) for entry in report.judged] for report in reports]
    assert judged[0] == []
    assert judged[1] == [(day(0).isoformat(), "7d")]
    assert judged[6] == [(day(35).isoformat(), "7d"), (day(7).isoformat(), "30d")]
    every = [key for own in judged for key in own]
    assert len(every) == len(set(every))
    first = reports[1].judged[0]
    assert (first["expected"], first["observed"], first["leads"]) == (30.0, 30, 120)
    assert first["segments"]["channel"] == {"fair": [60, 15.0, 15], "web": [60, 15.0, 15]}
    month = reports[7].realised["30d"]
    assert (month["nights"], month["expected"]) == (3, pytest.approx(3 * 7 / 30 * 120 * 0.26))


def test_a_halved_channel_alarms_soon_and_the_other_one_does_not(year):
    reports = read_reports(year)
    raised = [
        (report.cutoff, alarm)
        for report in reports
        for alarm in report.alarms
        if alarm["since"] == report.cutoff
    ]
    subjects = {alarm["subject"]: cutoff for cutoff, alarm in raised if alarm["kind"] == "quality"}
    assert min(subjects.values()) > day(7 * HALVED).isoformat()
    assert subjects["channel=web"] <= day(7 * (HALVED + 6)).isoformat()
    assert "channel=fair" not in subjects
    alarm = next(each for each in reports[-1].alarms if each["subject"] == "channel=web")
    assert alarm["since"] == subjects["channel=web"]
    assert alarm["began"] == day(7 * HALVED).isoformat()
    assert alarm["factor"] == pytest.approx(0.5, abs=0.07)
    assert "channel 'web'" in alarm["sentence"]
    assert alarm["action"]


def test_the_same_night_again_gives_the_same_bytes(year, history):
    before = contents(year)
    manifest = read_manifests(year)[10]
    monitor_night(year, manifest, PROFILE, history, Ledger(year / "ledger"), WATCH)
    assert contents(year) == before


def test_reports_are_rebuilt_from_ledger_and_manifests_to_the_byte(year, history, tmp_path):
    for name in ("ledger", "runs"):
        (tmp_path / name).symlink_to(year / name)
    for manifest in read_manifests(year):
        monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
    assert contents(tmp_path) == contents(year)


def test_what_a_history_learns_later_does_not_change_a_night(year, history, tmp_path):
    """The report of week 3, made with a history that ends at its cutoff, is the one made with all of it."""
    from convpredict.training.as_of import history_as_of

    for name in ("ledger", "runs"):
        (tmp_path / name).symlink_to(year / name)
    for week in range(4):
        manifest = manifest_of(week)
        known = history_as_of(history, day(7 * week))
        monitor_night(tmp_path, manifest, PROFILE, known, Ledger(tmp_path / "ledger"), WATCH)
    assert contents(tmp_path) == dict(list(contents(year).items())[:4])


def test_no_lead_is_named_in_reports_or_page(year):
    page = write_page(year, MonitoringConfig(), name="demo")
    for path in (*(year / "monitoring").iterdir(),):
        assert SECRET not in path.read_text(encoding="utf-8")
    assert page == year / "monitoring" / "index.html"


def filled_in(number):
    """The manifest of a night between the weekly ones, on day ``number``."""
    cutoff = day(number)
    return manifest_of(0) | {
        "run_id": f"demo-{cutoff:%Y%m%dT%H%M%SZ}",
        "cutoff": cutoff.isoformat(),
        "data": {"known_until": cutoff.isoformat()},
    }


def test_nights_that_are_filled_in_later_do_not_count_their_conversions_twice(history, tmp_path):
    """Weekly nights are judged one by one; then daily nights in between are published.

    On days 0 to 2 of a week 30 conversions are promised, later 22.5: of those leads that have not converted yet.
    """
    run_weeks(tmp_path, history, range(6))
    weekly = read_reports(tmp_path)[-1].realised["7d"]
    assert (weekly["nights"], weekly["expected"], weekly["observed"]) == (5, 150.0, 150.0)
    for number in range(1, 28):
        if number % 7:
            manifest = filled_in(number)
            publish(tmp_path, manifest, number // 7)
            monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
    manifest = manifest_of(5)
    report = monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
    filled = report.realised["7d"]
    assert filled["nights"] == 5 + 24
    assert filled["expected"] == pytest.approx(4 * (3 * 30 + 4 * 22.5) / 7 + 30)
    assert filled["observed"] == pytest.approx(4 * 3 * 30 / 7 + 30)
    overall = next(change for change in report.changes if not change["attribute"])
    assert overall["expected"] <= filled["expected"]
    assert f"{filled['expected']:.1f}" in render_page(read_manifests(tmp_path), read_reports(tmp_path))


def test_a_night_published_again_counts_once(year, history, tmp_path):
    """Week 2 is published twice before it is judged, week 1 once more after it was."""
    run_weeks(tmp_path, history, range(3))
    for week, weeks in ((2, range(3, 4)), (1, range(4, 6))):
        manifest = manifest_of(week, again="a mistake")
        manifest["run_id"] += "-2"
        publish(tmp_path, manifest, week)
        monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
        run_weeks(tmp_path, history, weeks)
    again, once = read_reports(tmp_path), read_reports(year)[5]
    assert [report.run_id[-2:] for report in again].count("-2") == 2
    assert again[-1].realised == once.realised
    assert again[-1].changes == once.changes
    judged = {entry["cutoff"]: entry["run_id"] for report in again for entry in report.judged}
    assert judged[day(14).isoformat()].endswith("-2")
    pooled = again[-1].realised["7d"]
    assert f"Within 7d, {pooled['nights']} nights" in render_page(read_manifests(tmp_path), again)


def test_a_night_published_again_with_mended_data_judges_anew(history, tmp_path):
    """The conversions were missing on the night of week 1; it is published again once they are there."""
    run_weeks(tmp_path, history, [0])
    run_weeks(tmp_path, replace(history, conversions=history.conversions.slice(0, 0)), [1])
    assert read_reports(tmp_path)[-1].realised["7d"]["observed"] == 0
    manifest = manifest_of(1, again="the conversions were missing")
    manifest["run_id"] += "-2"
    publish(tmp_path, manifest, 1)
    monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
    run_weeks(tmp_path, history, [2])
    after = read_reports(tmp_path)[-1].realised["7d"]
    assert (after["nights"], after["expected"], after["observed"]) == (2, 60.0, 60.0)


def test_nights_that_readers_never_saw_count_nowhere(year, history, tmp_path):
    """One was given up after it had come to the ledger, one waits for a target, one's manifest is lost."""
    for week in range(HALVED):
        manifest = manifest_of(week)
        publish(tmp_path, manifest, week)
        cutoff = day(7 * week) + timedelta(days=1 + week % 3)
        unseen = {"run_id": f"demo-{cutoff:%Y%m%dT%H%M%SZ}", "cutoff": cutoff.isoformat()}
        publish(tmp_path, manifest_of(week, status="failed", error="discarded: wrong", **unseen), week)
        if week % 3 == 0:
            (tmp_path / "runs" / f"{unseen['run_id']}.json").unlink()
        monitor_night(tmp_path, manifest, PROFILE, history, Ledger(tmp_path / "ledger"), WATCH)
    assert contents(tmp_path) == {name: contents(year)[name] for name in contents(tmp_path)}
    assert len(contents(tmp_path)) == HALVED


def test_segments_are_by_the_value_at_the_night(history, tmp_path):
    """The fair's leads of week 1 go to a partner before the night; whoever converts is a 'customer' from then on."""
    ids = history.leads["lead_id"].to_pylist()
    moved = [row for row, lead in enumerate(ids) if lead.startswith(f"{SECRET}-01-fair")]
    bought = history.conversions["lead_row"].to_pylist()
    at = [day(6.5)] * len(moved) + history.conversions["converted_at"].to_pylist()
    changes = {
        "lead_row": moved + bought,
        "attribute": ["channel"] * len(at),
        "value": ["partner"] * len(moved) + ["customer"] * len(bought),
        "valid_from": at,
        "recorded_at": at,
    }
    changed = replace(history, attribute_changes=pa.table(changes, schema=history.attribute_changes.schema))
    run_weeks(tmp_path, changed, range(4))
    judged = [entry for report in read_reports(tmp_path) for entry in report.judged]
    web, other = [60, 15.0, 15], [60, 15.0, 15]
    assert [entry["segments"]["channel"] for entry in judged] == [
        {"fair": other, "web": web},
        {"partner": other, "web": web},
        {"fair": other, "web": web},
    ]


def test_nights_whose_model_knew_later_are_never_judged(history, tmp_path):
    run_weeks(tmp_path, history, range(3), model_knew_later=True)
    assert all(report.judged == [] for report in read_reports(tmp_path))


def test_where_the_data_ends_early_nothing_beyond_is_taken_for_settled(history, tmp_path):
    run_weeks(tmp_path, history, range(3), data={"known_until": day(9).isoformat()})
    reports = read_reports(tmp_path)
    assert reports[-1].as_of == day(9).isoformat()
    assert [entry["cutoff"] for report in reports for entry in report.judged] == [day(0).isoformat()]


def test_drift_alarms_once_and_says_since_when(history, tmp_path):
    moved = np.array([0, 100, 300, 600, 0])
    run_weeks(tmp_path, history, [0])
    run_weeks(tmp_path, history, [1, 2], visits=moved)
    run_weeks(tmp_path, history, [3])
    alarms = [report.alarms for report in read_reports(tmp_path)]
    assert [len(own) for own in alarms] == [0, 1, 1, 0]
    assert {own[0]["since"] for own in alarms[1:3]} == {day(7).isoformat()}
    assert "visits_7d (PSI" in alarms[1][0]["sentence"]


def test_a_damaged_report_is_an_error_that_says_how_to_go_on(history, tmp_path):
    run_weeks(tmp_path, history, [0])
    path = next((tmp_path / "monitoring").glob("*.json"))
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match="--rebuild"):
        read_reports(tmp_path)


def test_segments_are_the_configured_ones_or_the_first_categories(history):
    assert judge_by(history, None, None) == ("channel", "size")
    assert judge_by(history, None, ("size", "gone")) == ("size",)
    assert judge_by(history, ("channel",), ("size",)) == ("channel",)


class TestPage:
    def test_it_stands_alone_and_is_the_same_every_time(self, year):
        html = write_page(year, MonitoringConfig(), name="demo").read_text(encoding="utf-8")
        assert html == write_page(year, MonitoringConfig(), name="demo").read_text(encoding="utf-8")
        assert "default-src &#39;none&#39;" in html
        assert not re.search(r"(src|href)=\"(?!#|data:)", html)
        assert "url(" not in html
        assert len(html) < 1_000_000

    def test_it_shows_alarms_segments_and_the_model(self, year):
        html = write_page(year, MonitoringConfig(), name="demo").read_text(encoding="utf-8")
        assert "Leads of channel &#39;web&#39; convert" in html
        assert "Within 7d, 25 nights" in html
        assert "times since about 2024-04-08" in html
        assert "visits_7d" in html
        assert html.count('class="chart"') >= 9

    def test_names_of_others_cannot_become_markup(self, year):
        manifests = [
            *read_manifests(year)[:-1],
            {**read_manifests(year)[-1], "name": "<script>alert(1)</script>"},
        ]
        manifests[-1]["gates"] = [{"gate": "rows", "verdict": "warn", "message": '<b>few</b> "rows"'}]
        html = render_page(manifests, read_reports(year))
        assert "<script>alert" not in html
        assert "<b>few" not in html

    def test_a_stopped_night_is_told_first(self, year):
        gates = [{"gate": "rows", "verdict": "stop", "message": "half of the leads are gone"}]
        stopped = {**manifest_of(WEEKS), "status": "stopped", "gates": gates, "counts": None}
        html = render_page([*read_manifests(year), stopped], read_reports(year), nights=5)
        assert "was stopped: readers keep earlier scores" in html
        assert "half of the leads are gone" in html
        assert html.count('<tr><th scope="row">2024-') >= 5

    def test_the_first_night_has_a_page(self, history, tmp_path):
        assert "No night has been run yet." in render_page([], [])
        run_weeks(tmp_path, history, [0])
        html = write_page(tmp_path, MonitoringConfig(), name="demo").read_text(encoding="utf-8")
        assert "no published night is old enough" in html


class TestRetraining:
    now = day(7 * WEEKS)

    def reasons(self, folder, rule, **model):
        manifest = read_manifests(folder)[-1]
        manifest["model"] |= model
        return retrain_reasons(folder, manifest, MonitoringConfig(retrain=rule), self.now)

    def test_age_counts_from_the_registration(self, year):
        rule = RetrainConfig(age=Duration("90d"), realised=False)
        assert len(self.reasons(year, rule)) == 1
        assert self.reasons(year, rule, registered_at=(self.now - timedelta(days=89)).isoformat()) == []
        old = self.reasons(year, rule, registered_at=(self.now - timedelta(days=91)).isoformat())
        assert old[0].startswith("age: the model is 91 days old")
        assert self.reasons(year, RetrainConfig(age=None, realised=False)) == []

    def test_what_was_realised_is_a_reason_only_where_the_rule_says_so(self, year):
        found = self.reasons(year, RetrainConfig(age=None))
        assert any(reason.startswith("realised: Leads of channel 'web'") for reason in found)
        assert self.reasons(year, RetrainConfig(age=None, realised=False)) == []

    def test_drift_is_a_reason_from_so_many_columns_on(self, history, tmp_path):
        run_weeks(tmp_path, history, [0], visits=np.array([0, 100, 300, 600, 0]))
        rule = {"age": None, "realised": False}
        assert self.reasons(tmp_path, RetrainConfig(drifted_columns=2, **rule)) == []
        assert self.reasons(tmp_path, RetrainConfig(drifted_columns=1, **rule))[0].startswith(
            "drift: 1 column"
        )
        assert self.reasons(tmp_path, RetrainConfig(drifted_columns=None, **rule)) == []

    def test_a_night_without_a_report_is_an_error_unless_only_the_age_counts(self, history, tmp_path):
        run_weeks(tmp_path, history, [0])
        for path in (tmp_path / "monitoring").glob("demo-*.json"):
            path.unlink()
        with pytest.raises(MonitoringError, match="run 'convpredict monitor'"):
            self.reasons(tmp_path, RetrainConfig(age=None))
        assert self.reasons(tmp_path, RetrainConfig(age=None, drifted_columns=None, realised=False)) == []


def test_reports_say_of_which_format_they_are(history, tmp_path):
    run_weeks(tmp_path, history, [0])
    path = next((tmp_path / "monitoring").glob("*.json"))
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "format": 99}))
    with pytest.raises(DataError, match="format is 99"):
        read_reports(tmp_path)


def test_a_config_without_profile_judges_no_drift(history, tmp_path):
    manifest = manifest_of(0)
    publish(tmp_path, manifest, 0)
    report = monitor_night(tmp_path, manifest, None, history, Ledger(tmp_path / "ledger"), WATCH)
    assert report.drift == []
    assert Path(tmp_path / "monitoring" / f"{manifest['run_id']}.json").is_file()
    assert DriftConfig().psi == 0.2
