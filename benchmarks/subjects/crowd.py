"""A crowd: a process full of callers who want more than there is, and keep account of every call.

A closed loop is one caller who makes the next call when the last one is answered; a burst is many calls in one turn of
the event loop, each made once. Whoever is refused comes back after a pause, as callers should. Every call carries a
number of its own, which the journal keeps, and the crowd remembers what became of each.
"""

import asyncio
import os
import random
import time
from collections import Counter as Tally
from dataclasses import dataclass, field

from benchmarks.subjects.counter import Counter
from holdfast.runtime import Config, DeadlineExceeded, Overloaded, Runtime, Sharded

__all__ = ["NOT_DONE", "TOLD", "UNKNOWN", "Crowd", "Pressed", "call_number"]

UNSENT, TOLD, NOT_DONE, UNKNOWN = range(4)
"""What became of a call: it was acknowledged, it certainly did not happen, or its caller does not know."""

CALLS_MAX = 1 << 32


def call_number(crowd: int, call: int) -> int:
    """A number that no other call has; not 0."""
    return (crowd + 1) * CALLS_MAX + call


@dataclass(slots=True, kw_only=True)
class Pressed:
    """What one crowd saw while it pressed. `tally`: calls made, by what became of them. `latencies`: of those that were
    done, in seconds."""

    seconds: float
    tally: Tally[str] = field(default_factory=Tally)
    latencies: list[float] = field(default_factory=list)

    @property
    def offered_per_s(self) -> float:
        return self.tally.total() / self.seconds

    @property
    def done_per_s(self) -> float:
        return self.tally["done"] / self.seconds


class Crowd:
    """As a Ray actor, in a process of its own, with a runtime of its own."""

    async def open(self, url: str, crowd: int, aggregates: int, waiting_max: int, seed: int) -> int:
        """Its process. `waiting_max`: see `Config`."""
        config = Config(waiting_max=waiting_max)
        self._runtime = await Runtime.open(url, placement=Sharded(1), config=config)
        self._counters = [self._runtime.get(Counter, f"counter {n}") for n in range(aggregates)]
        self._crowd, self._random, self._fates = crowd, random.Random(seed), bytearray()
        await asyncio.gather(*(self._call(Pressed(seconds=1)) for _ in range(aggregates)))
        return os.getpid()

    async def press(
        self, seconds: float, callers: int, *, pause_s: float = 0, burst: int = 0, burst_every_s: float = 1
    ) -> Pressed:
        """So many callers for so long, and bursts. `pause_s`: how long one who was refused stays away, on average.
        Counts what was answered in that time; returns when all is answered."""
        pressed, started = Pressed(seconds=seconds), time.perf_counter()
        end = started + seconds

        async def caller() -> None:
            while time.perf_counter() < end:
                if not await self._call(pressed, end):
                    await asyncio.sleep(pause_s * (0.5 + self._random.random()))

        async def bursts() -> None:
            while burst and time.perf_counter() + burst_every_s < end:
                await asyncio.sleep(burst_every_s)
                await asyncio.gather(*(self._call(pressed, end) for _ in range(burst)))

        await asyncio.gather(bursts(), *(caller() for _ in range(callers)))
        return pressed

    async def fates(self) -> bytes:
        """What became of each call that was ever made here, by its number."""
        return bytes(self._fates)

    async def close(self) -> None:
        await self._runtime.close()

    async def _call(self, pressed: Pressed, end: float = 0) -> bool:
        """Whether it was done."""
        number = len(self._fates)
        self._fates.append(UNSENT)
        counter = self._counters[number % len(self._counters)]
        started = time.perf_counter()
        try:
            await counter.add(call_number(self._crowd, number))
        except Overloaded as error:
            fate, said = NOT_DONE, f"Overloaded: {error.what.partition(' ')[0]}"
        except DeadlineExceeded as error:
            fate = UNKNOWN if error.outcome == DeadlineExceeded.UNKNOWN else NOT_DONE
            said = f"DeadlineExceeded: {error.outcome}"
        else:
            fate, said = TOLD, "done"
        self._fates[number] = fate
        if (now := time.perf_counter()) <= end:
            pressed.tally[said] += 1
            if fate == TOLD:
                pressed.latencies.append(now - started)
        return fate == TOLD
