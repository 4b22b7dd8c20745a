"""Hydration: snapshot and tail, page by page; what cannot be trusted is replayed, what cannot be read is told."""

import asyncio

import msgspec
import pytest
from hf_host import Bench, Client
from msgspec.structs import replace

from holdfast.actors import Aggregate, HydrationFailed, command, event, on, query
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal.errors import CorruptRecord, Fenced
from holdfast.journal.records import Append, NewEvent, Snapshot, StreamId

HUGE = 100_000


@event("test_hydrate.added")
class Added:
    amount: int


class Sum(Aggregate, category="sum", snapshot_every=100):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return self.total

    @query
    def value(self) -> int:
        return self.total

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


DEFINITION = definition_of(Sum)
STREAM = StreamId("sum", "a")


async def fill(bench, count, stream=STREAM, rotten=0):
    """`count` events that add 1, straight to the store; the one of version `rotten` says nothing that can be read."""
    epoch = await bench.journal.claim("seed", "seed")
    payload = msgspec.msgpack.encode({"amount": 1})
    for start in range(0, count, 5_000):
        events = tuple(
            NewEvent(
                type="test_hydrate.added",
                payload=b"\xc1" if start + n + 1 == rotten else payload,
                command_id=f"c{start + n}",
                recorded_at=0,
            )
            for n in range(min(5_000, count - start))
        )
        (result,) = await bench.store.append(
            [Append(stream=stream, owner="seed", epoch=epoch, expected_version=start, events=events)]
        )
        assert result.version == start + len(events)


def snapshot(version, total, **fields):
    """Of a `Sum`, as its code would write it, but for `fields`."""
    payload = msgspec.msgpack.encode({"total": total})
    defaults = {"stream": STREAM, "version": version, "schema": DEFINITION.schema, "payload": payload}
    return Snapshot(**{**defaults, **fields})


async def test_a_stream_that_nobody_wrote_is_an_aggregate_before_its_first_event():
    """At version 0, with the defaults of its fields."""
    async with Bench() as bench:
        found = await hydrate(DEFINITION, STREAM, bench.journal)
        assert (found.instance.total, found.version, found.snapshot_version, found.rows_read) == (0, 0, 0, 0)


@pytest.mark.parametrize("count", [1, 9, 10, 11, 25])
async def test_events_are_read_page_by_page(count):
    """Every event once, whether the last page is full or not."""
    async with Bench() as bench:
        await fill(bench, count)
        found = await hydrate(DEFINITION, STREAM, bench.journal, page=10)
        assert (found.instance.total, found.instance.version, found.version) == (count, count, count)
        assert found.rows_read == count
        assert bench.store.calls["load"] == (count + 9) // 10


async def test_a_snapshot_and_the_events_after_it_are_read_and_nothing_else():
    """The statistics of the host say so."""
    async with Bench() as bench:
        await fill(bench, 250)
        await bench.store.save_snapshots([snapshot(200, 200)])
        host = await bench.host(Sum)
        assert await Client(host).call("a", "value") == 250
        assert host.counters.last_hydration_rows == 51


async def test_an_aggregate_with_a_hundred_thousand_events_hydrates_from_a_few_rows():
    """Fewer than 200, by the host's count and by the store's."""
    async with Bench() as bench:
        await fill(bench, HUGE)
        host = await bench.host(Sum)
        client = Client(host)
        assert await client.call("a", "value") == HUGE
        assert host.counters.last_hydration_rows == HUGE
        await host.passivate("a")
        for _ in range(50):
            await client.call("a", "add", 1)
        before = (await bench.server.statistics()).rows_read
        successor = await bench.host(Sum)
        assert await Client(successor).call("a", "value") == HUGE + 50
        assert successor.counters.last_hydration_rows == 51
        assert (await bench.server.statistics()).rows_read - before == 51


@pytest.mark.parametrize(
    "bad",
    [
        {"schema": "another"},
        {"payload": b""},
        {"payload": b"\xc1 torn"},
        {"payload": msgspec.msgpack.encode({"total": "text"})},
        {"payload": msgspec.msgpack.encode([1, 2, 3])},
    ],
    ids=["another schema", "empty", "torn", "another type", "another shape"],
)
async def test_a_snapshot_that_cannot_be_used_is_passed_over(bad):
    """Never an error: the events are replayed, all of them."""
    async with Bench() as bench:
        await fill(bench, 30)
        await bench.store.save_snapshots([snapshot(20, 999, **bad)])
        found = await hydrate(DEFINITION, STREAM, bench.journal, page=7)
        assert (found.instance.total, found.version, found.snapshot_version) == (30, 30, 0)


async def test_a_version_is_the_state_as_it_was_then():
    """From a snapshot at or before it, never from a later one; beyond the newest it is the newest."""
    async with Bench() as bench:
        await fill(bench, 30)
        await bench.store.save_snapshots([snapshot(10, 10), snapshot(20, 20)])
        for version, start in ((0, 0), (9, 0), (10, 10), (15, 10), (20, 20), (30, 20)):
            found = await hydrate(DEFINITION, STREAM, bench.journal, version=version, page=4)
            assert (found.instance.total, found.version, found.snapshot_version) == (version, version, start)
        assert (await hydrate(DEFINITION, STREAM, bench.journal, version=99)).version == 30


async def test_events_that_come_while_it_reads_are_not_mixed_in():
    """The state is that of one moment: when the first page was read."""
    async with Bench() as bench:
        await fill(bench, 25)
        with bench.store.hold("load", after=True) as disk:
            reading = asyncio.create_task(hydrate(DEFINITION, STREAM, bench.journal, page=10))
            await disk.reached.wait()
            extra = NewEvent(
                type="test_hydrate.added", payload=msgspec.msgpack.encode({"amount": 1}), command_id="x", recorded_at=0
            )
            await bench.journal.append(
                Append(stream=STREAM, owner="seed", epoch=1, expected_version=25, events=(extra,))
            )
        assert (await reading).version == 25


async def test_an_owner_that_was_fenced_may_not_read():
    """A bystander may."""
    async with Bench() as bench:
        await fill(bench, 3)
        epoch = await bench.journal.claim("host", "one")
        await bench.journal.claim("host", "two")
        with pytest.raises(Fenced):
            await hydrate(DEFINITION, STREAM, bench.journal, owner="host", epoch=epoch)
        assert (await hydrate(DEFINITION, STREAM, bench.journal)).version == 3


async def test_a_missing_event_is_told_and_not_skipped():
    """A journal that somebody tampered with: at the start of a page or in its middle, the version is named."""
    async with Bench() as bench:
        await fill(bench, 30)
        load = bench.store.load

        def without(version):
            async def found(batch):
                loads = await load(batch)
                return [replace(f, events=tuple(e for e in f.events if e.version != version)) for f in loads]

            return found

        for page, missing in ((10, 15), (14, 15), (1000, 2)):
            bench.store.load = without(missing)
            with pytest.raises(HydrationFailed) as told:
                await hydrate(DEFINITION, STREAM, bench.journal, page=page)
            assert told.value.version == missing


async def test_a_corrupt_event_on_a_later_page_is_told():
    """As itself."""
    async with Bench() as bench:
        await fill(bench, 30)
        load = bench.store.load

        async def rotten(batch):
            return [CorruptRecord("sum/a", 15, 15, "rot") if each.after else (await load([each]))[0] for each in batch]

        bench.store.load = rotten
        with pytest.raises(CorruptRecord):
            await hydrate(DEFINITION, STREAM, bench.journal, page=10)


async def test_the_next_page_is_asked_for_before_the_present_one_is_applied():
    """And let go when the present one cannot be applied: what is told is its error."""
    async with Bench() as bench:
        await fill(bench, 600, rotten=290)
        with pytest.raises(HydrationFailed) as told:
            await hydrate(DEFINITION, STREAM, bench.journal, page=300)
        assert told.value.version == 290
        assert bench.store.calls["load"] == 2
