"""What the tests of the SQLite store share: a journal's path, records, and a look at the file behind its back.

Those of the PostgreSQL store import `postgres_server`, beside this folder, by name.
"""

import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

if (TESTS := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(TESTS)


class JournalFile:
    """One journal file. `async with file.opened() as store` claims `host` at epoch 1."""

    def __init__(self, path):
        self.path = path

    @asynccontextmanager
    async def opened(self, **options):
        store = SqliteStore(self.path, SqliteOptions(**{"lock_wait_s": 0.0, **options}))
        await store.open()
        try:
            await store.claim("host", "first")
            yield store
        finally:
            await store.close()

    def raw(self):
        """A plain connection of SQLite, as any tool would open it."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA recursive_triggers = ON")
        return closing(connection)

    def tamper(self, *statements):
        """Change what must not be changed: drop the triggers first."""
        with self.raw() as raw:
            for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert raw.execute(statement).rowcount != 0, statement

    @staticmethod
    def append(id, *command_ids, at=0, keys=(), epoch=1, **fields):
        """An append to stream `Account/<id>`."""
        defaults = {"type": "t", "payload": b"\x81\xa6amount\x07", "recorded_at": 7, "reply": b"\x01"}
        events = tuple(NewEvent(command_id=command_id, **{**defaults, **fields}) for command_id in command_ids)
        stream = StreamId("Account", id)
        return Append(stream=stream, owner="host", epoch=epoch, expected_version=at, events=events, keys=tuple(keys))


@pytest.fixture
def file(tmp_path):
    return JournalFile(tmp_path / "bank.db")
