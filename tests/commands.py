"""The command line in this process: what a new process would do, without its start of a second or more."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from convpredict.cli import main


def call(*arguments: str | Path, cwd: Path, **environment: str) -> CompletedProcess[str]:
    """Run ``convpredict`` with these arguments in a folder; its exit code and what it wrote.

    An exception that the command line does not turn into a message, which would be a traceback, is raised here.
    """
    command = ["convpredict", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return CompletedProcess(command, code, out.getvalue(), err.getvalue())
