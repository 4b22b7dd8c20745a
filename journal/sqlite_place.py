"""Where an open journal's files are: whether those that are open are still those that stand at their paths.

A file that is deleted, moved or replaced stays open in the process that writes it, which could go on acknowledging
into a file that nobody will find again. Nothing tells such a process; it has to look. A look is two or three `stat`
calls, some microseconds, after a commit and before its answer. (A name is compared by device and inode: the inode of
a file that is open is not given to another one.)
"""

import os
from pathlib import Path

from .errors import JournalLost

__all__ = ["Place"]

_Identity = tuple[int, int] | None


class Place:
    """The files of one open journal. `mark` when they were opened, `check` before anything is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._log, self._lock = str(path), f"{path}-wal", f"{path}.writer"
        self._known: dict[str, _Identity] = {}

    def mark(self) -> None:
        """A connection has just opened them. The log may be another one than before: the last connection to close
        takes it away. The file and the lock may not."""
        known = self._known
        self.check_file()
        known[self._log] = _identity(self._log)
        for name in (self._file, self._lock):
            known.setdefault(name, _identity(name))

    def check_file(self) -> None:
        """Raise `JournalLost` if the file itself, or the lock, is not the one that was opened."""
        self._check(self._file, "its file")
        self._check(self._lock, "its lock (.writer)")

    def check(self) -> None:
        """Raise `JournalLost` if any of them is not the one that was opened."""
        self.check_file()
        self._check(self._log, "its log (-wal)")

    def _check(self, name: str, what: str) -> None:
        known = self._known.get(name)
        if known is None:
            return
        found = _identity(name)
        if found != known:
            how = "was deleted or moved away" if found is None else "was replaced by another one"
            raise JournalLost(str(self._path), f"{what} {how} while it was open")


def _identity(name: str) -> _Identity:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino
