"""Looking at a journal with personal data, without its keys: whoever looks is told whose it is, and trips over nothing.
States have it blank, as after forgetting everybody, and an archive takes it along as it is."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from hf_look import Purse, Written, new
from hf_people import SECRET, Person
from msgspec.structs import replace

from holdfast.actors.check import check, readers_of
from holdfast.actors.errors import HydrationFailed
from holdfast.journal.marked import SEALED, marked
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import StreamId
from holdfast.journal.sealed import keyless, shown, unparsed
from holdfast.journal.verify_source import StoreSource
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.cli import cli
from holdfast.runtime.inspection import Inspection

ADA = StreamId("Person", "7")
NOTE = f"met {SECRET} " * 30
CONFIGS = {"plain": Config(), "compressed": Config(compress_from=64)}


class Kept(NamedTuple):
    """A journal with personal data, its key store, and what is expected of it."""

    url: str
    keys: str
    folder: Path

    def run(self, *args: str) -> Any:
        return CliRunner().invoke(cli, [args[0], self.url, *args[1:]], env={"HOLDFAST_URL": None})

    def maps(self, *args: str) -> list[Any]:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module", params=["plain", "compressed", "partitions"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Events, snapshots, replies, keyed ones; of a person who is known, and of one who was forgotten."""
    folder = tmp_path_factory.mktemp("kept")
    url, keys = f"sqlite:///{folder / 'people.db'}", f"sqlite:///{folder / 'keys.db'}"

    async def made() -> None:
        options = "?partitions=3" if request.param == "partitions" else ""
        config = CONFIGS.get(request.param)
        async with Runtime.local(f"{url}{options}", keys=keys, config=config, placement=Sharded(2)) as runtime:
            for id in ("7", "8"):
                for city in ("Paris", "Turin", "Vaasa " * 40):
                    await runtime.get(Person, id).register(SECRET, city)
                await runtime.get(Person, id, idempotency_key="once").note("ann" if id == "7" else "bo", NOTE)
                await runtime.passivate(Person, id)
                await runtime.get(Person, id).register(SECRET, "Rome")
            await runtime.forget("customer", "8")

    asyncio.run(made())
    return Kept(url, keys, folder)


def test_show_says_whose_a_sealed_value_is(kept: Kept) -> None:
    """In words and in JSON, for those who are known as for those who were forgotten: there are no keys to tell."""
    for id in ("7", "8"):
        events = kept.maps("show", f"Person/{id}")
        assert [each["payload"].get("name") for each in events if "name" in each["payload"]] == [
            f"<personal: customer {id}>"
        ] * 4
        assert next(each["payload"] for each in events if "text" in each["payload"]) == {
            "author_id": "ann" if id == "7" else "bo",
            "text": f"<personal: author {'ann' if id == '7' else 'bo'}>",
            "mood": f"<personal: author {'ann' if id == '7' else 'bo'}>",
        }
    words = kept.run("show", str(ADA)).stdout
    assert '{"name":"<personal: customer 7>","city":"Paris"}' in words
    assert SECRET not in words


def test_show_tells_states_and_changes_with_personal_data_blank(kept: Kept) -> None:
    """At every version, and says that it is blank; the city, which is not personal, is there."""
    for version in range(6):
        result = kept.run("show", str(ADA), "--at", str(version), "--diff", "--json", "--module", "hf_people")
        assert result.exit_code == 0, result.output
        assert "personal data is sealed" in result.stderr
        found = json.loads(result.stdout)
        city = ["", "Paris", "Turin", "Vaasa " * 40, "Vaasa " * 40, "Rome"][version]
        assert found["state"] == {"name": "", "city": city, "notes": ["(removed)"] if version > 3 else []}
        paths = [[one["path"] for one in each["changes"]] for each in found["events"]]
        assert paths == [["city"], ["city"], ["city"], ["notes[0]"], ["city"]][:version]
    words = kept.run("show", str(ADA), "--at", "5", "--diff", "--module", "hf_people")
    assert words.exit_code == 0, words.output
    assert 'notes[0]: (none) → "(removed)"' in words.stdout


def test_tail_shows_sealed_events_and_those_of_who_was_forgotten(kept: Kept) -> None:
    """The record that somebody was forgotten is among them, with ids alone."""
    events = kept.maps("tail", "-n", "100")
    assert len(events) == 11
    assert [each["payload"] for each in events if each["type"] == "holdfast.forgotten"] == [
        {"kind": "customer", "id": "8", "generation": 1}
    ]
    assert SECRET not in kept.run("tail", "-n", "100").stdout


async def test_inspection_gives_states_as_if_everybody_were_forgotten(kept: Kept) -> None:
    """Equal to a fold of the events as they read without keys; sealed snapshots are of no use and no harm."""
    async with await Inspection.open(kept.url, classes=[Person]) as look:
        assert look.blanked == {"Person"}
        events = await look.events(ADA)
        for version in range(len(events) + 1):
            state = await look.state(ADA, version)
            assert state is not None
            model = {"name": "", "city": "", "notes": list[str]()}
            for event in events[:version]:
                fields = {**event.event}
                if "city" in fields:
                    model["city"] = fields["city"]
                else:
                    model["notes"].append("(removed)")
            assert (state.fields, state.snapshot_version) == (model, 0)
        assert not any(SECRET.encode() in keyless(each.record).payload for each in events)


async def test_inspection_starts_from_a_snapshot_that_was_compressed(tmp_path: Path) -> None:
    """Of an aggregate without personal data; what is compressed needs no key."""
    url = f"sqlite:///{tmp_path / 'purses.db'}"
    async with Runtime.local(url, config=Config(compress_from=64), placement=Sharded(1)) as runtime:
        for n in range(50):
            await runtime.get(Purse, "ann").tag(f"a rather long tag, number {n} " * 10)
        await runtime.passivate(Purse, "ann")
        expected = (await runtime.state_at(Purse, "ann")).tags
    async with await Inspection.open(url, classes=[Purse]) as look:
        state = await look.state(StreamId("Purse", "ann"))
        assert state is not None
        assert (state.snapshot_version, state.rows_read, set(state.fields["tags"])) == (50, 1, expected)
        assert look.blanked == set()
        (change,) = await look.changes(StreamId("Purse", "ann"), after=49)
        assert change.differences


def test_check_reads_sealed_events_as_if_forgotten(kept: Kept) -> None:
    """Of aggregates, projections and reactions: all of them would load."""
    result = kept.run("check", "--module", "hf_people", "--all", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["good"]) == (0, True), result.output
    readers = {each["type"]: each["readers"] for each in found["types"]}
    assert readers["hf_people.registered"] == ["Person", "Greeter", "Counter", "People"]


def test_verify_with_its_classes_finds_nothing_wrong(kept: Kept) -> None:
    """Replays, with sealed snapshots beside them."""
    result = kept.run("verify", "--module", "hf_people")
    assert result.exit_code == 0, result.output


def test_sealed_values_survive_an_archive_and_their_key_store_opens_them_in_the_copy(kept: Kept) -> None:
    """Digests are equal, also into another number of partitions; who was forgotten stays it, and the same forgetting
    finds the streams of who is forgotten in the copy."""
    archive = kept.folder / "people.hfa"
    assert kept.run("export", "-o", str(archive), "--snapshots", "--force").exit_code == 0
    assert SECRET.encode() not in archive.read_bytes()
    for partitions in (1, 2):
        copy = Kept(f"sqlite:///{kept.folder / f'copy{partitions}.db'}", kept.keys, kept.folder)
        into = f"{copy.url}?partitions={partitions}"
        result = CliRunner().invoke(cli, ["import", into, "-i", str(archive)])
        assert result.exit_code == 0, result.output
        (one,), (other,) = kept.maps("digest"), copy.maps("digest")
        assert (one["digest"], one["categories"]) == (other["digest"], other["categories"])
        assert copy.run("verify", "--module", "hf_people").exit_code == 0
        own = kept.folder / f"keys{partitions}.db"  # forgetting destroys those that the other tests need
        own.write_bytes(Path(kept.keys.removeprefix("sqlite:///")).read_bytes())
        asyncio.run(_opens(own, into))


async def _opens(own: Path, into: str) -> None:
    async with Runtime.local(into, keys=f"sqlite:///{own}", placement=Sharded(2)) as runtime:
        assert await runtime.get(Person, "7").look() == (SECRET, [NOTE])
        assert await runtime.get(Person, "8").look() == ("", [NOTE])
        assert await runtime.get(Person, "7", idempotency_key="once").note("ann", NOTE) == 1
        report = await runtime.forget("customer", "7")
        assert report.streams == ("Person/7",)
        assert await runtime.get(Person, "7").look() == ("", [NOTE])


async def test_who_was_forgotten_in_one_copy_is_blank_in_the_other_and_can_be_forgotten_there_again(kept: Kept) -> None:
    """Two journals with one key store, as after a restore of a backup. The record of it is made anew."""
    folder = Path(f"{kept.folder}-copies")
    await asyncio.to_thread(shutil.copytree, kept.folder, folder)
    urls, keys = (
        [f"sqlite:///{folder / 'people.db'}", f"sqlite:///{folder / 'other.db'}"],
        f"sqlite:///{folder / 'keys.db'}",
    )
    partitions = (await look_at(kept.url)).partitions
    assert (await asyncio.to_thread(kept.run, "backup", str(folder / "other.db"))).exit_code == 0
    reports = []
    for url in urls:
        async with Runtime.local(f"{url}?partitions={partitions}", keys=keys, placement=Sharded(2)) as runtime:
            forgotten = [SECRET, ""][len(reports)]
            assert (await runtime.get(Person, "7").look())[0] == forgotten
            reports.append(await runtime.forget("customer", "7"))
            assert await runtime.get(Person, "7").look() == ("", [NOTE])
            records = [each.event async for each in runtime.read() if each.stored_type == "holdfast.forgotten"]
            assert [each["id"] for each in records] == ["8", "7"]
    assert [(each.generation, each.streams) for each in reports] == [(1, ("Person/7",))] * 2


async def look_at(url: str) -> Inspection:
    async with await Inspection.open(url) as look:
        return look


async def test_a_sealed_value_that_is_damaged_is_told_where_it_is_and_hurts_nothing_before_it() -> None:
    """Nonsense behind a mark, which no checksum tells."""
    written = await Written([MemoryStore()]).start()
    nonsense = unparsed({"name": marked(SEALED, b"nonsense"), "city": "Paris"})
    good = unparsed({"name": "", "city": "Turin"})
    for number, payload in enumerate((good, nonsense)):
        await written.write(ADA, replace(new("hf_people.registered", number), payload=payload))
    look = Inspection.over(written.stores, classes=[Person])
    assert [shown(each.event)["name"] for each in await look.events(ADA)] == ["", "<personal: unreadable>"]
    before = await look.state(ADA, 1)
    assert before is not None
    assert before.fields["city"] == "Turin"
    assert len(await look.changes(ADA, 0, 1)) == 1
    for failing in (look.state(ADA), look.changes(ADA)):
        with pytest.raises(HydrationFailed) as caught:
            await failing
        assert caught.value.version == 2
    report = await check([StoreSource(written.stores[0])], readers_of([Person]))
    assert (report.good, report.types[0].failed) == (False, 1)
    assert "no sealed value" in report.types[0].problem
