"""Score tables for people."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc
from rich.markup import escape
from rich.table import Table

from ..models.scorecard import NO_GRADE
from .scores import Scores


def hottest_table(scores: Scores, top: int) -> Table:
    """The ``top`` most likely leads as a table for a terminal: rank, lead, probability, expected value, points, grade,
    main reason.

    Grades are there if any lead of the list has one. The reason is the strongest one for the lead; where there is
    none, the strongest against it, in brackets.
    """
    shown = scores.table.slice(0, top)
    horizon = scores.probability_column.removeprefix("p_convert_")
    table = Table(title=f"The {shown.num_rows} hottest leads", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("lead")
    table.add_column(f"converts in {horizon}", justify="right")
    with_value = "expected_value" in shown.column_names
    if with_value:
        table.add_column("expected value", justify="right")
    with_points = "scorecard_points" in shown.column_names
    if with_points:
        table.add_column("points", justify="right")
    with_grades = with_points and pc.any(pc.not_equal(scores.table["scorecard_grade"], NO_GRADE)).as_py()
    if with_grades:
        table.add_column("grade")
    with_reasons = "reasons_for" in shown.column_names
    if with_reasons:
        table.add_column("main reason", ratio=1, overflow="fold")
    for row in shown.to_pylist():
        cells = [str(row["rank"]), str(row["lead_id"]), f"{100 * row[scores.probability_column]:.1f} %"]
        if with_value:
            cells.append(_amount(row["expected_value"]))
        if with_points:
            cells.append(f"{row['scorecard_points']:.0f}")
        if with_grades:
            cells.append(row["scorecard_grade"])
        if with_reasons:
            cells.append(_main_reason(row["reasons_for"], row["reasons_against"]))
        table.add_row(*cells)
    return table


def _amount(amount: float | None) -> str:
    """An amount of money: whole from 100 on."""
    if amount is None or amount != amount:
        return ""
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:,.2f}"


def _main_reason(reasons_for: Sequence[str] | None, reasons_against: Sequence[str] | None) -> str:
    if reasons_for:
        return escape(reasons_for[0])
    return escape(f"({reasons_against[0]})") if reasons_against else ""
