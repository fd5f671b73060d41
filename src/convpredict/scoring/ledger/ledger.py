"""The ledger: every score ever published, append-only by run, so that any of them can be reproduced and judged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ...errors import DataError
from ...files import replacing
from ...history.history import TIMESTAMP
from ..content_hash import content_hash
from ..nightly.facts import ModelIdentity
from .index import Index, LedgerFile, LedgerRun, changing, read_index, remove_strays, write_index

KEYS = ("lead_id", "run_id", "cutoff")
ROW_GROUP = 65_536
METADATA = b"convpredict.runs"
_NAMES = frozenset({"lead_id", "score", "rank", "features_hash"})
_PREFIXES = ("p_convert_", "expected_value")
_ATTEMPTS = 10
_CHECKED = ds.ParquetFragmentScanOptions(page_checksum_verification=True)


class Ledger:
    """The ledger in a folder, which comes into being with the first run.

    Any number of readers may look at it while one process writes: they see a run once or not at all, whenever the
    writer dies. Probabilities and hashes come back to the bit.

    >>> import tempfile
    >>> rows = pa.table({"lead_id": ["b", "a"], "p_convert_30d": [0.5, 0.25], "rank": [1, 2],
    ...                  "features_hash": pa.array([7, 8], pa.uint64())})
    >>> night = {"run_id": "demo-1", "cutoff": "2025-06-01T00:00:00+00:00",
    ...          "model": {"name": "demo", "version": "1", "digest": "", "trained_until": None}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger(Path(folder))
    ...     _ = ledger.append(night, rows)
    ...     ledger.read(lead_ids=["a"], columns=["p_convert_30d"]).to_pydict()
    {'p_convert_30d': [0.25]}
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        runs = self.runs()
        return f"Ledger({len(runs):,} runs, {sum(run.rows for run in runs):,} scores)"

    def runs(self) -> list[LedgerRun]:
        """All runs, by cutoff; of one cutoff in the order in which they were appended."""
        return sorted(read_index(self.folder).runs.values(), key=lambda run: (run.cutoff, run.number))

    def append(self, manifest: Mapping[str, Any], rows: pa.Table) -> bool:
        """Add the scores of a run; False where it is there already with the same content.

        Parameters
        ----------
        manifest
            At least run_id, cutoff and model (name, version, digest, trained_until); of the rest
            model_knew_later and data.fingerprint are kept.
        rows
            lead_id (each once), rank, features_hash, one or more p_convert_<horizon>, and of score and
            expected_value* what there is. Other columns are left out.

        Raises DataError where the run is there with another content, where the rows lack a column or tell a lead
        twice, or where their ids are of another type than those of the ledger.
        """
        kept = _canonical(rows, str(manifest["run_id"]))
        with changing(self.folder) as index:
            run, known = self._checked(index, manifest, kept)
            if known:
                return False
            table = _with_run(kept, run)
            file = LedgerFile(f"runs/{run.run_id}.{index.next_file}.parquet", (run.run_id,))
            write_rows(self.folder / file.path, [table], table.schema, [run])
            write_index(self.folder, index.with_runs([run]).with_files((), (file,)))
        return True

    def check(self, manifest: Mapping[str, Any], rows: pa.Table) -> None:
        """Raise the DataError that :meth:`append` would raise for a run; nothing is written."""
        self._checked(read_index(self.folder), manifest, _canonical(rows, str(manifest["run_id"])))

    def read(
        self,
        run_ids: Sequence[str] | None = None,
        lead_ids: Sequence[Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Scores of some runs (default: all) and leads (default: all), sorted by lead_id, cutoff and run.

        Columns: lead_id, run_id, cutoff, then those of the runs asked for; null where a run does not have one.
        ``columns`` names those wanted. Of the files only what is needed is read.
        """
        with_keys = None if columns is None else list(dict.fromkeys((*KEYS, *columns)))
        snapshot = self._snapshot(run_ids, lead_ids, with_keys)
        found = snapshot.read()
        if found.num_rows and snapshot.n_files > 1:
            found = found.take(pc.sort_indices(found, [(name, "ascending") for name in _ORDER]))
        return found if columns is None else found.select(list(columns))

    def scan(
        self,
        run_ids: Sequence[str] | None = None,
        lead_ids: Sequence[Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """What :meth:`read` gives, in record batches, unsorted, so that it need not fit into memory."""
        yield from self._snapshot(run_ids, lead_ids, columns).batches()

    def compact(self) -> list[str]:
        """Merge the runs of every finished month into one file sorted by lead_id and cutoff; tells the months.

        A month is finished where there is a run of a later one.
        """
        from .compaction import compact

        return compact(self.folder)

    def erase(self, lead_ids: Sequence[Any], unread: dict[str, str] | None = None) -> int:
        """Delete all scores of some leads from the files; tells how many there were.

        With ``unread`` files that cannot be read stay as they are and are told there, by path with the reason;
        without it the first one raises DataError.
        """
        from .compaction import erase

        return erase(self.folder, lead_ids, unread)

    def find(self, lead_ids: Sequence[Any], unread: dict[str, str]) -> pa.Table:
        """lead_id (as text) and cutoff of every score of some leads, from all files that can be read.

        The others are told in ``unread``, by path with the reason.
        """
        found = [pa.table({"lead_id": pa.array([], pa.string()), "cutoff": pa.array([], TIMESTAMP)})]
        for file in read_index(self.folder).files:
            path = self.folder / file.path
            try:
                rows = Snapshot([path], None, lead_ids, ["lead_id", "cutoff"]).read()
            except (DataError, FileNotFoundError) as error:
                unread[str(path)] = reason_of(error)
                continue
            found.append(rows.set_column(0, "lead_id", rows["lead_id"].cast(pa.string())))
        return pa.concat_tables(found)

    def check_run(self, run_id: str) -> None:
        """Raise DataError where the rows of a run are not those that were appended.

        Known of a run that has its file to itself and lost no row to an erasure; of others the checksums of the pages
        tell, which every reader checks.
        """
        index = read_index(self.folder)
        for file in index.files:
            if file.runs == (run_id,):
                check_rows(self.folder, index, file)

    def _snapshot(
        self, run_ids: Sequence[str] | None, lead_ids: Sequence[Any] | None, columns: Sequence[str] | None
    ) -> Snapshot:
        """Open the files that the index names; where a writer replaced one meanwhile, look again."""
        for attempt in range(_ATTEMPTS):
            index = read_index(self.folder)
            wanted = None if run_ids is None else frozenset(run_ids)
            files = [file for file in index.files if wanted is None or wanted & set(file.runs)]
            try:
                return Snapshot([self.folder / file.path for file in files], wanted, lead_ids, columns)
            except FileNotFoundError as error:
                if attempt + 1 < _ATTEMPTS and read_index(self.folder) != index:
                    continue
                raise DataError(
                    f"the ledger in '{self.folder}' lacks a file that its index names ({error.filename or error}), "
                    "so scores of published nights are lost; restore it from a backup"
                ) from None
        raise AssertionError("every attempt returns, raises or is followed by another one")

    def _checked(self, index: Index, manifest: Mapping[str, Any], kept: pa.Table) -> tuple[LedgerRun, bool]:
        """The run as the ledger describes it, and whether it is there already."""
        known = index.runs.get(str(manifest["run_id"]))
        if known is not None:
            self._check_same(known, kept)
            return known, True
        self._check_type(index, kept)
        return _described(manifest, kept, len(index.runs) + 1), False

    def _check_same(self, known: LedgerRun, rows: pa.Table) -> None:
        """Rows that were erased since may be missing from the new ones, and the ranks below them move up."""
        if content_hash(rows) == known.content_hash:
            return
        if known.erased:
            left = self.read(run_ids=[known.run_id]).drop_columns(["run_id", "cutoff"])
            names = [name for name in rows.column_names if name != "rank"]
            same_names = set(names) <= set(left.column_names)
            if same_names and content_hash(left.select(names)) == content_hash(rows.select(names)):
                return
        raise DataError(
            f"the ledger has the run '{known.run_id}' already, with other scores than the ones to be appended; a "
            "published score is never changed: publish the cutoff again under a run id of its own (--again)"
        )

    def _check_type(self, index: Index, rows: pa.Table) -> None:
        if not index.files:
            return
        known = schema_of(self.folder / index.files[0].path).field("lead_id").type
        if known != rows.schema.field("lead_id").type:
            raise DataError(
                f"the ledger in '{self.folder}' has leads by {known}, the run to be appended by "
                f"{rows.schema.field('lead_id').type}, so that no lead could be followed; read lead_id as before, "
                "or move the ledger aside to begin a new one"
            )


_ORDER = ("lead_id", "cutoff", "run_id")


class Snapshot:
    """Open files of a ledger with a choice of rows and columns: what a reader sees, whatever is replaced meanwhile.

    Raises FileNotFoundError where there is no such file, and DataError where one cannot be read or a checksum of its
    pages is wrong.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        run_ids: frozenset[str] | None,
        lead_ids: Sequence[Any] | None,
        columns: Sequence[str] | None,
    ) -> None:
        self.n_files = len(paths)
        form = ds.ParquetFileFormat(default_fragment_scan_options=_CHECKED)
        self._files: dict[Path, pa.NativeFile] = {}
        fragments, schemas = [], []
        for path in paths:
            with readable(path):
                self._files[path] = pa.memory_map(str(path))
                fragments.append(form.make_fragment(self._files[path]))
                schemas.append(fragments[-1].physical_schema)
        self.schema = unified(schemas)
        self._data = ds.FileSystemDataset(fragments, self.schema, form)
        self._columns = list(columns) if columns is not None else self.schema.names
        self._filter: ds.Expression | None = None
        if lead_ids is not None:
            self._filter = ds.field("lead_id").isin(as_ids(lead_ids, self.schema.field("lead_id").type))
        if run_ids is not None:
            chosen = ds.field("run_id").isin(pa.array(sorted(run_ids), pa.string()))
            self._filter = chosen if self._filter is None else self._filter & chosen

    def read(self, extra: ds.Expression | None = None) -> pa.Table:
        """The rows; ``extra`` is a further condition on them."""
        with self._blaming():
            return self._reader(extra).read_all()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in record batches."""
        with self._blaming():
            yield from self._reader(None)

    def _reader(self, extra: ds.Expression | None) -> pa.RecordBatchReader:
        condition = self._filter if extra is None else extra if self._filter is None else self._filter & extra
        names = [name for name in self._columns if name in self.schema.names]
        return self._data.scanner(columns=names, filter=condition).to_reader()

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Tell which file cannot be read, which the error of a scan over several does not."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            for path, file in self._files.items():
                with readable(path), pq.ParquetFile(file, page_checksum_verification=True) as whole:
                    for number in range(whole.num_row_groups):
                        whole.read_row_group(number)
            raise _damaged(next(iter(self._files)).parents[1], _first_line(error)) from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise DataError with the file and the remedy where reading it fails; a missing file is left to the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, MemoryError):
            raise
        raise _damaged(path, _first_line(error)) from None


def schema_of(path: Path) -> pa.Schema:
    """The columns of a file of the ledger. Raises DataError where it cannot be read."""
    with readable(path):
        return pq.read_schema(path)


def check_rows(folder: Path, index: Index, file: LedgerFile) -> None:
    """Raise DataError where a file of one run holds other rows than were appended; a run with erased rows passes."""
    run = index.runs[file.runs[0]]
    if run.erased:
        return
    rows = Snapshot([folder / file.path], None, None, None).read().drop_columns(["run_id", "cutoff"])
    if content_hash(rows) != run.content_hash:
        raise _damaged(folder / file.path, f"its rows are not those of '{run.run_id}' that were appended")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"the ledger's '{path}' cannot be used: {what}. Something changed it since it was written, or it may not "
        "be read; restore it from a backup, or give this user the right to read it, and run again"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def reason_of(error: Exception) -> str:
    """Why a file of the ledger cannot be used, and the remedy, without its path."""
    if isinstance(error, FileNotFoundError):
        return "the ledger's index names it, and it is not there; restore it from a backup"
    return str(error).partition("cannot be used: ")[2] or str(error)


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of several files: the keys, then the others in the order of their first file."""
    if not schemas:
        return pa.schema([("lead_id", pa.string()), ("run_id", pa.string()), ("cutoff", TIMESTAMP)])
    merged = pa.unify_schemas([schema.remove_metadata() for schema in schemas])
    return pa.schema([merged.field(name) for name in (*KEYS, *(n for n in merged.names if n not in KEYS))])


def as_ids(lead_ids: Sequence[Any], wanted: pa.DataType) -> pa.Array:
    """Lead ids, which may be given as text, as the ledger has them; what is no whole number is none of its ids."""
    texts = [str(lead) for lead in lead_ids]
    if pa.types.is_integer(wanted):
        numbers = {int(text) for text in texts if text.lstrip("-").isdecimal() and str(int(text)) == text}
        return pa.array(sorted(number for number in numbers if -(2**63) <= number < 2**63), wanted)
    return pa.array(texts, wanted)


def write_rows(
    path: Path, tables: Iterator[pa.Table] | Sequence[pa.Table], schema: pa.Schema, runs: Sequence[LedgerRun]
) -> int:
    """Write a file of a ledger, whole or not at all; tells how many rows it has."""
    told = json.dumps([run.to_dict() for run in runs])
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    rows = 0
    with (
        replacing(path) as partial,
        pq.ParquetWriter(
            partial,
            schema.with_metadata({METADATA: told.encode()}),
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=["run_id", "cutoff", "lead_id"],
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        ) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


def drop_replaced(folder: Path, former: Index, index: Index) -> Index:
    """Let the index name the new files, then delete the ones that it no longer names."""
    if index != former:
        write_index(folder, index)
        remove_strays(folder, index)
    return index


def _canonical(rows: pa.Table, run_id: str) -> pa.Table:
    """The columns that a ledger keeps, sorted by lead."""
    missing = [name for name in ("lead_id", "rank", "features_hash") if name not in rows.column_names]
    if not any(name.startswith("p_convert_") for name in rows.column_names):
        missing.append("p_convert_<horizon>")
    if missing:
        raise DataError(
            f"the scores of '{run_id}' lack {', '.join(missing)}, without which nobody could reproduce them later; "
            "append the scores as the nightly run makes them"
        )
    names = [name for name in rows.column_names if name in _NAMES or name.startswith(_PREFIXES)]
    ordered = rows.select(list(dict.fromkeys(("lead_id", *names)))).sort_by("lead_id").combine_chunks()
    if pc.count_distinct(ordered["lead_id"], mode="all").as_py() != ordered.num_rows:
        raise DataError(
            f"the scores of '{run_id}' tell a lead twice, so neither could be believed; tell each once"
        )
    return ordered.replace_schema_metadata(None)


def _described(manifest: Mapping[str, Any], rows: pa.Table, number: int) -> LedgerRun:
    model = manifest["model"]
    return LedgerRun(
        run_id=str(manifest["run_id"]),
        number=number,
        cutoff=_instant(manifest["cutoff"]),
        model=ModelIdentity(
            str(model["name"]),
            str(model["version"]),
            str(model["digest"]),
            _instant_or_none(model.get("trained_until")),
            _instant_or_none(model.get("registered_at")),
        ),
        model_knew_later=bool(manifest.get("model_knew_later", False)),
        fingerprint=str((manifest.get("data") or {}).get("fingerprint", "")),
        probability_columns=tuple(name for name in rows.column_names if name.startswith("p_convert_")),
        rows=rows.num_rows,
        content_hash=content_hash(rows),
    )


def _with_run(rows: pa.Table, run: LedgerRun) -> pa.Table:
    """The rows with the columns that tell their run."""
    constants = {
        "run_id": pa.repeat(pa.scalar(run.run_id, pa.string()), rows.num_rows),
        "cutoff": pa.repeat(pa.scalar(run.cutoff, TIMESTAMP), rows.num_rows),
    }
    others = {name: rows[name] for name in rows.column_names if name != "lead_id"}
    return pa.table({"lead_id": rows["lead_id"], **constants, **others})


def _instant(given: Any) -> datetime:
    instant = (
        given if isinstance(given, datetime) else datetime.fromisoformat(str(given).replace("Z", "+00:00"))
    )
    return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)


def _instant_or_none(given: Any) -> datetime | None:
    return None if given is None else _instant(given)


def with_rows_left(run: LedgerRun, erased: int) -> LedgerRun:
    """The run after some of its rows were erased."""
    return replace(run, rows=run.rows - erased, erased=run.erased + erased)
