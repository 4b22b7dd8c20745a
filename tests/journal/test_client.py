"""The journal's client: batches, patience, and never a word that is not certain."""

import asyncio

import pytest

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import (
    CorruptRecord,
    Fenced,
    JournalBusy,
    JournalFailed,
    JournalLocked,
    JournalReadOnly,
    JournalUnavailable,
    VersionConflict,
)
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, Appended, Followed, KeyedReply, Load, NewEvent, Snapshot, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore
from holdfast.journal.wire import encode

A = StreamId("Account", "a")


class Link:
    """To a server in this process; `trouble` is raised by the next requests, one each, before they go."""

    def __init__(self, server):
        self.server = server
        self.trouble = []
        self.asked = []

    async def ask(self, method, *args):
        self.asked.append(method)
        if self.trouble and (error := self.trouble.pop(0)):
            raise error
        return await getattr(self.server, method)(*args)


class Pauses:
    """Instead of sleeping."""

    def __init__(self):
        self.taken = []

    async def __call__(self, seconds):
        self.taken.append(seconds)
        await asyncio.sleep(0)


async def opened(**how):
    store = FaultyStore(MemoryStore())
    server = JournalServer(store)
    await server.start()
    link, pauses = Link(server), Pauses()
    client = JournalClient(link, **{"pause": pauses, "jitter": lambda: 0.5, **how})
    await client.claim("host", "first")
    link.asked.clear()
    return client, link, store, pauses


def append(id="a", at=0, epoch=1, size=1):
    event = NewEvent(type="t", payload=b"x" * size, command_id=f"{id}{at}", recorded_at=0)
    return Append(stream=StreamId("Account", id), owner="host", epoch=epoch, expected_version=at, events=(event,))


async def test_appends_and_loads_of_one_turn_travel_as_one_request_each():
    """Each gets its own answer, errors included."""
    client, link, _, _ = await opened()
    appends = [client.append(append("a")), client.append(append("a", at=9)), client.append(append("b"))]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(r) for r in results] == [Appended, VersionConflict, Appended]
    loads = [client.load(Load(stream=A)), client.load(Load(stream=A, owner="host", epoch=7))]
    loaded, refused = await asyncio.gather(*loads, return_exceptions=True)
    assert loaded.head == 1
    assert isinstance(refused, Fenced)
    assert link.asked == ["append", "load"]
    assert (client.appends_sent, client.append_batches) == (3, 1)


async def test_at_most_two_requests_of_appends_are_under_way():
    """So that the disk is busy while the next one gathers; large ones are split by bytes."""
    client, link, store, _ = await opened()
    with store.hold("append") as disk:
        futures = [client.append(append(str(n))) for n in range(1)]
        await disk.reached.wait()
        for n in range(1, 50):
            futures.append(client.append(append(str(n))))
            await asyncio.sleep(0)
        assert link.asked.count("append") == 2
    await asyncio.gather(*futures)
    assert link.asked.count("append") <= 4
    link.asked.clear()
    await asyncio.gather(*(client.append(append(f"big {n}", size=5 << 20), 5 << 20) for n in range(3)))
    assert link.asked.count("append") == 3


async def test_what_gets_no_answer_is_asked_again_and_done_once():
    """The acknowledgement is lost three times; the journal recognises the append."""
    client, link, store, pauses = await opened()
    store.lose("append", times=3)
    assert await client.append(append()) == Appended(version=1, position=1)
    assert link.asked == ["append"] * 4
    assert await client.head() == 1
    assert pauses.taken == [0.02, 0.04, 0.08]


async def test_pauses_grow_to_a_fifth_of_a_second_and_no_further():
    """With jitter, so that a crowd does not come back as one."""
    client, link, _, pauses = await opened(patience_s=60)
    link.trouble = [JournalBusy("queue", 1)] * 10
    assert await client.head() == 0
    assert pauses.taken == [0.02, 0.04, 0.08, 0.16, *[0.2] * 6]


@pytest.mark.parametrize(
    "error", [JournalUnavailable("gone"), JournalBusy("queue", 1), JournalLocked("x.db", "pid 7")], ids=repr
)
async def test_patience_ends_with_the_last_trouble(error):
    """After `patience_s` seconds it is told."""
    client, link, _, _ = await opened(patience_s=0.015)
    link.trouble = [error]
    with pytest.raises(type(error)) as told:
        await client.head()
    assert told.value.args == error.args


async def test_a_request_that_is_never_answered_ends_with_patience():
    """Its outcome is unknown."""
    client, _, store, _ = await opened(patience_s=0.01)
    with store.hold("append"), pytest.raises(JournalUnavailable):
        await client.append(append())


async def test_a_follower_of_a_journal_in_which_nothing_happens_loses_no_patience():
    """It asks to be answered, if only with an empty page, well before that ends."""
    waits = []

    class Silent:
        async def ask(self, method, *args):
            waits.append(args[-1])
            return encode(Followed(events=(), reached=0, head=0))

    page = await JournalClient(Silent(), patience_s=3.0).follow(after=0, wait_s=5.0)
    assert (page.events, page.reached, page.head, waits) == ((), 0, 0, [1.5])


@pytest.mark.parametrize("error", [JournalFailed("disk full"), JournalReadOnly("x.db", "is read-only")], ids=repr)
async def test_nothing_was_written_is_said_only_when_it_is_certain(error):
    """After a try without an answer, which may have been written, a later refusal leaves the outcome unknown."""
    client, link, _, _ = await opened()
    link.trouble = [error]
    with pytest.raises(type(error)):
        await client.append(append())
    link.trouble = [JournalUnavailable("lost"), error]
    with pytest.raises(JournalUnavailable, match=str(error).split(":")[0]):
        await client.append(append())


async def test_one_append_of_a_request_that_is_refused_after_a_lost_try_is_not_called_unwritten():
    """The first try may have written it; without one, the refusal is certain."""
    client, _, store, _ = await opened()
    store.reject(JournalFailed("one row"), streams=[A])
    with pytest.raises(JournalFailed):
        await client.append(append())
    store.lose("append")
    lost = client.append(append())
    while not store.calls["append"] > 1:
        await asyncio.sleep(0)
    store.reject(JournalFailed("one row"), streams=[A])
    with pytest.raises(JournalUnavailable):
        await lost
    assert await client.head() == 1


async def test_an_error_that_asking_again_will_not_mend_is_told_at_once():
    """No second try."""
    client, link, _, pauses = await opened()
    link.trouble = [Fenced("host", 1, 2)]
    with pytest.raises(Fenced):
        await client.confirm("host", 1)
    assert (link.asked, pauses.taken) == (["confirm"], [])


async def test_an_error_of_a_whole_request_is_told_to_each_with_an_instance_of_its_own():
    """What is raised in many places must not be one object."""
    client, _, store, _ = await opened()
    store.fail("append")
    results = await asyncio.gather(*(client.append(append(str(n))) for n in range(3)), return_exceptions=True)
    assert [type(r) for r in results] == [JournalFailed] * 3
    assert len({id(r) for r in results}) == 3


async def test_snapshots_are_tried_once():
    """A cache is not worth a queue of retries."""
    client, link, store, _ = await opened()
    store.fail("save_snapshots", error=JournalUnavailable("gone"))
    with pytest.raises(JournalUnavailable):
        await client.save_snapshots([Snapshot(stream=A, version=1, schema="s", payload=b"x")], keep=2)
    assert link.asked == ["save_snapshots"]


async def test_a_claim_that_is_sent_again_fences_nobody():
    """The same incarnation gets the same epoch, also when another has claimed since."""
    client, link, store, _ = await opened()
    store.lose("claim")
    assert await client.claim("host", "second") == 2
    assert await client.claim("host", "third") == 3
    assert await client.claim("host", "second") == 2
    with pytest.raises(Fenced):
        await client.confirm("host", 2)
    assert link.asked.count("claim") == 4


async def test_it_asks_everything_that_a_store_answers():
    """Arguments arrive where they belong."""
    client, _, _, _ = await opened()
    await asyncio.gather(client.append(append("a")), client.append(append("b")))
    await client.append(append("a", at=1))
    assert [e.version for e in await client.read_stream(A, after=2, limit=1, backward=True)] == [1]
    assert [e.position for e in await client.read_all(after=1, limit=1, category="Account")] == [2]
    assert await client.find_replies(A, ("a0",), window=10) == {}
    assert await client.find_keyed(A, ("k",)) == {}
    assert await client.list_snapshots(A) == []
    assert await client.list_streams(category="Account", after=A, limit=5) == [(StreamId("Account", "b"), 1)]
    assert (await client.register("Account", "dedicated", "c")).code == "c"
    assert (await client.statistics()).events == 3


async def test_look_ups_of_keyed_commands_of_one_turn_travel_as_one_request():
    """Each gets its own answer, and what one of them is refused with is that one's alone."""
    client, link, store, _ = await opened()
    key = KeyedReply(key="k", fingerprint=b"f", version=0, reply=b"\x01")
    await client.append(Append(stream=A, owner="host", epoch=1, expected_version=0, events=(), keys=(key,)))
    reading = store.find_keyed

    async def find_keyed(stream, keys):
        if stream.id == "rotten":
            raise CorruptRecord(str(stream), 0, 0, "on purpose")
        return await reading(stream, keys)

    store.find_keyed = find_keyed
    asked = [client.find_keyed(StreamId("Account", id), ["k", "other"]) for id in ("a", "b", "rotten", "a")]
    mine, nothing, refused, again = await asyncio.gather(*asked, return_exceptions=True)
    assert list(mine) == list(again) == ["k"]
    assert nothing == {}
    assert isinstance(refused, CorruptRecord)
    assert link.asked.count("find_keyed_of") == 1
