"""The log of a run: lines that machines read, fields that may stand in them, and streams that go away."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from convpredict.cli import main
from convpredict.scoring.run_log import REFUSED, JsonLines, RunLog

NOW = datetime(2025, 6, 1, 2, 0, 0, 5_000, tzinfo=UTC)


def lines_of(*, as_json: bool = True, run_id: str = "demo-20250601T020000Z", **fields: Any) -> list[Any]:
    stream = io.StringIO()
    RunLog(as_json, stream, run_id=run_id, clock=lambda: NOW).event("scored", **fields)
    lines = stream.getvalue().splitlines()
    return [json.loads(line) for line in lines] if as_json else lines


def test_a_json_line_has_time_level_event_run_and_fields() -> None:
    assert lines_of(leads=12, seconds=3.25, explained=None, resumed=True) == [
        {
            "time": "2025-06-01T02:00:00.005Z",
            "level": "info",
            "event": "scored",
            "run_id": "demo-20250601T020000Z",
            "leads": 12,
            "seconds": 3.25,
            "explained": None,
            "resumed": True,
        }
    ]


def test_a_text_line_quotes_what_has_spaces() -> None:
    assert lines_of(as_json=False, message="no calls since Tuesday", key="ab12") == [
        "2025-06-01T02:00:00.005Z info scored run_id=demo-20250601T020000Z "
        'message="no calls since Tuesday" key=ab12'
    ]


def test_a_run_named_with_the_event_counts() -> None:
    stream = io.StringIO()
    log = RunLog(False, stream, clock=lambda: NOW)
    log.event("begun")
    log.of_run("demo-1").event("begun", run_id="demo-2")
    log.of_run("demo-1").event("begun")
    begun = "2025-06-01T02:00:00.005Z info begun"
    assert stream.getvalue().splitlines() == [begun, f"{begun} run_id=demo-2", f"{begun} run_id=demo-1"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "value",
    ["Jo Doe", "jo@example.com", "line\nbreak", "x" * 201, {"lead": 1}, b"bytes", object(), "Müller & Co"],
)
def test_what_is_no_id_count_or_duration_is_refused(as_json: bool, value: Any) -> None:
    shown = json.dumps(lines_of(as_json=as_json, company=value)[0])
    assert REFUSED in shown
    assert not isinstance(value, str) or value not in shown


def test_numbers_of_every_sort_instants_and_lists_are_told() -> None:
    (line,) = lines_of(
        rows=np.int64(3),
        share=np.float64(1 / 3),
        worst=float("nan"),
        cutoff=NOW,
        differs=["data", "Jo Doe", 1],
    )
    assert line["rows"] == 3
    assert line["share"] == 0.333333
    assert line["worst"] == "nan"
    assert line["cutoff"] == "2025-06-01T02:00:00.005000+00:00"
    assert line["differs"] == ["data", REFUSED, 1]


@pytest.mark.parametrize(
    ("event", "fields", "level"),
    [
        ("gate", {"verdict": "stop"}, "error"),
        ("gate", {"verdict": "warn"}, "warning"),
        ("gate", {"verdict": "pass"}, "info"),
        ("failed", {}, "error"),
        ("published", {"exit_code": 0}, "info"),
        ("published", {"exit_code": 12}, "error"),
        ("monitoring_failed", {}, "error"),
    ],
)
def test_the_level_follows_from_what_happened(event: str, fields: dict[str, Any], level: str) -> None:
    stream = io.StringIO()
    RunLog(True, stream).event(event, **fields)
    RunLog(True, stream).event(event, level="info", **fields)
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == [level, "info"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.text(), st.dictionaries(st.sampled_from(["a", "message", "time", "event", "level_"]), anything))
def test_whatever_is_logged_is_one_line_that_can_be_read_back(event: str, fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    RunLog(True, stream, clock=lambda: NOW).event(event, **fields)
    RunLog(False, stream, clock=lambda: NOW).event(event, **fields)
    as_json, as_text = stream.getvalue().split("\n")[:-1]
    assert json.loads(as_json)["time"] == "2025-06-01T02:00:00.005Z"
    assert as_text.startswith("2025-06-01T02:00:00.005Z ")


def test_a_clock_set_back_or_a_field_that_breaks_does_not_raise() -> None:
    class Broken:
        def item(self) -> None:
            raise RuntimeError("no")

    stream = io.StringIO()
    times = iter([NOW, NOW, NOW - timedelta(days=1)])
    log = RunLog(True, stream, clock=lambda: next(times))
    log.event("scored", rows=Broken())
    log.event("later")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["error"]) == ("log_line_lost", "RuntimeError")
    assert second["event"] == "later"


def test_a_closed_stream_loses_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    log = RunLog(True, stream)
    stream.close()
    log.event("scored", leads=1)
    RunLog(True, None).event("scored")


def test_a_reader_that_goes_away_leaves_the_exit_code_alone() -> None:
    script = """
import sys, time
from convpredict.scoring.run_log import RunLog
log = RunLog(True, sys.stderr)
log.event("begun")
sys.stdin.readline()
for n in range(2000):
    log.event("bucket", bucket=n)
print("end")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["event"] == "begun"
    process.stderr.close()
    process.stderr = None
    told, _ = process.communicate("go\n", timeout=60)
    assert told == "end\n"
    assert process.returncode == 0


def test_lines_that_are_no_json_become_json() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    RunLog(True, lines).event("scored", leads=3)
    lines.write("half a ")
    assert len(stream.getvalue().splitlines()) == 1
    lines.writelines(["line\nand ", "another\n", "\n", '["no object"]\n', '{"event": "own"}\n', "the end"])
    lines.finish()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in told] == ["scored", "text", "text", "text", "own", "text"]
    texts = [each["message"] for each in told if each["event"] == "text"]
    assert texts == ["half a line", "and another", '["no object"]', "the end"]
    with pytest.raises(TypeError, match="text is written here, not bytes"):
        lines.write(b"bytes")


def ran(script: str) -> tuple[int, list[dict]]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_warnings_logs_and_tracebacks_become_json_too() -> None:
    code, told = ran(
        """
import logging, typer, warnings
from convpredict.cli.app import write_errors_as_json
write_errors_as_json()
warnings.warn("beware")
logging.getLogger("library").warning("retrying")
typer.echo("said: by click", err=True)
raise ValueError("not expected")
"""
    )
    assert code == 1
    assert {each["event"] for each in told} == {"text"}
    messages = [each["message"] for each in told]
    for text in ("UserWarning: beware", "retrying", "said: by click", "ValueError: not expected"):
        assert any(text in message for message in messages), text


LATER = "2999-01-01"
"""A cutoff that lies ahead is an error of the call, found before anything is read."""


@pytest.mark.parametrize(("log", "as_json"), [("json", True), ("text", False)])
def test_a_command_that_logs_json_ends_with_json(tmp_path, monkeypatch, capsys, log, as_json) -> None:
    tables = {"leads": {"source": "leads"}, "interactions": {"source": "leads"}}
    content = {
        "name": "x",
        "sources": {"leads": {"file": "leads.csv"}},
        "history": tables,
        "nightly": {"log": log},
    }
    config = tmp_path / "x.yaml"
    config.write_text(yaml.safe_dump(content))
    former = sys.stderr
    monkeypatch.setattr(sys, "argv", ["convpredict", "nightly", str(config), "--as-of", LATER])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert sys.stderr is former
    (line,) = capsys.readouterr().err.splitlines()
    if as_json:
        told = json.loads(line)
        assert (told["level"], told["event"], told["exit_code"]) == ("error", "ended", 2)
        line = f"{told['error']}: {told['message']}"
    assert line.startswith("ConfigError: --as-of 2999-01-01 00:00 UTC lies ahead")
