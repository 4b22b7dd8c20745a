"""Pending calls: one timer for all deadlines, each told in its time and never before."""

import asyncio
import gc
import random
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast.actors.errors import DeadlineExceeded
from holdfast.runtime.pending import LOOK_APART_S, Deadlines, Pending


def pending(timeout_s: float) -> Pending:
    return Pending("a", "m", (), {}, command_id="c", keyed=False, maybe_executed=False, timeout_s=timeout_s, trace=None)


class Callers(dict[Pending, None]):
    """Counts how often somebody looks at all of them."""

    looks = 0

    def __iter__(self) -> Iterator[Pending]:
        self.looks += 1
        return super().__iter__()


class Line:
    """Callers that come and go, and a loop whose clock is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        self.callers = Callers()
        self.deadlines = Deadlines(self.callers)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_at", self._call_at)

    def _call_at(self, at: float, look: object, context: object = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(at, look, (), asyncio.get_running_loop())  # type: ignore[arg-type]
        self.timers.append((at, handle))
        return handle

    def join(self, timeout_s: float) -> Pending:
        call = pending(timeout_s)
        self.callers[call] = None
        self.deadlines.watch(call)
        return call

    def pass_until(self, now: float) -> None:
        """Time goes on, and whatever timer is due goes off in its moment."""
        while due := [(at, handle) for at, handle in self.timers if at <= now and not handle.cancelled()]:
            at, handle = min(due, key=lambda timer: timer[0])
            self.timers.remove((at, handle))
            self.now = max(self.now, at)
            handle._run()
        self.now = now


def run(story: object) -> None:
    asyncio.run(story())  # type: ignore[operator]


def test_a_caller_is_told_at_its_deadline_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came first: a shorter deadline that came later is met as well."""

    async def story() -> None:
        line = Line(monkeypatch)
        slow, fast = line.join(10), line.join(1)
        line.pass_until(0.9)
        assert not fast.future.done()
        line.pass_until(1)
        assert isinstance(fast.future.exception(), DeadlineExceeded)
        line.pass_until(9.9)
        assert not slow.future.done()
        line.pass_until(10)
        assert isinstance(slow.future.exception(), DeadlineExceeded)

    run(story)


def test_a_deadline_says_whether_the_call_had_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that never left is certain not to have been done."""

    async def story() -> None:
        line = Line(monkeypatch)
        kept, sent = line.join(1), line.join(1)
        sent.sent = True
        line.pass_until(2)
        errors = [kept.future.exception(), sent.future.exception()]
        outcomes = [error.outcome for error in errors if isinstance(error, DeadlineExceeded)]
        assert outcomes == [DeadlineExceeded.NOT_SENT, DeadlineExceeded.UNKNOWN]

    run(story)


def test_when_it_is_stopped_no_timer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep everything alive that hangs on it."""

    async def story() -> None:
        line = Line(monkeypatch)
        line.join(5)
        line.deadlines.stop()
        assert all(handle.cancelled() for _, handle in line.timers)

    run(story)


def test_any_callers_at_any_time_are_told_exactly_when_they_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plainest model: who is late at a moment is whoever has not been answered by its deadline."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def story() -> None:
        line = Line(monkeypatch)
        waiting: dict[Pending, float] = {}
        for _ in range(500):
            if rng.random() < 0.7:
                timeout_s = rng.choice([0.1, 1.0, 30.0]) * (0.5 + rng.random())
                waiting[line.join(timeout_s)] = line.now + timeout_s
            if waiting and rng.random() < 0.5:
                gone = rng.choice(list(waiting))
                del waiting[gone], line.callers[gone]
            line.pass_until(line.now + rng.random() * 0.3)
            late = {call for call, at in waiting.items() if at <= line.now}
            assert {call for call in waiting if call.future.done()} == late
            for call in late:
                assert isinstance(call.future.exception(), DeadlineExceeded)
                del waiting[call], line.callers[call]
            assert sum(not handle.cancelled() for _, handle in line.timers) <= 1

    run(story)


def test_many_callers_with_deadlines_far_and_wide_are_looked_at_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each that is late, which would take a time that grows with the square of their number."""

    async def story() -> None:
        count, intervals = 1000, 10
        line, apart_s = Line(monkeypatch), count * LOOK_APART_S
        calls = [line.join(1 + apart_s * intervals * number / count) for number in range(count)]
        for number in range(intervals + 2):
            line.pass_until(1 + apart_s * number)
            late = {call for call in calls if call.deadline <= line.now - apart_s}
            assert late <= {call for call in calls if call.future.done()}
        assert all(isinstance(call.future.exception(), DeadlineExceeded) for call in calls)
        assert line.callers.looks <= intervals + 2

    run(story)


async def test_the_timer_keeps_nothing_alive_that_belongs_to_a_caller() -> None:
    """What a caller's context holds goes with the caller, and not when the timer goes off."""

    class Held:
        pass

    request: ContextVar[Any] = ContextVar("request")
    callers: dict[Pending, None] = {}
    deadlines = Deadlines(callers)

    async def caller() -> "weakref.ref[Held]":
        request.set(Held())
        deadlines.watch(pending(3600))
        return weakref.ref(request.get())

    held = await asyncio.create_task(caller())
    await asyncio.sleep(0)  # the turn that this was woken in still knows the task
    gc.collect()
    assert held() is None
    deadlines.stop()
