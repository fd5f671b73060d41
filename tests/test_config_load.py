"""Reading a configuration: YAML, overrides, the scorecard's own file, messages, the schema, the digest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from convpredict.config.load import check_against_history, config_schema, load_project, parse_project
from convpredict.errors import ConfigError
from convpredict.history.history import TIMESTAMP, History

SMALL: dict[str, Any] = {
    "name": "small",
    "sources": {"people": {"file": "people.csv"}},
    "history": {"leads": {"source": "people", "attributes": {"city": "category"}}},
}
TEXT = """
name: small
data: exports
sources:
  people: {file: people.csv}
history:
  leads: {source: people, attributes: {city: category}}
"""


def refused(content: Any, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_project(content, overrides=overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def with_part(**parts: Any) -> dict[str, Any]:
    return {**SMALL, **parts}


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(TEXT)
    project = load_project(path)
    assert project.path == path
    assert project.data_dir == tmp_path / "exports"
    assert load_project(path, data=Path("elsewhere")).data_dir == Path("elsewhere")


def test_an_override_is_read_as_yaml_and_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(TEXT)
    changed = load_project(path, overrides=["labels.horizons=[14d, 60d]", "model.seed=3"])
    assert [str(horizon) for horizon in changed.config.labels.horizons] == ["14d", "60d"]
    assert changed.config.model.seed == 3
    assert changed.digest != load_project(path).digest
    assert load_project(path).digest == parse_project(TEXT).digest


def test_a_mapping_is_not_changed_by_overrides() -> None:
    content = with_part(labels={"horizons": ["30d"]})
    assert str(parse_project(content, overrides=["labels.horizons.0=7d"]).config.labels.horizons[0]) == "7d"
    assert content["labels"] == {"horizons": ["30d"]}


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert parse_project(SMALL).digest == parse_project(dict(reversed(SMALL.items()))).digest


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("labels.horizons", "--set needs key=value"),
        ("labels.horizons.7=3d", "'7' is no position in 'labels.horizons'"),
        ("name.x=1", "name"),
        ("labels.horizonts=[3d]", "Did you mean 'horizons'?"),
        ("model.seed=[", "not valid YAML"),
    ],
)
def test_a_wrong_override_says_so(override: str, says: str) -> None:
    assert says in refused(with_part(labels={"horizons": ["30d"]}), override)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b", "line 2: the key 'name' appears twice (first in line 1)"),
        ("name: [", "line 1"),
        ("", "an empty file"),
        ("- a\n- b", "must be a mapping"),
        ("on: 1", "write it in quotes"),
        ("name: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_yaml_that_cannot_be_read_names_the_line(text: str, says: str) -> None:
    assert says in refused(text)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": {"horizns": ["30d"]}}, "labels.horizns: unknown key. Did you mean 'horizons'?"),
        ({"labels": {"horizons": ["0d"]}}, "labels.horizons[0]: this duration must be longer than zero"),
        ({"labels": {"horizons": ["30"]}}, "labels.horizons[0]: a duration must be a whole number with a unit"),
        ({"labels": {"horizons": []}}, "labels.horizons: tuple should have at least 1 item"),
        ({"observations": {"cutoffs": {"evry": "7d"}}}, "cutoffs.evry: unknown key. Did you mean 'every'?"),
        ({"observations": {"cutoffs": {"every": 7}}}, "observations.cutoffs.every: a duration needs a unit"),
        ({"observations": {"cutoffs": {"ages": ["7x"]}}}, "observations.cutoffs.ages[0]: a duration must be"),
        ({"sources": {"q": {"flie": "x.csv"}}}, "sources.q.flie: unknown key. Did you mean 'file'?"),
        ({"sources": {"q": {"duckdb": "x.db"}}}, "sources.q.table: this required key is missing"),
        ({"sources": {"q": {"postgres_env": "DB"}}}, "sources.q: a Postgres source needs either 'table' or 'query'"),
        ({"features": {"declare": [{"windows": ["7d"]}]}}, "features.declare[0]: the key 'family' is missing"),
        ({"features": {"declare": [{"family": "cuont"}]}}, "features.declare[0]: got 'cuont'. Did you mean 'count'?"),
        (
            {"features": {"declare": [{"family": "count", "windows": ["7d"], "bye": "kind"}]}},
            "features.declare[0].bye: unknown key. Did you mean 'by'?",
        ),
        ({"scorecard": {"rules": [{"kind": "call", "point": 3}]}}, "scorecard.rules[0].point: unknown key."),
        ({"scorecard": {"rules": [{"attribute": "x", "points": 3}]}}, "scorecard.rules[0]: an attribute rule needs"),
        ({"model": {"n_estimators": 0}}, "model.n_estimators: input should be greater than 0; got 0"),
        ({"split": {"test_from": "2024-13-01"}}, "split.test_from: an instant must be written as ISO 8601"),
        (
            {"split": {"test_from": "2024-01-01", "calibrate_from": "2024-02-01"}},
            "split.calibrate_from (2024-02-01 00:00:00+00:00) must lie before split.test_from",
        ),
        (
            {"observations": {"cutoffs": {"every": "7d", "start": "2024-02-01", "end": "2024-01-01"}}},
            "observations.cutoffs.end",
        ),
        ({"nmae": "x"}, "nmae: unknown key. Did you mean 'name'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_key_and_remedy_and_nothing_else_is_said(
    content: dict[str, Any], says: str
) -> None:
    message = refused({**SMALL, **content, "sources": {**SMALL["sources"], **content.get("sources", {})}})
    assert says in message
    others = [line for line in message.splitlines()[1:] if says not in line]
    assert all("required key is missing" in line for line in others), message


def test_a_connection_string_in_the_wrong_place_is_not_echoed() -> None:
    message = refused(with_part(sources={"db": {"postgres_env": ["postgresql://u:hunter2@h"], "table": "t"}}))
    assert "hunter2" not in message
    assert "sources.db.postgres_env" in message


def test_a_scorecard_may_lie_in_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(TEXT + "scorecard: {file: card.yaml}\n")
    with pytest.raises(ConfigError, match=r"scorecard\.file: there is no file .*card\.yaml"):
        load_project(path)
    (tmp_path / "card.yaml").write_text("rules: [{kind: call, points: 5}]\n")
    card = load_project(path).config.scorecard
    assert card is not None
    assert card.rules[0].points == 5
    (tmp_path / "card.yaml").write_text("rules: [{kind: call, pionts: 5}]\n")
    with pytest.raises(
        ConfigError, match=r"(?s)card\.yaml.*rules\[0\]\.pionts: unknown key\. Did you mean 'points'"
    ):
        load_project(path)
    (tmp_path / "card.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="must be a mapping with 'rules'"):
        load_project(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text(TEXT)
    with pytest.raises(
        ConfigError, match=r"no configuration file .*projekt\.yaml\. Did you mean 'project\.yaml'"
    ):
        load_project(tmp_path / "projekt.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_project(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Köln".encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        load_project(tmp_path / "latin.yaml")


def test_the_schema_is_json_and_knows_both_ways_to_give_a_scorecard() -> None:
    schema = json.loads(json.dumps(config_schema()))
    assert {"name", "history", "sources", "labels"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert any("file" in entry.get("properties", {}) for entry in schema["properties"]["scorecard"]["anyOf"])


def _history(days: int) -> History:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    leads = pa.table(
        {
            "lead_id": ["a"],
            "created_at": pa.array([start], TIMESTAMP),
            "lost_at": pa.array([None], TIMESTAMP),
        }
    )
    return History.trusted(leads, known_until=datetime(2024, 1, 1 + days, tzinfo=UTC))


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"labels": {"horizons": ["20d"]}}, "labels.horizons[0] is 20d"),
        (
            {"features": {"declare": [{"family": "count", "windows": ["all", "11d"]}]}},
            "features.declare[0].windows[1]",
        ),
        (
            {"features": {"declare": [{"family": "trend", "short": "1d", "long": "11d"}]}},
            "features.declare[0].long",
        ),
        ({"observations": {"cutoffs": {"ages": ["1d", "30d"]}}}, "observations.cutoffs.ages[1]"),
        ({"split": {"test_from": "2025-01-01"}}, "split.test_from is 2025-01-01"),
        ({"split": {"test_from": "2023-01-01"}}, "split.test_from is 2023-01-01"),
    ],
)
def test_what_the_history_cannot_fill_is_refused(parts: dict[str, Any], key: str) -> None:
    config = parse_project(with_part(**{"labels": {"horizons": ["3d"]}, **parts})).config
    with pytest.raises(ConfigError) as caught:
        check_against_history(config, _history(days=10))
    assert key in str(caught.value)
    assert "2024-01-01 to 2024-01-11" in str(caught.value)


def test_segments_must_be_categories() -> None:
    attributes = {"age": "number", "source": {"type": "category"}}
    leads = {**SMALL["history"]["leads"], "attributes": attributes}
    history = {**SMALL["history"], "leads": leads}
    parse_project(with_part(history=history, evaluation={"segments": ["source"]}))
    with pytest.raises(ConfigError, match=r"evaluation\.segments names 'age', which is a number"):
        parse_project(with_part(history=history, evaluation={"segments": ["age"]}))


def test_segments_must_be_declared_attributes() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.segments names 'nothing'.*declare it or correct"):
        parse_project(with_part(evaluation={"segments": ["nothing"]}))


def test_what_the_history_can_fill_passes() -> None:
    parts = {"labels": {"horizons": ["10d"]}, "split": {"test_from": "2024-01-09"}}
    check_against_history(parse_project(with_part(**parts)).config, _history(days=10))


def test_a_relative_sqlite_store_starts_from_the_configuration_wherever_one_is(tmp_path, monkeypatch):
    from convpredict.tracking.store import tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    text = "name: x\nsources: {p: {file: p.csv}}\nhistory: {leads: {source: p}}\ntracking: {uri: URI}\n"
    path = tmp_path / "project" / "x.yaml"
    path.parent.mkdir()
    expected = {
        "sqlite:///mlflow.db": f"sqlite:///{path.parent}/mlflow.db",
        "sqlite:////data/mlflow.db": "sqlite:////data/mlflow.db",
        "http://localhost:5000": "http://localhost:5000",
    }
    for uri, resolved in expected.items():
        path.write_text(text.replace("URI", f"'{uri}'"))
        for place in (tmp_path, path.parent):
            monkeypatch.chdir(place)
            project = load_project(path.relative_to(place))
            assert tracking_uri(project.config.tracking) == resolved
    here = load_project(path)
    path.write_text(text.replace("URI", "'http://localhost:5000'"))
    assert load_project(path).digest == here.digest
    assert "_folder" not in load_project(path).config.tracking.model_dump()
