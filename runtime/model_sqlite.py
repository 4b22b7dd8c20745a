"""Read models in SQLite: a file, with a connection of the standard library in the projection's own thread.

WAL, so that readers never wait and never see half a page of events; `synchronous=FULL`, so that a checkpoint that
was committed is one that a loss of power leaves. A page is `BEGIN IMMEDIATE … COMMIT`: several projections may share a
file, and take turns.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from .model import Model, Row, check_statement
from .model_errors import ReadModelUnavailable, StatementRefused

__all__ = ["SqliteModel"]

STATEMENTS_MAX = 500
PLAIN = frozenset({int, float, str, bytes, type(None)})

_TRANSIENT = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
})  # fmt: skip
"""Not the statement's fault: whoever mends it has the same statement succeed."""

_SET_UP = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA legacy_alter_table = ON",  # a table takes another's place: what refers to it by name goes on doing so
)


class SqliteModel(Model):
    """A read model in a file, or in memory for tests (`:memory:`)."""

    def __init__(self, path: str, *, synchronous: str = "full", cache_mib: int = 64, lock_wait_s: float = 5.0) -> None:
        """Raises `ReadModelUnavailable`."""
        super().__init__(f"sqlite:///{path}")
        self._checked: set[str] = set()
        try:
            self._connection = sqlite3.connect(path, timeout=lock_wait_s, isolation_level=None, cached_statements=256)
            self._cursor = self._connection.cursor()
            for pragma in (*_SET_UP, f"PRAGMA synchronous = {synchronous}", f"PRAGMA cache_size = {-1024 * cache_mib}"):
                self._connection.execute(pragma).fetchall()
        except sqlite3.Error as error:
            raise ReadModelUnavailable(self.name, str(error)) from error
        self._closed = False

    def begin(self) -> None:
        self._refused = None
        self._run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.check_unspoilt()
        self._run("COMMIT")

    def rollback(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
        except sqlite3.Error:
            self.close()

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        if self._refused is not None or sql not in self._checked:
            self._check(sql)
        try:
            if PLAIN.issuperset(map(type, values)):
                self._cursor.execute(sql, values)
            else:
                self._cursor.execute(sql, [_stored(value) for value in values])
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise self._told(error) from error

    def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        self.execute(sql, values)
        try:
            return self._cursor.fetchall()
        except sqlite3.Error as error:
            raise self._told(error) from error

    def lock(self, name: str) -> None:
        """The transaction has the whole file."""

    def hold_tables(self, names: Sequence[str]) -> None:
        """Readers have what was there when they began, and need not wait."""

    def has_table(self, name: str) -> bool:
        return bool(self.fetch("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)))

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def application_id(self) -> int:
        """What kind of file it says to be."""
        return int(self.fetch("SELECT application_id FROM pragma_application_id", ())[0][0])

    def _run(self, sql: str) -> None:
        try:
            self._cursor.execute(sql)
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _check(self, sql: str) -> None:
        self.check_unspoilt()
        try:
            check_statement(sql)
        except StatementRefused as refused:
            raise self.spoil(refused) from None
        if len(self._checked) >= STATEMENTS_MAX:
            self._checked.clear()
        self._checked.add(sql)

    def _told(self, error: Exception) -> ReadModelUnavailable | StatementRefused:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _TRANSIENT:
            return ReadModelUnavailable(self.name, str(error))
        return self.spoil(StatementRefused(str(error), getattr(error, "sqlite_errorname", type(error).__name__)))


def _stored(value: Any) -> Any:
    """What SQLite has no type for, as text that sorts as the value does; anything else is SQLite's to refuse."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value
