"""Where a run's journal is, and the server that may go down with it.

An SQLite file needs no server. For PostgreSQL the soak starts one of its own, in its folder, which the nemesis kills.
"""

import tempfile
from pathlib import Path
from typing import Protocol

from tests.postgres_server import Server

__all__ = ["Database", "database"]


class Database(Protocol):
    """A journal's place, and that of a read model. `server`: whether there is one to kill."""

    url: str
    read_url: str
    server: bool

    def kill(self) -> None:
        """Kill -9 the server with all its processes, if it is up."""
        ...

    def start(self) -> None:
        """Start it on the same data, if it is down."""
        ...


class SqliteFile:
    """A file; the journal's actor is all the server it has."""

    server = False

    def __init__(self, folder: Path) -> None:
        self.url, self.read_url = f"sqlite:///{folder}/journal.db", f"sqlite:///{folder}/read.db"

    def kill(self) -> None:
        """There is none."""

    def start(self) -> None:
        """There is none."""


class PostgresServer:
    """A server with one database; the journal is in a schema of it, the read model in another."""

    server = True

    def __init__(self, folder: Path) -> None:
        folder.parent.chmod(0o755)  # a server does not run as root, so another user must find its files
        folder.chmod(0o755)
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            self._server = Server()
        finally:
            tempfile.tempdir = before
        self._up = True
        self.url = self._server.url("soak", lock_wait_s=10)
        self.read_url = f"{self.url.partition('?')[0]}?schema=read"

    def kill(self) -> None:
        """See `Database`."""
        if self._up:
            self._up = False
            self._server.kill()

    def start(self) -> None:
        """See `Database`."""
        if not self._up:
            self._server.start()
            self._up = True


def database(kind: str, folder: Path) -> Database:
    """The database of that kind, up."""
    return SqliteFile(folder) if kind == "sqlite" else PostgresServer(folder)
