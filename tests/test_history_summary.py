"""The summary that a person reads after ``convpredict check``."""

from __future__ import annotations

import io
import json

import pyarrow as pa
from rich.console import Console

from convpredict.config.history import ValidationConfig
from convpredict.history.frames import history_from_frames
from convpredict.history.summary import render_report
from convpredict.history.validation import ValidationReport


def report() -> ValidationReport:
    history = history_from_frames(
        leads=pa.table(
            {"lead_id": ["a", "b", "a"], "created_at": ["2024-01-01", "2024-01-02", "2024-01-01"]}
        ),
        interactions=pa.table(
            {
                "lead_id": ["a"] * 14 + ["x", "a"],
                "occurred_at": ["2024-01-03"] * 15 + ["never"],
                "kind": [f"kind {n:02}" for n in range(14)] + ["k", "k"],
            }
        ),
        conversions=pa.table({"lead_id": ["a", "b"], "converted_at": ["2024-02-01", None]}),
        timezone="UTC",
        validation=ValidationConfig(max_bad_share=0.5),
    )
    assert history.report is not None
    return history.report


def test_the_summary_shows_rows_spans_outcomes_kinds_and_reasons() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(render_report(report(), title="Sound?"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in (
        "Sound?",
        "2 (12.5%)",
        "2024-01-03",
        "2 leads, 1 converted (and 1 at an unknown date): 100.00%. Known until 2024-02-01 00:00 UTC.",
        "2 more",
        "unknown lead",
        "occurred_at cannot be read as a time",
        "exact duplicate, removed",
        "conversions: 1 undated (converted, nobody knows when)",
        "! history.known_until is not declared; taken as the latest time seen, 2024-02-01 00:00 UTC in conversions.",
    ):
        assert part in text, text
    assert text.index("interactions") < text.index("conversions")


def test_the_report_is_plain_data() -> None:
    content = json.loads(json.dumps(report().to_dict()))
    assert content["tables"]["leads"] == {
        "read": 3,
        "accepted": 2,
        "duplicates": 1,
        "quarantined": {},
        "notes": {},
        "first": "2024-01-01T00:00:00+00:00",
        "last": "2024-01-02T00:00:00+00:00",
        "file": None,
    }
    assert content["known_until"] == "2024-02-01T00:00:00+00:00"
