"""The MLflow model: the same bits from features, from raw history and from the scored list, and clear refusals."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from convpredict.config.reasons import ReasonsConfig
from convpredict.features.cross_lead import snapshot_cross_lead
from convpredict.scoring.scores import score_open_leads
from convpredict.tracking.mlflow_pyfunc import quiet
from convpredict.tracking.model_directory import verify_model_directory, write_model_directory
from served_leads import CUTOFF, feature_frame, raw_frame, served_bundle, served_history

with quiet():
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations, parse_csv_input

REASONS = ("reasons_for", "reasons_against", "reason_contributions")


@pytest.fixture(scope="module")
def served():
    return served_history()


@pytest.fixture(scope="module")
def bundle(served):
    return served_bundle(served[1])


@pytest.fixture(scope="module")
def folder(served, bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    write_model_directory(path, bundle, cross_lead=snapshot_cross_lead(served[1], bundle.feature_set, CUTOFF))
    return path


@pytest.fixture(scope="module")
def model(folder):
    with quiet():
        return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def listed(served, bundle):
    """The scored list, in the order of the leads."""
    reasons = ReasonsConfig(locale="de", top=2)
    table = score_open_leads(served[1], bundle, as_of=CUTOFF, reasons=reasons).table
    return table.to_pandas().sort_values("lead_id", ignore_index=True)


@pytest.fixture
def raw(served):
    return raw_frame(served[0])


def assert_same_scores(found: pd.DataFrame, listed: pd.DataFrame, bundle) -> None:
    expected = [f"p_convert_{horizon}" for horizon in bundle.horizons]
    expected += ["score", "expected_value", "expected_value_low", "expected_value_high"]
    expected += ["value", "value_low", "value_high", "scorecard_points"]
    for name in expected:
        one, other = found[name].to_numpy(np.float64), listed[name].to_numpy(np.float64)
        assert one.tobytes() == other.tobytes(), name
    assert found["scorecard_grade"].tolist() == listed["scorecard_grade"].tolist()
    assert set(found["model_digest"]) == set(listed["model_digest"]) == {bundle.digest}


def test_raw_leads_have_the_scores_and_reasons_of_the_list(model, raw, listed, bundle):
    found = model.predict(raw, params={"reasons": True, "locale": "de", "top": 2})
    assert_same_scores(found, listed, bundle)
    assert set(found["cross_lead_as_of"]) == {CUTOFF.isoformat()}
    for name in REASONS:
        told = [list(entry) for entry in listed[name]]
        assert found[name].tolist() == told
    assert len(found) > 100
    assert any("in den letzten" in text for row in found["reasons_for"] for text in row)


def test_a_lead_alone_has_the_scores_that_it_has_among_others(model, raw, listed, bundle):
    for row in range(0, len(raw), 17):
        alone = model.predict(raw.iloc[[row]])
        assert_same_scores(alone, listed.iloc[[row]], bundle)


def test_features_have_the_scores_of_the_list(model, served, listed, bundle):
    frame = feature_frame(served[1], bundle)
    found = model.predict(frame)
    assert_same_scores(found, listed, bundle)
    assert found["cross_lead_as_of"].isna().all()
    wide = frame.astype({c.name: "float64" for c in bundle.feature_set.columns if c.type == "number"})
    assert_same_scores(model.predict(wide), listed, bundle)


def test_features_and_raw_leads_survive_csv(model, served, listed, bundle, raw):
    features = parse_csv_input(io.StringIO(feature_frame(served[1], bundle).to_csv(index=False)))
    assert_same_scores(model.predict(features), listed, bundle)
    as_text = raw.assign(
        interactions=raw["interactions"].map(json.dumps),
        attribute_changes=raw["attribute_changes"].map(json.dumps),
    )
    leads = parse_csv_input(io.StringIO(as_text.to_csv(index=False)))
    assert_same_scores(model.predict(leads), listed, bundle)
    one = parse_csv_input(io.StringIO(feature_frame(served[1], bundle).head(1).to_csv(index=False)))
    assert_same_scores(model.predict(one), listed.head(1), bundle)


@pytest.mark.parametrize("orient", ["split", "records"])
def test_raw_leads_and_features_survive_the_scoring_server(model, served, listed, bundle, raw, orient):
    schema = model.metadata.get_input_schema()
    features = feature_frame(served[1], bundle).drop(columns="cutoff")
    for frame in (raw, features):
        body = json.dumps(
            {f"dataframe_{orient}": json.loads(frame.to_json(orient=orient, double_precision=15))}
        )
        if frame is features:  # pandas cuts the digits of floats
            content = {
                "columns": list(frame),
                "data": frame.astype(object).where(frame.notna(), None).values.tolist(),
            }
            records = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
            body = json.dumps({f"dataframe_{orient}": content if orient == "split" else records})
        answer = invocations(body, "application/json", model, schema)
        assert answer.status == 200
        assert_same_scores(pd.DataFrame(json.loads(answer.response)["predictions"]), listed, bundle)


def test_arrays_of_objects_as_parquet_gives_them_are_read(model, raw, listed, bundle, tmp_path):
    raw.to_parquet(tmp_path / "raw.parquet")
    assert_same_scores(model.predict(pd.read_parquet(tmp_path / "raw.parquet")), listed, bundle)


def test_the_input_example_is_scored(model, folder):
    example = model.input_example
    assert example["cutoff"].tolist() == [CUTOFF.isoformat()]
    found = model.predict(example)
    assert len(found) == 1
    assert 0 < found["p_convert_30d"][0] < 1
    assert [column.name for column in model.metadata.get_output_schema()] == list(found.columns)
    assert not [column for column in model.metadata.get_input_schema() if column.required]
    numbers = {column.name: str(column.type) for column in model.metadata.get_input_schema()}
    assert numbers["count_7d"] == "DataType.double"


def test_the_cutoff_may_be_a_parameter_and_is_never_the_clock(model, raw, listed, bundle):
    without = raw.drop(columns="cutoff")
    with pytest.raises(Exception, match="have no cutoff"):
        model.predict(without)
    assert_same_scores(model.predict(without, params={"cutoff": CUTOFF.isoformat()}), listed, bundle)
    stated = raw.assign(cutoff=[None, *raw["cutoff"][1:]])
    assert_same_scores(model.predict(stated, params={"cutoff": CUTOFF.isoformat()}), listed, bundle)
    with pytest.raises(Exception, match="parameter 'cutoff' is no time"):
        model.predict(without, params={"cutoff": "tomorrow"})


def test_a_cutoff_before_the_snapshot_is_refused_unless_it_is_asked_for(model, raw, served, bundle):
    early = (CUTOFF - timedelta(hours=1)).isoformat()
    one = raw[raw["created_at"] < early].head(3).reset_index(drop=True)
    past = one.assign(cutoff=[CUTOFF.isoformat(), early, early])
    with pytest.raises(
        Exception, match=r"row 2: 'cutoff' lies before .* outcomes that were not known"
    ) as refused:
        model.predict(past)
    assert type(refused.value).__name__ == "DataError"
    with pytest.raises(Exception, match="row 1: 'cutoff' lies before"):
        model.predict(one.drop(columns="cutoff"), params={"cutoff": early})
    assert len(model.predict(past, params={"allow_later_rates": True})) == 3
    later = (CUTOFF + timedelta(days=1)).isoformat()
    assert len(model.predict(one.assign(cutoff=later))) == 3
    features = feature_frame(served[1], bundle).assign(cutoff=early)
    assert len(model.predict(features)) == len(features)


def test_a_model_that_reads_nothing_across_leads_takes_any_cutoff(served, tmp_path):
    from test_bundle import make_bundle

    bundle = make_bundle(seeds=1)
    write_model_directory(tmp_path / "model", bundle, cross_lead={"as_of": "2030-01-01T00:00:00+00:00"})
    with quiet():
        model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    example = model.input_example
    assert example["cutoff"].tolist() == ["2030-01-01T00:00:00+00:00"]
    moved = example.assign(created_at="2024-01-01T00:00:00Z", cutoff="2024-02-01T00:00:00Z")
    assert len(model.predict(moved)) == 1


def test_an_unknown_kind_and_category_count_as_other(model, raw):
    one = raw.head(1).copy()
    events = [{**event, "kind": "never seen"} for event in one["interactions"][0]]
    other = [{**event, "kind": "(other)"} for event in one["interactions"][0]]
    found = model.predict(one.assign(interactions=[events], source="never seen"))
    expected = model.predict(one.assign(interactions=[other], source="(other)"))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_no_interactions_may_be_said_in_several_ways(model, raw):
    one = raw.head(1)
    scores = [
        model.predict(one.assign(interactions=[nothing])) for nothing in ([], None, "[]", float("nan"), "")
    ]
    for found in scores[1:]:
        pd.testing.assert_frame_equal(found, scores[0], check_exact=True)
    assert not scores[0].equals(model.predict(raw.loc[[raw["interactions"].map(len).idxmax()]]))


def test_event_ids_settle_the_order_of_one_instant(model, raw):
    at = (CUTOFF - timedelta(days=1)).isoformat()
    events = [
        {"kind": kind, "occurred_at": at, "event_id": name, "minutes": None, "outcome": None}
        for kind, name in (("mail", 11), ("call", "9"), ("mail", None))
    ]
    one = raw.head(1)
    by_id = model.predict(one.assign(interactions=[events]))
    in_order = [dict(events[place], event_id=None) for place in (1, 0, 2)]
    pd.testing.assert_frame_equal(by_id, model.predict(one.assign(interactions=[in_order])), check_exact=True)
    with pytest.raises(Exception, match="row 1: entry 2 of 'interactions' repeats the event_id"):
        model.predict(one.assign(interactions=[[events[0], events[0]]]))


SECRET = "Geheim-4711"
BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"created_at": SECRET}, "row 2: 'created_at' is no time"),
    ({"created_at": "2024-01-01T00:00:00"}, "row 2: 'created_at' has no offset"),
    ({"created_at": pd.Timestamp("2024-01-01")}, "row 2: 'created_at' has no offset"),
    ({"created_at": 1704067200}, "row 2: 'created_at' is no time"),
    ({"created_at": None}, "row 2: 'created_at' is missing"),
    ({"created_at": "2030-01-01T00:00:00Z"}, "row 2: 'cutoff' must lie after 'created_at'"),
    ({"budget": SECRET}, "row 2: 'budget' is no finite number"),
    ({"budget": float("inf")}, "row 2: 'budget' is no finite number"),
    ({"renewal": SECRET}, "row 2: 'renewal' is no time"),
    ({"source": {"a": SECRET}}, "row 2: 'source' is a category and must be text; got a dict"),
    ({"interactions": SECRET}, "row 2: 'interactions' is no JSON"),
    ({"interactions": 7}, "row 2: 'interactions' must be a list of objects"),
    ({"interactions": [SECRET]}, "row 2: entry 1 of 'interactions' must be an object"),
    ({"interactions": [{"kind": SECRET}]}, "row 2: 'occurred_at' of entry 1 of 'interactions' is missing"),
    (
        {"interactions": [{"occurred_at": "2024-01-02T00:00:00Z"}, {"occurred_at": SECRET}]},
        "row 2: 'occurred_at' of entry 2 of 'interactions' is no time",
    ),
    (
        {"interactions": [{"occurred_at": "2024-01-02T00:00:00Z", "minutes": SECRET}]},
        "row 2: 'minutes' of entry 1 of 'interactions' is no finite number",
    ),
    (
        {"interactions": [{"occurred_at": "2024-01-02T00:00:00Z", "recorded_at": SECRET}]},
        "row 2: 'recorded_at' of entry 1 of 'interactions' is no time",
    ),
    (
        {"attribute_changes": [{"attribute": 1}]},
        "row 2: 'attribute' of entry 1 of 'attribute_changes' must be",
    ),
    (
        {
            "attribute_changes": [
                {"attribute": "budget", "value": SECRET, "valid_from": "2024-01-02T00:00:00Z"}
            ]
        },
        "row 2: 'value' of entry 1 of 'attribute_changes' is no finite number",
    ),
    (
        {"attribute_changes": [{"attribute": "source", "value": "web"}]},
        "row 2: 'valid_from' of entry 1 of 'attribute_changes' is missing",
    ),
    (
        {"interactions": '[{"kind": "\\udfff", "occurred_at": "2024-01-02T00:00:00Z"}]'},
        "row 2: 'kind' of entry 1 of 'interactions' is no text in Unicode",
    ),
    (
        {
            "attribute_changes": [
                {"attribute": "source", "value": "\udc00", "valid_from": "2024-01-02T00:00:00Z"}
            ]
        },
        "row 2: 'value' of entry 1 of 'attribute_changes' is no text in Unicode",
    ),
    ({"interactions": "[" * 100_000}, "row 2: 'interactions' is no JSON"),
    ({"converted_at": "2024-01-02T00:00:00Z"}, "row 2: the lead has converted before its cutoff"),
)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_row_is_named_with_its_column_and_no_value(model, raw, change, message):
    rows = raw.head(3).to_dict("records")
    rows[1] |= change
    with pytest.raises(Exception, match=message) as refused:
        model.predict(pd.DataFrame(rows))
    assert type(refused.value).__name__ == "DataError"
    assert SECRET not in str(refused.value)
    assert "lead-" not in str(refused.value)


def test_half_a_surrogate_pair_in_a_column_is_named_by_the_model_itself(model, raw):
    """MLflow and pandas stumble over it before the model sees it, where they make the frame."""
    rows = raw.head(3).to_dict("records")
    rows[1]["source"] = "\ud800" + SECRET
    with pytest.raises(Exception, match="row 2: 'source' is no text in Unicode") as refused:
        model.unwrap_python_model().predict(None, pd.DataFrame(rows, dtype=object))
    assert type(refused.value).__name__ == "DataError"
    assert SECRET not in str(refused.value)


def test_columns_that_the_model_reads_must_be_there(model, raw, served, bundle):
    with pytest.raises(Exception, match="lack the column source"):
        model.predict(raw.drop(columns="source"))
    with pytest.raises(Exception, match="lack the column interactions"):
        model.predict(raw.drop(columns="interactions"))
    features = feature_frame(served[1], bundle)
    with pytest.raises(Exception, match=r"neither created_at, .* nor the model's columns: recency"):
        model.predict(features.drop(columns="recency"))
    with pytest.raises(Exception, match="row 2: 'attribute_source' is a category"):
        model.predict(
            features.astype({"attribute_source": object}).assign(
                attribute_source=["ads", *[[1]] * (len(features) - 1)]
            )
        )


@pytest.mark.parametrize("params", [{"locale": "xx"}, {"top": 0, "reasons": True}, {"top": 21}])
def test_parameters_are_checked(model, raw, params):
    with pytest.raises(Exception, match="the parameter locale is one of en, de"):
        model.predict(raw.head(1), params=params)


def test_a_newer_snapshot_is_read_as_soon_as_it_is_published(
    model, served, bundle, raw, tmp_path, monkeypatch
):
    path = tmp_path / "cross_lead.json"
    monkeypatch.setenv("CONVPREDICT_CROSS_LEAD", str(path))
    with pytest.raises(Exception, match=r"CONVPREDICT_CROSS_LEAD names .* cannot be read"):
        model.predict(raw)
    for later in (1, 2):
        at = CUTOFF - timedelta(days=later)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(snapshot_cross_lead(served[1], bundle.feature_set, at)))
        fresh.replace(path)
        assert set(model.predict(raw)["cross_lead_as_of"]) == {at.isoformat()}
    path.write_text('{"kind": "something else"}')
    with pytest.raises(Exception, match="snapshot of rates and loads cannot be understood"):
        model.predict(raw)


def test_a_model_without_a_snapshot_says_what_it_lacks(bundle, raw, served, tmp_path):
    write_model_directory(tmp_path / "model", bundle)
    with quiet():
        model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    with pytest.raises(Exception, match="give a snapshot"):
        model.predict(raw)
    assert len(model.predict(feature_frame(served[1], bundle))) == len(raw)


TAMPERED = (
    "pyfunc_script.py",
    "checksums.json",
    "code/convpredict/models/trees.py",
    "artifacts/bundle/schema.json",
    "artifacts/cross_lead.json",
    "requirements.txt",
)


@pytest.mark.parametrize("name", TAMPERED)
def test_an_altered_directory_is_not_loaded(folder, tmp_path, name):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    path = copy / name
    path.write_bytes(path.read_bytes() + b"\n")
    with quiet(), pytest.raises(Exception, match=name):
        mlflow.pyfunc.load_model(str(copy))


def test_another_version_of_the_package_in_the_process_is_told(folder, bundle, tmp_path, monkeypatch):
    from convpredict.tracking import pyfunc_model

    elsewhere = tmp_path / "elsewhere" / "convpredict" / "tracking" / "pyfunc_model.py"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pyfunc_model._warn_of_other_code(folder)
    monkeypatch.setattr(pyfunc_model, "__file__", str(elsewhere))
    with pytest.warns(UserWarning, match="differ from the model's own"):
        pyfunc_model._warn_of_other_code(folder)


def test_a_process_of_its_own_loads_it_twice_and_leaves_no_traces(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    script = (
        f"import sys; sys.path += {[path for path in sys.path if path.endswith('site-packages')]!r}\n"
        "import mlflow.pyfunc\n"
        "for _ in range(2):\n"
        f"    mlflow.pyfunc.load_model({str(copy)!r})\n"
        "import convpredict; print(convpredict.__file__)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": ""}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=environment,
    )
    assert ran.stdout.split()[-1] == str(copy / "code" / "convpredict" / "__init__.py")
    assert verify_model_directory(copy) == copy / "artifacts" / "bundle"
