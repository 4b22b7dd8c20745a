"""What a runtime leaves on disk: plain SQLite and MessagePack, that any tool reads and no tool can run."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal

import msgpack
import pytest

from holdfast.actors import Aggregate, command, event, on
from holdfast.runtime import Runtime


@event("parcel.weighed")
class Weighed:
    grams: Decimal
    at: datetime
    marks: set[str]


class Parcel(Aggregate, snapshot_every=2):
    grams: Decimal = Decimal(0)
    marks: set[str] = set()

    @command
    def weigh(self, grams: Decimal, *marks: str) -> tuple[Decimal, set[str]]:
        self.emit(Weighed(grams, datetime(2024, 1, 2, tzinfo=UTC), set(marks)))
        return self.grams, self.marks

    @on(Weighed)
    def _weighed(self, event: Weighed) -> None:
        self.grams, self.marks = event.grams, self.marks | event.marks


OPAQUE = {"fingerprint": 16, "id": 16}
"""Columns of bytes that are compared and never decoded, and how many those are: a digest, and a journal's random id."""


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "parcels.db"


async def written(path):
    """A journal with events, metadata, keyed and other replies, and snapshots in it."""
    async with Runtime.local(f"sqlite:///{path}") as runtime:
        for number in range(5):
            await runtime.get(Parcel, f"p{number % 2}").weigh(Decimal("1.5"), "fragile", "heavy")
        keyed = runtime.get(Parcel, "p0", idempotency_key="k", metadata={"clerk": "eve"})
        assert await keyed.weigh(Decimal(2)) == (Decimal(2), {"fragile", "heavy"})
        assert await runtime.passivate(Parcel, "p0")


async def test_every_blob_at_rest_is_messagepack_and_none_is_a_pickle(journal):
    """A hostile journal file cannot run code: nothing in it is ever unpickled, since nothing in it is a pickle."""
    await written(journal)
    seen = {}
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            columns = [column for column, *_ in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, bytes) and value and column not in OPAQUE:
                        assert value[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
                        msgpack.unpackb(value, strict_map_key=False, timestamp=3)
                        seen.setdefault((table, column), value)
                    elif isinstance(value, bytes) and value:
                        assert len(value) == OPAQUE[column]
    assert {("events", "payload"), ("events", "metadata"), ("events", "reply")} <= seen.keys()
    assert {("snapshots", "payload"), ("keyed_replies", "reply")} <= seen.keys()
    connection.close()


async def test_plain_sqlite_finds_versions_and_positions_without_gaps_and_cannot_change_them(journal):
    """What the README says of the file, said by the file."""
    await written(journal)
    connection = sqlite3.connect(journal)
    positions = [p for (p,) in connection.execute("SELECT position FROM events ORDER BY position")]
    assert positions == list(range(1, 7))
    for (stream,) in connection.execute("SELECT DISTINCT stream FROM events").fetchall():
        versions = [
            v for (v,) in connection.execute("SELECT version FROM events WHERE stream = ? ORDER BY 1", (stream,))
        ]
        assert versions == list(range(1, len(versions) + 1))
    for statement in ("UPDATE events SET payload = x'80'", "DELETE FROM events", "UPDATE events SET version = version"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()
