"""Validation errors in the user's words: key path, what was got, and the nearest valid key."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_REMEDY = {
    "string_type": "write it as text, in quotes if need be",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "tuple_type": "write a list, like [a, b]",
    "too_short": "give at least one entry",
    "missing": "add it",
}


def nearest(word: str, candidates: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest candidate, or nothing.

    >>> nearest("horizns", ["horizons", "split"])
    " Did you mean 'horizons'?"
    """
    close = difflib.get_close_matches(
        word.lower(), {name.lower(): name for name in candidates}, n=1, cutoff=0.6
    )
    if not close:
        return ""
    return f" Did you mean '{next(name for name in candidates if name.lower() == close[0])}'?"


def readable_errors(model: type[BaseModel], raw: Mapping[str, Any], error: ValidationError) -> list[str]:
    """One line per mistake, without the noise of the union members that were never meant."""
    kept: dict[tuple[Any, ...], list[str]] = {}
    entries = [entry for entry in error.errors(include_url=False) if not _follows_from_another(entry)]
    located = [(_split_location(raw, entry["loc"], entry["type"]), entry) for entry in entries]
    meant = [
        (path, entry)
        for (path, branches), entry in located
        if all(_meant(model, raw, prefix, branch) for prefix, branch in branches)
    ]
    for path, entry in meant or [(path, entry) for (path, _), entry in located]:
        message = _message(model, raw, path, entry)
        messages = kept.setdefault(path, [])
        if message not in messages:
            messages.append(message)
    return [_line(path, messages) for path, messages in kept.items()]


def _follows_from_another(entry: Any) -> bool:
    """A list counts as too short when its entries are invalid: only the entries' own errors help."""
    return entry["type"] == "too_short" and bool(entry["input"])


def _line(path: tuple[Any, ...], messages: list[str]) -> str:
    where = f"{format_path(path)}: " if path else ""
    return where + "; or: ".join(message.rstrip(".") for message in messages) + "."


def format_path(path: Iterable[Any]) -> str:
    """A key path as text.

    >>> format_path(("features", "declare", 2, "windows"))
    'features.declare[2].windows'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _split_location(
    raw: Any, location: tuple[Any, ...], kind: str
) -> tuple[tuple[Any, ...], list[tuple[tuple[Any, ...], str]]]:
    """Separate the keys of the file from the labels that pydantic adds for the members of a union."""
    path: list[Any] = []
    branches: list[tuple[tuple[Any, ...], str]] = []
    value = raw
    for position, part in enumerate(location):
        is_key = isinstance(value, Mapping) and part in value
        is_index = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        if is_key or is_index:
            value = value[part]
            path.append(part)
        elif kind == "missing" and position == len(location) - 1:
            path.append(part)
        elif part != "[key]":
            branches.append((tuple(path), str(part)))
    return tuple(path), branches


def _meant(model: type[BaseModel], raw: Any, path: tuple[Any, ...], branch: str) -> bool:
    """Whether the member of a union called ``branch`` is the one that the value at ``path`` was meant for."""
    members = _models_at(model, raw, path)
    if len(members) < 2 and not (members and isinstance(_value_at(raw, path), Mapping)):
        return True
    if not any(_is_branch(member, branch) for member in members):
        return not isinstance(_value_at(raw, path), Mapping)
    best = _best(members, _value_at(raw, path))
    return best is not None and _is_branch(best, branch)


def _is_branch(member: type[BaseModel], branch: str) -> bool:
    return branch in _tags(member) or re.search(rf"\b{member.__name__}\b", branch) is not None


def _message(model: type[BaseModel], raw: Any, path: tuple[Any, ...], entry: Any) -> str:
    kind = entry["type"]
    if kind == "extra_forbidden":
        owner = _best(_models_at(model, raw, path[:-1]), _value_at(raw, path[:-1]))
        keys = list(owner.model_fields) if owner else []
        return f"unknown key.{nearest(str(path[-1]), keys)} Valid keys here: {', '.join(keys)}."
    if kind == "missing":
        return "this required key is missing; add it."
    if kind == "union_tag_not_found":
        return f"the key {entry['ctx']['discriminator']} is missing; it says which kind of entry this is."
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in entry["ctx"]["expected_tags"].split(",")]
        return (
            f"got {entry['ctx']['tag']!r}.{nearest(entry['ctx']['tag'], tags)} Possible: {', '.join(tags)}."
        )
    if kind == "value_error":
        return f"{entry['ctx']['error']}."
    text = entry["msg"][0].lower() + entry["msg"][1:]
    remedy = f" ({_REMEDY[kind]})" if kind in _REMEDY else ""
    return f"{text}{remedy}; got {_show(path, entry['input'])}."


def _show(path: tuple[Any, ...], value: Any) -> str:
    text = repr(value)
    if "postgres_env" in path or "://" in text:
        return "a value that is not shown here"
    return text if len(text) <= 80 else text[:77] + "..."


def _value_at(raw: Any, path: Iterable[Any]) -> Any:
    for part in path:
        raw = raw[part]
    return raw


def _best(members: list[type[BaseModel]], value: Any) -> type[BaseModel] | None:
    """The model whose declared tag or keys fit the value best; an almost right key counts nearly as much."""
    if not members or not isinstance(value, Mapping):
        return members[0] if len(members) == 1 else None

    def fit(member: type[BaseModel]) -> float:
        fields = member.model_fields
        tags = _tags(member)
        points = 10.0 if any(value.get("family") == tag for tag in tags) else 0.0
        for key in value:
            close = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.75)
            points += 1.0 if key in fields else 0.9 if close else -0.1
        return points - 0.01 * sum(
            field.is_required() and name not in value for name, field in fields.items()
        )

    return max(members, key=fit)


def _tags(member: type[BaseModel]) -> tuple[str, ...]:
    field = member.model_fields.get("family")
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _models_at(model: type[BaseModel], raw: Any, path: tuple[Any, ...]) -> list[type[BaseModel]]:
    """The models that the value at ``path`` may become."""
    annotations: list[Any] = [model]
    value = raw
    for part in path:
        models = [entry for annotation in annotations for entry in _members(annotation, "model")]
        best = _best(models, value)
        if best is not None and part in best.model_fields:
            annotations = [best.model_fields[part].annotation]
        else:
            annotations = [entry for annotation in annotations for entry in _members(annotation, "item")]
        value = value[part] if not isinstance(value, Mapping) or part in value else None
    return [entry for annotation in annotations for entry in _members(annotation, "model")]


def _members(annotation: Any, what: Literal["model", "item"]) -> list[Any]:
    """The models in an annotation, or the annotations of the items of its containers."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(arguments[0], what)
    if origin in (Union, types.UnionType):
        return [entry for argument in arguments for entry in _members(argument, what)]
    if origin in (tuple, list):
        return [argument for argument in arguments if argument is not Ellipsis] if what == "item" else []
    if origin is dict:
        return [arguments[1]] if what == "item" else []
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if what == "model" and is_model else []
