"""A feature set: declarations, the vocabularies that were learnt for them, and the columns that follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, TypeVar

from pydantic import ValidationError

from convpredict.config.base import Duration, Strict
from convpredict.config.features import AttributeFeature, Feature, FeaturesConfig, SplitFeature
from convpredict.errors import BundleError, ConfigError
from convpredict.history.history import AttributeType, History
from convpredict.history.notebook_view import paragraph_html, table_html

from .columns import columns_of, columns_of_all, meaning_of
from .declaration_checks import check_declaration, column_uses, nearest
from .declarations import FeatureColumn
from .default_set import default_declarations
from .vocabulary import ColumnKey, Vocabularies, column_types, learn_vocabularies

FORMAT = 1
Value = TypeVar("Value")


@dataclass(frozen=True)
class FeatureSet:
    """Everything needed to build the same columns again: declarations, frozen vocabularies, names.

    ``columns`` are all columns that are built; ``model_columns`` those that a model learns from: without the
    ones that only a scorecard needs. Sets with the same content are equal, and have the same ``digest``.

    Nothing about rates and loads across leads is frozen but their declarations: they are point-in-time
    features of a history, so scoring computes them from the history as it is then.
    """

    declarations: tuple[Feature, ...]
    vocabularies: Vocabularies
    columns: tuple[FeatureColumn, ...] = field(repr=False)
    scorecard_only: frozenset[str] = frozenset()

    @classmethod
    def declare(cls, declarations: Sequence[Feature], vocabularies: Vocabularies) -> FeatureSet:
        """A set of all columns of some declarations, with given vocabularies."""
        return cls._assemble(tuple(declarations), vocabularies, None, ())

    @classmethod
    def fit(
        cls,
        history: History,
        config: FeaturesConfig,
        *,
        until: datetime,
        horizon: Duration,
        extra: Sequence[Feature] = (),
    ) -> FeatureSet:
        """Learn the vocabularies from what was known before ``until`` and settle which columns there are.

        ``horizon`` is the span of the default conversion rates across leads; ``extra`` are declarations that
        a scorecard needs: built, but kept from the model unless the configuration has them too.

        Raises ConfigError for a declaration that does not fit the history, for an exclusion that matches
        nothing, and for a set without columns.
        """
        stated = (*config.declare, *extra)
        types = Vocabularies({}, column_types(history))
        for declaration in stated:
            check_declaration(declaration, types)
        vocabularies = learn_vocabularies(
            history,
            until=until,
            max_values=config.max_values,
            min_count=config.min_count,
            columns=None if config.default else _coded(stated, types),
            named=_named_values(stated),
        )
        wanted = config.declare
        if config.default:
            wanted = (*default_declarations(history, vocabularies, until=until, horizon=horizon), *wanted)
        kept = _exclude([column.name for column in columns_of_all(wanted, vocabularies)], config.exclude)
        if not kept:
            raise ConfigError(
                "the feature set has no columns, so there is nothing to learn from; set features.default: "
                "true, declare features under features.declare, or exclude fewer"
            )
        return cls._assemble((*wanted, *extra), vocabularies, kept, extra)

    @classmethod
    def _assemble(
        cls,
        declarations: Sequence[Feature],
        vocabularies: Vocabularies,
        model_names: Collection[str] | None,
        extra: Sequence[Feature],
    ) -> FeatureSet:
        columns = columns_of_all(declarations, vocabularies)
        model = set(model_names) if model_names is not None else {column.name for column in columns}
        needed = {meaning_of(column) for column in columns_of_all(extra, vocabularies)}
        built = tuple(column for column in columns if column.name in model or meaning_of(column) in needed)
        uses = {use for declaration in declarations for _, use, _ in column_uses(declaration)}
        return cls(
            declarations=tuple(dict.fromkeys(declarations)),
            vocabularies=vocabularies.restrict(_coded(declarations, vocabularies), uses),
            columns=built,
            scorecard_only=frozenset(column.name for column in built if column.name not in model),
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all columns that are built, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def model_columns(self) -> tuple[FeatureColumn, ...]:
        """The columns that a model learns from: all but those that only the scorecard needs."""
        return tuple(column for column in self.columns if column.name not in self.scorecard_only)

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Names of the columns that a model learns from, in order."""
        return tuple(column.name for column in self.model_columns)

    @cached_property
    def interaction_attributes_needed(self) -> tuple[str, ...]:
        """Attributes of the interactions that have to be read, beside the kind."""
        uses = {use for column in self.columns for _, use, _ in column_uses(column.declaration)}
        return tuple(sorted(name for table, name in uses if table == "interactions" and name != "kind"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal digests mean the same columns with the same vocabularies."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def column(self, name: str) -> FeatureColumn:
        """The column of a name; an unknown one is a ConfigError that names the nearest."""
        found = self._by_name.get(name)
        if found is None:
            raise ConfigError(f"the feature set has no column '{name}'; {nearest(name, self.names)}")
        return found

    def label(self, name: str) -> str:
        """Human label of a column."""
        return self.column(name).label

    def columns_for(self, declaration: Feature) -> tuple[FeatureColumn, ...]:
        """The columns of this set that a declaration describes, under the names that they have here."""
        wanted = [meaning_of(column) for column in columns_of(declaration, self.vocabularies)]
        here = {meaning_of(column): column for column in self.columns}
        return tuple(here[meaning] for meaning in wanted if meaning in here)

    def check_history(self, history: History) -> None:
        """Raise BundleError if a history lacks a column that is read, or has it in another type."""
        types = column_types(history)
        uses = {use for column in self.columns for _, use, _ in column_uses(column.declaration)}
        for table, name in sorted(uses):
            wanted, found = self.vocabularies.type_of((table, name)), types.get((table, name))
            if found != wanted:
                has = "has no such attribute" if found is None else f"has it as a {found}"
                raise BundleError(
                    f"the features read '{name}' of the {table} as a {wanted}, but the history {has}, so "
                    "they cannot be computed; declare it in the configuration, or train again without it"
                )

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one line per entry, everything that :meth:`from_json` needs."""
        document = _Document(
            format=FORMAT,
            declarations=self.declarations,
            vocabularies=_nest(self.vocabularies.values_by_column),
            types=_nest(self.vocabularies.types),
            columns=self.names,
            scorecard_only=tuple(sorted(self.scorecard_only)),
        )
        return (
            json.dumps(document.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> FeatureSet:
        """Read :meth:`to_json` back; raises BundleError for anything this version does not understand."""
        document = _read_document(text)
        vocabularies = Vocabularies(_flatten(document.vocabularies), _flatten(document.types))
        try:
            columns = {column.name: column for column in columns_of_all(document.declarations, vocabularies)}
            built = tuple(columns[name] for name in document.columns)
        except (ConfigError, KeyError) as error:
            raise BundleError(
                f"the feature set is damaged: its columns do not follow from its declarations ({error}), so "
                "it would compute something else than it was trained on; export the bundle again"
            ) from None
        unknown = set(document.scorecard_only) - set(document.columns)
        if unknown or len(set(document.columns)) < len(document.columns):
            raise BundleError(
                "the feature set is damaged: its list of columns contradicts itself; export the bundle again"
            )
        return cls(document.declarations, vocabularies, built, frozenset(document.scorecard_only))

    def __len__(self) -> int:
        return len(self.columns)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        width = max((len(name) for name in self.names), default=0)
        lines = [f"  {column.name:<{width}}  {column.label}" for column in self.columns]
        return "\n".join(
            [f"FeatureSet with {len(self)} columns ({len(self.model_columns)} for the model)", *lines]
        )

    def _repr_html_(self) -> str:
        heads = ("name", "label", "unit", "concept", "type")
        rows = [
            (column.name, column.label, column.unit, column.concept, column.type) for column in self.columns
        ]
        told = paragraph_html(f"{len(self)} columns, {len(self.model_columns)} of them for the model")
        return told + table_html(heads, rows, text_columns=range(len(heads)))

    @cached_property
    def _by_name(self) -> dict[str, FeatureColumn]:
        return {column.name: column for column in self.columns}


class _Document(Strict):
    """What is written: the format's number first, so that a later format is recognised as such."""

    format: Literal[1]
    declarations: tuple[Feature, ...]
    vocabularies: dict[str, dict[str, tuple[str, ...]]]
    types: dict[str, dict[str, AttributeType]]
    columns: tuple[str, ...]
    scorecard_only: tuple[str, ...]


def _read_document(text: str) -> _Document:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BundleError(
            f"the feature set is not JSON ({error}), so nothing can be computed from it; export it again"
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"the feature set has format {found!r}, and this version of convpredict reads {FORMAT}; "
            "use the version that wrote it, or train again"
        )
    try:
        return _Document.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"the feature set has something at '{place}' that this version does not understand "
            f"({first['msg']}), so it might compute something else than it was trained on; use the version "
            "that wrote it, or train again"
        ) from None


def _coded(declarations: Collection[Feature], vocabularies: Vocabularies) -> set[ColumnKey]:
    """The columns whose vocabulary is needed; distinct values, rates and loads use the raw values."""
    coded: set[ColumnKey] = set()
    for declaration in declarations:
        if declaration.family in ("distinct", "rate", "load"):
            continue
        for _, use, _ in column_uses(declaration):
            if vocabularies.type_of(use) == "category":
                coded.add(use)
    return coded


def _named_values(declarations: Collection[Feature]) -> dict[ColumnKey, set[str]]:
    """The values that declarations name, which keep a place in the vocabulary however rare they are."""
    named: dict[ColumnKey, set[str]] = {}
    for declaration in declarations:
        if isinstance(declaration, SplitFeature) and declaration.by is not None:
            named.setdefault(("interactions", declaration.by), set()).update(declaration.values)
        elif isinstance(declaration, AttributeFeature):
            named.setdefault(("leads", declaration.attribute), set()).update(declaration.values)
    return named


def _exclude(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that no pattern matches; a pattern without a match is an error."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"features.exclude has '{pattern}', which matches no column, so it excludes nothing; "
                f"{nearest(pattern, names)}"
            )
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def _nest(flat: Mapping[ColumnKey, Value]) -> dict[str, dict[str, Value]]:
    nested: dict[str, dict[str, Value]] = {"interactions": {}, "leads": {}}
    for (table, column), value in flat.items():
        nested[table][column] = value
    return nested


def _flatten(nested: Mapping[str, Mapping[str, Value]]) -> dict[ColumnKey, Value]:
    return {(table, column): value for table, columns in nested.items() for column, value in columns.items()}
