"""Verification of what readers of the journal rely on: the index of reminders is what the events say, and no checkpoint
is where nobody can have been. The same tests over SQLite and PostgreSQL."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import postgres_server
import pytest
from click.testing import CliRunner

from holdfast.journal import postgres_verify, sqlite_verify
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Append, Appended, Checkpoint, NewEvent, StreamId
from holdfast.journal.reminders import CANCELLED, FIRED, SET
from holdfast.journal.sqlite_file import APPLICATION_ID, schema_script
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_source, open_sources, verify
from holdfast.runtime import cli as command_line

ALICE, BOB, ORDER = StreamId("Account", "alice"), StreamId("Account", "bob"), StreamId("Order", "1")


def append(stream, *events, at=0):
    made = tuple(
        NewEvent(
            type=type,
            payload=msgspec.msgpack.encode({"name": name, "due": due}),
            command_id=f"{stream.id}.{at}.{n}",
            recorded_at=0,
        )
        for n, (type, name, due) in enumerate(events)
    )
    return Append(stream=stream, owner="host", epoch=1, expected_version=at, events=made)


async def fill(store):
    """Alice (stream 1, category 1): `pay` is due at 100 by her version 3, position 3; `gone` is not. Bob (stream 2):
    `pay` is due at 50, by his version 1, position 5. An order (stream 3, category 2): `ship` is due at 70."""
    await store.claim("host", "first")
    await store.append(
        [append(ALICE, (SET, "pay", 10), (SET, "gone", 20), (FIRED, "pay", 100), (CANCELLED, "gone", None))]
    )
    await store.append([append(BOB, (SET, "pay", 50), ("t", "pay", 99))])
    await store.append([append(ORDER, (SET, "ship", 70))])
    await store.save_checkpoint(Checkpoint(name="balances", owner="host", epoch=1, position=7))


class Sqlite:
    """A journal in a file."""

    def __init__(self, folder):
        self.path = folder / "bank.db"
        self.url = f"sqlite:///{self.path}"

    async def change(self, *statements):
        with closing(sqlite3.connect(self.path, isolation_level=None)) as raw:
            triggers = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                raw.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert raw.execute(statement).rowcount > 0, statement
            for _, sql in triggers:
                raw.execute(sql)

    @staticmethod
    def page_by_page(monkeypatch):
        monkeypatch.setattr(sqlite_verify, "PAGE_ROWS_MAX", 2)


class Postgres:
    """A journal in a schema."""

    def __init__(self):
        self._journal = postgres_server.Journal(postgres_server.server())
        self.url = self._journal.server.url(self._journal.schema)

    async def change(self, *statements):
        await self._journal.tamper(*statements)
        async with self._journal.raw() as raw:
            for table in ("events", "keyed_replies", "streams", "categories"):
                await raw.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_stay")

    @staticmethod
    def page_by_page(monkeypatch):
        for name, statement in vars(postgres_verify).items():
            if isinstance(statement, str) and "LIMIT" in statement:
                monkeypatch.setattr(postgres_verify, name, re.sub(r"LIMIT \d+", "LIMIT 2", statement))


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request, tmp_path):
    return Sqlite(tmp_path) if request.param == "sqlite" else Postgres()


async def filled(journal):
    store = open_store(journal.url)
    await store.open()
    try:
        await fill(store)
    finally:
        await store.close()


async def report_of(journal, **how):
    return await verify(await open_source(journal.url), **how)


def told(report):
    return [(p.kind, p.stream or "", p.version or 0, p.position or 0, p.problem) for p in report.problems]


@pytest.mark.parametrize("pages", ["large", "of two rows"])
async def test_a_journal_whose_reminder_index_is_what_its_events_say_is_good(journal, monkeypatch, pages):
    """Each row was looked at, whatever its pages hold; of a category, its own rows."""
    if pages == "of two rows":
        journal.page_by_page(monkeypatch)
    await filled(journal)
    report = await report_of(journal)
    assert report.good, report.problems
    assert (report.counts["reminders"], report.counts["checkpoints"]) == (3, 1)
    for category, count in (("Account", 2), ("Order", 1)):
        report = await report_of(journal, category=category)
        assert report.good, report.problems
        assert report.counts["reminders"] == count


WRONG = {
    "a row is missing": (
        "DELETE FROM reminders WHERE stream = 1",
        [("Account/alice", 3, 3, "reminder 'pay', due at 100, is not in the index")],
    ),
    "all rows of the last stream are missing": (
        "DELETE FROM reminders WHERE stream = 3",
        [("Order/1", 1, 7, "reminder 'ship', due at 70, is not in the index")],
    ),
    "a row is too many": (
        "INSERT INTO reminders (stream, name, due, category) VALUES (2, 'more', 60, 1)",
        [("Account/bob", 0, 0, "reminder 'more' is in the index, due at 60: by the events it is not pending")],
    ),
    "a row came back": (
        "INSERT INTO reminders (stream, name, due, category) VALUES (1, 'gone', 20, 1)",
        [("Account/alice", 4, 4, "reminder 'gone' is in the index, due at 20: by the events it is not pending")],
    ),
    "a row has another time": (
        "UPDATE reminders SET due = 10 WHERE stream = 1",
        [("Account/alice", 3, 3, "reminder 'pay' is due at 10 in the index, at 100 by the events")],
    ),
    "a row has another name": (
        "UPDATE reminders SET name = 'play' WHERE stream = 2",
        [
            ("Account/bob", 1, 5, "reminder 'pay', due at 50, is not in the index"),
            ("Account/bob", 0, 0, "reminder 'play' is in the index, due at 50: by the events it is not pending"),
        ],
    ),
    "a row is in another category": (
        "UPDATE reminders SET category = 2 WHERE stream = 2",
        [("Account/bob", 0, 0, "reminder 'pay' is in category 2, its stream in 1")],
    ),
    "a row is of no stream": (
        "INSERT INTO reminders (stream, name, due, category) VALUES (77, 'lost', 60, 1)",
        [("stream 77", 0, 0, "reminder 'lost' is of a stream that is not in the journal")],
    ),
    "no row is left": (
        "DELETE FROM reminders",
        [
            ("Account/alice", 3, 3, "reminder 'pay', due at 100, is not in the index"),
            ("Account/bob", 1, 5, "reminder 'pay', due at 50, is not in the index"),
            ("Order/1", 1, 7, "reminder 'ship', due at 70, is not in the index"),
        ],
    ),
}


@pytest.mark.parametrize(("statement", "problems"), WRONG.values(), ids=WRONG)
async def test_a_reminder_index_that_parts_from_the_events_is_found_and_named(journal, statement, problems):
    """Stream, name, both times, and the version and position of the event that says otherwise; nothing else."""
    await filled(journal)
    await journal.change(statement)
    report = await report_of(journal)
    assert told(report) == [("reminder", *problem) for problem in problems]


async def meddled(journal, meddle):
    """A source beside whose reading the journal is written: after each page of the index, and after each look at the
    rows of one stream."""
    source = await open_source(journal.url)
    pages, look = source.reminders, source.index_of

    async def reminders(category):
        await meddle()
        async for page in pages(category):
            yield page
            await meddle()

    async def index_of(key):
        found = await look(key)
        await meddle()
        return found

    source.reminders, source.index_of = reminders, index_of
    return source


async def test_a_reminder_index_is_verified_while_reminders_come_and_go(journal, monkeypatch):
    """What was set, moved or cancelled since the events were read, and again while a stream is looked at, is no
    problem; a row that is wrong is one all the same."""
    journal.page_by_page(monkeypatch)
    store = open_store(journal.url)
    await store.open()
    try:
        await fill(store)
        heads = {ALICE: 4, BOB: 2}

        async def meddle():
            for stream in (ALICE, BOB, StreamId("Account", f"new{len(heads) % 9}")):
                at = heads.get(stream, 0)
                changes = (SET, f"r{at % 4}", None if at % 3 else at), (SET, "pay" if at % 2 else "more", at)
                (result,) = await store.append([append(stream, *changes, at=at)])
                assert isinstance(result, Appended)
                heads[stream] = at + 2

        report = await verify(await meddled(journal, meddle))
        assert report.good, report.problems
        assert heads[ALICE] > 12, "nothing came between its pages"
        await journal.change("UPDATE reminders SET due = 11 WHERE stream = 3")
        report = await verify(await meddled(journal, meddle))
        problem = "reminder 'ship' is due at 11 in the index, at 70 by the events"
        assert told(report) == [("reminder", "Order/1", 1, 7, problem)]
    finally:
        await store.close()


async def test_a_damaged_event_of_a_reminder_is_told_once_and_in_its_place(journal):
    """What it said nobody knows, so nothing is said of the index."""
    await filled(journal)
    await journal.change("UPDATE events SET recorded_at = 9 WHERE position = 3")
    assert told(await report_of(journal)) == [("event", "Account/alice", 3, 3, "the checksum does not match")]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE checkpoints SET position = 8", "checkpoint 'balances': position 8, the journal goes up to 7"),
        ("UPDATE checkpoints SET position = -1", "checkpoint 'balances': position -1, the journal goes up to 7"),
        (
            "UPDATE checkpoints SET epoch = 2",
            "checkpoint 'balances': saved at epoch 2 of owner 'host', whose newest is 1",
        ),
        (
            "UPDATE checkpoints SET owner = 'nobody'",
            "checkpoint 'balances': saved at epoch 1 of owner 'nobody', whose newest is 0",
        ),
    ],
)
async def test_a_checkpoint_where_nobody_can_have_been_is_found(journal, statement, problem):
    """Beyond the newest position, below the first, or by a claim that was never made."""
    await filled(journal)
    await journal.change(statement)
    assert told(await report_of(journal)) == [("checkpoint", "", 0, 0, problem)]


async def test_a_wrong_reminder_ends_the_command_line_with_status_1(journal):
    """And is named; a good journal ends with 0."""
    await filled(journal)
    run = lambda: CliRunner().invoke(command_line.cli, ["verify", journal.url])  # noqa: E731
    good = await asyncio.to_thread(run)
    assert good.exit_code == 0, good.output
    assert "1 checkpoint, 3 reminders" in good.stdout
    await journal.change("DELETE FROM reminders WHERE stream = 2")
    bad = await asyncio.to_thread(run)
    assert bad.exit_code == 1, bad.output
    line = "reminder  Account/bob version 1 (position 5)  reminder 'pay', due at 50, is not in the index"
    assert line in bad.stdout.splitlines()


async def test_reminders_of_each_partition_are_verified_and_named_with_it(tmp_path):
    """A row that is missing in the second of two."""
    url = f"sqlite:///{tmp_path}/bank.db?partitions=2"
    streams = [next(s for s in map(named, range(99)) if partition_of(s, 2) == number) for number in range(2)]
    for number, stream in enumerate(streams):
        store = open_store(url, number)
        await store.open()
        await store.claim("host", "first")
        await store.append([append(stream, (SET, "pay", 5))])
        await store.close()
    report = await verify(await open_sources(url))
    assert report.good, report.problems
    assert report.counts["reminders"] == 2
    with closing(sqlite3.connect(tmp_path / "bank.db.p1", isolation_level=None)) as raw:
        raw.execute("DELETE FROM reminders")
    (problem,) = (await verify(await open_sources(url))).problems
    assert (problem.kind, problem.partition, problem.stream) == ("reminder", 1, str(streams[1]))


def named(number):
    return StreamId("Account", f"a{number}")


async def test_a_reminder_index_without_its_table_is_told(journal):
    """The other steps still say what they find."""
    await filled(journal)
    if isinstance(journal, Sqlite):
        with closing(sqlite3.connect(journal.path, isolation_level=None)) as raw:
            raw.execute("DROP TABLE reminders")
    else:
        async with journal._journal.raw() as raw:
            await raw.execute("DROP TABLE reminders")
    report = await report_of(journal)
    assert {problem.kind for problem in report.problems} == {"storage"}
    assert any("reminders" in problem.problem for problem in report.problems)
    assert report.counts["events"] == 7


def test_a_journal_of_schema_1_has_no_reminders_and_no_checkpoints_to_verify(tmp_path):
    """It is as good as it was."""
    path = Path(tmp_path) / "old.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(schema_script(1))
        old.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")

    async def report():
        return await verify(await open_source(f"sqlite:///{path}"))

    found = asyncio.run(report())
    assert found.good, found.problems
    assert not {"reminders", "checkpoints"} & found.counts.keys()


async def test_a_store_that_cannot_show_its_reminder_index_says_so():
    """In the notes of the report: nothing was held against the events."""
    store = MemoryStore()
    await fill(store)
    report = await verify(store)
    assert report.good
    assert any("index of reminders" in note for note in report.notes)
    assert "reminders" not in report.counts
