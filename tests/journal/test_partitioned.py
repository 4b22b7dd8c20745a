"""A partitioned journal: what its callers see is one journal, and no two owners ever both write one stream."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import Fenced, JournalFailed, JournalFull, JournalUnavailable, Unstorable
from holdfast.journal.memory import MemoryStore
from holdfast.journal.merge import merged, starting_at
from holdfast.journal.partition import partition_of
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.positions import Positions
from holdfast.journal.records import Append, KeyedReply, Load, NewEvent, Snapshot, StoredReply, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore

STREAMS = [StreamId(category, id) for category in "AB" for id in "abcdef"]


class Direct:
    """To a server in this process."""

    def __init__(self, store):
        self.server = JournalServer(store)

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


async def no_pause(seconds):
    await asyncio.sleep(0)


def journal(count):
    """One over so many stores in memory, and the stores."""
    stores = [FaultyStore(MemoryStore()) for _ in range(count)]
    parts = [JournalClient(Direct(store), pause=no_pause, patience_s=5.0) for store in stores]
    return PartitionedJournal(parts), stores


def event(command_id, at=0):
    return NewEvent(type="t", payload=b"\x80", command_id=command_id, recorded_at=at, reply=b"\x01")


def append(stream, *command_ids, at=0, epoch=1, owner="host", time=0, keys=()):
    events = tuple(event(command_id, time) for command_id in command_ids)
    return Append(stream=stream, owner=owner, epoch=epoch, expected_version=at, events=events, keys=tuple(keys))


async def recorded(parts, after=0, **how):
    return [found async for found in merged(parts, starting_at(after, len(parts)), **how)]


def of(number, count):
    """A stream that lies in this partition."""
    return next(stream for stream in STREAMS if partition_of(stream, count) == number)


# -- one journal -----------------------------------------------------------------------------------------------------

steps = st.lists(
    st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(1, 3), st.integers(0, 5), st.booleans()), max_size=6),
    max_size=6,
)


@settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(2, 5), steps=steps)
def test_the_same_appends_make_the_same_streams_as_in_one_store(count, steps):
    """Streams, keyed replies and lists of streams are as in a journal without partitions; positions of each partition
    have no gaps, and reading all of them gives each event once."""

    async def run():
        split, _ = journal(count)
        alone = JournalClient(Direct(MemoryStore()))
        for each in (split, alone):
            assert await each.claim("host", "first") == 1
        versions, number = dict.fromkeys(STREAMS, 0), 0
        for step in steps:
            batch = []
            for stream, events, time, keyed in step:
                number += 1
                at, versions[stream] = versions[stream], versions[stream] + events
                keys = [KeyedReply(key=f"k{number}", fingerprint=b"", version=at + events, reply=b"\x02")]
                ids = (f"c{number}.{n}" for n in range(events))
                batch.append(append(stream, *ids, at=at, time=time, keys=keys if keyed else ()))
            for each in (split, alone):
                answers = await asyncio.gather(*map(each.append, batch), return_exceptions=True)
                assert [a.version for a in answers] == [b.expected_version + len(b.events) for b in batch]
        for stream in STREAMS:
            kept = [[_content(e) for e in await each.read_stream(stream)] for each in (split, alone)]
            assert kept[0] == kept[1]
            loads = [await each.load(Load(stream=stream)) for each in (split, alone)]
            assert loads[0].head == loads[1].head == versions[stream]
            keys = [f"k{n}" for n in range(number + 1)]
            assert await split.find_keyed(stream, keys) == await alone.find_keyed(stream, keys)
        for how in ({}, {"category": "B"}, {"after": STREAMS[3], "limit": 4}):
            assert await split.list_streams(**how) == await alone.list_streams(**how)
        events = await recorded(split.parts, page=2)
        everything = [_content(e) for _, e in await recorded(alone.parts)]
        assert sorted(map(str, everything)) == sorted(str(_content(e)) for _, e in events)
        for part in range(count):
            positions = [e.position for number, e in events if number == part]
            assert positions == list(range(1, len(positions) + 1))
            assert all(partition_of(e.stream, count) == number for number, e in events)
        assert await split.head() == Positions(tuple(sum(n == part for n, _ in events) for part in range(count)))
        assert (await split.statistics()).events == len(events) == await alone.head()

    asyncio.run(run())


def _content(event):
    return event.stream, event.version, event.type, event.command_id, event.recorded_at


async def test_appends_of_one_turn_travel_as_one_request_to_each_partition():
    """Each has its own group commit; none waits for another one's."""
    split, stores = journal(2)
    await split.claim("host", "first")
    slow, quick = of(0, 2), of(1, 2)
    with stores[0].hold("append") as held:
        waiting = asyncio.ensure_future(split.append(append(slow, "s1")))
        assert (await split.append(append(quick, "q1"))).position == 1
        await held.reached.wait()
        assert (await split.append(append(quick, "q2", at=1))).position == 2
        assert not waiting.done()
    assert (await waiting).position == 1
    assert [store.calls["append"] for store in stores] == [1, 2]
    assert (split.appends_sent, split.append_batches) == (3, 3)


async def test_a_partition_that_fails_hurts_its_own_streams_alone():
    """The others are written."""
    split, stores = journal(2)
    await split.claim("host", "first")
    stores[1].fail("append", error=JournalFull("no room"))
    answers = await asyncio.gather(
        split.append(append(of(0, 2), "a1")), split.append(append(of(1, 2), "b1")), return_exceptions=True
    )
    assert [type(answer).__name__ for answer in answers] == ["Appended", "JournalFull"]


async def test_registrations_stand_at_the_first_partition_only():
    """Placement is one question, and has one answer."""
    split, stores = journal(3)
    await split.register("A", "dedicated", "code")
    assert [store.calls["register"] for store in stores] == [1, 0, 0]


async def test_snapshots_and_replies_are_found_where_the_stream_is():
    """Saved in one batch, or in none where a partition fails; the other ones are saved."""
    split, stores = journal(2)
    await split.claim("host", "first")
    streams = [of(0, 2), of(1, 2)]
    await asyncio.gather(*(split.append(append(stream, "c1")) for stream in streams))
    snapshots = [Snapshot(stream=stream, version=1, schema="s", payload=b"\x80") for stream in streams]
    stores[0].fail("save_snapshots")
    with pytest.raises(JournalFailed):
        await split.save_snapshots(snapshots, keep=2)
    assert [await split.list_snapshots(stream) for stream in streams] == [[], [snapshots[1]]]
    await split.save_snapshots(snapshots, keep=2)
    for stream, snapshot in zip(streams, snapshots, strict=True):
        assert await split.list_snapshots(stream) == [snapshot]
        found = await split.find_replies(stream, ["c1", "c2"], window=10)
        assert found == {"c1": StoredReply(version=1, reply=b"\x01")}


async def test_a_name_that_no_journal_can_hold_is_refused_as_without_partitions():
    """It has no partition, and is told so by the first one."""
    split, _ = journal(3)
    await split.claim("host", "first")
    with pytest.raises(Unstorable):
        await split.append(append(StreamId("A", "\ud800"), "c1"))


# -- owners ----------------------------------------------------------------------------------------------------------


async def test_epochs_are_equal_over_partitions_and_confirmed_at_the_first():
    """A claim that was taken at the first partition alone is enough to turn its predecessor away."""
    split, stores = journal(3)
    assert await split.claim("host", "first") == 1
    assert await split.claim("host", "second") == 2
    assert await split.claim("host", "second") == 2
    for store in stores:
        await store.confirm("host", 2)
    await stores[0].claim("host", "third")
    with pytest.raises(Fenced):
        await split.confirm("host", 2)


async def test_a_claim_that_half_failed_is_followed_by_one_that_skips_its_epoch():
    """The partition that never heard of it takes the next one."""
    split, stores = journal(2)
    await split.claim("host", "first")
    stores[1].fail("claim")
    with pytest.raises(JournalFailed):
        await split.claim("host", "second")
    assert await split.claim("host", "third") == 3
    await stores[1].confirm("host", 3)


class Turnstile:
    """Where the requests of two owners wait, and go on one at a time in the order that a test has chosen."""

    def __init__(self):
        self.waiting = {}

    async def run(self, lives, schedule):
        """Run these to their ends; one whose turn it is when it has ended passes it on."""
        tasks = {name: asyncio.ensure_future(life) for name, life in lives.items()}
        await self._all_wait_or_ended(tasks)
        for name in schedule:
            await self._pass(name, tasks)
        for name in lives:
            while not tasks[name].done():
                await self._pass(name, tasks)
        return {name: task.result() for name, task in tasks.items()}

    async def _pass(self, name, tasks):
        if name in self.waiting:
            self.waiting.pop(name).set_result(None)
            await self._all_wait_or_ended(tasks)

    async def _all_wait_or_ended(self, tasks):
        while not all(task.done() or name in self.waiting for name, task in tasks.items()):
            await asyncio.sleep(0)

    async def turn(self, name):
        self.waiting[name] = asyncio.get_running_loop().create_future()
        await self.waiting[name]


class Turned(Direct):
    """One owner's way to one partition. The answers to its requests of these numbers are lost."""

    def __init__(self, store, name, turnstile, numbers, lost):
        super().__init__(store)
        self.name, self.turnstile, self.numbers, self.lost = name, turnstile, numbers, lost

    async def ask(self, method, *args):
        await self.turnstile.turn(self.name)
        try:
            return await super().ask(method, *args)
        finally:
            if next(self.numbers) in self.lost:
                raise JournalUnavailable("a test lost the answer")


async def life(name, stores, turnstile, lost):
    """Claim, hydrate and write a stream of each partition, and write once more. The epoch it had, and whether it was
    turned away."""
    numbers = itertools.count()
    ways = [Turned(store, name, turnstile, numbers, lost) for store in stores]
    journal = PartitionedJournal([JournalClient(way, pause=no_pause, patience_s=60.0) for way in ways])
    epoch = 0
    try:
        epoch = await journal.claim("host", name)
        for stream in (of(0, 2), of(1, 2)):
            head = (await journal.load(Load(stream=stream, owner="host", epoch=epoch))).head
            await journal.append(append(stream, f"{name} {head}", at=head, epoch=epoch))
        await journal.append(append(stream, f"{name} again", at=head + 1, epoch=epoch))
    except Fenced:
        return epoch, True
    return epoch, False


@pytest.mark.parametrize("lost", [(), (0, 1)], ids=["heard", "lost"])
def test_two_claimers_in_every_order_never_both_write_one_stream(lost):
    """In each stream the writers follow one another by rising epochs: whoever wrote before the other never writes
    after it. The one with the higher epoch is never turned away. Also where answers to the claims of one are lost, and
    it claims again."""

    async def run():
        requests, orders = 7, 0
        for places in itertools.combinations(range(2 * requests), requests):
            schedule = ["one" if place in places else "two" for place in range(2 * requests)]
            stores, turnstile = [MemoryStore(), MemoryStore()], Turnstile()
            lives = {"one": life("one", stores, turnstile, ()), "two": life("two", stores, turnstile, lost)}
            ends = await turnstile.run(lives, schedule)
            for number, store in enumerate(stores):
                events = await store.read_stream(of(number, 2))
                writers = [event.command_id.split()[0] for event in events]
                epochs = [ends[writer][0] for writer in writers]
                assert epochs == sorted(epochs), (schedule, number, writers)
            (winner, turned_away), (other, _) = sorted(ends.values(), reverse=True)
            assert winner > other, schedule
            assert not turned_away, schedule
            orders += 1
        assert orders == 3432

    asyncio.run(run())


# -- reading all of it -----------------------------------------------------------------------------------------------


async def test_events_are_merged_by_time_between_partitions_and_by_position_within():
    """Also where a clock went back: positions of one partition never do."""
    split, _ = journal(2)
    await split.claim("host", "first")
    a, b = of(0, 2), of(1, 2)
    for version, time in enumerate((10, 30, 20)):
        await split.append(append(a, f"a{time}", at=version, time=time))
    for version, time in enumerate((15, 25, 40)):
        await split.append(append(b, f"b{time}", at=version, time=time))
    for page in (1, 2, 1000):
        events = await recorded(split.parts, page=page)
        assert [e.command_id for _, e in events] == ["a10", "b15", "b25", "a30", "a20", "b40"]
    assert [e.command_id for _, e in await recorded(split.parts, limit=3, page=2)] == ["a10", "b15", "b25"]


async def test_a_reader_goes_on_where_any_event_left_it():
    """From the checkpoint after each event come all later ones, and none twice."""
    split, _ = journal(3)
    await split.claim("host", "first")
    for number, stream in enumerate(STREAMS):
        await split.append(append(stream, f"c{number}", time=number % 5))
    events = await recorded(split.parts)
    at = Positions.start(3)
    for place, (number, one) in enumerate(events):
        assert [e for _, e in await recorded(split.parts, at)] == [e for _, e in events[place:]]
        at = at.past(_Placed(number, one.position))
    assert at == await split.head()
    assert await recorded(split.parts, at) == []


class _Placed:
    def __init__(self, partition, position):
        self.partition, self.position = partition, position


def test_a_checkpoint_that_is_none_of_this_journal_is_refused():
    """A number says nothing about several partitions, nor does a vector of another length."""
    assert starting_at(0, 3) == Positions.start(3)
    assert starting_at(7, 1) == Positions((7,))
    assert starting_at(-1, 1) == Positions((0,))
    assert starting_at(Positions((1, 2)), 2) == Positions((1, 2))
    for after, count in ((7, 2), (-1, 2), (Positions((1,)), 2), (Positions((1, 2)), 1)):
        with pytest.raises(ValueError, match="partitions"):
            starting_at(after, count)
