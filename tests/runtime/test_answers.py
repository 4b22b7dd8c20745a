"""Answers: a reply comes through, a process that goes down ends the wait for it, and nobody else's cancellation is
mistaken for that."""

import asyncio
import gc
import weakref
from contextvars import ContextVar
from typing import Any

import pytest
from hf_support import eventually

from holdfast.runtime import answers
from holdfast.runtime.answers import Answers
from holdfast.runtime.cluster import PeerGone


class Process:
    """Up, until it is said to be down. `looks`: how often somebody looked."""

    def __init__(self) -> None:
        self.is_up, self.looks = True, 0
        self.answers = Answers("journal", self._look)
        self.replies: list[asyncio.Future[bytes]] = []

    def _look(self) -> bool:
        self.looks += 1
        return self.is_up

    def ask(self) -> "asyncio.Task[bytes]":
        self.replies.append(asyncio.get_running_loop().create_future())
        return asyncio.create_task(self.answers.wait(self.replies[-1]))

    def look_now(self) -> None:
        """The next look comes at once."""
        timer = self.answers._timer
        assert timer is not None
        timer.cancel()
        self.answers._look()

    async def looked(self) -> None:
        """Somebody has looked once more."""
        before = self.looks
        await eventually(lambda: self.looks > before)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come one after another."""
    monkeypatch.setattr(answers, "LOOK_EVERY_S", 0.001)


def timers() -> list[Any]:
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


async def test_replies_and_errors_come_through_and_nobody_looks_afterwards() -> None:
    """However often the process was looked at meanwhile."""
    process = Process()
    first, second = process.ask(), process.ask()
    await process.looked()
    process.replies[0].set_result(b"done")
    process.replies[1].set_exception(KeyError("no such thing"))
    assert await first == b"done"
    with pytest.raises(KeyError):
        await second
    assert timers() == []


async def test_a_process_that_goes_down_ends_every_wait_for_it() -> None:
    """At the next look, long before Ray says so; the requests are dropped, and whoever asked is not cancelled."""
    process = Process()

    async def asks() -> int:
        task, reply = asyncio.current_task(), asyncio.get_running_loop().create_future()
        with pytest.raises(PeerGone):
            await process.answers.wait(reply)
        assert task is not None
        assert reply.cancelled()
        return task.cancelling()

    asking = [asyncio.create_task(asks()) for _ in range(3)]
    await process.looked()
    process.is_up = False
    assert await asyncio.gather(*asking) == [0, 0, 0]
    assert timers() == []


async def test_a_reply_that_has_come_is_given_though_the_process_went_down_since() -> None:
    """It was answered."""
    process = Process()
    asking = process.ask()
    await process.looked()
    process.is_up = False
    process.replies[0].set_result(b"done")
    process.look_now()
    assert await asking == b"done"


async def test_a_process_that_is_still_starting_is_waited_for() -> None:
    """Only one that was up can have gone down; from then on it counts as any other."""
    process = Process()
    process.is_up = False
    asking = process.ask()
    await process.looked()
    await process.looked()
    assert not asking.done()
    process.is_up = True
    await process.looked()
    process.is_up = False
    with pytest.raises(PeerGone):
        await asking


async def test_whoever_asks_can_be_cancelled_also_in_the_turn_in_which_the_process_is_found_down() -> None:
    """Else a task that is told to end would go on, and one that is waited for never ends."""
    process = Process()
    alone = process.ask()
    await process.looked()
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert process.replies[0].cancelled()
    for look_first in (True, False):
        process.is_up = True
        asking = process.ask()
        await process.looked()
        process.is_up = False
        for step in (process.look_now, asking.cancel)[:: 1 if look_first else -1]:
            step()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert timers() == []


async def test_the_look_keeps_nothing_alive_that_belongs_to_whoever_asked_first() -> None:
    """Others may ask on and on, and the timer with them."""

    class Held:
        pass

    request: ContextVar[Any] = ContextVar("request")
    process = Process()

    async def asks() -> "weakref.ref[Held]":
        request.set(Held())
        await process.answers.wait(reply)
        return weakref.ref(request.get())

    reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(asks())
    await process.looked()
    other = process.ask()
    reply.set_result(b"")
    held = await first
    del first
    await asyncio.sleep(0)  # the turn that this was woken in still knows the task
    gc.collect()
    assert held() is None
    process.replies[0].set_result(b"")
    await other
