"""Forgetting a person: what is in the journal from the start, what is left after, and what every way of reading shows.

Most of it in one process, where each step can be held or made to fail; `test_forget_ray.py` has the processes.
"""

import asyncio
import json
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from click.testing import CliRunner
from hf_people import SECRET, Counter, Forgotten, Greeter, Noted, People, Person, Registered

from holdfast.actors import DeadlineExceeded, HydrationFailed, NotSerializable, ReplyForgotten
from holdfast.actors.check import FollowingReader, check, readers_of
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.actors.verify import ClassReplay
from holdfast.journal.codec import decode_plain
from holdfast.journal.errors import (
    CorruptRecord,
    JournalFailed,
    JournalUnavailable,
    JournalUrlError,
    KeyStoreConflict,
    NoKeyStore,
)
from holdfast.journal.keys import DataSubject, Destroyed, KeyStore
from holdfast.journal.keys_script import find, prepare
from holdfast.journal.keys_sqlite import SqliteKeys
from holdfast.journal.opening import OpeningLink
from holdfast.journal.records import Append, Appended, NewEvent, StreamId
from holdfast.journal.sealed import shown
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_sources, verify
from holdfast.journal.wire import encode
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.cli import cli
from holdfast.runtime.forgetting import Forgetting
from holdfast.runtime.projection_definition import projection_of

NEEDLE = SECRET.encode()
EAGER = Config(compress_from=200)
LETTERS = "".join(random.Random(7).choices("abcdefgh", k=4000))
"""What is not personal; compressed with it, the bytes of a sealed field are not to be recognised."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    (tmp_path / "keys").mkdir()
    return tmp_path


def opened(folder: Path, **how: Any) -> Any:
    """A runtime in this process, over files."""
    how.setdefault("keys", f"sqlite:///{folder / 'keys' / 'keys.db'}")
    url = f"sqlite:///{folder / 'journal' / 'people.db'}{how.pop('options', '')}"
    return Runtime.local(url, placement=Sharded(2), **how)


def holds_secret(folder: Path) -> bool:
    """Whether what must not be there is in any file, logs included."""
    return holds(folder, NEEDLE)


def holds(folder: Path, needle: bytes) -> bool:
    return any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def fill(runtime: Any, ids: int = 3) -> None:
    """People with events, snapshots, stored replies and keyed ones."""
    for n in range(ids):
        person = runtime.get(Person, str(n))
        for _ in range(4):
            assert await person.register(SECRET, "Paris") == f"welcome {SECRET}"
        await runtime.get(Person, str(n), idempotency_key=f"key {n}").register(SECRET)
        assert await person.note("ann", f"met {SECRET} " * 30)
        assert await runtime.passivate(Person, str(n))
        await person.register(SECRET)


# -- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [None, EAGER], ids=["plain", "compressed"])
async def test_personal_data_is_in_no_byte_of_the_files_neither_before_it_is_forgotten_nor_after(
    folder: Path, config: Any
) -> None:
    """Journal, its log, key store; events, snapshots, replies. The city, which is not personal, can be found."""
    async with opened(folder, config=config) as runtime:
        await fill(runtime)
        assert not holds_secret(folder)
        assert holds(folder, b"Paris")
        assert (await runtime.statistics()).journal.snapshots > 0
        assert await runtime.get(Person, "0").look() == (SECRET, [f"met {SECRET} " * 30])
        report = await runtime.forget("customer", "0")
        assert (report.streams, report.generation, report.unreached) == (("Person/0",), 1, ())
        assert not holds_secret(folder)
        await runtime.forget("author", "ann")
        assert not holds_secret(folder)
    assert not holds_secret(folder)


async def test_personal_data_is_in_no_table_of_postgres_neither_before_nor_after_forgetting() -> None:
    """Every column of every row of both schemas, and the keys in a schema of their own."""
    server = postgres_server.server()
    url, keys = server.url(), server.url().replace("&lock_wait_s=0", "")
    async with Runtime.local(url, keys=keys, placement=Sharded(1)) as runtime:
        await fill(runtime, 2)
        assert await everything_in(server, (url, keys)) & {NEEDLE, b"Paris"} == {b"Paris"}
        await runtime.forget("customer", "0")
        assert await everything_in(server, (url, keys)) & {NEEDLE, b"Paris"} == {b"Paris"}
        assert (await runtime.get(Person, "0").look())[0] == ""
        assert (await runtime.get(Person, "1").look())[0] == SECRET


async def everything_in(server: Any, urls: tuple[str, ...]) -> set[bytes]:
    """Which of these are found in any value of any table."""
    found: set[bytes] = set()
    for url in urls:
        schema = url.partition("schema=")[2].partition("&")[0]
        async with server.raw(schema) as raw:
            tables = await raw.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
            assert tables
            for (table,) in tables:
                for row in await raw.fetch(f'SELECT * FROM "{table}"'):
                    held = b" ".join(v if isinstance(v, bytes) else str(v).encode() for v in row.values())
                    found |= {needle for needle in (NEEDLE, b"Paris") if needle in held}
    return found


async def test_forget_leaves_replays_equal_to_the_fold_with_blanks(folder: Path) -> None:
    """State from a snapshot, from all events, at a version, live; and events as they are read, in both directions."""
    async with opened(folder) as runtime:
        await fill(runtime)
        assert (await runtime.state_at(Person, "0", version=2)).name == SECRET
        await runtime.forget("customer", "0")
        fold = definition_of(Person).new("0")
        async for recorded in runtime.read(Person, "0"):
            assert getattr(recorded.event, "name", "") == ""
            definition_of(Person).apply(fold, definition_of(Person).events_by_name[recorded.type], recorded.event)
        assert (fold.name, fold.city) == ("", "")
        assert fold.notes == [f"met {SECRET} " * 30]  # that is the author's
        stream = StreamId("Person", "0")
        for use_snapshot in (True, False):
            replayed = await hydrate(definition_of(Person), stream, runtime._journal, use_snapshot=use_snapshot)
            assert definition_of(Person).same_state(replayed.instance, fold)
        assert (await runtime.state_at(Person, "0", version=2)).name == ""
        assert await runtime.get(Person, "0").look() == ("", fold.notes)
        assert [r.event.name async for r in runtime.read(Person, "0", backward=True, limit=1)] == [""]
        assert await runtime.get(Person, "1").look() == (SECRET, fold.notes)
        await runtime.forget("author", "ann")
        assert await runtime.get(Person, "1").look() == (SECRET, ["(removed)"])
        (noted,) = [r.event async for r in runtime.read(Person, "1") if isinstance(r.event, Noted)]
        assert noted == Noted("ann", "(removed)", None)


async def test_what_is_said_of_a_forgotten_person_later_is_kept_under_a_new_key(folder: Path) -> None:
    """New data is a new consent; the old stays blank, and can be forgotten in its turn."""
    async with opened(folder) as runtime:
        person = runtime.get(Person, "0")
        await person.register(SECRET)
        await runtime.forget("customer", "0")
        assert await person.register("Ada Byron") == "welcome Ada Byron"
        assert [r.event.name async for r in runtime.read(Person, "0")] == ["", "Ada Byron"]
        report = await runtime.forget("customer", "0")
        assert report.generation == 2
        assert [r.event.name async for r in runtime.read(Person, "0")] == ["", ""]
        forgotten = [r.event async for r in runtime.read() if r.type == "holdfast.forgotten"]
        assert [each["generation"] for each in forgotten] == [1, 2]


async def test_a_stored_reply_is_forgotten_with_the_person_and_the_command_is_not_done_again(folder: Path) -> None:
    """Whoever sends it again hears that, by type; the keyed one of another person has its reply."""
    async with opened(folder) as runtime:
        await fill(runtime)
        events = (await runtime.statistics()).journal.events
        await runtime.forget("customer", "0")
        keyed = runtime.get(Person, "0", idempotency_key="key 0")
        for _ in range(2):
            with pytest.raises(ReplyForgotten) as told:
                await keyed.register(SECRET)
            assert told.value.args == ("Person/0", "key 0")
        assert await runtime.get(Person, "1", idempotency_key="key 1").register(SECRET) == f"welcome {SECRET}"
        assert (await runtime.statistics()).journal.events == events + 1  # that it was forgotten
        assert await runtime.get(Person, "0", idempotency_key="new").register("Ada") == "welcome Ada"
        assert await runtime.get(Person, "0", idempotency_key="new").register("Ada") == "welcome Ada"


async def test_the_fingerprint_of_a_keyed_command_with_personal_data_cannot_be_compared(folder: Path) -> None:
    """A hash of arguments that can be guessed would tell whether a guess is right."""
    async with opened(folder) as runtime:
        for id in ("0", "1"):
            await runtime.get(Person, id, idempotency_key="k").register(SECRET)
    with closing(sqlite3.connect(folder / "journal" / "people.db")) as raw:
        one, other = (row[0] for row in raw.execute("SELECT fingerprint FROM keyed_replies"))
    assert one != other
    assert len(one) > 50


async def test_forget_sends_live_aggregates_out_of_memory_and_they_come_back_blank(folder: Path) -> None:
    """Those that have used the person's key; the others stay where they are."""
    async with opened(folder) as runtime:
        for id in ("0", "1", "2"):
            await runtime.get(Person, id).register(SECRET)
        await runtime.get(Person, "1").note("ann", "x")
        assert (await runtime.statistics()).live == 3
        report = await runtime.forget("author", "ann")
        assert (report.passivated, report.streams) == (1, ("Person/1",))
        assert (await runtime.statistics()).live == 2
        assert await runtime.get(Person, "1").look() == (SECRET, ["(removed)"])


async def test_forgetting_somebody_nobody_knows_is_told_and_recorded_once(folder: Path) -> None:
    """Projections may have rows of them all the same."""
    async with opened(folder) as runtime:
        reports = [await runtime.forget("customer", "nobody") for _ in range(3)]
        assert {(r.generation, r.streams, r.position) for r in reports} == {(0, (), 1)}
        for kind, id in (("", "x"), ("customer", ""), ("a\nb", "x"), (7, "x")):
            with pytest.raises(ValueError, match="printable text"):
                await runtime.forget(kind, id)


def test_forget_waits_in_a_program_without_asyncio(folder: Path) -> None:
    """The blocking twin."""
    with opened(folder) as runtime:
        runtime.get(Person, "0").register(SECRET)
        assert runtime.forget("customer", "0").passivated == 1
        assert runtime.get(Person, "0").look()[0] == ""


@pytest.mark.parametrize("options", ["", "?partitions=3"])
async def test_forget_reaches_every_partition(folder: Path, options: str) -> None:
    """Keys are served by the first, whoever asks; a person's data may lie in all of them."""
    async with opened(folder, options=options) as runtime:
        await asyncio.gather(*(runtime.get(Person, str(n)).note("ann", SECRET) for n in range(20)))
        report = await runtime.forget("author", "ann")
        assert len(report.streams) == report.passivated == 20
        looks = await asyncio.gather(*(runtime.get(Person, str(n)).look() for n in range(20)))
        assert looks == [("", ["(removed)"])] * 20
        assert not holds_secret(folder)


async def test_an_event_that_names_nobody_is_refused_to_its_caller_and_nothing_is_written(folder: Path) -> None:
    """`None` where the subject's id should be."""
    async with opened(folder) as runtime:
        with pytest.raises(NotSerializable, match="names no data subject"):
            await runtime.get(Person, "0").note(None, "x")
        assert await runtime.get(Person, "0").look() == ("", [])
        assert (await runtime.statistics()).journal.events == 0


# -- key stores --------------------------------------------------------------------------------------------------


async def test_personal_data_without_a_key_store_is_refused_before_anything_is_written(folder: Path) -> None:
    """At the first call of the type; whatever else there is goes on, and reading what is there says what is missing."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
    async with opened(folder, keys=None) as runtime:
        with pytest.raises(NoKeyStore, match="keys="):
            await runtime.get(Person, "0").register(SECRET)
        with pytest.raises(NoKeyStore):
            await runtime.forget("customer", "0")
        with pytest.raises(NoKeyStore):
            [r async for r in runtime.read(Person, "0")]
    async with opened(folder) as runtime:
        assert (await runtime.get(Person, "0").look())[0] == SECRET


async def test_another_key_store_than_the_right_one_blanks_nothing(folder: Path) -> None:
    """A key that it never had is not one that it destroyed: the place is told, and no wrong state is made."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
    async with opened(folder, keys=f"sqlite:///{folder / 'keys' / 'other.db'}") as runtime:
        with pytest.raises(CorruptRecord, match=r"Person/0 version 1 .*is it the right store"):
            await runtime.get(Person, "0").look()
        with pytest.raises(CorruptRecord):
            [r async for r in runtime.read(Person, "0")]
        assert await runtime.get(Person, "1").register("Ada") == "welcome Ada"


async def test_one_journal_is_served_with_one_key_store(folder: Path) -> None:
    """Its URL is checked when a runtime opens; keys in memory are for journals in memory."""
    url = f"sqlite:///{folder / 'journal' / 'people.db'}"
    with pytest.raises(JournalUrlError, match="lost before the journal"):
        Runtime.local(url, keys="memory://")
    async with opened(folder) as runtime:
        with pytest.raises(KeyStoreConflict):
            await runtime._journal.parts[0].ask("check_keys", "sqlite:///other.db", "another mark")
        assert "keys" not in repr(runtime._spec)
        assert runtime._spec.without_url().keys == ""


async def test_tampered_and_moved_personal_data_is_told_with_its_place_and_hurts_nobody_else(folder: Path) -> None:
    """Somebody who can write the file, checksums and all, gives two people each other's name, and one a broken one."""
    async with opened(folder) as runtime:
        for id in ("0", "1", "2", "3"):
            await runtime.get(Person, id).register(SECRET)
    payloads = await payloads_of(folder)
    assert shown(decode_plain(payloads["0"])) == {"name": "<personal: customer 0>", "city": ""}
    broken = payloads["2"][:-10] + bytes(10)
    await write(folder, {**payloads, "0": payloads["1"], "1": payloads["0"], "2": broken})
    async with opened(folder) as runtime:
        for id in ("0", "1", "2"):
            with pytest.raises((CorruptRecord, HydrationFailed)) as told:
                await runtime.get(Person, id).look()
            assert (told.value.stream, told.value.version) == (f"Person/{id}", 1)
            assert SECRET not in str(told.value)
        assert (await runtime.get(Person, "3").look())[0] == SECRET
        assert await runtime.get(Person, "3").register("Ada") == "welcome Ada"


async def payloads_of(folder: Path) -> dict[str, bytes]:
    """The first event of each person, as it is stored."""
    store = open_store(f"sqlite:///{folder / 'journal' / 'people.db'}")
    await store.open()
    found = {each.stream.id: each.payload for each in await store.read_all() if each.stream.category == "Person"}
    await store.close()
    return found


async def write(folder: Path, payloads: dict[str, bytes]) -> None:
    """The same journal, with these payloads."""
    for path in (folder / "journal").iterdir():
        path.unlink()
    store = open_store(f"sqlite:///{folder / 'journal' / 'people.db'}")
    await store.open()
    epoch = await store.claim("writer", "1")
    for id, payload in payloads.items():
        new = NewEvent(type="hf_people.registered", payload=payload, command_id="c", recorded_at=1)
        append = Append(stream=StreamId("Person", id), owner="writer", epoch=epoch, expected_version=0, events=(new,))
        assert isinstance((await store.append([append]))[0], Appended)
    await store.close()


async def test_verify_replays_personal_data_as_forgotten_and_finds_nothing_wrong(folder: Path) -> None:
    """It has no keys, and asks for none; sealed snapshots are passed over."""
    async with opened(folder, config=EAGER) as runtime:
        await fill(runtime)
        await runtime.forget("customer", "0")
    report = await verify(
        await open_sources(f"sqlite:///{folder / 'journal' / 'people.db'}"), replays=[ClassReplay(Person)]
    )
    assert report.good, report


@pytest.mark.parametrize("config", [None, EAGER], ids=["plain", "compressed"])
async def test_check_reads_personal_data_as_forgotten_and_says_that_it_would_load(folder: Path, config: Any) -> None:
    """For aggregates, reactions and projections; a deployment is not held up by what only lacks its keys here."""
    async with opened(folder, config=config) as runtime:
        await fill(runtime)
        await runtime.forget("customer", "0")
    sources = await open_sources(f"sqlite:///{folder / 'journal' / 'people.db'}")
    readers = [*readers_of([Person, Greeter]), FollowingReader("People", projection_of(People).reading)]
    report = await check(sources, readers, samples=None)
    assert report.good, report
    registered = next(each for each in report.types if each.type == "hf_people.registered")
    assert registered.readers == ("Person", "Greeter", "People")
    assert registered.opened == registered.count > 0


# -- those who live from the events ------------------------------------------------------------------------------


async def test_a_projection_hears_that_a_person_was_forgotten_and_blanks_its_rows(folder: Path) -> None:
    """After all events of that person; one that is built anew has never had the data."""
    async with opened(folder) as runtime:
        await runtime.start(People, f"sqlite:///{folder / 'read.db'}")
        for id in ("0", "1"):
            await runtime.get(Person, id).register(SECRET)
        await runtime.wait_for(People)
        assert rows(folder) == {"0": SECRET, "1": SECRET}
        await runtime.forget("customer", "0")
        await runtime.wait_for(People)
        assert rows(folder) == {"0": "", "1": SECRET}
        async for _ in runtime.rebuild(People):
            pass
        assert rows(folder) == {"0": "", "1": SECRET}


def rows(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(folder / "read.db")) as raw:
        return dict(raw.execute("SELECT id, name FROM People"))


async def test_subscriptions_give_forgotten_data_as_blank_also_the_live_ones(folder: Path) -> None:
    """A new one, and one that had caught up; that it was forgotten comes as an event, to whoever asked for all."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
        live = runtime.subscribe(categories=[Person])
        assert (await anext(live)).event == Registered(SECRET)
        await runtime.get(Person, "0").register(SECRET)
        assert (await anext(live)).event == Registered(SECRET)
        await runtime.forget("customer", "0")
        await runtime.get(Person, "0").register("Ada")
        assert (await anext(live)).event == Registered("Ada")
        again = runtime.subscribe(categories=[Person])
        assert [(await anext(again)).event.name for _ in range(3)] == ["", "", "Ada"]
        types = runtime.subscribe(types=[Forgotten])
        assert (await anext(types)).event == Forgotten("customer", "0", 1)


async def test_a_slow_subscription_reads_what_was_forgotten_meanwhile_as_blank(folder: Path) -> None:
    """The pages that its runtime keeps for those that come late are let go of."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register("Ada")
        fast, slow = runtime.subscribe(categories=[Person]), runtime.subscribe(categories=[Person])
        for each in (fast, slow):
            await anext(each)
        waiting = asyncio.ensure_future(anext(fast))
        await asyncio.sleep(0)
        await runtime.get(Person, "0").register(SECRET)
        assert (await waiting).event == Registered(SECRET)
        await runtime.forget("customer", "0")
        assert (await anext(slow)).event == Registered("")


@pytest.mark.parametrize("config", [None, EAGER], ids=["plain", "compressed"])
async def test_a_reaction_acts_once_on_personal_data_also_when_it_is_delivered_again_after_forgetting(
    folder: Path, config: Any
) -> None:
    """The command that delivers the event is the same one, so it is recognised, and not refused as another."""
    async with opened(folder, config=config) as runtime:
        await runtime.start(Greeter)
        await runtime.start(Counter)
        await runtime.get(Person, "0").register(SECRET, LETTERS)
        await runtime.wait_for(Greeter)
        await runtime.wait_for(Counter)
        assert await runtime.get(Greeter, "0").look() == [f"dear {SECRET}"]
        assert not holds_secret(folder)
        report = await runtime.forget("customer", "0")
        assert report.streams == ("Greeter/0", "Person/0")
        assert await runtime.get(Greeter, "0").look() == [""]
        await runtime.stop(Greeter)
        await runtime.stop(Counter)
    with closing(sqlite3.connect(folder / "journal" / "people.db")) as raw, raw:
        raw.execute("DELETE FROM checkpoints")  # if there are any yet
    async with opened(folder, config=config) as runtime:
        await runtime.start(Greeter)
        await runtime.start(Counter)
        await runtime.get(Person, "1").register("Bob")
        await runtime.wait_for(Greeter)
        await runtime.wait_for(Counter)
        assert await runtime.dead_letters(Greeter) == await runtime.dead_letters(Counter) == []
        assert await runtime.get(Counter, "0").look() == [LETTERS]
        assert await runtime.get(Counter, "1").look() == [""]
        assert await runtime.get(Greeter, "0").look() == [""]
        assert await runtime.get(Greeter, "1").look() == ["dear Bob"]


# -- when things go wrong ----------------------------------------------------------------------------------------


async def test_forget_goes_on_where_it_broke_off(folder: Path, monkeypatch: Any) -> None:
    """Each step fails once; done again, it is done, and the event is there once."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
        for step in ("_tell", "_record"):

            async def broken(*_: Any) -> Any:
                raise JournalUnavailable("a crash")

            with monkeypatch.context() as patched:
                patched.setattr(Forgetting, step, broken)
                with pytest.raises(JournalUnavailable):
                    await runtime.forget("customer", "0")
        assert [r.event.name async for r in runtime.read(Person, "0")] == [""]
        report = await runtime.forget("customer", "0")
        assert (report.generation, report.streams) == (1, ("Person/0",))
        assert (await runtime.get(Person, "0").look())[0] == ""
        assert (await runtime.forget("customer", "0")).position == report.position
        assert len([r async for r in runtime.read() if r.type == "holdfast.forgotten"]) == 1


async def test_two_who_forget_one_person_at_once_record_it_once(folder: Path) -> None:
    """Ten of them."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
        reports = await asyncio.gather(*(runtime.forget("customer", "0") for _ in range(10)))
        assert len({report.position for report in reports}) == 1
        assert len([r async for r in runtime.read() if r.type == "holdfast.forgotten"]) == 1


async def test_a_host_that_does_not_answer_is_ended_when_a_person_is_forgotten(folder: Path) -> None:
    """An aggregate that is busy without end keeps its host from answering: it is ended, and told."""
    config = Config(timeout_s=0.3)
    async with opened(folder, config=config) as runtime:
        await runtime.get(Person, "0").register(SECRET)
        busy = asyncio.ensure_future(runtime.get(Person, "0", timeout_s=2).wait())
        assert (await runtime.get(Person, "1").look())[0] == ""
        report = await runtime.forget("customer", "0")
        assert len(report.unreached) == 1
        with pytest.raises(DeadlineExceeded):
            await busy
        assert (await runtime.get(Person, "0", timeout_s=30).look())[0] == ""


async def test_a_command_that_has_seen_what_is_forgotten_writes_nothing_of_it_under_a_new_key(folder: Path) -> None:
    """Its state was read before the key was destroyed, and it copies from it after that: it is done again, on a state
    that was read anew. So it goes wherever the forgetting is held up: here it never gets to the hosts."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
    async with opened(folder) as runtime:
        person = runtime.get(Person, "0")
        assert (await person.look())[0] == SECRET  # no key of the customer is at hand, only that of the stream
        await runtime._journal.parts[0].ask("destroy_keys", "customer", "0")
        assert await person.repeat() == ""
        assert (await person.look())[0] == ""
        assert [r.event.name async for r in runtime.read(Person, "0")] == ["", ""]


async def test_a_command_whose_key_was_just_destroyed_is_done_and_blank(folder: Path) -> None:
    """The key was at hand when it was destroyed: what is sealed under it counts as said before, and so is blank."""
    async with opened(folder) as runtime:
        person = runtime.get(Person, "0")
        await person.register(SECRET)
        await runtime._journal.parts[0].ask("destroy_keys", "customer", "0")
        assert await person.register("Ada") == "welcome Ada"
        assert [r.event.name async for r in runtime.read(Person, "0")] == ["", ""]
        assert not holds_secret(folder)


class Slow(KeyStore):
    """A key store in this loop, whose answers take their time: a seeded number of turns before and after each."""

    def __init__(self, chance: random.Random) -> None:
        self._keys, self._chance = SqliteKeys(), chance
        self.failing = False

    async def _turns(self) -> None:
        for _ in range(self._chance.randrange(12)):
            await asyncio.sleep(0)
        if self.failing and self._chance.random() < 0.1:
            raise JournalFailed("the key store is out of order")

    async def open(self) -> None:
        await self._keys.open()

    async def close(self) -> None:
        await self._keys.close()

    async def prepare(self, wanted: Any) -> Any:
        await self._turns()
        found = self._keys._transaction(prepare(wanted, self._keys._wrap), writes=True)
        await self._turns()
        return found

    async def find(self, ids: Any) -> Any:
        await self._turns()
        found = self._keys._transaction(find(ids, self._keys._wrap), writes=False)
        await self._turns()
        return found

    async def destroy(self, subject: DataSubject) -> Destroyed:
        await self._turns()
        destroyed = self._keys._destroy(subject)
        await self._turns()
        return destroyed


@pytest.mark.parametrize("seed", range(12))
async def test_forget_racing_with_commands_leaves_nothing_of_what_was_said_before_it(
    seed: int, monkeypatch: Any
) -> None:
    """Registrations, copies of the state, passivation, snapshots, keyed commands, and forgetting in between, in a
    schedule drawn from the seed. After each forgetting has returned, what was done before it began is shown by no query
    and no event, and no key that is alive opens anything of it, in events, snapshots or replies. (What is being said at
    the same time may come after it.)"""
    print(f"seed {seed}")
    chance = random.Random(seed)
    slow = Slow(chance)
    monkeypatch.setattr("holdfast.journal.keys_url.KeysUrl.store", lambda _: slow)
    said: list[str] = []

    async with Runtime.local("memory://", keys="memory://", placement=Sharded(1)) as runtime:

        async def write(n: int) -> None:
            for k in range(30):
                person = runtime.get(Person, "0", idempotency_key=f"{n}-{k}" if chance.random() < 0.3 else None)
                what = chance.random()
                if what < 0.5:
                    await person.register(f"name {n}.{k}.")
                    said.append(f"name {n}.{k}.")
                elif what < 0.8:
                    await person.repeat()
                elif what < 0.9:
                    await person.look()
                else:
                    await runtime.passivate(Person, "0")

        async def forget() -> None:
            for _ in range(4):
                for _ in range(chance.randrange(40)):
                    await asyncio.sleep(0)
                before = set(said)
                await runtime.forget("customer", "0")
                name, _ = await runtime.get(Person, "0").look()
                assert name not in before
                shown = [each.event.name async for each in runtime.read(Person, "0")]
                assert not before & set(shown)
                assert not before & set(await alive_in(runtime, slow))

        await asyncio.gather(*(write(n) for n in range(4)), forget())
        await runtime.forget("customer", "0")
        assert await runtime.get(Person, "0").look() == ("", [])
        assert {each.event.name async for each in runtime.read(Person, "0")} == {""}
        assert await alive_in(runtime, slow) == []


async def alive_in(runtime: Any, keys: Slow) -> list[str]:
    """All names that can be read in the journal with the keys that are there."""
    store = runtime._cluster._journals[0].resident._server.store
    link = OpeningLink(_Store(store, keys), _Store(store, keys))
    stream, found = StreamId("Person", "0"), b""
    for page in (await link.ask("read_stream", stream), encode(await link.ask("list_snapshots", stream))):
        found += page
    ids = [each.command_id for each in await store.read_stream(stream)]
    replies = await link.ask("find_replies", stream, ids, 10_000)
    (keyed,) = await link.ask("find_keyed_of", [(stream, [f"{n}-{k}" for n in range(4) for k in range(30)])])
    found += b"".join(each.reply for each in (*replies.values(), *keyed.values()))
    return re.findall(r"name \d+\.\d+\.", found.decode(errors="replace"))


class _Store:
    """A link straight to the store, past everything that decides."""

    def __init__(self, store: Any, keys: Slow) -> None:
        self._store, self._keys = store, keys._keys

    async def ask(self, method: str, *args: Any) -> Any:
        if method == "find_keys":
            return self._keys._transaction(find(args[0], self._keys._wrap), writes=False)
        if method == "find_keyed_of":
            return [await self._store.find_keyed(*each) for each in args[0]]
        if method == "find_replies":
            return await self._store.find_replies(*args[:2], window=args[2])
        found = await getattr(self._store, method)(*args)
        return encode(found) if method == "read_stream" else found


@pytest.mark.parametrize("seed", range(4))
async def test_a_key_store_that_fails_loses_no_personal_data_and_shows_none(seed: int, monkeypatch: Any) -> None:
    """Commands fail or are done; what was told as done is there, and nothing else is in the clear."""
    print(f"seed {seed}")
    slow = Slow(random.Random(seed))
    monkeypatch.setattr("holdfast.journal.keys_url.KeysUrl.store", lambda _: slow)
    async with Runtime.local("memory://", keys="memory://", placement=Sharded(1)) as runtime:
        slow.failing = True
        told: list[str] = []
        for n in range(60):
            try:
                await runtime.get(Person, str(n % 7)).register(f"name {n}.0.")
            except JournalFailed:
                continue
            told.append(f"name {n}.0.")
        slow.failing = False
        events = [each async for each in runtime.read()]
        assert [each.event["name"] for each in events] == told
        assert 0 < len(told) < 60
        store = runtime._cluster._journals[0].resident._server.store
        assert not any(b"name " in each.payload + (each.reply or b"") for each in await store.read_all())


# -- the command line --------------------------------------------------------------------------------------------


async def test_the_command_line_forgets_after_it_has_asked(folder: Path) -> None:
    """Not without a yes; `--json` is one object; what keeps it from running has a status of its own."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
    url, keys = f"sqlite:///{folder / 'journal' / 'people.db'}", f"sqlite:///{folder / 'keys' / 'keys.db'}"
    run = CliRunner().invoke
    command = ["forget", url, "customer", "0", "--keys", keys]
    declined = await asyncio.to_thread(run, cli, command, input="n\n")
    assert declined.exit_code == 1
    assert "can never be read again" in declined.output
    async with opened(folder) as runtime:
        assert (await runtime.get(Person, "0").look())[0] == SECRET
    done = await asyncio.to_thread(run, cli, [*command, "--yes", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["streams"] == ["Person/0"]
    assert (report["kind"], report["id"], report["generation"]) == ("customer", "0", 1)
    asked = await asyncio.to_thread(run, cli, command, input="y\n")
    assert asked.exit_code == 0
    assert "Person/0" in asked.output
    async with opened(folder) as runtime:
        assert (await runtime.get(Person, "0").look())[0] == ""
        busy = await asyncio.to_thread(run, cli, ["forget", f"{url}?lock_wait_s=0", *command[2:], "--yes"])
        assert busy.exit_code == 2
        assert "--address" in busy.output
    missing = await asyncio.to_thread(run, cli, ["forget", f"{url}.none", "customer", "0", "--keys", keys, "--yes"])
    assert missing.exit_code == 2
    assert not (folder / "journal" / "people.db.none").exists()


async def test_the_command_line_forgets_nobody_in_a_key_store_that_is_not_there(folder: Path) -> None:
    """A name that was mistyped would be a new store without a key, and the person would seem forgotten. Of somebody
    without a key it says so."""
    async with opened(folder) as runtime:
        await runtime.get(Person, "0").register(SECRET)
    url, keys = f"sqlite:///{folder / 'journal' / 'people.db'}", f"sqlite:///{folder / 'keys' / 'keys.db'}"
    mistyped = ["forget", url, "customer", "0", "--keys", f"{keys}.none", "--yes"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, mistyped)
    assert result.exit_code == 2, result.output
    assert "there is no such file" in result.output
    assert not (folder / "keys" / "keys.db.none").exists()
    nobody = ["forget", url, "customer", "nobody", "--keys", keys, "--yes"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, nobody)
    assert result.exit_code == 0, result.output
    assert "nothing was ever kept under a key of customer nobody" in result.output
