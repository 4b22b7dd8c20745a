"""A SQLite journal as an export reads it: a connection that cannot write, beside the one that does.

A file that nobody has open is read as `immutable`, since SQLite would otherwise leave a log (-wal, -shm) beside it. It
is looked at after each page whether that still holds: a writer that came meanwhile made a log first, so the page was
read from a file that had not changed, or is read again, through that log.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from .archive import ArchivedKey, ArchivedSnapshot
from .archive_source import PAGE, ArchiveSource, key_of_row, snapshot_of_row
from .errors import CorruptRecord, JournalError, JournalOpenError, JournalUnavailable, NotAJournal
from .pages import PAGE_BYTES_MAX
from .records import Recorded
from .rows import ROTTEN
from .sqlite_file import SqliteOptions, connect_reader, inspect_header, recorded_membership
from .sqlite_reader import SqliteReader
from .sqlite_transaction import is_rotten

__all__ = ["SqliteArchiveSource", "SqliteSnapshot"]

T = TypeVar("T")

_CHECKPOINTS_SINCE = 2
"""The schema from which on there are checkpoints."""

# One walk over the index of names, and for each stream one over its own: in order, and it ends at the page's limit.
_OF_STREAMS = (
    "SELECT {columns}, s.id, (SELECT position FROM events WHERE stream = r.stream AND version = r.version)"
    " FROM streams AS s CROSS JOIN {table} AS r ON r.stream = s.key"
    " WHERE s.category = (SELECT key FROM categories WHERE name = ?) AND s.id >= ?"
    " AND (s.id > ? OR ({order}) > ({marks}))"
    " ORDER BY s.id, {order} LIMIT ?"
)
_KEYS = _OF_STREAMS.format(
    columns="r.stream, r.key, r.version, r.fingerprint, r.reply, r.checksum",
    table="keyed_replies",
    order="r.key",
    marks="?",
)
_SNAPSHOTS = _OF_STREAMS.format(
    columns="r.stream, r.version, r.schema, r.payload, r.checksum",
    table="snapshots",
    order="r.version, r.schema",
    marks="?, ?",
)


class SqliteSnapshot:
    """A file that is read, by one connection, which stays right whoever comes to write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before: tuple[Any, ...] | None = None
        self.connection = self.connect()

    def connect(self) -> sqlite3.Connection:
        """Open it, as a file that nobody writes if nobody does."""
        _check_file(self.path)
        before = _state(self.path)
        alone = not any(os.path.exists(f"{self.path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))
        self._before = before if alone else None
        self.connection = connect_reader(self.path, SqliteOptions(), immutable=alone)
        return self.connection

    @property
    def changed(self) -> bool:
        """Whether what was read may be of no one moment: it was taken for a file that nobody writes."""
        return self._before is not None and _state(self.path) != self._before

    def check(self) -> None:
        """Raise `JournalUnavailable` if it was opened for writing meanwhile: read again."""
        if self.changed:
            raise JournalUnavailable(f"{self.path} was opened for writing while it was read")

    def close(self) -> None:
        """Let go."""
        self.connection.close()


class SqliteArchiveSource(ArchiveSource):
    """One file, read by one connection in a thread of its own, one page at a time."""

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        """In that thread."""
        self.name, self._thread = str(path), thread
        self._file = SqliteSnapshot(path)
        self._reader = self._read()
        try:
            self.membership = recorded_membership(self._file.connection, path)
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> SqliteReader:
        return SqliteReader(self._file.connection, self._file.connect, self._file.check)

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open for reading. Raises `JournalOpenError`, or `NotAJournal` with what is there instead."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="holdfast-archive")
        real = await _in(thread, lambda: Path(os.path.realpath(path)))
        try:
            return await _in(thread, cls, real, thread)
        except BaseException as error:
            thread.shutdown(wait=False)
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise JournalOpenError(str(real), str(error)) from error
            raise

    async def close(self) -> None:
        await _in(self._thread, self._file.close)
        self._thread.shutdown(wait=False)

    async def head(self) -> int:
        return await self._run(lambda: self._reader.head())

    async def events(self, after: int, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[Recorded]]:
        only = (
            next(iter(categories)) if len(categories) == 1 else None
        )  # of several, all are read and some are left out
        while after < upto and (page := await self._run(self._all, after, only)):
            yield [
                event
                for event in page
                if event.position <= upto and (not categories or event.stream.category in categories)
            ]
            after = page[-1].position

    async def keyed_replies(
        self, upto: int, categories: Collection[str], after: tuple[str, str, str]
    ) -> AsyncIterator[Sequence[ArchivedKey]]:
        for category in await self._categories(categories):
            if category < after[0]:
                continue
            at: tuple[Any, ...] = after[1:] if category == after[0] else ("", "")
            while rows := await self._run(self._page, _KEYS, category, at):
                page = [key_of_row(category, row, upto) for row in rows]
                yield [key for key in page if key is not None]
                at = rows[-1][-2].decode(), rows[-1][1].decode()

    async def snapshots(self, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[ArchivedSnapshot]]:
        for category in await self._categories(categories):
            at: tuple[Any, ...] = ("", 0, "")
            while rows := await self._run(self._page, _SNAPSHOTS, category, at):
                page = [snapshot_of_row(category, row, upto) for row in rows]
                yield [snapshot for snapshot in page if snapshot is not None]
                at = rows[-1][-2].decode(), rows[-1][1], rows[-1][2].decode(errors="replace")

    async def checkpoints(self) -> list[tuple[str, int]]:
        return await self._run(self._checkpoints)

    # In the thread

    def _all(self, after: int, category: str | None) -> list[Recorded]:
        return self._reader.read_all(after, PAGE, category)

    def _checkpoints(self) -> list[tuple[str, int]]:
        connection = self._file.connection
        if connection.execute("PRAGMA user_version").fetchone()[0] < _CHECKPOINTS_SINCE:
            return []
        rows = connection.execute("SELECT name, position FROM checkpoints ORDER BY name").fetchall()
        return [(name.decode(), position) for name, position in rows]

    async def _categories(self, wanted: Collection[str]) -> list[str]:
        rows = await self._run(lambda: self._file.connection.execute("SELECT name FROM categories").fetchall())
        return sorted(name.decode() for (name,) in rows if not wanted or name.decode() in wanted)

    def _page(self, select: str, category: str, at: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """As many rows as come before they are too many bytes; at least one, if there is any."""
        rows: list[tuple[Any, ...]] = []
        left = PAGE_BYTES_MAX
        for row in self._file.connection.execute(select, (category, at[0], *at, PAGE)):
            rows.append(row)
            left -= sum(len(value) for value in row if isinstance(value, bytes))
            if left < 0:
                break
        return rows

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Run it in the thread, again if a writer came meanwhile."""
        return await _in(self._thread, self._steady, function, args)

    def _steady(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        while True:
            try:
                answer = function(*args)
                if not self._file.changed:
                    return answer
            except (JournalError, sqlite3.Error, *ROTTEN) as error:
                if not self._file.changed:
                    raise _told(error) from error
            self._file.close()
            self._file.connect()
            self._reader = self._read()


async def _in(thread: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, partial(function, *args))


def _told(error: Exception) -> JournalError:
    if isinstance(error, JournalError):
        return error
    if isinstance(error, sqlite3.Error) and not is_rotten(error):
        return JournalUnavailable(str(error))
    return CorruptRecord("the journal", 0, 0, f"its file cannot be read: {error}")


def _check_file(path: Path) -> None:
    if not path.exists():
        raise JournalOpenError(str(path), "there is no such file")
    if path.is_dir():
        raise NotAJournal(str(path), "is a folder")
    inspect_header(path)
    if not path.stat().st_size and not os.path.exists(f"{path}-wal"):
        raise NotAJournal(str(path), "is empty: nothing was ever written to it")


def _state(path: Path) -> tuple[Any, ...]:
    """What changes when anybody writes to the file, or opens it to do so."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, os.path.exists(f"{path}-wal")
