"""Feature sets: fitting, exclusion, what a scorecard adds, writing and reading, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.features import (
    AgeFeature,
    AggregateFeature,
    AttributeFeature,
    CountFeature,
    DistinctFeature,
    Feature,
    FeaturesConfig,
    LastKindsFeature,
    LoadFeature,
    RateFeature,
    RecencyFeature,
    TopicFeature,
)
from convpredict.errors import BundleError, ConfigError
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import History
from factories import day, make_history, random_history

WEEK, MONTH = Duration("7d"), Duration("30d")


@pytest.fixture(scope="module")
def history() -> History:
    return random_history(np.random.default_rng(0), leads=120, days=120, interactions_per_lead=8)


def fit(
    history: History, *declared: Feature, default: bool = False, extra: Any = (), **more: Any
) -> FeatureSet:
    config = FeaturesConfig(default=default, declare=declared, **more)
    return FeatureSet.fit(history, config, until=day(90), horizon=MONTH, extra=extra)


def test_the_default_and_declared_features_make_one_set(history: History) -> None:
    alone = fit(history, default=True)
    more = fit(history, CountFeature(windows=(WEEK, Duration("3d"))), default=True)
    assert set(more.names) - set(alone.names) == {"count_3d"}
    assert len(more) == len(alone) + 1 == len(more.columns) == len(more.model_columns)


def test_excluded_columns_are_gone(history: History) -> None:
    full = fit(history, default=True)
    smaller = fit(history, default=True, exclude=("share_*", "recency", "*__kind_other"))
    gone = set(full.names) - set(smaller.names)
    assert {"recency", "share_hour_0", "share_weekday_6", "count_7d__kind_other"} < gone
    assert "recency__kind_call" in smaller.names
    assert [name for name in full.names if name not in gone] == list(smaller.names)


def test_an_exclusion_that_matches_nothing_names_what_is_close(history: History) -> None:
    with pytest.raises(ConfigError, match=r"'recencyy', which matches no column.*did you mean 'recency'"):
        fit(history, default=True, exclude=("recencyy",))


def test_a_set_without_columns_is_an_error(history: History) -> None:
    with pytest.raises(
        ConfigError, match=r"no columns, so there is nothing to learn from; set features.default"
    ):
        fit(history)
    with pytest.raises(ConfigError, match="no columns"):
        fit(history, AgeFeature(), exclude=("*",))


def test_what_only_the_scorecard_needs_is_built_but_kept_from_the_model(history: History) -> None:
    needed = [
        CountFeature(windows=(WEEK, Duration("14d")), by="kind", values=("call", "fax")),
        RecencyFeature(),
        AttributeFeature(attribute="source", values=("rare", "unheard of")),
    ]
    fitted = fit(history, RecencyFeature(), CountFeature(windows=(WEEK,), by="kind"), extra=needed)
    assert fitted.model_names[:3] == ("recency", "count_7d__kind_call", "count_7d__kind_mail")
    assert fitted.scorecard_only == {"count_14d__kind_call", "count_14d__kind_fax", "attribute_source"}
    assert set(fitted.names) == set(fitted.model_names) | fitted.scorecard_only
    assert "count_7d__kind_fax" in fitted.model_names, "a named value has a place in the vocabulary"
    found = fitted.columns_for(needed[0])
    assert [(column.name, column.value) for column in found] == [
        ("count_7d__kind_call", "call"),
        ("count_7d__kind_fax", "fax"),
        ("count_14d__kind_call", "call"),
        ("count_14d__kind_fax", "fax"),
    ]
    assert {"rare", "unheard of"} < set(fitted.columns_for(needed[2])[0].categories)
    assert FeatureSet.from_json(fitted.to_json()) == fitted


def test_an_excluded_column_that_the_scorecard_needs_stays_for_the_scorecard(history: History) -> None:
    fitted = fit(history, RecencyFeature(), AgeFeature(), exclude=("recency",), extra=[RecencyFeature()])
    assert (fitted.names, fitted.model_names) == (("recency", "age"), ("age",))


def test_only_what_is_needed_is_read_and_kept(history: History) -> None:
    fitted = fit(
        history,
        AggregateFeature(attribute="minutes", windows=("all",), by="kind"),
        DistinctFeature(of="outcome", windows=("all",)),
        RateFeature(keys=("source",), within=MONTH),
        LoadFeature(key="source", windows=("all",)),
    )
    assert fitted.interaction_attributes_needed == ("minutes", "outcome")
    assert list(fitted.vocabularies) == [("interactions", "kind")], "distinct values and rates use raw values"
    assert fit(history, TopicFeature(of="kind")).interaction_attributes_needed == ()


def test_a_declaration_that_does_not_fit_is_an_error_before_anything_is_learnt(history: History) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'outcome'\?"):
        fit(history, TopicFeature(of="outcom"))
    with pytest.raises(ConfigError, match="'renewal'"):
        fit(history, RecencyFeature(), extra=[AttributeFeature(attribute="renewals")])


def test_labels_and_columns_are_found_by_name(history: History) -> None:
    fitted = fit(history, CountFeature(windows=(WEEK,), by="kind"))
    assert fitted.label("count_7d__kind_call") == "calls in the last 7 days"
    assert fitted.column("count_7d__kind_call").value == "call"
    with pytest.raises(
        ConfigError, match=r"no column 'count_7d__kind_cal'; did you mean 'count_7d__kind_call'"
    ):
        fitted.label("count_7d__kind_cal")


def test_writing_and_reading_gives_the_same_set_and_the_same_bytes(history: History) -> None:
    fitted = fit(history, default=True, exclude=("gap_*",))
    text = fitted.to_json()
    again = FeatureSet.from_json(text)
    assert again == fitted
    assert hash(again) == hash(fitted)
    assert (again.to_json(), again.digest, again.columns) == (text, fitted.digest, fitted.columns)
    assert fit(history, default=True, exclude=("gap_*",)).to_json() == text
    assert fit(history, default=True).digest != fitted.digest
    assert len(fitted.digest) == 64
    assert json.loads(text)["format"] == 1


def test_column_numbers_survive_the_exclusion_of_their_namesakes() -> None:
    kinds = [("a", day(1), kind) for kind in ("Page View", "Page View", "page-view")]
    fitted = fit(
        make_history([("a", day(0))], kinds), RecencyFeature(by="kind"), min_count=1, exclude=("*_view",)
    )
    assert fitted.names == ("recency__kind_page_view_2", "recency__kind_other")
    assert FeatureSet.from_json(fitted.to_json()).column("recency__kind_page_view_2").value == "page-view"


def test_a_notebook_shows_a_table_and_a_terminal_shows_lines() -> None:
    history = make_history([("a", day(0))], [("a", day(1), "<b>&")])
    fitted = fit(history, RecencyFeature(by="kind"), min_count=1)
    html = fitted._repr_html_()
    assert html.count("<tr>") == 1 + len(fitted)
    assert "&#x27;&lt;b&gt;&amp;&#x27; interaction" in html
    assert "<b>" not in html
    assert repr(fitted).splitlines()[0] == "FeatureSet with 2 columns (2 for the model)"
    assert "recency__kind_b      days since the last '<b>&' interaction" in repr(fitted)


def damaged(history: History, **changes: Any) -> str:
    document = json.loads(fit(history, RecencyFeature(by="kind"), AgeFeature()).to_json())
    document.update(changes)
    return json.dumps({key: value for key, value in document.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 2},
            r"has format 2, and this version of convpredict reads 1; use the version that wrote it",
        ),
        ({"format": None}, r"has format None"),
        ({"weights": []}, r"something at 'weights' that this version does not understand"),
        ({"declarations": [{"family": "spline"}]}, r"something at 'declarations.0'"),
        ({"declarations": [{"family": "age", "of": "creation", "by": None, "knots": 3}]}, r"knots"),
        (
            {"columns": ["age", "recency__kind_fax"]},
            r"do not follow from its declarations.*recency__kind_fax",
        ),
        ({"columns": ["age", "age"]}, r"contradicts itself"),
        ({"scorecard_only": ["recency"]}, r"contradicts itself"),
        ({"vocabularies": {"interactions": {}, "leads": {}}}, r"do not follow from its declarations"),
        (
            {"types": {"interactions": {"kind": "colour"}, "leads": {}}},
            r"something at 'types.interactions.kind'",
        ),
    ],
)
def test_what_is_not_understood_is_refused(history: History, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        FeatureSet.from_json(damaged(history, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_what_is_no_feature_set_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match=r"not JSON|has format None"):
        FeatureSet.from_json(text)


windows = st.sampled_from([WEEK, MONTH, Duration("36h"), "all"])
declarations = st.lists(
    st.one_of(
        st.builds(
            CountFeature,
            windows=st.lists(windows, min_size=1, max_size=3).map(tuple),
            by=st.sampled_from([None, "kind", "outcome"]),
        ),
        st.builds(RecencyFeature, by=st.sampled_from([None, "kind"])),
        st.builds(LastKindsFeature, of=st.sampled_from(["kind", "outcome"]), k=st.integers(1, 3)),
        st.builds(AttributeFeature, attribute=st.sampled_from(["source", "budget", "renewal"])),
        st.builds(RateFeature, keys=st.just(("source",)), within=st.sampled_from([WEEK, MONTH])),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(declared=declarations, extra=declarations)
def test_any_set_parses_back(history: History, declared: list[Feature], extra: list[Feature]) -> None:
    fitted = fit(history, *declared, extra=extra)
    again = FeatureSet.from_json(fitted.to_json())
    assert again == fitted
    assert again.columns == fitted.columns
    assert len(set(fitted.names)) == len(fitted)
    for declaration in (*declared, *extra):
        assert fitted.columns_for(declaration)
    assert fitted.model_columns == fit(history, *declared, extra=extra).model_columns
