"""Commands on what the ledger knows: explain, mis-scored, forget."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import ConfigError
from .app import AsJson, ConfigPath, DataDir, Overrides, app, parse_instant, progress_bar, show

if TYPE_CHECKING:
    from ..config.reasons import Locale

_LOCALES = ("en", "de", "nl", "sv")
_DATE = len("2025-06-01")
BundleDir = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle folder, for nights scored with one instead of the registry."),
]


@app.command(short_help="Why a lead had its score on a day, reproduced exactly.")
def explain(
    config: ConfigPath,
    lead: Annotated[str, typer.Argument(help="The lead's id.", show_default=False)],
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            help="Day or instant, ISO 8601: the latest published night up to then. Default: the last.",
        ),
    ] = None,
    locale: Annotated[str | None, typer.Option(help="Language of the reasons: en, de, nl or sv.")] = None,
    bundle: BundleDir = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Why a lead had the score that was published: reproduced to the bit from data and model of that night."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        found = workflows.explain(
            config,
            lead,
            as_of=_end_of_day(as_of),
            locale=_locale(locale),
            bundle=bundle,
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, default=str))
    else:
        typer.echo(found.text)


@app.command("mis-scored", short_help="The worst misses of past nights, with their reasons.")
def mis_scored(
    config: ConfigPath,
    nights: Annotated[
        int | None,
        typer.Option(min=1, help="The latest so many nights whose outcomes are known. Default: all."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many misses of either kind.")] = 20,
    by: Annotated[str, typer.Option(help="Rank by log 'loss' or by 'value'.")] = "loss",
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write.")] = None,
    bundle: BundleDir = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """The worst misses of past nights: cold leads that bought, hot ones that did not, and which concepts misled."""
    from .. import workflows

    with progress_bar("reading", quiet=as_json) as report:
        found = workflows.find_mis_scored(
            config,
            nights=nights,
            top=top,
            by=by,
            out=out,
            bundle=bundle,
            data=data,
            overrides=overrides or (),
            progress=report,
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, default=str))
    else:
        show(*_miss_tables(found.report.rows))
        typer.echo(found.text)


@app.command(short_help="Erase leads from everything that was written, and prove it.")
def forget(
    config: ConfigPath,
    leads: Annotated[list[str], typer.Argument(help="Ids of the leads to erase.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--also", help="A further folder or file of results and scores to erase from. May be repeated."
        ),
    ] = None,
    data: DataDir = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Erase leads from ledger, published scores, unfinished work, quarantine, training sets and MLflow; prove it by a
    search. Exit code 1 if anything is left."""
    from .. import workflows

    if not yes:
        if not sys.stdin.isatty() or as_json:
            raise ConfigError("erasing cannot be undone; add --yes to do it without being asked")
        typer.confirm(
            f"Erase {len(leads)} lead(s) from everything that was written? This cannot be undone.", abort=True
        )
    with progress_bar("erasing", quiet=as_json) as report:
        done = workflows.forget(
            config, leads, also=also or (), data=data, overrides=overrides or (), progress=report
        )
    typer.echo(json.dumps(done.to_dict(), ensure_ascii=False, default=str) if as_json else done.text)
    if done.leftovers:
        raise typer.Exit(1)


def _end_of_day(text: str | None) -> datetime | None:
    """An instant; a bare day stands for its end, so that the night of that day counts."""
    instant = parse_instant(text, "--as-of")
    if instant is None or text is None or len(text.strip()) != _DATE:
        return instant
    return instant + timedelta(days=1, microseconds=-1)


def _locale(text: str | None) -> Locale | None:
    if text is None or text in _LOCALES:
        return cast("Locale | None", text)
    raise ConfigError(f"--locale must be one of {', '.join(_LOCALES)}; got '{text}'")


def _miss_tables(rows: tuple[dict[str, Any], ...]) -> list[Any]:
    """A table for either kind of miss."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    tables: list[Any] = []
    for miss, title, told in (
        ("cold_bought", "Cold leads that bought", "reasons_against"),
        ("hot_did_not", "Hot leads that did not", "reasons_for"),
    ):
        listed = [row for row in rows if row["miss"] == miss]
        if not listed:
            continue
        with_value = any(row["value"] is not None for row in listed)
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in (
            "lead",
            "night",
            "probability",
            "rank",
            "bought after",
            *(("value",) if with_value else ()),
        ):
            table.add_column(name, justify="left" if name in ("lead", "night") else "right")
        table.add_column("because", ratio=1, overflow="fold")
        for row in listed:
            after = row["converted_after_days"]
            cells = [
                escape(row["lead_id"]),
                f"{row['cutoff']:%Y-%m-%d}",
                f"{100 * row['p']:.2f} %",
                f"{row['rank']:,} of {row['leads']:,}",
                "-" if after is None else f"{after:.0f} d",
            ]
            if with_value:
                cells.append("-" if row["value"] is None else f"{row['value']:,.0f}")
            table.add_row(*cells, escape("; ".join(row[told] or ()) or "-"))
        tables.append(table)
    return tables
