"""The PostgreSQL store: what its tables promise beyond the contract, and what it insists on."""

import ast
import asyncio
from pathlib import Path

import asyncpg
import postgres_server
import pytest

from holdfast.journal import postgres_heads, postgres_session
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import (
    CorruptRecord,
    Fenced,
    JournalFailed,
    JournalLost,
    JournalUnavailable,
    Unstorable,
    VersionConflict,
)
from holdfast.journal.pages import PAGE_BYTES_MAX
from holdfast.journal.records import Appended, KeyedReply, Load, Snapshot, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore

ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")
KEY = KeyedReply(key="k", fingerprint=b"f", version=1, reply=b"r")


@pytest.fixture
def journal():
    return postgres_server.Journal(postgres_server.server())


async def write_a_little(journal):
    """Two streams, a key and two snapshots."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1", "a2", "a3", keys=[KEY]), journal.append("bob", "b1")])
        for version in (1, 2):
            await store.save_snapshots([Snapshot(stream=ALICE, version=version, schema="s", payload=b"\x80")])


CHANGES = [
    "UPDATE events SET payload = '\\x80' WHERE position = 1",
    "UPDATE events SET position = 9 WHERE position = 99",
    "DELETE FROM events WHERE position = 4",
    "TRUNCATE events",
    "TRUNCATE streams, events, keyed_replies CASCADE",
    "INSERT INTO events SELECT * FROM events WHERE position = 1 ON CONFLICT (position) DO UPDATE SET payload = '\\x80'",
    "SET session_replication_role = replica; DELETE FROM events",
    "UPDATE keyed_replies SET reply = '\\x80'",
    "DELETE FROM keyed_replies",
    "TRUNCATE keyed_replies",
    "UPDATE streams SET id = 'mallory' WHERE id = 'alice'",
    "DELETE FROM streams",
    "TRUNCATE streams",
    "UPDATE categories SET name = 'Other'",
    "DELETE FROM categories",
    "TRUNCATE categories",
]


async def test_what_is_written_cannot_be_changed(journal):
    """Triggers refuse it from any tool, the owner's and the superuser's included, and nothing of it happens."""
    await write_a_little(journal)
    kept = ("events", "streams", "keyed_replies", "categories")
    async with journal.raw() as raw:
        before = [await raw.fetch(f"TABLE {table}") for table in kept]
        for statement in CHANGES:
            with pytest.raises(asyncpg.RestrictViolationError, match="kept for ever"):
                await raw.execute(statement)
            await raw.execute("RESET session_replication_role")
            assert [await raw.fetch(f"TABLE {table}") for table in kept] == before, statement


async def test_events_can_be_read_by_people(journal):
    """A view shows the names as text and the times as times."""
    async with journal.opened() as store:
        await store.append([journal.append("a\0lice", "c1", recorded_at=1_700_000_000_000_000)])
    async with journal.raw() as raw:
        row = await raw.fetchrow("SELECT * FROM readable_events")
        assert (row["category"], row["id"], row["type"], row["command_id"]) == ("Account", "a\\000lice", "t", "c1")
        assert row["recorded_at"].isoformat() == "2023-11-14T22:13:20+00:00"


async def test_several_journals_live_in_one_database(journal):
    """Each in its schema, each with its positions and its writer."""
    other = postgres_server.Journal(journal.server)
    async with journal.opened() as store, other.opened() as second:
        for each in (store, second):
            assert await each.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]


async def settings_of(store, *names):
    """What the session that writes runs with."""
    session = store._writer()._turns._taken.session
    return [(await session.fetch("SELECT current_setting($1)", name))[0][0] for name in names]


async def test_an_acknowledged_commit_is_on_the_disk_whatever_the_role_says(journal):
    """Weak defaults of the role are overruled, a stronger one stays, and only the URL may ask for less."""
    async with journal.raw() as raw:
        try:
            for role, options, expected in (
                ("off", {}, "on"),
                ("local", {}, "on"),
                ("remote_apply", {}, "remote_apply"),
                ("on", {"synchronous": "normal"}, "off"),
            ):
                await raw.execute(f"ALTER ROLE {postgres_server.USER} SET synchronous_commit = {role}")
                async with journal.opened(**options) as store:
                    assert await settings_of(store, "synchronous_commit", "fsync") == [expected, "on"]
        finally:
            await raw.execute(f"ALTER ROLE {postgres_server.USER} RESET synchronous_commit")


async def test_roles_that_limit_their_sessions_do_not_limit_ours(journal):
    """Timeouts that would end the writer, and isolation that would fail it, are set aside."""
    weakening = {"statement_timeout": "1ms", "idle_session_timeout": "1ms", "default_transaction_read_only": "on",
                 "default_transaction_isolation": "serializable"}  # fmt: skip
    async with journal.raw() as raw:
        try:
            for name, value in weakening.items():
                await raw.execute(f"ALTER ROLE {postgres_server.USER} SET {name} = '{value}'")
            async with journal.opened() as store:
                assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]
                assert await settings_of(store, *weakening) == ["0", "0", "off", "read committed"]
        finally:
            await raw.execute(f"ALTER ROLE {postgres_server.USER} RESET ALL")


async def test_hot_queries_are_served_by_an_index(journal, monkeypatch):
    """No append, load, page or lookup scans a table, however large the journal."""
    await write_a_little(journal)
    asked, fetch = [], postgres_session.Session.fetch

    async def noted(self, statement, *values):
        asked.append((self, statement, values))
        return await fetch(self, statement, *values)

    async with journal.opened() as store:
        monkeypatch.setattr(postgres_session.Session, "fetch", noted)
        store._writer()._heads.forget()
        await store.append([journal.append("alice", "a1", "a2", "a3", keys=[KEY])])  # a resend
        await store.append([journal.append("alice", "a4", at=3, keys=[KeyedReply(**{**fields(KEY), "key": "k2"})])])
        await store.load([Load(stream=ALICE, owner="host", epoch=1, schema="s")])
        await store.read_stream(ALICE)
        await store.read_stream(ALICE, backward=True)
        await store.read_all()
        await store.read_all(category="Account")
        await store.find_replies(ALICE, ["a1"], window=5)
        await store.find_keyed(ALICE, ["k"])
        await store.list_streams(category="Account", after=ALICE)
        plans = {}
        for session, statement, values in asked:
            rows = await fetch(session, f"EXPLAIN {statement}", *values)
            plans[statement] = [line for (line,) in rows]
    assert len(plans) > 12
    for statement, lines in plans.items():
        scans = [line for line in lines if "Seq Scan" in line and "on writer " not in line and "categories" not in line]
        assert scans == [], statement
        # A filter after the index would mean that it was asked for too little.
        for number, line in enumerate(lines):
            if "Index" in line and "Scan using streams_category_id_key" in line and "ORDER BY c.name" not in statement:
                assert "id = " in lines[number + 1], statement


def fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}


@pytest.mark.parametrize(
    "change",
    [
        "payload = '\\x81a6616d6f756e7408'",
        "metadata = '\\x80'",
        "reply = NULL",
        "reply = '\\x02'",
        "type = 'u'",
        "command_id = 'other'",
        "recorded_at = 8",
        "category = 99",
        "checksum = 0",
        "type = '\\xff'",
        "type = 'ta', command_id = '2'",
    ],
)
async def test_a_changed_byte_is_a_corrupt_record(journal, change):
    """The error names stream, version and position; other streams and other pages go on."""
    await write_a_little(journal)
    await journal.tamper(f"UPDATE events SET {change} WHERE position = 2")
    async with journal.opened() as store:
        for read in (store.read_stream(ALICE), store.read_all()):
            with pytest.raises(CorruptRecord) as corrupt:
                await read
            assert corrupt.value.args[:3] == (str(ALICE), 2, 2)
        broken, whole = await store.load([Load(stream=ALICE), Load(stream=BOB)])
        assert broken.args[:3] == (str(ALICE), 2, 2)
        assert (whole.head, len(whole.events)) == (1, 1)
        assert [event.version for event in await store.read_stream(ALICE, after=2)] == [3]
        assert await store.append([journal.append("bob", "b2", at=1)]) == [Appended(version=2, position=5)]


async def test_an_event_that_strayed_into_another_stream_is_corrupt(journal):
    """The checksum holds the name of the stream."""
    await write_a_little(journal)
    await journal.tamper("UPDATE events SET stream = 2, version = 2 WHERE position = 3")
    async with journal.opened() as store:
        with pytest.raises(CorruptRecord):
            await store.read_stream(BOB)


async def test_an_event_whose_stream_is_gone_does_not_vanish(journal):
    """Reading the journal raises instead of leaving a hole."""
    await write_a_little(journal)
    await journal.tamper("DELETE FROM streams WHERE id = 'alice'")
    async with journal.opened() as store:
        with pytest.raises(CorruptRecord, match="its stream is not in the journal"):
            await store.read_all()


async def test_a_corrupt_keyed_reply_is_not_an_answer(journal):
    """Nor does its key become free."""
    await write_a_little(journal)
    await journal.tamper("UPDATE keyed_replies SET reply = '\\x00'")
    async with journal.opened() as store:
        with pytest.raises(CorruptRecord, match="keyed reply"):
            await store.find_keyed(ALICE, ["k"])
        (refused,) = await store.append([journal.append("alice", "a4", at=3, keys=[KEY])])
        assert type(refused).__name__ == "DuplicateKey"


@pytest.mark.parametrize("change", ["payload = '\\x81'", "version = 3", "checksum = 0"])
async def test_a_corrupt_snapshot_is_passed_over(journal, change):
    """For the one before it; if that is corrupt too, for the events. And it makes room for a good one."""
    await write_a_little(journal)
    await journal.tamper(f"UPDATE snapshots SET {change} WHERE version = 2")
    async with journal.opened() as store:
        (loaded,) = await store.load([Load(stream=ALICE, schema="s")])
        assert (loaded.snapshot.version, [event.version for event in loaded.events]) == (1, [2, 3])
        assert [snapshot.version for snapshot in await store.list_snapshots(ALICE)] == [1]
        await store.save_snapshots([Snapshot(stream=ALICE, version=2, schema="s", payload=b"\x80")])
        (loaded,) = await store.load([Load(stream=ALICE, schema="s")])
        assert loaded.snapshot.version == 2
    await journal.tamper("UPDATE snapshots SET checksum = 0")
    async with journal.opened() as store:
        (loaded,) = await store.load([Load(stream=ALICE, schema="s")])
        assert (loaded.snapshot, len(loaded.events)) == (None, 3)


async def test_a_page_is_cut_to_its_bytes_on_the_server(journal, monkeypatch):
    """What is beyond does not travel: one event too many at most, for pages and for loads."""
    rows, fetch = [], postgres_session.Session.fetch

    async def counted(self, statement, *values):
        found = await fetch(self, statement, *values)
        rows.append(sum(1 for row in found if "payload" in dict(row) and row["payload"] is not None))
        return found

    async with journal.opened() as store:
        third = PAGE_BYTES_MAX // 3
        await store.append([journal.append("alice", *(f"a{n}" for n in range(6)), payload=b"x" * third)])
        monkeypatch.setattr(postgres_session.Session, "fetch", counted)
        assert len(await store.read_stream(ALICE)) == 2
        assert len(await store.read_all(after=1)) == 2
        (loaded,) = await store.load([Load(stream=ALICE)])
        assert (len(loaded.events), loaded.head) == (2, 6)
        assert max(rows) <= 3


async def test_hundreds_of_loads_are_answered_in_their_order(journal):
    """In more than one round trip, with streams among them that nobody wrote, and one that is damaged."""
    async with journal.opened() as store:
        await store.append([journal.append(f"a{n}", *(f"{n}.{k}" for k in range(n % 4 + 1))) for n in range(240)])
        await journal.tamper("UPDATE events SET checksum = 0 WHERE command_id = '130.0'")
        loads = [Load(stream=StreamId("Account", f"a{n}"), owner="host", epoch=1) for n in range(260)]
        answers = await store.load(loads)
        assert isinstance(answers.pop(130), CorruptRecord)
        heads = [n % 4 + 1 if n < 240 else 0 for n in range(260) if n != 130]
        assert [(loaded.head, len(loaded.events)) for loaded in answers] == [(head, head) for head in heads]


async def test_readers_are_welcome_beside_the_writer(journal):
    """A tool reads one moment of the journal while appends go on, and neither waits for the other."""
    async with journal.opened() as store, journal.raw() as raw:
        await store.append([journal.append("alice", "a1")])
        async with raw.transaction(isolation="repeatable_read"):
            count = "SELECT count(*) FROM events"
            assert await raw.fetchval(count) == 1
            assert await store.append([journal.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]
            assert await raw.fetchval(count) == 1
        assert await raw.fetchval(count) == 2


async def test_a_table_that_somebody_locks_fails_the_append_and_nothing_is_written(journal, monkeypatch):
    """`JournalFailed` instead of a wait without end; and it goes on when the lock is gone."""
    monkeypatch.setitem(postgres_session._SETTINGS, "lock_timeout", "50ms")
    async with journal.opened() as store, journal.raw() as raw:
        async with raw.transaction():
            await raw.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            with pytest.raises(JournalFailed, match="lock"):
                await store.append([journal.append("alice", "a1")])
        assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]


async def test_reads_do_not_wait_behind_a_commit(journal):
    """While the writer waits, loads and pages are answered."""
    async with journal.opened() as store, journal.raw() as raw:
        await store.append([journal.append("alice", "a1")])
        async with raw.transaction():
            await raw.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            waiting = asyncio.create_task(store.append([journal.append("alice", "a2", at=1)]))
            assert (await store.load([Load(stream=ALICE, owner="host", epoch=1)]))[0].head == 1
            assert await store.head() == 1
            await store.confirm("host", 1)
            assert not waiting.done()
        assert await waiting == [Appended(version=2, position=2)]


async def test_a_closed_store_refuses(journal):
    """`JournalUnavailable`, not a hang; and what is not open says which journal it is, without its password."""
    async with journal.opened() as store:
        pass
    for call in (store.head(), store.append([]), store.statistics()):
        with pytest.raises(JournalUnavailable, match="not open") as refused:
            await call
        assert postgres_server.PASSWORD not in str(refused.value)


async def test_streams_that_fell_out_of_memory_are_known_again(journal, monkeypatch):
    """With room for two streams only, batches over twenty of them stay right."""
    monkeypatch.setattr(postgres_heads, "_REMEMBERED_MAX", 2)
    async with journal.opened() as store:
        heads = store._writer()._heads
        for version in range(3):
            batch = [journal.append(f"a{number}", f"c{version}", at=version) for number in range(20)]
            results = await store.append(batch)
            assert {result.version for result in results} == {version + 1}
            assert len(heads._streams) <= 2
        conflicts = await store.append([journal.append(f"a{number}", "late", at=2) for number in range(20)])
        assert {type(result) for result in conflicts} == {VersionConflict}


async def test_a_claim_that_is_refused_makes_the_writer_forget_nothing(journal):
    """Or a host that comes back late would have every stream looked up again."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1"), journal.append("bob", "b1")])
        await store.claim("host", "second")
        with pytest.raises(Fenced):
            await store.claim("host", "first", 1)
        assert list(store._writer()._heads._streams) == [ALICE, BOB]
        assert await store.append([journal.append("alice", "a2", at=1, epoch=2)]) == [Appended(version=2, position=3)]


async def test_what_cannot_be_stored_fails_alone(journal):
    """A time beyond 64 bits, text that is no Unicode, a name that no index holds: its neighbours are written."""
    async with journal.opened() as store:
        results = await store.append(
            [
                journal.append("alice", "a1"),
                journal.append("bob", "b1", recorded_at=2**70),
                journal.append("alice", "a2", at=1),
                journal.append("carol", "\ud800"),
                journal.append("x" * 3000, "x1"),
                journal.append("bob", "b1"),
            ]
        )
        kinds = [Appended, Unstorable, Appended, Unstorable, Unstorable, Appended]
        assert [type(result) for result in results] == kinds
        assert [event.position for event in await store.read_all()] == [1, 2, 3]
        counts = await store.statistics()
        assert (counts.appends, counts.commits, counts.streams) == (3, 1, 2)


async def test_a_version_that_appeared_behind_our_back_is_a_conflict(journal):
    """The unique index is the last defence: the batch is decided again, and its neighbours are written."""
    await write_a_little(journal)
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a4", at=3)])
        async with journal.raw() as raw:
            await raw.execute(
                "INSERT INTO events (position, stream, version, recorded_at, checksum, category, type, command_id,"
                " payload, metadata, reply) SELECT 6, stream, 5, recorded_at, checksum, category, type, 'foreign',"
                " payload, metadata, reply FROM events WHERE position = 5"
            )
        results = await store.append([journal.append("alice", "a5", at=4), journal.append("bob", "b2", at=1)])
        assert results[0].args == (str(ALICE), 4, 5)
        assert results[1] == Appended(version=2, position=7)


async def test_a_stream_that_the_tables_refuse_fails_alone(journal):
    """Its neighbours in the batch are written, and nothing of it is."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
        async with journal.raw() as raw:
            await raw.execute("ALTER TABLE events ADD CHECK (stream <> 1 OR version < 2)")
        batch = [journal.append("bob", "b1"), journal.append("alice", "a2", at=1), journal.append("bob", "b2", at=1)]
        first, refused, third = await store.append(batch)
        assert isinstance(refused, CorruptRecord)
        assert (first, third) == (Appended(version=1, position=2), Appended(version=2, position=3))
        assert [event.command_id for event in await store.read_all()] == ["a1", "b1", "b2"]


async def test_tables_that_are_gone_are_a_journal_that_is_lost(journal):
    """Not something to be sent again and again."""
    async with journal.opened() as store:
        async with journal.raw() as raw:
            await raw.execute(f"ALTER SCHEMA {journal.schema} RENAME TO {journal.schema}_moved")
        with pytest.raises(JournalLost, match="gone"):
            await store.append([journal.append("alice", "a1")])
        with pytest.raises(JournalLost, match="gone"):
            await store.head()


async def test_a_caller_who_stops_waiting_does_not_stop_the_append(journal):
    """The batch in flight is written whole, and the store is as usable as before."""
    async with journal.opened() as store, journal.raw() as raw:
        async with raw.transaction():
            await raw.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            appending = asyncio.create_task(store.append([journal.append("alice", "a1")]))
            await asyncio.wait([appending], timeout=0)
            appending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await appending
        assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]
        assert await store.head() == 1


class Direct:
    """A link to a journal server in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


async def test_the_journal_server_and_a_faulty_store_work_over_it_unchanged(journal):
    """A lost acknowledgement is cured by the client's asking again, and what waits together commits together."""
    store = FaultyStore(journal.store())
    server = JournalServer(store)
    await server.start()
    try:
        client = JournalClient(Direct(server))
        await client.claim("host", "first")
        store.lose("append")
        appends = [journal.append(f"a{number}", "c1") for number in range(50)]
        results = await asyncio.gather(*(client.append(append) for append in appends))
        assert sorted(result.position for result in results) == list(range(1, 51))
        counts = await client.statistics()
        assert (counts.events, counts.appends, counts.commits) == (50, 50, 1)
    finally:
        await server.stop()


def test_one_file_touches_the_driver():
    """asyncpg can be replaced by changing one file."""
    folder = Path(postgres_session.__file__).parent
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert "asyncpg" not in names or module.name == "postgres_session.py", module
