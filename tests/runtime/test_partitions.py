"""A journal in partitions, from the front door: the same answers, checkpoints that are vectors, and no partition that
another one's end stops."""

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hf_bank import Account, Teller
from hf_support import Judge, eventually, is_running, writer_pid

from holdfast.actors.definition import definition_of
from holdfast.journal.errors import JournalOpenError, PartitionConflict
from holdfast.journal.partition import partition_of
from holdfast.journal.records import StreamId
from holdfast.runtime import Config, Dedicated, HostLimits, NamespaceConflict, Positions, Runtime, Sharded

IDS = [f"a{number}" for number in range(12)]
CATEGORY = definition_of(Account).category


def lies_in(id: str, count: int) -> int:
    return partition_of(StreamId(CATEGORY, id), count)


def of(number: int, count: int = 2) -> str:
    """An account that lies in this partition."""
    return next(id for id in IDS if lies_in(id, count) == number)


@pytest.mark.parametrize("placement", [Dedicated(), Sharded(2)], ids=["dedicated", "sharded"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_commands_replies_and_state_are_as_without_partitions(kind: str, placement: Any, tmp_path: Path) -> None:
    """Calls between partitions, keys, time travel and passivation included; files open again as they were."""
    url = "memory://?partitions=3" if kind == "memory" else f"sqlite:///{tmp_path}/j.db?partitions=3"
    async with Runtime.local(url, placement=placement) as runtime:
        assert runtime.partitions == 3
        for number, id in enumerate(IDS):
            assert await runtime.get(Account, id).deposit(10 + number) == 10 + number
        await runtime.get(Teller, "t").transfer(of(0, 3), of(1, 3), 5)
        once = runtime.get(Account, of(2, 3), idempotency_key="once")
        assert await once.deposit(1) == await once.deposit(1)
        assert await runtime.passivate(Account, of(2, 3))
        assert await once.deposit(1) == await runtime.get(Account, of(2, 3), linearizable=True).balance_now()
        assert (await runtime.state_at(Account, of(1, 3), version=1)).balance == 10 + IDS.index(of(1, 3))
        before = [await runtime.get(Account, id).balance_now() for id in IDS]
        assert (await runtime.statistics()).journal.events == len([e async for e in runtime.read()])
    if kind == "sqlite":
        async with Runtime.local(url, placement=placement) as runtime:
            assert [await runtime.get(Account, id).balance_now() for id in IDS] == before


async def test_reading_all_goes_on_from_a_vector() -> None:
    """From any event on, by type or over everything, whatever the page; positions of each partition have no gaps."""
    config = Config(host=HostLimits(page=3))
    async with Runtime.local("memory://?partitions=3", config=config, placement=Sharded(2)) as runtime:
        for amount in (1, 2, 3):
            await asyncio.gather(*(runtime.get(Account, id).deposit(amount) for id in IDS))
        everything = [event async for event in runtime.read(Account)]
        assert len(everything) == 3 * len(IDS)
        assert all(event.partition == lies_in(event.id, 3) for event in everything)
        for number in range(3):
            positions = [event.position for event in everything if event.partition == number]
            assert positions == list(range(1, len(positions) + 1))
        at = Positions.start(runtime.partitions)
        for place, event in enumerate(everything):
            if place % 5 == 0:
                rest = [later async for later in runtime.read(Account, after=at, limit=4)]
                assert rest == everything[place : place + 4]
            at = at.past(event)
        assert [event async for event in runtime.read(after=at)] == []
        untyped = [(event.partition, event.position) async for event in runtime.read()]
        assert untyped == [(event.partition, event.position) for event in everything]
        one = [event async for event in runtime.read(Account, IDS[0], after=1)]
        assert [(event.version, event.partition) for event in one] == [(2, lies_in(IDS[0], 3)), (3, one[0].partition)]


async def test_a_number_is_no_checkpoint_of_several_partitions() -> None:
    """Nor is a vector of another length, or one where a version is meant."""
    async with Runtime.local("memory://?partitions=2") as runtime:
        for args, after in (((), 3), ((), Positions((1, 2, 3))), ((Account, "a"), Positions((1, 2)))):
            with pytest.raises(ValueError, match="positions"):
                await anext(runtime.read(*args, after=after))  # type: ignore[arg-type]
    async with Runtime.local("memory://?partitions=1") as runtime:
        await runtime.get(Account, "a").deposit(1)
        await runtime.get(Account, "a").deposit(2)
        for after in (1, Positions((1,))):
            assert [(e.partition, e.position) async for e in runtime.read(after=after)] == [(0, 2)]


async def test_opening_with_another_count_is_refused(tmp_path: Path) -> None:
    """With both, and the journal stays what it is."""
    url = f"sqlite:///{tmp_path}/j.db"
    async with Runtime.local(f"{url}?partitions=2") as runtime:
        await runtime.get(Account, "a").deposit(1)
    for asked in ("", "?partitions=3"):
        with pytest.raises(PartitionConflict):
            async with Runtime.local(url + asked):
                pass
    async with Runtime.local(f"{url}?partitions=2") as runtime:
        assert await runtime.get(Account, "a").deposit(1) == 2


async def test_a_journal_that_has_lost_a_partition_does_not_open(tmp_path: Path) -> None:
    """Its streams would begin anew."""
    url = f"sqlite:///{tmp_path}/j.db?partitions=2"
    async with Runtime.local(url):
        pass
    (tmp_path / "j.db.p1").unlink()
    with pytest.raises(JournalOpenError, match="lost"):
        async with Runtime.local(url):
            pass
    assert not (tmp_path / "j.db.p1").exists()


async def test_a_partition_that_is_ended_comes_up_again_and_the_others_go_on(tmp_path: Path) -> None:
    """While one is away, streams of the other are read and written; afterwards all of them are."""
    url = f"sqlite:///{tmp_path}/j.db?partitions=2"
    async with Runtime.local(url, placement=Sharded(1)) as runtime:
        here, there = runtime.get(Account, of(0)), runtime.get(Account, of(1))
        await here.deposit(1)
        await there.deposit(1)
        cluster = runtime._cluster
        await cluster.kill(await cluster.journal(1))
        assert await here.deposit(1) == 2
        assert await there.deposit(1) == 2


# -- on a real Ray -----------------------------------------------------------------------------------------------------


class Callers:
    """One after another to each account, with notes of their own; and what they were told."""

    def __init__(self, runtime: Any, ids: list[str], judges: list[Judge]) -> None:
        self.runtime, self.judges, self.stopped = runtime, judges, False
        self.answered = [0, 0]
        self.tasks = [asyncio.create_task(self._call(id)) for id in ids]

    async def _call(self, id: str) -> None:
        number, partition = 0, lies_in(id, 2)
        while not self.stopped:
            number += 1
            told = await self.runtime.get(Account, id).add(f"{number}")
            self.judges[partition].told[id, f"{number}"] = (told,)
            self.answered[partition] += 1

    async def stop(self) -> None:
        self.stopped = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), 60)


@pytest.mark.ray
async def test_kill_9_of_one_partition_stops_no_stream_of_the_other(world: Any, kill: Callable[..., None]) -> None:
    """Each in turn, stopped first so that it is away for certain: the other's streams go on meanwhile, and what was
    acknowledged is there once, in order."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    paths = [world.path, Path(f"{world.path}.p1")]
    judges = [Judge(), Judge()]
    world.url = f"sqlite:///{world.path}?partitions=2"
    async with world.open(placement=Sharded(2), config=Config(timeout_s=60)) as runtime:
        assert sorted(name for name in world.actors() if name.startswith("journal")) == ["journal", "journal:1"]
        callers = Callers(runtime, IDS, judges)
        for victim in (1, 0, 1, 0):
            pid, other = writer_pid(paths[victim]), 1 - victim
            moment = callers.answered[victim] + rng.randrange(100)
            await eventually(lambda victim=victim, moment=moment: callers.answered[victim] >= moment)
            kill(pid, signal.SIGSTOP)
            before = callers.answered[other]
            await eventually(lambda other=other, before=before: callers.answered[other] > before + 50)
            kill(pid)
            await eventually(lambda pid=pid: not is_running(pid))
            before_it = callers.answered[victim]
            await eventually(lambda victim=victim, before=before_it: callers.answered[victim] > before + 20)
        await callers.stop()
        counted = [0, 0]
        async for event in runtime.read(Account):
            counted[event.partition] += 1
        world.clear()  # so that nobody writes while the files are read
    written = [judge.check(path) for judge, path in zip(judges, paths, strict=True)]
    assert written == counted == callers.answered


@pytest.mark.ray
async def test_a_second_runtime_finds_every_partition(world: Any) -> None:
    """And one that asks for another count, in the same namespace, is told what that serves."""
    world.url = f"sqlite:///{world.path}?partitions=2"
    async with world.open(placement=Sharded(1)) as first:
        await asyncio.gather(*(first.get(Account, id).deposit(1) for id in IDS))
        async with world.open(placement=Sharded(1)) as second:
            assert [await second.get(Account, id).deposit(1) for id in IDS] == [2] * len(IDS)
            assert len([event async for event in second.read()]) == 2 * len(IDS)
        world.url, running = f"sqlite:///{world.path}?partitions=3", sorted(world.actors())
        with pytest.raises(NamespaceConflict, match="partitions=2"):
            async with world.open(placement=Sharded(1)):
                pass
        assert sorted(world.actors()) == running
