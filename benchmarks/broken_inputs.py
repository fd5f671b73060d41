"""Every broken input that the tests know, with what a user is told: the table in docs/reference/broken_inputs.md.

python benchmarks/broken_inputs.py > docs/reference/broken_inputs.md
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from broken_inputs import write_sound_files
from convpredict.errors import ConvpredictError
from test_broken_inputs import ROWS, WHOLE, _load


def main() -> None:
    print("# What broken inputs end in\n")
    print(
        "Made by `python benchmarks/broken_inputs.py` from the cases that `tests/test_broken_inputs.py` holds.\n"
    )
    print(f"## {len(WHOLE)} inputs that stop the run\n")
    print("| what is broken | exit code | message |\n|---|---|---|")
    for broken in WHOLE:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_sound_files(folder)
            if broken.files is not None:
                broken.files(folder)
            try:
                _load(folder, broken.config, require=("conversions",))
                told, code = "(nothing)", 0
            except ConvpredictError as error:
                told, code = str(error).replace(name, "DATA"), error.exit_code
        told = " ".join(told.split()).replace("|", "\\|").replace("<", "&lt;")
        print(f"| {broken.name} | {code} | {told} |")
    print(f"\n## {len(ROWS)} rows that go to quarantine\n")
    print("| what is broken | table | reason |\n|---|---|---|")
    for case in ROWS:
        print(f"| {case[0]} | {case[3]} | {case[4]} |")


if __name__ == "__main__":
    main()
