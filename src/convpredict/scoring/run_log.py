"""The log of a run: one line an event, as text or JSON, with ids, counts and durations only."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Level = Literal["info", "warning", "error"]

TEXT_FIELDS = ("message", "error", "reason", "target")
"""The fields that may hold a sentence: what the program itself says, not what it read."""

REFUSED = "(refused: no id, count or duration)"
"""What stands in the place of a value that does not belong into a log."""

_ID = re.compile(r"[\w.:/+=,\-]{0,200}")
_LONGEST_TEXT = 2_000
_OWN = frozenset({"time", "level", "event"})
_BAD_EVENTS = frozenset({"failed", "stopped"})


class RunLog:
    """Writes events to ``stream`` (default: standard error), one line each, at once.

    A field may be a number, an instant, a truth value, a list of these, or a word without spaces, such as an id; a
    sentence only in ``message``, ``error``, ``reason`` and ``target``. Anything else is replaced by ``REFUSED``: a lead's name or
    address must not get into a log by mistake, and a mistake in a log line must not end a night. A stream that was
    closed is no reason to stop either.

    >>> log = RunLog(json=False, stream=sys.stdout, clock=lambda: datetime(2025, 6, 1, 2, tzinfo=UTC))
    >>> log.of_run("demo-20250601T020000Z").event("scored", leads=12_000, seconds=3.25, name="Jo Doe")
    2025-06-01T02:00:00.000Z info scored run_id=demo-20250601T020000Z leads=12000 seconds=3.25 name="(refused: no id, count or duration)"
    """  # noqa: E501

    def __init__(
        self,
        json: bool = False,
        stream: TextIO | None = None,
        *,
        run_id: str = "",
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.json = json
        self.run_id = run_id
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock if clock is not None else lambda: datetime.now(UTC)
        self._lock = threading.Lock()

    def of_run(self, run_id: str) -> RunLog:
        """The same log, whose lines carry a run's id."""
        return RunLog(self.json, self._stream, run_id=run_id, clock=self._clock)

    def event(self, event: str, /, *, level: Level | None = None, **fields: Any) -> None:
        """Write one line; never raises. ``level``: else what the event, a ``verdict`` or an ``exit_code`` says."""
        try:
            line = self._line(event, level or _level(event, fields), fields)
        except Exception as error:
            line = self._line("log_line_lost", "error", {"error": type(error).__name__})
        with self._lock:
            self._write(line + "\n")

    def _line(self, event: str, level: str, fields: dict[str, Any]) -> str:
        now = self._clock().astimezone(UTC)
        time = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
        shown = {
            (f"{name}_" if name in _OWN else name): _admitted(name, value) for name, value in fields.items()
        }
        if self.json:
            content = {
                "time": time,
                "level": level,
                "event": _admitted("event", event),
                "run_id": self.run_id,
            }
            return json.dumps({**content, **shown}, ensure_ascii=False)
        run = {"run_id": self.run_id} if self.run_id else {}
        words = [f"{name}={_word(value)}" for name, value in {**run, **shown}.items()]
        return " ".join([time, level, str(_admitted("event", event)), *words])

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            _give_up(self._stream)


class JsonLines:
    """A text stream that passes on lines of JSON, and makes one of any other line (event ``text``, with ``message``).

    In place of standard error, so that whoever reads a JSON log gets nothing else: not the message that a command ends
    with, no library's warning and no traceback. Everything else is that of the stream behind it.

    >>> stream = JsonLines(sys.stdout, clock=lambda: datetime(2025, 6, 1, 2, tzinfo=UTC))
    >>> print('{"event": "scored"}', file=stream)
    {"event": "scored"}
    >>> print("two\\nlines", file=stream)
    {"time": "2025-06-01T02:00:00.000Z", "level": "warning", "event": "text", "run_id": "", "message": "two"}
    {"time": "2025-06-01T02:00:00.000Z", "level": "warning", "event": "text", "run_id": "", "message": "lines"}
    """

    def __init__(self, stream: TextIO, clock: Callable[[], datetime] | None = None) -> None:
        self._stream = stream
        self._log = RunLog(json=True, stream=stream, clock=clock)
        self._begun = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write what is whole of the lines so far; the rest waits for its end."""
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._pass_on(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def event(self, event: str, /, **fields: Any) -> None:
        """Write a line of the log; see :meth:`RunLog.event`."""
        self._log.event(event, **fields)

    def finish(self) -> None:
        """Write the line that was begun and has no end."""
        with self._lock:
            line, self._begun = self._begun, ""
            self._pass_on(line)

    def _pass_on(self, line: str) -> None:
        if _is_json(line):
            self._stream.write(line + "\n")
        elif line.strip():
            self._log.event("text", level="warning", message=line.rstrip())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _level(event: str, fields: dict[str, Any]) -> Level:
    if (
        event in _BAD_EVENTS
        or event.endswith("_failed")
        or fields.get("verdict") == "stop"
        or fields.get("exit_code")
    ):
        return "error"
    return "warning" if fields.get("verdict") == "warn" else "info"


def _admitted(name: str, value: Any) -> Any:
    """The value as it may stand in a log line."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        if name in TEXT_FIELDS:
            return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + " ..."
        return value if _ID.fullmatch(value) else REFUSED
    if isinstance(value, list | tuple):
        return [_admitted("", each) for each in value]
    return _admitted(name, value.item()) if hasattr(value, "item") else REFUSED


def _word(value: Any) -> str:
    if isinstance(value, str) and _ID.fullmatch(value) and value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _give_up(stream: TextIO) -> None:
    """Send what is left in the buffers of a closed pipe nowhere, or the interpreter would fail on it when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
    except (OSError, ValueError):
        return
