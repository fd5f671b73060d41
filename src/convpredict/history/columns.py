"""How source columns are read: one SQL expression for the value, and conditions for missing and unreadable ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from ..config.history import OPTIONAL_COLUMNS, TABLE_COLUMNS, AttributeConfig, Role, TableConfig
from ..config.messages import nearest
from ..errors import ConfigError, DataError
from .csv_files import quoted
from .sources import RawTable, first_line

_DAY = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
_LOCAL = f"{_DAY}({_CLOCK})?"
_OFFSET = f"{_DAY}{_CLOCK} ?([Zz]|[+-]\\d{{2}}(:?\\d{{2}})?)"
_NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
_INFINITY = r"\s*[+-]?inf(inity)?\s*"
_NO_VALUE = ("", "nan", "none", "null", "<na>", "nat")
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_WIDE_INTEGERS = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_FLOATS = {"FLOAT", "DOUBLE"}
_NAIVE = {"TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S"}


@dataclass(frozen=True)
class Reading:
    """How one column is read.

    ``value`` gives the canonical value (times: µs since 1970 UTC), ``missing`` whether nothing is there,
    ``local`` the naive local time where a declared time zone was applied, ``unzoned`` whether a time lacks
    both an offset and a declared zone.
    """

    name: str
    role: Role
    value: str
    missing: str
    column: str
    local: str | None = None
    unzoned: str | None = None


def read_columns(
    table: str, config: TableConfig, raw: RawTable, timezone: str | None, id_type: str
) -> dict[str, Reading]:
    """The readings of a table's columns and attributes, by convpredict's names.

    ``id_type`` is ``BIGINT`` or ``VARCHAR``. Raises :class:`DataError` for a missing column or an id that
    cannot be one, :class:`ConfigError` for naive times without a time zone.
    """
    readings: dict[str, Reading] = {}
    for name, role in TABLE_COLUMNS[table].items():
        column = find_column(table, name, config, raw)
        if column is None:
            continue
        key = f"history.{table}.columns.{name}"
        kind = raw.columns[column]
        if role == "time":
            zone = config.timezone or timezone
            readings[name] = read_time(name, column, kind, key, config.time_format, zone)
        elif role == "number":
            readings[name] = read_number(name, column, kind, key)
        elif role == "category":
            readings[name] = read_category(name, column, kind)
        else:
            check_id(key, column, kind, raw.origin)
            readings[name] = read_id(name, role, column, id_type if role == "id" else kind)
    for name in config.attributes:
        settings = config.attribute(name)
        readings[name] = _read_attribute(table, name, settings, config, raw, timezone)
    return readings


def find_column(table: str, name: str, config: TableConfig, raw: RawTable) -> str | None:
    """The source's column for one of convpredict's; None for an optional column that is not there."""
    column = config.columns.get(name, name)
    if column in raw.columns:
        return column
    if name in OPTIONAL_COLUMNS and name not in config.columns:
        return None
    raise DataError(
        f"history.{table}: {raw.origin} has no column '{column}'"
        + (f" (for {name})" if column != name else "")
        + f".{nearest(column, raw.columns)} It has: {_listing(raw.columns)}. "
        f"Map it under history.{table}.columns, like '{name}: NAME'."
    )


def _listing(columns: Mapping[str, str]) -> str:
    names = list(columns)
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def _read_attribute(
    table: str, name: str, settings: AttributeConfig, config: TableConfig, raw: RawTable, timezone: str | None
) -> Reading:
    column = settings.column or name
    key = f"history.{table}.attributes.{name}"
    if column not in raw.columns:
        raise DataError(
            f"{key}: {raw.origin} has no column '{column}'.{nearest(column, raw.columns)} "
            f"It has: {_listing(raw.columns)}."
        )
    kind = raw.columns[column]
    if settings.type == "number":
        return read_number(name, column, kind, key)
    if settings.type == "category":
        return read_category(name, column, kind)
    zone = settings.timezone or config.timezone or timezone
    return read_time(name, column, kind, key, settings.time_format or config.time_format, zone)


def check_id(key: str, column: str, kind: str, origin: str) -> None:
    """Refuse columns that cannot hold ids, floating-point ones first of all."""
    scale = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", kind)
    if kind in _FLOATS or (scale and scale[1] != "0"):
        raise DataError(
            f"{key}: column '{column}' of {origin} holds ids as {kind} numbers. Above 2^53 (16 digits) such numbers "
            "lose digits, so that different leads become one. Export the column as text or integer, or read it so: "
            "dtype='string' or 'Int64' in pandas; CSV columns are always read as text."
        )
    is_text = kind in {"VARCHAR", "UUID", '"NULL"'} or kind.startswith("ENUM")
    if not (is_text or scale or kind in _INTEGERS or kind in _WIDE_INTEGERS):
        raise DataError(
            f"{key}: column '{column}' of {origin} is {kind}, but ids are text or integers; convert it."
        )


def is_integer_id(kind: str) -> bool:
    """Whether ids of a DuckDB type are kept as 64-bit integers (wider ones are kept as text)."""
    return kind in _INTEGERS


def read_id(name: str, role: Role, column: str, kind: str) -> Reading:
    """An id: integers stay integers, everything else is text, untrimmed; '', nan, none, null count as missing."""
    source = quoted(column)
    if is_integer_id(kind):
        return Reading(name, role, f"{source}::BIGINT", f"{source} IS NULL", column)
    text = f"{source}::VARCHAR"
    missing = _is_missing(source)
    # A lead_id that is missing is caught by its reason; hiding it here too would slow down every later scan.
    value = text if role == "id" else f"CASE WHEN {missing} THEN NULL ELSE {text} END"
    return Reading(name, role, value, missing, column)


def _is_missing(source: str) -> str:
    """SQL: null, empty, or one of the words that programs write for a missing value (all of at most four bytes)."""
    text = f"{source}::VARCHAR"
    # Written out, because DuckDB turns a longer IN list into a join, and this runs for every row of every scan.
    words = " OR ".join(f"lower({text}) = '{word}'" for word in _NO_VALUE)
    return f"({source} IS NULL OR (strlen({text}) <= 4 AND ({words})))"


def read_category(name: str, column: str, kind: str) -> Reading:
    """A category: its text; empty text and NaN are missing."""
    source = quoted(column)
    if kind in _FLOATS:
        return Reading(
            name,
            "category",
            f"CASE WHEN NOT isnan({source}) THEN {source}::VARCHAR END",
            f"{source} IS NULL",
            column,
        )
    value = f"nullif({source}::VARCHAR, '')"
    return Reading(name, "category", value, f"{value} IS NULL", column)


def read_number(name: str, column: str, kind: str, key: str) -> Reading:
    """A number as float64; empty text and NaN are missing, other text must be a plain decimal number."""
    source = quoted(column)
    if kind in _FLOATS:
        return Reading(
            name,
            "number",
            f"nullif({source}::DOUBLE, 'nan'::DOUBLE)",
            f"({source} IS NULL OR isnan({source}))",
            column,
        )
    numeric = kind in _INTEGERS or kind in _WIDE_INTEGERS or kind.startswith("DECIMAL") or kind == "BOOLEAN"
    if numeric:
        return Reading(name, "number", f"{source}::DOUBLE", f"{source} IS NULL", column)
    if kind not in {"VARCHAR", '"NULL"'} and not kind.startswith("ENUM"):
        raise DataError(f"{key}: column '{column}' is {kind}, which is no number; convert it with 'sql'.")
    text = f"{source}::VARCHAR"
    value = (
        f"CASE WHEN regexp_full_match({text}, '{_NUMBER}') THEN TRY_CAST({text} AS DOUBLE) "
        f"WHEN regexp_full_match(lower({text}), '{_INFINITY}') THEN 'inf'::DOUBLE END"
    )
    return Reading(name, "number", value, _is_missing(source), column)


def read_time(
    name: str,
    column: str,
    kind: str,
    key: str,
    time_format: str | tuple[str, ...] | None,
    timezone: str | None,
) -> Reading:
    """A time in µs since 1970 UTC: with an offset as it is, without one in the declared zone."""
    source = quoted(column)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return Reading(name, "time", f"epoch_us({source})", f"{source} IS NULL", column)
    if kind in _NAIVE or kind == "DATE":
        if timezone is None:
            raise ConfigError(naive_message(key, column))
        local = f"{source}::TIMESTAMP"
        return Reading(name, "time", _from_local(local, timezone), f"{source} IS NULL", column, local)
    if kind != "VARCHAR" and kind != '"NULL"' and not kind.startswith("ENUM") and time_format is None:
        raise DataError(
            f"{key}: column '{column}' is {kind}, which is no time. Numbers are not guessed to be epochs: convert it "
            f"with 'sql', like to_timestamp({column}) for seconds, or give a time_format like '%Y%m%d'."
        )
    text = f"{source}::VARCHAR"
    missing = _is_missing(source)
    if time_format is not None:
        return _read_formatted(name, column, key, time_format, timezone, missing)
    tidy = f"upper(regexp_replace(replace({text}, ',', '.'), ' ?([Zz]|[+-][0-9:]+)$', '\\1'))"
    has_offset = f"regexp_full_match({text}, '{_OFFSET}')"
    is_local = f"regexp_full_match({text}, '{_LOCAL}')"
    local = f"TRY_CAST({tidy} AS TIMESTAMP)"
    value = f"CASE WHEN {has_offset} THEN epoch_us(TRY_CAST({tidy} AS TIMESTAMPTZ)) "
    if timezone is None:
        return Reading(
            name, "time", value + "END", missing, column, None, f"({is_local} AND {local} IS NOT NULL)"
        )
    value += f"WHEN {is_local} THEN {_from_local(local, timezone)} END"
    return Reading(name, "time", value, missing, column, f"CASE WHEN {is_local} THEN {local} END")


def _read_formatted(
    name: str, column: str, key: str, time_format: str | tuple[str, ...], timezone: str | None, missing: str
) -> Reading:
    formats = (time_format,) if isinstance(time_format, str) else time_format
    zoned = [bool(re.search("%[zZ]", entry)) for entry in formats]
    if any(zoned) and not all(zoned):
        raise ConfigError(
            f"{key}: either all time formats have an offset (%z) or none; split the column with 'sql'."
        )
    listing = "[" + ", ".join("'" + entry.replace("'", "''") + "'" for entry in formats) + "]"
    parsed = f"try_strptime({quoted(column)}::VARCHAR, {listing})"
    try:
        duckdb.connect().execute(f"SELECT try_strptime('', {listing})")
    except duckdb.Error as error:
        raise ConfigError(
            f"{key}: the time_format {', '.join(repr(entry) for entry in formats)} is not understood: "
            f"{first_line(error)} Write it with strptime's codes, like '%d.%m.%Y %H:%M'."
        ) from None
    if all(zoned):
        return Reading(name, "time", f"epoch_us({parsed}::TIMESTAMPTZ)", missing, column)
    if timezone is None:
        raise ConfigError(naive_message(key, column))
    return Reading(name, "time", _from_local(parsed, timezone), missing, column, parsed)


def _from_local(local: str, timezone: str) -> str:
    if timezone in {"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu"}:
        return f"epoch_us({local})"
    return f"epoch_us({at_zone(local, timezone)})"


def at_zone(local: str, timezone: str) -> str:
    """SQL for the instant of a local time."""
    return f"timezone('{timezone}', {local})"


def naive_message(key: str, column: str) -> str:
    """The error for times without offset where no time zone is declared."""
    table = key.split(".")[1]
    return (
        f"{key}: the times in column '{column}' have no offset, so nobody knows which instants they are. Declare the "
        f"zone they were written in: history.timezone (or history.{table}.timezone), like 'Europe/Berlin' or 'UTC'."
    )
