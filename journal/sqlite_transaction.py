"""Transactions of the connection that writes: begun, committed, rolled back, and what is certain afterwards.

A failed COMMIT is the one place where an SQLite file can surprise. All pages of the transaction may stand in the
log although the flush behind them failed; this process does not see them any more, but one that starts after a
crash would take them for a commit. So before anybody is told that nothing was written, a commit of our own writes
over them; if that fails as well, the answer is "unknown".
"""

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from struct import error as StructError

from .errors import JournalError, JournalFailed, JournalFull, JournalOpenError, JournalUnavailable
from .histogram import SECONDS, Histogram

__all__ = ["UNWRITABLE", "Transactions", "failed", "is_rotten"]

UNWRITABLE = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    OverflowError,
    StructError,
    TypeError,
    ValueError,
)
"""What one record can be the cause of. Anything else that goes wrong concerns the whole transaction."""

_CONNECTION_LOST = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_NOTADB,
}
"""Primary result codes after which a connection is closed and another one is opened."""


_ROTTEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_NOTADB}
"""SQLITE_ERROR too: our statements are right, so a table or a column that they do not find was there before."""


def is_rotten(error: BaseException | None) -> bool:
    """Whether SQLite met a page that it cannot read. Others of the same file may be as good as ever."""
    if isinstance(error, UnicodeDecodeError):  # it quotes rotten bytes in its complaint
        return True
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _ROTTEN


def failed(error: sqlite3.Error) -> JournalFailed:
    """What SQLite said, as the error that tells what to do about it."""
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return JournalFull(str(error)) if full else JournalFailed(str(error))


class Transactions:
    """One transaction at a time over `connection`; when that is lost, `reconnect` opens another in its place."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reconnect: Callable[[], sqlite3.Connection],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check`: raises `JournalLost` when what was committed is where nobody will find it."""
        self.connection = connection
        self._reconnect, self._check = reconnect, check
        self._lost = False
        self.flushes = Histogram(SECONDS)  # of COMMITs, which flush to the disk

    @contextmanager
    def begin(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction that is committed when the block is left, and rolled back when it raises.

        Errors of SQLite leave as `JournalFailed` (nothing was written) or `JournalUnavailable` (unknown);
        `UNWRITABLE` and our own errors leave as they are, and nothing was written. `JournalLost`: it is lost.
        """
        try:
            self._connect_again_if_lost()
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
        except UNWRITABLE:
            self._roll_back()
            raise
        except sqlite3.Error as error:
            self._roll_back(error)
            raise failed(error) from error
        except BaseException:
            self._roll_back()
            raise
        self._commit()
        self._check()

    def _connect_again_if_lost(self) -> None:
        if self._lost:
            try:
                self.connection = self._reconnect()
            except JournalOpenError as error:
                raise JournalFailed(str(error)) from error
            self._lost = False

    def _commit(self) -> None:
        started = time.perf_counter()
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(error)
            if self._lost and not self._is_settled():
                raise JournalUnavailable(f"the commit failed, and so did the check after it: {error}") from error
            raise failed(error) from error
        self.flushes.observe(time.perf_counter() - started)

    def _is_settled(self) -> bool:
        """Write over what the failed COMMIT may have left: commit `user_version`, set to what it is."""
        try:
            self._connect_again_if_lost()
            (schema,) = self.connection.execute("PRAGMA user_version").fetchone()
            self.connection.execute(f"PRAGMA user_version = {schema}")
        except (sqlite3.Error, JournalError):
            self._lost = True
            return False
        return True

    def _roll_back(self, error: sqlite3.Error | None = None) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._lost = True
        if error is not None and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CONNECTION_LOST:
            self._lost = True
