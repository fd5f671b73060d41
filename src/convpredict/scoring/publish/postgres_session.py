"""A connection to the PostgreSQL database that scores are published to, with its limits and its errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ...errors import ConfigError, PublishError
from ...history.postgres import driver_message

_LOCKED = "55P03"
_TIMED_OUT = "57014"


class PostgresSession:
    """Statements on one connection; every failure becomes a PublishError that does not show the connection string.

    Made by :meth:`open`. With ``transaction`` nothing lasts until :meth:`commit`.
    """

    def __init__(self, connection: Any, uri: str, place: str, wait: float, timeout: float) -> None:
        self._connection = connection
        self._uri = uri
        self._place = place
        self._wait = wait
        self._timeout = timeout

    @classmethod
    @contextmanager
    def open(
        cls, postgres_env: str, place: str, wait: float, timeout: float, *, transaction: bool = True
    ) -> Iterator[PostgresSession]:
        """A session, closed at the end of the block; what was not committed is then undone.

        Raises ConfigError where the variable or the driver is missing.
        """
        uri = os.environ.get(postgres_env)
        if not uri:
            raise ConfigError(
                "nightly.publish.postgres_env: the environment variable of that name is not set; put the connection "
                "string into it (postgresql://user@host:5432/database) and give its name here."
            )
        try:
            from adbc_driver_postgresql import dbapi
        except ImportError:
            raise ConfigError(
                "nightly.publish needs the PostgreSQL driver, which is not installed: pip install "
                "'convpredict[postgres]'."
            ) from None
        try:
            connection = dbapi.connect(uri, autocommit=not transaction)
        except Exception as error:
            raise PublishError(
                f"{place}: {driver_message(error, uri)} Check that the server runs and the user may connect."
            ) from None
        session = cls(connection, uri, place, wait, timeout)
        try:
            session._limit(transaction)
            yield session
        finally:
            session._close()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self._explained(), self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def run(self, sql: str, *parameters: Any) -> int:
        """Run a statement; returns how many rows it touched, or -1 where the driver does not tell (with parameters)."""
        with self._explained(), self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return int(cursor.rowcount)

    def exists(self, table: str) -> bool:
        """Whether a table (or view) of this quoted name is there."""
        return bool(self.rows("SELECT to_regclass($1) IS NOT NULL", table)[0][0])

    def copy(self, table: str, batches: pa.RecordBatchReader) -> None:
        """Make a temporary table and fill it by COPY."""
        with self._explained(), self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, batches, mode="create", temporary=True)

    def commit(self) -> None:
        """Make what was done last, and visible, all at once."""
        with self._explained():
            self._connection.commit()

    def _limit(self, transaction: bool) -> None:
        if transaction:
            self.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        limits = {
            "lock_timeout": self._wait,
            "statement_timeout": self._timeout,
            "idle_in_transaction_session_timeout": self._timeout,
        }
        for name, seconds in limits.items():
            self.rows("SELECT set_config($1, $2, $3)", name, f"{seconds * 1000:.0f}ms", transaction)

    def _close(self) -> None:
        """Close; a connection that is already cut has nothing left to undo."""
        try:
            self._connection.close()
        except Exception as error:
            if not _is_driver_error(error):
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PublishError:
            raise
        except Exception as error:
            if not _is_driver_error(error) and not isinstance(error, pa.ArrowException):
                raise
            raise PublishError(f"{self._place}: {self._reason(error)} Nothing was changed there.") from None

    def _reason(self, error: Exception) -> str:
        state = getattr(error, "sqlstate", None)
        if state == _LOCKED:
            return (
                f"somebody else has held a lock on it for {self._wait:g} s (another publication, or a statement that "
                "locks the table). Wait until they end, and run again."
            )
        if state == _TIMED_OUT:
            return f"a statement took longer than {self._timeout:g} s and was cancelled; run again when it is idle."
        message = driver_message(error, self._uri)
        return message.rpartition("ERROR:")[2].strip()


def _is_driver_error(error: Exception) -> bool:
    import adbc_driver_manager

    return isinstance(error, adbc_driver_manager.Error)
