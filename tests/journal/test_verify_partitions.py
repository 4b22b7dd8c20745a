"""Verifying a journal in partitions: all of them, each by itself and against the first, and where a problem is."""

import asyncio
import sqlite3
from contextlib import closing

import postgres_server
import pytest

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalOpenError, PartitionConflict
from holdfast.journal.partition import partition_of
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_sources, verify

COUNT = 3
STREAMS = [StreamId("Account", f"a{number}") for number in range(12)]


class Way:
    """To a server in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


async def fill(url, claims=1):
    """A few events in each partition, and more claims of one owner than are remembered."""
    servers = [JournalServer(open_store(url, number)) for number in range(COUNT)]
    for server in servers:
        await server.start()
    journal = PartitionedJournal([JournalClient(Way(server)) for server in servers])
    try:
        for number in range(claims):
            epoch = await journal.claim("host", f"life {number}")
        new = NewEvent(type="t", payload=b"\x80", command_id="c", recorded_at=1)
        appends = [
            Append(stream=stream, owner="host", epoch=epoch, expected_version=0, events=(new,)) for stream in STREAMS
        ]
        await asyncio.gather(*map(journal.append, appends))
        return list(await journal.head())
    finally:
        for server in servers:
            await server.stop()


class Journal:
    def __init__(self, folder):
        self.path = folder / "bank.db"
        self.url = f"sqlite:///{self.path}"

    def tamper(self, number, *statements):
        path = f"{self.path}.p{number}" if number else self.path
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            kept = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in kept:
                raw.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                assert raw.execute(statement).rowcount > 0, statement
            for _, sql in kept:
                raw.execute(sql)

    async def report(self, query="", **how):
        return await verify(await open_sources(self.url + query), **how)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def urls(request, tmp_path):
    """The URL with its partitions, and without."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bank.db?partitions={COUNT}", f"sqlite:///{tmp_path}/bank.db"
    server, schema = postgres_server.server(), postgres_server.server().schema()
    return server.url(schema, partitions=COUNT), server.url(schema)


async def test_a_good_journal_is_found_good_whether_or_not_the_url_says_how_many(urls):
    """All partitions were looked at, and claims that are too many to be remembered are no problem."""
    heads = await fill(urls[0], claims=12)
    for url in urls:
        report = await verify(await open_sources(url))
        assert report.good, report.problems
        assert (report.partitions, report.upto) == (COUNT, heads)
        assert (report.counts["events"], report.counts["streams"], report.counts["owners"]) == (12, 12, COUNT)


async def test_another_count_than_is_recorded_is_no_verification(urls):
    """Both are named."""
    await fill(urls[0])
    with pytest.raises(PartitionConflict) as error:
        await open_sources(urls[0].replace(f"partitions={COUNT}", "partitions=2"))
    assert (error.value.recorded, error.value.asked) == ("partition 0 of 3", "partition 0 of 2")


async def test_a_partition_alone_is_no_journal(journal):
    """Its file says which one it is; and one that is gone is told."""
    await fill(f"{journal.url}?partitions={COUNT}")
    with pytest.raises(PartitionConflict):
        await open_sources(f"{journal.url}.p1")
    (journal.path.parent / "bank.db.p2").unlink()
    with pytest.raises(JournalOpenError, match=r"bank\.db\.p2: there is no such file"):
        await journal.report()


async def test_a_damaged_event_is_found_with_its_partition(journal):
    """In words and in fields."""
    await fill(f"{journal.url}?partitions={COUNT}")
    journal.tamper(2, "UPDATE events SET recorded_at = 5 WHERE position = 1")
    (problem,) = (await journal.report()).problems
    assert (problem.kind, problem.partition, problem.position) == ("event", 2, 1)
    assert str(problem).startswith("partition 2, Account/a")


async def test_a_stream_in_another_partition_than_its_own_is_found(journal):
    """Nobody would find it where it is."""
    await fill(f"{journal.url}?partitions={COUNT}")
    stray = next(stream for stream in STREAMS if partition_of(stream, COUNT) == 0)
    journal.tamper(1, f"INSERT INTO streams VALUES (99, 1, '{stray.id}')",
                   "INSERT INTO keyed_replies VALUES (99, 'k', 0, x'', x'', 0)")  # fmt: skip
    found = [(p.kind, p.partition, p.stream, p.problem) for p in (await journal.report()).problems]
    assert ("stream", 1, str(stray), "it belongs to partition 0") in found


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE owners SET epoch = 4 WHERE epoch = 3", "epoch 4 is here, the first partition has drawn up to 3"),
        ("UPDATE owners SET owner = 'other' WHERE epoch = 1", "epoch 1 is here, the first partition has drawn up to 0"),
        ("UPDATE owners SET incarnation = 'x' WHERE epoch = 2", "epoch 2 is that of 'x' here, of 'life 1' in the"),
    ],
)
async def test_a_claim_that_the_first_partition_never_gave_is_found(journal, statement, said):
    """An owner that began elsewhere could be a second one."""
    await fill(f"{journal.url}?partitions={COUNT}", claims=3)
    journal.tamper(1, statement)
    found = [(p.partition, p.problem) for p in (await journal.report()).problems if p.kind == "owner"]
    assert any(partition == 1 and said in problem for partition, problem in found), found


async def test_epochs_that_fall_or_repeat_are_found_where_they_may_skip(journal):
    """One incarnation has one epoch."""
    await fill(f"{journal.url}?partitions={COUNT}", claims=4)
    journal.tamper(2, "DELETE FROM owners WHERE epoch = 2")
    assert (await journal.report()).good
    journal.tamper(2, "UPDATE owners SET incarnation = 'life 2' WHERE epoch = 4")
    problems = [problem.problem for problem in (await journal.report()).problems]
    assert "owner 'host': incarnation 'life 2' has epochs 3 and 4" in problems


async def test_a_category_may_be_in_some_partitions_only(journal):
    """One that is in none was mistyped."""
    await fill(f"{journal.url}?partitions={COUNT}")
    journal.tamper(1, "UPDATE categories SET name = 'Rare'")
    report = await journal.report(category="Rare")
    assert report.counts["streams"] == sum(partition_of(stream, COUNT) == 1 for stream in STREAMS)
    with pytest.raises(JournalOpenError, match="no category 'None'; there are: Account, Rare"):
        await journal.report(category="None")
