"""The metrics file: its format by a strict parser, and what outlives a failure."""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpredict.scoring.nightly.facts import GateResult
from convpredict.scoring.prometheus import prometheus_text, write_prometheus, write_prometheus_again

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")


def parse(text: str) -> Samples:
    """Prometheus' text format as its documentation gives it: HELP, TYPE, then all samples of one metric; no repeats."""
    assert text.endswith("\n")
    samples: Samples = {}
    finished: set[str] = set()
    current, described = "", ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            described = line.split(" ", 3)[2]
            assert _NAME.fullmatch(described)
            assert line.split(" ", 3)[3]
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert (name, kind) == (described, "gauge")
            assert name not in finished
            finished.add(name)
            current = name
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            name, inside, value = found.groups()
            assert name == current
            key = (name.removeprefix("convpredict_night_"), parse_labels(inside or ""))
            assert key not in samples
            samples[key] = float(value)
    return samples


def parse_labels(text: str) -> frozenset[tuple[str, str]]:
    """The labels between the braces, unescaped."""
    labels, position = {}, 0
    while position < len(text):
        found = _LABEL.match(text, position)
        assert found is not None, text
        labels[found[1]] = re.sub(r"\\(.)", lambda each: {"n": "\n"}.get(each[1], each[1]), found[2])
        position = found.end()
        if position < len(text):
            assert text[position] == ","
            position += 1
    return frozenset(labels.items())


def value(samples: Samples, metric: str, **labels: str) -> float | None:
    return samples.get((metric, frozenset({"name": "demo", **labels}.items())))


PUBLISHED: dict[str, Any] = {
    "name": "demo",
    "status": "published",
    "cutoff": "2025-06-01T00:00:00Z",
    "finished_at": "2025-06-01T00:05:00.500Z",
    "model": {"trained_until": "2025-05-01T00:00:00+00:00"},
    "leads": 1200,
    "excluded": {"converted": 30, "too_old": 4},
    "expected_conversions": 31.25,
    "steps": [
        {"step": "read", "seconds": 1.5, "peak_memory_bytes": 2_000_000, "rows": 20_000},
        {"step": "gates", "seconds": 0.25, "peak_memory_bytes": None, "rows": None},
    ],
    "gates": [
        GateResult("rows", "warn", "fewer", 0.25, 0.2, 0.5, "share"),
        {"gate": "missing", "verdict": "not judged", "message": "no profile", "value": None, "unit": ""},
    ],
    "waived": {"model_age": "holidays"},
}
FAILED = {
    "name": "demo",
    "status": "failed",
    "cutoff": "2025-06-02T00:00:00Z",
    "finished_at": "2025-06-02T00:01:00Z",
    "error": "no data",
}
JUNE = datetime(2025, 6, 1, tzinfo=UTC).timestamp()


def test_a_published_night_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    write_prometheus(path, PUBLISHED, 0)
    samples = parse(path.read_text())
    for metric, expected in {
        "last_attempt_timestamp_seconds": JUNE + 300.5,
        "last_success_timestamp_seconds": JUNE + 300.5,
        "cutoff_timestamp_seconds": JUNE,
        "published_cutoff_timestamp_seconds": JUNE,
        "exit_code": 0,
        "peak_memory_bytes": 2_000_000,
        "leads": 1200,
        "expected_conversions": 31.25,
        "model_trained_until_timestamp_seconds": JUNE - 31 * 86_400,
    }.items():
        assert value(samples, metric) == expected, metric
    assert value(samples, "step_seconds", step="read") == 1.5
    assert value(samples, "step_rows", step="read") == 20_000
    assert value(samples, "step_rows", step="gates") is None
    assert value(samples, "excluded_leads", reason="too_old") == 4
    assert value(samples, "gate_state", gate="rows") == 1
    assert value(samples, "gate_state", gate="missing") == -1
    assert value(samples, "gate_value", gate="rows", unit="share") == 0.25
    assert value(samples, "gate_waived", gate="model_age") == 1
    states = {
        status: value(samples, "status", status=status) for status in ("published", "stopped", "failed")
    }
    assert states == {"published": 1, "stopped": 0, "failed": 0}


def test_a_failure_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    write_prometheus(path, PUBLISHED, 0)
    for _ in range(2):
        write_prometheus(path, FAILED, 3)
        samples = parse(path.read_text())
        assert value(samples, "last_success_timestamp_seconds") == JUNE + 300.5
        assert value(samples, "published_cutoff_timestamp_seconds") == JUNE
        assert value(samples, "last_attempt_timestamp_seconds") == JUNE + 86_460
        assert value(samples, "cutoff_timestamp_seconds") == JUNE + 86_400
        assert value(samples, "exit_code") == 3
        assert value(samples, "status", status="failed") == 1
        assert value(samples, "leads") is None


def test_a_first_night_that_fails_early_has_no_last_success(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    write_prometheus(path, {"name": "demo", "status": "failed"}, 2)
    samples = parse(path.read_text())
    assert value(samples, "exit_code") == 2
    assert value(samples, "last_success_timestamp_seconds") is None
    assert (value(samples, "last_attempt_timestamp_seconds") or 0) > JUNE


@pytest.mark.parametrize(
    "former",
    ["", "not ours\n", 'convpredict_night_last_success_timestamp_seconds{name="x"} 5\n', b"\xff\xfe"],
)
def test_a_file_of_something_else_tells_of_no_success(tmp_path: Path, former: str | bytes) -> None:
    path = tmp_path / "night.prom"
    path.write_bytes(former if isinstance(former, bytes) else former.encode())
    write_prometheus(path, FAILED, 3)
    assert value(parse(path.read_text()), "last_success_timestamp_seconds") is None


def test_the_file_is_readable_by_the_exporter_whatever_the_mask_says(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "night.prom"
    before = os.umask(0o077)
    try:
        write_prometheus(path, PUBLISHED, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == ["night.prom"]


def test_a_night_told_again_lowers_no_time_and_hides_no_later_night(tmp_path: Path) -> None:
    path, now = tmp_path / "night.prom", datetime(2030, 1, 1, tzinfo=UTC)
    cutoff = datetime.fromisoformat(PUBLISHED["cutoff"])
    late = {"name": PUBLISHED["name"], "status": "stopped", "finished_at": now.isoformat()}

    def attempted() -> float | None:
        return value(parse(path.read_text()), "last_attempt_timestamp_seconds")

    write_prometheus(path, {**late, "cutoff": (cutoff - timedelta(days=3)).isoformat()}, 7)
    write_prometheus_again(path, PUBLISHED, now)
    assert value(parse(path.read_text()), "exit_code") == 0
    assert attempted() == now.timestamp()

    write_prometheus(path, {**late, "cutoff": (cutoff + timedelta(days=1)).isoformat()}, 7)
    stopped = path.read_bytes()
    write_prometheus_again(path, PUBLISHED, now)
    assert path.read_bytes() == stopped

    write_prometheus(path, {**late, "cutoff": now.isoformat()}, 7)
    write_prometheus_again(path, PUBLISHED, now - timedelta(days=1))
    assert value(parse(path.read_text()), "exit_code") == 0, "the clock was ahead when that was written"
    assert attempted() == datetime.fromisoformat(PUBLISHED["finished_at"]).timestamp()


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    write_prometheus(path, PUBLISHED, 0)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_prometheus(path, {"name": "demo", "steps": [{"seconds": 1}]}, 0)
    assert path.read_bytes() == before


@given(st.text(max_size=20), st.text(max_size=20), st.floats() | st.integers(-(10**18), 10**18))
def test_any_name_and_any_number_come_back(name: str, reason: str, number: float) -> None:
    manifest = {"name": name, "excluded": {reason: number}, "finished_at": datetime(2025, 6, 1, tzinfo=UTC)}
    samples = parse(prometheus_text(manifest, 0))
    told = samples["excluded_leads", frozenset({"name": name, "reason": reason}.items())]
    assert told == float(number) or (told != told and number != number)
