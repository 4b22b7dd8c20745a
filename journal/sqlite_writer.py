"""The one writer of an SQLite journal: group commit, claims, registrations, snapshots.

Plain synchronous code that runs in the thread of its connection, a whole batch in one call. It decides each
append from what it remembers of the stream (there is no other writer, so that is the truth), gathers the rows,
inserts them by `executemany` and commits once. The life of a batch:

1. BEGIN IMMEDIATE. A crash from here to 3 leaves nothing of it.
2. Decide, gather, insert. An append that is refused adds no rows, and its neighbours do not notice.
3. COMMIT flushes the log to the disk. From here on the batch is there, whether or not anybody hears of it.
4. The answers go back to the event loop.

Whatever goes wrong rolls the transaction back and forgets all that was remembered.
"""

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from .errors import (
    CorruptRecord,
    DuplicateKey,
    Fenced,
    JournalError,
    JournalFailed,
    PlacementConflict,
    Unstorable,
    VersionConflict,
)
from .histogram import Histogram
from .pages import NUMBER_MAX
from .records import Append, Appended, Checkpoint, KeyedReply, Registration, Snapshot, StreamId
from .reminders import REMINDER_TYPES, change_of
from .rows import (
    EVENT_COLUMNS,
    KEYED_COLUMNS,
    SNAPSHOT_COLUMNS,
    event_row,
    keyed_row,
    read_snapshot,
    snapshot_row,
)
from .sqlite_heads import Head, Heads
from .sqlite_transaction import UNWRITABLE, Transactions, is_rotten

__all__ = ["CLAIMS_KEPT", "SqliteWriter"]

CLAIMS_KEPT = 8
"""How many claims of one owner are remembered, so that a late repetition of one gets its old epoch."""

_INSERT_KEYED = f"INSERT INTO keyed_replies ({KEYED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_SNAPSHOT = f"INSERT OR REPLACE INTO snapshots ({SNAPSHOT_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
_SET_REMINDER = (
    "INSERT INTO reminders (stream, name, due, category) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (stream, name) DO UPDATE SET due = excluded.due"
)
_DROP_REMINDER = "DELETE FROM reminders WHERE stream = ? AND name = ?"
_SAVE_CHECKPOINT = (
    "INSERT INTO checkpoints (name, owner, epoch, position) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
    " SET owner = excluded.owner, epoch = excluded.epoch, position = excluded.position"
)
_INSERT_STREAM = "INSERT INTO streams (key, category, id) VALUES (?, ?, ?)"

_AT_ONCE = 32
"""Events in one statement: to start one, and to keep the sequence of its table, is a third of what an insert costs."""

_COLUMNS = len(EVENT_COLUMNS.split(", "))

_Row = tuple[Any, ...]


_ROTTEN_MAX = 16
"""Damaged streams that one transaction works its way around. Each of them is another try of the whole batch."""


@cache
def _insert_events(count: int) -> str:
    marks = f"({', '.join('?' * _COLUMNS)})"
    return f"INSERT INTO events ({EVENT_COLUMNS}) VALUES {', '.join([marks] * count)}"


class _MetRot(Exception):
    """The append at this place of the batch needs a page that cannot be read."""

    def __init__(self, place: int, error: JournalError) -> None:
        super().__init__(place, error)
        self.place, self.error = place, error


class SqliteWriter:
    """Everything that changes the file. Lives in the thread of `connection`; `reconnect` opens that one anew."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reconnect: Callable[[], sqlite3.Connection],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check`: raises `JournalLost` when what was written is where nobody will find it."""
        self._transactions = Transactions(connection, reconnect, check)
        self._heads = Heads(self._transactions)
        self._stream_rows: list[_Row] = []
        self._event_values: list[Any] = []  # of one row after the other
        self._keyed_rows: dict[tuple[int, str], tuple[KeyedReply, _Row]] = {}
        self._reminders: dict[tuple[int, str], tuple[int | None, int]] = {}  # stream, name: due, category; the newest
        self._written = 0  # appends gathered in this transaction
        self.appends = self.commits = self.fenced = self.conflicts = 0

    @property
    def flushes(self) -> Histogram:
        """How many seconds its flushes to the disk took."""
        return self._transactions.flushes

    # Group commit

    def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        """Write a batch in one transaction. See `Store.append`."""
        try:
            with self._transaction():
                results = [self._decide(append) for append in batch]
                self._insert()
        except UNWRITABLE:
            results = self._append_each(batch)
        except JournalFailed as error:
            if not is_rotten(error.__cause__):
                raise
            results = self._append_each(batch)
        self._count(results)
        return results

    def _append_each(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        """One of them holds what cannot be stored, or met a page that cannot be read. Nothing was written: find it,
        and let its neighbours live.

        SQLite commits no transaction that has met a rotten page: each one that is found costs another try."""
        refused: dict[int, JournalError] = {}
        while True:
            try:
                with self._transaction():
                    return [refused.get(at) or self._append_alone(at, append) for at, append in enumerate(batch)]
            except _MetRot as met:
                refused[met.place] = met.error
                if len(refused) > _ROTTEN_MAX:
                    later = JournalFailed(f"{_ROTTEN_MAX} damaged streams in one transaction; the others, again")
                    refused = dict.fromkeys(range(met.place + 1, len(batch)), later) | refused

    def _decide(self, append: Append) -> Appended | JournalError:
        current = self._heads.epoch(append.owner)
        if append.epoch != current or not current:
            return Fenced(append.owner, append.epoch, current)
        head = self._heads.head(append.stream)
        if append.expected_version != head.version or append.keys or not append.events:
            answer = self._decide_with_care(append, head)
            if answer is not None:
                return answer
        return self._gather(append, head)

    def _decide_with_care(self, append: Append, head: Head) -> Appended | JournalError | None:
        """Whatever the head alone cannot tell: resends, conflicts, keys. None: it is new, write it."""
        recorded = {reply.key: self._recorded_key(head, reply.key) for reply in append.keys}
        before = self._written_before(append, head, recorded)
        if before is not None:
            return before
        if append.expected_version != head.version:
            return VersionConflict(str(append.stream), append.expected_version, head.version)
        for reply in append.keys:
            if recorded[reply.key] is not None:
                return DuplicateKey(str(append.stream), reply.key)
            recorded[reply.key] = reply  # the same key twice in one append is no better
        if not append.events and not append.keys:
            return Appended(version=head.version, position=0)
        return None

    def _written_before(self, append: Append, head: Head, recorded: dict[str, KeyedReply | None]) -> Appended | None:
        """The answer this append got the first time, if it is one sent again."""
        first, last = append.expected_version, append.expected_version + len(append.events)
        if last > head.version or not (append.events or append.keys):
            return None
        for reply in append.keys:
            if recorded[reply.key] != reply or not first <= reply.version <= last:
                return None
        self._insert()  # the appends that stand before this one in the batch count as well
        there = self._connection.execute(
            "SELECT position, command_id, recorded_at, payload FROM events"
            " WHERE stream = ? AND version > ? AND version <= ? ORDER BY version",
            (head.key, first, last),
        ).fetchall()
        # The payloads count: a command that ran again, on an owner that could not tell, may have decided otherwise.
        if [row[1:] for row in there] != [(e.command_id.encode(), e.recorded_at, e.payload) for e in append.events]:
            return None
        return Appended(version=last, position=there[-1][0] if there else 0)

    def _recorded_key(self, head: Head, key: str) -> KeyedReply | None:
        gathered = self._keyed_rows.get((head.key, key))
        if gathered is not None:
            return gathered[0]
        row = self._connection.execute(
            "SELECT version, fingerprint, reply FROM keyed_replies WHERE stream = ? AND key = ?", (head.key, key)
        ).fetchone()
        return row and KeyedReply(key=key, version=row[0], fingerprint=row[1], reply=row[2])

    def _gather(self, append: Append, head: Head) -> Appended:
        if not head.key:
            self._heads.create(append.stream, head)
            self._stream_rows.append((head.key, head.category, append.stream.id))
        newest = self._heads.newest()
        if newest.position > NUMBER_MAX - len(append.events):
            raise OverflowError(f"the journal has no position left above {newest.position}")
        stream, category, name, values = head.key, head.category, head.name, self._event_values
        version, position = head.version, newest.position
        for event in append.events:
            version += 1
            position += 1
            values += event_row(event, position, stream, version, category, name)
            if event.type in REMINDER_TYPES:
                reminder, due = change_of(event.payload)
                self._reminders[stream, reminder] = due, category
        for reply in append.keys:
            self._keyed_rows[stream, reply.key] = reply, keyed_row(reply, stream, name)
        head.version, newest.position = version, position
        self._written += 1
        return Appended(version=version, position=position if append.events else 0)

    def _insert(self) -> None:
        """Hand the gathered rows to SQLite, in as few statements as it takes."""
        if self._stream_rows:
            self._connection.executemany(_INSERT_STREAM, self._stream_rows)
            self._stream_rows.clear()
        if values := self._event_values:
            for start in range(0, len(values), _COLUMNS * _AT_ONCE):
                some = values[start : start + _COLUMNS * _AT_ONCE]
                self._connection.execute(_insert_events(len(some) // _COLUMNS), some)
            values.clear()
        if self._keyed_rows:
            self._connection.executemany(_INSERT_KEYED, [row for _, row in self._keyed_rows.values()])
            self._keyed_rows.clear()
        if self._reminders:
            changed = self._reminders.items()
            pending = [(stream, name, due, category) for (stream, name), (due, category) in changed if due is not None]
            self._connection.executemany(_SET_REMINDER, pending)
            self._connection.executemany(_DROP_REMINDER, [key for key, (due, _) in changed if due is None])
            self._reminders.clear()

    def _append_alone(self, place: int, append: Append) -> Appended | JournalError:
        """One append inside a savepoint of its own, so that only itself is undone when it cannot be stored."""
        written = self._written
        self._connection.execute("SAVEPOINT one")
        try:
            result = self._decide(append)
            self._insert()
        except (*UNWRITABLE, sqlite3.DatabaseError) as error:
            if is_rotten(error):
                raise _MetRot(place, _refused(append, error)) from error
            if not isinstance(error, UNWRITABLE):
                raise
            self._connection.execute("ROLLBACK TO one")
            self._forget()
            self._written = written
            result = _refused(append, error)
        self._connection.execute("RELEASE one")
        return result

    def _count(self, results: Sequence[Appended | JournalError]) -> None:
        self.appends += self._written
        self.commits += self._written > 0
        refused = [type(result) for result in results if type(result) is not Appended]
        self.fenced += refused.count(Fenced)
        self.conflicts += refused.count(VersionConflict)

    # Owners and aggregate types

    def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        """See `Store.claim`. The answer is durable before it is given: an epoch is never handed out twice."""
        assert owner, "an owner has a name: the empty one means a bystander"
        with self._transaction(f"owner {owner!r}") as connection:
            answer = self._claim(connection, owner, incarnation, epoch)
        if isinstance(answer, Fenced):  # only now: whatever breaks off a transaction forgets all that is remembered
            raise answer
        return answer

    def _claim(self, connection: sqlite3.Connection, owner: str, incarnation: str, epoch: int) -> int | Fenced:
        claims = connection.execute(
            "SELECT epoch, incarnation FROM owners WHERE owner = ? ORDER BY epoch", (owner,)
        ).fetchall()
        newest = int(claims[-1][0]) if claims else 0
        own = next((int(known) for known, by in reversed(claims) if by == incarnation.encode()), 0)
        if epoch and (epoch < newest or (epoch == newest and own != epoch)):
            return Fenced(owner, epoch, newest)
        if own and epoch in (0, own):
            return own
        epoch = epoch or newest + 1
        connection.execute(
            "INSERT INTO owners (owner, epoch, incarnation) VALUES (?, ?, ?)", (owner, epoch, incarnation)
        )
        connection.execute("DELETE FROM owners WHERE owner = ? AND epoch <= ?", (owner, epoch - CLAIMS_KEPT))
        self._heads.claimed(owner, epoch)
        return epoch

    def register(self, category: str, placement: str, code: str) -> Registration:
        """See `Store.register`."""
        with self._transaction(f"aggregate type {category!r}") as connection:
            row = connection.execute(
                "SELECT placement, code, generation FROM aggregates WHERE category = ?", (category,)
            ).fetchone()
            if row is not None and row[0].decode() != placement:
                raise PlacementConflict(category, row[0].decode(), placement)
            if row is not None and not code:
                code = row[1].decode()
            generation = 1 if row is None else row[2] + (row[1].decode() != code)
            connection.execute(
                "INSERT INTO aggregates (category, placement, code, generation) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (category) DO UPDATE SET code = excluded.code, generation = excluded.generation"
                " WHERE generation <> excluded.generation",
                (category, placement, code, generation),
            )
        return Registration(category=category, placement=placement, code=code, generation=generation)

    # Checkpoints

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Store.save_checkpoint`."""
        name, owner, epoch = checkpoint.name, checkpoint.owner, checkpoint.epoch
        with self._transaction(f"checkpoint {name!r}") as connection:
            current = self._heads.epoch(owner)
            if current and epoch == current:
                connection.execute(_SAVE_CHECKPOINT, (name, owner, epoch, checkpoint.position))
                return
        self.fenced += 1
        raise Fenced(owner, epoch, current)

    # Snapshots

    def save_snapshots(self, batch: Sequence[Snapshot], keep: int) -> None:
        """See `Store.save_snapshots`."""
        with self._transaction():
            for snapshot in batch:
                with suppress(*UNWRITABLE):  # it is only a cache
                    self._save(snapshot, self._heads.head(snapshot.stream), keep)

    def _save(self, snapshot: Snapshot, head: Head, keep: int) -> None:
        if not head.key or snapshot.version > head.version or self._is_intact(snapshot, head):
            return
        self._connection.execute(_INSERT_SNAPSHOT, snapshot_row(snapshot, head.key, head.name))
        self._connection.execute(
            "DELETE FROM snapshots WHERE stream = ? AND key NOT IN"
            " (SELECT key FROM snapshots WHERE stream = ? ORDER BY version DESC, key DESC LIMIT ?)",
            (head.key, head.key, keep),
        )

    def _is_intact(self, snapshot: Snapshot, head: Head) -> bool:
        """Whether it is already there and not rotten; a rotten one is replaced."""
        row = self._connection.execute(
            f"SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE stream = ? AND version = ? AND schema = ?",
            (head.key, snapshot.version, snapshot.schema),
        ).fetchone()
        return row is not None and read_snapshot(snapshot.stream, head.name, row) is not None

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._transactions.connection

    @contextmanager
    def _transaction(self, what: str = "") -> Generator[sqlite3.Connection, None, None]:
        """`what`: the one thing that it is about, if it is one. Only then `UNWRITABLE` errors leave as ours."""
        self._written = 0
        try:
            with self._transactions.begin() as connection:
                yield connection
        except (*UNWRITABLE, AttributeError) as error:
            self._forget()
            if not what:
                raise
            if isinstance(error, UnicodeEncodeError | OverflowError | sqlite3.DataError):
                raise Unstorable(what, str(error)) from error
            raise CorruptRecord(what, 0, 0, f"what is recorded of it cannot be read: {error}") from error
        except BaseException:
            self._forget()
            raise
        self._heads.trim()

    def _forget(self) -> None:
        self._heads.forget()
        self._stream_rows.clear()
        self._event_values.clear()
        self._keyed_rows.clear()
        self._reminders.clear()


def _refused(append: Append, error: Exception) -> JournalError:
    """Why this append alone cannot be written: it holds what no column can, or its stream is damaged."""
    if isinstance(error, sqlite3.IntegrityError):
        return CorruptRecord(str(append.stream), 0, 0, f"it cannot be appended to: {error}")
    if is_rotten(error):
        return CorruptRecord(str(append.stream), 0, 0, f"its file cannot be read: {error}")
    return Unstorable(_printable(append.stream), str(error))


def _printable(stream: StreamId) -> str:
    """Its name, so that it can travel: what cannot be stored may be the name."""
    return str(stream).encode(errors="backslashreplace").decode()
