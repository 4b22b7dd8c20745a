"""A key store in a file of SQLite, or in memory.

What is destroyed is not in the file any more, nor in its log: secrets are overwritten before they are let go of, freed
space is zeroed (`secure_delete`), and the log is emptied into the file and cut to nothing before that is reported. What
file system, disk and backups keep of older blocks is beyond SQLite: see docs/privacy.md.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .errors import JournalError, JournalFailed, JournalOpenError, JournalTooNew
from .keys import DataSubject, Destroyed, Key, KeyId, KeyStore, Wanted
from .keys_script import FORMAT, SCHEMA, Script, begin, destroy, find, prepare, run
from .wrap import Wrap

__all__ = ["MEMORY", "SqliteKeys"]

T = TypeVar("T")

APPLICATION_ID = 0x68664B53  # "hfKS"
BUSY_S = 10.0
MEMORY = ":memory:"
ZEROS = "zeroblob(length(secret))"


class SqliteKeys(KeyStore):
    """A `KeyStore` at `path`, or in memory. All of it runs in one thread of its own."""

    def __init__(self, path: str = MEMORY, wrap: Wrap | None = None) -> None:
        self._path, self._wrap = path, wrap or Wrap(path)
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<key store {self._path}>"

    async def open(self) -> None:
        """See `KeyStore.open`."""
        self._thread = ThreadPoolExecutor(1, "holdfast-keys")
        try:
            await self._in_thread(self._connect)
        except BaseException:
            self._end_thread()
            raise

    async def close(self) -> None:
        """See `KeyStore.close`."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._in_thread(connection.close)
        self._end_thread()

    async def prepare(self, wanted: Sequence[Wanted]) -> list[tuple[Key, ...] | None]:
        """See `KeyStore.prepare`."""
        return await self._in_thread(lambda: self._transaction(prepare(wanted, self._wrap), writes=True))

    async def find(self, ids: Sequence[KeyId]) -> list[bytes | None]:
        """See `KeyStore.find`."""
        return await self._in_thread(lambda: self._transaction(find(ids, self._wrap), writes=False))

    async def destroy(self, subject: DataSubject) -> Destroyed:
        """See `KeyStore.destroy`."""
        return await self._in_thread(lambda: self._destroy(subject))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise JournalFailed(f"the key store {self._path} is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise JournalFailed(f"the key store {self._path}: {error}") from error

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _connect(self) -> None:
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalOpenError(self._path, str(error)) from error
        try:
            self._set_up(connection)
        except sqlite3.Error as error:
            connection.close()
            raise JournalOpenError(self._path, str(error)) from error
        except JournalError:
            connection.close()
            raise
        self._connection = connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if tables and application != APPLICATION_ID:
            raise JournalOpenError(self._path, "something that is no key store stands there; it was left as it is")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in SCHEMA:
                connection.execute(statement.format(blob="BLOB"))
            found = run(begin(self._wrap), connection.execute)
            if found > FORMAT:
                raise JournalTooNew(self._path, found, FORMAT)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _transaction(self, script: Script[T], *, writes: bool) -> T:
        connection = self._connection
        assert connection is not None, "it is open"
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            result = run(script, connection.execute)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    def _destroy(self, subject: DataSubject) -> Destroyed:
        destroyed = self._transaction(destroy(subject, ZEROS), writes=True)
        assert self._connection is not None, "it is open"
        busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and self._path != MEMORY:
            raise JournalFailed(f"the key store {self._path}: its log cannot be emptied, somebody reads it; try again")
        return destroyed
