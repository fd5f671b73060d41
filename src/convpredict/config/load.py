"""From YAML to a checked :class:`~convpredict.config.root.Config`: safe reading, overrides, errors with a remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from ..errors import ConfigError
from .against_history import check_against_history
from .messages import nearest, readable_errors
from .root import Config
from .training import ScorecardConfig

__all__ = [
    "Project",
    "check_against_history",
    "config_digest",
    "config_schema",
    "load_project",
    "parse_project",
    "parse_scorecard",
]

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Project:
    """A configuration, where it was read, the folder of its data, and its digest.

    ``digest`` is the SHA-256 of the canonical JSON of the resolved configuration: defaults spelled out, keys
    sorted.
    """

    config: Config
    path: Path
    data_dir: Path
    digest: str


def load_project(path: Path, *, data: Path | None = None, overrides: Sequence[str] = ()) -> Project:
    """Read a YAML configuration file.

    ``data`` replaces the folder that relative source paths start from; each of ``overrides`` is
    ``key=value`` with a dotted key, the value read as YAML (``labels.horizons=[14d, 30d]``). Raises
    :class:`ConfigError`.
    """
    path = Path(path)
    return parse_project(_read_text(path), path=path, data=data, overrides=overrides)


def parse_project(
    content: str | Mapping[str, Any],
    *,
    path: Path | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
) -> Project:
    """Like :func:`load_project`, from YAML text or a mapping; relative paths start from ``path``'s folder,
    or here.

    >>> project = parse_project({
    ...     "name": "tiny", "sources": {"people": {"file": "people.csv"}},
    ...     "history": {"leads": {"source": "people", "attributes": {"city": "category"}}}})
    >>> str(project.config.labels.horizons[0]), len(project.digest)
    ('30d', 64)
    """
    label = str(path) if path is not None else "the configuration"
    folder = path.parent if path is not None else Path(".")
    raw = _parse_yaml(content, label) if isinstance(content, str) else _plain(content)
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{label} must be a mapping of keys to values; got {_kind(raw)}. Start with 'name: ...'."
        )
    for override in overrides:
        _apply_override(raw, override)
    raw = _with_scorecard_file(raw, folder, label)
    config = _validate(Config, raw, label)
    config = config.model_copy(update={"tracking": config.tracking.placed(folder)})
    data_dir = Path(data) if data is not None else folder / config.data
    return Project(config=config, path=path or Path("."), data_dir=data_dir, digest=config_digest(config))


def parse_scorecard(source: Path | str) -> ScorecardConfig:
    """A scorecard alone, from a YAML file (a Path) or YAML text (a str). Raises :class:`ConfigError`.

    >>> parse_scorecard("rules: [{kind: call, points: 5}]").rules[0].points
    5.0
    """
    label = str(source) if isinstance(source, Path) else "the scorecard"
    content = _parse_yaml(_read_text(source) if isinstance(source, Path) else source, label)
    if not isinstance(content, dict):
        raise ConfigError(f"{label} must be a mapping with 'rules'; got {_kind(content)}.")
    return _validate(ScorecardConfig, content, label)


def config_digest(config: BaseModel) -> str:
    """SHA-256 (hex) of a configuration's canonical JSON."""
    text = json.dumps(
        config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def section_yaml(name: str, content: Mapping[str, Any]) -> str:
    """A section of a configuration as YAML text, in the order of its keys.

    >>> print(section_yaml("tuning", {"minutes": 5.0}), end="")
    tuning:
      minutes: 5.0
    """
    return str(yaml.safe_dump({name: dict(content)}, sort_keys=False, allow_unicode=True))


def config_schema() -> dict[str, Any]:
    """The JSON schema of the configuration file, for editors and for ``convpredict config schema``."""
    schema = Config.model_json_schema(schema_generator=_Schema)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    file_reference = {
        "type": "object",
        "properties": {"file": {"type": "string", "description": "A YAML file, relative to this one"}},
        "required": ["file"],
        "additionalProperties": False,
    }
    schema["properties"]["scorecard"]["anyOf"].append(file_reference)
    return schema


class _Schema(GenerateJsonSchema):
    """JSON schema whose defaults are written as in YAML: durations as '30d'."""

    def encode_default(self, dft: Any) -> Any:
        return to_jsonable_python(dft, fallback=str)


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name the YAML file in it.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path(".")
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
        raise ConfigError(f"there is no configuration file {path}.{nearest(path.name, names)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not valid UTF-8 (byte {error.start}); save the configuration as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, which YAML would settle silently by the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"line {line}: the key {key_node.value!r} is not text; write it in quotes.")
            if key in seen and key != "<<":
                raise ConfigError(
                    f"line {line}: the key '{key}' appears twice (first in line {seen[key]}); "
                    "only one of them could count, so keep one."
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def _parse_yaml(text: str, label: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # _Loader is a SafeLoader
    except ConfigError as error:
        raise ConfigError(f"{label}, {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{label}{where} is not valid YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{label} is not valid YAML: {error}.") from None


def _plain(value: Any) -> Any:
    """A deep copy of mappings and sequences as dicts and lists, so that overrides never touch the caller's object."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(
            f"--set needs key=value with a dotted key, like labels.horizons=[30d]; got '{override}'."
        )
    value = _parse_yaml(text, f"--set {key}")
    target: Any = raw
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(target, list):
            if not part.isdigit() or int(part) >= len(target):
                raise ConfigError(
                    f"--set {key}: '{part}' is no position in '{'.'.join(parts[:depth])}', "
                    f"a list of {len(target)} (counted from 0)."
                )
            index: Any = int(part)
        elif isinstance(target, dict):
            index = part
            if not last and not isinstance(target.get(part), dict | list):
                target[part] = {}
        else:
            raise ConfigError(f"--set {key}: '{'.'.join(parts[:depth])}' is a single value and has no keys.")
        if last:
            target[index] = value
        else:
            target = target[index]


def _with_scorecard_file(raw: dict[str, Any], folder: Path, label: str) -> dict[str, Any]:
    card = raw.get("scorecard")
    if not isinstance(card, dict) or "file" not in card:
        return raw
    if set(card) != {"file"} or not isinstance(card["file"], str):
        raise ConfigError(f"{label}, scorecard: give either 'file: NAME.yaml' alone or the rules themselves.")
    path = folder / card["file"]
    if not path.is_file():
        raise ConfigError(
            f"{label}, scorecard.file: there is no file {path} (relative to the configuration file)."
        )
    parse_scorecard(path)
    return {**raw, "scorecard": _parse_yaml(_read_text(path), str(path))}


def _validate(model: type[_Model], raw: dict[str, Any], label: str) -> _Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = readable_errors(model, raw, error)
        if len(lines) == 1:
            raise ConfigError(f"{label}, {lines[0]}") from None
        raise ConfigError(
            f"{label} has {len(lines)} errors:\n" + "\n".join(f"  {line}" for line in lines)
        ) from None


def _kind(value: Any) -> str:
    return "an empty file" if value is None else f"a {type(value).__name__}"
