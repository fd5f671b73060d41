"""The scorecard: points by hand, replayed point-in-time, readable YAML, errors that name the next step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from convpredict.config.base import Duration
from convpredict.config.features import CountFeature, FeaturesConfig
from convpredict.config.training import ScorecardConfig
from convpredict.errors import ConfigError, NotEnoughDataError
from convpredict.features.build import build_features
from convpredict.features.feature_set import FeatureSet
from convpredict.history.history import TIMESTAMP
from convpredict.models.scorecard import Scorecard
from convpredict.workflows.data import check_data
from factories import day, make_history

CARD = """
name: points of the marketing department
half_life: 10d
rules:
  - {kind: call, points: 8}
  - {kind: mail, points: 1, within: 7d, at_most: 2}
  - {kind: unsubscribe, points: -20, within: 30d}
  - {attribute: source, points: 10, values: [fair, partner]}
  - {attribute: employees, points: 5, at_least: 50, below: 500}
  - {days_since: creation, points: 4, below: 14}
  - {days_since: last_interaction, points: -6, at_least: 21}
thresholds: {hot: 20, warm: 5}
"""


@parametrize_with_checks([Scorecard()])
def test_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def history():
    leads = [
        (1, day(0), None, {"source": "fair", "employees": 50.0}),
        (2, day(30), None, {"source": "ads", "employees": 500.0}),
        (3, day(0), None, {"source": None, "employees": None}),
    ]
    interactions = [
        (1, day(30), "call"),
        (1, day(20), "call"),
        (1, day(39), "mail"),
        (1, day(38), "mail"),
        (1, day(37), "mail"),
        (1, day(40), "call"),
        (1, day(31), "call", day(41)),
        (2, day(35), "unsubscribe"),
    ]
    return make_history(leads, interactions, known_until=day(100))


def replay(card, history, *, at=40):
    config = FeaturesConfig(max_values=1, min_count=3)
    feature_set = FeatureSet.fit(
        history, config, until=day(at), horizon=Duration("30d"), extra=card.declarations()
    )
    bound = card.bind(feature_set)
    observations = pa.table(
        {
            "lead_row": pa.array([0, 1, 2], pa.int32()),
            "lead_id": history.leads["lead_id"].combine_chunks(),
            "cutoff": pa.array([day(at)] * 3, TIMESTAMP),
        }
    )
    return bound, build_features(history, observations, feature_set).to_pandas()


def test_points_by_hand(history):
    """Rare kinds and values count, what is not visible at the cutoff does not.

    Lead 1 at day 40: calls 10 and 20 days ago, 8 / 2 + 8 / 4 = 6 (the call at the cutoff and the one recorded
    later are not visible); three mails, at most 2; fair 10; 50 employees 5; created 40 days ago 0; last
    interaction a day ago 0. Lead 2: unsubscribed -20; ads 0; 500 employees 0; created 10 days ago 4; 5 days
    silent 0. Lead 3: nothing known 0; never active counts as long silent -6.
    """
    card, X = replay(Scorecard.from_yaml(CARD), history)
    by_rule = card.points_by_rule(X).to_numpy()
    expected = [[6, 2, 0, 10, 5, 0, 0], [0, 0, -20, 0, 0, 4, 0], [0, 0, 0, 0, 0, 0, -6]]
    np.testing.assert_allclose(by_rule, expected, atol=1e-6)
    np.testing.assert_allclose(card.points(X), [23, -16, -6], atol=1e-6)
    assert card.grade(card.points(X)).tolist() == ["hot", "none", "none"]


def test_without_half_life_and_window_everything_counts(history):
    card = Scorecard.from_yaml(
        "rules: [{kind: call, points: 2}, {points: 1}, {kind: mail, points: -3, at_most: 4}]"
    )
    bound, X = replay(card, history)
    np.testing.assert_allclose(bound.points_by_rule(X).iloc[0], [4, 5, -4])


def test_grades_begin_at_their_threshold():
    card = Scorecard.from_yaml(CARD)
    assert card.grade([4.99, 5, 19.99, 20, np.nan]).tolist() == ["none", "warm", "warm", "hot", "none"]


def test_yaml_goes_there_and_back():
    card = Scorecard.from_yaml(CARD)
    assert Scorecard.from_yaml(card.to_yaml()).config == card.config
    assert "  - {kind: mail, points: 1, within: 7d, at_most: 2}\n" in card.to_yaml()


def test_yaml_is_read_from_a_file(tmp_path):
    (tmp_path / "card.yaml").write_text(CARD, encoding="utf-8")
    assert Scorecard.from_yaml(tmp_path / "card.yaml").config == Scorecard.from_yaml(CARD).config


kinds = st.text(min_size=1, max_size=12)
numbers = st.floats(-1e6, 1e6)
rules = st.one_of(
    st.builds(lambda kind, points: {"kind": kind, "points": points}, kinds, numbers),
    st.builds(
        lambda a, v, p: {"attribute": a, "values": v, "points": p},
        kinds,
        st.lists(kinds, min_size=1),
        numbers,
    ),
    st.builds(lambda p, b: {"days_since": "creation", "points": p, "below": b}, numbers, numbers),
)


@given(
    rules=st.lists(rules, min_size=1, max_size=4),
    name=kinds,
    grades=st.dictionaries(kinds, st.integers(), max_size=3),
)
def test_any_card_survives_yaml(rules, name, grades):
    if len(set(grades.values())) < len(grades):
        grades = {}
    card = Scorecard(ScorecardConfig(name=name, rules=rules, thresholds=grades))
    assert Scorecard.from_yaml(card.to_yaml()).config == card.config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: []", "rules"),
        ("rules: [{kind: call}]", "points"),
        ("rules: [{kind: call, points: 5, hal_life: 3d}]", "hal_life"),
        ("rules: [{kind: call, points: .nan}]", "finite"),
        ("rules: [{kind: call, points: 1, at_most: -3}]", "greater than 0"),
        ("rules: [{attribute: a, points: 1}]", "values"),
        ("rules: [{attribute: a, points: 1, values: [x], below: 3}]", "not both"),
        ("rules: [{days_since: creation, points: 1}]", "in days"),
        ("rules: [{days_since: creation, points: 1, at_least: 5, below: 5}]", "never applies"),
        ("rules: [{days_since: creation, kind: call, points: 1, below: 5}]", "created once"),
        ("rules: [{kind: call, points: 1}]\nthresholds: {a: 1, b: 1}", "never be given"),
        ("- 1", "mapping"),
        ("rules: [{kind: call, points: 1}", "YAML"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Scorecard.from_yaml(text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{attribute: employees, points: 1, values: [x]}", "is a number"),
        ("{attribute: source, points: 1, below: 3}", "is a category"),
        ("{attribute: city, points: 1, values: [x]}", "city"),
    ],
)
def test_a_rule_that_the_history_cannot_answer_is_an_error(history, rule, message):
    with pytest.raises(ConfigError, match=message):
        replay(Scorecard.from_yaml(f"rules: [{rule}]"), history)


def test_a_rule_without_column_says_what_to_do(history):
    declared = FeaturesConfig(default=False, declare=(CountFeature(windows=("all",)),))
    feature_set = FeatureSet.fit(history, declared, until=day(40), horizon=Duration("30d"))
    with pytest.raises(ConfigError, match=r"extra=scorecard\.declarations"):
        Scorecard.from_yaml("rules: [{points: 1, within: 7d}]").bind(feature_set)


def test_misspelt_words_are_warned_of(history):
    card = Scorecard.from_yaml(
        "rules: [{kind: cal, points: 1}, {kind: call, points: 1}, {attribute: source, points: 1, values: [fairs]}]"
    )
    warnings = card.warnings(history)
    assert len(warnings) == 2
    assert "did you mean 'call'" in warnings[0]
    assert "did you mean 'fair'" in warnings[1]


def test_points_become_a_probability_that_rises_with_them():
    rng = np.random.default_rng(0)
    points = rng.normal(10, 8, 5_000)
    true = 1 / (1 + np.exp(-(points - 25) / 8))
    y = rng.random(5_000) < true
    card = Scorecard().fit(points[:, None], y)
    p = card.predict_proba(points[:, None])[:, 1]
    assert p.mean() == pytest.approx(y.mean(), rel=0.02)
    assert np.abs(p - true).mean() < 0.02
    assert np.all(np.diff(card.probability([-20, 0, 20, 40])) > 0)
    with pytest.raises(NotEnoughDataError, match="one class"):
        Scorecard().fit(points[:, None], np.zeros(5_000))


def test_fitting_reads_its_own_columns_only(history):
    card, X = replay(Scorecard.from_yaml(CARD), history)
    fitted = clone(card).fit(X, [1, 0, 0])
    narrow = X[[*fitted.feature_names_in_]]
    assert np.array_equal(fitted.predict_proba(X), fitted.predict_proba(narrow))
    with pytest.raises(ValueError, match="build it with the feature set"):
        fitted.predict_proba(narrow.iloc[:, 1:])
    with pytest.raises(ValueError, match="DataFrame"):
        fitted.points(narrow.to_numpy())


def test_an_unbound_card_says_so():
    with pytest.raises(ConfigError, match="bind"):
        Scorecard.from_yaml(CARD).points(pd.DataFrame({"a": [1]}))
    with pytest.raises(ConfigError, match="no rules"):
        Scorecard().declarations()


def test_check_tells_of_a_rule_for_a_kind_that_does_not_exist(tmp_path) -> None:
    (tmp_path / "l.csv").write_text("lead_id,created_at\na,2024-01-01\n")
    (tmp_path / "e.csv").write_text("lead_id,occurred_at,kind\na,2024-01-02,download\n")
    config = tmp_path / "card.yaml"
    config.write_text(
        "name: card\ndata: .\nsources: {l: {file: l.csv}, e: {file: e.csv}}\n"
        "history: {timezone: UTC, leads: {source: l}, interactions: {source: e}, known_until: '2024-06-01'}\n"
        "observations: {cutoffs: {every: 7d}}\n"
        "scorecard: {rules: [{kind: downlod, points: 5}, {kind: download, points: 5}]}\n"
    )
    told = [text for text in check_data(config, quarantine=tmp_path / "q").warnings if "downlod" in text]
    assert len(told) == 1
    assert "download" in told[0]
