"""Past scores reproduced from data that stayed, changed or went; and the worst of them found by counting again."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from convpredict.config.base import Duration
from convpredict.config.load import load_project
from convpredict.errors import BundleError, ConfigError, DataError
from convpredict.history.load import load_history
from convpredict.models.bundle import load_bundle, write_bundle
from convpredict.scoring.ledger.expectations import chance_range, concept_table
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.ledger.mis_scored import Chosen, converted_after, judgeable
from convpredict.workflows.ledger import explain, find_mis_scored
from convpredict.workflows.nightly import nightly
from factories import day, make_history, to_us
from nightly_project import make_project

FIRST = datetime(2025, 9, 1, tzinfo=UTC)
NIGHTS = [FIRST + timedelta(days=7 * week) for week in range(6)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Six weekly nights; the last was published a second time."""
    made = make_project(tmp_path_factory.mktemp("ledger"), leads=700)
    for night in NIGHTS:
        nightly(made.config, as_of=night, run=made.run)
    nightly(made.config, as_of=NIGHTS[-1], run=made.run, again="the targets were lost")
    return made


@pytest.fixture(scope="module")
def ledger(project) -> Ledger:
    return Ledger(project.config.parent / "nightly" / "ledger")


@pytest.fixture(scope="module")
def outcomes(project) -> dict:
    """For each lead when it converted, read from the source file."""
    table = pq.read_table(project.config.parent / "data" / "conversions.parquet")
    return {row["lead_id"]: row["converted_at"].replace(tzinfo=UTC) for row in table.to_pylist()}


def bundle_of(project) -> Path:
    return project.run / "bundle"


def hottest(ledger: Ledger, night: datetime = NIGHTS[-1]) -> int:
    runs = [run.run_id for run in ledger.runs() if run.cutoff == night]
    rows = ledger.read(run_ids=runs[:1])
    return rows.filter(pc.equal(rows["rank"], 1))["lead_id"][0].as_py()


def copied(project, tmp_path: Path):
    """The project as it lies, to change its data."""
    folder = tmp_path / "copy"
    shutil.copytree(project.config.parent, folder)
    return dataclasses.replace(project, config=folder / project.config.name, run=folder / "run")


def test_every_score_of_every_night_is_reproduced_to_the_bit(project, ledger) -> None:
    """The whole lists, not a sample: today's data as of each cutoff gives hash and probabilities of the ledger."""
    from convpredict.scoring.ledger.reproduce import observations_of, reproduce
    from convpredict.training.as_of import history_as_of
    from convpredict.training.lead_times import to_microseconds

    loaded = load_project(project.config)
    history, bundle = load_history(loaded.config, loaded.data_dir), load_bundle(bundle_of(project))
    for run in ledger.runs()[::3]:
        rows = ledger.read(run_ids=[run.run_id])
        places = pc.index_in(
            rows["lead_id"].combine_chunks(), history.leads["lead_id"].combine_chunks()
        ).to_numpy()
        cutoffs = np.full(len(places), to_microseconds(run.cutoff))
        found = reproduce(
            history_as_of(history, run.cutoff), bundle, observations_of(history, places, cutoffs)
        )
        assert len(places) > 50
        assert (found.features_hash == rows["features_hash"].to_numpy()).all()
        for name in run.probability_columns:
            horizon = Duration(name.removeprefix("p_convert_"))
            assert (found.probabilities[horizon] == rows[name].to_numpy()).all()


def test_a_score_is_explained_as_it_was_published(project, ledger) -> None:
    lead = hottest(ledger)
    found = explain(project.config, str(lead), bundle=bundle_of(project))
    told = found.to_dict()
    scores = pq.read_table(project.config.parent / "scores" / "latest.parquet")
    published = scores.filter(pc.equal(scores["lead_id"], lead)).to_pylist()[0]
    assert told["verdict"] == "reproduced exactly"
    assert told["run_id"] == f"demo-{NIGHTS[-1]:%Y%m%dT%H%M%SZ}-2"
    assert told["reasons_for"] == published["reasons_for"]
    assert told["reasons_against"] == published["reasons_against"]
    assert told["published"]["p_convert_30d"] == published["p_convert_30d"]
    logit = told["base"] + sum(told["contributions"].values())
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(published["p_convert_30d"])
    assert "Reproduced exactly" in found.text
    assert json.loads(json.dumps(told)) == told


def test_an_earlier_night_and_what_moved_since_the_one_before(project, ledger) -> None:
    lead = str(hottest(ledger, NIGHTS[4]))
    late, early = (
        explain(project.config, lead, as_of=night, bundle=bundle_of(project)).to_dict()
        for night in (NIGHTS[4] + timedelta(days=6), NIGHTS[3])
    )
    assert (late["cutoff"], early["cutoff"]) == (NIGHTS[4].isoformat(), NIGHTS[3].isoformat())
    assert late["before"]["run_id"] == early["run_id"]
    assert not late["model_changed"]
    moved = {
        name: now - early["contributions"][name]
        for name, now in late["contributions"].items()
        if abs(now - early["contributions"][name]) >= 0.05
    }
    assert {move["concept"]: move["change"] for move in late["moves"]} == pytest.approx(moved)
    sizes = [abs(move["change"]) for move in late["moves"]]
    assert sizes == sorted(sizes, reverse=True)


def test_reasons_come_in_another_language(project, ledger) -> None:
    lead = str(hottest(ledger))
    english, german = (
        explain(project.config, lead, locale=locale, bundle=bundle_of(project)).to_dict()
        for locale in ("en", "de")
    )
    assert english["reasons_for"] != german["reasons_for"]
    assert english["contributions"] == german["contributions"]


def test_changed_data_is_told_and_shown_as_todays(project, ledger, tmp_path) -> None:
    lead, copy = hottest(ledger), copied(project, tmp_path)
    path = copy.config.parent / "data" / "interactions.parquet"
    table = pq.read_table(path)
    kept = table.filter(pc.not_equal(table["lead_id"], lead))
    assert kept.num_rows < table.num_rows
    pq.write_table(kept, path)
    found = explain(copy.config, str(lead), bundle=bundle_of(project))
    told = found.to_dict()
    assert told["verdict"] == "data changed"
    assert told["features_hash"] != told["features_hash_now"]
    assert told["published"]["p_convert_30d"] != told["probabilities_now"]["p_convert_30d"]
    assert "NOT reproduced" in found.text
    assert "Today's reconstruction" in found.text
    assert "compares today's reconstructions" in found.text
    leads = copy.config.parent / "data" / "leads.parquet"
    people = pq.read_table(leads)
    pq.write_table(people.filter(pc.not_equal(people["lead_id"], lead)), leads)
    gone = explain(copy.config, str(lead), bundle=bundle_of(project))
    assert gone.to_dict()["verdict"] == "lead is gone"
    assert "no longer has this lead" in gone.text


def test_who_was_not_on_the_list_gets_to_know_why(project, ledger, outcomes) -> None:
    with pytest.raises(DataError, match="the data has no such lead"):
        explain(project.config, "nobody", bundle=bundle_of(project))
    with pytest.raises(DataError, match=r"no night was published up to 2020.*first one is of 2025-09-01"):
        explain(project.config, "1", as_of=datetime(2020, 1, 1, tzinfo=UTC), bundle=bundle_of(project))
    early = next(lead for lead, at in outcomes.items() if at < FIRST)
    with pytest.raises(DataError, match="the lead had converted before the cutoff"):
        explain(project.config, str(early), bundle=bundle_of(project))
    seen = set(ledger.read(columns=["lead_id"])["lead_id"].to_pylist())
    late = next(lead for lead, at in outcomes.items() if lead in seen and NIGHTS[1] < at < NIGHTS[-1])
    found = explain(project.config, str(late), bundle=bundle_of(project))
    assert f"was not on the list of {NIGHTS[-1]:%Y-%m-%d}" in found.explanation.note
    assert found.explanation.score.run.cutoff < outcomes[late]


def test_only_the_model_of_that_night_may_explain(project, ledger, tmp_path) -> None:
    lead = str(hottest(ledger))
    with pytest.raises(BundleError, match="name that folder with --bundle"):
        explain(project.config, lead)
    other = dataclasses.replace(load_bundle(bundle_of(project)), name="another")
    write_bundle(tmp_path / "other", other)
    with pytest.raises(BundleError, match="reasons would be those of another model"):
        explain(project.config, lead, bundle=tmp_path / "other")


def test_unpublished_runs_do_not_count(project, ledger, tmp_path) -> None:
    copy = copied(project, tmp_path)
    for path in (copy.config.parent / "nightly" / "runs").glob("*.json"):
        content = json.loads(path.read_text())
        if content["cutoff"] > NIGHTS[0].isoformat():
            path.unlink()
    lead = str(hottest(ledger, NIGHTS[0]))
    told = explain(copy.config, lead, bundle=bundle_of(project)).to_dict()
    assert told["cutoff"] == NIGHTS[0].isoformat()
    assert told["before"] is None


def counted_again(project, ledger, outcomes) -> tuple[list, list, dict]:
    """Misses by a plain loop over the published lists: for each lead its worst night."""
    horizon = timedelta(days=30)
    runs = [run for run in ledger.runs() if not (run.cutoff == NIGHTS[-1] and not run.run_id.endswith("-2"))]
    worst: dict[tuple[str, int], tuple] = {}
    first: dict[int, tuple] = {}
    for run in runs:
        for row in ledger.read(run_ids=[run.run_id]).to_pylist():
            lead, p, share = row["lead_id"], row["p_convert_30d"], row["rank"] / run.rows
            at = outcomes.get(lead)
            bought = at is not None and run.cutoff <= at < run.cutoff + horizon
            first.setdefault(lead, (p, share, bought))
            loss = -math.log(p if bought else 1 - p)
            key = ("cold" if bought else "hot", lead)
            if key not in worst or loss > worst[key][0]:
                worst[key] = (loss, lead, run.run_id, p, share)
    kept = sorted(worst.items(), key=lambda item: (-item[1][0], item[0][1]))
    cold = [entry for (kind, _), entry in kept if kind == "cold" and entry[4] > 0.5]
    hot = [entry for (kind, _), entry in kept if kind == "hot" and entry[4] <= 0.1]
    return cold, hot, first


def test_misses_are_those_that_a_plain_count_finds(project, ledger, outcomes, tmp_path) -> None:
    out = tmp_path / "misses.csv"
    found = find_mis_scored(project.config, top=10, bundle=bundle_of(project), out=out)
    cold, hot, first = counted_again(project, ledger, outcomes)
    rows = found.to_dict()["misses"]
    assert len(hot) > 10
    assert cold
    for kind, expected in (("cold_bought", cold[:10]), ("hot_did_not", hot[:10])):
        listed = [row for row in rows if row["miss"] == kind]
        assert [row["log_loss"] for row in listed] == pytest.approx([entry[0] for entry in expected])
        assert {(row["lead_id"], row["run_id"]) for row in listed} == {(str(e[1]), e[2]) for e in expected}
        assert all(row["reproduced"] for row in listed)
    told = found.report.misses.buyers_among_cold
    own = [(p, bought) for p, share, bought in first.values() if share > 0.5]
    assert (told.leads, told.observed) == (len(own), sum(bought for _, bought in own))
    assert told.expected == pytest.approx(sum(p for p, _ in own))
    assert f"{told.leads:,} leads were cold" in found.text
    with open(out, newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["lead_id"] for row in written] == [row["lead_id"] for row in rows]
    named = {concept["concept"] for side in found.report.concepts.values() for concept in side}
    assert named <= {column.concept for column in load_bundle(bundle_of(project)).feature_set.model_columns}


def test_a_late_buyer_shows_as_such(project, ledger, outcomes) -> None:
    rows = find_mis_scored(project.config, top=200, bundle=bundle_of(project)).report.rows
    assert len({(row["miss"], row["lead_id"]) for row in rows}) == len(rows)
    for row in rows:
        at = outcomes.get(int(row["lead_id"]))
        days = None if at is None else (at - row["cutoff"]) / timedelta(days=1)
        assert row["converted_after_days"] == (None if days is None else pytest.approx(days))
        assert (row["miss"] == "cold_bought") == (days is not None and 0 <= days < 30)


def test_how_long_after_the_night_a_lead_bought() -> None:
    leads = [("a", day(0)), ("b", day(0)), ("c", day(0))]
    history = make_history(leads, conversions=[("a", day(45)), ("b", None)], known_until=day(90))
    ones = np.ones(3)
    chosen = Chosen(
        np.arange(3), np.zeros(3, np.int64), ones, np.ones(3, np.int64), ones.astype(np.uint64), ones
    )
    after = converted_after(history, chosen, np.full(3, to_us(day(5))), "conversion")
    assert after[0] == 40
    assert np.isnan(after[1:]).all()


def test_misses_by_value_need_revenue_and_rank_by_it(project) -> None:
    with pytest.raises(ConfigError, match=r"value_horizon; declare them"):
        find_mis_scored(project.config, by="value", bundle=bundle_of(project))
    settings = ("labels.value_horizon=60d",)
    found = find_mis_scored(project.config, by="value", bundle=bundle_of(project), overrides=settings)
    rows = [row for row in found.report.rows if row["miss"] == "cold_bought"]
    lost = [(1 - row["p"]) * row["value"] for row in rows]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > 0


def test_misses_without_their_model_have_no_reasons(project) -> None:
    found = find_mis_scored(project.config, top=3)
    assert all(row["reasons_for"] is None and row["reproduced"] is None for row in found.report.rows)
    assert found.report.concepts == {"cold_bought": [], "hot_did_not": []}
    assert "cannot be read any more" in found.text


def test_nights_that_cannot_be_judged_are_left_out(project, ledger) -> None:
    loaded = load_project(project.config)
    history = load_history(loaded.config, loaded.data_dir)
    horizon = Duration("30d")
    runs = ledger.runs()
    chosen, left_out = judgeable(runs, history, horizon)
    assert [run.cutoff for run in chosen] == NIGHTS
    assert chosen[-1].run_id.endswith("-2")
    assert left_out == {"published again": 1}
    early = dataclasses.replace(history, known_until=NIGHTS[2] + timedelta(days=30))
    knew = [dataclasses.replace(run, model_knew_later=run.cutoff == NIGHTS[0]) for run in runs]
    chosen, left_out = judgeable(knew, early, horizon, 1)
    assert [run.cutoff for run in chosen] == [NIGHTS[2]]
    assert left_out == {"model knew later": 1, "horizon has not ended": 4}
    with pytest.raises(DataError, match="no night whose 30d horizon has ended"):
        find_mis_scored(project.config, overrides=("history.known_until=2025-09-20",))


def test_the_range_of_chance_by_enumeration() -> None:
    p = np.array([0.1, 0.5, 0.9, 0.3])
    chances = np.zeros(5)
    for outcome in range(16):
        bits = np.array([(outcome >> i) & 1 for i in range(4)])
        chances[bits.sum()] += np.prod(np.where(bits == 1, p, 1 - p))
    low, high = chance_range(p, 0.8)
    assert chances[low : high + 1].sum() >= 0.8
    assert chances[:low].sum() <= 0.1
    assert chances[high + 1 :].sum() <= 0.1
    many = np.full(4_000, 0.05)
    assert chance_range(many) == (172, 228)


def test_a_concept_that_always_speaks_is_told_beside_how_often_it_does() -> None:
    wrong = np.array([[-1.0, -0.5, 0.3], [-0.9, 0.2, 0.1], [-0.8, -0.01, 0.0]])
    right = np.array([[-1.0, 0.5, 0.0], [-0.2, 0.1, 0.0]])
    told = concept_table(["always", "calls", "never"], wrong, right, spoke_for=False)
    assert [(row["concept"], row["misses"], row["usual_share"]) for row in told] == [
        ("always", 3, 1.0),
        ("calls", 1, 0.0),
    ]
    assert told[0]["mean_contribution"] == pytest.approx(-0.9)
    assert concept_table(["a"], np.zeros((0, 1)), right[:, :1], spoke_for=True) == []


def test_rows_of_a_report_make_a_table(project) -> None:
    report = find_mis_scored(project.config, top=2, bundle=bundle_of(project)).report
    table = report.to_table()
    assert table.schema.field("cutoff").type == pa.timestamp("us", tz="UTC")
    assert table["lead_id"].to_pylist() == [row["lead_id"] for row in report.rows]


def test_a_damaged_ledger_is_blamed_and_not_the_machine(project, ledger, tmp_path) -> None:
    lead, copy = hottest(ledger), copied(project, tmp_path)
    (path,) = (copy.config.parent / "nightly" / "ledger").rglob(
        f"demo-{NIGHTS[-1]:%Y%m%dT%H%M%SZ}-2.*.parquet"
    )
    table = pq.ParquetFile(path).read()
    for name in ("p_convert_30d", "features_hash"):
        values = table[name].to_numpy().copy()
        values[table["lead_id"].to_pylist().index(lead)] *= 2
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, name, pa.array(values)), path)
        with pytest.raises(DataError, match=r"rows are not those of .* restore it from a backup") as raised:
            explain(copy.config, str(lead), bundle=bundle_of(project))
        assert str(path) in str(raised.value)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="restore it from a backup"):
        explain(copy.config, str(lead), bundle=bundle_of(project))


def test_a_repeated_night_without_the_lead_is_the_list_in_force(project, ledger, tmp_path) -> None:
    copy, night = copied(project, tmp_path), NIGHTS[-1]
    lead = hottest(ledger)
    for name in ("leads", "interactions", "conversions", "revenue"):
        path = copy.config.parent / "data" / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.not_equal(table["lead_id"], lead)), path)
    nightly(copy.config, as_of=night, run=copy.run, again="the lead was merged away")
    found = explain(copy.config, str(lead), bundle=bundle_of(project))
    assert found.explanation.score.run.run_id.endswith("Z-2")
    assert "is not on the list in force" in found.text
    assert f"demo-{night:%Y%m%dT%H%M%SZ}-3" in found.text
    assert "the data has no such lead" in found.text
