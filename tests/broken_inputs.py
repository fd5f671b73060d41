"""A small sound project, and the ways to break it that ``test_broken_inputs`` goes through."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from convpredict.errors import ConfigError, ConvpredictError, DataError

LEADS = "Id,Created,Source,Budget\n" + "".join(
    f"58050280000006450{n:02},2024-01-{n:02} 08:00,{'web' if n % 2 else 'fair'},{n}00\n" for n in range(1, 21)
)
CALLS = "Lead,At,Kind\n" + "".join(
    f"58050280000006450{n:02},2024-02-{n:02}T09:00:00+01:00,call\n" for n in range(1, 21)
)
WINS = "Lead,Won\n" + "".join(f"58050280000006450{n:02},2024-02-{n:02}\n" for n in range(5, 15))

PROJECT: dict[str, Any] = {
    "name": "broken",
    "sources": {
        "people": {"file": "leads.csv"},
        "calls": {"file": "calls.csv"},
        "wins": {"file": "wins.csv"},
    },
    "history": {
        "timezone": "Europe/Berlin",
        "leads": {
            "source": "people",
            "columns": {"lead_id": "Id", "created_at": "Created"},
            "attributes": {
                "source": {"type": "category", "column": "Source"},
                "budget": {"type": "number", "column": "Budget"},
            },
        },
        "interactions": {
            "source": "calls",
            "columns": {"lead_id": "Lead", "occurred_at": "At", "kind": "Kind"},
        },
        "conversions": {"source": "wins", "columns": {"lead_id": "Lead", "converted_at": "Won"}},
    },
}


@dataclass
class Broken:
    """One way to break the project: what is done to its folder and configuration, and what must be said."""

    name: str
    error: type[ConvpredictError]
    says: tuple[str, ...]
    files: Callable[[Path], None] | None = None
    config: dict[str, Any] = field(default_factory=dict)


def write_sound_files(folder: Path) -> None:
    (folder / "leads.csv").write_text(LEADS)
    (folder / "calls.csv").write_text(CALLS)
    (folder / "wins.csv").write_text(WINS)


def _replace(name: str, old: str, new: str, count: int = -1) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, count))

    return change


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def _parquet(name: str, columns: dict[str, pa.Array]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        pq.write_table(pa.table(columns), folder / name)

    return change


def _truncated_gzip(folder: Path) -> None:
    content = gzip.compress((LEADS * 50).encode())
    (folder / "leads.csv.gz").write_bytes(content[: len(content) // 2])


def _file_for_folder(folder: Path) -> None:
    (folder / "quarantine").write_text("not a folder")
    _replace("calls.csv", "5805", "6", 1)(folder)


def _duckdb(folder: Path) -> None:
    with duckdb.connect(str(folder / "crm.duckdb")) as connection:
        connection.execute("CREATE TABLE contacts AS SELECT 1 AS id")


_TIMES = pa.array([0] * 3, pa.timestamp("us", tz="UTC"))
_PEOPLE_PARQUET = {"sources.people": {"file": "leads.parquet"}}
_AS_IS = {"history.leads.columns": {}, "history.leads.attributes": {"source": "category"}}
_THREE = pa.array(["a", "b", "c"])

WHOLE = [
    Broken(
        "ids are floats",
        DataError,
        ("history.leads.columns.lead_id", "2^53", "lose digits", "text"),
        _parquet(
            "leads.parquet", {"lead_id": pa.array([5.8e18, 1.0, 2.0]), "created_at": _TIMES, "source": _THREE}
        ),
        _PEOPLE_PARQUET | _AS_IS,
    ),
    Broken(
        "ids of the interactions are floats",
        DataError,
        ("history.interactions.columns.lead_id", "column 'Lead'", "2^53"),
        _parquet("calls.parquet", {"Lead": pa.array([5.8e18, 1.0, 2.0]), "At": _TIMES, "Kind": _THREE}),
        {"sources.calls": {"file": "calls.parquet"}},
    ),
    Broken(
        "ids damaged by a spreadsheet",
        DataError,
        ("scientific notation", "5.80503E+18", "Export again"),
        _replace("leads.csv", "5805028000000645007", "5.80503E+18"),
    ),
    Broken(
        "ids of the interactions damaged by a spreadsheet",
        DataError,
        ("history.interactions", "scientific notation", "5.80503E+18"),
        _replace("calls.csv", "5805028000000645007", "5.80503E+18"),
        {"history.validation": {"max_bad_share": 1}},
    ),
    Broken(
        "ids are dates",
        DataError,
        ("history.leads.columns.lead_id", "ids are text or integers"),
        _parquet("leads.parquet", {"lead_id": _TIMES, "created_at": _TIMES, "source": _THREE}),
        _PEOPLE_PARQUET | _AS_IS,
    ),
    Broken(
        "unknown time zone",
        ConfigError,
        ("history.timezone", "'Europe/Berln'", "did you mean 'Europe/Berlin'"),
        None,
        {"history.timezone": "Europe/Berln"},
    ),
    Broken(
        "naive text times without a declared zone",
        ConfigError,
        ("history.leads.columns.created_at", "no offset", "history.timezone"),
        None,
        {"history.timezone": None},
    ),
    Broken(
        "naive timestamps without a declared zone",
        ConfigError,
        ("created_at", "no offset", "history.timezone"),
        _parquet(
            "leads.parquet",
            {"lead_id": _THREE, "created_at": pa.array([0] * 3, pa.timestamp("us")), "source": _THREE},
        ),
        {"history.timezone": None} | _PEOPLE_PARQUET | _AS_IS,
    ),
    Broken(
        "epochs as times",
        DataError,
        ("created_at", "BIGINT", "not guessed to be epochs", "to_timestamp"),
        _parquet("leads.parquet", {"lead_id": _THREE, "created_at": pa.array([1, 2, 3]), "source": _THREE}),
        _PEOPLE_PARQUET | _AS_IS,
    ),
    Broken(
        "missing file",
        DataError,
        ("sources.people.file", "Did you mean 'leads.csv'", "--data"),
        None,
        {"sources.people.file": "lead.csv"},
    ),
    Broken(
        "glob without files",
        DataError,
        ("sources.people.file", "no file", "*.tsv"),
        None,
        {"sources.people.file": "*.tsv"},
    ),
    Broken(
        "a folder for a file",
        DataError,
        ("sources.people.file", "is a folder"),
        lambda f: (f / "x").mkdir(),
        {"sources.people.file": "x"},
    ),
    Broken("empty file", DataError, ("sources.people.file", "is empty"), _bytes("leads.csv", b"")),
    Broken(
        "a file of blank lines", DataError, ("sources.people", "is empty"), _bytes("leads.csv", b"\n \n\n")
    ),
    Broken(
        "header only",
        DataError,
        ("history.leads", "no rows"),
        _bytes("leads.csv", LEADS.splitlines()[0].encode()),
    ),
    Broken(
        "required table without rows",
        DataError,
        ("history.conversions", "no rows"),
        _bytes("wins.csv", b"Lead,Won\n"),
    ),
    Broken(
        "missing column",
        DataError,
        ("history.leads", "no column 'Created'", "Did you mean 'Createdd'"),
        _replace("leads.csv", "Created", "Createdd"),
    ),
    Broken(
        "missing attribute column",
        DataError,
        ("history.leads.attributes.budget", "no column 'Budget'"),
        _replace("leads.csv", "Budget", "Money"),
    ),
    Broken(
        "bytes that are not UTF-8",
        DataError,
        ("sources.people", "not utf-8", "line 3", "sources.people.encoding"),
        _bytes("leads.csv", LEADS.replace("fair", "Köln").encode("cp1252")),
    ),
    Broken(
        "header that is not UTF-8",
        DataError,
        ("sources.people", "not utf-8", "encoding"),
        _bytes("leads.csv", "Größe,a\n1,2\n".encode("cp1252")),
    ),
    Broken(
        "a time format that is none",
        ConfigError,
        ("history.leads.columns.created_at", "time_format '%Q'"),
        None,
        {"history.leads.time_format": "%Q"},
    ),
    Broken(
        "a delimiter of two characters",
        ConfigError,
        ("sources.people.delimiter", "at most 1 character"),
        None,
        {"sources.people.delimiter": "||"},
    ),
    Broken(
        "a quarantine folder that is a file",
        DataError,
        ("cannot be read or written", "quarantine"),
        _file_for_folder,
    ),
    Broken(
        "unknown encoding",
        ConfigError,
        ("sources.people.encoding", "klingon"),
        None,
        {"sources.people.encoding": "klingon"},
    ),
    Broken(
        "a quotation mark never closed",
        DataError,
        ("sources.people", "quotation mark", "never closed"),
        _replace("leads.csv", ",fair,", ',"fair,', 1),
    ),
    Broken(
        "truncated gzip",
        DataError,
        ("sources.people", "damaged or cut off"),
        _truncated_gzip,
        {"sources.people.file": "leads.csv.gz"},
    ),
    Broken(
        "not a Parquet file",
        DataError,
        ("sources.people", "no readable Parquet file"),
        _bytes("leads.parquet", b"PAR1 but not really PAR1"),
        _PEOPLE_PARQUET,
    ),
    Broken(
        "unknown file type",
        ConfigError,
        ("sources.people.format", "leads.dat"),
        lambda f: (f / "leads.csv").rename(f / "leads.dat") and None,
        {"sources.people.file": "leads.dat"},
    ),
    Broken(
        "unknown table in a DuckDB file",
        DataError,
        ("sources.people.table", "Did you mean 'contacts'"),
        _duckdb,
        {"sources.people": {"duckdb": "crm.duckdb", "table": "contact"}},
    ),
    Broken(
        "not a DuckDB file",
        DataError,
        ("sources.people", "no readable DuckDB database"),
        _bytes("crm.duckdb", b"x" * 5000),
        {"sources.people": {"duckdb": "crm.duckdb", "table": "t"}},
    ),
    Broken(
        "unknown source",
        ConfigError,
        ("history.leads.source", "'peeple'", "people"),
        None,
        {"history.leads.source": "peeple"},
    ),
    Broken(
        "SQL syntax error",
        ConfigError,
        ("history.leads.sql", "syntax error"),
        None,
        {"history.leads": {"sql": "SELEKT * FROM people", "attributes": {"a": "category"}}},
    ),
    Broken(
        "SQL over an unknown source",
        ConfigError,
        ("history.leads.sql", "does not exist", "Declared sources: calls, wins"),
        None,
        {"history.leads": {"sql": "SELECT * FROM peple", "attributes": {"a": "category"}}},
    ),
    Broken(
        "SQL without a needed column",
        DataError,
        ("history.leads", "no column 'created_at'"),
        None,
        {"history.leads": {"sql": "SELECT Id AS lead_id FROM people"}},
    ),
    Broken(
        "SQL that fails on the data",
        DataError,
        ("history.leads.sql", "TRY_CAST"),
        None,
        {"history.leads": {"sql": "SELECT CAST(Source AS INT) AS lead_id FROM people"}},
    ),
    Broken(
        "SQL that is no SELECT",
        ConfigError,
        ("history.leads.sql", "exactly one SELECT"),
        None,
        {"history.leads": {"sql": "DROP TABLE people"}},
    ),
    Broken(
        "two statements",
        ConfigError,
        ("history.leads.sql", "exactly one SELECT"),
        None,
        {"history.leads": {"sql": "SELECT 1; SELECT 2"}},
    ),
    Broken(
        "neither interactions nor attributes",
        ConfigError,
        ("history.interactions is missing", "attributes"),
        None,
        {"history.interactions": None, "history.leads.attributes": {}},
    ),
    Broken(
        "required table not declared",
        ConfigError,
        ("history.conversions is missing",),
        None,
        {"history.conversions": None},
    ),
    Broken(
        "too many bad rows",
        DataError,
        (
            "interactions: 100.0% of 20 rows",
            "5.0%",
            "20 x unknown lead",
            "interactions.parquet",
            "max_bad_share",
        ),
        _replace("calls.csv", "5805", "6805"),
    ),
    Broken(
        "nothing before known_until",
        DataError,
        ("leads: no row of 20 is left", "after known_until"),
        None,
        {"history.known_until": "2020-01-01"},
    ),
    Broken(
        "mapping of an unknown column",
        ConfigError,
        ("history.leads.columns", "'lead'", "Did you mean 'lead_id'"),
        None,
        {"history.leads.columns": {"lead": "Id"}},
    ),
    Broken(
        "reserved attribute name",
        ConfigError,
        ("history.interactions.attributes.tie", "reserved"),
        None,
        {"history.interactions.attributes": {"tie": "category"}},
    ),
    Broken(
        "interaction attribute of type time",
        ConfigError,
        ("history.interactions.attributes.x", "category or number"),
        None,
        {"history.interactions.attributes": {"x": "time"}},
    ),
    Broken(
        "config typo",
        ConfigError,
        ("history.leads.colums", "unknown key", "Did you mean 'columns'"),
        None,
        {"history.leads.colums": {}},
    ),
    Broken(
        "horizon of zero",
        ConfigError,
        ("labels.horizons[0]", "longer than zero"),
        None,
        {"labels.horizons": ["0d"]},
    ),
    Broken(
        "duration without unit",
        ConfigError,
        ("labels.horizons[0]", "needs a unit", "30"),
        None,
        {"labels.horizons": [30]},
    ),
    Broken(
        "negative window",
        ConfigError,
        ("features.declare[0].windows[0]", "'-7d'"),
        None,
        {"features.declare": [{"family": "count", "windows": ["-7d"]}]},
    ),
    Broken(
        "trend from long to short",
        ConfigError,
        ("features.declare[0]", "short 30d, long 7d"),
        None,
        {"features.declare": [{"family": "trend", "short": "30d", "long": "7d"}]},
    ),
    Broken(
        "unset database variable",
        ConfigError,
        ("sources.people.postgres_env", "not set"),
        None,
        {"sources.people": {"postgres_env": "CONVPREDICT_NO_SUCH_VARIABLE", "table": "x"}},
    ),
]
"""Inputs that stop the run."""
