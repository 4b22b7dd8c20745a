"""Projections by the front door: started, waited for, looked at, rebuilt; in one process, and on Ray with kills."""

import asyncio
import random
import signal
from typing import Any

import pytest
from hf_bank import Account, Deposited
from hf_project import Balances, Mended, Picky, Shared, Strict, Twice, balances, change, rows
from hf_support import eventually

from holdfast.actors import on
from holdfast.actors.limits import HostLimits
from holdfast.journal import JournalClient
from holdfast.runtime import Config, FollowerPhase, FollowerStopped, NoSuchFollower, Projection, Runtime, Sharded, Table
from holdfast.runtime.projection_follower import ProjectionFollower

FAST = Sharded(1)


class Entries(Projection):
    """Another one, of the same journal."""

    entries = Table("position BIGINT PRIMARY KEY, id TEXT NOT NULL, amount BIGINT NOT NULL")

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: Any) -> None:
        values = (recorded.position, recorded.id, event.amount)
        self.execute(f"INSERT INTO {self.entries} VALUES (?, ?, ?)", *values)


async def deposits(runtime: Any, *amounts: int, id: str = "a") -> None:
    account = runtime.get(Account, id)
    await asyncio.gather(*(account.deposit(amount) for amount in amounts))


async def test_a_projection_shows_what_was_answered_before_it_was_waited_for(model_url: str) -> None:
    """Read your own writes: a command, then `wait_for`, then the tables."""
    async with Runtime.local(placement=FAST) as runtime:
        await runtime.start(Balances, model_url)
        await runtime.start(Entries, model_url)
        total = 0
        for amount in range(1, 6):
            await deposits(runtime, amount)
            total += amount
            await runtime.wait_for(Balances)
            assert await balances(model_url) == [("a", total, amount)]
        await runtime.wait_for(Entries, 5)
        assert len(await rows(model_url, "SELECT * FROM entries")) == 5
        one, two = (await runtime.statistics()).followers
        assert (one.name, one.kind, one.lag, one.events) == ("projection/Balances@1", "projection", 0, 5)
        assert (two.name, two.phase, two.problem) == ("projection/Entries@1", FollowerPhase.LIVE, "")


async def test_a_projection_takes_several_pages_at_once(model_url: str, monkeypatch: Any) -> None:
    """Of the size that the limits say."""
    limits: list[int] = []
    follow = JournalClient.follow_packed

    def seen(client: JournalClient, *, limit: int, **how: Any) -> Any:
        limits.append(limit)
        return follow(client, limit=limit, **how)

    monkeypatch.setattr(JournalClient, "follow_packed", seen)
    async with Runtime.local(placement=FAST, config=Config(host=HostLimits(page=3))) as runtime:
        await runtime.start(Balances, model_url)
        await deposits(runtime, *range(1, 31))
        await runtime.wait_for(Balances)
        assert await balances(model_url) == [("a", sum(range(1, 31)), 30)]
    assert set(limits) == {3 * ProjectionFollower.pages_at_once}
    assert ProjectionFollower.pages_at_once > 1


async def test_a_projection_in_parts_is_waited_for_in_all_of_them(model_url: str) -> None:
    """Over a journal in partitions, too."""
    async with Runtime.local("memory://?partitions=2", placement=FAST) as runtime:
        await runtime.start(Shared, model_url)
        await asyncio.gather(*(deposits(runtime, n, id=f"a{n}") for n in range(40)))
        await runtime.wait_for(Shared)
        assert await balances(model_url) == sorted((f"a{n}", n, 1) for n in range(40))
        assert len((await runtime.statistics()).followers) == 3
        assert await runtime.stop(Shared)
        assert (await runtime.statistics()).followers == ()


async def test_dead_letters_are_listed_and_replayed_by_the_runtime(model_url: str) -> None:
    """Those that fail again are returned."""
    async with Runtime.local(placement=FAST) as runtime:
        with pytest.raises(NoSuchFollower):
            await runtime.dead_letters(Picky)
        await runtime.start(Picky, model_url)
        await deposits(runtime, 1, 13, 99)
        await runtime.wait_for(Picky)
        letters = await runtime.dead_letters(Picky)
        assert [letter.id for letter in letters] == ["a", "a"]
        assert len(await runtime.replay_dead_letters(Picky)) == 2
        await runtime.start(Mended, model_url)  # the same name and version, other code: it takes over
        assert await runtime.replay_dead_letters(Mended, letters[:1]) == []
        (left,) = await runtime.dead_letters(Mended)
        assert "99" in left.traceback or "CHECK" in left.problem or "check" in left.problem
        assert (await runtime.statistics()).followers[0].dead_letters == 1


async def test_a_projection_that_has_stopped_tells_whoever_waits(model_url: str) -> None:
    """And in the statistics, with the place and the problem."""
    async with Runtime.local(placement=FAST) as runtime:
        await runtime.start(Strict, model_url)
        await deposits(runtime, 1, 13)
        with pytest.raises(FollowerStopped, match=r"position 2.*an amount of 13"):
            await runtime.wait_for(Strict)
        (seen,) = (await runtime.statistics()).followers
        assert (seen.phase, seen.errors, seen.lag) == (FollowerPhase.STOPPED, 1, 1)
        assert "an amount of 13" in seen.problem


async def test_a_rebuild_is_an_iteration_of_its_progress(model_url: str) -> None:
    """At its end the new tables serve."""
    async with Runtime.local("memory://?partitions=2", placement=FAST) as runtime:
        await runtime.start(Shared, model_url)
        await asyncio.gather(*(deposits(runtime, n, id=f"a{n}") for n in range(40)))
        await runtime.wait_for(Shared)
        await change(model_url, "UPDATE balances SET balance = 0")
        seen = [progress async for progress in runtime.rebuild(Shared)]
        assert seen[-1].finished
        assert all(one.done <= one.of for one in seen)
        await runtime.wait_for(Shared)
        assert await balances(model_url) == sorted((f"a{n}", n, 1) for n in range(40))


async def test_a_new_version_takes_over_and_the_old_one_is_ended(model_url: str) -> None:
    """It is started beside the old one, which stops when it is replaced, and is ended with the next start or stop."""
    async with Runtime.local(placement=FAST) as runtime:
        await runtime.start(Balances, model_url)
        await deposits(runtime, 1, 2, 3)
        await runtime.wait_for(Balances)
        await runtime.start(Twice, model_url)
        await runtime.wait_for(Twice)  # not before it can be seen
        assert await balances(model_url) == [("a", 600, 3)]
        await deposits(runtime, 4, 5)
        await runtime.wait_for(Twice)
        assert await balances(model_url) == [("a", 1500, 5)]
        with pytest.raises(FollowerStopped, match="version 2"):
            await runtime.wait_for(Balances, 6)
        await runtime.start(Twice, model_url)
        assert [seen.name for seen in (await runtime.statistics()).followers] == ["projection/Balances@2"]
        with pytest.raises(NoSuchFollower):
            await runtime.wait_for(Balances)


def test_the_blocking_twin_has_all_of_it(tmp_path: Any) -> None:
    """Without asyncio."""
    url = f"sqlite:///{tmp_path}/read.db"
    with Runtime.local(placement=FAST) as runtime:
        runtime.start(Picky, url)
        runtime.get(Account, "a").deposit(13)
        runtime.wait_for(Picky)
        assert len(runtime.dead_letters(Picky)) == 1
        assert len(runtime.replay_dead_letters(Picky)) == 1
        assert [progress.finished for progress in runtime.rebuild(Picky)][-1]


# -- on Ray ----------------------------------------------------------------------------------------------------------


@pytest.mark.ray
async def test_a_projection_on_ray_is_killed_under_load_and_counts_each_event_once(
    world: Any, kill: Any, model_url: str
) -> None:
    """SIGKILL of its process, or of the journal's, while events come in; nobody starts it again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ids = [f"a{n}" for n in range(10)]
    async with world.open(placement=FAST) as runtime:
        await runtime.start(Balances, model_url)
        for times in range(1, 4):
            load = [asyncio.ensure_future(deposits(runtime, *range(20), id=id)) for id in ids]
            await asyncio.wait(load, return_when=asyncio.FIRST_COMPLETED)
            if times == 1 or chance.random() < 0.7:
                kill(world.pid_of("follower:projection/Balances@1"))
            else:
                world.kill_journal()
            await asyncio.gather(*load)
            await runtime.wait_for(Balances, timeout_s=60)
            assert await balances(model_url) == [(id, 190 * times, 20 * times) for id in ids]


@pytest.mark.ray
async def test_a_paused_projection_on_ray_is_replaced_and_writes_nothing_when_it_comes_back(
    world: Any, kill: Any, tmp_path: Any
) -> None:
    """Its successor has claimed the name: in the books stands a higher epoch."""
    url = f"sqlite:///{tmp_path}/read.db"
    async with world.open(placement=FAST, config=Config(suspect_s=0.3, paused_s=0.5)) as runtime:
        await runtime.start(Balances, url)
        await deposits(runtime, 1, 2)
        await runtime.wait_for(Balances, timeout_s=60)
        paused = world.pid_of("follower:projection/Balances@1")
        kill(paused, signal.SIGSTOP)
        try:
            await deposits(runtime, 3, 4)
            await runtime.wait_for(Balances, timeout_s=60)
        finally:
            kill(paused, signal.SIGCONT)
        await deposits(runtime, 5)
        await runtime.wait_for(Balances, timeout_s=60)
        assert await balances(url) == [("a", 15, 5)]
        assert (await rows(url, "SELECT epoch FROM holdfast_projections"))[0][0] > 1


@pytest.mark.ray
async def test_a_new_version_on_ray_is_built_by_a_process_of_its_own(world: Any, tmp_path: Any) -> None:
    """The old one goes on with its old code, whose class nobody here may have any more; classes travel by value."""

    class Counts(Projection):
        counts = Table("id TEXT PRIMARY KEY, n BIGINT NOT NULL")

        @on(Deposited)
        def deposited(self, event: Deposited, recorded: Any) -> None:
            self.execute(
                f"INSERT INTO {self.counts} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET n = n + excluded.n",
                recorded.id,
                self.each(),
            )

        def each(self) -> int:
            return 1

    class Better(Counts, name="Counts", version=2):
        def each(self) -> int:
            return 10

    url = f"sqlite:///{tmp_path}/read.db"
    async with world.open(placement=FAST) as runtime:
        await runtime.start(Counts, url)
        await deposits(runtime, 1, 1)
        await runtime.wait_for(Counts, timeout_s=60)
        assert await rows(url, "SELECT * FROM counts") == [("a", 2)]
        await runtime.start(Better, url)
        await deposits(runtime, 1)

        async def swapped() -> bool:
            return await rows(url, "SELECT * FROM counts") == [("a", 30)]

        await eventually(swapped)
        assert await runtime.stop(Better)
        assert [name for name in world.actors() if name.startswith("follower:")] == []
