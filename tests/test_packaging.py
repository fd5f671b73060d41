"""What a clean clone relies on: the lock, the make targets, the licence, no trace of anybody's machine."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)( ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M
)

HOSTS = re.compile(
    r"--(?:extra-)?index-url[ =]\S|--find-links[ =]\S"
    r"|py[p]i\.org|python[h]osted|registry\.npm[j]s|deb\.debia[n]\.org|proxy\.golan[g]|anacond[a]\.org",
    re.I,
)
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:work|root|home|opt|Users)/\w")


def pins() -> dict[str, str]:
    return {canonicalize_name(match[1]): match[2] for match in PIN.finditer(LOCK)}


def declared() -> list[Requirement]:
    """What the package, its extras and its build need; what only benchmarks or `make outside` need is not locked."""
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *(
            needs
            for extra, needs in project["optional-dependencies"].items()
            if extra not in ("benchmarks", "spark")
        ),
        PROJECT["build-system"]["requires"],
    ]
    found = [Requirement(text) for requirements in lists for text in requirements]
    return [requirement for requirement in found if requirement.name != project["name"]]


def tracked_files() -> list[Path]:
    """The files of the repository; outside a clone, those that lie here."""
    ran = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        pytest.skip("not a git clone, so nobody knows which files belong to the project")
    paths = [ROOT / name for name in ran.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_the_lock_holds_nothing_but_pins_with_hashes() -> None:
    rest = PIN.sub("", LOCK)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "://" not in LOCK
    assert len(pins()) > 100


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lock_pins_what_pyproject_asks_for(requirement: Requirement) -> None:
    pinned = pins()
    assert canonicalize_name(requirement.name) in pinned
    assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_no_file_names_a_package_host_or_a_path_of_a_machine() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        if path == Path(__file__):
            text = text.partition("PLANTED = ")[0]
        found += [
            f"{path.relative_to(ROOT)}: {match[0]}"
            for pattern in (HOSTS, MACHINE_PATHS)
            for match in pattern.finditer(text)
        ]
    assert found == []


PLANTED = [
    ("--index-url somewhere/simple", HOSTS),
    ("--find-links=wheels", HOSTS),
    ("https://py" + "pi.org/simple", HOSTS),
    ("https://files.python" + "hosted.org/x.whl", HOSTS),
    ("registry.npm" + "js.org", HOSTS),
    ("deb.debia" + "n.org", HOSTS),
    ("proxy.golan" + "g.org", HOSTS),
    ("anacond" + "a.org", HOSTS),
    ("open('/" + "work/main/x.csv')", MACHINE_PATHS),
    ("cd /" + "root/project", MACHINE_PATHS),
    ('"/' + 'home/ann/data"', MACHINE_PATHS),
]


@pytest.mark.parametrize(("text", "pattern"), PLANTED)
def test_a_planted_host_or_path_would_be_found(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize(
    "text", ["../shared/data/school_crm", "docs/work/x", "s3://bucket/home/x", "~/work/x"]
)
def test_paths_that_belong_to_nobody_are_fine(text: str) -> None:
    assert not MACHINE_PATHS.search(text)


def test_the_version_is_the_same_everywhere() -> None:
    import convpredict

    version = PROJECT["project"]["version"]
    assert convpredict.__version__ == version
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_folder_of_the_package_is_packaged() -> None:
    folders = {path.parent for path in (ROOT / "src" / "convpredict").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    assert (ROOT / "src" / "convpredict" / "py.typed").is_file()


def test_make_lists_its_targets_and_has_those_that_were_promised() -> None:
    command = ["make", "--no-print-directory", "help"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in ran.stdout.splitlines()}
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())  # type: ignore[index]
    assert listed == phony
    assert {"demo", "test", "check", "bench"} <= listed


def test_continuous_integration_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert {"make check", "make test"} <= set(lines)


def test_the_running_python_is_one_that_is_declared() -> None:
    assert (
        default_environment()["python_full_version"]
        in Requirement(f"convpredict{PROJECT['project']['requires-python']}").specifier
    )
