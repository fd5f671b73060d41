"""The ledger against a plain dictionary, and its readers while a writer works, dies, or both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convpredict.errors import DataError
from convpredict.scoring.content_hash import content_hash
from convpredict.scoring.ledger import compaction
from convpredict.scoring.ledger.index import read_index
from convpredict.scoring.ledger.ledger import Ledger, as_ids

START = datetime(2025, 1, 1, tzinfo=UTC)
FLOATS = ("p_convert_30d", "expected_value")


def night(number: int, *, again: int = 1, model: str = "m1") -> dict:
    """The manifest of a night; nights lie ten days apart, so that months end often."""
    cutoff = START + timedelta(days=10 * number)
    suffix = f"-{again}" if again > 1 else ""
    return {
        "run_id": f"shop-{cutoff:%Y%m%dT%H%M%SZ}{suffix}",
        "cutoff": cutoff.isoformat(),
        "model": {"name": "shop", "version": "3", "digest": model, "trained_until": "2024-12-01T00:00:00Z"},
        "data": {"fingerprint": f"data of night {number}"},
    }


def scores(leads: list, seed: int = 0, *, with_value: bool = True) -> pa.Table:
    """Scores whose numbers use all their bits, in the order in which they are published."""
    rng = np.random.default_rng(seed)
    n = len(leads)
    p = np.sort(rng.random(n))[::-1] if n else np.zeros(0)
    columns = {
        "lead_id": pa.array(leads, pa.string() if n and isinstance(leads[0], str) else pa.int64()),
        "run_id": pa.array(["not kept"] * n, pa.string()),
        "p_convert_30d": pa.array(p),
        "score": pa.array(rng.integers(0, 101, n).astype(np.int16)),
        "rank": pa.array(np.arange(1, n + 1)),
        "features_hash": pa.array(rng.integers(0, 2**64, n, dtype=np.uint64)),
        "reasons_for": pa.array([["not kept"]] * n, pa.list_(pa.string())),
    }
    if with_value:
        columns["expected_value"] = pa.array(np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)))
    return pa.table(columns)


def plain(table: pa.Table) -> list[tuple]:
    """Rows as tuples, numbers as their bits."""
    columns = []
    for name in sorted(table.column_names):
        values = table[name]
        if pa.types.is_floating(values.type):
            bits = values.combine_chunks().fill_null(-1.0).to_numpy().view(np.uint64)
            columns.append([(name, int(bit)) for bit in bits])
        else:
            columns.append([(name, value) for value in values.to_pylist()])
    return list(zip(*columns, strict=True))


class Model:
    """What a ledger should say, kept in a dictionary of lists."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict]] = {}
        self.manifests: dict[str, dict] = {}

    def append(self, manifest: dict, table: pa.Table) -> None:
        kept = [
            {name: value for name, value in row.items() if name not in ("run_id", "reasons_for")}
            for row in table.to_pylist()
        ]
        run = manifest["run_id"]
        self.manifests[run] = manifest
        cutoff = datetime.fromisoformat(manifest["cutoff"])
        self.rows[run] = [{**row, "run_id": run, "cutoff": cutoff} for row in kept]

    def erase(self, leads: list) -> int:
        before = sum(map(len, self.rows.values()))
        self.rows = {
            run: [row for row in rows if row["lead_id"] not in leads] for run, rows in self.rows.items()
        }
        return before - sum(map(len, self.rows.values()))

    def read(self, runs: list[str] | None, leads: list | None) -> list[dict]:
        found = [
            row
            for run, rows in self.rows.items()
            if runs is None or run in runs
            for row in rows
            if leads is None or row["lead_id"] in leads
        ]
        return sorted(found, key=lambda row: (row["lead_id"], row["cutoff"], row["run_id"]))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 8), st.integers(0, 12), st.booleans()),
        st.tuples(st.just("compact")),
        st.tuples(st.just("erase"), st.lists(st.integers(0, 11), max_size=2)),
        st.tuples(st.just("read"), st.integers(0, 8), st.lists(st.integers(0, 13), max_size=3)),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(STEPS, st.booleans())
def test_it_says_what_a_dictionary_would(steps: list[tuple], text_ids: bool) -> None:
    def ids(numbers) -> list:
        return [f"lead-{number}" for number in numbers] if text_ids else [int(number) for number in numbers]

    with tempfile.TemporaryDirectory() as folder:
        ledger, model = Ledger(folder), Model()
        for step in steps:
            if step[0] == "append":
                _, number, n, with_value = step
                leads = ids(np.random.default_rng(number).permutation(12)[:n])
                if not leads:
                    continue
                table, manifest = scores(leads, number, with_value=with_value), night(number)
                known = model.manifests.get(manifest["run_id"])
                if known is not None and known["content"] != (n, with_value):
                    with pytest.raises(DataError, match="already"):
                        ledger.append(manifest, table)
                else:
                    assert ledger.append(manifest, table) is (known is None)
                    if known is None:
                        model.append({**manifest, "content": (n, with_value)}, table)
            elif step[0] == "compact":
                ledger.compact()
            elif step[0] == "erase":
                assert ledger.erase(ids(step[1])) == model.erase(ids(step[1]))
            else:
                run = night(step[1])["run_id"]
                check(ledger.read(run_ids=[run], lead_ids=ids(step[2])), model.read([run], ids(step[2])))
        check(ledger.read(), model.read(None, None))
        assert {run.run_id: run.rows for run in ledger.runs()} == {
            run: len(rows) for run, rows in model.rows.items()
        }
        named = {file.path for file in read_index(Path(folder)).files}
        assert {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.parquet")} == named


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal to the bit, NaN too."""
    return content_hash(one) == content_hash(other)


def check(table: pa.Table, expected: list[dict]) -> None:
    schema = table.schema
    assert table.num_rows == len(expected)
    wanted = pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in expected], schema
    )
    assert plain(table) == plain(wanted)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Nights of January to March, those of January merged; one cutoff was published twice."""
    ledger = Ledger(tmp_path / "ledger")
    for number in range(8):
        ledger.append(night(number), scores(list(range(100, 130)), number))
        if number == 5:
            ledger.compact()
    ledger.append(night(7, again=2), scores(list(range(100, 130)), 99))
    return ledger


def test_columns_and_rows_come_as_asked_for(ledger: Ledger) -> None:
    run = ledger.runs()[2]
    assert (run.cutoff, run.model.version, run.fingerprint) == (
        START + timedelta(days=20),
        "3",
        "data of night 2",
    )
    assert run.model.trained_until == datetime(2024, 12, 1, tzinfo=UTC)
    one = ledger.read([run.run_id], [105], ["features_hash", "p_convert_30d"])
    expected = scores(list(range(100, 130)), 2)
    assert one.column_names == ["features_hash", "p_convert_30d"]
    assert one.to_pylist() == [
        {name: expected[name][5].as_py() for name in ("features_hash", "p_convert_30d")}
    ]
    assert one.schema.field("features_hash").type == pa.uint64()
    assert ledger.read(lead_ids=["105"]).num_rows == 9
    assert ledger.read(lead_ids=["105 ", "1e2", "none", 7]).num_rows == 0
    assert ledger.read(run_ids=[]).num_rows == 0
    assert sum(batch.num_rows for batch in ledger.scan(columns=["rank"])) == 9 * 30
    assert [run.run_id[-2:] for run in ledger.runs()[-2:]] == ["0Z", "-2"]


def test_a_file_tells_its_runs_by_itself(ledger: Ledger) -> None:
    for path in ledger.folder.rglob("*.parquet"):
        told = json.loads(pq.read_schema(path).metadata[b"convpredict.runs"])
        assert {run["run_id"] for run in told} == set(pq.read_table(path)["run_id"].to_pylist())


def test_a_merged_month_is_sorted_and_takes_up_a_night_that_is_filled_in(ledger: Ledger) -> None:
    months = sorted((ledger.folder / "months").glob("*.parquet"))
    assert [path.name[:7] for path in months] == ["2025-01"]
    late = night(1, again=2)
    ledger.append(late, scores(list(range(90, 105)), 50, with_value=False))
    before = ledger.read()
    assert ledger.compact() == ["2025-01", "2025-02"]
    assert same(ledger.read(), before)
    assert ledger.compact() == []
    merged = pq.read_table(next((ledger.folder / "months").glob("2025-01*")))
    order = list(zip(merged["lead_id"].to_pylist(), merged["cutoff"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert late["run_id"] in merged["run_id"].to_pylist()


def test_a_month_in_many_ranges_is_the_same(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.read()
    monkeypatch.setattr(compaction, "_RANGE_ROWS", 20)
    monkeypatch.setattr("convpredict.scoring.ledger.ledger.ROW_GROUP", 7)
    ledger.append(night(1, again=2), scores(list(range(500, 540)), 5))
    ledger.compact()
    path = next((ledger.folder / "months").glob("2025-01*"))
    assert pq.read_metadata(path).num_row_groups > 5
    ids = pq.read_table(path)["lead_id"].to_pylist()
    assert ids == sorted(ids)
    others = list({run.run_id for run in ledger.runs()} - {night(1, again=2)["run_id"]})
    assert same(ledger.read(others), before)


def test_a_score_is_never_changed(ledger: Ledger) -> None:
    assert ledger.append(night(7), scores(list(range(100, 130)), 7)) is False
    shuffled = scores(list(range(100, 130)), 7).take(pa.array(np.random.default_rng(0).permutation(30)))
    assert ledger.append(night(7), shuffled) is False
    with pytest.raises(DataError, match="already, with other scores"):
        ledger.append(night(7), scores(list(range(100, 130)), 8))


def test_a_night_comes_again_without_those_who_were_erased_since(ledger: Ledger) -> None:
    whole = scores(list(range(100, 130)), 7)
    assert ledger.erase([104]) == 9
    left = whole.filter(pa.array([lead != 104 for lead in range(100, 130)]))
    place = left.schema.get_field_index("rank")
    ranked = left.set_column(place, "rank", pa.array(range(1, 30)))
    assert ledger.append(night(7), ranked) is False
    assert ledger.append(night(7), whole) is False
    assert ledger.read(lead_ids=[104]).num_rows == 0
    with pytest.raises(DataError, match="already"):
        ledger.append(night(7), ranked.slice(1))
    assert ledger.erase([104]) == 0
    assert [run.erased for run in ledger.runs()] == [1] * 9


def test_what_cannot_be_reproduced_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(DataError, match="lack features_hash"):
        ledger.append(night(0), scores(["a"]).drop_columns(["features_hash"]))
    with pytest.raises(DataError, match="p_convert_<horizon>"):
        ledger.append(night(0), scores(["a"]).drop_columns(["p_convert_30d"]))
    with pytest.raises(DataError, match="twice"):
        ledger.append(night(0), scores(["a", "b", "a"]))
    assert ledger.runs() == []
    ledger.append(night(0), scores(["a"]))
    with pytest.raises(DataError, match="by string, the run to be appended by int64"):
        ledger.append(night(1), scores([1]))


def test_a_damaged_ledger_says_so(ledger: Ledger) -> None:
    index = ledger.folder / "index.json"
    text = index.read_text()
    index.write_text(text[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        ledger.read()
    index.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(DataError, match="format is not 1"):
        ledger.runs()
    index.unlink()
    with pytest.raises(DataError, match=r"no index\.json"):
        ledger.append(night(9), scores([1]))
    index.write_text(text)
    next((ledger.folder / "runs").glob("*.parquet")).unlink()
    with pytest.raises(DataError, match="lacks a file"):
        ledger.read()


def test_ids_are_compared_as_the_ledger_has_them() -> None:
    assert as_ids(["7", 7, "07", "+7", "7.0", "x", -3, str(2**70)], pa.int64()).to_pylist() == [-3, 7]
    assert as_ids([7, "a"], pa.string()).to_pylist() == ["7", "a"]


def test_readers_see_every_run_once_while_files_are_replaced(ledger: Ledger) -> None:
    expected = ledger.read()
    seen: list[bool] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found = ledger.read([run.run_id for run in ledger.runs() if run.run_id in known])
            seen.append(same(found, expected))

    known = {run.run_id for run in ledger.runs()}
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(9, 30):
        ledger.append(night(number), scores(list(range(100, 130)), number))
        ledger.compact()
    done.set()
    reader.join()
    assert len(seen) > 3
    assert all(seen)


CRASH = """
import json, os, sys
from pathlib import Path
import pyarrow as pa
sys.path.insert(0, sys.argv[1])
from test_ledger import night, scores
from convpredict.scoring.ledger.ledger import Ledger

folder, work = Path(sys.argv[2]), sys.argv[3]
ledger = Ledger(folder)
leads = list(range(100, 130))
def change():
    if work == "compact":
        ledger.compact()
    elif work == "erase":
        ledger.erase([104, 105])
    else:
        ledger.append(night(9), scores(leads, 9))
def die_at(k):
    left = [k]
    for name in ("replace", "unlink", "fsync", "open"):
        real = getattr(os, name) if name != "fsync" else (lambda descriptor: None)
        def deadly(*arguments, _real=real, **options):
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            result = _real(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return result
        setattr(os, name, deadly)
states, deaths = set(), 0
for k in range(1, 1000):
    child = os.fork()
    if child == 0:
        die_at(k)
        change()
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    table = ledger.read(columns=["run_id", "lead_id"])
    rows = list(zip(table["run_id"].to_pylist(), table["lead_id"].to_pylist()))
    assert len(rows) == len(set(rows)), "a row twice"
    states.add(len(rows))
    if died == 0:
        break
    deaths += 1
print(json.dumps({"deaths": deaths, "rows": sorted(states)}))
"""


@pytest.mark.parametrize(
    ("work", "rows"), [("compact", [270]), ("append", [270, 300]), ("erase", [252, 270])]
)
def test_killed_at_any_file_operation_readers_see_the_old_or_the_new(
    ledger: Ledger, work: str, rows: list[int]
) -> None:
    """Each attempt begins with what the ones before it left, and dies one step later; the last one gets through."""
    expected = ledger.read()
    ran = subprocess.run(
        [sys.executable, "-c", CRASH, str(Path(__file__).parent), str(ledger.folder), work],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["deaths"] > 10
    assert told["rows"] == rows
    if work == "compact":
        assert same(ledger.read(), expected)
    elif work == "append":
        assert ledger.append(night(9), scores(list(range(100, 130)), 9)) is False
        assert same(ledger.read([run.run_id for run in ledger.runs()[:-1]]), expected)
    ledger.compact()
    assert len(list(ledger.folder.rglob("*.parquet"))) == len(read_index(ledger.folder).files)
    assert not list(ledger.folder.rglob("*.partial"))


def one_file(ledger: Ledger, kind: str = "runs") -> Path:
    return next((ledger.folder / kind).glob("*.parquet"))


@pytest.mark.parametrize("kind", ["runs", "months"])
def test_a_flipped_bit_is_never_read_as_another_value(ledger: Ledger, kind: str) -> None:
    path, expected = one_file(ledger, kind), ledger.read()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    told, places = 0, rng.choice(page_bytes(path), 200)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(DataError, match="restore it from a backup") as raised:
            ledger.read()
        told += str(path) in str(raised.value)
    assert told == len(places)
    path.write_bytes(content)
    assert same(ledger.read(), expected)


def page_bytes(path: Path) -> list[int]:
    """Where the values of columns with one page lie: at the end of each column; headers are shorter than 80 bytes."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    plain = [column for column in columns if not column.has_dictionary_page]
    return [
        place
        for column in plain
        for place in range(
            column.data_page_offset + 80, column.data_page_offset + column.total_compressed_size
        )
    ]


def changed_without_a_word(path: Path) -> None:
    """As a version without checksums left it: the same rows but for the last bit of one probability."""
    table = pq.ParquetFile(path).read()
    p = table["p_convert_30d"].to_numpy().copy()
    p[3] = np.nextafter(p[3], 1)
    place = table.schema.get_field_index("p_convert_30d")
    pq.write_table(table.set_column(place, "p_convert_30d", pa.array(p)), path)


def test_merging_does_not_make_a_changed_row_permanent(ledger: Ledger) -> None:
    path = sorted((ledger.folder / "runs").glob("*.parquet"))[0]
    changed_without_a_word(path)
    ledger.append(night(12), scores([100], 12))
    files = sorted(ledger.folder.rglob("*.parquet"))
    with pytest.raises(DataError, match=r"those of 'shop-20250210T000000Z' that were appended.*restore"):
        ledger.compact()
    assert sorted(ledger.folder.rglob("*.parquet")) == files
    ledger.check_run(night(5)["run_id"])
    with pytest.raises(DataError, match="restore it from a backup"):
        ledger.check_run(path.name.split(".")[0])


@pytest.mark.parametrize("kind", ["runs", "months"])
def test_a_truncated_file_is_named_and_forgetting_goes_on(ledger: Ledger, kind: str) -> None:
    path = one_file(ledger, kind)
    path.write_bytes(path.read_bytes()[:-100])
    for work in (
        lambda: ledger.read(),
        lambda: ledger.read(lead_ids=[104]),
        lambda: list(ledger.scan()),
        lambda: ledger.erase([104]),
    ):
        with pytest.raises(DataError, match=r"restore it from a backup") as raised:
            work()
        assert str(path) in str(raised.value)
    held = sum(
        str(path.relative_to(ledger.folder)) == file.path and len(file.runs) for file in index_files(ledger)
    )
    unread: dict[str, str] = {}
    assert ledger.find([104], unread)["lead_id"].to_pylist() == ["104"] * (9 - held)
    assert list(unread) == [str(path)]
    unread.clear()
    assert ledger.erase([104], unread) == 9 - held
    assert list(unread) == [str(path)]
    assert "restore it from a backup" in unread[str(path)]


def index_files(ledger: Ledger) -> tuple:
    return read_index(ledger.folder).files
