"""Reminders and checkpoints between a store and its callers: what they cost, how they travel, and where they lie."""

import sqlite3
from contextlib import closing

import msgspec
import postgres_server
import pytest
from reminder_fold import EVER, folded, indexed

from holdfast.journal import postgres_batch, postgres_reader, sqlite_reader, sqlite_writer
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import (
    CodecError,
    CorruptRecord,
    Fenced,
    JournalFailed,
    JournalUnavailable,
    RecordTooLarge,
    Unstorable,
)
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partition import partition_of
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.postgres_session import _SETTINGS
from holdfast.journal.records import Append, Appended, Checkpoint, NewEvent, Reminder, StreamId
from holdfast.journal.reminders import CANCELLED, FIRED, REMINDER_TYPES, RESERVED_PREFIX, SET, Change, change_of
from holdfast.journal.server import JournalServer
from holdfast.journal.sqlite_file import APPLICATION_ID, schema_script
from holdfast.journal.testing import FaultyStore
from holdfast.journal.url import open_store
from holdfast.runtime.resident import JournalResident

ALICE = StreamId("Account", "alice")
MANY = 200_000
"""Rows that a scan would be noticed by."""


def payload(name, due=None):
    return msgspec.msgpack.encode({"name": name, "due": due})


def append(stream, *events, at=0, epoch=1):
    made = tuple(
        NewEvent(type=type, payload=payload(name, due), command_id=f"{stream.id}.{at}.{n}", recorded_at=0)
        for n, (type, name, due) in enumerate(events)
    )
    return Append(stream=stream, owner="host", epoch=epoch, expected_version=at, events=made)


class Direct:
    """A link to a journal server in this process, for what its resident would let in."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        assert method in JournalResident.methods
        return await getattr(self.server, method)(*args)


# -- what a payload says ----------------------------------------------------------------------------------------


def test_the_types_of_reminders_are_reserved():
    """A user's event cannot have such a name, so the journal never takes one for a reminder."""
    assert {SET, CANCELLED, FIRED} == REMINDER_TYPES
    assert all(type.startswith(RESERVED_PREFIX) for type in REMINDER_TYPES)


def test_a_reminders_payload_says_a_name_and_a_time():
    """Whatever else is in the map, in whatever order; a name that comes twice is the last one, as for the aggregate."""
    assert change_of(payload("a", 7)) == Change("a", 7)
    assert change_of(payload("a")) == Change("a", None)
    more = {"command": ["x", {"y": 1}], "due": -7, "name": "é\0", "zone": None}
    assert change_of(msgspec.msgpack.encode(more)) == Change("é\0", -7)
    assert change_of(b"\x82\xa4name\xa1a\xa4name\xa1b") == Change("b", None)


def test_a_malformed_reminders_payload_is_told_as_such():
    """`CodecError`, with what is wrong in it."""
    with pytest.raises(CodecError, match=r"reminder's payload.*name"):
        change_of(b"\x80")


# -- what it costs ----------------------------------------------------------------------------------------------


def steps_of(connection, statement, values):
    """How many steps SQLite's machine takes for a query, and its rows."""
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 1)
    rows = connection.execute(statement, values).fetchall()
    connection.set_progress_handler(None, 1)
    return steps, rows


async def test_due_reminders_in_sqlite_cost_what_is_due_however_many_are_pending(file):
    """The machine takes as many steps with a few as with very many; it seeks, and scans and sorts nothing."""
    async with file.opened() as store:
        await store.append([append(ALICE, *((SET, f"r{n:03}", n) for n in range(10)))])
    ask = ("Account", -EVER, 0, "", 4, 100)
    with file.raw() as raw:
        steps_of(raw, sqlite_reader._SELECT_DUE, ask)  # a new connection reads the schema first
        few, due = steps_of(raw, sqlite_reader._SELECT_DUE, ask)
        raw.execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) INSERT INTO reminders"
            " SELECT 1 + n % 2, 'later' || n, 1000 + n, 1 + n % 2 FROM n",
            (MANY,),
        )
        many, still_due = steps_of(raw, sqlite_reader._SELECT_DUE, ask)
        assert still_due == due
        assert len(due) == 5
        assert many == few
        for statement in (sqlite_reader._SELECT_DUE, sqlite_writer._SET_REMINDER, sqlite_writer._DROP_REMINDER):
            plan = raw.execute(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?")).fetchall()
            assert not [row for *_, row in plan if row.startswith("SCAN") or "TEMP" in row], plan
        (place,) = [row for *_, row in plan_of(raw) if row.startswith("SEARCH r ")]
        assert place.endswith("COVERING INDEX reminders_due (category=? AND (due,stream,name)>(?,?,?) AND due<?)")


def plan_of(raw):
    return raw.execute(f"EXPLAIN QUERY PLAN {sqlite_reader._SELECT_DUE}", (0,) * 6).fetchall()


async def explained(raw, statement, types, values):
    """The plan of a statement as our sessions prepare it, whatever its values are; and how it went."""
    await raw.execute(f"PREPARE asked ({', '.join(types)}) AS {statement}")
    rows = await raw.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked ({', '.join(values)})")
    await raw.execute("DEALLOCATE asked")
    return [row[0] for row in rows]


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
async def test_due_reminders_in_postgres_cost_what_is_due_however_many_are_pending(analyzed):
    """One walk over the index in its order, from where it begins to where it ends; changes seek their rows."""
    journal = postgres_server.Journal(postgres_server.server())
    async with journal.opened() as store:
        await store.append([append(ALICE, *((SET, f"r{n:03}", n) for n in range(10)))])
    async with journal.raw() as raw:
        for name, value in _SETTINGS.items():
            await raw.execute(f"SET {name} = '{value}'")
        await raw.execute(
            "INSERT INTO reminders (stream, name, due, category)"
            " SELECT 1 + n % 2, convert_to('later' || n, 'UTF8'), 1000 + n, 1 + n % 2 FROM generate_series(1, $1) AS n",
            MANY,
        )
        if analyzed:
            await raw.execute("ANALYZE reminders")
        asked = ["'Account'::bytea", "4", "100", str(-EVER), "''", "''", "''"]
        types = ["bytea", "bigint", "bigint", "bigint", "bytea", "bytea", "bytea"]
        plan = "\n".join(await explained(raw, postgres_reader._DUE, types, asked))
        assert "using reminders_due on reminders" in plan
        assert "Sort" not in plan
        assert "Seq Scan on reminders" not in plan
        assert "Rows Removed" not in plan
        assert "actual rows=5 loops=1" in plan or "actual rows=5.00 loops=1" in plan
        await raw.execute("BEGIN")
        types = [
            "bigint",
            "integer[]",
            "bytea[]",
            "bigint[]",
            "integer[]",
            "bytea[]",
            "bigint[]",
            "bigint[]",
            "bigint[]",
            "integer[]",
            "bytea[]",
            "bytea[]",
            "bytea[]",
            "bytea[]",
            "bytea[]",
            "bigint[]",
            "bigint[]",
            "bigint[]",
            "bytea[]",
            "bigint[]",
            "bytea[]",
            "bytea[]",
            "bigint[]",
            "bigint[]",
            "bytea[]",
            "bigint[]",
            "integer[]",
            "bigint[]",
            "bytea[]",
        ]
        sets, drops = ["'{1}'", "ARRAY['later2'::bytea]", "'{5}'", "'{1}'"], ["'{1}'", "ARRAY['r001'::bytea]"]
        none = ["1", *(["'{}'"] * 22), *sets, *drops]
        plan = "\n".join(await explained(raw, postgres_batch._INSERT_AND_REMIND, types, none))
        assert "Scan on reminders" in plan
        assert "Seq Scan on reminders" not in plan
        assert "using reminders_pkey on reminders" in plan
        assert "Rows Removed by Filter" not in plan
        await raw.execute("ROLLBACK")


async def test_an_append_without_reminders_leaves_their_index_out_of_its_transaction(file):
    """In SQLite no statement touches the table; in PostgreSQL the one statement has no part about it."""
    async with file.opened() as store:
        thread, writer = store._writer()
        said = []
        await thread.run(writer._connection.set_trace_callback, said.append)
        await store.append([file.append("alice", "a1", "a2"), file.append("bob", "b1")])
        assert any("INTO events" in statement for statement in said)
        assert not [statement for statement in said if "reminders" in statement]
        await store.append([append(StreamId("Account", "carol"), (SET, "a", 1))])
        assert [statement for statement in said if "INTO reminders" in statement]
    assert "reminders" not in postgres_batch._INSERT_EVENTS
    assert "reminders" in postgres_batch._INSERT_AND_REMIND


async def test_the_writer_remembers_no_reminder(file):
    """Once a batch is committed, or was undone, nothing of it is left in memory."""
    async with file.opened() as store:
        writer = store._writer()[1]
        await store.append([append(ALICE, *((SET, f"r{n}", n) for n in range(100)))])
        assert not writer._reminders
        bad = NewEvent(type=SET, payload=b"\x80", command_id="c", recorded_at=0)
        refused = Append(stream=ALICE, owner="host", epoch=1, expected_version=100, events=(bad,))
        (result,) = await store.append([refused])
        assert isinstance(result, Unstorable)
        assert not writer._reminders


# -- what goes wrong --------------------------------------------------------------------------------------------


class Breaking(sqlite3.Connection):
    """Fails a statement of the transaction, as a full disk would."""

    broken = ""

    def execute(self, statement, *values):
        if self.broken and statement.startswith(self.broken):
            self.broken = ""
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(statement, *values)


async def test_a_batch_that_is_rolled_back_leaves_the_reminder_index_as_it_was(file, monkeypatch):
    """The commit fails: neither the events nor what they say of reminders is there, now or after opening it again."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **how: connect(*args, factory=Breaking, **how))
    async with file.opened() as store:
        await store.append([append(ALICE, (SET, "a", 1), (SET, "b", 2))])
        writer = store._writer()[1]
        again = append(ALICE, (CANCELLED, "a", None), (SET, "b", 3), (SET, "c", 4), at=2)
        writer._connection.broken = "COMMIT"
        with pytest.raises(JournalFailed):
            await store.append([again])
        assert await indexed(store) == {(ALICE, "a"): 1, (ALICE, "b"): 2} == folded(await store.read_all())
        assert await store.append([again]) == [Appended(version=5, position=5)]
        assert await indexed(store) == {(ALICE, "b"): 3, (ALICE, "c"): 4} == folded(await store.read_all())


async def test_a_damaged_neighbour_in_postgres_leaves_reminders_as_the_events_say():
    """Each append of the batch is tried in a savepoint of its own: what was undone there set nothing."""
    journal = postgres_server.Journal(postgres_server.server())
    bob = StreamId("Account", "bob")
    async with journal.opened() as store:
        await store.append([append(ALICE, (SET, "a", 1)), append(bob, (SET, "b", 2))])
        async with journal.raw() as raw:  # stands for whatever may be wrong with what one stream meets
            await raw.execute("ALTER TABLE events ADD CHECK (command_id <> 'alice.1.0'::bytea)")
        batch = [append(ALICE, (SET, "x", 3), at=1), append(bob, (SET, "y", 4), (FIRED, "b", None), at=1)]
        results = await store.append(batch)
        assert [type(result) for result in results] == [CorruptRecord, Appended]
        assert await indexed(store) == {(ALICE, "a"): 1, (bob, "y"): 4}


async def test_a_reminder_of_a_stream_that_is_not_there_is_told(file):
    """It is not passed over in silence: who would fire it would never know."""
    async with file.opened() as store:
        await store.append([append(ALICE, (SET, "a", 1))])
        file.tamper("UPDATE reminders SET stream = 77")
        with pytest.raises(CorruptRecord, match="stream 77"):
            await store.due_reminders(category="Account", until=EVER)


# -- how it travels ---------------------------------------------------------------------------------------------


async def client_over(store):
    server = JournalServer(store)
    await server.start()
    return JournalClient(Direct(server), patience_s=5.0, pause=no_pause)


async def no_pause(seconds):
    pass


async def test_checkpoints_and_reminders_go_through_server_and_client():
    """What the store answers, and what it refuses; an answer that was lost is asked for again."""
    store = FaultyStore(MemoryStore())
    client = await client_over(store)
    epoch = await client.claim("host", "first")
    await client.append(append(ALICE, (SET, "a", 1), (SET, "b", 2)))
    found = [Reminder(stream=ALICE, name="a", due=1), Reminder(stream=ALICE, name="b", due=2)]
    assert await client.due_reminders(category="Account", until=2) == found
    assert await client.due_reminders(category="Account", until=2, limit=1, after=found[0]) == found[1:]
    store.lose("save_checkpoint")
    await client.save_checkpoint(Checkpoint(name="balances", owner="host", epoch=epoch, position=2))
    assert store.calls["save_checkpoint"] == 2
    assert await client.find_checkpoint("balances") == 2
    await client.claim("host", "second")
    with pytest.raises(Fenced):
        await client.save_checkpoint(Checkpoint(name="balances", owner="host", epoch=epoch, position=3))
    assert await client.find_checkpoint("balances") == 2


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"name": ""}, Unstorable),
        ({"name": "\ud800"}, Unstorable),
        ({"name": "x" * 2000}, RecordTooLarge),
        ({"owner": ""}, Unstorable),
        ({"epoch": -1}, Unstorable),
        ({"epoch": 1 << 63}, Unstorable),
        ({"position": -1}, Unstorable),
        ({"position": 1 << 63}, Unstorable),
        ({"position": "7"}, Unstorable),
    ],
)
async def test_a_checkpoint_that_cannot_be_is_refused_at_the_edge(fields, kind):
    """By name, owner, epoch or position; the store is not asked."""
    store = FaultyStore(MemoryStore())
    client = await client_over(store)
    with pytest.raises(kind):
        await client.save_checkpoint(Checkpoint(**{"name": "n", "owner": "host", "epoch": 1, "position": 0, **fields}))
    assert store.calls["save_checkpoint"] == 0


async def test_questions_about_reminders_and_checkpoints_are_checked_at_the_edge():
    """Names that nothing can have."""
    client = await client_over(MemoryStore())
    for asking in (
        client.find_checkpoint(""),
        client.due_reminders(category="\ud800", until=1),
        client.due_reminders(category="A", until=1, after=Reminder(stream=StreamId("A", ""), name="a", due=1)),
        client.due_reminders(category="A", until=1, after=Reminder(stream=ALICE, name="", due=1)),
    ):
        with pytest.raises(Unstorable):
            await asking


async def test_a_faulty_store_fails_loses_and_counts_checkpoints_and_reminders():
    """As it does every other call."""
    store = FaultyStore(MemoryStore())
    epoch = await store.claim("host", "first")
    checkpoint = Checkpoint(name="n", owner="host", epoch=epoch, position=3)
    store.fail("save_checkpoint")
    with pytest.raises(JournalFailed):
        await store.save_checkpoint(checkpoint)
    assert await store.find_checkpoint("n") == 0
    store.lose("save_checkpoint")
    with pytest.raises(JournalUnavailable):
        await store.save_checkpoint(checkpoint)
    assert await store.find_checkpoint("n") == 3
    store.fail("due_reminders")
    store.fail("find_checkpoint")
    with pytest.raises(JournalFailed):
        await store.due_reminders(category="Account", until=1)
    with pytest.raises(JournalFailed):
        await store.find_checkpoint("n")
    assert await store.due_reminders(category="Account", until=1) == []
    assert [store.calls[m] for m in ("save_checkpoint", "find_checkpoint", "due_reminders")] == [2, 3, 2]


# -- where it lies ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stores(request, tmp_path):
    """Those of a journal of two partitions."""
    if request.param == "memory":
        return [MemoryStore(), MemoryStore()]
    url = f"sqlite:///{tmp_path}/bank.db?partitions=2"
    if request.param == "postgres":
        url = postgres_server.server().url(partitions=2)
    return [open_store(url, partition) for partition in range(2)]


async def test_each_partition_has_its_own_checkpoints_and_reminders(stores):
    """A reader goes over `parts`: each tells the reminders of its own streams, all tell all; each has a checkpoint, by
    one claim at all of them, and a successor turns its predecessor away at each."""
    servers = [JournalServer(store) for store in stores]
    for server in servers:
        await server.start()
    try:
        journal = PartitionedJournal([JournalClient(Direct(server)) for server in servers])
        epoch = await journal.claim("host", "first")
        streams = [StreamId("Account", f"a{n}") for n in range(20)]
        for n, stream in enumerate(streams):
            await journal.append(append(stream, (SET, "a", 100 - n), (SET, "b", 1), epoch=epoch))
            await journal.append(append(stream, (FIRED, "b", None), at=2, epoch=epoch))
        met = []
        for number, part in enumerate(journal.parts):
            due = await part.due_reminders(category="Account", until=EVER)
            assert {partition_of(reminder.stream, 2) for reminder in due} == {number}
            assert [reminder.due for reminder in due] == sorted(reminder.due for reminder in due)
            met += due
            await part.save_checkpoint(Checkpoint(name="n", owner="host", epoch=epoch, position=10 + number))
        assert {r.stream: (r.name, r.due) for r in met} == {s: ("a", 100 - n) for n, s in enumerate(streams)}
        assert len(met) == len(streams)
        assert [await part.find_checkpoint("n") for part in journal.parts] == [10, 11]
        newer = await journal.claim("host", "second")
        for part in journal.parts:
            with pytest.raises(Fenced):
                await part.save_checkpoint(Checkpoint(name="n", owner="host", epoch=epoch, position=0))
            await part.save_checkpoint(Checkpoint(name="n", owner="host", epoch=newer, position=20))
        assert [await part.find_checkpoint("n") for part in journal.parts] == [20, 20]
    finally:
        for server in reversed(servers):
            await server.stop()


async def test_checkpoints_and_reminders_are_there_when_the_journal_is_opened_again(file):
    """Durable when the call returned: what a copy of the files shows at that moment, as a crash leaves them."""
    async with file.opened() as store:
        await store.append([append(ALICE, (SET, "a", 1))])
        await store.save_checkpoint(Checkpoint(name="n", owner="host", epoch=1, position=1))
        crashed = type(file)(file.path.with_name("crashed.db"))
        for suffix in ("", "-wal"):
            left = file.path.with_name(f"bank.db{suffix}").read_bytes()
            crashed.path.with_name(f"crashed.db{suffix}").write_bytes(left)
    async with crashed.opened() as store:
        assert await store.find_checkpoint("n") == 1
        assert await indexed(store) == {(ALICE, "a"): 1}


async def test_a_journal_of_schema_1_gets_an_empty_index_and_no_checkpoints(file):
    """It was written before there were reminders; the first one is found like any other."""
    with closing(sqlite3.connect(file.path)) as old:
        old.executescript(schema_script(1))
        old.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    async with file.opened() as store:
        assert await store.find_checkpoint("n") == 0
        assert await indexed(store) == {}
        await store.append([append(ALICE, (SET, "a", 1))])
        await store.save_checkpoint(Checkpoint(name="n", owner="host", epoch=1, position=1))
    async with file.opened() as store:
        assert await store.find_checkpoint("n") == 1
        assert await indexed(store) == {(ALICE, "a"): 1}
