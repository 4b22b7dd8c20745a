"""The reading side of an SQLite journal: hydration, paging, looking up replies.

Plain synchronous code that runs in the thread of a read-only connection, a whole batch in one call. Each call
is one read transaction: what it returns is one moment of the journal. Every event is checked on its way out.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from .errors import CorruptRecord, Fenced, JournalError, JournalUnavailable
from .records import Load, Loaded, Recorded, Snapshot, StoredReply, StreamId
from .sqlite_rows import (
    EVENT_COLUMNS,
    KEYED_COLUMNS,
    SNAPSHOT_COLUMNS,
    name_checksum,
    read_event,
    read_keyed,
    read_snapshot,
)

__all__ = ["SqliteReader"]

_LAST = (1 << 63) - 1
"""The largest integer of SQLite: above every version and position."""

_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_SELECT_STREAM = (
    "SELECT s.key, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams AS s"
    " WHERE s.category = (SELECT key FROM categories WHERE name = ?) AND s.id = ?"
)
_SELECT_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE stream = ? AND version"
_SELECT_SNAPSHOTS = f"SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE stream = ?"
# LEFT JOIN: an event whose stream row is gone must raise, not vanish from the page.
_SELECT_ALL = (
    f"SELECT {', '.join(f'e.{column}' for column in EVENT_COLUMNS.split(', '))},"
    " (SELECT name FROM categories WHERE key = s.category), s.id"
    " FROM events AS e LEFT JOIN streams AS s ON s.key = e.stream"
    " WHERE {where} ORDER BY e.position LIMIT ?"
)


class _Found(NamedTuple):
    """A stream as the file has it now. `key` 0: nobody has written to it. `name`: its checksum."""

    stream: StreamId
    key: int
    head: int
    name: int


class SqliteReader:
    """Everything that only reads. Lives in the thread of `connection`; `reconnect` opens that one anew."""

    def __init__(self, connection: sqlite3.Connection, reconnect: Callable[[], sqlite3.Connection]) -> None:
        self._connection, self._reconnect = connection, reconnect
        self._lost = False
        self.rows_read = self.fenced = 0

    # Hydration

    def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        """See `Store.load`."""
        with self._transaction():
            return [self._load(load) for load in batch]

    def _load(self, load: Load) -> Loaded | JournalError:
        if load.owner and (fenced := self._check_epoch(load.owner, load.epoch)):
            return fenced
        try:
            found = self._find(load.stream)
            snapshot = self._usable_snapshot(found, load)
            after = snapshot.version if snapshot else 0
            events = self._events(found, "> ? ORDER BY version LIMIT ?", after, load.limit)
        except CorruptRecord as error:
            return error
        except sqlite3.DatabaseError as error:
            if not _is_rotten(error):
                raise
            return _rotten(load.stream, error)
        return Loaded(snapshot=snapshot, events=tuple(events), head=found.head)

    def _usable_snapshot(self, found: _Found, load: Load) -> Snapshot | None:
        if not load.schema or not found.key:
            return None
        newest = found.head if load.snapshot_max is None else min(found.head, load.snapshot_max)
        rows = self._connection.execute(
            f"{_SELECT_SNAPSHOTS} AND schema = ? AND version <= ? ORDER BY version DESC",
            (found.key, load.schema, newest),
        )
        for row in rows:
            self.rows_read += 1
            if snapshot := read_snapshot(found.stream, found.name, row):
                return snapshot
        return None

    def confirm(self, owner: str, epoch: int) -> None:
        """See `Store.confirm`."""
        with self._transaction():
            if fenced := self._check_epoch(owner, epoch):
                raise fenced

    def _check_epoch(self, owner: str, epoch: int) -> Fenced | None:
        row = self._connection.execute("SELECT max(epoch) FROM owners WHERE owner = ?", (owner,)).fetchone()
        current = row[0] or 0
        if current and epoch == current:
            return None
        self.fenced += 1
        return Fenced(owner, epoch, current)

    # Paging

    def read_stream(self, stream: StreamId, after: int, limit: int, backward: bool) -> list[Recorded]:
        """See `Store.read_stream`."""
        with self._transaction(stream):
            found = self._find(stream)
            if backward:
                return self._events(found, "< ? ORDER BY version DESC LIMIT ?", after or _LAST, limit)
            return self._events(found, "> ? ORDER BY version LIMIT ?", after, limit)

    def read_all(self, after: int, limit: int, category: str | None) -> list[Recorded]:
        """See `Store.read_all`."""
        where = "e.position > ?"
        values: list[int | str] = [after]
        if category is not None:
            where = "e.category = (SELECT key FROM categories WHERE name = ?) AND e.position > ?"
            values = [category, after]
        with self._transaction():
            rows = self._connection.execute(_SELECT_ALL.format(where=where), (*values, max(limit, 0))).fetchall()
        self.rows_read += len(rows)
        names: dict[int, tuple[StreamId, int]] = {}
        return [_read_any(row, names) for row in rows]

    def _find(self, stream: StreamId) -> _Found:
        row = self._connection.execute(_SELECT_STREAM, stream).fetchone()
        key, head = row or (0, 0)
        return _Found(stream, key, head or 0, name_checksum(stream))

    def _events(self, found: _Found, condition: str, version: int, limit: int) -> list[Recorded]:
        if not found.key:
            return []
        rows = self._connection.execute(f"{_SELECT_EVENTS} {condition}", (found.key, version, max(limit, 0)))
        events = [read_event(found.stream, found.name, row) for row in rows]
        self.rows_read += len(events)
        return events

    # Replies

    def find_replies(self, stream: StreamId, ids: Sequence[str], window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        with self._transaction(stream):
            found = self._find(stream)
            rows = self._connection.execute(
                f"{_SELECT_EVENTS} > ? AND reply IS NOT NULL AND command_id IN ({_marks(ids)}) ORDER BY version",
                (found.key, found.head - window, *ids),
            )
            events = [read_event(stream, found.name, row) for row in rows]
        self.rows_read += len(events)
        return {
            event.command_id: StoredReply(version=event.version, reply=event.reply)
            for event in events
            if event.reply is not None
        }

    def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        with self._transaction(stream):
            found = self._find(stream)
            rows = self._connection.execute(
                f"SELECT {KEYED_COLUMNS} FROM keyed_replies WHERE stream = ? AND key IN ({_marks(keys)})",
                (found.key, *keys),
            )
            return dict(read_keyed(stream, found.name, row) for row in rows)

    # Catalogue

    def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        with self._transaction(stream):
            found = self._find(stream)
            rows = self._connection.execute(
                f"{_SELECT_SNAPSHOTS} ORDER BY version DESC, key DESC", (found.key,)
            ).fetchall()
        self.rows_read += len(rows)
        snapshots = (read_snapshot(stream, found.name, row) for row in rows)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def list_streams(self, category: str | None, after: StreamId | None, limit: int) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`. One indexed query for each category: there are as many as aggregate types."""
        page: list[tuple[StreamId, int]] = []
        with self._transaction():
            for key, name in self._categories(category, after):
                past = after.id if after and after.category == name else None
                page += self._streams_of(key, name, past, limit - len(page))
        return page

    def _categories(self, category: str | None, after: StreamId | None) -> list[tuple[int, str]]:
        rows = self._connection.execute("SELECT key, name FROM categories ORDER BY name").fetchall()
        names = [(int(key), name.decode()) for key, name in rows]
        first = after.category if after else ""
        return [(key, name) for key, name in names if name >= first and category in (None, name)]

    def _streams_of(self, key: int, name: str, after: str | None, limit: int) -> Iterator[tuple[StreamId, int]]:
        rows = self._connection.execute(
            "SELECT s.id, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams AS s"
            f" WHERE s.category = ? {'' if after is None else 'AND s.id > ?'} ORDER BY s.id LIMIT ?",
            (key, *(() if after is None else (after,)), max(limit, 0)),
        )
        return ((StreamId(name, id.decode()), version or 0) for id, version in rows)

    def head(self) -> int:
        """See `Store.head`."""
        with self._transaction():
            return self._number("SELECT max(position) FROM events")

    def counts(self) -> tuple[int, int, int]:
        """Streams, events and snapshots. The first two never leave and have no gaps: no need to count."""
        with self._transaction():
            return (
                self._number("SELECT max(key) FROM streams"),
                self._number("SELECT max(position) FROM events"),
                self._number("SELECT count(*) FROM snapshots"),
            )

    def _number(self, query: str) -> int:
        return self._connection.execute(query).fetchone()[0] or 0

    @contextmanager
    def _transaction(self, stream: StreamId | None = None) -> Generator[None, None, None]:
        try:
            if self._lost:
                self._connection = self._reconnect()
                self._lost = False
            self._connection.execute("BEGIN")
            yield
        except sqlite3.Error as error:
            self._lost = True  # what ails this connection may not ail the next one
            if stream is not None and _is_rotten(error):
                raise _rotten(stream, error) from error
            raise JournalUnavailable(str(error)) from error
        finally:
            if not self._lost and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _read_any(row: tuple[Any, ...], names: dict[int, tuple[StreamId, int]]) -> Recorded:
    *event, category, id = row
    known = names.get(row[1])
    if known is None:
        if category is None or id is None:
            raise CorruptRecord(f"stream {row[1]}", row[2], row[0], "its stream is not in the journal")
        stream = StreamId(category.decode(errors="replace"), id.decode(errors="replace"))
        known = names[row[1]] = stream, name_checksum(stream)
    return read_event(*known, tuple(event))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _is_rotten(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE


def _rotten(stream: StreamId, error: sqlite3.Error) -> CorruptRecord:
    return CorruptRecord(str(stream), 0, 0, f"SQLite cannot read it: {error}")
