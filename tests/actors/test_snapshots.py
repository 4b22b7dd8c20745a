"""Snapshots: taken every so often and on leaving memory, never before their events, and never worth an error."""

import asyncio
import logging

import pytest
from hf_host import Bench, Client, failure, turns

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.actors.definition import definition_of
from holdfast.actors.snapshots import SnapshotWriter
from holdfast.journal.errors import JournalFailed
from holdfast.journal.records import Append, NewEvent, Snapshot, StreamId


@event("test_snapshots.added")
class Added:
    amount: int


class Every5(Aggregate, category="every5", snapshot_every=5, snapshots_kept=2, snapshot_on_passivate=False):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return self.total

    @command
    def add_times(self, times: int) -> int:
        for _ in range(times):
            self.emit(Added(1))
        return self.total

    @command
    def add_and_refuse(self, amount: int) -> None:
        self.emit(Added(amount))
        raise Rejected("no")

    @query
    def value(self) -> int:
        return self.total

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class OnLeaving(Every5, category="on-leaving", snapshot_every=1000, snapshot_on_passivate=True):
    pass


class Loose(Aggregate, category="loose", snapshot_every=2):
    """A tuple in a bare `list` comes back as a list: no snapshot holds this state."""

    seen: list = []

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return len(self.seen)

    @on(Added)
    def _added(self, event: Added) -> None:
        self.seen.append((event.amount,))


def stream(id="a", type=Every5):
    return StreamId(definition_of(type).category, id)


async def versions(bench, id="a", type=Every5):
    """Of the snapshots in the journal, newest first."""
    return [s.version for s in await bench.store.list_snapshots(stream(id, type))]


async def test_a_snapshot_is_taken_every_n_events_and_the_newest_are_kept():
    """Whether the events come one by one or many at once."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        seen = []
        for _ in range(17):
            await client.call("a", "add", 1)
            await host.snapshots.drain()
            seen.append(await versions(bench))
        assert seen[3] == []
        assert seen[4] == [5]
        assert seen[9] == [10, 5]
        assert seen[16] == [15, 10]
        await client.call("a", "add_times", 100)
        await host.snapshots.drain()
        assert await versions(bench) == [117, 15]
        assert host.snapshots.written == 4


async def test_a_snapshot_restores_to_the_state_of_its_version():
    """What another host makes of it is what was."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        for n in range(5):
            await Client(host).call("a", "add", n)
        await host.snapshots.drain()
        successor = await bench.host(Every5)
        assert await Client(successor).call("a", "value") == 10
        assert successor.counters.last_hydration_rows == 1


async def test_a_snapshot_is_taken_on_leaving_memory_if_there_are_newer_events():
    """It is in the journal when `passivate` returns; with nothing new there is no second one."""
    async with Bench() as bench:
        host = await bench.host(OnLeaving)
        client = Client(host)
        await client.call("a", "add", 1)
        assert await versions(bench, type=OnLeaving) == []
        await host.passivate("a")
        assert await versions(bench, type=OnLeaving) == [1]
        assert await client.call("a", "value") == 1
        await host.passivate("a")
        assert host.snapshots.written == 1
        await client.call("a", "add", 1)
        await host.retire()
        assert await versions(bench, type=OnLeaving) == [2, 1]


async def test_an_aggregate_without_events_leaves_no_snapshot():
    """Nor a stream."""
    async with Bench() as bench:
        host = await bench.host(OnLeaving)
        await Client(host).call("a", "value")
        await host.passivate("a")
        assert bench.store.calls["save_snapshots"] == 0
        assert (await bench.server.statistics()).streams == 0


async def test_a_class_that_wants_none_on_leaving_gets_none():
    """`snapshot_on_passivate=False`."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        await Client(host).call("a", "add", 1)
        await host.passivate("a")
        assert await versions(bench) == []


async def test_a_snapshot_is_never_sent_before_its_events_are_durable():
    """It is taken at a tentative version, and waits."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        with bench.store.hold("append") as disk:
            calls = [client.start("a", "add", 1)]
            await disk.reached.wait()
            calls += client.send(*(client.wire("a", "add", 1) for _ in range(4)))
            await turns()
            assert host._cells["a"]._snapshot.version == 5
            assert bench.store.calls["save_snapshots"] == 0
        await asyncio.gather(*calls)
        await host.snapshots.drain()
        assert await versions(bench) == [5]


async def test_a_snapshot_of_what_never_became_durable_is_never_sent():
    """The append fails, the state is forgotten, and so is its snapshot; the next one holds what is true."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        bench.store.fail("append")
        assert isinstance(await failure(client.start("a", "add_times", 5)), JournalFailed)
        for _ in range(5):
            await client.call("a", "add", 7)
        await host.snapshots.drain()
        (kept,) = await bench.store.list_snapshots(stream())
        assert (kept.version, host.snapshots.written) == (5, 1)
        successor = await bench.host(Every5)
        assert await Client(successor).call("a", "value") == 35


async def test_a_command_that_raises_leaves_no_snapshot_of_what_it_emitted():
    """Also when it would have been due."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        await client.call("a", "add_times", 4)
        assert isinstance(await failure(client.start("a", "add_and_refuse", 1)), Rejected)
        await host.snapshots.drain()
        assert await versions(bench) == []
        await client.call("a", "add", 1)
        await host.snapshots.drain()
        assert await versions(bench) == [5]


async def test_state_that_does_not_come_back_as_it_is_has_no_snapshot(caplog):
    """It is left to replay, and told once, not for each of a million aggregates."""
    async with Bench() as bench:
        host = await bench.host(Loose)
        client = Client(host)
        with caplog.at_level(logging.WARNING, "holdfast.actors.snapshots"):
            for id in ("a", "b"):
                for n in range(1, 6):
                    assert await client.call(id, "add", n) == n
                await host.passivate(id)
        assert bench.store.calls["save_snapshots"] == 0
        assert [r.message for r in caplog.records if "no snapshot" in r.message] == [
            "loose<a@2>: no snapshot, here and wherever the same holds: it does not come back as it is: "
            "seen[0]: (1,) is a tuple, [1] is a list"
        ]
        assert await client.call("a", "add", 6) == 6


async def test_a_snapshot_that_cannot_be_written_hurts_nobody():
    """Commands and passivation go on; the next one is written."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        bench.store.fail("save_snapshots")
        assert await client.call("a", "add_times", 5) == 5
        await host.passivate("a")
        assert await client.call("a", "add_times", 5) == 10
        await host.snapshots.drain()
        assert await versions(bench) == [10]


async def test_a_snapshot_over_the_limit_is_not_sent():
    """The events are there."""
    async with Bench() as bench:
        host = await bench.host(Every5, snapshot_bytes_max=5)
        assert await Client(host).call("a", "add_times", 5) == 5
        await host.passivate("a")
        assert bench.store.calls["save_snapshots"] == 0


async def test_a_fenced_host_lets_go_of_the_snapshots_it_has_not_sent():
    """It writes nothing any more."""
    async with Bench() as bench:
        host = await bench.host(Every5)
        client = Client(host)
        with bench.store.hold("save_snapshots") as disk:
            await client.call("a", "add_times", 5)
            await disk.reached.wait()
            await client.call("b", "add_times", 5)
            host.was_fenced(Exception("fenced"))
        await turns()
        assert bench.store.calls["save_snapshots"] == 1
        assert await versions(bench, "b") == []
        await asyncio.wait_for(host.snapshots.drain(), 5)


# -- the writer --------------------------------------------------------------------------------------------------


async def written(bench, *ids):
    """Streams with 100 events, so that snapshots of them are kept."""
    epoch = await bench.journal.claim("seed", "seed")
    event = NewEvent(type="t", payload=b"\x80", command_id="c", recorded_at=0)
    await bench.store.append(
        [Append(stream=stream(id), owner="seed", epoch=epoch, expected_version=0, events=(event,) * 100) for id in ids]
    )


def snapshot(id, version, size=10):
    return Snapshot(stream=stream(id), version=version, schema="s", payload=b"x" * size)


async def test_of_several_snapshots_that_wait_the_newest_is_sent():
    """The older ones of the same stream are of no use."""
    async with Bench() as bench:
        await written(bench, "a", "b")
        writer = SnapshotWriter(bench.journal, keep=5, bytes_max=1000)
        with bench.store.hold("save_snapshots") as disk:
            writer.put(snapshot("a", 1))
            await disk.reached.wait()
            for version in (2, 3, 4):
                writer.put(snapshot("a", version))
            writer.put(snapshot("b", 9))
        await writer.drain()
        assert await versions(bench, "a") == [4, 1]
        assert await versions(bench, "b") == [9]
        assert (writer.written, bench.store.calls["save_snapshots"]) == (3, 2)


async def test_batches_are_bounded_in_count_and_bytes():
    """A large one goes alone."""
    async with Bench() as bench:
        ids = [str(n) for n in range(250)]
        await written(bench, *ids)
        sizes = []
        save = bench.journal.save_snapshots

        async def watched(batch, *, keep):
            sizes.append((len(batch), sum(len(s.payload) for s in batch)))
            await save(batch, keep=keep)

        bench.journal.save_snapshots = watched
        writer = SnapshotWriter(bench.journal, keep=2, bytes_max=100 << 20)
        for id in ids:
            writer.put(snapshot(id, 1))
        writer.put(snapshot("0", 2, 9 << 20))
        writer.put(snapshot("1", 2, 5 << 20))
        writer.put(snapshot("2", 2, 5 << 20))
        await writer.drain()
        assert sizes[0] == (1, 9 << 20)
        assert max(count for count, _ in sizes) == 100
        assert sum(count for count, _ in sizes) == 250
        assert all(size <= 8 << 20 for count, size in sizes if count > 1)


async def test_what_waits_is_bounded():
    """In streams and in bytes; beyond it new ones are let go, and a newer one of a waiting stream is not."""
    async with Bench() as bench:
        await written(bench, *"abcd")
        writer = SnapshotWriter(bench.journal, keep=2, bytes_max=1000, waiting_max=2, waiting_bytes_max=100)
        for id in "abc":
            writer.put(snapshot(id, 1))
        writer.put(snapshot("a", 2, 50))
        writer.put(snapshot("b", 2, 90))
        await writer.drain()
        assert await versions(bench, "a") == [2]
        assert await versions(bench, "b") == [1]
        assert await versions(bench, "c") == []


async def test_draining_waits_for_what_was_there_and_not_for_what_comes_later():
    """Or it would never end under a load that never ceases."""
    async with Bench() as bench:
        await written(bench, *"ab")
        writer = SnapshotWriter(bench.journal, keep=2, bytes_max=1000)
        save, versions_to_come = bench.journal.save_snapshots, iter(range(2, 100))

        async def ever_more(batch, *, keep):
            await asyncio.sleep(0)
            await save(batch, keep=keep)
            if version := next(versions_to_come, None):
                writer.put(snapshot("b", version))

        bench.journal.save_snapshots = ever_more
        writer.put(snapshot("a", 1))
        await writer.drain()
        assert await versions(bench, "a") == [1]
        assert writer.written < 10
        versions_to_come = iter(())
        await asyncio.wait_for(writer.drain(), 5)


@pytest.mark.parametrize("error", [JournalFailed("disk"), ZeroDivisionError()], ids=["told", "a bug"])
async def test_a_write_that_fails_does_not_stop_the_writer(error):
    """Whatever it raises; those who wait for it are let go."""
    async with Bench() as bench:
        await written(bench, *"ab")
        writer = SnapshotWriter(bench.journal, keep=2, bytes_max=1000)
        save = bench.journal.save_snapshots

        async def failing(batch, *, keep):
            bench.journal.save_snapshots = save
            raise error

        bench.journal.save_snapshots = failing
        writer.put(snapshot("a", 1))
        await writer.drain()
        writer.put(snapshot("b", 1))
        await writer.drain()
        assert (await versions(bench, "a"), await versions(bench, "b")) == ([], [1])
