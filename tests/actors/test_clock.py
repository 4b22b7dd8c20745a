"""The clock that is moved by hand: in order, at the right time, and never ahead of what it woke."""

import asyncio
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.actors import VirtualClock
from holdfast.actors.clock import MachineClock, micros_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def test_timers_of_a_virtual_clock_go_off_in_order_each_at_its_own_time() -> None:
    """Whatever the order they were set in; a cancelled one does not."""
    clock, seen = VirtualClock(NOON), []
    for delay_s in (3, 1, 2):
        clock.call_later(delay_s, lambda delay_s=delay_s: seen.append((delay_s, clock.now - NOON)))
    clock.call_later(1.5, seen.append, "never").cancel()
    await clock.advance(2 * SECOND)
    assert seen == [(1, SECOND), (2, 2 * SECOND)]
    await clock.advance_to(NOON + 10 * SECOND)
    assert seen[2:] == [(3, 3 * SECOND)]
    assert clock.now_us() == micros_of(NOON + 10 * SECOND)


async def test_a_timer_that_sets_another_on_the_way_is_met_by_the_same_advance() -> None:
    """A repeating timer goes off as often as it would have."""
    clock, seen = VirtualClock(NOON), []

    def ring() -> None:
        seen.append(clock.now - NOON)
        clock.call_later(1, ring)

    clock.call_later(1, ring)
    await clock.advance(3.5 * SECOND)
    assert seen == [SECOND, 2 * SECOND, 3 * SECOND]


async def test_a_virtual_clock_waits_for_what_it_woke_before_it_moves_on() -> None:
    """What is held, and a task that has paused before, come to their end at the time they were woken, whatever they
    wait for outside of the loop."""
    clock, seen = VirtualClock(NOON), []

    async def sleeper() -> None:
        wake = asyncio.Event()
        for second in (1, 2, 3):
            while clock.now < NOON + second * SECOND:  # it looks again after anything has happened
                await clock.pause(micros_of(NOON + second * SECOND), 99, wake)
            await asyncio.to_thread(lambda: None)
            seen.append(clock.now - NOON)

    async def errand() -> None:
        release = clock.hold()
        await asyncio.to_thread(lambda: None)
        seen.append(clock.now - NOON)
        release()

    tasks = [asyncio.create_task(sleeper()), asyncio.create_task(errand())]
    await clock.advance(10 * SECOND)
    assert seen == [0 * SECOND, SECOND, 2 * SECOND, 3 * SECOND]
    await asyncio.gather(*tasks)


async def test_whoever_pauses_on_a_virtual_clock_looks_again_after_anything_has_happened() -> None:
    """A reminder that was just set is seen without waiting for a poll."""
    clock, looks = VirtualClock(NOON), []

    async def looker() -> None:
        while True:
            looks.append(clock.now - NOON)
            await clock.pause(None, 0.5, asyncio.Event())

    task = asyncio.create_task(looker())
    clock.call_later(60, lambda: None)
    await clock.advance(120 * SECOND)
    assert {SECOND * 0, 60 * SECOND, 120 * SECOND} == set(looks)
    task.cancel()


async def test_an_event_wakes_who_pauses_without_any_time() -> None:
    """On either clock."""
    for clock in (VirtualClock(NOON), MachineClock()):
        wake = asyncio.Event()
        task = asyncio.create_task(clock.pause(None, 3600.0, wake))
        await asyncio.sleep(0)
        wake.set()
        await task


async def test_the_machines_clock_pauses_no_longer_than_until_its_time() -> None:
    """What is past already is now."""
    clock = MachineClock()
    await clock.pause(clock.now_us() - 1, 3600.0, asyncio.Event())
    clock.hold()()


async def test_time_does_not_go_back_and_has_a_zone() -> None:
    """Both are mistakes of the test."""
    clock = VirtualClock(NOON)
    with pytest.raises(ValueError, match="back"):
        await clock.advance(-SECOND)
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2030, 1, 1))


async def test_what_hangs_is_told_instead_of_waited_for() -> None:
    """Something that was woken and never comes to its end."""
    clock = VirtualClock(NOON, settle_s=0.01)
    clock.hold()
    with pytest.raises(TimeoutError, match="has not come to its end"):
        await clock.advance(SECOND)


async def test_a_clock_that_follows_comes_after_all_that_happens_by_the_clock_itself() -> None:
    """To the same moment, also if that is the old one, until it follows no longer; its trouble is told to who moves."""
    clock, seen = VirtualClock(NOON), list[object]()

    async def follow(moment: datetime) -> None:
        seen.append((moment - NOON, clock.now - NOON))

    async def fail(moment: datetime) -> None:
        raise OSError("it is away")

    clock.call_later(1, seen.append, "rang")
    leave = clock.on_advance(follow)
    await clock.advance(2 * SECOND)
    await clock.advance(0 * SECOND)
    assert seen == ["rang", *2 * [(2 * SECOND, 2 * SECOND)]]
    leave()
    clock.on_advance(fail)
    with pytest.raises(OSError, match="away"):
        await clock.advance(SECOND)
    assert len(seen) == 3


async def test_a_clock_is_carried_to_another_process_without_what_waits_by_it() -> None:
    """It stands where the first one stood, and goes its own way."""
    clock = VirtualClock(NOON, settle_s=3.0)
    clock.call_later(1, lambda: None)
    clock.hold()
    clock.on_advance(lambda moment: asyncio.sleep(0))
    there = pickle.loads(pickle.dumps(clock))
    assert (there.now, there.settle_s) == (NOON, 3.0)
    await there.advance(SECOND)
    assert (there.now, clock.now) == (NOON + SECOND, NOON)
