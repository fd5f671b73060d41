"""Whether a declaration fits the columns that the history has: unknown names and wrong types are errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from convpredict.config.features import (
    AggregateFeature,
    AttributeFeature,
    DistinctFeature,
    Feature,
    LastKindsFeature,
    LoadFeature,
    RateFeature,
    SplitFeature,
    TopicFeature,
)
from convpredict.errors import ConfigError

from .vocabulary import ColumnKey, Vocabularies

_REMEDY = {
    "category": "name a category, or declare the attribute with 'type: category'",
    "number": "name a number, or declare the attribute with 'type: number'",
}


def column_uses(declaration: Feature) -> Iterator[tuple[str, ColumnKey, str | None]]:
    """The columns that a declaration reads: parameter, column, and the type it must have (``None``: any).

    >>> list(column_uses(TopicFeature(of="page")))
    [('of', ('interactions', 'page'), 'category')]
    """
    if isinstance(declaration, SplitFeature) and declaration.by is not None:
        yield "by", ("interactions", declaration.by), "category"
    if isinstance(declaration, AggregateFeature):
        yield "attribute", ("interactions", declaration.attribute), "number"
    elif isinstance(declaration, DistinctFeature) and declaration.of == "active_days":
        return
    elif isinstance(declaration, DistinctFeature | LastKindsFeature | TopicFeature):
        yield "of", ("interactions", declaration.of), "category"
    elif isinstance(declaration, AttributeFeature):
        yield "attribute", ("leads", declaration.attribute), "category" if declaration.values else None
    elif isinstance(declaration, RateFeature):
        for key in declaration.keys:
            yield "keys", ("leads", key), "category"
    elif isinstance(declaration, LoadFeature):
        yield "key", ("leads", declaration.key), "category"


def check_declaration(declaration: Feature, vocabularies: Vocabularies) -> None:
    """Raise ConfigError if a declaration reads a column that does not exist or is of another type.

    >>> vocabularies = Vocabularies({("interactions", "kind"): ("call",)})
    >>> check_declaration(TopicFeature(of="knd"), vocabularies)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    convpredict.errors.ConfigError: a 'topic' feature has of: knd, but the interactions have ...
    """
    for parameter, (table, column), needed in column_uses(declaration):
        found = vocabularies.type_of((table, column))
        what = f"a '{declaration.family}' feature has {parameter}: {column}"
        if found is None:
            known = sorted({name for owner, name in (*vocabularies, *vocabularies.types) if owner == table})
            raise ConfigError(f"{what}, but the {table} have no such column; {nearest(column, known)}")
        if needed is not None and found != needed:
            raise ConfigError(
                f"{what}, which is a {found} in the {table}, and this needs a {needed}; {_REMEDY[needed]}"
            )


def nearest(name: str, known: Collection[str]) -> str:
    """A sentence that points from a misspelt name to the likely one, or lists what there is.

    >>> nearest("sorce", ("source", "campaign"))
    "did you mean 'source'? There are: campaign, source"
    """
    close = get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    listed = ", ".join(sorted(known)[:20]) or "none"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    question = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    return f"{question}There are: {listed}{more}"
