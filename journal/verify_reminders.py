"""The index of reminders under verification: is it the fold over the events that it must be?

The fold is made while the events are read anyway, in the order of positions, up to where the verification began. What
is pending may be very much, so it lies in a private database of SQLite, which keeps a few pages in memory and the rest
in a file without a name. Then both are walked in one order, and each stream in which they part is a suspect: a writer
may have changed it since. Of a suspect the index is read once more, with the version of its stream at that moment; its
events up to there, which never change, say what the index must have been then.

Before this: all events were read. After this: each row that is missing, too many or wrong is told.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from .errors import CodecError, CorruptRecord
from .reminders import Change
from .verify_rows import text
from .verify_source import ReminderRow, Source

__all__ = ["PendingReminders", "ReminderProblem"]

_Row = tuple[int, bytes, int]
"""Stream, name, due."""


class ReminderProblem(NamedTuple):
    """What is wrong with one row, or with one that is not there; `version`, `position`: of the event that says so."""

    problem: str
    stream: str
    version: int = 0
    position: int = 0


class PendingReminders:
    """What is pending by the events that were applied. Close it in the end."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(
            "CREATE TABLE pending (stream INTEGER, name BLOB, due INTEGER, PRIMARY KEY (stream, name)) WITHOUT ROWID"
        )
        self._rows.execute("BEGIN")  # never to be committed: it is gone when it is closed

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()

    def apply(self, stream: int, change: Change) -> None:
        """The next event of a stream, by its key."""
        name, due = change.name.encode(), change.due
        if due is None:
            self._rows.execute("DELETE FROM pending WHERE stream = ? AND name = ?", (stream, name))
        else:
            self._rows.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", (stream, name, due))

    async def problems(self, source: Source, index: AsyncIterator[ReminderRow]) -> AsyncIterator[ReminderProblem]:
        """How the index parts from the events. `index`: all its rows, in the order of stream and name."""
        judged = None
        async for suspect, row in self._suspects(index):
            if row is not None and row.problem:
                yield ReminderProblem(row.problem, row.stream)
            elif suspect != judged:
                judged = suspect
                for problem in await _judged(source, suspect):
                    yield problem

    async def _suspects(self, index: AsyncIterator[ReminderRow]) -> AsyncIterator[tuple[int, ReminderRow | None]]:
        """Streams of which a row stands on one side alone, in order; and each row that is wrong in itself."""
        wanted: Iterator[_Row] = self._rows.execute("SELECT stream, name, due FROM pending ORDER BY stream, name")
        ahead = next(wanted, None)
        async for row in index:
            if row.problem:
                yield row.key, row
                continue
            there = row.key, row.name, row.due
            while ahead is not None and ahead[:2] < there[:2]:
                yield ahead[0], None
                ahead = next(wanted, None)
            if ahead != there:
                yield row.key, None
            if ahead is not None and ahead[:2] == there[:2]:
                ahead = next(wanted, None)
        while ahead is not None:
            yield ahead[0], None
            ahead = next(wanted, None)


async def _judged(source: Source, key: int) -> list[ReminderProblem]:
    """The problems of one stream. None where an event is damaged: it was told, and what it said nobody knows."""
    version, index = await source.index_of(key)
    wanted: dict[bytes, tuple[int, int, Change]] = {}
    try:
        async for page in source.reminder_events(key, version):
            wanted |= {change.name.encode(): (at, position, change) for at, position, change in page}
    except (CorruptRecord, CodecError):
        return []
    stream = await source.stream_name(key)
    return [ReminderProblem(*problem) for problem in _differences(stream, dict(index), wanted)]


def _differences(
    stream: str, index: dict[bytes, int], wanted: dict[bytes, tuple[int, int, Change]]
) -> Iterable[tuple[str, str, int, int]]:
    for name in sorted(index.keys() | wanted.keys()):
        version, position, change = wanted.get(name, (0, 0, Change("", None)))
        found, due = index.get(name), change.due
        called = repr(text(name))
        if found == due:
            continue
        if found is None:
            problem = f"reminder {called}, due at {due}, is not in the index"
        elif due is None:
            problem = f"reminder {called} is in the index, due at {found}: by the events it is not pending"
        else:
            problem = f"reminder {called} is due at {found} in the index, at {due} by the events"
        yield problem, stream, version, position
