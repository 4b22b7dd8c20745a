"""A SQLite journal opened beside its writer, by somebody who must not leave a trace.

Read-only in the strict sense: a file that nobody has open is opened as `immutable`, for SQLite would otherwise leave a
log (-wal, -shm) beside it. It is then to be checked that nobody wrote to it meanwhile. A file with a log has a writer,
or had one that was killed, and is read through that log. No memory map: it would turn a torn file into a signal.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any

from .errors import JournalOpenError, NotAJournal
from .sqlite_file import inspect_header

__all__ = ["Beside"]

_BUSY_MS = 5000


class Beside:
    """One connection to the file at `path`, and whether what it reads is still what stands there.

    `alone`: nobody else had the file open. Raises `JournalOpenError`, or `NotAJournal` with what is there instead.
    """

    def __init__(self, named: str | os.PathLike[str]) -> None:
        self.path = path = Path(os.path.realpath(named))
        _check_file(path)
        self.alone = not _size(f"{path}-wal") and not os.path.exists(f"{path}-shm") and not _size(f"{path}-journal")
        self._opened = _state(path)
        uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if self.alone else ''}"
        try:
            self.connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=_BUSY_MS / 1000, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise JournalOpenError(str(path), str(error)) from error
        self.connection.text_factory = bytes

    @property
    def unchanged(self) -> bool:
        """Whether it is the file that was opened; and, where nobody may write to it, is as it was then."""
        try:
            found = _state(self.path)
        except FileNotFoundError:
            return False
        return found == self._opened if self.alone else found[0] == self._opened[0]

    def size(self) -> tuple[int, int]:
        """Bytes of the file and its log, and of the log."""
        log = _size(f"{self.path}-wal")
        return _size(str(self.path)) + log, log

    def close(self) -> None:
        """Let go."""
        self.connection.close()


def _check_file(path: Path) -> None:
    if not path.exists():
        raise JournalOpenError(str(path), "there is no such file")
    if path.is_dir():
        raise NotAJournal(str(path), "is a folder")
    inspect_header(path)
    if not _size(str(path)) and not _size(f"{path}-wal"):
        raise NotAJournal(str(path), "is empty: nothing was ever written to it")


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _state(path: Path) -> tuple[Any, ...]:
    """What changes when anybody writes to the file, or opens it to do so."""
    found = os.stat(path)
    return (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns, os.path.exists(f"{path}-wal")
