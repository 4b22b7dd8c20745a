"""Inspection: what it tells is what was written, whatever holds the journal; it changes nothing and holds nobody up."""

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hf_look import NOON, SECOND, Purse, Written, journal, make, new, paid, server

from holdfast.actors.errors import DefinitionError, HydrationFailed
from holdfast.actors.plain import DIFFERENCES_MAX, Difference, differences
from holdfast.journal import catalogue, sqlite_catalogue
from holdfast.journal.errors import (
    CorruptRecord,
    ForeignPartition,
    JournalOpenError,
    JournalUnavailable,
    JournalUrlError,
    NotAJournal,
    PartitionConflict,
)
from holdfast.journal.positions import Positions
from holdfast.journal.records import NewEvent, StreamId
from holdfast.journal.url import open_store
from holdfast.runtime.inspection import Inspection

KINDS = ["sqlite", "sqlite3", "memory3", "postgres", "postgres2"]
each_kind = pytest.mark.parametrize("kind", KINDS)
ANN = StreamId("Purse", "ann")
IDS = ["ann", "bob", "cid", "Ann", "a/b", "ä", "a%_b", "'; DROP TABLE events; --", "\x1b[31m", "\0"]


def time(seconds):
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOON + seconds * SECOND)


@each_kind
async def test_streams_are_listed_in_order_page_by_page(kind, tmp_path):
    """Each once, whatever its name is, with its version, and its partition; pages of any size give the same."""
    async with journal(kind, tmp_path) as (written, look):
        for id in IDS:
            await written.pay(id, 1, 2)
        await written.pay("zed", 1, category="Alpha")
        wanted = [StreamId("Alpha", "zed"), *(StreamId("Purse", id) for id in sorted(IDS))]
        for size in (1, 3, 100):
            found, after = [], None
            while page := await look.streams(after=after, limit=size):
                assert len(page) <= size
                found += page
                after = page[-1].stream
            assert [each.stream for each in found] == wanted
        assert [each.version for each in found] == [1, *[2] * len(IDS)]
        assert all(each.partition == look.partition_of(each.stream) for each in found)
        assert await look.streams(limit=0) == []


@each_kind
async def test_streams_are_found_by_a_part_of_their_id(kind, tmp_path, monkeypatch):
    """As text and not as a pattern, over as many transactions as it takes, within a category or in all."""
    monkeypatch.setattr(catalogue, "NAMES_AT_ONCE", 2)
    async with journal(kind, tmp_path) as (written, look):
        for id in IDS:
            await written.pay(id, 1)
        await written.pay("ann", 1, category="Alpha")
        for part in ("", "a", "nn", "%", "_", "'", "\x1b", "\0", "ä", "nothing"):
            wanted = sorted(id for id in IDS if part in id)
            found = await look.streams(category="Purse", contains=part)
            assert [each.stream.id for each in found] == wanted, part
            assert await look.count(category="Purse", contains=part) == len(wanted)
            assert [each.stream.id for each in await look.streams(category="Purse", contains=part, limit=2)] == wanted[
                :2
            ]
        assert await look.count(contains="nn") == 3
        assert [each.stream.category for each in await look.streams(contains="nn")] == ["Alpha", "Purse", "Purse"]
        found = await look.streams(contains="nn", after=StreamId("Alpha", "zed"), limit=1)
        assert [each.stream for each in found] == [StreamId("Purse", "Ann")]
        assert await look.streams(category="Nobody") == [] == await look.streams(category="Nobody", contains="a")


@each_kind
async def test_categories_are_counted_once_and_then_what_is_new(kind, tmp_path, monkeypatch):
    """In portions of any size, beside a writer that goes on."""
    monkeypatch.setattr(catalogue, "EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(catalogue, "STREAMS_AT_ONCE", 1)
    async with journal(kind, tmp_path) as (written, look):
        assert await look.categories() == []
        await written.pay("ann", 1, 2, 3)
        await written.pay("ann", 1, category="Alpha")
        for more in range(3):
            await written.pay(f"other{more}", *range(more + 1))
            told = [(each.name, each.streams, each.events) for each in await look.categories()]
            assert told == [("Alpha", 1, 1), ("Purse", 2 + more, 3 + sum(range(more + 2)))]
        assert await look.count() == 5
        assert await look.count(category="Purse") == 4
        both = await asyncio.gather(look.categories(), look.categories())
        assert both[0] == both[1] == await look.categories()


@each_kind
async def test_events_come_in_pages_forward_and_backward(kind, tmp_path):
    """With their fields as plain maps, the command that caused them, and the time."""
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("ann", *range(7))
        assert await look.head(ANN) == 7
        assert await look.head(StreamId("Purse", "nobody")) == 0
        forward = await look.events(ANN, after=2, limit=3)
        assert [(each.version, each.event) for each in forward] == [(v, {"amount": v - 1}) for v in (3, 4, 5)]
        assert [each.version for each in await look.events(ANN, limit=2, backward=True)] == [7, 6]
        assert [each.version for each in await look.events(ANN, after=3, backward=True)] == [2, 1]
        assert forward[0].context.command_id == "c3"
        assert forward[0].recorded_at == time(3)
        assert await look.events(StreamId("Purse", "nobody")) == []


@each_kind
async def test_the_version_at_a_time_is_that_of_the_last_event_until_then(kind, tmp_path):
    """The time of an event is part of what was before it."""
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("ann", *range(9))
        assert [await look.version_at(ANN, time(s)) for s in (0, 0.999, 1, 1.5, 5, 9, 1000)] == [0, 0, 1, 1, 5, 9, 9]
        assert await look.version_at(ANN, time(5).replace(tzinfo=None)) == 5
        assert await look.version_at(StreamId("Purse", "nobody"), time(5)) == 0


@each_kind
async def test_the_state_at_every_version_is_what_the_events_made(kind, tmp_path):
    """And beyond the last version it is the newest."""
    async with journal(kind, tmp_path, [Purse]) as (written, look):
        await written.pay("ann", 5, 7, 9)
        for version, total in ((0, 0), (1, 5), (2, 12), (3, 21), (4, 21), (None, 21)):
            view = await look.state(ANN, version)
            assert view.fields["total"] == total
            assert (
                view.fields["lines"] == [{"amount": amount} for amount in (5, 7, 9)[: min(version or 3, 3)]]
                or not version
            )
            assert view.version == (3 if version is None else min(version, 3))
        assert look.known == {"Purse"}


@each_kind
async def test_a_snapshot_is_used_where_it_is_not_too_new(kind, tmp_path):
    """One below the version is where the replay starts; for a version below it, the first event is."""
    async with journal(kind, tmp_path, [Purse]) as (written, look):
        await written.pay("ann", *[1] * 10)
        await written.snapshot("ann", 6)
        assert (await look.state(ANN, 5)).fields["total"] == 5
        later = await look.state(ANN, 8)
        assert (later.fields["total"], later.snapshot_version) == (1002, 6)
        assert later.rows_read == 3


@each_kind
async def test_without_its_class_a_state_is_none_and_changes_are_events(kind, tmp_path):
    """A journal is looked at from where no class of it is known."""
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("ann", 5)
        assert await look.state(ANN) is None
        (change,) = await look.changes(ANN)
        assert change.differences is None
        assert change.event.event == {"amount": 5}


@each_kind
async def test_changes_tell_what_each_event_changed(kind, tmp_path):
    """Place by place, before and after, from any version on."""
    async with journal(kind, tmp_path, [Purse]) as (written, look):
        await written.write(ANN, new("hf_look.opened", 1, owner="Ann"))
        await written.write(ANN, paid(2, 5), paid(3, 0), new("hf_look.tagged", 4, tag="x"))
        await written.write(ANN, new("hf_look.tagged", 5, tag="a"), new("hf_look.tagged", 6, tag="x"))
        changes = [change.differences for change in await look.changes(ANN)]
        assert changes == [
            (Difference(path="owner", before="", after="Ann"),),
            (Difference(path="total", before=0, after=5), Difference(path="lines[0]", after={"amount": 5})),
            (Difference(path="lines[1]", after={"amount": 0}),),
            (Difference(path="tags[0]", after="x"),),
            (Difference(path="tags[0]", after="a"),),
            (),
        ]
        later = await look.changes(ANN, after=1, limit=2)
        assert [each.differences for each in later] == changes[1:3]
        assert await look.changes(ANN, after=6) == []


@each_kind
async def test_the_newest_events_of_all_partitions_come_by_time(kind, tmp_path):
    """Page after page back to the first, of one category or of all; and from there forward again."""
    async with journal(kind, tmp_path) as (written, look):
        for number in range(12):
            await written.pay(f"p{number % 5}", number, category="Alpha" if number % 3 == 0 else "Purse")
        newest = await look.recent(limit=5)
        assert [each.event["amount"] for each in newest] == [11, 10, 9, 8, 7]
        before, found = Positions.start(look.partitions), []
        while page := await look.recent(limit=5, before=before):
            for each in page:
                before = before.past(each)
            found += page
        assert [each.event["amount"] for each in found] == list(range(11, -1, -1))
        assert [each.event["amount"] for each in await look.recent(category="Alpha", limit=3)] == [9, 6, 3]
        at, forward = Positions.start(look.partitions), []
        while page := (await look.after(at, limit=5))[0]:
            forward += page
            _, at = await look.after(at, limit=5)
        assert at == await look.positions()
        assert {each.event["amount"] for each in forward} == set(range(12))
        assert await look.recent(category="Nobody") == []


@each_kind
async def test_an_event_is_found_by_its_position(kind, tmp_path):
    """And nothing where there is none."""
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("ann", 5, 6)
        number = look.partition_of(ANN)
        assert (await look.event_at(number, 2)).event == {"amount": 6}
        assert [await look.event_at(*at) for at in ((number, 0), (number, 3), (-1, 1), (99, 1))] == [None] * 4


@each_kind
async def test_relations_of_an_event_are_found_over_partitions(kind, tmp_path):
    """What caused it, what it caused, and what else came of the same request; within reach."""
    meta = msgspec.msgpack.encode
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("noise", *range(5))
        request = msgspec.structs.replace(paid(10), command_id="request")
        cause = msgspec.structs.replace(
            paid(11), command_id="sent", metadata=meta({"causation_id": "request", "correlation_id": "request"})
        )
        effect = msgspec.structs.replace(
            paid(12), command_id="last", metadata=meta({"causation_id": "sent", "correlation_id": "request"})
        )
        for id, one in (("ann", request), ("bob", cause), ("cid", effect)):
            await written.write(StreamId("Purse", id), one, one)
        await written.pay("noise", *range(5))
        (event, _) = await look.events(StreamId("Purse", "bob"))
        related = await look.related(event)
        assert [(each.id, each.version) for each in related.causes] == [("ann", 1), ("ann", 2)]
        assert [(each.id, each.version) for each in related.effects] == [("cid", 1), ("cid", 2)]
        assert [(each.id, each.version) for each in related.command] == [("bob", 1), ("bob", 2)]
        assert [each.id for each in related.correlated] == ["ann", "ann", "bob", "bob", "cid", "cid"]
        assert related.complete
        near = await look.related(event, reach=1)
        assert not near.complete
        assert len(near.correlated) < 6


@each_kind
async def test_health_tells_how_far_and_how_large_it_is(kind, tmp_path):
    """Of each partition, and of each reader that keeps its checkpoint in the journal."""
    async with journal(kind, tmp_path) as (written, look):
        await written.pay("ann", 1, 2, 3)
        await written.snapshot("ann", 2)
        await written.checkpoint("mails", [1] * look.partitions)
        health = await look.health()
        assert (health.events, health.streams) == (3, 1)
        number = look.partition_of(ANN)
        assert health.partitions[number].latest == time(3)
        assert [part.head for part in health.partitions] == [3 if n == number else 0 for n in range(look.partitions)]
        contents = await look.contents()
        assert contents.snapshots == 1
        if kind != "memory3":
            assert health.bytes_on_disk > 0
            assert health.schema >= 2
            assert len(health.journal_id) == 32
            assert health.owners == 1
            ((name, lag),) = [(each.name, each.lag) for each in health.followers]
            assert (name, lag) == ("mails", 2)
            assert (contents.keyed_replies, contents.reminders) == (0, 0)


@each_kind
async def test_a_look_beside_a_writer_sees_each_commit(kind, tmp_path):
    """As soon as it was acknowledged, and never a part of one."""
    async with journal(kind, tmp_path, [Purse]) as (written, look):
        for version in range(1, 6):
            await written.pay("ann", 1)
            assert await look.head(ANN) == version
            assert (await look.state(ANN)).fields["total"] == version


async def test_random_journals_are_told_as_a_model_has_them(tmp_path):
    """Streams, counts and newest events of random journals, against plain lists."""
    seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
    print(f"HOLDFAST_SEED={seed}")
    rng = random.Random(seed)
    for kind in ("sqlite3", "memory3"):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        async with journal(kind, folder) as (written, look):
            model = {}
            for number in range(60):
                stream = StreamId(rng.choice(["A", "Ab", "B"]), rng.choice(["x", "xy", "y", "z/x", "é"]))
                await written.pay(stream.id, number, category=stream.category)
                model.setdefault(stream, []).append(number)
                part, size = rng.choice(["", "x", "y", "/"]), rng.randrange(1, 5)
                after = rng.choice([None, *model])
                wanted = sorted(s for s in model if part in s.id and (after is None or s > after))[:size]
                found = await look.streams(contains=part, after=after, limit=size)
                assert [(each.stream, each.version) for each in found] == [(s, len(model[s])) for s in wanted]
            told = {each.name: (each.streams, each.events) for each in await look.categories()}
            assert told == {
                name: (
                    sum(s.category == name for s in model),
                    sum(len(events) for s, events in model.items() if s.category == name),
                )
                for name in {s.category for s in model}
            }


# What is not there, and what is damaged


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none.db", JournalOpenError),
        ("folder", NotAJournal),
        ("text.db", NotAJournal),
        ("empty.db", NotAJournal),
        ("other.db", NotAJournal),
    ],
)
async def test_what_is_no_journal_is_refused_and_nothing_is_created(tmp_path, name, error):
    """By its kind, and the folder is as it was."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("hello" * 100)
    (tmp_path / "empty.db").touch()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error):
        await Inspection.open(f"sqlite:///{tmp_path}/{name}")
    assert sorted(tmp_path.iterdir()) == before


async def test_a_url_that_cannot_be_looked_at_is_refused(tmp_path):
    """One that names no journal, one that lives in a process, and a server that is not there."""
    with pytest.raises(JournalUrlError):
        await Inspection.open("nothing")
    with pytest.raises(JournalOpenError, match="cannot be looked at"):
        await Inspection.open("memory://")
    with pytest.raises(JournalUnavailable):
        await Inspection.open(f"postgres://nobody@:1/none?host={tmp_path}")


async def test_a_schema_without_a_journal_is_refused(tmp_path):
    """In a database that is there."""
    with pytest.raises(JournalOpenError, match="no journal in its schema"):
        await Inspection.open(server().url())


def test_partitions_are_found_without_being_told_and_must_be_of_one_journal(tmp_path):
    """A wrong count, and a partition of another journal, are told."""
    url = make(tmp_path / "one.db", ("ann", 1), partitions=2)
    make(tmp_path / "two.db", ("ann", 1), partitions=2)

    async def partitions(url):
        async with await Inspection.open(url) as look:
            return look.partitions

    assert asyncio.run(partitions(url)) == 2
    with pytest.raises(PartitionConflict):
        asyncio.run(partitions(f"{url}?partitions=3"))
    shutil.copy(tmp_path / "two.db.p1", tmp_path / "one.db.p1")
    with pytest.raises(ForeignPartition):
        asyncio.run(partitions(url))


def test_looking_leaves_no_file_behind_and_changes_none(tmp_path):
    """Neither beside a journal that nobody has open, nor in one."""
    url = make(tmp_path / "one.db", ("ann", 1, 2))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    async def look_at_all():
        async with await Inspection.open(url, [Purse]) as look:
            await look.categories()
            await look.streams(contains="a")
            await look.changes(ANN)
            await look.recent()
            await look.health()
            await look.contents()

    asyncio.run(look_at_all())
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_a_journal_in_a_folder_that_cannot_be_written_is_looked_at():
    """By a user who may read it and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-look-"))
    url = make(folder / "one.db", ("ann", 1, 2))
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)

    async def look_at_it():
        async with await Inspection.open(url, [Purse]) as look:
            return (await look.state(ANN)).fields["total"], await look.count()

    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        assert asyncio.run(look_at_it()) == (3, 1)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_a_look_follows_a_file_that_is_opened_closed_and_written_meanwhile(tmp_path):
    """One that began when nobody had it open."""
    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", 1))
    async with await Inspection.open(url, [Purse]) as look:
        for version in range(2, 5):
            assert await look.head(ANN) == version - 1
            written = await Written([open_store(url)]).start()
            written.versions[ANN] = version - 1
            written.epochs = [await written.stores[0].claim("host", f"life {version}")]
            await written.pay("ann", 1)
            assert await look.head(ANN) == version
            await written.close()
            assert (await look.state(ANN)).fields["total"] == version
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".writer")) != []


async def test_a_file_that_is_replaced_is_looked_at_anew(tmp_path):
    """As by a restored backup, one that is shorter too: counts begin again."""
    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", 1, 2, 3))
    other = await asyncio.to_thread(make, tmp_path / "two.db", ("bob", 1))
    async with await Inspection.open(url) as look:
        assert [each.events for each in await look.categories()] == [3]
        os.replace(other.removeprefix("sqlite:///"), tmp_path / "one.db")
        assert [each.stream.id for each in await look.streams()] == ["bob"]
        assert [each.events for each in await look.categories()] == [1]


def damage(path, position):
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_update")
        raw.execute("UPDATE events SET payload = x'81a161' WHERE position = ?", (position,))


async def test_a_damaged_event_is_told_with_its_place_and_hides_nothing_else(tmp_path):
    """The events before it come, then the error; after it they come again; other streams are whole."""
    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", *range(9)), ("bob", 1))
    damage(tmp_path / "one.db", 5)
    async with await Inspection.open(url, [Purse]) as look:
        assert [each.version for each in await look.events(ANN)] == [1, 2, 3, 4]
        assert [each.version for each in await look.events(ANN, after=5)] == [6, 7, 8, 9]
        assert [each.version for each in await look.events(ANN, backward=True)] == [9, 8, 7, 6]
        with pytest.raises(CorruptRecord) as caught:
            await look.events(ANN, after=4)
        assert (caught.value.stream, caught.value.version, caught.value.position) == ("Purse/ann", 5, 5)
        assert (await look.state(ANN, 4)).fields["total"] == 6
        with pytest.raises(CorruptRecord):
            await look.state(ANN)
        assert len(await look.changes(ANN)) == 4
        assert (await look.state(StreamId("Purse", "bob"))).fields["total"] == 1
        assert [each.stream.id for each in await look.streams()] == ["ann", "bob"]
        assert (await look.health()).events == 10


async def test_an_event_that_the_class_does_not_know_is_told(tmp_path):
    """The events can be looked at all the same."""
    async with journal("sqlite", tmp_path, [Purse]) as (written, look):
        await written.write(ANN, new("hf_look.unheard_of", 1))
        with pytest.raises(HydrationFailed, match="unheard_of"):
            await look.state(ANN)
        assert [each.type for each in await look.events(ANN)] == ["hf_look.unheard_of"]


async def test_values_that_only_their_codec_understands_are_shown_as_such(tmp_path):
    """An extension of MessagePack within a payload is no reason to show nothing."""
    payload = msgspec.msgpack.encode({"amount": 1, "name": msgspec.msgpack.Ext(42, b"secret")})
    one = NewEvent(type="hf_look.paid", payload=payload, command_id="c", recorded_at=NOON)
    async with journal("sqlite", tmp_path) as (written, look):
        await written.write(ANN, one)
        (change,) = await look.changes(ANN)
        assert change.event.event == {"amount": 1, "name": msgspec.msgpack.Ext(42, b"secret")}


async def test_two_classes_of_one_category_are_refused(tmp_path):
    """And so is what is no aggregate."""

    class Other(Purse, category="Purse"):
        pass

    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", 1))
    with pytest.raises(DefinitionError, match="belongs to"):
        await Inspection.open(url, [Purse, Other])
    with pytest.raises(DefinitionError, match="no aggregate"):
        await Inspection.open(url, [int])


async def test_a_file_that_is_opened_and_closed_all_the_time_is_told(tmp_path, monkeypatch):
    """Instead of trying for ever."""
    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", 1))
    async with await Inspection.open(url) as look:
        monkeypatch.setattr(sqlite_catalogue.Beside, "unchanged", property(lambda self: False))
        with pytest.raises(JournalUnavailable, match="all the time"):
            await look.head(ANN)


async def test_a_closed_look_answers_nothing(tmp_path):
    """And closing it twice is harmless."""
    url = await asyncio.to_thread(make, tmp_path / "one.db", ("ann", 1))
    look = await Inspection.open(url)
    await look.close()
    await look.close()
    with pytest.raises(JournalUnavailable):
        await look.head(ANN)


# Differences


def test_differences_are_empty_for_equals_and_name_each_place_once():
    """Of maps, lists and plain values, types included."""
    one = {"a": 1, "b": [1, 2, {"c": 3}], "d e": {}, "gone": None}
    other = {"a": 1.0, "b": [1, {"c": 4}], "d e": {"f": [1]}, "new": 0}
    assert differences(one, one) == []
    found = {each.path: (each.before, each.after) for each in differences(one, other)}
    unset = msgspec.UNSET
    assert found == {
        "a": (1, 1.0),
        "b[1]": (2, {"c": 4}),
        "b[2]": ({"c": 3}, unset),
        "['d e'].f": (unset, [1]),
        "gone": (None, unset),
        "new": (unset, 0),
    }


def test_what_is_taken_out_of_a_list_is_one_difference():
    """And what is put into it."""
    assert differences([1, 2, 3, 4], [1, 3, 4]) == [Difference(path="[1]", before=2)]
    assert differences([1, 3, 4], [1, 2, 3, 4]) == [Difference(path="[1]", after=2)]
    assert differences([1, 1], [1]) == [Difference(path="[1]", before=1)]


def test_differences_of_one_event_are_bounded():
    """However much it changes."""
    assert len(differences({}, {str(n): n for n in range(DIFFERENCES_MAX * 2)})) == DIFFERENCES_MAX
