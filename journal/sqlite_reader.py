"""The reading side of an SQLite journal: hydration, paging, looking up replies.

Plain synchronous code that runs in the thread of a read-only connection, a whole batch in one call. Each call
is one read transaction: what it returns is one moment of the journal. Every event is checked on its way out.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from .errors import CorruptRecord, Fenced, JournalError, JournalUnavailable, Unstorable
from .pages import NUMBER_MAX, answer_loads, bounded, page_of
from .records import Fact, Load, Loaded, Recorded, Reminder, Snapshot, StoredReply, StreamId
from .rows import (
    EVENT_COLUMNS,
    FACT_COLUMNS,
    KEYED_COLUMNS,
    ROTTEN,
    SNAPSHOT_COLUMNS,
    Plain,
    category_checksum,
    name_checksum,
    read_event,
    read_facts,
    read_keyed,
    read_page,
    read_snapshot,
    recorded_page,
)
from .sqlite_names import MISLED, is_named
from .sqlite_transaction import is_rotten
from .wire import encode

__all__ = ["SqliteReader", "category_names", "select_all"]

_NAMES_CHECKED_MAX = 100_000
"""Streams up to which the index of names is checked as a whole before it is believed that a name is not there."""

_IDS_MAX = 900
"""Values in one statement: an older SQLite takes 999."""

_SELECT_STREAM = (
    "SELECT s.key, (SELECT max(version) FROM events WHERE stream = s.key),"
    " (SELECT stream = s.key + 1 AND version = 1 FROM events WHERE stream > s.key ORDER BY stream, version LIMIT 1),"
    " (SELECT (stream = s.key + 1 AND version = 2) OR (stream = s.key + 2 AND version = 1) FROM events"
    " WHERE stream > s.key ORDER BY stream, version LIMIT 1 OFFSET 1),"
    " {newest} FROM streams AS s"
    " WHERE s.category = (SELECT key FROM categories WHERE name = ?) AND s.id = ?"
)
# Only who hydrates looks at snapshots: where those are damaged, events and replies are as readable as ever.
_SELECT_EVENTS_ONLY = _SELECT_STREAM.format(newest="0")
_SELECT_HYDRATED = _SELECT_STREAM.format(newest="(SELECT max(version) FROM snapshots WHERE stream = s.key)")
_SELECT_FOLLOWING = "SELECT stream, version FROM events WHERE stream > ? ORDER BY stream, version LIMIT 2"
_SELECT_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE stream = ? AND version"
_SELECT_SNAPSHOTS = f"SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE stream = ?"
_SELECT_USABLE = f"{_SELECT_SNAPSHOTS} AND schema = ? AND version <= ? ORDER BY version DESC"
_SELECT_TAIL = f"SELECT {FACT_COLUMNS} FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?"
# LEFT JOIN: an event whose stream row is gone must raise, not vanish from the page.
_SELECT_ALL = (
    f"SELECT {', '.join(f'e.{column}' for column in EVENT_COLUMNS.split(', '))}, s.id"
    " FROM events AS e LEFT JOIN streams AS s ON s.key = e.stream"
    " WHERE {where} ORDER BY {order} LIMIT ?"
)


def select_all(where: str, order: str = "e.position") -> str:
    """The statement for a page of the whole journal: rows for `read_page`."""
    return _SELECT_ALL.format(where=where, order=order)


def category_names(connection: sqlite3.Connection) -> dict[int, tuple[str, int]]:
    """By their keys, with where the checksums of the names in them begin: for `read_page`."""
    rows = connection.execute("SELECT key, name FROM categories").fetchall()
    return {key: (name.decode(errors="replace"), category_checksum(name)) for key, name in rows}


_SELECT_LOST = (
    "SELECT key FROM streams WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM events WHERE stream = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM keyed_replies WHERE stream = ?1)"
)


# One walk over one index, from where `after` says: who has a million of them pending pays for those that it gets.
_SELECT_DUE = (
    "SELECT r.name, r.due, (SELECT id FROM streams WHERE key = r.stream), r.stream FROM reminders AS r"
    " WHERE r.category = (SELECT key FROM categories WHERE name = ?)"
    " AND (r.due, r.stream, r.name) > (?, ?, ?) AND r.due <= ? ORDER BY r.due, r.stream, r.name LIMIT ?"
)
_SELECT_KEY = "SELECT key FROM streams WHERE category = (SELECT key FROM categories WHERE name = ?) AND id = ?"


class _Found(NamedTuple):
    """A stream as the file has it now. `key` 0: nobody has written to it. `name`: its checksum. `followed`: the index
    has the beginning of the next stream after it. `newest`: the version of its newest snapshot, or 0."""

    stream: StreamId
    key: int
    head: int
    name: int
    followed: bool
    newest: int


class SqliteReader:
    """Everything that only reads. Lives in the thread of `connection`; `reconnect` opens that one anew."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reconnect: Callable[[], sqlite3.Connection],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check`: raises `JournalLost` when what is read is a file that nobody else will find."""
        self._connection, self._reconnect, self._check = connection, reconnect, check
        self._lost = False
        self._names_whole: bool | None = None  # not looked at yet
        self.rows_read = self.fenced = 0

    # Hydration

    def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        """See `Store.load`."""
        with self._transaction():
            epochs = {owner: self._epoch(owner) for owner in {load.owner for load in batch if load.owner}}
            return answer_loads(batch, partial(self._load, epochs))

    def _load(self, epochs: Mapping[str, int], load: Load) -> tuple[Loaded | JournalError, int]:
        if load.owner and (fenced := self._fenced_unless(load.owner, load.epoch, epochs[load.owner])):
            return fenced, 0
        try:
            found = self._find(load.stream, _SELECT_HYDRATED)
            snapshot = self._usable_snapshot(found, load)
            after = snapshot.version if snapshot else bounded(load.after)
            self._check_head(found)
            _check_snapshots(found)
            events, size = self._facts_after(found, after, bounded(load.limit))
        except CorruptRecord as error:
            return error, 0
        except UnicodeEncodeError as error:
            return Unstorable("the stream's name", str(error)), 0
        except sqlite3.DatabaseError as error:
            if not is_rotten(error):
                raise
            return _rotten(str(load.stream), error), 0
        except ROTTEN as error:
            return _rotten(str(load.stream), error), 0
        size += len(snapshot.payload) if snapshot else 0
        return Loaded(snapshot=snapshot, events=tuple(events), head=found.head), size

    def _facts_after(self, found: _Found, after: int, limit: int) -> tuple[list[Fact], int]:
        if limit == 0 or after >= found.head:
            return [], 0
        rows = self._connection.execute(_SELECT_TAIL, (found.key, after, limit))
        page, size = read_facts(found.stream, found.name, rows, after)
        if not page:
            raise CorruptRecord(str(found.stream), after + 1, 0, "this version is missing")
        self.rows_read += len(page)
        return page, size

    def _usable_snapshot(self, found: _Found, load: Load) -> Snapshot | None:
        if not load.schema or load.after or not found.newest:
            return None
        newest = found.head if load.snapshot_max is None else min(found.head, load.snapshot_max)
        for row in self._connection.execute(_SELECT_USABLE, (found.key, load.schema, newest)):
            self.rows_read += 1
            if snapshot := read_snapshot(found.stream, found.name, row):
                return snapshot
        return None

    def confirm(self, owner: str, epoch: int) -> None:
        """See `Store.confirm`."""
        with self._transaction():
            if fenced := self._fenced_unless(owner, epoch, self._epoch(owner)):
                raise fenced

    def _epoch(self, owner: str) -> int:
        row = self._connection.execute("SELECT max(epoch) FROM owners WHERE owner = ?", (owner,)).fetchone()
        return row[0] or 0

    def _fenced_unless(self, owner: str, epoch: int, current: int) -> Fenced | None:
        if current and epoch == current:
            return None
        self.fenced += 1
        return Fenced(owner, epoch, current)

    # Paging

    def read_stream(self, stream: StreamId, after: int, limit: int, backward: bool) -> list[Recorded]:
        """See `Store.read_stream`."""
        with self._transaction(stream):
            found = self._find(stream)
            self._check_head(found)
            if not backward:
                return self._events_after(found, bounded(after), limit)
            below = min(bounded(after) or NUMBER_MAX, found.head + 1)
            page = self._events(found, "< ? ORDER BY version DESC LIMIT ?", below, limit)
            _check_contiguous(found, page, range(below - 1, 0, -1), limit)
            return page

    def read_all(self, after: int, limit: int, category: str | None) -> list[Recorded]:
        """See `Store.read_all`."""
        return recorded_page(self._page(after, limit, category))

    def pack_all(self, after: int, limit: int, category: str | None) -> tuple[bytes, int]:
        """See `Store.pack_all`."""
        page = self._page(after, limit, category)
        return encode(page), page[-1][0] if page else 0

    def _page(self, after: int, limit: int, category: str | None) -> list[Plain]:
        where = "e.position > ?"
        values: list[int | str] = [bounded(after)]
        if category is not None:
            where = "e.category = (SELECT key FROM categories WHERE name = ?) AND e.position > ?"
            values = [category, *values]
        with self._transaction():
            rows = self._connection.execute(select_all(where), (*values, bounded(limit)))
            page = read_page(rows, category_names(self._connection))
            if category is None and limit > 0:
                self._check_positions(page, bounded(after))
        self.rows_read += len(page)
        return page

    def _check_positions(self, page: Sequence[Plain], after: int) -> None:
        head = page[-1][0] if page else self._number("SELECT max(position) FROM events")
        for position, event in enumerate(page, after + 1):
            if event[0] != position:
                raise CorruptRecord("the journal", 0, position, "this position is missing")
        if not page and after < head:
            raise CorruptRecord("the journal", 0, after + 1, "this position is missing")

    def _find(self, stream: StreamId, select: str = _SELECT_EVENTS_ONLY) -> _Found:
        row = self._connection.execute(select, stream).fetchone()
        if row is None and not self._has_all_names():
            raise CorruptRecord(str(stream), 0, 0, "it is not in the index of names, which is damaged")
        if row is not None and not row[1] and not is_named(self._connection, row[0], stream):
            raise CorruptRecord(str(stream), 0, 0, MISLED)
        key, head, first, second, newest = row or (0, 0, 0, 0, 0)
        return _Found(stream, key, head or 0, name_checksum(stream), first == 1 and second in (1, None), newest or 0)

    def _has_all_names(self) -> bool:
        """Whether a name that is not found is not there. The index of names is compared with its table once, at the
        first miss, where that takes no longer than a moment."""
        if self._names_whole is None:
            few = self._number("SELECT max(key) FROM streams") <= _NAMES_CHECKED_MAX
            checks = [f"PRAGMA integrity_check({table})" for table in ("categories", "streams")] if few else []
            self._names_whole = all(self._connection.execute(check).fetchone()[0] == b"ok" for check in checks)
        return self._names_whole

    def _check_head(self, found: _Found) -> None:
        """Raise `CorruptRecord` if the index has lost the newest versions of the stream, as far as can be told.

        It holds nothing but streams whose versions begin at 1: what comes right after this one's last entry is the
        first version of the next stream, once, and what follows goes on from there. And a stream that was ever
        written has an event, or a keyed reply."""
        if found.head < 0:
            raise CorruptRecord(str(found.stream), 0, 0, "its newest version in the index is below zero")
        if not found.key or (found.head and found.followed):
            return
        following = self._connection.execute(_SELECT_FOLLOWING, (found.key,)).fetchall()
        unwritten = [found.key] if found.head == 0 else []
        if not following or following[0][0] != found.key + 1:
            unwritten.append(found.key + 1)
        lost = found.head < self._newest_of(found) or following != sorted(set(following))
        lost = lost or any(version != 1 for _, version in following[:1])
        if lost or any(self._connection.execute(_SELECT_LOST, (key,)).fetchone() for key in unwritten):
            raise CorruptRecord(str(found.stream), found.head + 1, 0, "the index has lost events here")

    def _newest_of(self, found: _Found) -> int:
        """The version of the journal's newest event, if it is one of this stream."""
        newest = self._connection.execute(
            "SELECT stream, version FROM events ORDER BY position DESC LIMIT 1"
        ).fetchone()
        return newest[1] if newest is not None and newest[0] == found.key else 0

    def _events_after(self, found: _Found, after: int, limit: int) -> list[Recorded]:
        page = self._events(found, "> ? ORDER BY version LIMIT ?", after, limit)
        _check_contiguous(found, page, range(after + 1, found.head + 1), limit)
        return page

    def _events(self, found: _Found, condition: str, version: int, limit: int) -> list[Recorded]:
        if not found.key:
            return []
        rows = self._connection.execute(f"{_SELECT_EVENTS} {condition}", (found.key, version, bounded(limit)))
        events = page_of(read_event(found.stream, found.name, row) for row in rows)
        self.rows_read += len(events)
        return events

    # Replies

    def find_replies(self, stream: StreamId, ids: Sequence[str], window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        with self._transaction(stream):
            found = self._find(stream)
            after = found.head - bounded(window)
            events: list[Recorded] = []
            for some in _portions(ids):
                rows = self._connection.execute(
                    f"{_SELECT_EVENTS} > ? AND reply IS NOT NULL AND command_id IN ({_marks(some)}) ORDER BY version",
                    (found.key, after, *some),
                )
                events += [read_event(stream, found.name, row) for row in rows]
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
            replies: dict[str, StoredReply] = {}
            for some in _portions(keys):
                rows = self._connection.execute(
                    f"SELECT {KEYED_COLUMNS} FROM keyed_replies WHERE stream = ? AND key IN ({_marks(some)})",
                    (found.key, *some),
                )
                replies.update(read_keyed(stream, found.name, row) for row in rows)
        return replies

    # Followers

    def find_checkpoint(self, name: str) -> int:
        """See `Store.find_checkpoint`."""
        with self._transaction():
            row = self._connection.execute("SELECT position FROM checkpoints WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def due_reminders(self, category: str, until: int, limit: int, after: Reminder | None) -> list[Reminder]:
        """See `Store.due_reminders`."""
        until = max(min(until, NUMBER_MAX), -NUMBER_MAX)
        with self._transaction():
            place: tuple[int, int, str] = (-NUMBER_MAX, 0, "")
            if after is not None:
                row = self._connection.execute(_SELECT_KEY, after.stream).fetchone()
                place = after.due, row[0] if row else 0, after.name
            rows = self._connection.execute(_SELECT_DUE, (category, *place, until, bounded(limit))).fetchall()
            return [_read_reminder(category, *row) for row in rows]

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
            (key, *(() if after is None else (after,)), bounded(limit)),
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
            self._check()
        except sqlite3.Error as error:
            self._lost = True  # what ails this connection may not ail the next one
            if is_rotten(error):
                raise _rotten(_named(stream), error) from error
            raise JournalUnavailable(str(error)) from error
        except UnicodeEncodeError as error:
            raise Unstorable("what was asked for", str(error)) from error
        except ROTTEN as error:  # a value that SQLite read without complaint, and that cannot have been written
            raise _rotten(_named(stream), error) from error
        finally:
            if not self._lost and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _check_snapshots(found: _Found) -> None:
    """A snapshot of a version that the stream does not reach was taken of events that are not there any more. New
    ones must not take their versions: the snapshot would pass for a snapshot of those."""
    if found.newest > found.head:
        problem = f"there is a snapshot of version {found.newest}: the events up to it are missing"
        raise CorruptRecord(str(found.stream), found.head + 1, 0, problem)


def _check_contiguous(found: _Found, page: list[Recorded], versions: range, limit: int) -> None:
    """Raise `CorruptRecord` if a page is not the first of the versions that should be there."""
    if limit > 0 and versions and not page:
        raise CorruptRecord(str(found.stream), versions[0], 0, "this version is missing")
    for version, event in zip(versions, page, strict=False):
        if event.version != version:
            raise CorruptRecord(str(found.stream), version, 0, "this version is missing")


def _read_reminder(category: str, name: bytes, due: int, id: bytes | None, stream: int) -> Reminder:
    if id is None:
        raise CorruptRecord(f"stream {stream}", 0, 0, f"it has a reminder {name!r}, and is not in the journal")
    return Reminder(stream=StreamId(category, id.decode()), name=name.decode(), due=due)


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at a time as a statement of SQLite takes."""
    return (ids[start : start + _IDS_MAX] for start in range(0, len(ids), _IDS_MAX))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _named(stream: StreamId | None) -> str:
    return "the journal" if stream is None else str(stream)


def _rotten(what: str, error: Exception) -> CorruptRecord:
    return CorruptRecord(what, 0, 0, f"its file cannot be read: {error}")
