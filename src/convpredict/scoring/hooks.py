"""Tell others how a night went: a command that gets JSON on its standard input, or a webhook that gets it by POST.

A hook never decides anything: whatever becomes of it is a result for the log and the manifest, never an exception.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from ..config.nightly import HookConfig

_DEFAULT_TIMEOUT_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 30.0
_HURRIED_SECONDS = 5.0


@dataclass(frozen=True)
class HookResult:
    """What became of a hook.

    ``hook`` and ``message`` name the program or the variable that holds the address, never the address or arguments,
    which may be secret.
    """

    hook: str
    ok: bool
    attempts: int
    seconds: float
    message: str

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and the log."""
        return asdict(self)


@dataclass(frozen=True)
class _Attempt:
    ok: bool
    detail: str
    again: bool = False


def hook_payload(manifest: Mapping[str, Any], outcome: str, exit_code: int) -> dict[str, Any]:
    """What a hook is told: run, status, gates and counts (docs/reference/gates.md).

    No lead, and so no text of an error, which may name one: the exit code tells its sort, the log the rest.

    >>> hook_payload({"run_id": "demo-20250601T000000Z", "name": "demo", "status": "failed"}, "failed", 3)["status"]
    'failed'
    """
    model = manifest.get("model") or {}
    gates = [gate if isinstance(gate, Mapping) else asdict(gate) for gate in manifest.get("gates") or ()]
    named = ("run_id", "name", "status", "cutoff", "started_at", "finished_at")
    shown = ("gate", "verdict", "message", "value", "warn", "stop", "unit")
    return {
        "format": 1,
        "outcome": outcome,
        "exit_code": exit_code,
        **{key: manifest.get(key) for key in named},
        "model": {key: model.get(key) for key in ("name", "version", "digest")},
        "leads": manifest.get("leads"),
        "excluded": dict(manifest.get("excluded") or {}),
        "expected_conversions": manifest.get("expected_conversions"),
        "gates": [{key: gate.get(key) for key in shown} for gate in gates],
        "waived": sorted(manifest.get("waived") or {}),
    }


def call_hooks(
    hooks: Sequence[HookConfig],
    outcome: str,
    payload: Mapping[str, Any],
    *,
    first_pause: float = 1.0,
    hurried: bool = False,
) -> list[HookResult]:
    """Call every hook whose ``when`` names the outcome (published, warned, stopped, failed), one after the other.

    A night that was published with warnings (``warned``) calls those of ``published`` too.

    A failed try is repeated after a pause (``first_pause`` seconds, then twice as long each time, 30 s at most) where
    another one may help: a command that failed or timed out, a webhook that could not be reached, timed out or
    answered 5xx. Whoever receives it may get it twice: ``run_id`` and ``outcome`` tell. ``hurried``: each hook gets one
    try of at most 5 seconds, whatever it is configured to get.
    """
    names = {outcome, "published"} if outcome == "warned" else {outcome}
    return [_called(hook, payload, first_pause, hurried) for hook in hooks if names & set(hook.when)]


def _called(hook: HookConfig, payload: Mapping[str, Any], pause: float, hurried: bool) -> HookResult:
    begin = time.monotonic()
    limit = hook.timeout.microseconds / 1e6 if hook.timeout is not None else _DEFAULT_TIMEOUT_SECONDS
    limit, retries = (min(limit, _HURRIED_SECONDS), 0) if hurried else (limit, hook.retries)
    name = f"command {os.path.basename(hook.command[0])}" if hook.command else f"webhook {hook.webhook_env}"
    attempts, last = 0, _Attempt(False, "was not tried")
    while attempts <= retries:
        if attempts:
            time.sleep(min(pause * 2 ** (attempts - 1), _LONGEST_PAUSE_SECONDS))
        attempts += 1
        try:
            body = json.dumps(payload, ensure_ascii=False, default=str).encode("utf-8")
            if hook.command:
                last = _run(hook.command, body, limit)
            else:
                last = _post(os.environ.get(hook.webhook_env or "", ""), body, limit)
        except Exception as error:
            last = _Attempt(False, f"could not be called ({type(error).__name__})")
        if last.ok or not last.again:
            break
    return HookResult(name, last.ok, attempts, round(time.monotonic() - begin, 3), f"{name} {last.detail}")


def _run(command: Sequence[str], body: bytes, limit: float) -> _Attempt:
    """Run a program without a shell, in a process group of its own, which a time-out kills as a whole."""
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return _Attempt(False, f"could not be started ({error.strerror})")
    try:
        process.communicate(body, timeout=limit)
    except subprocess.TimeoutExpired:
        return _Attempt(False, f"was killed after {limit:g} s", again=True)
    finally:
        if process.poll() is None:
            _kill_group(process)
    if process.returncode == 0:
        return _Attempt(True, "exited with 0")
    return _Attempt(False, f"exited with {process.returncode}", again=True)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the payload goes to the address that was configured, or nowhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(address: str, body: bytes, limit: float) -> _Attempt:
    if not address:
        return _Attempt(False, "has no address: the environment variable is not set")
    if urlsplit(address).scheme not in ("http", "https"):
        return _Attempt(False, "has an address that is neither http nor https")
    request = urllib.request.Request(
        address,
        data=body,
        method="POST",
        headers={"Content-Type": "application/json", "User-Agent": "convpredict"},
    )
    opener = urllib.request.build_opener(_NoRedirect)
    return _within(limit, lambda: _answer(opener, request, limit))


def _answer(opener: urllib.request.OpenerDirector, request: urllib.request.Request, limit: float) -> _Attempt:
    try:
        with opener.open(request, timeout=limit) as response:
            return _Attempt(True, f"answered {response.status}")
    except urllib.error.HTTPError as error:
        error.close()
        what = " (redirects are not followed)" if 300 <= error.code < 400 else ""
        return _Attempt(False, f"answered {error.code}{what}", again=error.code >= 500)
    except TimeoutError:
        return _timed_out(limit)
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return _timed_out(limit)
        return _Attempt(False, f"could not be reached ({type(error.reason).__name__})", again=True)
    except (OSError, HTTPException) as error:
        return _Attempt(
            False, f"could not be reached ({type(error).__name__})", again=isinstance(error, OSError)
        )


def _within(limit: float, ask: Callable[[], _Attempt]) -> _Attempt:
    """Wait ``limit`` seconds for an answer: a socket's own time-out starts anew with every byte, and finding a host's
    address has none."""
    answers: list[_Attempt] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            answers.append(_Attempt(False, f"could not be called ({type(error).__name__})"))

    thread = threading.Thread(target=run, name="hook", daemon=True)
    thread.start()
    thread.join(limit + 0.5)
    return answers[0] if answers else _timed_out(limit)


def _timed_out(limit: float) -> _Attempt:
    return _Attempt(False, f"did not answer within {limit:g} s", again=True)
