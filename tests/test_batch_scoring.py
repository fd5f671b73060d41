"""Scores of batches: equal to the bundle's own to the bit, whoever else is in the batch; and the hash of the inputs."""

from __future__ import annotations

import dataclasses
import io
import struct
from datetime import timedelta
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.config.base import Duration
from convpredict.config.load import parse_project
from convpredict.config.reasons import ReasonsConfig
from convpredict.errors import BundleError, DataError
from convpredict.features.batches import iterate_features
from convpredict.history.history import History
from convpredict.models.batch_scoring import BatchScorer, ScoredBatch, assemble, encode_batch, hash_rows
from convpredict.models.bundle import Bundle
from convpredict.models.conversion import ConversionModel
from convpredict.models.encoding import Encoder
from convpredict.models.fitting import fit_conversion_model, fit_scorecard, make_bundle
from convpredict.models.horizons import fit_further_horizons
from convpredict.models.profile_learning import learn_profile
from convpredict.models.scorecard import Scorecard
from convpredict.models.value import ValueModel
from convpredict.models.value_fitting import fit_value_model
from convpredict.scoring.lead_reasons import explain_observations, explained_rows
from convpredict.scoring.scores import iterate_scored, score_open_leads, scores_table
from convpredict.training.observations import open_observations
from convpredict.training.training_set import build_training_set
from factories import random_history
from test_bundle import CARD, feature_set, features

ROWS = 300
FAMILIES = ("mean", "lognormal", "gamma", "tweedie", "zero_inflated_lognormal")


@cache
def made(family: str | None, *, with_profile: bool = True) -> Bundle:
    """A bundle with three horizons and a scorecard; its value model is of the family (None: it has none)."""
    X, y = features(600)
    models = []
    for seed, weight in ((0, 0.3), (1, 0.0), (2, 0.5)):
        later = features(600, seed=seed + 1)
        model = ConversionModel(
            seeds=2,
            n_estimators=12,
            num_leaves=4,
            logistic_weight=weight,
            calibrators=("isotonic", "beta"),
            random_state=seed,
            n_jobs=1,
        )
        models.append(model.fit(X, y, calibration=(*later, None)))
    value = None
    if family is not None:
        rng = np.random.default_rng(4)
        amount = np.exp(rng.normal(5 + X["count_7d__kind_call"] / 4, 0.6)) * (rng.random(len(X)) < 0.8)
        value = ValueModel(family=family, segments=("attribute_source",) if family == "mean" else None).fit(
            X, amount
        )
    card = Scorecard.from_yaml(CARD).bind(feature_set()).fit(X, y)
    first = models[0]
    profile = learn_profile(first.encoder_.columns, first.encoder_.encode(X), first.predict_proba(X)[:, 1])
    return Bundle(
        "demo",
        first,
        feature_set(),
        Duration("30d"),
        card,
        further={Duration("7d"): models[1], Duration("90d"): models[2]},
        value=value,
        profile=profile if with_profile else None,
    )


def as_batch(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Rows with missing numbers and categories, other values than the model was fitted on."""
    X, _ = features(ROWS, seed=9)
    X.loc[::7, "attribute_source"] = np.nan
    return X


def same_bits(left: ScoredBatch, right: ScoredBatch) -> None:
    for entry in dataclasses.fields(ScoredBatch):
        one, other = getattr(left, entry.name), getattr(right, entry.name)
        if entry.name == "probabilities":
            assert list(one) == list(other)
            assert [p.tobytes() for p in one.values()] == [p.tobytes() for p in other.values()]
        elif entry.name == "counts":
            assert (one and one.to_dict()) == (other and other.to_dict())
        elif entry.name == "grades":
            assert (None if one is None else one.tolist()) == (None if other is None else other.tolist())
        else:
            assert (one is None) == (other is None)
            assert one is None or (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_a_batch_has_the_bundles_own_numbers_to_the_bit(family: str | None, frame: pd.DataFrame) -> None:
    bundle = made(family)
    scored = BatchScorer(bundle).score(as_batch(frame))
    wanted = bundle.predict_horizons(frame)
    assert list(scored.probabilities) == list(wanted) == list(bundle.horizons)
    for horizon, p in wanted.items():
        assert scored.probabilities[horizon].tobytes() == p.tobytes()
    first = bundle.predict(frame)
    assert scored.probabilities[bundle.horizon].tobytes() == first.tobytes()
    if family is None:
        assert scored.value is scored.value_low is scored.value_high is None
    else:
        values = (scored.value, scored.value_low, scored.value_high)
        for mine, theirs in zip(values, bundle.predict_value(frame), strict=True):
            assert mine is not None
            assert mine.tobytes() == theirs.tobytes()
        assert len(np.unique(values[0])) > 2
    assert bundle.scorecard is not None
    assert scored.points.tobytes() == bundle.scorecard.points(frame).tobytes()
    assert scored.grades.tolist() == bundle.scorecard.grade(scored.points).tolist()
    assert scored.score.tobytes() == bundle.profile.score(first).tobytes()
    encoded = bundle.model.encoder_.encode(frame)
    assert scored.counts.to_dict() == bundle.profile.count(encoded, first).to_dict()
    assert scored.rows == ROWS


@settings(max_examples=25, deadline=None)
@given(
    st.sets(st.integers(1, ROWS - 1), max_size=6),
    st.sampled_from(["lognormal", "zero_inflated_lognormal", None]),
)
def test_rows_do_not_depend_on_the_rows_around_them(
    frame: pd.DataFrame, cuts: set[int], family: str | None
) -> None:
    bundle, batch = made(family), as_batch(frame)
    whole = BatchScorer(bundle).score(batch)
    ends = [*sorted(cuts), ROWS]
    parts = [batch.slice(begin, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]
    same_bits(assemble([BatchScorer(bundle).score(part) for part in parts], bundle), whole)
    turned = pa.RecordBatch.from_pandas(frame.iloc[::-1], preserve_index=False)
    again = BatchScorer(bundle).score(turned)
    assert again.features_hash[::-1].tolist() == whole.features_hash.tolist()
    assert (
        again.probabilities[bundle.horizon][::-1].tobytes() == whole.probabilities[bundle.horizon].tobytes()
    )


@pytest.mark.parametrize("with_profile", [True, False])
def test_pieces_go_through_a_file_and_an_empty_list_is_one(frame: pd.DataFrame, with_profile: bool) -> None:
    bundle = made("lognormal", with_profile=with_profile)
    scored = BatchScorer(bundle).score(as_batch(frame))
    file = io.BytesIO()
    pq.write_table(scored.to_table(), file)
    same_bits(ScoredBatch.from_table(pq.read_table(file), bundle, scored.counts), scored)
    empty = assemble([], bundle)
    same_bits(assemble([empty, scored, empty], bundle), scored)
    assert empty.rows == 0
    assert ("score" in scored.to_table().column_names) == with_profile
    with pytest.raises(BundleError, match="were not scored by the bundle 'demo'"):
        ScoredBatch.from_table(scored.to_table(), made(None, with_profile=with_profile))


def hashed_by_hand(row: list[float]) -> int:
    """From the page alone, in Python's whole numbers."""
    h = 0x9E3779B97F4A7C15
    for value in row:
        bits = struct.unpack("<I", struct.pack("<f", 0.0 if value == 0 else value))[0]
        if value != value:
            bits = 0x7FC00000
        h = ((h ^ bits) * 0xBF58476D1CE4E5B9) % 2**64
        h ^= h >> 32
    return h


def numbers(n: int) -> Encoder:
    """An encoder of columns of numbers."""
    return Encoder.learn(np.zeros((1, n)))


finite = st.one_of(
    st.floats(width=32, allow_infinity=False), st.sampled_from([0.0, -0.0, float("nan"), 1e-45])
)


@given(st.lists(st.lists(finite, min_size=4, max_size=4), min_size=1, max_size=8))
def test_the_hash_is_the_documented_one(rows: list[list[float]]) -> None:
    encoder = numbers(4)
    matrix = np.asfortranarray(np.array(rows, np.float32))
    assert hash_rows(matrix, encoder).tolist() == [hashed_by_hand(row) for row in rows]


@given(st.lists(finite, min_size=4, max_size=4), st.integers(0, 3), finite)
def test_a_change_in_any_one_input_changes_the_hash(row: list[float], place: int, other: float) -> None:
    encoder = numbers(4)
    changed = [*row[:place], other, *row[place + 1 :]]
    one, two = hash_rows(np.array([row, changed], np.float32), encoder).tolist()
    before, after = np.float32(row[place]), np.float32(other)
    assert (one == two) == bool(before == after or (np.isnan(before) and np.isnan(after)))


def test_every_nan_and_both_zeros_are_one_and_the_order_of_columns_matters() -> None:
    payloads = np.array([0x7FC00000, 0x7F800001, 0xFFC00001, 0xFFFFFFFF], np.uint32).view(np.float32)
    encoder = numbers(1)
    assert len(set(hash_rows(payloads[:, None], encoder).tolist())) == 1
    assert len(set(hash_rows(np.array([[0.0], [-0.0]], np.float32), encoder).tolist())) == 1
    pair = hash_rows(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), numbers(2))
    assert pair[0] != pair[1]


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_input_is_refused_by_name(frame: pd.DataFrame, infinite: float) -> None:
    broken = frame.copy()
    broken.loc[3, "recency"] = infinite
    with pytest.raises(DataError, match="recency holds an infinite number"):
        BatchScorer(made(None)).score(as_batch(broken))


def test_a_batch_of_other_columns_or_categories_is_refused(frame: pd.DataFrame) -> None:
    scorer = BatchScorer(made(None))
    with pytest.raises(BundleError, match="lacks recency"):
        scorer.score(as_batch(frame.drop(columns="recency")))
    other = frame.assign(attribute_source=frame["attribute_source"].cat.rename_categories({"ads": "advert"}))
    with pytest.raises(BundleError, match="categories of attribute_source"):
        scorer.score(as_batch(other))


@pytest.fixture(scope="module")
def history() -> History:
    return random_history(np.random.default_rng(3), leads=260, days=110, conversion_share=0.7)


@pytest.fixture(scope="module")
def trained(history: History) -> Bundle:
    """Everything a configuration can ask for, from one training set."""
    content = {
        "name": "tests",
        "sources": {"nothing": {"file": "nothing.csv"}},
        "history": {"leads": {"source": "nothing"}},
        "observations": {"cutoffs": {"every": "4d"}, "max_age": "60d"},
        "labels": {"horizons": ["10d", "20d"], "value_horizon": "15d"},
        "features": {"min_count": 2},
        "model": {"n_estimators": 8, "num_leaves": 4, "logistic_weight": 0.3, "seeds": 2},
        "value": {"family": "lognormal"},
        "scorecard": {
            "rules": [{"kind": "call", "points": 5}, {"attribute": "source", "values": ["ads"], "points": 3}]
        },
    }
    project = parse_project(content)
    card = Scorecard(project.config.scorecard)
    training_set = build_training_set(history, project, extra_features=card.declarations())
    model = fit_conversion_model(training_set, project.config.model, n_jobs=1)
    return make_bundle(
        training_set,
        model,
        fit_scorecard(training_set, card),
        fit_further_horizons(training_set, project.config.model, model, n_jobs=1),
        fit_value_model(training_set, project.config.value, project.config.labels, history=history),
    )


ALL = ReasonsConfig(leads="all", top=5)


def test_the_list_is_that_of_the_data_frames(history: History, trained: Bundle) -> None:
    scores = score_open_leads(history, trained, bucket_events=100)
    observed = open_observations(history, history.known_until)
    batches = iterate_features(history, observed.table, trained.feature_set)
    frame = pd.concat([batch.to_pandas() for batch in batches]).set_index("lead_id")
    table = scores.table.to_pandas().set_index("lead_id")
    assert len(table) == len(frame) > 60
    frame = frame.loc[table.index]
    for horizon, p in trained.predict_horizons(frame).items():
        assert table[f"p_convert_{horizon}"].to_numpy().tobytes() == p.tobytes()
    for name, values in zip(("value", "value_low", "value_high"), trained.predict_value(frame), strict=True):
        assert table[name].to_numpy().tobytes() == values.tobytes()
        expected = trained.expected_value(table["p_convert_10d"].to_numpy(), values)
        suffix = name.removeprefix("value")
        assert table[f"expected_value{suffix}"].to_numpy().tobytes() == expected.tobytes()
    assert trained.scorecard is not None
    assert table["scorecard_points"].to_numpy().tobytes() == trained.scorecard.points(frame).tobytes()
    assert table["score"].tolist() == trained.profile.score(table["p_convert_10d"]).tolist()
    assert table["p_convert_10d"].is_monotonic_decreasing
    assert table["score"].is_monotonic_decreasing
    assert table["rank"].tolist() == list(range(1, len(table) + 1))


def test_columns_come_in_the_documented_order(history: History, trained: Bundle) -> None:
    names = score_open_leads(history, trained, reasons=ALL).table.schema
    assert names.names == [
        *(
            "lead_id",
            "cutoff",
            "run_id",
            "model_name",
            "model_version",
            "model_digest",
            "p_convert_10d",
            "p_convert_20d",
            "score",
        ),
        *("median_days_to_conversion", "rank", "expected_value", "expected_value_low", "expected_value_high"),
        *("value", "value_low", "value_high", "scorecard_points", "scorecard_grade"),
        *("reasons_for", "reasons_against", "reason_contributions"),
    ]
    assert names.field("score").type == pa.int16()
    plain = dataclasses.replace(trained, profile=None)
    assert "score" not in score_open_leads(history, plain).table.column_names


def test_a_lead_alone_gets_the_same_bits_as_in_the_full_list(history: History, trained: Bundle) -> None:
    """Scores and reasons: whatever is left out of a run because it is done already changes nothing of the rest."""
    cutoff = history.known_until
    observed = open_observations(history, cutoff).table
    pieces = list(iterate_scored(history, observed, trained, bucket_events=60, n_jobs=2))
    firsts = [first for first, _ in pieces]
    assert firsts == np.cumsum([0, *(piece.rows for _, piece in pieces)])[:-1].tolist()
    assert len(firsts) > 3
    whole = assemble([piece for _, piece in pieces], trained)
    assert whole.rows == observed.num_rows
    told = explain_observations(history, observed, trained, ALL, cutoff, bucket_events=60, n_jobs=2)
    assert sum(map(len, told["reason_contributions"].to_pylist())) > observed.num_rows
    everybody = score_open_leads(history, trained, run_id="r", reasons=ALL).table
    assert scores_table(trained, observed, whole, "r", reasons=told).equals(everybody)
    for row in range(0, observed.num_rows, 9):
        lead = observed.slice(row, 1)
        ((first, alone),) = iterate_scored(history, lead, trained)
        assert first == 0
        same_bits(
            dataclasses.replace(alone, counts=None),
            dataclasses.replace(ScoredBatch.from_table(whole.to_table().slice(row, 1), trained), counts=None),
        )
        assert explain_observations(history, lead, trained, ALL, cutoff).equals(told.slice(row, 1))
    later = observed.slice(observed.num_rows // 2)
    rest = assemble(
        [piece for _, piece in iterate_scored(history, later, trained, bucket_events=60)], trained
    )
    assert rest.to_table().equals(whole.to_table().slice(observed.num_rows // 2).combine_chunks())


def test_another_cutoff_of_the_same_lead_has_another_hash(history: History, trained: Bundle) -> None:
    """Time goes by in the inputs, so the hash tells one night from the next."""
    hashes = []
    for instant in (history.known_until, history.known_until + timedelta(days=1)):
        observed = open_observations(history, instant).table
        scored = assemble([piece for _, piece in iterate_scored(history, observed, trained)], trained)
        hashes.append(dict(zip(observed["lead_id"].to_pylist(), scored.features_hash.tolist(), strict=True)))
    both = hashes[0].keys() & hashes[1].keys()
    assert len(both) > 60
    assert not [lead for lead in both if hashes[0][lead] == hashes[1][lead]]


def test_nobody_open_gives_an_empty_list_with_all_columns(history: History, trained: Bundle) -> None:
    before = score_open_leads(history, trained, as_of=history.known_until - timedelta(days=1000), reasons=ALL)
    after = score_open_leads(history, trained, reasons=ALL)
    assert before.table.num_rows == 0
    assert before.table.schema == after.table.schema


def test_who_is_explained() -> None:
    p = np.array([0.2, 0.5, 0.5, 0.1, 0.5])
    assert explained_rows(p, ReasonsConfig(leads=0.3)).tolist() == [1, 2]
    assert explained_rows(p, ReasonsConfig(leads="all")).tolist() == [0, 1, 2, 3, 4]
    assert explained_rows(p, ReasonsConfig(leads="none")).tolist() == []


def test_the_matrix_is_that_of_the_encoder(frame: pd.DataFrame) -> None:
    encoder = made(None).model.encoder_
    assert encode_batch(encoder, as_batch(frame)).tobytes("F") == encoder.encode(frame).tobytes("F")
