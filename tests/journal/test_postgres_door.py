"""Opening a PostgreSQL journal: what each obstacle is called, and that there is one writer at a time."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import postgres_server
import pytest

from holdfast.journal import postgres_door, postgres_session
from holdfast.journal.errors import (
    JournalError,
    JournalLocked,
    JournalOpenError,
    JournalReadOnly,
    JournalTooNew,
    JournalUnavailable,
    NotAJournal,
)
from holdfast.journal.records import Appended, Snapshot, StreamId
from holdfast.journal.url import open_store

PASSWORD = postgres_server.PASSWORD


@pytest.fixture
def server():
    return postgres_server.server()


@pytest.fixture
def journal(server):
    return postgres_server.Journal(server)


async def refused(url):
    """The error with which opening ends. No part of the password is in it, nor in what caused it."""
    store = open_store(url)
    with pytest.raises(JournalError) as raised:
        await store.open()
    error = raised.value
    while error is not None:
        for text in (str(error), repr(error), repr(getattr(error, "args", ()))):
            assert PASSWORD not in text
            assert "s3cr" not in text
        error = error.__cause__ or error.__context__
    assert "s3cr" not in repr(store)
    return raised.value


async def test_a_new_schema_becomes_a_journal(server):
    """Named in the URL, or `holdfast`; an empty one that is there is taken as it is."""
    async with server.raw() as raw:
        await raw.execute("DROP SCHEMA IF EXISTS holdfast CASCADE; CREATE SCHEMA empty_one")
    for url in (server.url("empty_one"), server.url("holdfast").replace("schema=holdfast&", "")):
        store = open_store(url)
        await store.open()
        assert await store.head() == 0
        await store.close()
    async with server.raw() as raw:
        assert await raw.fetchval("SELECT schema FROM holdfast.journal") == 2


async def test_a_wrong_password_is_told(server):
    """By whom it was refused, and for whom."""
    error = await refused(server.url(password="s3cret, and wrong"))
    assert type(error) is JournalOpenError
    assert 'password authentication failed for user "holdfast"' in str(error)
    assert "postgres://holdfast:***@127.0.0.1" in str(error)


async def test_a_database_that_is_not_there_is_told(server):
    """It is not created."""
    error = await refused(server.url().replace("/postgres?", "/elsewhere?"))
    assert type(error) is JournalOpenError
    assert 'database "elsewhere" does not exist' in str(error)


async def test_a_server_that_does_not_answer_is_unavailable(server, tmp_path):
    """It may answer later: whoever asks again may succeed."""
    port = postgres_server.free_port()
    nowhere = f"postgres://{postgres_server.USER}@/postgres?host={tmp_path}"
    for url in (server.url(port=port), nowhere, server.url().replace("127.0.0.1", "no-such-host.invalid")):
        error = await refused(url)
        assert type(error) is JournalUnavailable
        assert error.retryable


async def test_a_server_that_is_silent_is_given_up(server):
    """A port that takes connections and says nothing, after `answer_wait_s`."""
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    error = await refused(server.url(port=port, answer_wait_s="0.05", sslmode="disable"))
    assert type(error) is JournalUnavailable
    silent.close()


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE orders (id integer)",
        "CREATE VIEW orders AS SELECT 1",
        "CREATE TABLE journal (entry text)",
        "CREATE TABLE journal (application text, schema integer)",
        "CREATE TABLE journal AS SELECT 'ledger' AS application, 1 AS schema",
    ],
)
async def test_a_schema_of_something_else_stays_as_it_is(journal, table):
    """`NotAJournal`, and no table was added."""
    async with journal.raw() as raw:
        await raw.execute(f"CREATE SCHEMA {journal.schema}; {table}")
        error = await refused(journal.server.url(journal.schema))
        assert type(error) is NotAJournal
        assert f"schema {journal.schema} holds tables of another application" in str(error)
        there = "SELECT count(*) FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'v')"
        assert await raw.fetchval(there, journal.schema) == 1


async def test_what_others_keep_under_the_name_of_a_partition_is_not_in_the_way(journal):
    """Tables of another application, and a schema that our role may not look into."""
    async with journal.raw() as raw:
        await raw.execute(f"CREATE SCHEMA {journal.schema}_p1; CREATE TABLE {journal.schema}_p1.orders (id integer)")
        await raw.execute(f"CREATE SCHEMA {journal.schema}_p2; CREATE TABLE {journal.schema}_p2.journal (id integer)")
        await raw.execute(f"CREATE ROLE {journal.schema} LOGIN PASSWORD '{PASSWORD}'")
        await raw.execute(f"CREATE SCHEMA {journal.schema} AUTHORIZATION {journal.schema}")
    store = open_store(journal.server.url(journal.schema).replace("//holdfast:", f"//{journal.schema}:"))
    await store.open()
    assert await store.head() == 0
    await store.close()


async def test_a_newer_journal_is_refused(journal):
    """An older release never guesses at a newer schema."""
    async with journal.opened():
        pass
    async with journal.raw() as raw:
        await raw.execute("UPDATE journal SET schema = 3")
    error = await refused(journal.server.url(journal.schema))
    assert type(error) is JournalTooNew
    assert (error.found, error.supported) == (3, 2)


async def test_a_journal_of_schema_1_becomes_partition_0_of_1_and_draws_an_id(journal):
    """As one in a file does."""
    script = Path(postgres_door.__file__).with_name("postgres.sql").read_text()
    async with journal.raw() as raw:
        await raw.execute(f"CREATE SCHEMA {journal.schema}; {script}")
        async with journal.opened():
            pass
        row = await raw.fetchrow("SELECT schema, partition, partitions, length(id) FROM journal")
    assert tuple(row) == (2, 0, 1, 16)


async def test_an_older_journal_is_migrated_one_step_at_a_time(journal, monkeypatch, tmp_path):
    """What is in it stays; a step that fails leaves the step before it."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
    scripts = {"three.sql": "CREATE TABLE third (x integer);", "bad.sql": "CREATE TABLE fourth (x integer); NONSENSE;"}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    steps = (*postgres_door._MIGRATIONS, str(tmp_path / "three.sql"), str(tmp_path / "bad.sql"))
    monkeypatch.setattr(postgres_door, "_MIGRATIONS", steps)
    assert type(await refused(journal.server.url(journal.schema))) is JournalOpenError
    async with journal.raw() as raw:
        assert await raw.fetchval("SELECT schema FROM journal") == 3
        assert await raw.fetchval("SELECT to_regclass('fourth')") is None
    monkeypatch.setattr(postgres_door, "_MIGRATIONS", steps[:-1])
    async with journal.opened() as store:
        assert [event.command_id for event in await store.read_all()] == ["a1"]


async def test_a_crash_while_creating_leaves_what_the_next_start_accepts(journal, monkeypatch):
    """The schema and all its tables are one transaction: there is nothing, or a journal."""

    async def crash(self, script):
        if "CREATE TABLE" in script:
            await run(self, f"BEGIN; {script}")
            self.terminate()
        await run(self, script)

    run = postgres_session.Session.run
    monkeypatch.setattr(postgres_session.Session, "run", crash)
    assert type(await refused(journal.server.url(journal.schema))) is JournalUnavailable
    async with journal.raw() as raw:
        assert await raw.fetchval("SELECT to_regnamespace($1)", journal.schema) is None
    monkeypatch.undo()
    async with journal.opened() as store:
        assert await store.head() == 0


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ("SELECT 1", JournalReadOnly),
        ("GRANT USAGE ON SCHEMA {schema} TO guest", JournalReadOnly),
        ("GRANT USAGE ON SCHEMA {schema} TO guest; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest",
         JournalReadOnly),
    ],
)  # fmt: skip
async def test_a_role_that_may_not_write_is_told(journal, rights, expected):
    """In a schema of others, and in a database where it may create none."""
    async with journal.opened():
        pass
    async with journal.raw() as raw:
        with contextlib.suppress(Exception):
            await raw.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
        await raw.execute(rights.format(schema=journal.schema))
    url = journal.server.url(journal.schema).replace("//holdfast:", "//guest:")
    assert type(await refused(url)) is expected
    assert type(await refused(url.replace(journal.schema, journal.server.schema()))) is expected


async def test_a_server_that_does_not_sync_is_refused(server, monkeypatch):
    """With fsync=off a crash of its machine can lose anything, whatever it acknowledged; so it is for a standby."""
    answers = {"fsync": [(15, "off", False)], "standby": [(15, "on", True)], "14 or newer": [(13, "on", False)]}
    fetch = postgres_session.Session.fetch
    for problem, answer in answers.items():

        async def answered(self, statement, *values, answer=answer):
            return answer if statement == postgres_session._LOOK else await fetch(self, statement, *values)

        monkeypatch.setattr(postgres_session.Session, "fetch", answered)
        error = await refused(server.url())
        assert isinstance(error, JournalOpenError)
        assert problem in str(error)


async def test_without_the_driver_the_error_says_what_to_install(server, monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    error = await refused(server.url())
    assert type(error) is JournalOpenError
    assert "pip install 'holdfast[postgres]'" in str(error)


# One writer


async def test_a_second_writer_is_told_who_holds_the_journal(journal):
    """Process, host and since when; and the holder does not notice."""
    async with journal.opened() as store:
        error = await refused(journal.server.url(journal.schema))
        assert type(error) is JournalLocked
        assert re.fullmatch(rf"pid {os.getpid()} on host \S+ since \S+", error.holder)
        assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]


async def test_who_waits_gets_the_journal_when_its_holder_leaves(journal):
    """Within `lock_wait_s`."""
    holder, waiting = journal.store(), journal.store(lock_wait_s=60)
    await holder.open()
    opening = asyncio.create_task(waiting.open())
    await asyncio.wait([opening], timeout=0)
    await holder.close()
    await opening
    assert await waiting.head() == 0
    await waiting.close()


async def test_a_writer_that_lost_its_session_takes_the_journal_again(journal):
    """Nobody else took it meanwhile: one request at most is unanswered, the next one goes on where it was."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
        for ended in ("writer", "reader"):
            await journal.end_session(ended)
            for _ in range(2):
                with contextlib.suppress(JournalUnavailable):
                    await store.head()
                with contextlib.suppress(JournalUnavailable):
                    await store.append([journal.append("alice", "a2", at=1)])
            assert await store.append([journal.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]
            assert [event.command_id for event in await store.read_all()] == ["a1", "a2"]


async def test_a_writer_that_comes_back_knows_what_another_one_wrote_in_between(journal):
    """It lost its session while nothing was asked of it; another one came, wrote and left. Nothing counts as known."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
        await journal.end_session("writer")
        between = journal.store(lock_wait_s=60)
        await between.open()
        assert await between.append([journal.append("alice", "b2", at=1), journal.append("bob", "b1")]) == [
            Appended(version=2, position=2),
            Appended(version=1, position=3),
        ]
        await between.close()
        stale, new = journal.append("alice", "a2", at=1), journal.append("carol", "c1")
        while isinstance(results := await unless_unavailable(store.append([stale, new])), JournalUnavailable):
            pass
        assert results[0].args == ("Account/alice", 1, 2)
        assert results[1] == Appended(version=1, position=4)


async def unless_unavailable(asked):
    """The answer, or the error that says there is none."""
    try:
        return await asked
    except JournalUnavailable as error:
        return error


async def test_a_session_of_ours_that_only_the_server_still_has_does_not_keep_us_out(journal):
    """The way there broke, and the server does not know it yet: our own lock is not somebody else's."""
    async with journal.opened() as store:
        taken = store._writer()._turns._taken
        store._writer()._turns._taken = None  # as if it had been lost without a word; the server has it as before
        assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]
        with contextlib.suppress(postgres_session.SessionLost):
            await taken.session.fetch("SELECT 1")
        assert taken.session.closed


async def test_an_overtaken_writer_writes_nothing(journal):
    """Its session is as good as ever, and yet another one took the journal: the epoch in each transaction tells."""
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
        tables = ("events", "owners", "snapshots", "aggregates")
        async with journal.raw() as raw:
            before = [await raw.fetch(f"TABLE {table}") for table in tables]
            for write in (
                lambda: store.append([journal.append("alice", "a2", at=1)]),
                lambda: store.claim("host", "second"),
                lambda: store.register("Account", "dedicated", "code"),
                lambda: store.save_snapshots([Snapshot(stream=StreamId("Account", "alice"), version=1, schema="s",
                                                       payload=b"")]),
            ):  # fmt: skip
                await raw.execute("UPDATE writer SET epoch = epoch + 1, holder = 'pid 7 on host other since then'")
                with pytest.raises(JournalLocked, match="pid 7 on host other since then"):
                    await write()
                assert [await raw.fetch(f"TABLE {table}") for table in tables] == before
                await store._writer().open()
        assert await store.append([journal.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]


WRITER = """
import asyncio, sys
from holdfast.journal.errors import JournalError
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.url import open_store

def append(version):
    event = NewEvent(type="t", payload=b"", command_id=f"old {version}", recorded_at=0)
    return Append(stream=StreamId("Account", "alice"), owner="host", epoch=1, expected_version=version, events=(event,))

async def main():
    store = open_store(sys.argv[1])
    await store.open()
    assert await store.claim("host", "first") == 1
    version = 0
    while True:
        try:
            (result,) = await store.append([append(version)])
        except JournalError as error:
            print(type(error).__name__, str(error), flush=True)
            if type(error).__name__ != "JournalUnavailable":
                return
        else:
            version = result.version
            print("wrote", version, flush=True)

asyncio.run(main())
"""


async def test_a_writer_that_was_paused_and_replaced_can_write_nothing(journal):
    """Its session is ended while it sleeps, a successor takes over; awake, it is told who writes now."""
    command = [sys.executable, "-c", WRITER, journal.server.url(journal.schema)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as old:  # noqa: ASYNC220 - read line by line
        try:
            lines = [old.stdout.readline() for _ in range(20)]
            old.send_signal(signal.SIGSTOP)
            await journal.end_session()
            successor = journal.store(lock_wait_s=60)
            await successor.open()
            at = (await successor.list_streams())[0][1]
            # The same owner at the same epoch: it is not the owner's fence that keeps the old one out.
            assert await successor.append([journal.append("alice", "new", at=at)]) == [
                Appended(version=at + 1, position=at + 1)
            ]
            old.send_signal(signal.SIGCONT)
            lines += old.stdout.readlines()
        finally:
            old.kill()
    assert lines[-1].startswith("JournalLocked"), lines[-1]
    assert f"already open for writing by pid {os.getpid()} on host" in lines[-1]
    acknowledged = [int(line.split()[1]) for line in lines if line.startswith("wrote")]
    events = await successor.read_all()
    assert [event.command_id for event in events] == [*(f"old {n}" for n in range(at)), "new"]
    assert max(acknowledged) <= at
    await successor.close()
