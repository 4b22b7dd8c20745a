"""What is too large, or too far, meets a limit that the error names; nothing is written, and the caller's next call
goes well."""

import sqlite3
from contextlib import closing

import pytest

from holdfast.actors import Aggregate, command, event, on
from holdfast.journal.errors import CodecError, RecordTooLarge, Unstorable
from holdfast.journal.pages import NUMBER_MAX
from holdfast.journal.records import Append, Appended, NewEvent, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions
from holdfast.runtime import Config, HostLimits, InvalidId, Runtime, Sharded

LIMITS = HostLimits(event_bytes_max=2000, reply_bytes_max=2000, metadata_bytes_max=500, command_bytes_max=20_000)


@event("shelf.added")
class Added:
    text: str


class Shelf(Aggregate):
    count: int = 0

    @command
    def add(self, *texts: str, reply: str = "") -> str:
        for text in texts:
            self.emit(Added(text))
        return reply or str(self.count)

    @on(Added)
    def _added(self, event: Added) -> None:
        self.count += 1


async def test_every_limit_of_a_command_is_named(tmp_path):
    """An event, all events of one command however small, a reply, metadata, an id, a key: the error tells which, how
    large it was and what is allowed."""
    async with Runtime.local(
        f"sqlite:///{tmp_path / 'shelf.db'}", placement=Sharded(1), config=Config(host=LIMITS)
    ) as runtime:
        shelf = runtime.get(Shelf, "a")
        assert await shelf.add("first") == "1"
        for call, what, limit in (
            (shelf.add("x" * 3000), "event shelf.added", 2000),
            (shelf.add(*["x" * 1000] * 30), r"events of Shelf/a\.add", 20_000),
            (shelf.add(*[""] * 1000), r"events of Shelf/a\.add", 20_000),
            (shelf.add("fine", reply="x" * 3000), r"reply of Shelf\.add", 2000),
            (runtime.get(Shelf, "a", metadata={"note": "x" * 600}).add("fine"), r"metadata of Shelf/a\.add", 500),
        ):
            with pytest.raises(RecordTooLarge, match=what) as refused:
                await call
            assert refused.value.size > refused.value.limit == limit
            assert not refused.value.retryable
        with pytest.raises(CodecError):
            await runtime.get(Shelf, "a", metadata={"note": "\ud800"}).add("fine")
        for id in ("", "x" * 256, "€" * 86, "\ud800", "a\nb"):
            with pytest.raises(InvalidId):
                runtime.get(Shelf, id)
            if id:
                with pytest.raises(ValueError, match="idempotency key"):
                    runtime.get(Shelf, "a", idempotency_key=id)
        assert await shelf.add("second") == "2"
        assert await runtime.get(Shelf, "x" * 255, idempotency_key="k" * 255).add("one") == "1"
        assert [recorded.event.text async for recorded in runtime.read(Shelf, "a")] == ["first", "second"]


async def test_a_program_reads_all_pages_of_large_events(tmp_path):
    """`Runtime.read` and `state_at` take a short page for what it is."""
    async with Runtime.local(f"sqlite:///{tmp_path / 'shelf.db'}", placement=Sharded(1)) as runtime:
        for number in range(5):
            await runtime.get(Shelf, "a").add(str(number) + "x" * (3 << 20))
        for how in ({"id": "a"}, {}, {"id": "a", "backward": True}):
            read = [recorded.event.text[0] async for recorded in runtime.read(Shelf, **how)]
            assert read == (["4", "3", "2", "1", "0"] if "backward" in how else ["0", "1", "2", "3", "4"])
        assert len([recorded async for recorded in runtime.read(limit=4)]) == 4
        assert (await runtime.state_at(Shelf, "a")).count == 5
        await runtime.passivate(Shelf, "a")
        assert await runtime.get(Shelf, "a").add("last") == "6"


def append(id, at):
    event = NewEvent(type="t", payload=b"\x80", command_id=id, recorded_at=0)
    return Append(stream=StreamId("A", "a"), owner="host", epoch=1, expected_version=at, events=(event,))


async def test_a_journal_without_positions_left_says_so(tmp_path):
    """Sixty-four bits of them: `Unstorable`, and not a number that starts again."""
    path = tmp_path / "bank.db"
    store = SqliteStore(path, SqliteOptions(lock_wait_s=0.0))
    await store.open()
    await store.claim("host", "one")
    await store.append([append("c1", 0)])
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'", (NUMBER_MAX - 1,))
    await store.open()
    assert await store.append([append("c2", 1)]) == [Appended(version=2, position=NUMBER_MAX)]
    (refused,) = await store.append([append("c3", 2)])
    assert isinstance(refused, Unstorable)
    assert "no position left" in str(refused)
    await store.close()


async def test_a_row_that_sqlite_cannot_hold_is_refused_alone(tmp_path):
    """SQLite's own limit on the size of a row, lowered: `Unstorable` for that append, its neighbours are written."""
    store = SqliteStore(tmp_path / "bank.db", SqliteOptions(lock_wait_s=0.0))
    await store.open()
    await store.claim("host", "one")
    thread, writer = store._writer()
    await thread.run(writer._connection.setlimit, sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    large = NewEvent(type="t", payload=bytes(20_000), command_id="large", recorded_at=0)
    too_large = Append(stream=StreamId("A", "b"), owner="host", epoch=1, expected_version=0, events=(large,))
    results = await store.append([append("c1", 0), too_large, append("c2", 1)])
    assert [type(result) for result in results] == [Appended, Unstorable, Appended]
    await store.close()
