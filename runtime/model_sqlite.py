"""Read models in SQLite: a file, with a connection of the standard library in the projection's own thread.

WAL, so that readers never wait and never see half a page of events; `synchronous=FULL`, so that a checkpoint that
was committed is one that a loss of power leaves. A page is `BEGIN IMMEDIATE … COMMIT`: several projections may share a
file, and take turns.

Statements are gathered (`Model.at_once`): as long as the same one comes again, its values wait, and SQLite gets them
all in one go, which halves what a row costs.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

from .model import Model, Row, check_statement
from .model_errors import ReadModelUnavailable, StatementRefused

__all__ = ["SqliteModel"]

STATEMENTS_MAX = 500
GATHERED_MAX = 5000
GATHERED = ("INSERT", "UPDATE", "DELETE", "REPLACE")
"""What the driver takes many values for; not where rows come back."""
PLAIN = frozenset({int, float, str, bytes, type(None)})

_TRANSIENT = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
})  # fmt: skip
"""Not the statement's fault: whoever mends it has the same statement succeed."""

REFUSALS = (sqlite3.Error, OverflowError, UnicodeEncodeError)

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
        self._checked: dict[str, bool] = {}  # and whether they can be gathered
        self._statement = ""  # of those that are gathered
        self._gathered: list[Sequence[Any]] = []
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
        self._forget()
        self._run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._send()
        self.check_unspoilt()
        self._run("COMMIT")

    def rollback(self) -> None:
        self._forget()
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
        except sqlite3.Error:
            self.close()

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        if sql != self._statement or len(self._gathered) >= GATHERED_MAX:
            self._send()
            if not self._check(sql) or self.at_once:
                self._run(sql, values)
                return
            self._statement = sql
        self._gathered.append(values)

    def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        self._send()
        self._check(sql)
        self._run(sql, values)
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

    def _send(self) -> None:
        """What was gathered, in its order."""
        self.check_unspoilt()
        if self._gathered:
            sql, gathered = self._statement, self._gathered
            self._forget()
            if not PLAIN.issuperset(map(type, chain.from_iterable(gathered))):
                gathered = [[_stored(value) for value in values] for values in gathered]
            try:
                self._cursor.executemany(sql, gathered)
            except REFUSALS as error:
                raise self._told(error) from error

    def _forget(self) -> None:
        self._statement, self._gathered = "", []

    def _run(self, sql: str, values: Sequence[Any] = ()) -> None:
        try:
            self._cursor.execute(sql, [_stored(value) for value in values])
        except REFUSALS as error:
            raise self._told(error) from error

    def _check(self, sql: str) -> bool:
        """Whether it can be gathered. Raises `StatementRefused`."""
        found = self._checked.get(sql)
        if found is None:
            try:
                check_statement(sql)
            except StatementRefused as refused:
                raise self.spoil(refused) from None
            if len(self._checked) >= STATEMENTS_MAX:
                self._checked.clear()
            upper = sql.lstrip().upper()
            found = self._checked[sql] = upper.startswith(GATHERED) and "RETURNING" not in upper
        return found

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
