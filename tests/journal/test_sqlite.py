"""The SQLite store: what its file promises beyond the contract, and what happens when the disk does not play."""

import ast
import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from holdfast.journal import sqlite_heads
from holdfast.journal.errors import (
    CorruptRecord,
    Fenced,
    JournalFailed,
    JournalUnavailable,
    Unstorable,
    VersionConflict,
)
from holdfast.journal.records import Appended, KeyedReply, Load, Snapshot, StreamId

ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")
KEY = KeyedReply(key="k", fingerprint=b"f", version=1, reply=b"r")


async def write_a_little(file):
    """Two streams, a key and two snapshots."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1", "a2", "a3", keys=[KEY]), file.append("bob", "b1")])
        for version in (1, 2):
            await store.save_snapshots([Snapshot(stream=ALICE, version=version, schema="s", payload=b"\x80")])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = x'80' WHERE position = 1",
        "DELETE FROM events WHERE position = 4",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
        "UPDATE OR REPLACE events SET position = 2 WHERE position = 1",
        "UPDATE keyed_replies SET reply = x'80'",
        "DELETE FROM keyed_replies",
        "INSERT OR REPLACE INTO keyed_replies SELECT * FROM keyed_replies",
        "UPDATE streams SET id = 'mallory' WHERE id = 'alice'",
        "DELETE FROM streams",
        "INSERT OR REPLACE INTO streams SELECT * FROM streams",
    ],
)
async def test_what_is_written_cannot_be_changed(file, statement):
    """Triggers refuse it from any tool, and nothing of it happens."""
    await write_a_little(file)
    with file.raw() as raw:
        before = list(raw.iterdump())
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            raw.execute(statement)
        assert list(raw.iterdump()) == before


async def test_the_stores_own_connections_set_recursive_triggers(file):
    """Else INSERT OR REPLACE would delete without asking the trigger."""
    async with file.opened() as store:
        for thread, side in (store._writer(), store._reader()):
            pragma = "PRAGMA recursive_triggers"
            assert await thread.run(lambda: side._connection.execute(pragma).fetchone()) == (1,)  # noqa: B023


async def test_the_file_is_set_up_as_the_design_says(file):
    """Strict tables, WAL, full flushes, our application id, no auto-vacuum."""
    async with file.opened() as store:
        thread, writer = store._writer()

        def pragma(name):
            return writer._connection.execute(f"PRAGMA {name}").fetchone()[0]

        assert await thread.run(pragma, "journal_mode") == b"wal"
        assert await thread.run(pragma, "synchronous") == 2
        assert await thread.run(pragma, "auto_vacuum") == 0
        assert await thread.run(pragma, "application_id") == int.from_bytes(b"Hold", "big")
        assert await thread.run(pragma, "cache_size") == -64 * 1024
        assert await thread.run(pragma, "mmap_size") > 0
    with file.raw() as raw:
        rows = raw.execute("PRAGMA table_list").fetchall()
        strict = {row[1]: row[5] for row in rows if not row[1].startswith("sqlite_")}
        assert set(strict.values()) == {1}
        tables = {"streams", "events", "snapshots", "keyed_replies", "owners", "aggregates", "categories", "journal"}
        assert set(strict) == tables | {"checkpoints", "reminders"}


async def test_options_reach_the_connection(file):
    """`synchronous=normal` and `cache_mib` are what SQLite runs with."""
    async with file.opened(synchronous="normal", cache_mib=3) as store:
        thread, writer = store._writer()
        for name, value in (("synchronous", 1), ("cache_size", -3 * 1024)):
            found = await thread.run(lambda: writer._connection.execute(f"PRAGMA {name}").fetchone())  # noqa: B023
            assert found == (value,)


async def test_hot_queries_are_served_by_an_index(file):
    """No load, page or lookup scans a table, however large the journal."""
    await write_a_little(file)
    async with file.opened() as store:
        thread, reader = store._reader()
        plans = []

        def explain(statement):
            if statement.startswith("SELECT"):
                plans.append(statement)

        await thread.run(lambda: reader._connection.set_trace_callback(explain))
        await store.load([Load(stream=ALICE, owner="host", epoch=1, schema="s")])
        await store.read_stream(ALICE, backward=True)
        await store.read_all(category="Account")
        await store.find_replies(ALICE, ["a1"], window=5)
        await store.find_keyed(ALICE, ["k"])
        await store.list_streams(category="Account", after=ALICE)
        await thread.run(lambda: reader._connection.set_trace_callback(None))
    with file.raw() as raw:
        steps = [row[3] for plan in plans for row in raw.execute(f"EXPLAIN QUERY PLAN {plan}")]
    assert len(plans) > 8
    scans = [step for step in steps if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    assert [scan for scan in scans if scan.split()[1] != "categories"] == []  # as many as aggregate types
    assert [step for step in steps if "TEMP B-TREE" in step] == []


async def test_payloads_lie_in_the_file_as_they_were_given(file):
    """MessagePack in, the same bytes at rest; and no module of the journal can unpickle."""
    await write_a_little(file)
    with file.raw() as raw:
        assert raw.execute("SELECT DISTINCT payload, reply FROM events").fetchall() == [
            (b"\x81\xa6amount\x07", b"\x01")
        ]
    forbidden = {"pickle", "cloudpickle", "marshal", "shelve", "dill"}
    for module in Path(sqlite_heads.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not forbidden & set(names), module


@pytest.mark.parametrize(
    "change",
    [
        "payload = x'81a6616d6f756e7408'",
        "metadata = x'80'",
        "reply = NULL",
        "reply = x'02'",
        "type = 'u'",
        "command_id = 'other'",
        "recorded_at = 8",
        "category = 99",
        "checksum = 0",
        "type = CAST(x'ff' AS TEXT)",
        "type = 'ta', command_id = '2'",
    ],
)
async def test_a_changed_byte_is_a_corrupt_record(file, change):
    """The error names stream, version and position; other streams and other pages go on."""
    await write_a_little(file)
    file.tamper(f"UPDATE events SET {change} WHERE position = 2")
    async with file.opened() as store:
        for read in (store.read_stream(ALICE), store.read_all()):
            with pytest.raises(CorruptRecord) as corrupt:
                await read
            assert corrupt.value.args[:3] == (str(ALICE), 2, 2)
        broken, whole = await store.load([Load(stream=ALICE), Load(stream=BOB)])
        assert broken.args[:3] == (str(ALICE), 2, 2)
        assert (whole.head, len(whole.events)) == (1, 1)
        assert [event.version for event in await store.read_stream(ALICE, after=2)] == [3]
        assert await store.append([file.append("bob", "b2", at=1)]) == [Appended(version=2, position=5)]


async def test_an_event_that_strayed_into_another_stream_is_corrupt(file):
    """The checksum holds the name of the stream."""
    await write_a_little(file)
    file.tamper("UPDATE events SET stream = 2, version = 2 WHERE position = 3")
    async with file.opened() as store:
        with pytest.raises(CorruptRecord):
            await store.read_stream(BOB)


async def test_an_event_whose_stream_is_gone_does_not_vanish(file):
    """Reading the journal raises instead of leaving a hole."""
    await write_a_little(file)
    file.tamper("DELETE FROM streams WHERE id = 'alice'")
    async with file.opened() as store:
        with pytest.raises(CorruptRecord, match="its stream is not in the journal"):
            await store.read_all()


async def test_a_corrupt_keyed_reply_is_not_an_answer(file):
    """Nor does its key become free."""
    await write_a_little(file)
    file.tamper("UPDATE keyed_replies SET reply = x'00'")
    async with file.opened() as store:
        with pytest.raises(CorruptRecord, match="keyed reply"):
            await store.find_keyed(ALICE, ["k"])
        (refused,) = await store.append([file.append("alice", "a4", at=3, keys=[KEY])])
        assert type(refused).__name__ == "DuplicateKey"


@pytest.mark.parametrize("change", ["payload = x'81'", "version = 3", "checksum = 0", "schema = CAST(x'ff' AS TEXT)"])
async def test_a_corrupt_snapshot_is_passed_over(file, change):
    """For the one before it; if that is corrupt too, for the events. And it makes room for a good one."""
    await write_a_little(file)
    file.tamper(f"UPDATE snapshots SET {change} WHERE version = 2")
    async with file.opened() as store:
        (loaded,) = await store.load([Load(stream=ALICE, schema="s")])
        assert (loaded.snapshot.version, [event.version for event in loaded.events]) == (1, [2, 3])
        assert [snapshot.version for snapshot in await store.list_snapshots(ALICE)] == [1]
        await store.save_snapshots([Snapshot(stream=ALICE, version=2, schema="s", payload=b"\x80")])
        (loaded,) = await store.load([Load(stream=ALICE, schema="s")])
        assert loaded.snapshot.version == 2


async def test_a_journal_with_a_torn_page_fails_where_it_is_torn(file):
    """SQLite's own complaint becomes `CorruptRecord` of that stream."""
    async with file.opened() as store:
        for number in range(20):
            await store.append([file.append(f"a{number}", f"c{number}", payload=b"x" * 4000)])
    with file.raw() as raw:
        (page,) = raw.execute("SELECT max(pageno) FROM dbstat WHERE name = 'events'").fetchone()
    with file.path.open("r+b") as torn:
        torn.seek((page - 1) * 4096)
        torn.write(b"\xff" * 100)
    async with file.opened() as store:
        results = await store.load([Load(stream=StreamId("Account", f"a{number}")) for number in range(20)])
        broken = [result for result in results if isinstance(result, CorruptRecord)]
        assert 1 <= len(broken) < 20
        for result in broken:
            with pytest.raises(CorruptRecord):
                await store.read_stream(StreamId(*result.stream.split("/")))


async def test_readers_are_welcome_beside_the_writer(file):
    """A tool reads one moment of the journal while appends go on, and neither waits for the other."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
        with file.raw() as raw:
            raw.execute("BEGIN")
            count = "SELECT count(*) FROM events"
            assert raw.execute(count).fetchone() == (1,)
            assert await store.append([file.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]
            assert raw.execute(count).fetchone() == (1,)
            raw.execute("COMMIT")
            assert raw.execute(count).fetchone() == (2,)


async def test_reads_do_not_wait_behind_a_commit(file):
    """While the writer's thread is busy, loads and pages are answered."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
        thread, _ = store._writer()
        free = threading.Event()
        busy = asyncio.create_task(thread.run(free.wait))
        try:
            assert (await store.load([Load(stream=ALICE, owner="host", epoch=1)]))[0].head == 1
            assert await store.head() == 1
            await store.confirm("host", 1)
        finally:
            free.set()
            await busy


async def test_a_closed_store_refuses_and_a_process_can_exit_without_closing(file):
    """`JournalUnavailable`, not a hang; the threads are daemons."""
    async with file.opened() as store:
        assert all(thread.daemon for thread in threading.enumerate() if "connection_worker" in thread.name)
    for call in (store.head(), store.append([]), store.statistics()):
        with pytest.raises(JournalUnavailable, match="not open"):
            await call


async def test_streams_that_fell_out_of_memory_are_known_again(file, monkeypatch):
    """With room for two streams only, batches over twenty of them stay right."""
    monkeypatch.setattr(sqlite_heads, "_REMEMBERED_MAX", 2)
    async with file.opened() as store:
        _, writer = store._writer()
        for version in range(3):
            batch = [file.append(f"a{number}", f"c{version}", at=version) for number in range(20)]
            results = await store.append(batch)
            assert {result.version for result in results} == {version + 1}
            assert len(writer._heads._streams) <= 2
        conflicts = await store.append([file.append(f"a{number}", "late", at=2) for number in range(20)])
        assert {type(result) for result in conflicts} == {VersionConflict}


async def test_a_claim_that_is_refused_makes_the_writer_forget_nothing(file):
    """Or a host that comes back late would have every stream looked up again."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1"), file.append("bob", "b1")])
        await store.claim("host", "second")
        with pytest.raises(Fenced):
            await store.claim("host", "first", 1)
        assert list(store._writer()[1]._heads._streams) == [ALICE, BOB]
        assert await store.append([file.append("alice", "a2", at=1, epoch=2)]) == [Appended(version=2, position=3)]


async def test_what_cannot_be_stored_fails_alone(file):
    """A time beyond 64 bits, or text that is no Unicode: its neighbours are written, positions stay gapless."""
    async with file.opened() as store:
        results = await store.append(
            [
                file.append("alice", "a1"),
                file.append("bob", "b1", recorded_at=2**70),
                file.append("alice", "a2", at=1),
                file.append("carol", "\ud800"),
                file.append("bob", "b1"),
            ]
        )
        assert [type(result) for result in results] == [Appended, Unstorable, Appended, Unstorable, Appended]
        assert [event.position for event in await store.read_all()] == [1, 2, 3]
        counts = await store.statistics()
        assert (counts.appends, counts.commits, counts.streams) == (3, 1, 2)


async def test_a_version_that_appeared_behind_our_back_is_a_conflict(file):
    """The unique index is the last defence: the batch is decided again, and its neighbours are written."""
    await write_a_little(file)
    async with file.opened() as store:
        await store.append([file.append("alice", "a4", at=3)])
        with file.raw() as raw:
            raw.execute(
                "INSERT INTO events SELECT 6, stream, 5, category, type, 'foreign', payload, metadata, reply,"
                " recorded_at, checksum FROM events WHERE position = 5"
            )
        results = await store.append([file.append("alice", "a5", at=4), file.append("bob", "b2", at=1)])
        assert results[0].args == (str(ALICE), 4, 5)
        assert results[1] == Appended(version=2, position=7)


async def test_a_full_disk_writes_nothing_and_appends_resume_when_there_is_room(file):
    """`JournalFailed`; what was there stays, what was refused is not there, and reads go on."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
        thread, writer = store._writer()

        def limit(pages):
            return writer._connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

        await thread.run(limit, 1)  # no less than what is in use: there is no room for one more page
        large = file.append("alice", "a2", at=1, payload=b"x" * 100_000)
        for _ in range(2):
            with pytest.raises(JournalFailed, match="full"):
                await store.append([file.append("bob", "b1"), large])
        assert await store.head() == 1
        with pytest.raises(JournalFailed):
            await store.save_snapshots([Snapshot(stream=ALICE, version=1, schema="s", payload=b"x" * 100_000)])
        await thread.run(limit, 1 << 30)
        assert await store.append([large, file.append("bob", "b1")]) == [
            Appended(version=2, position=2),
            Appended(version=1, position=3),
        ]


class Broken:
    """A connection on which some statements meet an I/O error."""

    def __init__(self, connection, *failing, code=sqlite3.SQLITE_IOERR):
        self._connection, self._failing, self._code = connection, failing, code

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, statement, *values):
        if statement.startswith(self._failing):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            raise error
        return self._connection.execute(statement, *values)


async def test_a_failed_commit_leaves_nothing_and_the_next_append_goes_on(file):
    """A new connection settles the matter by a commit of its own: `JournalFailed`, for certain."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
        _, writer = store._writer()
        writer._transactions.connection = Broken(writer._connection, "COMMIT")
        with pytest.raises(JournalFailed, match="I/O"):
            await store.append([file.append("alice", "a2", at=1)])
        assert not isinstance(writer._connection, Broken)
        assert await store.head() == 1
        assert await store.append([file.append("alice", "a3", at=1)]) == [Appended(version=2, position=2)]


async def test_a_commit_that_cannot_be_settled_is_unknown(file, monkeypatch):
    """If no connection can be had after it, nobody may say that nothing was written: `JournalUnavailable`."""
    async with file.opened() as store:
        _, writer = store._writer()
        reconnect = writer._transactions._reconnect
        writer._transactions.connection = Broken(writer._connection, "COMMIT")
        writer._transactions._reconnect = lambda: Broken(reconnect(), "PRAGMA user_version")
        append = file.append("alice", "a1")
        with pytest.raises(JournalUnavailable):
            await store.append([append])
        writer._transactions._reconnect = reconnect
        assert await store.append([append]) == [Appended(version=1, position=1)]
        assert await store.head() == 1


async def test_a_connection_that_is_lost_is_opened_again(file):
    """For the writer and for the reader: one call fails, the next one is served."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
        writer, reader = store._writer()[1], store._reader()[1]
        writer._transactions.connection = Broken(writer._connection, "BEGIN")
        reader._connection = Broken(reader._connection, "BEGIN")
        with pytest.raises(JournalFailed, match="I/O"):
            await store.append([file.append("alice", "a2", at=1)])
        with pytest.raises(JournalUnavailable, match="I/O"):
            await store.head()
        assert await store.head() == 1
        assert await store.append([file.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]


async def test_a_caller_who_stops_waiting_does_not_stop_the_append(file):
    """The batch in flight is written whole, and the store is as usable as before."""
    async with file.opened() as store:
        thread, _ = store._writer()
        free = threading.Event()
        busy = asyncio.create_task(thread.run(free.wait))
        appending = asyncio.create_task(store.append([file.append("alice", "a1")]))
        await asyncio.wait([appending], timeout=0)
        appending.cancel()
        free.set()
        await busy
        assert await store.append([file.append("alice", "a1")]) == [Appended(version=1, position=1)]
        assert await store.head() == 1
