"""The journal in one SQLite file: the embedded default.

One connection writes and one reads, each in a thread of its own, so that a load never waits behind a flush to
disk. A call is one hop to that thread and back, whatever its size: the work itself is plain synchronous code in
`sqlite_writer.py` and `sqlite_reader.py`.
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ParamSpec, TypeVar, cast

import aiosqlite

from .errors import JournalError, JournalLocked, JournalOpenError, JournalReadOnly, JournalUnavailable
from .histogram import Histogram
from .partition import WHOLE, Partition
from .records import (
    Append,
    Appended,
    Checkpoint,
    Load,
    Loaded,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .sqlite_file import SqliteOptions, WriterLock, connect_reader, connect_writer, flush_log, inspect
from .sqlite_partitions import check_made, make_others, partition_path
from .sqlite_place import Place
from .sqlite_reader import SqliteReader
from .sqlite_writer import SqliteWriter
from .store import Store

__all__ = ["SqliteStore"]

_LOCK_RETRY_S = 0.05
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Thread(aiosqlite.Connection):
    """One SQLite connection and the thread it lives in.

    aiosqlite hops once per statement; we hop once per batch, through `_execute`, its own way of running a
    function in the thread. That name is not public: hence the upper bound on aiosqlite in pyproject.toml.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], place: Place) -> None:
        super().__init__(connect, iter_chunk_size=64)
        self._connect_here, self._place = connect, place
        # Up to aiosqlite 0.21 a connection is a thread, from 0.22 on it has one. Either way a process that
        # forgot to close its journal must be able to exit: what it was told is durable is on disk already.
        self._worker: Any = getattr(self, "_thread", self)
        self._worker.daemon = True

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function in the thread. A caller who stops waiting does not stop it."""
        try:
            return cast(_T, await self._execute(partial(function, *args, **kwargs)))  # type: ignore[no-untyped-call]
        except ValueError as error:
            if self._connection is None:
                raise JournalUnavailable("it is closed") from error
            raise

    async def ended(self) -> None:
        """Wait for a thread that could not connect: its last word goes to the loop, which must still be there."""
        await asyncio.to_thread(self._worker.join)

    def here(self) -> sqlite3.Connection:
        """The connection, for functions that run in the thread."""
        return self._conn

    def reconnect(self) -> sqlite3.Connection:
        """Close the connection and open another one in its place. Runs in the thread. Raises `JournalLost` rather
        than open another file."""
        self._place.check_file()
        self._conn.close()
        self._connection = self._connect_here()
        self._place.mark()
        return self._connection


class SqliteStore(Store):
    """A `Store` in the SQLite file at `path`, or in that of another partition of the journal there. Beside it stand its
    log (-wal, -shm) and its lock (.writer)."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: SqliteOptions | None = None,
        *,
        partition: Partition = WHOLE,
    ) -> None:
        # The lock stands beside the real file, so that two names of one journal are one journal.
        self._journal, self._path = Path(os.path.realpath(path)), partition_path(path, partition)
        self._partition = partition
        self._options = options or SqliteOptions()
        self._lock: WriterLock | None = None
        self._threads: list[_Thread] = []
        self._opened: tuple[_Thread, SqliteWriter, _Thread, SqliteReader] | None = None

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}{'' if self._opened else ', not open'}>"

    async def open(self) -> None:
        if self._opened is not None:
            return
        try:
            await asyncio.to_thread(inspect, self._path)
            journal_id = await asyncio.to_thread(check_made, self._journal, self._partition)
            self._lock = await self._take_lock()
            if not self._partition.number:
                journal_id = await asyncio.to_thread(make_others, self._journal, self._partition, self._options)
            await asyncio.to_thread(flush_log, self._path)
            place = Place(self._path)
            connect = partial(connect_writer, self._path, self._options, self._partition, journal_id)
            writing = await self._start(connect, place)
            reading = await self._start(lambda: connect_reader(self._path, self._options), place)
            place.mark()
        except OSError as error:
            await self.close()
            kind = JournalReadOnly if error.errno in _FORBIDDEN else JournalOpenError
            raise kind(str(self._path), f"{error.strerror}: {error.filename}") from error
        except BaseException:
            await self.close()
            raise
        writer = SqliteWriter(writing.here(), writing.reconnect, place.check)
        reader = SqliteReader(reading.here(), reading.reconnect, place.check)
        self._opened = writing, writer, reading, reader

    async def _take_lock(self) -> WriterLock:
        deadline = monotonic() + self._options.lock_wait_s
        while True:
            lock = WriterLock.take(self._path)
            if isinstance(lock, WriterLock):
                return lock
            if monotonic() >= deadline:
                raise JournalLocked(str(self._path), lock)
            await asyncio.sleep(_LOCK_RETRY_S)

    async def _start(self, connect: Callable[[], sqlite3.Connection], place: Place) -> _Thread:
        thread = _Thread(connect, place)
        try:
            await thread
        except BaseException:
            await thread.ended()
            raise
        self._threads.append(thread)
        return thread

    async def close(self) -> None:
        # The reader goes first: the last connection to close moves the log into the file and removes it.
        self._opened = None
        try:
            while self._threads:
                await self._threads.pop().close()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    # Writing

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        thread, writer = self._writer()
        return await thread.run(writer.claim, owner, incarnation, epoch)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        thread, writer = self._writer()
        return await thread.run(writer.register, category, placement, code)

    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        thread, writer = self._writer()
        return await thread.run(writer.append, batch)

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        thread, writer = self._writer()
        await thread.run(writer.save_snapshots, batch, keep)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        thread, writer = self._writer()
        await thread.run(writer.save_checkpoint, checkpoint)

    # Reading

    async def confirm(self, owner: str, epoch: int) -> None:
        thread, reader = self._reader()
        await thread.run(reader.confirm, owner, epoch)

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        thread, reader = self._reader()
        return await thread.run(reader.load, batch)

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        thread, reader = self._reader()
        return await thread.run(reader.read_stream, stream, after, limit, backward)

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        thread, reader = self._reader()
        return await thread.run(reader.read_all, after, limit, category)

    async def pack_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> tuple[bytes, int]:
        thread, reader = self._reader()
        return await thread.run(reader.pack_all, after, limit, category)

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        thread, reader = self._reader()
        return await thread.run(reader.find_replies, stream, ids, window)

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        thread, reader = self._reader()
        return await thread.run(reader.find_keyed, stream, keys)

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        thread, reader = self._reader()
        return await thread.run(reader.list_snapshots, stream)

    async def find_checkpoint(self, name: str) -> int:
        thread, reader = self._reader()
        return await thread.run(reader.find_checkpoint, name)

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        thread, reader = self._reader()
        return await thread.run(reader.due_reminders, category, until, limit, after)

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        thread, reader = self._reader()
        return await thread.run(reader.list_streams, category, after, limit)

    async def head(self) -> int:
        thread, reader = self._reader()
        return await thread.run(reader.head)

    async def statistics(self) -> StoreStatistics:
        (_, writer), (thread, reader) = self._writer(), self._reader()
        streams, events, snapshots = await thread.run(reader.counts)
        return StoreStatistics(
            streams=streams,
            events=events,
            snapshots=snapshots,
            bytes_on_disk=sum(_size(f"{self._path}{suffix}") for suffix in ("", "-wal")),
            appends=writer.appends,
            commits=writer.commits,
            rows_read=reader.rows_read,
            fenced=writer.fenced + reader.fenced,
            conflicts=writer.conflicts,
        )

    @property
    def flushes(self) -> Histogram | None:
        return None if self._opened is None else self._opened[1].flushes

    def _writer(self) -> tuple[_Thread, SqliteWriter]:
        if self._opened is None:
            raise JournalUnavailable(f"{self._path} is not open")
        return self._opened[0], self._opened[1]

    def _reader(self) -> tuple[_Thread, SqliteReader]:
        if self._opened is None:
            raise JournalUnavailable(f"{self._path} is not open")
        return self._opened[2], self._opened[3]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
