"""Bundles: the same bytes, the same predictions, and a refusal of anything that is not as it was written."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from convpredict.config.base import Duration
from convpredict.config.features import AttributeFeature, CountFeature, RecencyFeature
from convpredict.errors import BundleError
from convpredict.features.feature_set import FeatureSet
from convpredict.features.vocabulary import Vocabularies
from convpredict.models.bundle import Bundle, load_bundle, write_bundle
from convpredict.models.bundle_files import digest_of, remove_bundle
from convpredict.models.conversion import ConversionModel
from convpredict.models.profile import Profile
from convpredict.models.profile_learning import learn_profile
from convpredict.models.scorecard import Scorecard
from convpredict.models.shap import TreeExplainer
from convpredict.models.tree_check import check_trees
from convpredict.models.tree_paths import parse_trees
from convpredict.models.tree_scoring import compile_trees
from convpredict.models.value import ValueModel

CARD = "{half_life: 7d, rules: [{kind: call, points: 5, within: 7d}, {attribute: source, values: [fair], points: 3}]}"


def feature_set():
    declarations = (
        CountFeature(windows=(Duration("7d"), "all"), by="kind"),
        RecencyFeature(),
        AttributeFeature(attribute="source"),
    )
    types = {("interactions", "kind"): "category", ("leads", "source"): "category"}
    words = {("interactions", "kind"): ("call", "mail"), ("leads", "source"): ("ads", "fair")}
    return FeatureSet.declare(declarations, Vocabularies(words, types))


def features(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            column.name: rng.poisson(2, n_rows).astype(np.float32)
            if column.type == "number"
            else pd.Categorical(rng.choice(column.categories, n_rows), categories=column.categories)
            for column in feature_set().columns
        }
    )
    frame["recency"] = np.where(rng.random(n_rows) < 0.2, np.nan, rng.exponential(9, n_rows)).astype(
        np.float32
    )
    y = rng.random(n_rows) < expit(frame["count_7d__kind_call"] - 3 + (frame["attribute_source"] == "fair"))
    return frame, y.to_numpy().astype(np.int8)


def make_bundle(**changes):
    X, y = features(600)
    later_X, later_y = features(600, seed=1)
    settings = {"seeds": 2, "n_estimators": 15, "num_leaves": 4, "logistic_weight": 0.3}
    model = ConversionModel(**{**settings, **changes}).fit(X, y, calibration=(later_X, later_y, None))
    card = Scorecard.from_yaml(CARD).bind(feature_set()).fit(X, y)
    p = model.predict_proba(later_X)[:, 1]
    profile = learn_profile(model.encoder_.columns, model.encoder_.encode(later_X), p, parts=("test",))
    return Bundle("demo", model, feature_set(), Duration("30d"), card, "0" * 64, profile=profile)


@pytest.fixture(scope="module")
def bundle():
    return make_bundle(calibrators=("isotonic", "sigmoid"))


@pytest.fixture
def folder(bundle, tmp_path):
    write_bundle(tmp_path / "bundle", bundle)
    return tmp_path / "bundle"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def reseal(folder, **files):
    """Write files and an index that agrees with them: what an attacker, not an accident, would do."""
    index = json.loads((folder / "bundle.json").read_text())
    index.update(files.pop("index", {}))
    for name, text in files.items():
        (folder / name).write_text(text)
        index["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    index["digest"] = digest_of(index)
    (folder / "bundle.json").write_text(
        json.dumps(index, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    )


@pytest.mark.parametrize("calibrator", ["none", "sigmoid", "beta", "isotonic"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_loaded_bundle_predicts_to_the_bit(tmp_path, calibrator, weight, monkeypatch):
    monkeypatch.setattr(
        "convpredict.models.calibrator_choice.LEAST_OF_A_CLASS",
        dict.fromkeys(("none", "sigmoid", "beta", "isotonic"), 0),
    )
    made = make_bundle(calibrators=(calibrator,), logistic_weight=weight, monotone={"count_*": 1})
    write_bundle(tmp_path / "b", made)
    loaded = load_bundle(tmp_path / "b")
    X, _ = features(500, seed=2)
    assert loaded.predict(X).tobytes() == made.predict(X).tobytes()
    assert loaded.predict(X).tobytes() == made.model.predict_proba(X)[:, 1].tobytes()
    assert loaded.scorecard.points(X).tobytes() == made.scorecard.points(X).tobytes()
    assert loaded.scorecard.predict_proba(X).tobytes() == made.scorecard.predict_proba(X).tobytes()
    assert loaded.scorecard.grade([3.0]).tolist() == made.scorecard.grade([3.0]).tolist()
    assert loaded.model.get_params() == made.model.get_params()
    assert (loaded.horizon, loaded.name, loaded.created_from) == (made.horizon, made.name, made.created_from)
    assert loaded.feature_set == made.feature_set
    assert loaded.profile.to_dict() == made.profile.to_dict()
    p = made.predict(X)
    assert loaded.profile.score(p).tobytes() == made.profile.score(p).tobytes()


def test_the_same_inputs_give_the_same_bytes(folder, tmp_path):
    write_bundle(tmp_path / "again", make_bundle(calibrators=("isotonic", "sigmoid"), n_jobs=1))
    assert content(tmp_path / "again") == content(folder)
    loaded = load_bundle(folder)
    assert replace(loaded).files == loaded.files  # sealed anew
    write_bundle(tmp_path / "copy", loaded)
    assert content(tmp_path / "copy") == content(folder)
    assert load_bundle(tmp_path / "copy").digest == loaded.digest


def test_the_digest_tells_bundles_apart(bundle):
    assert make_bundle(random_state=5).digest != bundle.digest


def test_a_bundle_is_text_without_pickle_or_clock(folder):
    for name, data in content(folder).items():
        data.decode("utf-8")
        with pytest.raises(
            (pickle.UnpicklingError, ValueError, KeyError, IndexError, EOFError, AttributeError)
        ):
            pickle.loads(data)
        if name.endswith(".json"):
            json.loads(data)
    assert set(content(folder)) == {
        "bundle.json",
        "calibrator.json",
        "features.json",
        "logistic.json",
        "profile.json",
        "schema.json",
        "scorecard.json",
        "scorecard.yaml",
        "trees/seed_00.txt",
        "trees/seed_01.txt",
    }


def test_any_altered_byte_is_refused(folder):
    rng = random.Random(0)
    for name, data in content(folder).items():
        places = {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(25))}
        if name == "bundle.json":
            places = set(range(0, len(data), 7))
        for place in sorted(places):
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(damaged)
            with pytest.raises(BundleError):
                load_bundle(folder)
        (folder / name).write_bytes(data[:-1])
        with pytest.raises(BundleError):
            load_bundle(folder)
        (folder / name).write_bytes(data)
    load_bundle(folder)


def test_missing_and_extra_files_are_refused(folder):
    for name, data in content(folder).items():
        (folder / name).unlink()
        with pytest.raises(BundleError, match=r"lacks|is no bundle"):
            load_bundle(folder)
        (folder / name).write_bytes(data)
    for extra in ("model.pkl", "trees/seed_02.txt", "trees/readme.md", ".hidden"):
        (folder / extra).write_text("x")
        with pytest.raises(BundleError, match="not part of it"):
            load_bundle(folder)
        (folder / extra).unlink()
    (folder / "more").mkdir()
    with pytest.raises(BundleError, match="a link or a folder"):
        load_bundle(folder)


def test_links_are_refused(folder, tmp_path):
    for name in ("schema.json", "trees/seed_00.txt"):
        moved = tmp_path / "elsewhere"
        os.replace(folder / name, moved)
        (folder / name).symlink_to(moved)
        with pytest.raises(BundleError, match="a link or a folder"):
            load_bundle(folder)
        (folder / name).unlink()
        os.replace(moved, folder / name)
    os.replace(folder / "trees", tmp_path / "trees")
    (folder / "trees").symlink_to(tmp_path / "trees")
    with pytest.raises(BundleError, match="a link or a folder"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/passwd", "trees/../../x", "trees/seed_1.txt", "features.json\n"]
)
def test_an_index_that_leads_out_of_the_folder_is_refused(folder, name):
    index = json.loads((folder / "bundle.json").read_text())
    reseal(folder, index={"files": {**index["files"], name: "0" * 64}})
    with pytest.raises(BundleError, match="no file of a bundle"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nonsense", '{"format": NaN}', '{"format": 2}', '{"format": 1, "format": 1}', "[" * 9999],
)
def test_an_index_that_is_none_is_refused(folder, text):
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("schema.json", lambda t: t.replace('"number"', '"text"', 1)),
        ("schema.json", lambda t: t.replace("recency", "frequency")),
        ("schema.json", lambda t: "{}\n"),
        ("calibrator.json", lambda t: '{"name": "magic"}'),
        ("calibrator.json", lambda t: "null"),
        ("logistic.json", lambda t: t.replace('"missing"', '"absent"')),
        ("logistic.json", lambda t: '{"intercept": 0.0, "terms": []}'),
        ("logistic.json", lambda t: '{"intercept": Infinity, "terms": []}'),
        ("logistic.json", lambda t: t.replace('"intercept": ', '"intercept": 1e999, "was": ')),
        ("features.json", lambda t: t.replace('"format": 1', '"format": 99')),
        ("scorecard.yaml", lambda t: t + "rules: []\n"),
        ("scorecard.yaml", lambda t: t.replace("points: 5", "points: 50")),
        ("scorecard.json", lambda t: t.replace("count_7d__kind_call", "recency")),
        ("scorecard.json", lambda t: "{}"),
        ("trees/seed_00.txt", lambda t: ""),
        ("trees/seed_00.txt", lambda t: t[: len(t) // 2]),
        ("trees/seed_00.txt", lambda t: t.replace("objective=binary sigmoid:1", "objective=regression")),
        ("trees/seed_00.txt", lambda t: t.replace("tree_sizes=", "tree_sizes=1")),
    ],
)
def test_what_is_not_understood_is_refused_even_with_right_checksums(folder, name, change):
    text = (folder / name).read_text()
    assert change(text) != text
    reseal(folder, **{name: change(text)})
    with pytest.raises(BundleError, match=r"export|use the version|copy"):
        load_bundle(folder)


def zero_inflated(family):
    X, _ = features(500, seed=3)
    rng = np.random.default_rng(1)
    amount = np.exp(rng.normal(4.0, 0.8, 500)) * (rng.random(500) < 0.8)
    segments = ("attribute_source",) if family == "mean" else None
    return ValueModel(family=family, segments=segments).fit(X, amount)


def shorten(stored):
    """Fewer coefficients than categories: compiled code would read beyond their end."""
    term = next(term for term in stored["model"]["family"]["spread"]["terms"] if term["type"] == "category")
    term["coefficients"] = term["coefficients"][:1]


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("zero_inflated_lognormal", shorten),
        ("zero_inflated_lognormal", lambda s: s["model"]["family"].update(level="nan")),
        ("mean", lambda s: s["model"]["segment_means"].update(columns=[99])),
        ("mean", lambda s: s["model"]["segment_means"].update(overall=10**400)),
        ("mean", lambda s: s["interval"].update(low=["inf"] * len(s["interval"]["low"]))),
        ("mean", lambda s: s.update(level="1e999")),
    ],
)
def test_a_value_model_that_leads_astray_is_refused_even_with_right_checksums(
    bundle, tmp_path, family, change
):
    write_bundle(tmp_path / "b", replace(bundle, value=zero_inflated(family)))
    assert load_bundle(tmp_path / "b").value is not None
    stored = json.loads((tmp_path / "b" / "value" / "value.json").read_text())
    change(stored)
    reseal(tmp_path / "b", **{"value/value.json": json.dumps(stored)})
    with pytest.raises(BundleError, match="export the bundle anew"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize("further", [["90d"], {"90d": 7}, 7])
def test_further_horizons_that_are_none_are_refused(folder, further):
    reseal(folder, index={"further": further})
    with pytest.raises(BundleError, match="anew"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("split_feature", "999"),
        ("split_feature", "-1"),
        ("left_child", "0"),
        ("right_child", "77"),
        ("leaf_value", "nan"),
        ("leaf_value", "1 2"),
        ("split_feature", "0.5"),
        ("decision_type", "14"),
        ("internal_count", "0"),
        ("leaf_count", "inf"),
        ("num_leaves", "3 "),
    ],
)
def test_trees_that_would_lead_the_reader_astray_are_refused(bundle, key, value):
    text = bundle.model.trees_.texts[0]
    n_features = len(bundle.model.encoder_.columns)
    assert check_trees(text, n_features, name="tree") == text.count("\nTree=")
    begin = text.index(f"\n{key}=") + len(key) + 2
    end = min(text.index(" ", begin), text.index("\n", begin))
    with pytest.raises(BundleError, match="altered or cut off"):
        check_trees(text[:begin] + value + text[end:], n_features, name="tree")


def test_a_tree_after_the_end_of_the_trees_is_none(bundle):
    """It would be walked without having been checked: here by a column far outside of the table."""
    text = bundle.model.trees_.texts[0]
    n_features = len(bundle.model.encoder_.columns)
    block = text[text.index("\nTree=1\n") : text.index("\nTree=2\n")].rstrip("\n")
    begin = block.index("split_feature=") + len("split_feature=")
    more = text + block[:begin] + "-900000000" + block[block.index(" ", begin) :] + "\n\n"
    assert check_trees(more, n_features, name="tree") == len(parse_trees(more)) == len(parse_trees(text))
    rows = np.random.default_rng(0).integers(0, 3, (50, n_features)).astype(np.float64)
    assert (
        compile_trees([more], n_features).mean_logit(rows).tobytes()
        == compile_trees([text], n_features).mean_logit(rows).tobytes()
    )
    assert (
        TreeExplainer(more, n_features).explain(rows).tobytes()
        == TreeExplainer(text, n_features).explain(rows).tobytes()
    )


def test_a_half_written_bundle_is_never_seen(bundle, folder, monkeypatch):
    before = content(folder)
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_bundle(folder, make_bundle(random_state=3))
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_only_a_bundle_is_replaced(bundle, folder, tmp_path):
    write_bundle(folder, make_bundle(random_state=3))
    assert load_bundle(folder).model.random_state == 3
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(BundleError, match="something else than a bundle"):
        write_bundle(tmp_path / "thesis", bundle)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "x"


def test_a_bundle_without_a_profile_is_one(bundle, tmp_path):
    without = replace(bundle, profile=None)
    write_bundle(tmp_path / "b", without)
    loaded = load_bundle(tmp_path / "b")
    assert loaded.profile is None
    assert "profile.json" not in loaded.files
    assert loaded.digest == without.digest != bundle.digest


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{}", "profile cannot be read"),
        ("[]", "no JSON object"),
        ("{", "not JSON"),
    ],
)
def test_a_resealed_profile_that_is_none_is_refused(folder, text, match):
    reseal(folder, **{"profile.json": text})
    with pytest.raises(BundleError, match=match):
        load_bundle(folder)


def test_a_profile_of_other_columns_is_refused(bundle, folder):
    stored = bundle.profile.to_dict()
    first = bundle.profile.columns[0].name
    text = json.dumps(stored).replace(json.dumps(first), json.dumps("other"))
    with pytest.raises(BundleError, match="of other columns"):
        replace(bundle, profile=Profile.from_dict(json.loads(text))).digest  # noqa: B018
    reseal(folder, **{"profile.json": text})
    with pytest.raises(BundleError, match="of other columns"):
        load_bundle(folder)


def test_a_bundle_is_removed_and_nothing_else(folder, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(BundleError, match="something else than a bundle"):
        remove_bundle(tmp_path / "thesis")
    (tmp_path / "link").symlink_to(folder)
    remove_bundle(tmp_path / "link")
    assert load_bundle(folder).name == "demo"
    remove_bundle(folder)
    remove_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_removal_that_was_interrupted_leaves_no_bundle_and_can_be_repeated(folder, monkeypatch):
    unlink, left = os.unlink, 3

    def fail(path, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("killed")
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with pytest.raises(OSError, match="killed"):
            remove_bundle(folder)
    with pytest.raises(BundleError, match="lacks"):
        load_bundle(folder)
    remove_bundle(folder)
    assert not folder.exists()


def test_no_bundle_there(tmp_path):
    with pytest.raises(BundleError, match="there is no bundle"):
        load_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="is no bundle"):
        load_bundle(tmp_path)


def test_a_feature_table_without_a_column_is_refused(bundle):
    X, _ = features(5)
    with pytest.raises(BundleError, match="lacks recency"):
        bundle.predict(X.drop(columns="recency"))
    assert bundle.predict(X.assign(more=1.0)).tobytes() == bundle.predict(X).tobytes()


def test_a_model_of_other_columns_has_no_bundle(bundle):
    X, y = features(200)
    other = ConversionModel(seeds=1, n_estimators=3).fit(X.rename(columns={"recency": "silence"}), y)
    with pytest.raises(BundleError, match="different from"):
        Bundle("x", other, feature_set(), Duration("30d")).digest  # noqa: B018


def test_parameters_that_text_cannot_keep_are_refused(bundle):
    made = make_bundle(lightgbm={"max_bin": 31})
    made.model.lightgbm = {"max_bin": object()}
    with pytest.raises(BundleError, match="not plain text"):
        made.digest  # noqa: B018


def test_a_bundle_of_another_version_keeps_its_digest(bundle, tmp_path):
    write_bundle(tmp_path / "b", replace(bundle, value=zero_inflated("mean")))
    stored = json.loads((tmp_path / "b" / "value" / "value.json").read_text())
    del stored["tail_factor"]  # as versions before it was kept
    versions = {"convpredict": "0.0.1", "lightgbm": "4.0.0"}
    reseal(tmp_path / "b", index={"versions": versions}, **{"value/value.json": json.dumps(stored)})
    digest = json.loads((tmp_path / "b" / "bundle.json").read_text())["digest"]
    loaded = load_bundle(tmp_path / "b")
    assert loaded.digest == digest
    write_bundle(tmp_path / "copy", loaded)
    assert content(tmp_path / "copy") == content(tmp_path / "b")
    assert replace(loaded, name="other").digest != digest
