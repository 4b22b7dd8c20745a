"""Pages are bounded by bytes as well as by count, and their readers get everything all the same."""

import pytest

from holdfast.actors import Aggregate, event, on
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalBusy
from holdfast.journal.pages import LOADS_BYTES_MAX, PAGE_BYTES_MAX, weight
from holdfast.journal.records import Load, Loaded, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.wire import decode_page, encode

ALICE = StreamId("Account", "alice")
LARGE = PAGE_BYTES_MAX * 3 // 8
"""Bytes of an event of which two go into a page, and three do not."""


def large(scribe, id, **fields):
    return scribe.event(id, payload=b"\xc6" + (LARGE - 5).to_bytes(4, "big") + bytes(LARGE - 5), **fields)


async def pages(read, place):
    """The lengths of the pages, and all events."""
    lengths, events, after = [], [], 0
    while page := await read(after=after):
        assert sum(map(weight, page)) <= PAGE_BYTES_MAX or len(page) == 1
        lengths.append(len(page))
        events += page
        after = place(page[-1])
    return lengths, events


async def test_a_page_ends_before_it_holds_too_many_bytes(journal):
    """Of a stream, forward and backward, of the whole journal and of a category; what follows is on the next page."""
    async with journal() as scribe:
        for number in range(5):
            await scribe.append(large(scribe, f"c{number}"), at=number)
        await scribe.append("small", at=5)
        store, ids = scribe.store, ["c0", "c1", "c2", "c3", "c4", "small"]
        for read, place in (
            (lambda after: store.read_stream(ALICE, after=after), lambda event: event.version),
            (lambda after: store.read_all(after=after), lambda event: event.position),
            (lambda after: store.read_all(after=after, category="Account"), lambda event: event.position),
        ):
            lengths, events = await pages(read, place)
            assert lengths == [2, 2, 2]
            assert [event.command_id for event in events] == ids
        newest = await store.read_stream(ALICE, backward=True)
        assert [event.version for event in newest] == [6, 5, 4]
        older = await store.read_stream(ALICE, backward=True, after=4)
        assert [event.version for event in older] == [3, 2]


async def test_a_packed_page_is_the_page_that_is_read(journal):
    """As it travels; of a category, too; an empty one ends at no position."""
    async with journal() as scribe:
        await scribe.fill(5)
        store = scribe.store
        for how in ({}, {"after": 2}, {"limit": 2}, {"category": "Account"}, {"after": 1, "limit": 3}):
            page, reached = await store.pack_all(**how)
            assert decode_page(page) == await store.read_all(**how) != []
            assert reached == decode_page(page)[-1].position
        for how in ({"after": 5}, {"category": "Nobody"}, {"limit": 0}):
            assert await store.pack_all(**how) == (encode([]), 0)


@pytest.mark.parametrize("part", ["payload", "metadata", "reply"])
async def test_an_event_larger_than_a_page_is_a_page(journal, part):
    """Whatever makes it large; and the events around it are there."""
    async with journal() as scribe:
        huge = scribe.event("huge", **{part: bytes(PAGE_BYTES_MAX + 1)})
        await scribe.append("first", huge, "last", at=0)
        lengths, events = await pages(
            lambda after: scribe.store.read_stream(ALICE, after=after), lambda event: event.version
        )
        assert lengths == [1, 1, 1]
        assert [event.command_id for event in events] == ["first", "huge", "last"]
        loaded = await scribe.load()
        assert (len(loaded.events), loaded.head) == (1, 3)


async def test_a_batch_of_loads_puts_off_what_is_too_much_for_one_answer(journal):
    """The first is always answered; what is put off is answered when it is asked again; and a client asks again."""
    async with journal() as scribe:
        count = LOADS_BYTES_MAX // (2 * LARGE) + 4
        streams = [StreamId("Account", f"a{number:02}") for number in range(count)]
        for stream in streams:
            await scribe.append(large(scribe, "c1"), large(scribe, "c2"), "c3", at=0, stream=stream)
        answers = await scribe.store.load([Load(stream=stream) for stream in streams])
        assert isinstance(answers[0], Loaded)
        assert isinstance(answers[-1], JournalBusy)
        put_off = [place for place, answer in enumerate(answers) if isinstance(answer, JournalBusy)]
        assert all(isinstance(answers[place], Loaded) for place in range(put_off[0]))
        again = await scribe.store.load([Load(stream=streams[place]) for place in put_off])
        assert isinstance(again[0], Loaded)
        client = JournalClient(Direct(JournalServer(scribe.store)))
        loads = [client.load(Load(stream=stream)) for stream in streams]
        assert [(await load).head for load in loads] == [3] * count


class Direct:
    """A `JournalLink` to a server in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


@event("blob.added")
class Added:
    content: bytes


class Blob(Aggregate):
    sizes: list[int] = []

    @on(Added)
    def _added(self, event: Added) -> None:
        self.sizes.append(len(event.content))


async def test_an_aggregate_of_large_events_comes_back_whole(journal):
    """Hydration takes a short page for what it is."""
    async with journal() as scribe:
        stream, spec = StreamId("Blob", "b"), definition_of(Blob).events[Added]
        for number in range(5):
            payload = spec.codec.encode(Added(bytes(LARGE + number)))
            await scribe.append(
                scribe.event(f"c{number}", payload=payload, type="blob.added"), at=number, stream=stream
            )
        client = JournalClient(Direct(JournalServer(scribe.store)))
        hydrated = await hydrate(definition_of(Blob), stream, client)
        assert hydrated.version == 5
        assert hydrated.instance.sizes == [LARGE + number for number in range(5)]


async def test_places_that_no_journal_has_are_the_nearest_that_it_has(journal):
    """Before the first event, or beyond 64 bits: whole pages, or empty ones; nothing breaks."""
    async with journal() as scribe:
        await scribe.fill(3)
        store = scribe.store
        assert [event.version for event in await store.read_stream(ALICE, after=-5)] == [1, 2, 3]
        assert [event.position for event in await store.read_all(after=-1, limit=1 << 80)] == [1, 2, 3]
        assert [event.version for event in await store.read_stream(ALICE, after=1 << 80, backward=True)] == [3, 2, 1]
        assert await store.read_stream(ALICE, after=1 << 80) == []
        assert await store.read_all(after=1 << 80) == []
        assert await store.read_all(limit=-1) == []
        assert (await scribe.load(limit=-1)).events == ()
        assert (await scribe.load(limit=1 << 70, snapshot_max=1 << 70, schema="s")).head == 3
