"""`holdfast check`: what would not load is told before a deployment, for each store, and from the command line."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import postgres_server
import pytest
from click.testing import CliRunner
from hf_upcast import Account, Deposited, FeesOnly, Notes

from holdfast.actors import Aggregate, DefinitionError, event, on
from holdfast.actors.check import FollowingReader, check, readers_of
from holdfast.actors.definition import definition_of
from holdfast.actors.snapshots import take
from holdfast.actors.testing import given, stored
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, NewEvent, Snapshot, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.store import Store
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_source, open_sources
from holdfast.journal.verify_source import StoreSource
from holdfast.runtime.cli import cli
from holdfast.runtime.projection_definition import projection_of

OLD = stored("hf_upcast.deposited", 1, {"amount": 1, "fee": 2})
TODAY = stored("hf_upcast.deposited", 2, {"cents": 5})
FEE = stored("hf_upcast.fee_charged", 1, {"cents": 5})
NEWER = stored("hf_upcast.deposited", 3, {"pence": 5})
NEWER_FEE = stored("hf_upcast.fee_charged", 2, {"pence": 5})
UNKNOWN = stored("hf_upcast.closed", 1, {})
BROKEN = stored("hf_upcast.deposited", 1, {"fee": 1})
WRONG = stored("hf_upcast.deposited", 2, {"cents": "many"})


async def write(store: Store, *events: Any, id: str = "a", category: str = "OldAccount", after: int = 0) -> None:
    epoch = await store.claim("host", f"{category} {id} {after}")
    made = tuple(
        NewEvent(type=each.type, payload=each.payload, command_id=f"{id}{n}", recorded_at=1)
        for n, each in enumerate(events, after)
    )
    stream = StreamId(category, id)
    append = Append(stream=stream, owner="host", epoch=epoch, expected_version=after, events=made)
    (answer,) = await store.append([append])
    assert not isinstance(answer, Exception), answer


async def checked(*events: Any, classes: Any = (Account,), **how: Any) -> Any:
    """A check of a journal in memory that holds these, in one stream."""
    store = MemoryStore()
    await store.open()
    if events:
        await write(store, *events)
    return await check([StoreSource(store)], readers_of(classes), **how)


async def test_check_a_journal_that_the_code_can_read_is_good() -> None:
    """All versions that it has upcasters for; counted, with the first place and the last of each."""
    report = await checked(OLD, TODAY, OLD, FEE)
    assert report.good
    found = {each.type: each for each in report.types}
    assert [(t, f.count, f.first.position, f.last.position) for t, f in found.items()] == [
        ("hf_upcast.deposited", 2, 1, 3),
        ("hf_upcast.deposited@2", 1, 2, 2),
        ("hf_upcast.fee_charged", 1, 4, 4),
    ]
    assert found["hf_upcast.deposited@2"].version == 2
    assert all(each.readers == ("Account",) and each.opened == each.count for each in report.types)
    assert (report.upto, report.unclaimed, report.unseen) == ((4,), (), ())


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (NEWER, "newer code wrote 'hf_upcast.deposited' at version 3, and this code knows it up to version 2"),
        (UNKNOWN, "no method of Account applies 'hf_upcast.closed'"),
        (BROKEN, "event hf_upcast.deposited: it cannot be upcast: KeyError: 'amount'"),
        (WRONG, "event hf_upcast.deposited@2: Expected `int`, got `str` at .cents"),
    ],
)
async def test_check_what_would_not_load_is_told_with_its_place(bad: Any, problem: str) -> None:
    """The words are those that its hydration would fail with."""
    report = await checked(TODAY, FEE, bad, TODAY)
    assert not report.good
    (found,) = report.problems
    assert (found.type, found.problem, found.reader) == (bad.type, problem, "Account")
    assert (found.place.stream, found.place.version, found.place.position) == ("OldAccount/a", 3, 3)


async def test_check_agrees_with_a_replay_of_every_stream() -> None:
    """Random journals: good, with all events opened, if and only if every stream replays."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    verdicts = set()
    for _ in range(60):
        kinds = [OLD, TODAY, FEE] * 5 + [NEWER, UNKNOWN, BROKEN, WRONG]
        events = chance.choices(kinds, k=chance.randint(1, 12))
        try:
            _ = given(Account, *events).state
            loads = True
        except Exception:
            loads = False
        assert (await checked(*events, samples=None)).good == loads
        verdicts.add(loads)
    assert verdicts == {True, False}


async def test_check_opens_the_first_the_last_and_some_between_or_all() -> None:
    """One bad event in the middle of many may be missed by samples, and is not when all are opened."""
    events = [TODAY] * 501
    for place, missed in ((0, False), (500, False), (301, True)):
        bad = [*events[:place], WRONG, *events[place + 1 :]]
        some, every = await checked(*bad, samples=20), await checked(*bad, samples=None)
        assert some.good == missed
        assert 20 / 2 <= some.types[0].opened <= 22
        assert not every.good
        assert (every.types[0].opened, every.types[0].failed) == (501, 1)
        assert every.problems[0].place.version == place + 1


async def test_check_tells_what_the_journal_never_saw_and_what_nobody_claims() -> None:
    """Notes, not problems."""
    report = await checked(TODAY)
    assert report.unseen == ("OldAccount hf_upcast.fee_charged",)
    store = MemoryStore()
    await store.open()
    await write(store, UNKNOWN, category="Other")
    report = await check([StoreSource(store)], readers_of([Account]))
    assert report.good
    assert (report.unclaimed, report.types[0].readers) == (("Other",), ())
    assert (await checked()).types == ()


async def test_check_asks_projections_and_reactions_too() -> None:
    """What only they would stumble over, in any category; and what is split off for them."""
    store = MemoryStore()
    await store.open()
    await write(store, NEWER_FEE, OLD, UNKNOWN, category="Other")
    readers = [FollowingReader("FeesOnly", projection_of(FeesOnly).reading), *readers_of([Notes])]
    report = await check([StoreSource(store)], readers)
    found = {each.type: each for each in report.types}
    assert [each.type for each in report.problems] == [NEWER_FEE.type]
    assert found[OLD.type].readers == found[NEWER_FEE.type].readers == ("FeesOnly", "Notes")
    assert found[UNKNOWN.type].readers == ()


async def test_check_counts_the_snapshots_that_would_be_ignored() -> None:
    """Those of another schema than the code's."""
    store, definition = MemoryStore(), definition_of(Account)
    await store.open()
    await write(store, TODAY, TODAY)
    stream = StreamId("OldAccount", "a")
    instance = definition.new("a")
    definition.apply(instance, definition.events[Deposited], Deposited(5))
    other = Snapshot(stream=stream, version=2, schema="older", payload=b"\x80")
    await store.save_snapshots([take(definition, stream, instance, 1), other])
    report = await check([StoreSource(store)], readers_of([Account]))
    assert report.good
    assert [(each.category, each.count, each.ignored) for each in report.snapshots] == [("OldAccount", 2, 1)]


async def test_check_two_classes_of_one_category_are_refused() -> None:
    """Nobody could say which of them reads it."""

    @event("hf_upcast.other")
    class Other:
        pass

    class Second(Aggregate, category="OldAccount"):
        @on(Other)
        def _other(self, event: Other) -> None: ...

    with pytest.raises(DefinitionError, match="belongs to Account"):
        readers_of([Account, Second])


async def test_check_reads_a_journal_in_sqlite_beside_its_writer(tmp_path: Any) -> None:
    """In partitions too: with the number of each place, and told how far it is."""
    url = f"sqlite:///{tmp_path}/old.db?partitions=2"
    stores = [open_store(url, number) for number in range(2)]
    for store in stores:
        await store.open()
    await write(stores[0], TODAY, OLD)
    await write(stores[1], TODAY, NEWER)
    seen: list[tuple[str, int, int]] = []
    report = await check(await open_sources(url), readers_of([Account]), progress=lambda *how: seen.append(how))
    assert report.upto == (2, 2)
    (found,) = report.problems
    assert (found.type, found.place.partition, found.place.position) == (NEWER.type, 1, 2)
    assert {each.type: each.count for each in report.types}[TODAY.type] == 2
    assert seen == [("events", 2, 2)] * 2
    await write(stores[0], FEE, after=2)  # the writer was not disturbed
    for store in stores:
        await store.close()


async def test_check_reads_a_journal_in_postgres_beside_its_writer() -> None:
    """The same report."""
    journal = postgres_server.Journal(postgres_server.server())
    async with journal.opened() as store:
        await write(store, TODAY, OLD, NEWER)
        source = await open_source(journal.server.url(journal.schema))
        report = await check([source], readers_of([Account]))
    assert [(each.type, each.count) for each in report.types] == [(OLD.type, 1), (TODAY.type, 1), (NEWER.type, 1)]
    assert [each.type for each in report.problems] == [NEWER.type]


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Any) -> str:
    async def make() -> None:
        for name, events in (("good", (TODAY, OLD, FEE)), ("bad", (TODAY, NEWER))):
            store = SqliteStore(tmp_path / f"{name}.db")
            await store.open()
            await write(store, *events)
            await store.close()

    asyncio.run(make())
    return f"sqlite:///{tmp_path}"


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, ["check", *args])


def test_check_from_the_command_line_says_whether_everything_would_load(url: str) -> None:
    """Status 0, and a line for each type."""
    ran = run(f"{url}/good.db", "--module", "hf_upcast")
    assert ran.exit_code == 0, ran.output
    lines = ran.stdout.splitlines()
    assert lines[0] == "OldAccount  hf_upcast.deposited  1  loads (Account, Notes, Sums, FeesOnly)"
    assert lines[-1] == "everything would load"
    assert "3 events" in lines[-2]


def test_check_from_the_command_line_says_what_would_not_load_and_where(url: str) -> None:
    """Status 1."""
    ran = run(f"{url}/bad.db", "--module", "hf_upcast", "--all")
    assert ran.exit_code == 1
    assert "OldAccount  hf_upcast.deposited@3  1  WOULD NOT LOAD" in ran.stdout
    assert "first at OldAccount/a version 2 (position 2), 1 of 1 opened" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "WOULD NOT LOAD: 1 of 2 types"


def test_check_as_json_is_one_object_with_the_verdict(url: str) -> None:
    """For programs."""
    good, bad = [
        json.loads(run(f"{url}/{name}.db", "--module", "hf_upcast", "--json").stdout) for name in ("good", "bad")
    ]
    assert (good["good"], bad["good"]) == (True, False)
    assert bad["types"][1]["place"] == {"position": 2, "partition": 0, "stream": "OldAccount/a", "version": 2}
    assert set(good) == {"good", "journal", "upto", "types", "snapshots", "unseen", "unclaimed"}


@pytest.mark.parametrize(
    "args",
    [
        ("{url}/none.db", "--module", "hf_upcast"),
        ("{url}/good.db",),
        ("{url}/good.db", "--module", "no_such_module"),
        ("{url}/good.db", "--module", "json"),
        ("nonsense", "--module", "hf_upcast"),
    ],
)
def test_check_that_cannot_run_says_so(url: str, args: tuple[str, ...]) -> None:
    """Status 2, with the reason on stderr."""
    ran = run(*(each.format(url=url) for each in args))
    assert ran.exit_code == 2
    assert ran.stderr
    assert not ran.stdout


def test_check_changes_nothing_and_starts_no_ray(url: str, tmp_path: Any) -> None:
    """In a process of its own, on a journal that nobody has opened."""
    before = (tmp_path / "good.db").read_bytes()
    program = (
        "import sys, runpy; sys.argv = ['holdfast', 'check', sys.argv[1], '--module', 'hf_upcast']\n"
        "try: runpy.run_module('holdfast.runtime.cli', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "import ray; assert not ray.is_initialized()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, f"{url}/good.db"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "good.db").read_bytes() == before


def test_check_the_report_says_where_in_words() -> None:
    """With the partition, where there are several."""
    report = asyncio.run(checked(NEWER))
    place = report.problems[0].place
    assert str(place) == "OldAccount/a version 1 (position 1)"
    elsewhere = msgspec.structs.replace(place, partition=2)
    assert str(elsewhere) == "OldAccount/a version 1 (position 1, partition 2)"
