"""The clock that reminders and timers go by: the machine's, or one that a test moves by hand.

    clock = VirtualClock(datetime(2030, 1, 1, tzinfo=UTC))
    async with Runtime.local(clock=clock) as runtime:
        await runtime.get(Offer, "a").make()             # reminds itself in 30 days
        await clock.advance(timedelta(days=30))          # and has been, when this returns

It says what time commands run at, and when what is due is due. How long a caller waits for an answer, and how long an
aggregate may be idle, is counted by the machine, whatever a test does to its clock.

On a cluster each process has a clock of its own. A virtual one that is carried to another process is another clock
there, which stands where this one stood; whoever carried it sees to it that it follows (`VirtualClock.on_advance`).
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

from .context import EPOCH

__all__ = ["MACHINE", "Clock", "MachineClock", "Timed", "VirtualClock", "micros_of", "moment_of"]

SETTLE_S = 10.0
"""Seconds of the machine's time that what a virtual clock woke may take before the test is told that it hangs, where it
says nothing else."""

Follow: TypeAlias = Callable[[datetime], Awaitable[None]]
"""Has a clock elsewhere come to a moment, and returns when all that is due there until then has come to its end."""

TURNS = 20
"""Turns of the event loop in which everything happens that waits for nothing from outside."""


def micros_of(moment: datetime) -> int:
    """µs since 1970 UTC of an aware datetime."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment_of(micros: int) -> datetime:
    """The other way: aware, UTC."""
    return EPOCH + timedelta(microseconds=micros)


class Timed(Protocol):
    """Something that a clock will do. `asyncio.TimerHandle` is one."""

    def cancel(self) -> None:
        """Do not do it."""
        ...


class Clock(Protocol):
    """What time it is, and what happens then."""

    def now_us(self) -> int:
        """µs since 1970 UTC."""
        ...

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> Timed:
        """Call back in so many seconds."""
        ...

    async def pause(self, until_us: int | None, poll_s: float, wake: asyncio.Event) -> None:
        """Return at `until_us` (None: nothing is known to come), when `wake` is set, or when it is time to look
        again: after `poll_s`, or, on a virtual clock, after anything has happened by it."""
        ...

    def hold(self) -> Callable[[], None]:
        """Something is under way that belongs to this moment: a virtual clock moves on once what this returns was
        called."""
        ...


class MachineClock:
    """The machine's clock, and the event loop's timers."""

    def now_us(self) -> int:
        """µs since 1970 UTC."""
        return time.time_ns() // 1000

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> Timed:
        """See `Clock.call_later`."""
        return asyncio.get_running_loop().call_later(delay_s, callback, *args)

    async def pause(self, until_us: int | None, poll_s: float, wake: asyncio.Event) -> None:
        """See `Clock.pause`."""
        if until_us is not None:
            poll_s = min(poll_s, (until_us - self.now_us()) / 1e6)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(poll_s, 0.0)):
                await wake.wait()

    def hold(self) -> Callable[[], None]:
        """Time waits for nobody."""
        return _released


def _released() -> None:
    pass


MACHINE: Clock = MachineClock()


class _Entry:
    """One thing in the agenda of a virtual clock."""

    __slots__ = ("act", "cancelled")

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.cancelled = act, False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """A clock that stands still until it is told to advance. For one event loop."""

    def __init__(self, start: datetime, *, settle_s: float = SETTLE_S) -> None:
        """`start`: aware. `settle_s`: seconds of the machine's time that what was woken may take to come to its end.
        Where processes are killed on the way, that is as long as they take to come back."""
        if start.tzinfo is None:
            raise ValueError(f"a clock starts at a time with a time zone, not at {start!r}")
        self.settle_s = settle_s
        self._now_us = micros_of(start)
        self._agenda: list[tuple[int, int, _Entry]] = []
        self._entries = itertools.count()
        self._pausing: dict[asyncio.Task[Any] | None, asyncio.Future[None]] = {}
        self._awake: set[asyncio.Task[Any] | None] = set()  # have paused before, and are busy now
        self._holds = 0
        self._settled = asyncio.Event()
        self._followed_by: list[Follow] = []

    def __reduce__(self) -> tuple[Callable[..., "VirtualClock"], tuple[Any, ...]]:
        """What is in the agenda is for this event loop, and stays."""
        return _standing_at, (self._now_us, self.settle_s)

    def __repr__(self) -> str:
        return f"<virtual clock at {self.now.isoformat()}>"

    @property
    def now(self) -> datetime:
        """What time it is, aware, UTC."""
        return moment_of(self._now_us)

    def now_us(self) -> int:
        """µs since 1970 UTC."""
        return self._now_us

    async def advance(self, by: timedelta) -> None:
        """Let so much time pass. All that is due on the way happens in order, each at its own time, and each has
        come to its end before the clock moves on. Raises `ValueError` for going back, `TimeoutError` if something
        that was woken has not come to its end after `settle_s`, and what the clocks that follow this one raise."""
        await self.advance_to(self.now + by)

    async def advance_to(self, moment: datetime) -> None:
        """The same, up to that time: an aware datetime."""
        until_us = micros_of(moment)
        if until_us < self._now_us:
            raise ValueError(f"time does not go back from {self.now.isoformat()} to {moment.isoformat()}")
        await self._settle()
        while (due_us := self._next()) is not None and due_us <= until_us:
            self._now_us = max(self._now_us, due_us)
            _, _, entry = heapq.heappop(self._agenda)
            if not entry.cancelled:
                entry.act()
                await self._settle()
        self._now_us = until_us
        await self._settle()
        for follow in list(self._followed_by):
            await follow(moment)

    def on_advance(self, follow: Follow) -> Callable[[], None]:
        """Have `follow(moment)` awaited whenever this clock has come to a moment, after all that happens by this clock
        itself. Returns what ends that."""
        self._followed_by.append(follow)
        return lambda: self._followed_by.remove(follow)

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> Timed:
        """See `Clock.call_later`."""
        return self._enter(self._now_us + max(0, round(delay_s * 1e6)), lambda: callback(*args))

    async def pause(self, until_us: int | None, poll_s: float, wake: asyncio.Event) -> None:
        """See `Clock.pause`. Looking again costs no time here, so `poll_s` does not matter."""
        task, woken = asyncio.current_task(), asyncio.get_running_loop().create_future()
        entry = None if until_us is None else self._enter(until_us, lambda: _tell(woken))
        waiting = asyncio.ensure_future(wake.wait())
        waiting.add_done_callback(lambda _: _tell(woken))
        self._fall_asleep(task, woken)
        try:
            await woken
        finally:
            waiting.cancel()
            if entry is not None:
                entry.cancel()
            del self._pausing[task]
            self._awake.add(task)

    def hold(self) -> Callable[[], None]:
        """See `Clock.hold`. What it returns may be called once."""
        self._holds += 1
        return self._let_go

    def _let_go(self) -> None:
        self._holds -= 1
        self._settled.set()

    def _enter(self, due_us: int, act: Callable[[], None]) -> _Entry:
        entry = _Entry(act)
        heapq.heappush(self._agenda, (due_us, next(self._entries), entry))
        return entry

    def _fall_asleep(self, task: "asyncio.Task[Any] | None", woken: "asyncio.Future[None]") -> None:
        assert task is not None, "only a task can pause"
        if task not in self._awake:
            task.add_done_callback(self._ended)
        self._awake.discard(task)
        self._pausing[task] = woken
        self._settled.set()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._awake.discard(task)
        self._settled.set()

    def _next(self) -> int | None:
        while self._agenda and self._agenda[0][2].cancelled:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    async def _settle(self) -> None:
        """Let everything of this moment come to its end, then have everybody look again who might find more."""
        try:
            async with asyncio.timeout(self.settle_s):
                await self._quiet()
                for woken in list(self._pausing.values()):
                    _tell(woken)
                await self._quiet()
        except TimeoutError:
            raise TimeoutError(f"{self!r}: what was woken has not come to its end in {self.settle_s:g} s") from None

    async def _quiet(self) -> None:
        while True:
            self._settled.clear()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if not self._holds and not self._awake:
                return
            await self._settled.wait()


def _standing_at(now_us: int, settle_s: float) -> VirtualClock:
    return VirtualClock(moment_of(now_us), settle_s=settle_s)


def _tell(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
