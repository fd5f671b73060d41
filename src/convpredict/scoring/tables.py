"""Score tables for people."""

from __future__ import annotations

from rich.table import Table

from .scores import Scores


def hottest_table(scores: Scores, top: int) -> Table:
    """The ``top`` most likely leads as a table for a terminal: rank, lead, probability, points and grade."""
    shown = scores.table.slice(0, top)
    horizon = scores.probability_column.removeprefix("p_convert_")
    table = Table(title=f"The {shown.num_rows} hottest leads", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("lead")
    table.add_column(f"converts within {horizon}", justify="right")
    with_points = "scorecard_points" in shown.column_names
    if with_points:
        table.add_column("scorecard points", justify="right")
        table.add_column("scorecard grade")
    for row in shown.to_pylist():
        cells = [str(row["rank"]), str(row["lead_id"]), f"{100 * row[scores.probability_column]:.1f} %"]
        if with_points:
            cells += [f"{row['scorecard_points']:.0f}", row["scorecard_grade"]]
        table.add_row(*cells)
    return table
