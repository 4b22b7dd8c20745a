"""The watchdog: a peer that does not turn ends the request, and nothing else is mistaken for that."""

import asyncio
import contextlib
from typing import Any

import pytest

from holdfast.runtime.cluster import PeerSilent
from holdfast.runtime.config import Config
from holdfast.runtime.watch import watched

HASTY = Config(suspect_s=0.001, paused_s=0.001)


class FakePeer:
    """Answers when it is let to; `turns`: what it is found to do each time somebody looks, the last one for ever."""

    name = "host"

    def __init__(self, *turns: bool) -> None:
        self.turns = list(turns)
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.looked_at = asyncio.Event()
        self.dropped = False

    async def ask(self, method: str, *args: Any) -> Any:
        try:
            return method, args, await self.answer
        except asyncio.CancelledError:
            self.dropped = True
            raise

    async def responds(self, within_s: float) -> bool:
        self.looked_at.set()
        return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]


async def test_an_answer_comes_through_however_often_the_peer_was_suspected() -> None:
    """Slow is not silent."""
    peer = FakePeer(True)
    asking = asyncio.create_task(watched(peer, HASTY, "load", 1))
    for _ in range(3):
        peer.looked_at.clear()
        await peer.looked_at.wait()
    peer.answer.set_result("all")
    assert await asking == ("load", (1,), "all")


async def test_a_peer_that_does_not_turn_is_told_and_its_request_dropped() -> None:
    """At the first look, or at a later one; whoever asked is not cancelled by it."""
    peer = FakePeer(True, True, False)

    async def asks() -> int:
        with pytest.raises(PeerSilent):
            await watched(peer, HASTY, "load")
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await asyncio.create_task(asks()) == 0
    assert peer.dropped


async def test_whoever_asks_can_be_cancelled_and_the_request_with_it() -> None:
    """That is no silence."""
    peer = FakePeer(True)
    asking = asyncio.create_task(watched(peer, HASTY, "load"))
    await peer.looked_at.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert peer.dropped


async def test_an_error_of_the_peer_is_raised_and_the_watch_ends_with_it() -> None:
    """Nothing of it goes on in the loop."""
    peer = FakePeer(False)
    peer.answer.set_exception(KeyError("no such thing"))
    with pytest.raises(KeyError):
        await watched(peer, Config(), "load")
    assert len(asyncio.all_tasks()) == 1


class Deaf(FakePeer):
    """Whoever looks at it does not hear that the look is cancelled, as with `asyncio.wait_for` and an answer that has
    just come."""

    async def responds(self, within_s: float) -> bool:
        self.looked_at.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return self.turns[0]


@pytest.mark.parametrize("turns", [True, False], ids=["turns", "does not turn"])
async def test_a_watch_whose_cancellation_got_lost_ends_with_its_request(turns: bool) -> None:
    """It does not look again, nor cancel whoever had asked and now does something else."""
    peer = Deaf(turns)

    async def asks() -> Any:
        answer = await watched(peer, HASTY, "load")
        for _ in range(5):  # the look ends meanwhile
            await asyncio.sleep(0)
        return answer

    asking = asyncio.create_task(asks())
    await peer.looked_at.wait()
    peer.answer.set_result("all")
    assert await asking == ("load", (), "all")
    loop: Any = asyncio.get_running_loop()
    assert all(timer.cancelled() for timer in loop._scheduled)


async def test_a_look_that_fails_says_nothing_of_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the request stays watched: a peer that is found not to turn later ends it all the same."""
    peer, looks = FakePeer(False), 0

    async def responds(within_s: float) -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("no way to ask")
        return False

    peer.responds = responds  # type: ignore[method-assign]
    with pytest.raises(PeerSilent):
        await asyncio.wait_for(watched(peer, HASTY, "load"), 60)
    assert looks == 2
    assert "resident<host>: could not be asked" in caplog.text
    assert "no way to ask" in caplog.text
