"""CSV files as tables of text: nothing is guessed, no digit of an id is lost, malformed lines are kept apart."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import duckdb
import pyarrow as pa
import pyarrow.csv

from ..errors import ConfigError, DataError

_BLOCK_BYTES = 16 << 20
_MALFORMED = pa.schema([("reason", pa.string()), ("source_row", pa.int64()), ("line", pa.string())])


@dataclass
class CsvContent:
    """What was read: the columns, and the lines with too few or too many fields (reason, row, text)."""

    columns: tuple[str, ...]
    malformed: list[tuple[str, int, str]] = field(default_factory=list)
    renamed: tuple[str, ...] = ()
    rows: int = 0

    def malformed_table(self) -> pa.Table:
        """The malformed lines with the columns reason, source_row, line."""
        columns = list(zip(*self.malformed, strict=True)) or [(), (), ()]
        return pa.table(
            [pa.array(c, t) for c, t in zip(columns, _MALFORMED.types, strict=True)], schema=_MALFORMED
        )


def read_csv_files(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    files: Sequence[Path],
    *,
    label: str,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    repeated: Sequence[str] = (),
) -> CsvContent:
    """Create the DuckDB table ``target`` from CSV files with the same header; every column is text, '' where
    empty.

    ``repeated`` are columns that may come more than once: their namesakes get a number without a word. ``label``
    names the configuration key in messages. Raises :class:`DataError` for empty, damaged or wrongly encoded files and
    :class:`ConfigError` for an unknown encoding.
    """
    content: CsvContent | None = None
    for path in files:
        header, skip, used = _read_header(path, delimiter, encoding, label)
        names, renamed = _unique(header, repeated)
        if content is None:
            content = CsvContent(tuple(names), renamed=renamed)
            columns = ", ".join(f"{quoted(name)} VARCHAR" for name in names)
            connection.execute(f"CREATE TABLE {target} ({columns})")
        elif tuple(names) != content.columns:
            raise DataError(
                f"{label}: {path.name} has the columns {', '.join(names)}, but {files[0].name} has "
                f"{', '.join(content.columns)}. Files that are read together need the same header."
            )
        _append(connection, target, path, content, skip, used, encoding, label)
    if content is None:
        raise DataError(f"{label}: there is no file to read.")
    return content


def quoted(name: str) -> str:
    """A SQL identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _append(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    path: Path,
    content: CsvContent,
    skip: int,
    delimiter: str,
    encoding: str,
    label: str,
) -> None:
    first_row, names = content.rows, list(content.columns)
    rejected = 0

    def reject(row: pyarrow.csv.InvalidRow) -> str:
        nonlocal rejected
        rejected += 1
        reason = "malformed line: too many fields"
        if row.actual_columns < row.expected_columns:
            reason = "malformed line: too few fields"
        content.malformed.append((reason, first_row + row.number - skip, row.text))
        return "skip"

    watched = _Watched(_open(path))
    rows, ends_in_break = 0, False
    try:
        reader = pyarrow.csv.open_csv(
            watched,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                encoding=encoding,
                column_names=names,
                skip_rows=skip,
                block_size=_BLOCK_BYTES,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=reject
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False, null_values=[]
            ),
        )
        for batch in reader:
            if batch.num_rows:
                connection.register("incoming_csv", batch)
                connection.execute(f"INSERT INTO {target} SELECT * FROM incoming_csv")
                connection.unregister("incoming_csv")
                rows += batch.num_rows
                ends_in_break = any("\n" in column[-1].as_py() for column in batch.columns)
    except UnicodeError as error:
        raise _encoding_error(path, encoding, label) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, label, error) from error
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise _encoding_error(path, encoding, label) from error
        only_header = "Empty CSV" in str(error) or "Could not skip initial" in str(error)
        if not only_header:
            raise DataError(
                f"{label}: {path} cannot be read as CSV: {str(error).splitlines()[0]}."
            ) from error
    finally:
        watched.close()
    if rejected and content.malformed[-1][1] == first_row + rows + rejected:
        ends_in_break = "\n" in content.malformed[-1][2]
    if watched.quotes % 2 and ends_in_break:
        raise DataError(
            f"{label}: {path} has a quotation mark that is never closed, so everything after it would be one value. "
            'Close it, or double it ("") where it is meant as text.'
        )
    content.rows += rows + rejected


class _Watched(io.RawIOBase):
    """A readable stream that counts the quotation marks that pass."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.quotes += chunk.count(b'"')
        return chunk

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if compressed else path.open("rb")


def _read_header(path: Path, delimiter: str | None, encoding: str, label: str) -> tuple[list[str], int, str]:
    """The column names, the number of physical lines up to the end of the header, and the delimiter."""
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    try:
        with _open(path) as binary, io.TextIOWrapper(binary, encoding=codec, newline="") as text:
            first = next((line for line in text if line.strip()), None)
            if first is None:
                raise DataError(f"{label}: {path} is empty: it has not even a header. Export it again.")
            used = delimiter or max(",;\t|", key=first.count)
        with _open(path) as binary, io.TextIOWrapper(binary, encoding=codec, newline="") as text:
            rows: Iterator[list[str]] = csv.reader(text, delimiter=used)
            header = next(row for row in rows if any(cell.strip() for cell in row))
            lines = rows.line_num  # type: ignore[attr-defined]
    except LookupError:
        raise ConfigError(
            f"{label}.encoding: '{encoding}' is no known encoding; try utf-8, cp1252 or latin-1."
        ) from None
    except UnicodeError as error:
        raise _encoding_error(path, encoding, label) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise _damaged(path, label, error) from error
    return header, lines, used


def _unique(header: Sequence[str], repeated: Sequence[str] = ()) -> tuple[list[str], tuple[str, ...]]:
    """Names that differ by more than their case, as DuckDB needs them; later namesakes get a number.

    Second comes what to tell of them, which is nothing of ``repeated`` names.
    """
    names: list[str] = []
    taken: set[str] = set()
    renamed: list[str] = []
    for position, original in enumerate(header):
        base = original or f"column{position}"
        name, number = base, 0
        while name.lower() in taken:
            number += 1
            name = f"{base}_{number}"
        if name != original and original not in repeated:
            renamed.append(f"'{original}' (column {position + 1}) is read as '{name}'")
        taken.add(name.lower())
        names.append(name)
    return names, tuple(renamed)


def _damaged(path: Path, label: str, error: Exception) -> DataError:
    return DataError(f"{label}: {path} is damaged or cut off ({error}); copy or export it again.")


def _encoding_error(path: Path, encoding: str, label: str) -> DataError:
    row = ""
    if encoding.lower().replace("_", "-") in {"utf-8", "utf8"}:
        number = 0
        try:
            with _open(path) as stream:
                for number, line in enumerate(stream, start=1):  # noqa: B007
                    line.decode("utf-8")
        except UnicodeError:
            row = f", first in line {number}"
        except (EOFError, OSError):
            row = ""
    return DataError(
        f"{label}: {path} holds bytes that are not {encoding}{row}. Declare how the file is encoded: "
        f"{label}.encoding: cp1252 (Windows, Excel) or latin-1 or utf-16."
    )
