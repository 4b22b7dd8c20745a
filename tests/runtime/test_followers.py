"""Followers: one of each name, from its checkpoint on, started again when it fails or dies, replaced by new code."""

import asyncio
import os
import random
import signal
from typing import Any, cast

import pytest
from hf_bank import Account, Teller
from hf_follow import Failing, Scribe, Succeeded, lines, plan
from hf_support import eventually

from holdfast.actors.errors import DeadlineExceeded
from holdfast.journal.positions import Positions
from holdfast.journal.records import Followed
from holdfast.journal.wire import PackedPage, decode_packed, encode
from holdfast.runtime import Config, NoSuchFollower, Runtime, Sharded, followers
from holdfast.runtime.follower import Desk, FollowerPhase, FollowerStopped, Progress


async def deposits(runtime: Any, count: int, id: str = "a") -> None:
    account = runtime.get(Account, id)
    await asyncio.gather(*(account.deposit(1) for _ in range(count)))


async def test_a_follower_gets_all_there_was_and_all_that_comes(tmp_path: Any) -> None:
    """Catching up and living on are one thing: nothing is left out or doubled at the switch."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 25)
        await runtime.start(plan(tmp_path / "log"))
        await deposits(runtime, 25)
        await runtime.wait_for(plan(tmp_path / "log"))
        assert [int(line.split()[1]) for line in lines(tmp_path / "log")] == list(range(1, 51))


async def test_a_follower_of_a_category_is_past_what_is_none_of_its_business(tmp_path: Any) -> None:
    """Waiting for it does not depend on whether the newest events are its own."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log", category="Teller"))
        await deposits(runtime, 5)
        await runtime.get(Teller, "t").transfer("a", "b", 1)
        await deposits(runtime, 5, "c")
        await runtime.wait_for(plan(tmp_path / "log"))
        assert [line.split()[2] for line in lines(tmp_path / "log")] == ["t"]
        (seen,) = (await runtime.statistics()).followers
        assert (seen.lag, seen.events, seen.phase, seen.kind) == (0, 1, FollowerPhase.LIVE, "scribe")


async def test_a_follower_goes_on_from_its_checkpoint_when_started_again(tmp_path: Any) -> None:
    """Stopped, it does nothing; started again, it does what it missed, once."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log"))
        await deposits(runtime, 5)
        await runtime.wait_for(plan(tmp_path / "log"))
        assert await runtime.stop(plan(tmp_path / "log"))
        assert not await runtime.stop(plan(tmp_path / "log"))
        await deposits(runtime, 5)
        with pytest.raises(NoSuchFollower):
            await runtime.wait_for(plan(tmp_path / "log"))
        await runtime.start(plan(tmp_path / "log"))
        await runtime.wait_for(plan(tmp_path / "log"))
        assert len(lines(tmp_path / "log")) == 10


async def test_a_follower_that_fails_is_run_again_and_says_so(tmp_path: Any) -> None:
    """Its errors are counted, its problem is told, and nothing is skipped."""
    (tmp_path / "log.failures").write_text("3")
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 5)
        await runtime.start(plan(tmp_path / "log", kind=Failing))
        await runtime.wait_for(plan(tmp_path / "log"))
        (seen,) = (await runtime.statistics()).followers
        assert (seen.errors, seen.retries) == (3, 3)
        assert len(lines(tmp_path / "log")) == 5


async def test_a_follower_that_stops_tells_whoever_waits_for_it(tmp_path: Any) -> None:
    """It stays there to be looked at, and what it waits for is named."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log", stop_at=3))
        await deposits(runtime, 5)
        with pytest.raises(FollowerStopped, match="position 3"):
            await runtime.wait_for(plan(tmp_path / "log"))
        (seen,) = (await runtime.statistics()).followers
        assert (seen.phase, seen.problem) == (FollowerPhase.STOPPED, "position 3")


async def test_waiting_for_a_follower_ends_with_the_deadline(tmp_path: Any) -> None:
    """A position that nobody has written yet is waited for, so long."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log"))
        with pytest.raises(DeadlineExceeded):
            await runtime.wait_for(plan(tmp_path / "log"), 1, timeout_s=0.05)
        waiting = asyncio.ensure_future(runtime.wait_for(plan(tmp_path / "log"), 1))
        await deposits(runtime, 1)
        await waiting


async def test_a_follower_with_other_code_is_replaced(tmp_path: Any) -> None:
    """The same code is left alone, other code takes over from the checkpoint."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log"))
        await deposits(runtime, 5)
        await runtime.wait_for(plan(tmp_path / "log"))
        await runtime.start(plan(tmp_path / "log", stop_at=7))  # the same fingerprint: it stays as it is
        await deposits(runtime, 5)
        await runtime.wait_for(plan(tmp_path / "log"))
        await runtime.start(plan(tmp_path / "log", code="2", stop_at=12))
        await deposits(runtime, 5)
        with pytest.raises(FollowerStopped, match="position 12"):
            await runtime.wait_for(plan(tmp_path / "log"))
        assert len(lines(tmp_path / "log")) == 10


async def test_a_follower_that_has_stopped_is_started_again_by_a_start(tmp_path: Any) -> None:
    """Also with the very same code: what it stopped at was mended elsewhere."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await runtime.start(plan(tmp_path / "log", stop_at=3))
        await deposits(runtime, 5)
        with pytest.raises(FollowerStopped):
            await runtime.wait_for(plan(tmp_path / "log"))
        await runtime.start(plan(tmp_path / "log"))
        await runtime.wait_for(plan(tmp_path / "log"))
        assert len(lines(tmp_path / "log")) == 5


async def test_whoever_waits_for_a_life_that_is_fenced_waits_for_its_successor(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one life was succeeded is no news to anybody but itself."""
    monkeypatch.setattr(followers, "WAIT_S", 0.1)
    (tmp_path / "log.fenced").touch()
    async with Runtime.local(placement=Sharded(1), config=Config(suspect_s=0.05)) as runtime:
        await runtime.start(plan(tmp_path / "log", kind=Succeeded))
        waiting = asyncio.ensure_future(runtime.wait_for(plan(tmp_path / "log"), 5))
        (peer,) = runtime._cluster._followers.values()  # type: ignore[attr-defined]
        await eventually(lambda: peer.resident._progress._changed is not None)
        await deposits(runtime, 5)
        await waiting
        assert not (tmp_path / "log.fenced").exists()
        assert len(lines(tmp_path / "log")) == 5


async def test_waiting_for_a_follower_ends_with_the_deadline_also_when_the_journal_does_not_answer() -> None:
    """Where the journal ends is asked first, and that is part of the wait."""
    async with Runtime.local() as runtime:
        runtime.head = asyncio.Event().wait  # type: ignore[assignment, method-assign]
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(runtime.wait_for(plan("nowhere"), timeout_s=0.01), 30)


def test_a_follower_is_live_when_it_knows_the_end_of_every_partition() -> None:
    """Not when it has come to the end of the first that answered."""
    progress = Progress(2)
    progress.start(Positions((3, 3)))
    progress.turn(FollowerPhase.CATCHING_UP)
    progress.saw(0, 3)
    assert progress.phase is FollowerPhase.CATCHING_UP
    progress.saw(1, 3)
    assert progress.phase is FollowerPhase.LIVE


async def test_a_follower_that_starts_at_the_end_says_at_once_that_it_is_live(tmp_path: Any) -> None:
    """It asks where the end is before it waits there."""
    desk = Desk(owner="o", epoch=1, parts=[cast(Any, End())], gate=cast(Any, None), progress=Progress(1))
    running = asyncio.ensure_future(Scribe(str(tmp_path / "log")).run(desk))
    await eventually(lambda: desk.progress.phase is FollowerPhase.LIVE or running.done())
    assert desk.progress.phase is FollowerPhase.LIVE
    running.cancel()


class End:
    """The end of a journal where nothing ever comes; whoever waits, waits for good."""

    async def follow_packed(self, *, after: int, wait_s: float, **_: Any) -> PackedPage:
        if wait_s:
            await asyncio.Event().wait()
        return page(after)


def page(reached: int) -> PackedPage:
    """Without an event; nothing comes after it."""
    return decode_packed(encode(Followed(events=(), reached=reached, head=reached)))


async def test_a_follower_of_a_journal_in_partitions_has_a_position_in_each(tmp_path: Any) -> None:
    """Each partition is gone through in order, and all of them."""
    async with Runtime.local("memory://?partitions=3", placement=Sharded(2)) as runtime:
        await runtime.start(plan(tmp_path / "log"))
        await asyncio.gather(*(deposits(runtime, 3, f"a{n}") for n in range(20)))
        await runtime.wait_for(plan(tmp_path / "log"))
        written = [tuple(map(int, line.split()[:2])) for line in lines(tmp_path / "log")]
        head = await runtime.head()
        assert isinstance(head, Positions)
        for partition in range(3):
            assert [p for at, p in written if at == partition] == list(range(1, head[partition] + 1))


async def test_a_checkpoint_beyond_the_end_of_the_journal_stops_its_follower(tmp_path: Any) -> None:
    """A journal restored from an older copy: what comes next would be taken for what was."""
    (tmp_path / "log").write_text("0 7 a 7\n")
    async with Runtime.local(placement=Sharded(1)) as runtime:
        await deposits(runtime, 3)
        await runtime.start(plan(tmp_path / "log"))
        with pytest.raises(FollowerStopped, match="older copy"):
            await runtime.wait_for(plan(tmp_path / "log"), 100)


async def test_what_is_no_follower_cannot_be_started() -> None:
    """Told at once, and by type."""
    async with Runtime.local() as runtime:
        for call in (runtime.start, runtime.stop, runtime.wait_for):
            with pytest.raises(TypeError, match="projection"):
                await call(Account)


@pytest.mark.ray
async def test_a_follower_survives_kills_of_its_process_and_of_the_journal(world: Any) -> None:
    """Every event in its file once and in order, whatever is killed meanwhile; nobody has to start it again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, log = random.Random(seed), world.path.parent / "log"
    async with world.open(placement=Sharded(1)) as runtime:
        await runtime.start(plan(log))
        for _ in range(3):
            await deposits(runtime, 50)
            if chance.random() < 0.7:
                pid = await runtime._followers.ask("scribe/one", "pid")
                os.kill(pid, signal.SIGKILL)
            else:
                world.kill_journal()
            await deposits(runtime, 50)
        await runtime.wait_for(plan(log), timeout_s=60)
        assert [int(line.split()[1]) for line in lines(log)] == list(range(1, 301))


@pytest.mark.ray
async def test_a_paused_follower_is_replaced_and_its_successor_goes_on(world: Any) -> None:
    """The runtime that started it looks after it: what does not turn is ended, and starts again."""
    log = world.path.parent / "log"
    async with world.open(placement=Sharded(1), config=Config(suspect_s=0.3, paused_s=0.5)) as runtime:
        await runtime.start(plan(log))
        await deposits(runtime, 5)
        await runtime.wait_for(plan(log))
        pid = await runtime._followers.ask("scribe/one", "pid")
        os.kill(pid, signal.SIGSTOP)
        await deposits(runtime, 5)
        await runtime.wait_for(plan(log), timeout_s=60)
        assert len(lines(log)) == 10
        assert await runtime._followers.ask("scribe/one", "pid") != pid


@pytest.mark.ray
async def test_a_follower_outlives_the_runtime_that_started_it(world: Any) -> None:
    """It is the cluster's: another runtime finds it, stops it, and its process ends."""
    log = world.path.parent / "log"
    async with world.open(placement=Sharded(1)) as runtime:
        await runtime.start(plan(log))
    async with world.open(placement=Sharded(1)) as runtime:
        await deposits(runtime, 5)
        await runtime.wait_for(plan(log))
        assert len(lines(log)) == 5
        assert "follower:scribe/one" in world.actors()
        assert await runtime.stop(plan(log))
        await eventually(lambda: "follower:scribe/one" not in world.actors())
