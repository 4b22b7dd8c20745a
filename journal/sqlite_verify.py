"""A SQLite journal as a verification reads it: every row that is there, and every page that is not.

Read-only in the strict sense (`sqlite_beside.py`). Of a file that nobody has open it is checked in the end that nobody
wrote to it meanwhile.

Where SQLite cannot read, the events before and after are still read: `_next_readable` finds where it goes on.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from .errors import CorruptRecord, JournalOpenError, JournalUnavailable
from .pages import PAGE_BYTES_MAX
from .partition import Membership
from .records import Recorded
from .reminders import REMINDER_TYPES, Change, change_of
from .rows import EVENT_COLUMNS, KEYED_COLUMNS, SNAPSHOT_COLUMNS, number, read_event
from .sqlite_beside import Beside
from .sqlite_damage import DAMAGED, damage, let_pass
from .sqlite_file import recorded_membership
from .verify_report import Problem
from .verify_rows import (
    Named,
    as_bytes,
    event_row,
    keyed_row,
    named,
    onward,
    reminder_row,
    snapshot_row,
    stream_row,
    text,
    weight,
)
from .verify_source import (
    CheckpointRow,
    EventRow,
    Extent,
    KeyedRow,
    OwnerRow,
    ReminderRow,
    SnapshotRow,
    Source,
    StreamRow,
    Unreadable,
    VersionRow,
)

__all__ = ["SqliteSource"]

PAGE_ROWS_MAX = 2000
NUMBERS_MAX = 3
"""Columns of a row that has only numbers in it."""

NAMES_MAX = 100_000
"""Streams whose names are remembered while events are read in the order of positions."""

_HEAD = "(SELECT max(version) FROM events WHERE stream = {})"
_NAMED = "LEFT JOIN streams AS s ON s.key = {}.stream LEFT JOIN categories AS c ON c.key = s.category"

_FIRST = -(1 << 63)
"""Below every key."""

_INDEXED = 2
"""The schema from which on there are checkpoints, and an index of reminders."""

_T = TypeVar("_T")


class SqliteSource(Source):
    """One file, read by one connection, in threads of the event loop's pool, one call at a time."""

    def __init__(self, beside: Beside) -> None:
        self.name = str(beside.path)
        self._beside, self._connection = beside, beside.connection
        self._names: dict[int, Named | None] = {}
        self._closed = False

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open for reading. Raises `JournalOpenError`, or `NotAJournal` with what is there instead."""
        return await asyncio.to_thread(cls._open, path)

    @classmethod
    def _open(cls, named: str | os.PathLike[str]) -> Self:
        source = cls(Beside(named))
        source.membership = _membership(source._connection, source._beside.path)
        source.indexed = _is_indexed(source._connection)
        return source

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._beside.close()
        if self._beside.alone and not self._beside.unchanged:
            raise JournalUnavailable(f"{self.name} was opened for writing while it was read; verify it again")

    # Storage itself

    async def damage(self) -> list[Problem]:
        path = self._beside.path if self._beside.alone else None
        return await self._run(lambda: [Problem(kind="storage", problem=p) for p in damage(self._connection, path)])

    async def extent(self) -> Extent:
        used = "(SELECT seq FROM sqlite_sequence WHERE name = 'events')"
        (row,) = await self._rows(f"SELECT (SELECT max(position) FROM events), {used}")
        categories = await self._rows("SELECT name FROM categories ORDER BY name")
        newest = row[0] or 0
        return Extent(newest, number(row[1]), tuple(text(name) for (name,) in categories))

    # Events

    async def events(self, upto: int, category: str | None) -> AsyncIterator[Sequence[EventRow]]:
        after = 0
        while after < upto and (page := await self._run(self._event_page, after, upto, category)):
            yield page
            after = onward(after, page[-1].through or page[-1].position)

    def _event_page(self, after: int, upto: int, category: str | None) -> list[EventRow]:
        page: list[EventRow] = []
        left = PAGE_BYTES_MAX
        try:
            for row in self._events_after(after, upto, category):
                page.append(event_row(row, self._name(row[1])))
                left -= weight(row[4:9])
                if left < 0:
                    break
        except DAMAGED as error:
            let_pass(error)
            if not page:
                following = self._next_readable(after, upto, category)
                problem = f"SQLite cannot read what is stored up to position {following - 1}: {error}"
                return [EventRow("", 0, after + 1, problem, through=following - 1)]
        return page

    def _events_after(self, after: int, upto: int, category: str | None, limit: int = PAGE_ROWS_MAX) -> Any:
        of, values = "", list[Any]()
        if category is not None:
            of, values = "category = (SELECT key FROM categories WHERE name = ?) AND ", [category]
        return self._connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE {of} position > ? AND position <= ? ORDER BY position LIMIT ?",
            (*values, after, upto, limit),
        )

    def _next_readable(self, after: int, upto: int, category: str | None) -> int:
        """The first position behind the damage, or one behind the last: first in leaps, then halving the last."""
        bad, step = after, 1
        while (good := min(after + step, upto)) < upto and not self._is_readable(good, upto, category):
            bad, step = good, step * 2
        if good >= upto and not self._is_readable(good - 1, upto, category):
            return upto + 1
        while good - bad > 1:
            middle = (bad + good) // 2
            if self._is_readable(middle, upto, category):
                good = middle
            else:
                bad = middle
        return good + 1

    def _is_readable(self, after: int, upto: int, category: str | None) -> bool:
        try:
            return bool(self._events_after(after, upto, category, limit=1).fetchall())
        except DAMAGED as error:
            let_pass(error)
            return False

    def _name(self, key: Any) -> Named | None:
        """The stream of a key; None if there is no such row, or its name cannot be."""
        if key not in self._names:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            rows = self._connection.execute(
                "SELECT c.name, s.id, s.category FROM streams AS s LEFT JOIN categories AS c ON c.key = s.category"
                " WHERE s.key = ?",
                (key,),
            ).fetchall()
            self._names[key] = named(*rows[0]) if rows and rows[0][0] is not None else None
        return self._names[key]

    async def versions(self, upto: int, category: str | None) -> AsyncIterator[Sequence[VersionRow]]:
        of, values = "", list[Any]()
        if category is not None:
            of = " AND (SELECT category FROM streams WHERE key = stream) = (SELECT key FROM categories WHERE name = ?)"
            values = [category]
        select = (
            "SELECT stream, version, position FROM events"
            f" WHERE (stream, version) > (?, ?) AND position <= ?{of} ORDER BY stream, version LIMIT ?"
        )
        async for rows in self._paged(select, (_FIRST, 0), upto, *values, limit=PAGE_ROWS_MAX * 5):
            yield [VersionRow(key, number(version), position) for key, version, position in rows]

    async def stream_name(self, key: int) -> str:
        of = await self._run(self._name, key)
        return of.called if of else f"stream {key}"

    # What hangs on streams

    async def streams(self, category: str | None) -> AsyncIterator[Sequence[StreamRow]]:
        select = (
            f"SELECT s.key, c.name, s.id, {_HEAD.format('s.key')},"
            " EXISTS (SELECT 1 FROM keyed_replies WHERE stream = s.key)"
            " FROM streams AS s LEFT JOIN categories AS c ON c.key = s.category"
            " WHERE s.key > ? AND (? IS NULL OR c.name = ?) ORDER BY s.key LIMIT ?"
        )
        async for rows in self._paged(select, (_FIRST,), category, category):
            yield [stream_row(*row) for row in rows]

    async def keyed_replies(self, category: str | None) -> AsyncIterator[Sequence[KeyedRow]]:
        columns = ", ".join(f"k.{column}" for column in KEYED_COLUMNS.split(", "))
        select = (
            f"SELECT {columns}, c.name, s.id, {_HEAD.format('k.stream')} FROM keyed_replies AS k {_NAMED.format('k')}"
            " WHERE (k.stream, k.key) > (?, CAST(? AS TEXT)) AND (? IS NULL OR c.name = ?)"
            " ORDER BY k.stream, k.key LIMIT ?"
        )
        async for rows in self._paged(select, (_FIRST, b""), category, category):
            yield [keyed_row(row) for row in rows]

    async def snapshots(self, category: str | None) -> AsyncIterator[Sequence[SnapshotRow]]:
        columns = ", ".join(f"n.{column}" for column in SNAPSHOT_COLUMNS.split(", "))
        select = (
            f"SELECT {columns}, c.name, s.id, {_HEAD.format('n.stream')} FROM snapshots AS n {_NAMED.format('n')}"
            " WHERE (n.stream, n.version, n.schema) > (?, ?, CAST(? AS TEXT)) AND (? IS NULL OR c.name = ?)"
            " ORDER BY n.stream, n.version, n.schema LIMIT ?"
        )
        async for rows in self._paged(select, (_FIRST, 0, b""), category, category):
            yield [snapshot_row(row) for row in rows]

    async def owners(self) -> list[OwnerRow]:
        rows = await self._rows("SELECT owner, epoch, incarnation FROM owners ORDER BY owner, epoch")
        return [OwnerRow(text(owner), number(epoch), text(by)) for owner, epoch, by in rows]

    async def checkpoints(self) -> list[CheckpointRow]:
        rows = await self._rows("SELECT name, owner, epoch, position FROM checkpoints ORDER BY name")
        return [CheckpointRow(text(name), text(owner), number(epoch), number(at)) for name, owner, epoch, at in rows]

    # Reminders

    async def reminders(self, category: str | None) -> AsyncIterator[Sequence[ReminderRow]]:
        select = (
            f"SELECT r.stream, r.name, r.due, r.category, c.name, s.id, s.category FROM reminders AS r"
            f" {_NAMED.format('r')} WHERE (r.stream, r.name) > (?, CAST(? AS TEXT)) AND (? IS NULL OR c.name = ?)"
            " ORDER BY r.stream, r.name LIMIT ?"
        )
        async for rows in self._paged(select, (_FIRST, b""), category, category):
            yield [reminder_row(row) for row in rows]

    async def index_of(self, key: int) -> tuple[int, list[tuple[bytes, int]]]:
        select = f"SELECT {_HEAD.format('?1')}, name, due FROM (SELECT 1) LEFT JOIN reminders ON stream = ?1"
        rows = await self._run(lambda: self._connection.execute(select, (key,)).fetchall())
        return rows[0][0] or 0, [(as_bytes(name), number(due)) for _, name, due in rows if name is not None]

    async def reminder_events(self, key: int, upto: int) -> AsyncIterator[Sequence[tuple[int, int, Change]]]:
        of = await self._run(self._name, key)
        select = (
            f"SELECT version, {EVENT_COLUMNS} FROM events WHERE stream = ? AND version > ? AND version <= ?"
            f" AND type IN ({', '.join('?' * len(REMINDER_TYPES))}) ORDER BY version LIMIT ?"
        )
        after = 0
        while of and (rows := await self._rows(select, key, after, upto, *REMINDER_TYPES, PAGE_ROWS_MAX)):
            events = [read_event(of.stream, of.checksum, row[1:]) for row in rows]
            yield [(event.version, event.position, change_of(event.payload)) for event in events]
            after = onward(after, events[-1].version)

    # Replay

    async def histories(self, upto: int, category: str) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        select = (
            "SELECT key FROM streams WHERE key > ?"
            " AND +category = (SELECT key FROM categories WHERE name = ?) ORDER BY key LIMIT ?"
        )
        async for keys in self._paged(select, (_FIRST,), category):
            waiting = [(key, 0) for (key,) in reversed(keys)]
            while waiting:
                yield await self._run(self._history_page, waiting, upto)

    def _history_page(self, waiting: list[tuple[int, int]], upto: int) -> list[tuple[int, Recorded]]:
        """Take streams, and the version after which to go on, off `waiting`, until a page is full."""
        page: list[tuple[int, Recorded]] = []
        left = PAGE_BYTES_MAX
        while waiting and left > 0 and len(page) < PAGE_ROWS_MAX:
            key, after = waiting.pop()
            for recorded in self._history(key, after, upto, PAGE_ROWS_MAX - len(page)):
                page.append((key, recorded))
                left -= len(recorded.payload) + len(recorded.metadata) + 100
                if left <= 0 or len(page) >= PAGE_ROWS_MAX:
                    waiting.append((key, onward(after, recorded.version)))
                    break
        return page

    def _history(self, key: int, after: int, upto: int, limit: int) -> Iterator[Recorded]:
        """The events of one stream, up to the first that is damaged: that one was told in its own place."""
        of = self._name(key)
        if of is None:
            return
        try:
            rows = self._connection.execute(
                f"SELECT {EVENT_COLUMNS} FROM events WHERE stream = ? AND version > ? AND position <= ?"
                " ORDER BY version LIMIT ?",
                (key, after, upto, limit),
            )
            for row in rows:
                yield read_event(of.stream, of.checksum, row)
        except CorruptRecord:
            return
        except DAMAGED as error:
            let_pass(error)

    # Running

    async def _paged(
        self, select: str, at: tuple[Any, ...], *values: Any, limit: int | None = None
    ) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Pages of a query whose first columns are its order, and whose first marks say after what to begin."""
        while rows := await self._rows(select, *at, *values, limit or PAGE_ROWS_MAX):
            yield rows
            at = onward(at, rows[-1][: len(at)])

    async def _rows(self, select: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._run(self._fetch, select, values)

    def _fetch(self, select: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """A page: as many rows as come before they are too many bytes."""
        rows: list[tuple[Any, ...]] = []
        left = PAGE_BYTES_MAX
        try:
            for row in self._connection.execute(select, values):
                rows.append(row)
                if len(row) > NUMBERS_MAX:  # else it holds nothing but numbers
                    left -= weight(row)
                if left < 0:
                    break
        except DAMAGED as error:
            let_pass(error)
            if not rows:
                raise Unreadable(f"SQLite cannot read it, or what follows: {error}") from error
        return rows

    async def _run(self, function: Callable[..., _T], *args: Any) -> _T:
        try:
            return await asyncio.to_thread(function, *args)
        except DAMAGED as error:
            let_pass(error)
            raise Unreadable(f"SQLite cannot read it: {error}") from error
        except asyncio.CancelledError:
            self._connection.interrupt()
            raise


def _is_indexed(connection: sqlite3.Connection) -> bool:
    """Where that cannot be read, what needs the tables will tell."""
    try:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0] >= _INDEXED)
    except DAMAGED as error:
        let_pass(error)
        return True


def _membership(connection: sqlite3.Connection, path: Path) -> Membership | None:
    """What it says that it is; None if that cannot be read, or cannot be."""
    try:
        return recorded_membership(connection, path)
    except JournalOpenError:
        return None
    except DAMAGED as error:
        let_pass(error)
        return None
