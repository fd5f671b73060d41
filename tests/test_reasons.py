"""Reasons: complete catalogues, facts that are true, words that read well, stable order."""

from __future__ import annotations

import re
from string import Formatter

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AggregateFeature,
    AttributeFeature,
    CountFeature,
    DecayedFeature,
    RateFeature,
    RecencyFeature,
)
from convpredict.features.feature_set import FeatureSet
from convpredict.features.vocabulary import Vocabularies
from convpredict.models.bundle import Bundle
from convpredict.models.contributions import Contributions, Explainer
from convpredict.models.conversion import ConversionModel
from convpredict.models.reason_facts import Fact, Row, fact_of
from convpredict.models.reason_phrases import LOCALES, LONGEST, Phrases, catalogue, common_words, shorten
from convpredict.models.reasons import SMALLEST, concept_importance, explain_leads
from every_family import every_family_set

DAY = 86_400_000_000
MIDNIGHT = 20_000 * DAY
ENGLISH = re.compile(
    r"\b(?:interactions?|days?|hours|the|ago|no|not|known|leads? with|within|average|total|last|yesterday|so far)\b"
)

VOCABULARIES = Vocabularies(
    {
        ("interactions", "kind"): ("download", "page_visit", "W_Call"),
        ("interactions", "outcome"): ("no answer",),
        ("leads", "source"): ("trade fair", "web_form"),
        ("leads", "campaign"): ("spring",),
    },
    {
        ("interactions", "kind"): "category",
        ("interactions", "outcome"): "category",
        ("interactions", "talk_seconds"): "number",
        ("leads", "source"): "category",
        ("leads", "campaign"): "category",
        ("leads", "budget_eur"): "number",
        ("leads", "renewal_date"): "time",
    },
)
DECLARED = (
    CountFeature(windows=(Duration("7d"), "all")),
    CountFeature(windows=(Duration("1d"), Duration("7d"), "all"), by="kind"),
    CountFeature(windows=(Duration("30d"),), by="outcome"),
    RecencyFeature(),
    RecencyFeature(by="kind"),
    AgeFeature(),
    AgeFeature(of="first", by="kind"),
    DecayedFeature(half_lives=(Duration("3d"),), by="kind"),
    AggregateFeature(attribute="talk_seconds", functions=("sum", "mean"), windows=(Duration("30d"),)),
    AttributeFeature(attribute="source"),
    AttributeFeature(attribute="budget_eur"),
    AttributeFeature(attribute="renewal_date"),
    RateFeature(keys=("campaign",), within=Duration("30d")),
)
SET = FeatureSet.declare(DECLARED, VOCABULARIES)
COLUMNS = {column.name: column for column in SET.columns}


def tell(name, value, locale="en", *, is_for=True, names=None, **row) -> str:
    return fact_of(Fact(COLUMNS[name], value, is_for, Row(**row), Phrases(locale, names)))


def placeholders(message) -> set[str]:
    texts = message.values() if isinstance(message, dict) else [message] if isinstance(message, str) else []
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("locale", LOCALES)
def test_catalogues_have_the_same_messages_and_placeholders(locale) -> None:
    english, other = catalogue("en"), catalogue(locale)
    assert list(other) == list(english)
    for key, message in english.items():
        assert type(other[key]) is type(message), key
        free = {"n"} if isinstance(message, dict) else set()
        if key in ("any", "other_kind", "raw_kind", "with_value", "with_other_value"):
            free = set()
        noun = {"one", "other"}
        if key == "nth_n":  # the fourth last is told as "the one with three after it" in Dutch
            assert placeholders(other[key]) in ({"index"}, {"before"})
            continue
        wanted, got = placeholders(message) - free - noun, placeholders(other[key]) - free - noun
        assert got == wanted, key
        assert bool(placeholders(message) & noun) == bool(placeholders(other[key]) & noun), key
        if isinstance(message, list):
            assert len(other[key]) == len(message), key
        if isinstance(message, dict):
            assert set(other[key]) == {"one", "other"}, key


@pytest.mark.parametrize("locale", LOCALES)
def test_every_column_of_every_family_has_a_sentence_in_every_language(locale) -> None:
    phrases = Phrases(locale)
    for column in every_family_set().columns:
        numbers = [0.0, 1.0, 2.0, 3.7, 1234.5, -0.8, float("nan")]
        values = [*column.categories, None] if column.type == "category" else numbers
        if column.unit == "share" or column.function == "rate":
            values = [0.0, 0.0123, 0.5, 1.0, float("nan")]
        if column.declaration.family == "calendar":
            values = [0.0, 1.0, 5.0]
        subject = (getattr(column.declaration, "by", None), column.value)
        for value in values:
            for is_for in (True, False):
                for row in (
                    Row(),
                    Row(days_since={subject: None}),
                    Row(days_since={subject: 3.4}, cutoff_us=MIDNIGHT, average={7 * DAY: 0.02}),
                ):
                    text = fact_of(Fact(column, value, is_for, row, phrases))
                    assert text.strip() == text != ""
                    assert not set("{}") & set(text), text
                    assert len(shorten(text)) <= LONGEST
                    assert "nan" not in text.lower().split(), text
                    assert text.count(": ") <= 2
                    if locale != "en":
                        assert not ENGLISH.search(re.sub(r"[„‘”][^“’”]*[“’”]", "", text)), text


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("en", "4 downloads in the last 7 days, the last one yesterday"),
        ("de", "4 Downloads in den letzten 7 Tagen, zuletzt gestern"),
        ("nl", "4 downloads in de laatste 7 dagen, de laatste gisteren"),
        ("sv", "4 nedladdningar de senaste 7 dagarna, senast i går"),
    ],
)
def test_a_count_says_when_the_last_one_was(locale, expected) -> None:
    known = {"days_since": {("kind", "download"): 0.4}, "cutoff_us": MIDNIGHT}
    assert tell("count_7d__kind_download", 4.0, locale, **known) == expected


def test_days_are_counted_by_the_calendar_where_the_cutoff_is_known() -> None:
    phrases = Phrases("en")
    noon = MIDNIGHT + DAY // 2
    assert [phrases.ago(days, MIDNIGHT) for days in (0.1, 1.0, 1.01, 2.0)] == [
        "yesterday",
        "yesterday",
        "2 days ago",
        "2 days ago",
    ]
    assert [phrases.ago(days, noon) for days in (0.1, 0.5, 0.51, 1.5, 1.51)] == [
        "today",
        "today",
        "yesterday",
        "yesterday",
        "2 days ago",
    ]
    assert [phrases.ago(days, None) for days in (0.99, 1.0, 2.9)] == [
        "less than a day ago",
        "1 day ago",
        "2 days ago",
    ]


def test_absence_is_told_as_long_as_it_is_known() -> None:
    never = {"days_since": {("kind", "download"): None}}
    silent = {"days_since": {("kind", "download"): 23.9}}
    name = "count_7d__kind_download"
    assert tell(name, 0.0, **never) == "no download so far"
    assert tell(name, 0.0, **silent) == "no download for 23 days"
    assert tell(name, 0.0) == "no downloads in the last 7 days"
    assert tell("count_all__kind_download", 0.0) == "no download so far"
    assert tell("recency__kind_download", float("nan")) == "no download so far"
    assert tell("recency__kind_download", 23.9, is_for=False) == "no download for 23 days"
    assert tell("recency__kind_download", 23.9, is_for=True) == "last download 23 days ago"
    assert tell("recency__kind_download", 0.5, is_for=False) == "last download less than a day ago"
    assert tell(name, 0.0, "de", names={"download": ("Download", "Downloads")}, **silent) == (
        "seit 23 Tagen ohne Download"
    )


def test_a_weighted_count_is_told_by_what_can_be_pictured() -> None:
    subject = ("kind", "download")
    counts = {subject: {DAY: 0.0, 7 * DAY: 2.0, None: 9.0}}
    name = "decayed_3d__kind_download"
    assert tell(name, 1.3, counts=counts) == "2 downloads in the last 7 days"
    known = {"counts": counts, "days_since": {subject: 30.0}}
    assert tell(name, 0.01, is_for=False, **known) == "no download for 30 days"
    assert tell(name, 1.3) == "1.3 downloads, older ones counting less"


@pytest.mark.parametrize(
    ("name", "value", "locale", "expected"),
    [
        ("attribute_source", "trade fair", "en", "source: trade fair"),
        ("attribute_source", "web_form", "en", "source: web form"),
        ("attribute_source", "(other)", "de", "Quelle: anderer Wert"),
        ("attribute_source", None, "nl", "bron: onbekend"),
        ("attribute_budget_eur", 12000.0, "de", "budget (EUR): 12.000"),
        ("attribute_budget_eur", float("nan"), "sv", "budget (EUR): okänt"),
        ("attribute_renewal_date", 12.0, "nl", "renewal date: 12 dagen geleden"),
        ("age", 45.9, "de", "seit 45 Tagen bekannt"),
        ("age", 1.2, "sv", "känd i 1 dag"),
        ("age", 0.2, "en", "known for less than a day"),
        ("sum_talk_seconds_30d", 3650.0, "en", "talk in the last 30 days: total 1 h 1 min"),
        ("mean_talk_seconds_30d", float("nan"), "de", "talk in den letzten 30 Tagen: kein Wert"),
        ("count_1d__kind_page_visit", 1.0, "en", "1 page visit in the last 24 hours"),
        ("count_7d__kind_w_call", 2.0, "en", "2 ‘W_Call’ interactions in the last 7 days"),
        ("count_7d__kind_other", 2.0, "de", "2 Aktivitäten anderer Art in den letzten 7 Tagen"),
        (
            "count_30d__outcome_no_answer",
            1.0,
            "nl",
            "1 activiteit met outcome ‘no answer’ in de laatste 30 dagen",
        ),
        ("count_all", 1234.0, "sv", "1\u00a0234 aktiviteter hittills"),
        ("first_age__kind_download", 40.0, "en", "first download 40 days ago"),
    ],
)
def test_facts(name, value, locale, expected) -> None:
    assert tell(name, value, locale) == expected


def test_rates_stand_beside_the_average_where_they_speak_for_themselves() -> None:
    known = {"average": {30 * DAY: 0.023}, "attributes": {"campaign": "spring"}}
    rate = "leads with the same campaign convert at about 6.1 % within 30 days"
    assert tell("rate_campaign", 0.0612, **known) == f"{rate} (average 2.3 %)"
    assert tell("rate_campaign", 0.0612) == rate
    assert tell("rate_campaign", 0.0612, is_for=False, **known) == "campaign: spring"
    assert tell("rate_campaign", 0.0612, is_for=False, average=known["average"]) == rate
    assert "6,1% converteert binnen 30 dagen (gemiddeld 2,3%)" in tell("rate_campaign", 0.0612, "nl", **known)


@pytest.mark.parametrize("locale", ["de", "nl", "sv"])
def test_common_words_are_translated_and_the_users_come_first(locale) -> None:
    words = common_words(locale)
    assert list(words) == list(common_words("de"))
    assert not [word for word in words.values() if not all(word)]
    simulated = (
        "call",
        "download",
        "meeting",
        "webinar",
        "page_visit",
        "email_open",
        "email_click",
        "demo_request",
    )
    assert all(len(words[kind]) == 2 and isinstance(words[kind], tuple) for kind in simulated)
    assert tell("count_1d__kind_page_visit", 2.0, locale).startswith(f"2 {words['page_visit'][1]} ")
    own = {"page_visit": ("x", "xs")}
    assert tell("count_1d__kind_page_visit", 2.0, locale, names=own).startswith("2 xs ")
    assert Phrases(locale).amount("duration_seconds", 60.0) == "1 min"


@pytest.mark.parametrize("locale", ["de", "nl", "sv"])
@pytest.mark.parametrize("value", ["event", "product", "call"])
def test_values_that_look_like_common_words_stay_as_they_are(locale, value) -> None:
    phrases, source = Phrases(locale), common_words(locale)["source"]
    assert tell("attribute_source", value, locale) == f"{source}: {value}"
    assert value in phrases.things(2, "outcome", value)
    group = tell("rate_campaign", 0.01, locale, average={30 * DAY: 0.02}, attributes={"campaign": value})
    assert group.endswith(f": {value}")
    own = {value: ("x", "xs")}
    assert tell("attribute_source", value, locale, names=own) == f"{source}: x"
    assert phrases.kind("event") == common_words(locale)["event"][0]
    assert phrases.attribute("product") == common_words(locale)["product"]


@pytest.mark.parametrize(
    ("locale", "day", "fourth", "back"),
    [
        ("en", "in the last day", "4th last", "came back on 3 days"),
        ("de", "am letzten Tag", "4.-letzte", "an 3 Tagen wiedergekommen"),
        ("nl", "op de laatste dag", "op 3 na laatste", "op 3 dagen teruggekomen"),
        ("sv", "den senaste dagen", "4:e senaste", "återkom vid 3 tillfällen"),
    ],
)
def test_counted_words_read_well(locale, day, fourth, back) -> None:
    phrases = Phrases(locale)
    assert phrases.say("window_days", 1) == day
    assert phrases.say("nth_n", index=4, before=3) == fourth
    assert phrases.say("repeat_count", 3) == back


def test_the_users_words_come_from_the_config() -> None:
    names = {"download": ("Download", "Downloads"), "source": "Quelle", "trade fair": "Messe"}
    assert tell("count_7d__kind_download", 1.0, "de", names=names) == "1 Download in den letzten 7 Tagen"
    assert tell("count_7d__kind_download", 3.0, "de", names=names) == "3 Downloads in den letzten 7 Tagen"
    assert tell("attribute_source", "trade fair", "de", names=names) == "Quelle: Messe"
    assert len(shorten(tell("attribute_source", "x" * 300))) < 60


GERMAN = FeatureSet.declare(
    (
        CountFeature(windows=(Duration("7d"),), by="kind"),
        CountFeature(windows=(Duration("7d"),), by="Ergebnis"),
        AttributeFeature(attribute="Herkunft"),
        AttributeFeature(attribute="Letzte_Kampagne"),
        AttributeFeature(attribute="Umsatz_EUR"),
        AttributeFeature(attribute="URL"),
        AggregateFeature(attribute="Gespraech_seconds", functions=("sum",), windows=(Duration("7d"),)),
        RateFeature(keys=("Herkunft",), within=Duration("30d")),
    ),
    Vocabularies(
        {
            ("interactions", "kind"): ("Anruf", "Page_View"),
            ("interactions", "Ergebnis"): ("Nicht_Erreicht",),
            ("leads", "Herkunft"): ("Messe",),
            ("leads", "Letzte_Kampagne"): ("Tag_der_Technik", "A_SUBMITTED"),
            ("leads", "URL"): ("/Start",),
        },
        {
            ("interactions", "kind"): "category",
            ("interactions", "Ergebnis"): "category",
            ("interactions", "Gespraech_seconds"): "number",
            ("leads", "Herkunft"): "category",
            ("leads", "Letzte_Kampagne"): "category",
            ("leads", "URL"): "category",
            ("leads", "Umsatz_EUR"): "number",
        },
    ),
)


@pytest.mark.parametrize(
    ("name", "value", "locale", "expected"),
    [
        ("count_7d__kind_anruf", 2.0, "de", "2 × „Anruf“ in den letzten 7 Tagen"),
        ("count_7d__kind_anruf", 2.0, "nl", "2 × ‘Anruf’ in de laatste 7 dagen"),
        ("count_7d__kind_anruf", 2.0, "sv", "2 × ”Anruf” de senaste 7 dagarna"),
        ("count_7d__kind_anruf", 1.0, "en", "1 Anruf in the last 7 days"),
        ("count_7d__kind_page_view", 2.0, "en", "2 Page Views in the last 7 days"),
        ("count_7d__kind_page_view", 2.0, "de", "2 × „Page View“ in den letzten 7 Tagen"),
        ("attribute_herkunft", "Messe", "de", "Herkunft: Messe"),
        ("attribute_herkunft", None, "nl", "Herkunft: onbekend"),
        ("attribute_letzte_kampagne", "Tag_der_Technik", "sv", "Letzte Kampagne: Tag der Technik"),
        ("attribute_letzte_kampagne", "A_SUBMITTED", "en", "Letzte Kampagne: A_SUBMITTED"),
        ("attribute_url", "/Start", "en", "URL: /Start"),
        ("attribute_umsatz_eur", 1500.0, "de", "Umsatz (EUR): 1.500"),
        ("sum_gespraech_seconds_7d", 60.0, "en", "Gespraech in the last 7 days: total 1 min"),
    ],
)
def test_the_users_own_spelling_stays(name, value, locale, expected) -> None:
    column = next(column for column in GERMAN.columns if column.name == name)
    assert fact_of(Fact(column, value, True, Row(), Phrases(locale))) == expected


@pytest.mark.parametrize("locale", LOCALES)
def test_spelling_stays_in_groups_and_values_of_interactions(locale) -> None:
    columns = {column.name: column for column in GERMAN.columns}
    row = Row(average={30 * DAY: 0.02}, attributes={"Herkunft": "Messe"})
    told = fact_of(Fact(columns["rate_herkunft"], 0.06, True, row, Phrases(locale)))
    assert "Herkunft" in told
    assert fact_of(Fact(columns["rate_herkunft"], 0.06, False, row, Phrases(locale))) == "Herkunft: Messe"
    told = fact_of(Fact(columns["count_7d__ergebnis_nicht_erreicht"], 2.0, True, Row(), Phrases(locale)))
    assert "Ergebnis" in told
    assert "Nicht Erreicht" in told


def feature_table(n_rows, seed=0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            column.name: rng.poisson(1.5, n_rows).astype(np.float32)
            if column.type == "number"
            else pd.Categorical(rng.choice(column.categories, n_rows), categories=column.categories)
            for column in SET.columns
        }
    )
    frame["rate_campaign"] = rng.uniform(0.0, 0.1, n_rows).astype(np.float32)
    frame["recency"] = np.where(rng.random(n_rows) < 0.2, np.nan, rng.exponential(9, n_rows)).astype(
        np.float32
    )
    score = 1.2 * frame["count_7d__kind_download"] - 0.1 * frame["recency"].fillna(40.0) - 1.5
    return frame, (rng.random(n_rows) < expit(score)).to_numpy().astype(int)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    X, y = feature_table(1500)
    model = ConversionModel(seeds=2, n_estimators=40, num_leaves=7, logistic_weight=0.3).fit(X, y)
    return Bundle("test", model, SET, Duration("30d"))


def test_explained_leads_agree_with_the_contributions(bundle) -> None:
    X, _ = feature_table(200, seed=1)
    table = explain_leads(bundle, X, top=2).to_pylist()
    parts = Explainer(bundle).contributions(X)
    sums = parts.grouped([column.concept for column in SET.columns])
    for row, told in enumerate(table):
        total = dict(zip(sums.names, sums.values[row], strict=True))
        positive = [c for c in sorted(total, key=lambda c: -total[c]) if total[c] >= SMALLEST][:2]
        negative = [c for c in sorted(total, key=lambda c: total[c]) if total[c] <= -SMALLEST][:2]
        entries = told["reason_contributions"]
        assert [entry["concept"] for entry in entries] == positive + negative
        assert [entry["contribution"] for entry in entries] == [total[c] for c in positive + negative]
        assert (len(told["reasons_for"]), len(told["reasons_against"])) == (len(positive), len(negative))


def test_what_is_told_of_a_lead_does_not_depend_on_the_others(bundle) -> None:
    X, _ = feature_table(150, seed=2)
    X["cutoff"] = pd.Timestamp("2025-03-01", tz="UTC")
    together = explain_leads(bundle, X, locale="de")
    explainer = Explainer(bundle)
    alone = explain_leads(explainer, X.iloc[70:71], columns=SET.model_columns, locale="de", n_jobs=1)
    assert alone.to_pylist() == together.slice(70, 1).to_pylist()
    assert explain_leads(bundle, X.iloc[:0]).num_rows == 0


def test_importance_names_what_the_data_was_made_of(bundle) -> None:
    X, _ = feature_table(800, seed=3)
    table = concept_importance(bundle, X).set_index("concept")
    assert set(table.index[:2]) == {"download", "activity"}
    assert table.loc["download", ["column", "direction"]].tolist() == [
        "count_7d__kind_download",
        "higher is likelier",
    ]
    assert table.loc["activity", ["column", "direction"]].tolist() == ["recency", "higher is less likely"]
    assert table.loc["source", "direction"] == "by value"
    assert table["share"].sum() == pytest.approx(1.0)
    assert table["importance"].is_monotonic_decreasing


def test_equal_contributions_are_told_in_the_order_of_the_features(bundle, monkeypatch) -> None:
    X, _ = feature_table(3, seed=4)
    explainer = Explainer(bundle)
    values = np.full((3, len(explainer.names)), 0.1)
    monkeypatch.setattr(
        explainer, "contributions", lambda features, n_jobs=None: Contributions(-2.0, explainer.names, values)
    )
    table = explain_leads(explainer, X, columns=SET.model_columns, top=20).to_pylist()
    sizes = pd.Series([column.concept for column in SET.columns]).value_counts(sort=False)
    order = sizes.sort_values(ascending=False, kind="stable").index.tolist()
    assert [entry["concept"] for entry in table[0]["reason_contributions"]] == order
