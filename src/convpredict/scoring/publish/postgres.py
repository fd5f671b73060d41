"""Scores as a table of a PostgreSQL database: staged by COPY, then replaced in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC

import pyarrow as pa

from ...errors import PublishError
from .postgres_columns import PostgresColumn, columns_of, quoted, staged_rows
from .postgres_session import PostgresSession
from .protocol import (
    PUBLICATIONS,
    Publication,
    Published,
    as_text,
    check_scores,
    decide,
    done,
    unowned,
)

_STAGING = "convpredict_staging"


class PostgresPublisher:
    """A table of a PostgreSQL database, and beside it ``convpredict_publications``, which says what the table holds.

    The connection string is in the environment variable ``postgres_env``. Both tables are created where they are
    missing, in the schema that ``table`` names (``crm.scores``) or the first of the search path. ``wait``: seconds to
    wait for anybody else's lock; ``timeout``: seconds that one statement may take.
    """

    def __init__(
        self, postgres_env: str, table: str = "scores", wait: float = 60.0, timeout: float = 1800.0
    ) -> None:
        self._env = postgres_env
        self._given_schema, _, self._table = table.rpartition(".")
        self._place = f"table {table} of the PostgreSQL database in {postgres_env}"
        self._wait = wait
        self._timeout = timeout

    def describe(self) -> str:
        """The table, and the name of the variable that says where its database is."""
        return self._place

    def publish(self, scores: pa.Table, publication: Publication, *, older_ok: bool = False) -> Published:
        """Delete the former rows, insert the new ones and write the record in one transaction; see Publisher.

        Rows are deleted rather than truncated, so that who reads meanwhile sees the former night whole; the table
        itself stays, and so do views, grants and indexes. Where the connection is lost at the commit, the table is
        asked what became of it.
        """
        check_scores(scores, publication)
        step = "publish"
        committing = False
        try:
            with self._session() as session:
                schema = self._alone(session)
                step = decide(publication, self._current(session, schema), self._place, older_ok=older_ok)
                if step == "publish":
                    self._replace(session, schema, scores, publication)
                committing = True
                session.commit()
        except PublishError as error:
            if not committing:
                raise
            self._settle(publication, error)
        return done(self._place, publication, changed=step == "publish", current=step != "older")

    def current(self) -> Publication | None:
        """The record beside the table, its rows counted."""
        with self._session() as session:
            return self._current(session, self._schema(session))

    def kept(self, run_id: str) -> Publication | None:
        """The record beside the table, if it is that run's: the table holds one run."""
        current = self.current()
        return current if current is not None and current.run_id == run_id else None

    def erase(self, lead_ids: Sequence[object]) -> int:
        """Delete the rows, then have the server write the table anew (VACUUM FULL), which frees the bytes of deleted
        rows, and those of former nights. Readers wait meanwhile. The server's write-ahead log, its backups and its
        replicas' logs are out of reach. See Publisher."""
        with self._session() as session:
            schema = self._alone(session)
            current = self._current(session, schema)
            if current is None:
                return 0
            sql = f"DELETE FROM {self._target(schema)} WHERE lead_id::text = ANY($1) RETURNING 1"
            gone = len(session.rows(sql, as_text(lead_ids)))
            self._record(session, schema, current.without(gone))
            session.commit()
        self._rewrite(schema)
        return gone

    def find(self, lead_ids: Sequence[object]) -> list[str]:
        """The table, if it holds one of the leads."""
        with self._session() as session:
            schema = self._schema(session)
            if not session.exists(self._target(schema)):
                return []
            sql = f"SELECT 1 FROM {self._target(schema)} WHERE lead_id::text = ANY($1) LIMIT 1"
            return [self._place] if session.rows(sql, as_text(lead_ids)) else []

    def _target(self, schema: str) -> str:
        return f"{quoted(schema)}.{quoted(self._table)}"

    def _publications(self, schema: str) -> str:
        return f"{quoted(schema)}.{PUBLICATIONS}"

    @contextmanager
    def _session(self, *, transaction: bool = True) -> Iterator[PostgresSession]:
        with PostgresSession.open(
            self._env, self._place, self._wait, self._timeout, transaction=transaction
        ) as session:
            yield session

    def _schema(self, session: PostgresSession) -> str:
        """The schema of the table: the given one, else where it is found, else where it would be created."""
        if self._given_schema:
            return self._given_schema
        sql = (
            "SELECT coalesce((SELECT nspname::text FROM pg_namespace n JOIN pg_class c ON n.oid = c.relnamespace "
            "WHERE c.oid = to_regclass($1)), current_schema()::text)"
        )
        found = session.rows(sql, quoted(self._table))[0][0]
        if found is None:
            raise PublishError(
                f"{self._place}: the search path of this user names no schema that exists. Give the table with its "
                "schema, like crm.scores."
            )
        return str(found)

    def _alone(self, session: PostgresSession) -> str:
        """Take the lock that publications to this table share, over all machines; returns the table's schema."""
        schema = self._schema(session)
        key = hashlib.sha256(f"convpredict:{schema}.{self._table}".encode()).digest()[:8]
        session.rows("SELECT 1 FROM pg_advisory_xact_lock($1)", int.from_bytes(key, "big", signed=True))
        return schema

    def _current(self, session: PostgresSession, schema: str) -> Publication | None:
        if not session.exists(self._target(schema)):
            return None
        kind = session.rows(
            "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)", self._target(schema)
        )[0][0]
        if kind not in ("r", "p"):
            raise unowned(self._place)
        rows = session.rows(f"SELECT count(*) FROM {self._target(schema)}")[0][0]
        found = []
        if session.exists(self._publications(schema)):
            sql = (
                f"SELECT run_id, name, cutoff, content_hash, erased FROM {self._publications(schema)} "
                "WHERE table_name = $1"
            )
            found = session.rows(sql, self._table)
        if not found:
            if rows:
                raise unowned(self._place)
            return None
        run_id, name, cutoff, content_hash, erased = found[0]
        return Publication(run_id, name, cutoff.astimezone(UTC), rows, content_hash, erased)

    def _replace(
        self, session: PostgresSession, schema: str, scores: pa.Table, publication: Publication
    ) -> None:
        columns = columns_of(scores.schema)
        session.copy(_STAGING, staged_rows(scores, columns))
        target = self._target(schema)
        if session.exists(target):
            self._add_columns(session, target, columns)
        else:
            declared = ", ".join(
                f"{each.quoted} {each.sql_type}{' PRIMARY KEY' * (each.name == 'lead_id')}"
                for each in columns
            )
            session.run(f"CREATE TABLE {target} ({declared})")
        session.run(f"DELETE FROM {target}")
        names = ", ".join(each.quoted for each in columns)
        values = ", ".join(each.from_staging for each in columns)
        inserted = session.run(f"INSERT INTO {target} ({names}) SELECT {values} FROM pg_temp.{_STAGING}")
        if inserted != publication.rows:
            raise PublishError(
                f"{self._place} took {inserted:,} of {publication.rows:,} rows: a trigger or rule on it must have "
                "kept some out. Nothing was changed; remove it, and run again."
            )
        self._record(session, schema, publication)
        session.run(f"DROP TABLE pg_temp.{_STAGING}")

    def _add_columns(self, session: PostgresSession, target: str, columns: list[PostgresColumn]) -> None:
        """Add the columns that the table lacks; those that are no longer published stay, and will be null."""
        sql = (
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT "
            "attisdropped"
        )
        known = {name for (name,) in session.rows(sql, target)}
        for column in columns:
            if column.name not in known:
                session.run(f"ALTER TABLE {target} ADD COLUMN {column.quoted} {column.sql_type}")

    def _record(self, session: PostgresSession, schema: str, publication: Publication) -> None:
        session.run(
            f"CREATE TABLE IF NOT EXISTS {self._publications(schema)} (table_name text PRIMARY KEY, run_id text, "
            "name text, cutoff timestamptz, rows bigint, content_hash text, erased bigint)"
        )
        session.run(f"DELETE FROM {self._publications(schema)} WHERE table_name = $1", self._table)
        session.run(
            f"INSERT INTO {self._publications(schema)} VALUES ($1, $2, $3, $4, $5, $6, $7)",
            self._table,
            publication.run_id,
            publication.name,
            publication.cutoff,
            publication.rows,
            publication.content_hash,
            publication.erased,
        )

    def _settle(self, publication: Publication, error: PublishError) -> None:
        """Find out whether a commit that went unanswered took place; raise unless it did."""
        try:
            arrived = self.current() == publication
        except PublishError:
            raise PublishError(
                f"{error} The connection broke at the commit: readers see the former night or run "
                f"{publication.run_id}, one of them whole. Run again: it finds out which."
            ) from None
        if not arrived:
            raise error

    def _rewrite(self, schema: str) -> None:
        target = self._target(schema)
        with self._session(transaction=False) as session:
            before = session.rows("SELECT pg_relation_filenode(to_regclass($1))::bigint", target)
            session.run(f"VACUUM (FULL, ANALYZE) {target}")
            after = session.rows("SELECT pg_relation_filenode(to_regclass($1))::bigint", target)
        if before == after:
            raise PublishError(
                f"{self._place}: the rows were deleted, but the server did not write the table anew, so that their "
                "bytes still lie in its files. Only its owner may: run VACUUM (FULL, ANALYZE) as that user."
            )
