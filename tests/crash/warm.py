"""A process that has everything imported and compiled, and forks a child for each nightly run that is asked for.

Requests come as JSON lines on standard input, answers go to standard output: ``run`` answers with the child's pid at
once, ``wait`` with its exit code (negative: the signal that ended it) and how many seconds it ran.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from convpredict.errors import ConvpredictError
from convpredict.workflows.nightly import nightly, worst_exit_code


def run(request: dict[str, Any]) -> int:
    """One nightly run with a request's arguments; its exit code as the command line gives it."""
    now = request.get("now")
    try:
        nights = nightly(
            Path(request["config"]),
            run=Path(request["run"]),
            as_of=datetime.fromisoformat(request["as_of"]) if request.get("as_of") else None,
            now=datetime.fromisoformat(now) if now else None,
            overrides=request.get("overrides", ()),
        )
    except ConvpredictError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return worst_exit_code(nights)


def child(request: dict[str, Any]) -> None:
    """What a child does: run, with standard output and error in the request's log; never returns."""
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if limit := request.get("largest_file"):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        os.environ.update(request.get("environment", {}))
        code = run(request)
    except BaseException as error:
        print(f"unexpected: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code)


def main() -> None:
    """Answer requests until standard input ends."""
    begun: dict[int, float] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm":
            answer = {"code": run(request)}
            gc.collect()
        elif request["do"] == "run":
            begin = time.monotonic()
            pid = os.fork()
            if pid == 0:
                child(request)
            begun[pid] = begin
            answer = {"pid": pid}
        else:
            _, status = os.waitpid(request["pid"], 0)
            seconds = time.monotonic() - begun.pop(request["pid"])
            answer = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
