"""A PostgreSQL journal as a verification reads it: one session that cannot write, beside the writer.

Each page is one statement, so one moment; what was written after the verification began lies beyond its last position.
The pages of the server's files are the server's to check (`data_checksums`, the extension `amcheck`): where it cannot
read one, the step that needs it says so.
"""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

from .errors import CorruptRecord, JournalOpenError, JournalUnavailable, NotAJournal
from .pages import PAGE_BYTES_MAX
from .postgres_door import PostgresDoor
from .postgres_session import Row, Session, SessionLost, StatementFailed
from .records import Recorded
from .reminders import REMINDER_TYPES, Change, change_of
from .rows import EVENT_COLUMNS, KEYED_COLUMNS, SNAPSHOT_COLUMNS, number, read_event
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

__all__ = ["PostgresSource"]

PAGE_ROWS_MAX = 2000
NAMES_MAX = 100_000
"""Streams whose names are remembered while events are read in the order of positions."""

_FIRST = -(1 << 63)
"""Below every key."""

_INDEXED = 2
"""The schema from which on there are checkpoints, and an index of reminders."""

_ABSENT = ("42P01", "3F000")
"""No such table, no such schema."""

_NO_SUCH_COLUMN = "42703"

_DAMAGED = ("XX", "42P01", "42703")
"""What a statement fails with when something stored is wrong: a page or an index, a table or a column that is gone."""

_NAMES = "LEFT JOIN streams AS s ON s.key = {}.stream LEFT JOIN categories AS c ON c.key = s.category"
_HEAD = "(SELECT max(version) FROM events WHERE stream = {})"
_OF = "($1::bytea IS NULL OR c.name = $1)"

# The rows of a page in order, up to the first one that takes it over its bytes, which is at most one too many.
_CUT = (
    "SELECT {columns} FROM (SELECT *, sum({weight}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - ({weight})"
    " AS before FROM (SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit}) AS w) AS {alias} {join}"
    f" WHERE before <= {PAGE_BYTES_MAX} ORDER BY {{order}}"
)
_EVENT_WEIGHT = "octet_length(payload) + octet_length(metadata) + coalesce(octet_length(reply), 0)"


def _events(where: str, order: str) -> str:
    return _CUT.format(
        columns=EVENT_COLUMNS,
        weight=_EVENT_WEIGHT,
        table="events",
        where=where,
        order=order,
        limit=PAGE_ROWS_MAX,
        alias="e",
        join="",
    )


_EVENTS = _events("position > $1 AND position <= $2", "position")
_EVENTS_OF = _events(
    "category = (SELECT key FROM categories WHERE name = $3) AND position > $1 AND position <= $2", "category, position"
)
_HISTORY = _events("stream = $1 AND version > $2 AND position <= $3", "version")
_REMINDER_EVENTS = _events("stream = $1 AND version > $2 AND version <= $3 AND type = ANY ($4::bytea[])", "version")
_REMINDERS = (
    "SELECT r.stream, r.name, r.due, r.category, c.name, s.id, s.category FROM reminders AS r"
    f" {_NAMES.format('r')} WHERE {_OF} AND (r.stream, r.name) > ($2, $3) ORDER BY r.stream, r.name"
    f" LIMIT {PAGE_ROWS_MAX}"
)
_INDEX_OF = (
    f"SELECT {_HEAD.format('a.stream')}, r.name, r.due FROM (SELECT $1::bigint AS stream) AS a"
    " LEFT JOIN reminders AS r ON r.stream = a.stream"
)
_VERSIONS = (
    "SELECT stream, version, position FROM events WHERE (stream, version) > ($2, $3) AND position <= $4"
    " AND ($1::bytea IS NULL OR (SELECT category FROM streams WHERE key = stream)"
    " = (SELECT key FROM categories WHERE name = $1))"
    f" ORDER BY stream, version LIMIT {PAGE_ROWS_MAX * 5}"
)
_STREAMS = (
    f"SELECT s.key, c.name, s.id, {_HEAD.format('s.key')},"
    " EXISTS (SELECT 1 FROM keyed_replies WHERE stream = s.key)"
    f" FROM streams AS s LEFT JOIN categories AS c ON c.key = s.category WHERE {_OF} AND s.key > $2"
    f" ORDER BY s.key LIMIT {PAGE_ROWS_MAX}"
)
_KEYED = (
    f"SELECT {', '.join(f'k.{column}' for column in KEYED_COLUMNS.split(', '))}, c.name, s.id,"
    f" {_HEAD.format('k.stream')} FROM keyed_replies AS k {_NAMES.format('k')}"
    f" WHERE {_OF} AND (k.stream, k.key) > ($2, $3) ORDER BY k.stream, k.key LIMIT {{limit}}"
)
_SNAPSHOTS = (
    f"SELECT {', '.join(f'n.{column}' for column in SNAPSHOT_COLUMNS.split(', '))}, c.name, s.id,"
    f" {_HEAD.format('n.stream')} FROM snapshots AS n {_NAMES.format('n')}"
    f" WHERE {_OF} AND (n.stream, n.version, n.schema) > ($2, $3, $4)"
    " ORDER BY n.stream, n.version, n.schema LIMIT {limit}"
)
# How many of the rows that come next make a page of bytes: asked first, since a keyed reply or a snapshot may be large.
_FIT = (
    "SELECT count(*) FROM (SELECT sum(weight) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS total FROM"
    " (SELECT {order}, octet_length({heavy}) AS weight FROM {table} WHERE ({order}) > ({marks})"
    f" ORDER BY {{order}} LIMIT {PAGE_ROWS_MAX}) AS w) AS t WHERE total <= {PAGE_BYTES_MAX}"
)
_KEYED_FIT = _FIT.format(table="keyed_replies", order="stream, key", heavy="reply", marks="$1, $2")
_SNAPSHOTS_FIT = _FIT.format(table="snapshots", order="stream, version, schema", heavy="payload", marks="$1, $2, $3")
_NAME = (
    "SELECT c.name, s.id, s.category, s.key FROM streams AS s LEFT JOIN categories AS c ON c.key = s.category"
    " WHERE s.key = ANY ($1::bigint[])"
)
_KEYS_OF = (
    "SELECT key FROM streams WHERE key > $2 AND category = (SELECT key FROM categories WHERE name = $1)"
    f" ORDER BY key LIMIT {PAGE_ROWS_MAX}"
)
_TRIGGERS = (
    "SELECT tgname, tgenabled::text FROM pg_trigger JOIN pg_class AS t ON t.oid = tgrelid"
    " WHERE NOT tgisinternal AND t.relnamespace = $1::regnamespace"
)
_OFF = ("D", "R")
"""Of `tgenabled`: disabled, and fired by replication alone."""

_INDEXES = (
    "SELECT i.relname FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid"
    " WHERE NOT (indisvalid AND indisready) AND i.relnamespace = $1::regnamespace"
)


class PostgresSource(Source):
    """One journal, read through one session."""

    notes = ("the server's own files are for the server to check: data_checksums, amcheck",)

    def __init__(self, door: PostgresDoor, session: Session) -> None:
        self.name = door.path
        self._schema, self._session = door.options.schema, session
        self._names: dict[int, Named | None] = {}

    @classmethod
    async def open(cls, door: PostgresDoor) -> Self:
        """Open for reading. Raises `JournalOpenError`s; `JournalUnavailable` where no server answers."""
        session = await door.look()
        source = cls(door, session)
        try:
            await source._check_identity(door)
        except BaseException:
            await session.close()
            raise
        return source

    async def _check_identity(self, door: PostgresDoor) -> None:
        """That this is a journal, and which partition of which one."""
        foreign = NotAJournal(self.name, f"its schema {self._schema} holds tables of another application")
        try:
            rows = await self._session.fetch("SELECT application, schema FROM journal")
            if len(rows) != 1 or rows[0][0] != "holdfast":
                raise foreign
            self.membership = await door.recorded(self._session, rows[0][1])
            self.indexed = rows[0][1] >= _INDEXED
        except SessionLost as error:
            raise JournalUnavailable(f"{self.name}: {error}") from error
        except StatementFailed as error:
            if error.state in _ABSENT:
                raise JournalOpenError(self.name, f"there is no journal in its schema {self._schema}") from error
            if error.state == _NO_SUCH_COLUMN:
                raise foreign from error
            raise JournalOpenError(self.name, str(error)) from error

    async def close(self) -> None:
        await self._session.close()

    # Storage itself

    async def damage(self) -> list[Problem]:
        return [Problem(kind="storage", problem=problem) async for problem in self._damage()]

    async def _damage(self) -> AsyncIterator[str]:
        script = (Path(__file__).parent / "postgres.sql").read_text(encoding="utf-8")
        there = {row[0]: row[1] for row in await self._ask(_TRIGGERS, self._schema)}
        for name in re.findall(r"^CREATE TRIGGER (\w+)", script, re.MULTILINE):
            if name not in there:
                yield f"the trigger {name} is missing"
            elif there[name] in _OFF:
                yield f"the trigger {name} is switched off"
            elif there[name] != "A":
                yield f"the trigger {name} can be switched off: it is not ENABLE ALWAYS"
        for (index,) in await self._ask(_INDEXES, self._schema):
            yield f"the index {index} is not valid"

    async def extent(self) -> Extent:
        ((newest,),) = await self._ask("SELECT max(position) FROM events")
        categories = await self._ask("SELECT name FROM categories ORDER BY name")
        return Extent(newest or 0, newest or 0, tuple(text(name) for (name,) in categories))

    # Events

    async def events(self, upto: int, category: str | None) -> AsyncIterator[Sequence[EventRow]]:
        after = 0
        select, values = (_EVENTS, []) if category is None else (_EVENTS_OF, [category.encode()])
        while after < upto and (rows := await self._ask(select, after, upto, *values)):
            await self._learn({row[1] for row in rows})
            yield [event_row(tuple(row), self._names[row[1]]) for row in rows]
            after = onward(after, rows[-1][0])

    async def _learn(self, keys: set[int]) -> None:
        """Have the names of these streams at hand."""
        if len(self._names) >= NAMES_MAX:
            self._names.clear()
        wanted = [key for key in keys if key not in self._names]
        if wanted:
            self._names.update(dict.fromkeys(wanted))
            for *name, key in await self._ask(_NAME, wanted):
                self._names[key] = named(*name)

    async def versions(self, upto: int, category: str | None) -> AsyncIterator[Sequence[VersionRow]]:
        async for rows in self._paged(_VERSIONS, category, (_FIRST, 0), upto):
            yield [VersionRow(key, number(version), position) for key, version, position in rows]

    async def stream_name(self, key: int) -> str:
        await self._learn({key})
        of = self._names[key]
        return of.called if of else f"stream {key}"

    # What hangs on streams

    async def streams(self, category: str | None) -> AsyncIterator[Sequence[StreamRow]]:
        async for rows in self._paged(_STREAMS, category, (_FIRST,)):
            yield [stream_row(*row) for row in rows]

    async def keyed_replies(self, category: str | None) -> AsyncIterator[Sequence[KeyedRow]]:
        async for rows in self._paged(_KEYED, category, (_FIRST, b""), fit=_KEYED_FIT):
            yield [keyed_row(tuple(row)) for row in rows]

    async def snapshots(self, category: str | None) -> AsyncIterator[Sequence[SnapshotRow]]:
        async for rows in self._paged(_SNAPSHOTS, category, (_FIRST, 0, b""), fit=_SNAPSHOTS_FIT):
            yield [snapshot_row(tuple(row)) for row in rows]

    async def owners(self) -> list[OwnerRow]:
        rows = await self._ask("SELECT owner, epoch, incarnation FROM owners ORDER BY owner, epoch")
        return [OwnerRow(text(owner), epoch, text(by)) for owner, epoch, by in rows]

    async def checkpoints(self) -> list[CheckpointRow]:
        rows = await self._ask("SELECT name, owner, epoch, position FROM checkpoints ORDER BY name")
        return [CheckpointRow(text(name), text(owner), epoch, position) for name, owner, epoch, position in rows]

    # Reminders

    async def reminders(self, category: str | None) -> AsyncIterator[Sequence[ReminderRow]]:
        async for rows in self._paged(_REMINDERS, category, (_FIRST, b"")):
            yield [reminder_row(row) for row in rows]

    async def index_of(self, key: int) -> tuple[int, list[tuple[bytes, int]]]:
        rows = await self._ask(_INDEX_OF, key)
        return rows[0][0] or 0, [(as_bytes(name), number(due)) for _, name, due in rows if name is not None]

    async def reminder_events(self, key: int, upto: int) -> AsyncIterator[Sequence[tuple[int, int, Change]]]:
        await self._learn({key})
        of, after, types = self._names[key], 0, [type.encode() for type in REMINDER_TYPES]
        while of is not None and (rows := await self._ask(_REMINDER_EVENTS, key, after, upto, types)):
            events = [read_event(of.stream, of.checksum, tuple(row)) for row in rows]
            yield [(event.version, event.position, change_of(event.payload)) for event in events]
            after = onward(after, events[-1].version)

    # Replay

    async def histories(self, upto: int, category: str) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        async for keys in self._paged(_KEYS_OF, category, (_FIRST,)):
            await self._learn({key for (key,) in keys})
            for (key,) in keys:
                async for page in self._history(key, upto):
                    yield [(key, recorded) for recorded in page]

    async def _history(self, key: int, upto: int) -> AsyncIterator[list[Recorded]]:
        """The events of one stream, up to the first that is damaged: that one was told in its own place."""
        of, after = self._names[key], 0
        while of is not None and (rows := await self._ask(_HISTORY, key, after, upto)):
            page: list[Recorded] = []
            try:
                for row in rows:
                    page.append(read_event(of.stream, of.checksum, tuple(row)))
            except CorruptRecord:
                yield page
                return
            yield page
            after = onward(after, rows[-1][2])

    # Asking

    async def _paged(
        self, select: str, category: str | None, at: tuple[Any, ...], *values: Any, fit: str = ""
    ) -> AsyncIterator[list[Row]]:
        """Pages of a query whose first columns are its order; its marks are the category, and after what to begin."""
        of = None if category is None else category.encode()
        while True:
            statement = select
            if fit:
                ((count,),) = await self._ask(fit, *at)
                statement = select.format(limit=max(count, 1))
            rows = await self._ask(statement, of, *at, *values)
            if not rows:
                return
            yield rows
            at = onward(at, tuple(rows[-1][: len(at)]))

    async def _ask(self, statement: str, *values: Any) -> list[Row]:
        try:
            return await self._session.fetch(statement, *values)
        except SessionLost as error:
            raise JournalUnavailable(f"{self.name}: {error}") from error
        except StatementFailed as error:
            if error.state.startswith(_DAMAGED):
                raise Unreadable(f"the server cannot read it: {error}") from error
            raise JournalUnavailable(f"{self.name}: {error}") from error
