"""Reasons in the scored list: for whom, and whether what they say is true of the history."""

from __future__ import annotations

import dataclasses
import io
import re
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from convpredict.config.base import Duration
from convpredict.config.features import AgeFeature, CountFeature, RateFeature, RecencyFeature
from convpredict.config.reasons import ReasonsConfig
from convpredict.features.batches import iterate_features
from convpredict.features.feature_set import FeatureSet
from convpredict.features.vocabulary import Vocabularies
from convpredict.models.bundle import Bundle
from convpredict.models.conversion import ConversionModel
from convpredict.scoring.lead_reasons import conversion_rates
from convpredict.scoring.scores import score_open_leads
from convpredict.scoring.tables import hottest_table
from convpredict.training.observations import open_observations
from factories import EPOCH, KINDS, day, random_history, to_us

AS_OF = day(45.25)
REASONS = ("reasons_for", "reasons_against", "reason_contributions")


@pytest.fixture(scope="module")
def history():
    return random_history(np.random.default_rng(3), leads=600, interactions_per_lead=8.0, integer_ids=True)


@pytest.fixture(scope="module")
def bundle(history):
    words = {("interactions", "kind"): tuple(KINDS[:3]), ("leads", "source"): ("ads", "fair", "web")}
    feature_set = FeatureSet.declare(
        (
            CountFeature(windows=(Duration("7d"), "all")),
            CountFeature(windows=(Duration("7d"), "all"), by="kind"),
            RecencyFeature(),
            RecencyFeature(by="kind"),
            AgeFeature(),
            RateFeature(keys=("source",), within=Duration("14d")),
        ),
        Vocabularies(words, {("interactions", "kind"): "category", ("leads", "source"): "category"}),
    )
    observed = open_observations(history, AS_OF)
    frame = next(iter(iterate_features(history, observed.table, feature_set))).to_pandas()
    rng = np.random.default_rng(0)
    score = frame["count_7d"] + 2 * frame[f"count_all__kind_{KINDS[1]}"] - frame["age"] / 10
    y = (score + rng.normal(size=len(frame)) > np.median(score)).astype(int)
    model = ConversionModel(seeds=1, n_estimators=40, num_leaves=7, logistic_weight=0.2)
    return Bundle("test", model.fit(frame[list(feature_set.model_names)], y), feature_set, Duration("30d"))


def test_every_number_in_a_reason_is_true_of_the_history(history, bundle) -> None:
    """Counted again from the raw interactions, by nothing that the features use."""
    scores = score_open_leads(history, bundle, as_of=AS_OF, reasons=ReasonsConfig(top=10)).table
    ids = history.leads["lead_id"].to_pylist()
    created = dict(zip(ids, history.leads["created_at"].to_pylist(), strict=True))
    seen: dict[int, list] = {lead: [] for lead in ids}
    for event in history.query(
        "SELECT lead_row, occurred_at, visible_at, kind FROM interactions"
    ).to_pylist():
        if event["visible_at"] < to_us(AS_OF):
            seen[ids[event["lead_row"]]].append(
                (EPOCH + timedelta(microseconds=event["occurred_at"] - to_us(EPOCH)), event["kind"])
            )
    told = Counter()
    for row in scores.to_pylist():
        for text in row["reasons_for"] + row["reasons_against"]:
            told[check_fact(text, seen[row["lead_id"]], created[row["lead_id"]])] += 1
    assert {"count", "silent", "last", "never", "age", "rate"} <= set(told)
    assert told.total() > 1000


def check_fact(text: str, events: list, created) -> str:
    """Which pattern the sentence is of, after holding it against the lead's visible interactions."""

    def of(noun: str) -> list:
        if re.fullmatch(r"interactions?", noun):
            return [at for at, _ in events]
        if re.fullmatch(r"interactions? of (?:another kind|other kinds)", noun):
            return [at for at, kind in events if kind not in KINDS[:3]]
        return [at for at, kind in events if noun in (kind, f"{kind}s")]

    def days_back(at) -> int:
        return (AS_OF.date() - at.date()).days

    ago = {"today": 0, "yesterday": 1}
    if match := re.fullmatch(
        r"(\d+) (.+?) (in the last 7 days|so far)(?:, (?:the last one )?(.+?)(?: days? ago)?)?", text
    ):
        count, noun, window, last = match.groups()
        times = [at for at in of(noun) if window == "so far" or at >= AS_OF - timedelta(days=7)]
        assert len(times) == int(count), text
        assert last is None or days_back(max(times)) == (int(last) if last.isdigit() else ago[last]), text
        return "count"
    if match := re.fullmatch(r"no (.+) for (\d+) days?", text):
        assert (AS_OF - max(of(match[1]))).days == int(match[2]), text
        return "silent"
    if match := re.fullmatch(r"last (.+?) (today|yesterday|(\d+) days? ago)", text):
        assert days_back(max(of(match[1]))) == int(match[3] or ago.get(match[2], 0)), text
        return "last"
    if match := re.fullmatch(r"no (.+) so far", text):
        assert not of(match[1]), text
        return "never"
    if match := re.fullmatch(r"known for (?:(\d+) days?|less than a day)", text):
        assert (AS_OF - created).days == int(match[1] or 0), text
        return "age"
    across = r"leads with the same source convert at about .+ within 14 days.*|\d+ earlier leads? with the same source"
    assert re.fullmatch(across, text), text
    return "rate"


def test_a_share_explains_the_likeliest_leads_just_as_all_would(history, bundle) -> None:
    everybody = score_open_leads(history, bundle, as_of=AS_OF, reasons=ReasonsConfig(locale="sv"))
    table = everybody.table
    few = score_open_leads(
        history, bundle, as_of=AS_OF, reasons=ReasonsConfig(locale="sv", leads=0.25), bucket_events=100
    ).table
    n = -(-table.num_rows // 4)
    for name in REASONS:
        assert few[name].slice(0, n).to_pylist() == table[name].slice(0, n).to_pylist()
        assert few[name].slice(n).null_count == table.num_rows - n
    nobody = score_open_leads(history, bundle, as_of=AS_OF, reasons=ReasonsConfig(leads="none")).table
    assert not set(REASONS) & set(nobody.column_names)
    assert nobody.drop_columns(["run_id"]).equals(table.select(nobody.column_names).drop_columns(["run_id"]))


def test_the_average_is_the_share_of_settled_leads_that_converted(history, bundle) -> None:
    span = timedelta(days=14)
    converted = {
        row["lead_row"]: (row["converted_at"], row["recorded_at"] or row["converted_at"])
        for row in history.conversions.to_pylist()
        if row["converted_at"] is not None
    }
    created = history.leads["created_at"].to_pylist()
    settled = [row for row, at in enumerate(created) if at + span <= AS_OF]
    hits = [
        row
        for row in settled
        if row in converted and converted[row][0] < created[row] + span and max(converted[row]) < AS_OF
    ]
    rates = conversion_rates(history, bundle.feature_set, AS_OF)
    assert rates == {14 * 86_400_000_000: pytest.approx(len(hits) / len(settled))}


def test_the_list_for_people_shows_the_main_reason(history, bundle) -> None:
    scores = score_open_leads(history, bundle, as_of=AS_OF, reasons=ReasonsConfig())
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(hottest_table(scores, 5))
    shown = console.export_text()
    assert max(len(line) for line in shown.splitlines()) <= 110
    main = scores.table["reasons_for"].to_pylist()[0][0]
    assert main.split(",")[0][:20] in shown
    assert "expected value" not in shown
    value = pa.array([1234.4, 99.5, float("nan"), *[1e6] * (scores.table.num_rows - 3)])
    priced = dataclasses.replace(scores, table=scores.table.append_column("expected_value", value))
    console.print(hottest_table(priced, 5))
    shown = console.export_text()
    assert max(len(line) for line in shown.splitlines()) <= 110
    assert all(text in shown for text in ("expected", "1,234", "99.50", "1,000,000"))
    assert "nan" not in shown.split()


def test_the_list_for_people_has_no_column_of_grades_that_nobody_has(history, bundle) -> None:
    scores = score_open_leads(history, bundle, as_of=AS_OF)
    n = scores.table.num_rows
    for grades, there in ((["none"] * n, False), (["none"] * (n - 1) + ["hot"], True)):
        table = scores.table.append_column("scorecard_points", pa.array([5.0] * n))
        carded = dataclasses.replace(
            scores, table=table.append_column("scorecard_grade", pa.array(grades, pa.string()))
        )
        names = [str(column.header) for column in hottest_table(carded, 3).columns]
        assert "points" in names
        assert ("grade" in names) is there
