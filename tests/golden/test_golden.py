"""Journals of every released format open with today's code, say what they said, and take new events."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))

import postgres_server  # noqa: E402

from holdfast.actors.check import check, readers_of  # noqa: E402
from holdfast.actors.verify import replays_of  # noqa: E402
from holdfast.journal.records import Append, NewEvent, StreamId  # noqa: E402
from holdfast.journal.sqlite import SqliteStore  # noqa: E402
from holdfast.journal.verify import open_sources, verify  # noqa: E402
from holdfast.runtime import Runtime, Sharded  # noqa: E402
from tests.golden import __main__ as writer  # noqa: E402
from tests.golden.domain import Account, Order  # noqa: E402
from tests.golden.story import happen, told  # noqa: E402

FILES = sorted(Path(__file__).parent.glob("*.journal"))
DUMPS = sorted(Path(__file__).parent.glob("*.sql"))
KEPT = ("events", "keyed_replies", "streams", "categories", "snapshots", "owners", "aggregates")
"""Tables that a migration leaves as they are."""


def expected(golden: Path) -> dict[str, Any]:
    """What the release that wrote it saw."""
    return json.loads(golden.with_name(f"{golden.name}.json").read_text())


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(golden, tmp_path / "golden.db"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.name)
def dump(request: pytest.FixtureRequest) -> Path:
    return request.param


async def restored(dump: Path) -> postgres_server.Journal:
    """A schema of its own with what a dump holds."""
    journal = postgres_server.Journal(postgres_server.server())
    statements = text(dump).replace(writer.SCHEMA, journal.schema)
    async with journal.server.raw() as raw:
        await raw.execute(statements)
    return journal


def whole_of(path: Path) -> str:
    return path.read_bytes().hex()


def text(path: Path) -> str:
    return path.read_text()


def rows(path: Path) -> dict[str, list[Any]]:
    """All rows, as SQLite has them."""
    with closing(sqlite3.connect(path)) as raw:
        return {table: raw.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in KEPT}


def test_golden_there_is_a_journal_of_every_released_format() -> None:
    """1 and the current one at least, in both databases, none left out."""
    formats = [int(path.stem.rpartition("-")[2]) for path in FILES]
    assert formats == list(range(1, len(formats) + 1))
    assert [int(path.stem.rpartition("-")[2]) for path in DUMPS] == formats


async def test_golden_the_newest_file_is_of_the_format_that_is_written_now(tmp_path: Path) -> None:
    """A new format comes with a golden journal: `python -m tests.golden`."""
    await happen(f"sqlite:///{tmp_path}/new.db")
    with closing(sqlite3.connect(tmp_path / "new.db")) as raw:
        (format,) = raw.execute("PRAGMA user_version").fetchone()
    assert FILES[-1].name == f"sqlite-{format}.journal"


async def test_golden_a_journal_says_what_it_said_to_the_release_that_wrote_it(golden: Path, copy: Path) -> None:
    """Each event, byte for byte and as its class, the state at each version, and the replies by key."""
    assert await told(f"sqlite:///{copy}") == expected(golden)


async def test_golden_a_journal_verifies_clean_as_it_is_and_once_it_was_opened(copy: Path) -> None:
    """Its checksums, its snapshots, its states; and the check of its events finds nothing."""
    url = f"sqlite:///{copy}"
    for _ in range(2):
        report = await verify(await open_sources(url), replays=replays_of([Account, Order]))
        assert report.good, report.problems
        assert report.counts["events"] >= 22
        assert report.counts["snapshots"] >= 2
        assert (await check(await open_sources(url), readers_of([Account, Order]), samples=None)).good
        await told(url)


async def test_golden_a_migration_leaves_all_rows_as_they_are(golden: Path, copy: Path) -> None:
    """Byte for byte; and the golden file itself is never written to."""
    before, whole = rows(copy), whole_of(golden)
    await told(f"sqlite:///{copy}")
    after = rows(copy)
    for table in ("events", "keyed_replies", "streams", "categories", "snapshots"):
        assert after[table] == before[table], table
        assert before[table], f"there is nothing in {table} to be left alone"
    assert whole_of(golden) == whole


async def takes_new_events(url: str, seen: dict[str, Any]) -> None:
    """Commands go on where the journal ends; a key that was used answers as it did then, and writes nothing."""
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        alice = runtime.get(Account, "alice")
        balance = await alice.balance_now()
        again = runtime.get(Account, "alice", idempotency_key="order-0")
        assert await again.deposit(Decimal(1)) == Decimal("7.40")
        assert await runtime.head() == seen["head"]
        assert await alice.deposit(Decimal(5)) == balance + 5
        assert await runtime.head() == seen["head"] + 1
        await runtime.get(Account, "new").open("new")
        await runtime.get(Order, "o-1").expire_later()
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        assert await runtime.get(Account, "alice").balance_now() == balance + 5
        assert (await runtime.state_at(Order, "o-1")).pending_reminders["expire"].command == "expire"
    assert (await verify(await open_sources(url), replays=replays_of([Account, Order]))).good


async def test_golden_a_journal_takes_new_events(golden: Path, copy: Path) -> None:
    """Behind the old ones, reminders among them."""
    await takes_new_events(f"sqlite:///{copy}", expected(golden))


async def test_golden_a_postgres_journal_says_what_it_said_and_takes_new_events(dump: Path) -> None:
    """Each event byte for byte, the states, the replies; verified before and after."""
    journal = await restored(dump)
    url = journal.server.url(journal.schema)
    assert (await verify(await open_sources(url), replays=replays_of([Account, Order]))).good
    async with journal.raw() as raw:
        query = "SELECT * FROM {} ORDER BY 1, 2"
        tables = ("events", "keyed_replies", "streams", "categories", "snapshots")
        before = {table: list(map(tuple, await raw.fetch(query.format(table)))) for table in tables}
    assert await told(url) == expected(dump)
    async with journal.raw() as raw:
        after = {table: list(map(tuple, await raw.fetch(query.format(table)))) for table in tables}
    assert after == before
    assert all(before.values())
    await takes_new_events(url, expected(dump))


async def test_golden_a_postgres_migration_leaves_no_way_to_change_events(dump: Path) -> None:
    """The triggers of the old schema are there, in the restored one too."""
    journal = await restored(dump)
    await told(journal.server.url(journal.schema))
    async with journal.raw() as raw:
        for statement in ("UPDATE events SET version = version", "DELETE FROM events", "TRUNCATE events"):
            with pytest.raises(Exception, match="kept for ever"):
                await raw.execute(statement)


def test_golden_a_released_journal_is_never_written_again() -> None:
    """The script refuses, whatever is there."""
    before = {path: path.read_bytes() for path in (*FILES, *DUMPS)}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.golden"],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode != 0
    assert "a format that was released is not written again" in ran.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_golden_a_journal_that_says_more_is_found(copy: Path, golden: Path) -> None:
    """The comparison is not blind: one event more is seen, though all checksums are right."""

    async def grow() -> None:
        store = SqliteStore(copy)
        await store.open()
        epoch = await store.claim("somebody", "else")
        event = NewEvent(type="golden.expired", payload=b"\x80", command_id="c", recorded_at=1)
        at = expected(golden)["streams"]["golden order/o-1"]["version"]
        stream = StreamId("golden order", "o-1")
        (answer,) = await store.append(
            [Append(stream=stream, owner="somebody", epoch=epoch, expected_version=at, events=(event,))]
        )
        assert not isinstance(answer, Exception)
        await store.close()

    asyncio.run(grow())
    assert asyncio.run(told(f"sqlite:///{copy}")) != expected(golden)
