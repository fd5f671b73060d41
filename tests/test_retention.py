"""What ``nightly.keep`` removes of old nights, and what it never does."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from convpredict.config.load import load_project
from convpredict.config.nightly import ParquetTarget
from convpredict.scoring.ledger.ledger import Ledger
from convpredict.scoring.publish.parquet import ParquetPublisher
from nightly_project import NIGHT, Nights, make_project

WEEKS = [NIGHT - timedelta(days=7 * week) for week in (4, 3, 2, 1, 0)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("kept"), leads=200)


@pytest.fixture(scope="module")
def four(project, tmp_path_factory):
    """Four weekly nights, of which everything is kept."""
    nights = Nights(project, tmp_path_factory.mktemp("four"))
    for night in WEEKS[:4]:
        nights.run(night)
        quarantine = nights.state / "quarantine" / nights.id_of(night)
        quarantine.mkdir(parents=True, exist_ok=True)
        (quarantine / "leads.parquet").write_bytes(b"rows put aside")
    return nights


@pytest.fixture
def nights(project, four, tmp_path):
    shutil.copytree(four.folder, tmp_path / "nights")
    return Nights(project, tmp_path / "nights")


def kept(nights: Nights) -> list[str]:
    return ParquetPublisher(nights.scores).runs()


def ids(nights: Nights, *numbers: int) -> list[str]:
    return [nights.id_of(WEEKS[number]) for number in numbers]


def quarantined(nights: Nights) -> set[str]:
    return {path.name for path in (nights.state / "quarantine").iterdir()} - set(ids(nights, 4))


def test_without_a_setting_everything_stays(nights):
    nights.run()
    assert kept(nights) == ids(nights, 0, 1, 2, 3, 4)
    assert quarantined(nights) == set(ids(nights, 0, 1, 2, 3))
    assert nights.manifest()["steps"][-1]["step"] == "monitor"


def test_what_is_older_goes_and_the_ledger_stays(nights, capsys):
    """Of nights 0, 7, 14, 21 and 28 days before the last one, those of more than 14 days go."""
    nights.run(NIGHT, "nightly.keep=14d")
    assert kept(nights) == ids(nights, 2, 3, 4)
    assert quarantined(nights) == set(ids(nights, 2, 3))
    assert not list(nights.scores.glob("runs/run_id=*/.*"))
    assert len(list((nights.scores / "runs").iterdir())) == 3
    runs = Ledger(nights.state / "ledger").runs()
    assert [run.run_id for run in runs] == ids(nights, 0, 1, 2, 3, 4)
    step = nights.manifest()["steps"][-1]
    assert (step["step"], step["rows"]) == ("remove_old", 4)
    log = capsys.readouterr().err
    assert f"info removed_runs run_id={nights.id_of()} runs=2" in log
    assert f"info removed_quarantine run_id={nights.id_of()} runs=2 stayed=0" in log
    for night in WEEKS:
        assert nights.manifest(night)["status"] == "published"
    before = nights.files()
    (again,) = nights.run(NIGHT, "nightly.keep=14d")
    assert again.outcome == "already published"
    assert nights.files() == before


def test_the_present_night_and_the_former_one_stay_whatever_their_age(nights):
    """A night that was filled in between them is none that readers saw as the latest, and goes; a repetition is the
    same night, and does not push the former one out."""
    between = NIGHT - timedelta(days=2)
    nights.run(NIGHT)
    nights.run(None, start=between, end=between)
    assert nights.id_of(between) in kept(nights)
    again = f"{nights.id_of()}-2"
    nights.run(NIGHT, "nightly.keep=1d", again="the reasons had the wrong language")
    assert kept(nights) == [*ids(nights, 3, 4), again]
    assert quarantined(nights) == set(ids(nights, 3))
    following = NIGHT + timedelta(days=1)
    nights.run(following, "nightly.keep=1h")
    assert kept(nights) == [nights.id_of(), again, nights.id_of(following)]
    assert set(nights.latest()["run_id"].to_pylist()) == {nights.id_of(following)}


def with_a_bad_row(project, folder: Path) -> Path:
    """The project's data with an interaction of a lead that nobody knows."""
    data = folder / "data"
    shutil.copytree(load_project(project.config).data_dir, data)
    interactions = pd.read_parquet(data / "interactions.parquet")
    interactions.loc[0, "lead_id"] = 10**9
    interactions.to_parquet(data / "interactions.parquet")
    return data


def test_rows_put_aside_stay_as_long_as_a_night_that_refers_to_them(project, tmp_path):
    """All nights of a back-fill share the folder of the first one, which is soon older than what is kept."""
    nights = Nights(project, tmp_path / "nights")
    days = [NIGHT - timedelta(days=day) for day in (4, 3, 2, 1, 0)]
    data = with_a_bad_row(project, tmp_path)
    nights.run(None, "nightly.keep=2d", start=days[0], end=days[-1], data=data)
    assert kept(nights) == [nights.id_of(day) for day in days[2:]]
    first = nights.id_of(days[0])
    for day in days:
        assert nights.manifest(day)["data"]["quarantine_folder"] == first
    put_aside = nights.state / "quarantine" / first / "interactions.parquet"
    assert pq.read_table(put_aside)["reason"].to_pylist() == ["unknown lead"]
    following = [NIGHT + timedelta(days=day) for day in (1, 2)]
    nights.run(following[0], "nightly.keep=1h")
    assert nights.manifest(following[0])["data"]["quarantine_folder"] is None
    assert put_aside.is_file()  # of the former night
    nights.run(following[1], "nightly.keep=1h")
    assert not put_aside.parent.exists()


def test_what_a_back_fill_publishes_is_not_removed_by_it(nights):
    nights.run(NIGHT, "nightly.keep=14d")
    old = WEEKS[1] + timedelta(days=1)
    nights.run(None, "nightly.keep=14d", start=old, end=old)
    assert nights.id_of(old) in kept(nights)
    nights.run(NIGHT + timedelta(days=1), "nightly.keep=14d")
    assert kept(nights) == [*ids(nights, 3, 4), nights.id_of(NIGHT + timedelta(days=1))]


def test_what_is_not_ours_or_not_in_the_ledger_stays(nights):
    first, second, third, _ = ids(nights, 0, 1, 2, 3)
    runs = nights.scores / "runs"
    foreign = runs / f"run_id={first}" / "scores.parquet"
    pq.write_table(pq.ParquetFile(foreign).read().replace_schema_metadata(None), foreign)
    (runs / f"run_id={second}" / "notes.txt").write_text("of ours")
    shutil.copytree(runs / f"run_id={third}", runs / "run_id=demo-20200101T000000Z")
    shutil.copytree(runs / f"run_id={third}", runs / "run_id=other-20200101T000000Z")
    nights.run(NIGHT, "nightly.keep=10d")
    assert kept(nights) == ["demo-20200101T000000Z", first, *ids(nights, 3, 4), "other-20200101T000000Z"]
    assert [path.name for path in (runs / f"run_id={second}").iterdir()] == ["notes.txt"]
    publisher = ParquetPublisher(nights.scores)
    assert publisher.remove([nights.id_of()], "demo") == 0
    assert publisher.remove(ids(nights, 3), "another") == 0


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [0, 1])
def test_a_removal_that_is_cut_off_is_made_up_for(nights, monkeypatch, after):
    """Killed before a file is deleted, or right after and before its folder is."""
    real, calls = Path.unlink, 0

    def unlink(path: Path, *args, **more):
        nonlocal calls
        if path.name != "scores.parquet":
            return real(path, *args, **more)
        calls += 1
        if after == 0 and calls == 2:
            raise Killed
        real(path, *args, **more)
        if after == 1 and calls == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            nights.run(NIGHT, "nightly.keep=10d")
    assert set(nights.latest()["run_id"].to_pylist()) == {nights.id_of()}
    assert nights.manifest()["status"] == "published"
    nights.run(NIGHT, "nightly.keep=10d")
    assert kept(nights) == ids(nights, 3, 4)
    assert len(list((nights.scores / "runs").iterdir())) == 2
    assert not list((nights.state / "work").iterdir())


def test_a_target_that_cannot_be_tidied_is_told_and_unpublishes_nothing(nights, monkeypatch, capsys):
    def full(*_):
        raise OSError(30, "read-only file system")

    monkeypatch.setattr(ParquetPublisher, "remove", full)
    (night,) = nights.run(NIGHT, "nightly.keep=10d")
    assert (night.outcome, night.exit_code) == ("published", 0)
    assert "warning remove_failed" in capsys.readouterr().err
    assert kept(nights) == ids(nights, 0, 1, 2, 3, 4)
    assert quarantined(nights) == set(ids(nights, 3))


def test_a_folder_that_does_not_exist_has_no_runs(tmp_path):
    publisher = ParquetPublisher.of(ParquetTarget(parquet="nowhere"), tmp_path)
    assert publisher.runs() == []
    assert publisher.remove([], "demo") == 0
    assert not (tmp_path / "nowhere").exists()
