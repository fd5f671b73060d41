"""What a run records, as plain typed values; pure code yields them and :meth:`.runs.Run.log` writes them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from convpredict.config.base import Strict

LONGEST_PARAM = 6000
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")


class Drawable(Protocol):
    """A figure that can save itself, as matplotlib's do."""

    def savefig(self, fname: Any, **options: Any) -> Any:
        """Write the figure to a file."""


@dataclass(frozen=True)
class Param:
    """A setting, written as text."""

    name: str
    value: str


@dataclass(frozen=True)
class Metric:
    """A finite number."""

    name: str
    value: float


@dataclass(frozen=True)
class Tag:
    """A label that runs can be searched by."""

    name: str
    value: str


@dataclass(frozen=True)
class Artifact:
    """A file or a folder that exists; ``folder`` is where it goes among the artifacts ("" for the top).

    A file keeps its name below ``folder``; a folder's content goes into ``folder``.
    """

    path: Path
    folder: str = ""


@dataclass(frozen=True)
class Text:
    """A text file, by its path among the artifacts."""

    file: str
    text: str


@dataclass(frozen=True)
class Json:
    """A JSON file, by its path among the artifacts; keys keep their order."""

    file: str
    content: Any


@dataclass(frozen=True)
class Plot:
    """A figure, by its path among the artifacts (``plots/gain.png``)."""

    file: str
    figure: Drawable


Item = Param | Metric | Tag | Artifact | Text | Json | Plot


def config_items(config: Strict) -> Iterator[Item]:
    """The configuration as ``config.json`` and as one parameter per leaf, named by its path.

    Lists are written as JSON in one parameter; a value beyond MLflow's 6,000 characters is cut there, whole
    only in ``config.json``.

    >>> from convpredict.config.training import EvaluationConfig
    >>> [item for item in config_items(EvaluationConfig()) if isinstance(item, Param)][0]
    Param(name='resamples', value='500')
    """
    content = config.model_dump(mode="json")
    yield Json("config.json", content)
    for name, value in _leaves(content):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield Param(_NOT_IN_NAMES.sub("_", name)[:250], text[:LONGEST_PARAM])


def metric_items(metrics: Mapping[str, Any]) -> Iterator[Item]:
    """The numbers of ``metrics.json`` as metrics, and the file itself.

    A value is named ``test/model/auc``, its interval ``test/model/auc_low`` and ``test/model/auc_high``;
    counts are ``test/counts/rows``. What is undefined stands in the file only.

    >>> entry = {"value": .8, "low": .7, "high": None}
    >>> [item.name for item in metric_items({"test": {"model": {"auc": entry}}}) if isinstance(item, Metric)]
    ['test/model/auc', 'test/model/auc_low']
    """
    yield Json("metrics.json", metrics)
    for path, value in _leaves(metrics, separator="/"):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            head, _, end = path.rpartition("/")
            name = head if end == "value" else f"{head}_{end}" if end in ("low", "high") else path
            yield Metric(_NOT_IN_NAMES.sub("_", name), float(value))


def _leaves(
    content: Mapping[str, Any], prefix: str = "", *, separator: str = "."
) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}{separator}", separator=separator)
        else:
            yield f"{prefix}{key}", value
