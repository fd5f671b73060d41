"""How objects show themselves in a notebook: paragraphs and tables as HTML, with every text escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

_LEFT = " style='text-align:left'"


def paragraph_html(text: str) -> str:
    """One paragraph.

    >>> paragraph_html("a < b")
    '<p>a &lt; b</p>'
    """
    return f"<p>{escape(text)}</p>"


def list_html(texts: Iterable[str]) -> str:
    """A list of sentences; nothing for none.

    >>> list_html(["a", "b"]), list_html([])
    ('<ul><li>a</li><li>b</li></ul>', '')
    """
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table_html(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: Collection[int] = (0,)
) -> str:
    """A table; whole numbers get thousands separators, None is empty, and ``text_columns`` stand to the left.

    >>> print(table_html(["kind", "rows"], [["<b>", 1200]]).replace(" style='text-align:left'", ""))
    <table><thead><tr><th>kind</th><th>rows</th></tr></thead><tbody><tr><td>&lt;b&gt;</td><td>1,200</td></tr></tbody></table>
    """
    side = [_LEFT if place in text_columns else "" for place in range(len(heads))]
    head = "".join(f"<th{at}>{escape(text)}</th>" for at, text in zip(side, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{at}>{escape(_text(cell))}</td>" for at, cell in zip(side, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(facts: Mapping[str, object]) -> str:
    """Names and what they are, one a line, without those that are None.

    >>> print(facts_html({"leads": 12, "value": None}).replace(" style='text-align:left'", ""))
    <table><tbody><tr><th>leads</th><td>12</td></tr></tbody></table>
    """
    body = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(_text(fact))}</td></tr>"
        for name, fact in facts.items()
        if fact is not None
    )
    return f"<table><tbody>{body}</tbody></table>"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
