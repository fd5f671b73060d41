"""Hooks, with real commands and a real web server on this machine."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from convpredict.config.base import Duration
from convpredict.config.nightly import HookConfig
from convpredict.scoring.hooks import HookResult, call_hooks, hook_payload

PAYLOAD = {"run_id": "demo-20250601T000000Z", "status": "stopped"}
WORD = "a-secret-path"
SHORT = Duration(400_000)


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    """A command that runs Python code in ``tmp_path``."""
    path = tmp_path / "hook.py"
    path.write_text(f"import os, sys, time\nos.chdir({str(tmp_path)!r})\n{body}\n")
    return (sys.executable, "-S", str(path))


def call(
    hook: HookConfig, outcome: str = "stopped", payload: dict[str, Any] | None = None
) -> list[HookResult]:
    return call_hooks([hook], outcome, PAYLOAD if payload is None else payload, first_pause=0.01)


class Server(ThreadingHTTPServer):
    """Answers with the next of ``answers`` (then the last one again): a status, or a function of the handler."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{WORD}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.command, self.headers["Content-Type"], body))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer(self)
            return
        self.send_response(answer)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.seen.append((self.command, "", {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@contextmanager
def serving(*answers: Any) -> Iterator[Server]:
    server = Server(list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(address: str, **options: Any) -> HookConfig:
        monkeypatch.setenv("NIGHT_HOOK", address)
        return HookConfig(webhook_env="NIGHT_HOOK", **options)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return make


def test_a_command_gets_the_payload_on_its_standard_input(tmp_path: Path) -> None:
    (result,) = call(HookConfig(command=script(tmp_path, "open('got', 'w').write(sys.stdin.read())")))
    assert (result.ok, result.attempts) == (True, 1)
    assert json.loads((tmp_path / "got").read_text()) == PAYLOAD


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    command = (*script(tmp_path, "open('got', 'w').write(sys.argv[1])"), "$(touch broken); a b")
    assert call(HookConfig(command=command))[0].ok
    assert (tmp_path / "got").read_text() == "$(touch broken); a b"
    assert not (tmp_path / "broken").exists()


def test_a_command_that_does_not_read_a_long_payload_is_no_failure(tmp_path: Path) -> None:
    assert call(HookConfig(command=script(tmp_path, "pass")), payload={"long": "x" * 300_000})[0].ok


def test_a_command_that_fails_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    body = "n = len(os.listdir('.')); open(f'try{n}', 'w'); sys.exit(n < 3)"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (result,) = call(HookConfig(command=script(tmp_path / "a", body), retries=5))
    assert (result.ok, result.attempts) == (True, 3)
    (result,) = call(HookConfig(command=script(tmp_path / "b", "sys.exit(4)"), retries=1))
    assert (result.ok, result.attempts) == (False, 2)
    assert result.message.endswith("exited with 4")


def test_a_time_out_kills_the_command_and_what_it_started(tmp_path: Path) -> None:
    body = """
import subprocess
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""
    limit = Duration(2_000_000)
    begin = time.monotonic()
    (result,) = call(HookConfig(command=script(tmp_path, body), timeout=limit, retries=0))
    assert not result.ok
    assert result.message.endswith("was killed after 2 s")
    assert time.monotonic() - begin < 30
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    for _ in range(200):
        if not any(is_alive(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_command_that_cannot_be_started_is_told_and_not_repeated(tmp_path: Path) -> None:
    (result,) = call(HookConfig(command=(str(tmp_path / "no such"), "--token=secret")))
    assert (result.ok, result.attempts) == (False, 1)
    assert result.message == "command no such could not be started (No such file or directory)"


@pytest.mark.parametrize(
    ("outcome", "when", "called"),
    [
        ("stopped", ("stopped",), True),
        ("stopped", ("failed", "published", "warned"), False),
        ("warned", ("warned",), True),
        ("warned", ("published",), True),
        ("published", ("warned",), False),
        ("failed", ("stopped", "failed"), True),
    ],
)
def test_a_hook_is_called_for_the_outcomes_it_names(
    tmp_path: Path, outcome: str, when: tuple[str, ...], called: bool
) -> None:
    hook = HookConfig.model_validate({"command": script(tmp_path, "open('got', 'w')"), "when": when})
    assert len(call(hook, outcome)) == called
    assert (tmp_path / "got").exists() == called


def test_every_hook_is_called_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    hooks = [
        HookConfig(command=("/nowhere/to/be/found",), retries=0),
        HookConfig(webhook_env="NOBODY_SET_THIS", retries=0),
        HookConfig(command=script(tmp_path, "open('got', 'w')")),
    ]
    assert [result.ok for result in call_hooks(hooks, "failed", PAYLOAD)] == [False, False, True]
    assert (tmp_path / "got").exists()


def test_what_json_has_no_word_for_does_not_raise(tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    (result,) = call(HookConfig(command=script(tmp_path, "pass")), payload=circle)
    assert not result.ok
    assert "ValueError" in result.message


def test_a_webhook_is_posted_json(webhook: Any) -> None:
    with serving(204) as server:
        (result,) = call(webhook(server.address))
    assert (result.ok, result.attempts, result.message) == (True, 1, "webhook NIGHT_HOOK answered 204")
    assert server.seen == [("POST", "application/json", PAYLOAD)]


@pytest.mark.parametrize(
    ("statuses", "attempts", "ok"), [((503, 500, 200), 3, True), ((500,), 3, False), ((404,), 1, False)]
)
def test_only_trouble_of_the_server_is_worth_another_try(
    webhook: Any, statuses: tuple[int, ...], attempts: int, ok: bool
) -> None:
    with serving(*statuses) as server:
        (result,) = call(webhook(server.address, retries=2))
    assert (result.attempts, result.ok, len(server.seen)) == (attempts, ok, attempts)
    assert WORD not in result.message


def test_no_redirect_is_followed(webhook: Any) -> None:
    with serving(200) as elsewhere:

        def redirect(handler: Handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", elsewhere.address)
            handler.end_headers()

        with serving(redirect) as server:
            (result,) = call(webhook(server.address))
    assert (result.ok, result.attempts, elsewhere.seen) == (False, 1, [])
    assert result.message == "webhook NIGHT_HOOK answered 302 (redirects are not followed)"


def test_a_server_that_is_not_there_is_tried_again(webhook: Any) -> None:
    with serving(200) as server:
        address = server.address
    (result,) = call(webhook(address, retries=2))
    assert (result.ok, result.attempts) == (False, 3)
    assert result.message == "webhook NIGHT_HOOK could not be reached (ConnectionRefusedError)"


def test_a_server_that_answers_drop_by_drop_is_not_waited_for(webhook: Any) -> None:
    done = threading.Event()

    def drip(handler: Handler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
            while not done.wait(0.1):
                handler.wfile.write(b"X-Slow: yes\r\n")
                handler.wfile.flush()

    with serving(drip) as server:
        begin = time.monotonic()
        (result,) = call(webhook(server.address, timeout=SHORT, retries=0))
        took = time.monotonic() - begin
        done.set()
    assert not result.ok
    assert result.message == "webhook NIGHT_HOOK did not answer within 0.4 s"
    assert took < 20


def test_a_server_that_says_nothing_times_out(webhook: Any) -> None:
    done = threading.Event()
    with serving(lambda _: done.wait(20)) as server:
        (result,) = call(webhook(server.address, timeout=SHORT, retries=1))
        done.set()
    assert (result.ok, result.attempts) == (False, 2)
    assert result.message.endswith("did not answer within 0.4 s")


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "ftp://127.0.0.1/a-secret-path", "a-secret-path", ""]
)
def test_an_address_that_is_not_of_the_web_is_refused(webhook: Any, address: str) -> None:
    (result,) = call(webhook(address))
    assert (result.ok, result.attempts) == (False, 1)
    assert WORD not in result.message


@pytest.mark.parametrize(
    "address", ["http://user:a-secret-path@127.0.0.1:1/x", "http://127.0.0.1:a-secret-path/", "http://[::1"]
)
def test_an_address_never_shows_in_what_is_told(webhook: Any, address: str) -> None:
    (result,) = call(webhook(address, retries=0))
    assert not result.ok
    assert "secret" not in json.dumps(result.to_dict())
    assert "127.0.0.1" not in json.dumps(result.to_dict())


def test_the_payload_tells_of_gates_and_counts_and_of_no_lead() -> None:
    manifest = {
        "run_id": "demo-20250601T000000Z",
        "name": "demo",
        "status": "stopped",
        "cutoff": "2025-06-01T00:00:00Z",
        "model": {"name": "demo", "version": "3", "digest": "abc"},
        "leads": 12,
        "excluded": {"converted": 3},
        "expected_conversions": 1.5,
        "gates": [
            {
                "gate": "rows",
                "verdict": "stop",
                "message": "few",
                "value": 0.6,
                "warn": 0.2,
                "stop": 0.5,
                "unit": "share",
            }
            | {"details": {"leads": 12}}
        ],
        "waived": {"model_age": "holidays"},
        "error": "lead-17 is odd",
        "counts": {"rows": 12},
    }
    payload = hook_payload(manifest, "stopped", 7)
    assert json.loads(json.dumps(payload)) == payload
    assert (payload["run_id"], payload["exit_code"], payload["leads"]) == ("demo-20250601T000000Z", 7, 12)
    assert payload["gates"][0]["message"] == "few"
    assert payload["waived"] == ["model_age"]
    assert "lead-17" not in json.dumps(payload)


def test_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    call(HookConfig(command=script(tmp_path, "pass")))
    assert dict(os.environ) == before
