"""Files that are damaged: cut short, with bytes flipped, with rotten snapshots, with events that nobody knows.

Whatever is wrong, callers see an error of ours that names what is damaged, and what is intact goes on; nothing else
escapes, and no state is invented. Hundreds of damaged copies, from a seed that is printed.
"""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter

import msgspec
import pytest

from holdfast.actors import Aggregate, command, event, on, query
from holdfast.actors.errors import HydrationFailed
from holdfast.journal.errors import CorruptRecord, HoldfastError, JournalOpenError, NotAJournal, PlacementConflict
from holdfast.journal.records import Append, Appended, Load, Loaded, NewEvent, StreamId
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions
from holdfast.runtime import Config, Runtime, Sharded

OPTIONS = SqliteOptions(lock_wait_s=0.0, cache_mib=1)
NAMES = [f"ledger-{number}" for number in range(12)]
LENGTH = 20
COPIES, PROGRAMS = 200, 40
SEED = random.randrange(1 << 32)


@event("ledger.entered")
class Entered:
    text: str


class Ledger(Aggregate, snapshot_every=8):
    entries: list[str] = []

    @command
    def enter(self, text: str) -> int:
        self.emit(Entered(text))
        return len(self.entries)

    @query
    def read(self) -> list[str]:
        return self.entries

    @on(Entered)
    def _entered(self, event: Entered) -> None:
        self.entries.append(event.text)


def entry(name, number):
    return f"{name} {number} " + "x" * (97 * (number % 9))


def expected(name):
    """What a ledger holds."""
    return [entry(name, number) for number in range(LENGTH)]


def expected_payloads(name):
    return [msgspec.msgpack.encode({"text": text}) for text in expected(name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A journal of a dozen ledgers, and what they hold; closed, so that it is one file."""
    path = tmp_path_factory.mktemp("whole") / "ledgers.db"

    async def write():
        async with Runtime.local(f"sqlite:///{path}", placement=Sharded(2)) as runtime:
            for number in range(LENGTH):
                for name in NAMES:
                    await runtime.get(Ledger, name).enter(entry(name, number))

    asyncio.run(write())
    return path


async def asked(call, *args, **how):
    """The answer, or the error of ours; any other error is the test's."""
    try:
        return await call(*args, **how)
    except HoldfastError as error:
        return error


async def pages(read, place):
    """Everything, page by page, or the error that it ended in."""
    found, page = [], await asked(read, after=0)
    while page and not isinstance(page, HoldfastError):
        found += page
        page = await asked(read, after=place(page[-1]))
    return page if isinstance(page, HoldfastError) else found


@dataclass
class Seen:
    """What a reader meets in a damaged file. An error stands where the right thing could not be had."""

    opening: HoldfastError | None = None
    loaded: dict[str, object] = field(default_factory=dict)
    streams: dict[str, object] = field(default_factory=dict)
    everything: object = None
    others: list[object] = field(default_factory=list)

    @property
    def errors(self):
        all = [self.opening, *self.loaded.values(), *self.streams.values(), self.everything, *self.others]
        return [each for each in all if isinstance(each, HoldfastError)]

    def wrong(self):
        """What was shown, without an error, and is not what was written."""
        wrong = []
        for name in self.streams:
            stream, loaded = self.streams[name], self.loaded[name]
            if isinstance(stream, list) and [event.payload for event in stream] != expected_payloads(name):
                wrong.append(f"{name}: {len(stream)} events")
            if isinstance(loaded, Loaded) and loaded.head != LENGTH:
                wrong.append(f"{name}: loaded at {loaded.head}")
        if isinstance(self.everything, list) and len(self.everything) != LENGTH * len(NAMES):
            wrong.append(f"the journal: {len(self.everything)} events")
        return wrong


async def look(path):
    """Read every stream, the whole journal and the catalogue of a file, through the store."""
    seen, store = Seen(), SqliteStore(path, OPTIONS)
    seen.opening = await asked(store.open)
    if seen.opening is not None:
        return seen
    names = {name: StreamId("Ledger", name) for name in NAMES}
    loaded = await asked(store.load, [Load(stream=stream) for stream in names.values()])
    answers = [loaded] * len(NAMES) if isinstance(loaded, HoldfastError) else loaded
    seen.loaded = dict(zip(NAMES, answers, strict=True))
    for name, stream in names.items():
        seen.streams[name] = await pages(partial(store.read_stream, stream), attrgetter("version"))
        seen.others += [await asked(store.list_snapshots, stream), await asked(store.find_keyed, stream, ["k"])]
        seen.others += [await asked(store.read_stream, stream, backward=True)]
    seen.everything = await pages(store.read_all, attrgetter("position"))
    seen.others += [await asked(ask) for ask in (store.list_streams, store.head, store.statistics)]
    await store.close()
    return seen


async def use(path):
    """What a program sees that reads every ledger and enters something: for each name its entries, or an error."""
    seen = {}
    config = Config(timeout_s=5, journal_patience_s=0.2)
    async with Runtime.local(f"sqlite:///{path}?lock_wait_s=0", placement=Sharded(2), config=config) as runtime:
        for name in NAMES:
            seen[name] = await asked(runtime.get(Ledger, name).read)
            if isinstance(seen[name], list):
                seen[name] = list(seen[name])
                length = await asked(runtime.get(Ledger, name).enter, "after")
                assert isinstance(length, HoldfastError) or length == len(seen[name]) + 1
    return seen


def problems(path):
    """What SQLite's own check finds."""
    try:
        with closing(sqlite3.connect(path)) as raw:
            found = [row[0] for row in raw.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [] if found == ["ok"] else found


@pytest.mark.parametrize("part", range(1, 10))
async def test_a_file_that_was_cut_short_is_refused_or_read_as_far_as_it_goes(whole, tmp_path, part):
    """Cut at tenths of its length, in the middle of a page: what is gone is told, what is there is right."""
    path, content = tmp_path / "cut.db", whole.read_bytes()
    path.write_bytes(content[: len(content) * part // 10 + part])
    seen = await look(path)
    assert seen.errors
    assert not seen.wrong()
    assert {type(error) for error in seen.errors} <= {CorruptRecord, NotAJournal, JournalOpenError}


def anywhere(path):
    """The places of a file that are changed: not in the header, whose bytes say what kind of file it is."""
    return range(100, path.stat().st_size)


def in_indexes(path):
    """Those of what SQLite finds rows by, as far as anything stands there: it has no checksums of ours."""
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as raw:
        pages = raw.execute(
            "SELECT pgoffset, pgoffset + pgsize FROM dbstat"
            " WHERE name LIKE 'sqlite_autoindex_%' OR name IN ('streams', 'categories', 'events_of_category')"
        ).fetchall()
    return [place for page in pages for place in range(*page) if content[place]]


def flipped(content, places, chance, counts=(1, 1, 3)):
    """A copy with one to three bytes changed."""
    copy = bytearray(content)
    for _ in range(chance.choice(counts)):
        copy[chance.choice(places)] ^= chance.randrange(1, 256)
    return bytes(copy)


@pytest.mark.parametrize(("where", "counts"), [(anywhere, (1, 1, 3)), (in_indexes, (1,))])
async def test_flipped_bytes_are_told_and_what_is_intact_is_right(whole, tmp_path, where, counts):
    """Whatever a reader is shown without an error is what was written, and every error is `CorruptRecord`, or says
    that the file cannot be opened.

    What an index has lost is told from what stands beside it: its neighbours, the newest event, the rows that it leads
    to, and, in a journal of up to a hundred thousand streams, SQLite's own check of the index of names. Several
    damages of one index at once can be such that nothing beside them tells; `verify` does."""
    print(f"seed {SEED}")
    chance, content, places = random.Random(SEED), whole.read_bytes(), where(whole)
    told = 0
    for number in range(COPIES):
        path = tmp_path / f"{number}.db"
        path.write_bytes(flipped(content, places, chance, counts))
        seen = await look(path)
        assert {type(error) for error in seen.errors} <= {CorruptRecord, NotAJournal, JournalOpenError}, seen.errors
        assert not seen.wrong(), f"copy {number}: {seen.wrong()}, {problems(path)}"
        told += bool(seen.errors)
    assert told > COPIES // 10


async def test_a_program_on_a_damaged_file_shows_right_states_or_says_what_is_wrong(whole, tmp_path):
    """Through `Runtime.local`, with hydration from snapshots and appends: intact ledgers are read and written."""
    print(f"seed {SEED}")
    chance, content = random.Random(SEED + 1), whole.read_bytes()
    intact = damaged = 0
    for number in range(PROGRAMS):
        path = tmp_path / f"{number}.db"
        path.write_bytes(flipped(content, anywhere(whole), chance))
        seen = await asked(use, path)
        if isinstance(seen, HoldfastError):
            assert isinstance(seen, JournalOpenError | CorruptRecord), seen
            continue
        for name, entries in seen.items():
            if isinstance(entries, HoldfastError):
                damaged += 1
                assert isinstance(entries, CorruptRecord | HydrationFailed | PlacementConflict), entries
            else:
                intact += 1
                assert entries == expected(name), f"copy {number}: {name}, {problems(path)}"
    assert intact > damaged


async def test_events_that_nobody_knows_are_named_and_others_go_on(tmp_path):
    """An event of a type that the code does not handle, or whose payload is another structure: `HydrationFailed` with
    stream, version and position; other aggregates are as they were."""
    path = tmp_path / "ledgers.db"
    async with Runtime.local(f"sqlite:///{path}") as runtime:
        for name in ("strange", "odd", "fine"):
            await runtime.get(Ledger, name).enter("first")
    store = SqliteStore(path, OPTIONS)
    await store.open()
    epoch = await store.claim("stranger", "one")
    strange = NewEvent(type="ledger.unknown", payload=b"\x80", command_id="c", recorded_at=0)
    odd = NewEvent(type="ledger.entered", payload=b"\x81\xa4text\x07", command_id="c", recorded_at=0)
    for name, unknown in (("strange", strange), ("odd", odd)):
        stream = StreamId("Ledger", name)
        append = Append(stream=stream, owner="stranger", epoch=epoch, expected_version=1, events=(unknown,))
        assert [type(each) for each in await store.append([append])] == [Appended]
    await store.close()
    async with Runtime.local(f"sqlite:///{path}") as runtime:
        for name, position in (("strange", 4), ("odd", 5)):
            with pytest.raises(HydrationFailed) as failed:
                await runtime.get(Ledger, name).read()
            assert (failed.value.stream, failed.value.version, failed.value.position) == (f"Ledger/{name}", 2, position)
        assert await runtime.get(Ledger, "fine").enter("second") == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE snapshots SET schema = 'another'",
        "UPDATE snapshots SET payload = x'c1'",
        "UPDATE snapshots SET payload = zeroblob(100)",
        "UPDATE snapshots SET version = version - 1 WHERE version = 16",
        "DELETE FROM snapshots",
    ],
)
async def test_a_snapshot_that_is_of_no_use_is_passed_over(whole, tmp_path, change):
    """Of another schema, rotten, moved to another version, or gone: the state is what the events say."""
    path = tmp_path / "ledgers.db"
    shutil.copy(whole, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        assert raw.execute(change).rowcount > 0
    seen = await use(path)
    assert seen == {name: expected(name) for name in NAMES}


async def test_events_that_went_missing_below_a_snapshot_are_told(whole, tmp_path):
    """The newest event is gone, its snapshot is not: new events would take its version, and the snapshot would pass for
    a snapshot of those."""
    path = tmp_path / "ledgers.db"
    shutil.copy(whole, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_keep_delete")
        ((stream, newest),) = raw.execute("SELECT stream, max(version) FROM snapshots").fetchall()
        raw.execute("DELETE FROM events WHERE stream = ? AND version >= ?", (stream, newest))
        ((id,),) = raw.execute("SELECT id FROM streams WHERE key = ?", (stream,)).fetchall()
    async with Runtime.local(f"sqlite:///{path}", placement=Sharded(2)) as runtime:
        with pytest.raises(CorruptRecord, match="snapshot of version") as told:
            await runtime.get(Ledger, id).enter("new")
        assert (told.value.stream, told.value.version) == (f"Ledger/{id}", newest)
        others = [name for name in NAMES if name != id]
        assert len(await asyncio.gather(*(runtime.get(Ledger, name).enter("x") for name in others))) == len(others)


async def test_a_damaged_index_of_snapshots_is_in_the_way_of_those_alone_who_look_for_one(whole, tmp_path):
    """Events are read and resent commands recognised as ever; who hydrates is told."""
    path = tmp_path / "ledgers.db"
    shutil.copy(whole, path)
    break_page(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_snapshots_1'")
    store = SqliteStore(path, OPTIONS)
    await store.open()
    for stream in (StreamId("Ledger", name) for name in NAMES):
        events = await store.read_stream(stream)
        assert [event.payload for event in events] == expected_payloads(stream.id)
        replies = await store.find_replies(stream, [events[-1].command_id], window=LENGTH)
        assert [reply.version for reply in replies.values()] == [LENGTH]
        assert await store.find_keyed(stream, ["none"]) == {}
        (loaded,) = await store.load([Load(stream=stream)])
        assert isinstance(loaded, CorruptRecord)
    await store.close()


@pytest.mark.parametrize("elsewhere", [100, 0])
async def test_a_name_that_leads_to_a_stream_without_events_is_told(whole, tmp_path, elsewhere):
    """An index entry of which the key alone is damaged: the ledger is not shown empty, and takes no events."""
    path, name = tmp_path / "ledgers.db", NAMES[3]
    shutil.copy(whole, path)
    with closing(sqlite3.connect(path)) as raw:
        select = "SELECT pgoffset FROM dbstat WHERE name = 'sqlite_autoindex_streams_1'"
        ((offset,),) = raw.execute(select).fetchall()
        ((key,),) = raw.execute("SELECT key FROM streams WHERE id = ?", (name,)).fetchall()
    content = bytearray(path.read_bytes())
    content[content.index(name.encode() + bytes([key]), offset) + len(name)] = elsewhere
    path.write_bytes(content)
    stream, store = StreamId("Ledger", name), SqliteStore(path, OPTIONS)
    await store.open()
    epoch = await store.claim("host", "one")
    (loaded,) = await store.load([Load(stream=stream)])
    new = (NewEvent(type="ledger.entered", payload=b"\x80", command_id="c", recorded_at=0),)
    (appended,) = await store.append([Append(stream=stream, owner="host", epoch=epoch, expected_version=0, events=new)])
    asked_for = [await asked(store.read_stream, stream), await asked(store.find_keyed, stream, ["k"]), loaded, appended]
    assert {(type(error), error.stream) for error in asked_for} == {(CorruptRecord, str(stream))}
    assert not (await look(path)).wrong()
    await store.close()


async def test_an_index_that_shows_fewer_events_than_there_are_is_told(whole, tmp_path):
    """Each entry of one ledger in turn: its place taken by the first of the next ledger, behind which a search for the
    ledger's newest event goes astray; and the newest one's version below zero."""
    content, name = whole.read_bytes(), NAMES[7]
    with closing(sqlite3.connect(whole)) as raw:
        pages = raw.execute(
            "SELECT pgoffset FROM dbstat WHERE name = 'sqlite_autoindex_events_1' AND pagetype = 'leaf'"
        ).fetchall()
        ((key,),) = raw.execute("SELECT key FROM streams WHERE id = ?", (name,)).fetchall()
        select = "SELECT stream, version, position FROM events WHERE stream IN (?, ?) ORDER BY stream, version"
        rows = raw.execute(select, (key, key + 1)).fetchall()
    cells = {(stream, version): index_entry(stream, version, position) for stream, version, position in rows}
    copies = []
    for (page,) in pages:
        count = int.from_bytes(content[page + 3 : page + 5], "big")
        places = [page + 8 + 2 * number for number in range(count)]
        found = {
            each: at
            for at in places
            for each, cell in cells.items()
            if content.startswith(cell, page + int.from_bytes(content[at : at + 2], "big") + 1)  # behind its length
        }
        mine = [at for (stream, _), at in found.items() if stream == key]
        if (key + 1, 1) in found:
            pointer = content[found[key + 1, 1] :][:2]
            copies += [content[:at] + pointer + content[at + 2 :] for at in mine]
        if (key, LENGTH) in found:
            version = page + int.from_bytes(content[found[key, LENGTH] :][:2], "big") + 1 + 4 + 1
            copies.append(content[:version] + b"\xe2" + content[version + 1 :])
    assert len(copies) > LENGTH // 2
    for number, copy in enumerate(copies):
        path = tmp_path / f"{number}.db"
        path.write_bytes(copy)
        seen = await look(path)
        assert seen.errors
        assert {type(error) for error in seen.errors} == {CorruptRecord}
        assert not seen.wrong(), f"copy {number}: {seen.wrong()}, {problems(path)}"


def index_entry(stream, version, position):
    """What SQLite has of an event in its index: the sizes of three numbers, and the numbers; a 1 is a size alone."""
    width = 1 if position < 128 else 2
    sizes, numbers = ([1, 9], [stream]) if version == 1 else ([1, 1], [stream, version])
    return bytes([4, *sizes, width, *numbers]) + position.to_bytes(width, "big")


def appends(version, count):
    """One append to each stream."""
    event = NewEvent(type="ledger.entered", payload=b"\x80", command_id="c", recorded_at=0)
    return [
        Append(
            stream=StreamId("Ledger", name), owner="host", epoch=1, expected_version=version, events=(event,) * count
        )
        for name in NAMES
    ]


async def test_a_damaged_stream_does_not_keep_its_neighbours_from_being_written(tmp_path):
    """In one batch: the appends to streams whose pages are intact are written, and positions go on."""
    path, length = tmp_path / "ledgers.db", 400
    store = SqliteStore(path, OPTIONS)
    await store.open()
    await store.claim("host", "one")
    await store.append(appends(0, length))
    await store.close()
    index = "FROM dbstat WHERE name = 'sqlite_autoindex_events_1' AND pagetype = 'leaf' ORDER BY path"
    break_page(path, f"SELECT pageno {index} LIMIT 1 OFFSET 5")
    store = SqliteStore(path, OPTIONS)
    await store.open()
    results = dict(zip(NAMES, await store.append(appends(length, 1)), strict=True))
    written = [name for name in NAMES if isinstance(results[name], Appended)]
    damaged = [name for name in NAMES if isinstance(results[name], CorruptRecord)]
    assert written
    assert damaged
    assert len(written) + len(damaged) == len(NAMES)
    assert [results[name].stream for name in damaged] == [f"Ledger/{name}" for name in damaged]
    assert [event.stream.id for event in await store.read_all(after=length * len(NAMES))] == written
    await store.close()


async def test_a_journal_whose_newest_page_is_broken_takes_no_events_and_says_so(whole, tmp_path):
    """Every append ends in `CorruptRecord`, which is not retryable, instead of trying again for ever."""
    path = tmp_path / "ledgers.db"
    shutil.copy(whole, path)
    break_page(path, "SELECT max(pageno) FROM dbstat WHERE name = 'events' AND pagetype = 'leaf'")
    async with Runtime.local(f"sqlite:///{path}", placement=Sharded(2), config=Config(timeout_s=10)) as runtime:
        for name in ("new", "newer"):
            with pytest.raises(CorruptRecord):
                await runtime.get(Ledger, name).enter("text")


def break_page(path, query):
    """Fill the beginning of the page that the query names with what is no page."""
    with closing(sqlite3.connect(path)) as raw:
        (page,) = raw.execute(query).fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)
