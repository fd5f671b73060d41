"""Tables and queries of a PostgreSQL database, streamed as Arrow batches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

import pyarrow as pa

from ..config.history import PostgresSource
from ..errors import ConfigError, DataError

_PASSWORD = re.compile(r"://[^:/?#]*:(.*)@|password\s*=\s*'([^']*)'|password\s*=\s*([^\s&']+)", re.I)


def read_postgres(source: PostgresSource, label: str) -> pa.RecordBatchReader:
    """Stream a table or query in record batches; types without an Arrow counterpart (numeric, uuid) arrive
    as text.

    The connection string comes from the environment variable named in ``postgres_env`` and is never shown.
    Raises :class:`ConfigError` when the variable or the driver is missing, :class:`DataError` when the
    database cannot be read.
    """
    uri = os.environ.get(source.postgres_env)
    if not uri:
        raise ConfigError(
            f"{label}.postgres_env: the environment variable of that name is not set; put the connection string "
            "into it (postgresql://user@host:5432/database) and give its name here."
        )
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise ConfigError(
            f"{label} needs the PostgreSQL driver, which is not installed: pip install 'convpredict[postgres]'."
        ) from None
    query = source.query or f"SELECT * FROM {_identifier(source.table or '')}"
    try:
        connection = dbapi.connect(uri)
    except Exception as error:
        raise DataError(
            f"{label}: {driver_message(error, uri)} Check that the server runs and the user may connect."
        ) from None
    try:
        cursor = connection.cursor()
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
    except Exception as error:
        connection.close()
        raise DataError(
            f"{label}: {driver_message(error, uri)} Check the table or query and the user's rights."
        ) from None
    fields = [(entry.name, _plain_type(entry.type)) for entry in reader.schema]

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                columns = [_plain(column) for column in batch.columns]
                yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
        finally:
            cursor.close()
            connection.close()

    return pa.RecordBatchReader.from_batches(pa.schema(fields), batches())


def _identifier(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.OpaqueType) else kind


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column.type, pa.OpaqueType) else column


def driver_message(error: Exception, uri: str) -> str:
    """The first line of what the driver says, without the connection string or any part of its password.

    >>> driver_message(ValueError('invalid percent-encoded token: "s%zz"'), "postgresql://me:s%zz@db/crm")
    'invalid percent-encoded token: "(password)".'
    """
    text = str(error).replace(uri, "(connection string)").strip() or type(error).__name__
    for match in _PASSWORD.finditer(uri):
        secret = next(part for part in match.groups() if part is not None)
        for form in sorted({secret, unquote(secret), *secret.split("@")} - {""}, key=len, reverse=True):
            text = text.replace(form, "(password)")
    lines = [line.strip() for line in text.splitlines() if line.strip() and "://" not in line]
    return (lines[0] if lines else "the database refused the connection").rstrip(".") + "."
