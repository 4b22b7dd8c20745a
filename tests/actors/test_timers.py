"""Timers of a live aggregate: set when their command is done, gone with the memory they live in."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from hf_host import Bench, Client, door, failure, turns
from hf_offers import HOUR, NOON, Offer

from holdfast.actors import Rejected
from holdfast.actors.clock import VirtualClock
from holdfast.actors.host import Host
from holdfast.journal.errors import JournalFailed

MINUTE = timedelta(minutes=1)


class Stage:
    """A host of offers at noon, and a client."""

    def __init__(self, bench: Bench, clock: VirtualClock, host: Host) -> None:
        self.bench, self.clock, self.host, self.client = bench, clock, host, Client(host)

    async def call(self, method: str, *args: Any, id: str = "a", **how: Any) -> Any:
        return await self.client.call(id, method, *args, **how)

    async def notes(self, id: str = "a") -> list[str]:
        return list(await self.call("all", id=id))

    @property
    def timers(self) -> int:
        return sum(map(len, self.host._timers._timers.values()))


@asynccontextmanager
async def stage(**how: Any) -> AsyncIterator[Stage]:
    async with Bench() as bench:
        clock = VirtualClock(NOON)
        yield Stage(bench, clock, await bench.host(Offer, clock=clock, **how))


async def test_a_timer_sends_its_command_once_when_its_time_has_come() -> None:
    """Into the mailbox; what it emits is durable as ever."""
    async with stage() as s:
        await s.call("set_timer", "x", after=HOUR)
        await s.clock.advance(HOUR - MINUTE)
        assert await s.notes() == []
        await s.clock.advance(HOUR)
        assert (await s.notes(), s.timers) == (["x 01T13:00"], 0)
        assert len(await s.bench.events("a", Offer)) == 1


async def test_a_timer_costs_no_write_and_no_entry_where_there_is_none() -> None:
    """Setting one appends nothing; the table of the host is empty when the last one is over."""
    async with stage() as s:
        await s.call("set_timer", "x", after=HOUR)
        assert await s.bench.events("a", Offer) == []
        await s.call("stop_timer", "x")
        await s.call("stop_timer", "y")
        assert s.host._timers._timers == {}


async def test_a_repeating_timer_goes_on_until_it_is_cancelled() -> None:
    """From `after` on, or from one interval on."""
    async with stage() as s:
        await s.call("set_timer", "x", every=HOUR)
        await s.call("set_timer", "y", after=MINUTE, every=HOUR)
        await s.clock.advance(2.5 * HOUR)
        await s.call("stop_timer", "x")
        await s.call("stop_timer", "y")
        await s.clock.advance(5 * HOUR)
        assert await s.notes() == ["y 01T12:01", "x 01T13:00", "y 01T13:01", "x 01T14:00", "y 01T14:01"]


async def test_a_timer_of_the_same_name_replaces_the_earlier_one() -> None:
    """One name, one timer."""
    async with stage() as s:
        await s.call("set_timer", "x", after=HOUR)
        await s.call("set_timer", "x", after=2 * HOUR)
        await s.clock.advance(5 * HOUR)
        assert await s.notes() == ["x 01T14:00"]


async def test_a_timer_of_a_command_that_raises_is_not_set() -> None:
    """Nor is one cancelled by it."""
    async with stage() as s:
        with pytest.raises(Rejected):
            await s.call("set_timer_and_refuse", "x")
        assert s.timers == 0


async def test_timers_are_gone_when_their_aggregate_leaves_memory_and_do_not_keep_it_there() -> None:
    """A pending one is no reason to stay; nobody is woken by it."""
    async with stage(idle_s=10.0) as s:
        await s.call("set_timer", "x", every=HOUR)
        s.bench.clock.advance(11.0)
        s.host.sweep()
        await turns(20)
        assert (await s.host.live(), s.timers) == ([], 0)
        await s.clock.advance(5 * HOUR)
        assert (await s.host.live(), await s.notes()) == ([], [])


async def test_timers_are_gone_with_their_host() -> None:
    """Fenced, or retired: nothing is left that could go off."""
    async with stage() as s:
        await s.call("set_timer", "x", every=HOUR)
        s.host._leave()
        assert s.timers == 0
        await s.clock.advance(5 * HOUR)


async def test_a_timer_stays_when_another_callers_command_raised() -> None:
    """Its aggregate was in memory all the time, as far as anybody can see."""
    async with stage() as s:
        await s.call("set_timer", "x", after=HOUR)
        assert isinstance(await failure(s.client.start("a", "refuse")), Rejected)
        await turns(20)
        await s.clock.advance(HOUR)
        assert await s.notes() == ["x 01T13:00"]


async def test_timers_are_gone_when_an_append_failed() -> None:
    """The command that set them may be the one that was done in vain."""
    async with stage() as s:
        await s.call("set_timer", "x", after=HOUR)
        s.bench.store.reject(JournalFailed("the disk is full"))
        with pytest.raises(JournalFailed):
            await s.call("ring", "lost")
        assert s.timers == 0


async def test_a_rejected_command_of_a_timer_is_logged_and_the_timer_goes_on(caplog: Any) -> None:
    """So is one that fails, with where."""
    caplog.set_level(logging.INFO)
    async with stage() as s:
        await s.call("set_timer", "x", every=HOUR, command="refuse", args=())
        await s.clock.advance(2 * HOUR)
        assert caplog.text.count("timer 'x' was rejected: not today") == 2
        await s.call("set_timer", "x", every=HOUR, command="ring", args=[7])
        await s.call("set_timer", "y", after=HOUR, command=Offer.tell, args=["b"])
        await s.clock.advance(HOUR)
        assert "timer 'y' failed" in caplog.text
        assert "LookupError" in caplog.text


async def test_a_timer_that_finds_the_mailbox_full_is_logged_and_goes_on(caplog: Any) -> None:
    """Nothing is kept for later; the next time has its own chance."""
    caplog.set_level(logging.INFO)
    async with stage(mailbox_max=1) as s:
        slow = door("slow")
        await s.call("set_timer", "x", every=HOUR)
        begun = s.client.start("a", "ring_slowly", "b", "slow")
        await slow.reached.wait()
        waiting = s.client.start("a", "ring", "c")
        await s.clock.advance(HOUR)
        assert "timer 'x' was not done: ERROR" in caplog.text
        slow.open.set()
        await begun
        await waiting
        await s.clock.advance(HOUR)
        assert (await s.notes())[-1] == "x 01T14:00"


async def test_a_timer_whose_last_call_is_not_answered_yet_leaves_its_time_out() -> None:
    """A slow command is not called again and again."""
    async with stage() as s:
        slow = door("slow")
        await s.call("set_timer", "x", every=HOUR, command=Offer.ring_slowly, args=["x", "slow"])
        cell, timer = next((c, t["x"]) for c, t in s.host._timers._timers.items())
        s.host._timers._ring(cell, timer)
        await slow.reached.wait()
        s.host._timers._ring(cell, timer)
        slow.open.set()
        await s.client.call("a", "look_up")
        assert await s.notes() == ["x begun", "x done"]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({}, ValueError),
        ({"after": -HOUR}, ValueError),
        ({"every": timedelta(0)}, ValueError),
        ({"after": 5}, TypeError),
        ({"after": HOUR, "command": "all"}, TypeError),
        ({"after": HOUR, "args": []}, TypeError),
        ({"after": HOUR, "name": "\n"}, ValueError),
    ],
)
async def test_a_timer_that_makes_no_sense_is_refused_when_it_is_set(how: dict[str, Any], error: type) -> None:
    """With the facts."""
    async with stage() as s:
        with pytest.raises(error):
            await s.call("set_timer", how.pop("name", "x"), **how)
        assert s.timers == 0
