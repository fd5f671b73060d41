"""Model directories: complete, the same bytes from the same bundle, and refused when any byte differs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from convpredict.errors import BundleError
from convpredict.models.bundle import load_bundle
from convpredict.tracking.checksums import CHECKSUMS, AlteredError, check_files
from convpredict.tracking.model_directory import (
    ENTRIES,
    directory_digest,
    verify_model_directory,
    write_model_directory,
)
from convpredict.tracking.package_files import modules_needed, requirements
from test_bundle import features, make_bundle


@pytest.fixture(scope="module")
def bundle():
    return make_bundle()


@pytest.fixture(scope="module")
def written(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model_directory(folder, bundle, cross_lead={"as_of": "2024-01-01T00:00:00+00:00"})
    return folder


@pytest.fixture
def copy(written, tmp_path):
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_holds_the_bundle_the_code_and_no_pickle(written, bundle):
    names = files_of(written)
    assert {"MLmodel", CHECKSUMS, "pyfunc_script.py", "requirements.txt", "input_example.json"} <= set(names)
    assert "code/convpredict/models/bundle.py" in names
    assert "code/convpredict/models/reason_messages/de.json" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pkl", ".pyc"))]
    assert not [
        name for name in names if name.startswith(("code/convpredict/cli", "code/convpredict/scoring"))
    ]
    X, _ = features(20, seed=3)
    restored = load_bundle(verify_model_directory(written))
    assert restored.predict(X).tobytes() == bundle.predict(X).tobytes()


def test_it_tells_neither_the_time_nor_the_machine(written, bundle, tmp_path):
    write_model_directory(tmp_path / "again", bundle, cross_lead={"as_of": "2024-01-01T00:00:00+00:00"})
    assert (tmp_path / "again" / CHECKSUMS).read_bytes() == (written / CHECKSUMS).read_bytes()
    assert directory_digest(tmp_path / "again") == directory_digest(written)
    text = "".join((written / name).read_text() for name in ("MLmodel", "conda.yaml", "requirements.txt"))
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[1]) not in text
    assert "/tmp" not in text


def test_another_bundle_has_another_digest_and_replaces_the_former(bundle, tmp_path):
    folder = tmp_path / "model"
    write_model_directory(folder, bundle)
    before = directory_digest(folder)
    write_model_directory(folder, make_bundle(seeds=1))
    assert directory_digest(folder) != before
    assert verify_model_directory(folder) == folder / "artifacts" / "bundle"
    assert not (folder / "artifacts" / "cross_lead.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_no_model_directory_is_never_replaced(bundle, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(BundleError, match="would be lost"):
        write_model_directory(tmp_path / "letters", bundle)
    assert (tmp_path / "letters" / "one.txt").read_text() == "dear"
    with pytest.raises(BundleError, match="there is no model directory"):
        verify_model_directory(tmp_path / "nowhere")


def test_any_altered_byte_is_refused_by_name(copy):
    rng = random.Random(4)
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        place = rng.randrange(len(content)) if content else 0
        changed = bytearray(content or b" ")
        changed[place] ^= 1 << rng.randrange(8)
        (copy / name).write_bytes(bytes(changed))
        with pytest.raises(BundleError) as refused:
            verify_model_directory(copy)
        assert f"'{name}'" in str(refused.value)
        (copy / name).write_bytes(content)
    verify_model_directory(copy)


def test_every_byte_of_the_checksums_themselves_counts(copy):
    path = copy / CHECKSUMS
    content = path.read_bytes()
    for place in random.Random(5).sample(range(len(content)), 60):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(BundleError, match="not as it was written"):
            verify_model_directory(copy)
    path.write_bytes(content + b"\n")
    with pytest.raises(BundleError, match=CHECKSUMS):
        verify_model_directory(copy)
    for text in ("[]", "{}", '{"files": [], "digest": 1}', "\xff", json.dumps({"files": {"MLmodel": ""}})):
        path.write_text(text)
        with pytest.raises(BundleError, match=CHECKSUMS):
            verify_model_directory(copy)
    path.unlink()
    with pytest.raises(BundleError, match=f"has no {CHECKSUMS}"):
        verify_model_directory(copy)


@pytest.mark.parametrize(
    "extra",
    ["code/convpredict/__init__.pyc", "__pycache__/x.pyc", "artifacts/bundle/new.json", "code/json.py"],
)
def test_an_extra_file_is_refused_by_name(copy, extra):
    (copy / extra).parent.mkdir(exist_ok=True)
    (copy / extra).write_bytes(b"x")
    with pytest.raises(BundleError, match=extra):
        verify_model_directory(copy)


@pytest.mark.parametrize("name", ["MLmodel", "code/convpredict/errors.py", "artifacts/bundle/schema.json"])
def test_a_missing_file_and_a_link_are_refused_by_name(copy, name):
    (copy / name).rename(copy.parent / "aside")
    with pytest.raises(BundleError, match=f"'{name}'.* is missing"):
        verify_model_directory(copy)
    (copy / name).symlink_to(copy.parent / "aside")
    with pytest.raises(BundleError, match=f"'{name}'.* is a link"):
        verify_model_directory(copy)


def test_a_linked_folder_is_refused(copy):
    (copy / "code").rename(copy.parent / "code")
    (copy / "code").symlink_to(copy.parent / "code")
    with pytest.raises(BundleError, match=r"'code'.* is a link"):
        verify_model_directory(copy)


def test_what_mlflow_adds_to_a_registered_model_is_tolerated(copy):
    (copy / "registered_model_meta").write_text("model_name: demo\nmodel_version: 1\n")
    verify_model_directory(copy)
    (copy / "code" / "registered_model_meta").write_text("model_name: demo\n")
    with pytest.raises(BundleError, match="code/registered_model_meta"):
        verify_model_directory(copy)


def test_only_bytecode_of_the_script_is_no_matter_to_the_script(copy):
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "pyfunc_script.cpython-311.pyc").write_bytes(b"x")
    check_files(copy, besides="__pycache__")
    (copy / "code" / "__pycache__").mkdir()
    (copy / "code" / "__pycache__" / "x.pyc").write_bytes(b"x")
    with pytest.raises(AlteredError, match=r"code/__pycache__/x\.pyc"):
        check_files(copy, besides="__pycache__")


def test_reading_the_bundle_runs_no_code_of_the_directory(copy):
    trap = "raise SystemExit('ran')\n"
    for name in ("pyfunc_script.py", "checksums.py", "code/convpredict/__init__.py"):
        (copy / name).write_text(trap)
    with pytest.raises(BundleError, match="altered"):
        verify_model_directory(copy)
    load_bundle(copy / "artifacts" / "bundle")


def test_the_requirements_are_what_the_code_imports(written):
    _, libraries = modules_needed(*ENTRIES)
    stated = (written / "requirements.txt").read_text().split()
    assert stated == requirements(libraries)
    assert not [line for line in stated if line.startswith("convpredict")]
    assert all("==" in line for line in stated)
    with pytest.raises(BundleError, match="polars"):
        requirements(["polars"])
