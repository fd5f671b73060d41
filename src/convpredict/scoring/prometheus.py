"""What a night came to, as a text file that a node exporter's textfile collector reads (a name ending in ``.prom``)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..files import replacing

_PREFIX = "convpredict_night_"
_STATES = {"not judged": -1, "pass": 0, "warn": 1, "stop": 2}
_STATUSES = ("published", "stopped", "failed")

Sample = tuple[Mapping[str, str], float | None]

_KEPT = ("last_success_timestamp_seconds", "published_cutoff_timestamp_seconds")
"""What a night that did not publish leaves as the file had it before."""
_ATTEMPT = "last_attempt_timestamp_seconds"
_CUTOFF = "cutoff_timestamp_seconds"


def write_prometheus(path: Path, manifest: Mapping[str, Any], exit_code: int) -> None:
    """Write a night's metrics, also those of a stopped or failed one, whole and readable by everybody (mode 0644).

    The time of the last success outlives failures: it is taken over from the file that is replaced. ``manifest`` may
    lack whatever a night that failed early does not know, but for ``name``. Raises OSError where the file cannot be
    written.
    """
    text = prometheus_text(manifest, exit_code, _former(path, str(manifest["name"])))
    _write(path, text)


def write_prometheus_again(path: Path, manifest: Mapping[str, Any], now: datetime) -> None:
    """Write the metrics of a night that was published before, unless the file tells of a later night.

    The time of the last attempt stays where it is later. What the file says of times after ``now`` does not count: it
    was written while the clock was wrong. Raises OSError where the file cannot be written.
    """
    name, present = str(manifest["name"]), now.timestamp()
    told = {metric: value for metric, value in _former(path, name).items() if value <= present}
    if told.get(_CUTOFF, -math.inf) > (_seconds(manifest["cutoff"]) or 0.0):
        return
    _write(path, prometheus_text(manifest, 0, told, attempted=told.get(_ATTEMPT)))


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        os.chmod(partial, 0o644)


def prometheus_text(
    manifest: Mapping[str, Any],
    exit_code: int,
    former: Mapping[str, float] | None = None,
    *,
    attempted: float | None = None,
) -> str:
    """The metrics in Prometheus' text format.

    ``former``: the last success and its cutoff, by metric; ``attempted``: when (seconds) another night ended, which is
    the last attempt if that is later.

    >>> text = prometheus_text({"name": "demo", "status": "failed"}, 3)
    >>> 'convpredict_night_exit_code{name="demo"} 3' in text
    True
    """
    lines = []
    for metric, help_text, samples in _metrics(manifest, exit_code, former or {}, attempted):
        told = [(labels, value) for labels, value in samples if value is not None]
        if not told:
            continue
        name = _PREFIX + metric
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
        lines += [
            f"{name}{_labels({'name': str(manifest['name']), **labels})} {_number(value)}"
            for labels, value in told
        ]
    return "\n".join(lines) + "\n"


def _metrics(
    manifest: Mapping[str, Any], exit_code: int, former: Mapping[str, float], attempted: float | None
) -> Iterable[tuple[str, str, Sequence[Sample]]]:
    finished = _seconds(manifest.get("finished_at")) or datetime.now(UTC).timestamp()
    cutoff = _seconds(manifest.get("cutoff"))
    published = manifest.get("status") == "published"
    steps = manifest.get("steps") or ()
    gates = [gate if isinstance(gate, Mapping) else asdict(gate) for gate in manifest.get("gates") or ()]
    peaks = [step["peak_memory_bytes"] for step in steps if step.get("peak_memory_bytes")]
    success = finished if published else former.get(_KEPT[0])
    shown = cutoff if published else former.get(_KEPT[1])
    model = manifest.get("model") or {}

    def one(value: float | None) -> list[Sample]:
        return [({}, value)]

    yield (
        _ATTEMPT,
        "When the last night ended, whatever came of it.",
        one(max(finished, attempted or finished)),
    )
    yield _KEPT[0], "When a night last published its scores.", one(success)
    yield _CUTOFF, "The cutoff of the last night.", one(cutoff)
    yield _KEPT[1], "The cutoff of the scores that were published last.", one(shown)
    yield "exit_code", "The exit code of the last night.", one(float(exit_code))
    yield (
        "status",
        "1 for the status of the last night.",
        [({"status": status}, float(manifest.get("status") == status)) for status in _STATUSES],
    )
    yield (
        "step_seconds",
        "How long a step took.",
        [({"step": str(step["step"])}, step.get("seconds")) for step in steps],
    )
    yield "step_rows", "Rows of a step.", [({"step": str(step["step"])}, step.get("rows")) for step in steps]
    yield "peak_memory_bytes", "The most memory that any step held.", one(max(peaks, default=None))
    yield "leads", "Leads that were scored.", one(manifest.get("leads"))
    yield (
        "excluded_leads",
        "Leads that were left out, by reason.",
        [({"reason": str(reason)}, count) for reason, count in (manifest.get("excluded") or {}).items()],
    )
    yield "expected_conversions", "The sum of the probabilities.", one(manifest.get("expected_conversions"))
    yield (
        "gate_state",
        "What a gate said: -1 not judged, 0 pass, 1 warn, 2 stop.",
        [({"gate": str(gate["gate"])}, float(_STATES[gate["verdict"]])) for gate in gates],
    )
    yield (
        "gate_value",
        "What a gate held to its limits, in its unit: what lies beyond chance and habit, 0 where nothing does.",
        [
            ({"gate": str(gate["gate"]), "unit": str(gate.get("unit") or "")}, gate.get("value"))
            for gate in gates
        ],
    )
    yield (
        "gate_waived",
        "1 for a gate whose stop was waived.",
        [({"gate": str(gate)}, 1.0) for gate in manifest.get("waived") or {}],
    )
    yield (
        "model_trained_until_timestamp_seconds",
        "Up to when the model's training data was known.",
        one(_seconds(model.get("trained_until"))),
    )


def _former(path: Path, name: str) -> dict[str, float]:
    """The times of the last night and the last success in the file; empty where there is none, or it is not ours."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for metric in (*_KEPT, _ATTEMPT, _CUTOFF):
        line = re.search(
            rf"^{re.escape(_PREFIX + metric + _labels({'name': name}))} ([0-9.e+]+)$", text, re.MULTILINE
        )
        if line is not None:
            found[metric] = float(line[1])
    return found


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | None) -> str:
    number = float(value) if value is not None else math.nan
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _seconds(instant: Any) -> float | None:
    """Unix seconds of an instant or its ISO 8601 text."""
    if isinstance(instant, str) and instant:
        instant = datetime.fromisoformat(instant)
    return float(instant.timestamp()) if isinstance(instant, datetime) else None
