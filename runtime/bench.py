"""A quick measurement of this machine: durable commands, and replay. Small and self-contained, from an installed wheel.

What is measured is what a program gets: references, hosts, the journal's process and its flushes to the disk. The
project's own benchmarks compare, repeat and explain; this tells in some seconds what to expect here.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast.actors import Aggregate, command, event, on

from .placement import Sharded
from .runtime import Runtime

__all__ = ["Added", "Counter", "Figures", "measure"]

WARM_UP = 200
FLUSHES, FLUSH_BYTES = 50, 4096
REPLAYS = 3


@event("bench.added")
class Added:
    """An amount was added."""

    amount: int


class Counter(Aggregate, category="bench.Counter", snapshot_every=1_000_000_000, snapshot_on_passivate=False):
    """The smallest thing that has a state, an event and a reply."""

    total: int = 0

    @command
    def add(self, amount: int) -> int:
        """The new total."""
        self.emit(Added(amount))
        return self.total

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. `on`: where the hosts lived. `flush_ms`: one write of 4 KiB and its flush to the disk, the
    median; `one_p50_ms`: one command at a time, from the call to the reply; `_s`: a second."""

    on: str
    cores: int
    flush_ms: float
    one_s: float
    one_p50_ms: float
    many_in_flight: int
    many_s: float
    replay_events: int
    replay_s: float


async def measure(
    folder: Path, *, seconds: float = 3.0, in_flight: int = 1000, ray: bool = True, tell: Callable[[str], None]
) -> Figures:
    """Measure in a folder, on the disk that it is on. `ray`: on a Ray that is started for it, as a program would run;
    else all in this process. `tell`: told of each step."""
    tell("the disk")
    flush_ms = await asyncio.to_thread(_flush_ms, folder / "flushed")
    tell("starting")
    url = f"sqlite:///{folder / 'bench.db'}"
    opened = Runtime.open(url, placement=Sharded(1)) if ray else Runtime.local(url, placement=Sharded(1))
    async with opened as runtime:
        counter = runtime.get(Counter, "hot")
        for _ in range(WARM_UP):
            await counter.add(1)
        tell("one at a time")
        times = await _one_at_a_time(counter, seconds)
        tell(f"{in_flight:,} in flight")
        rate = await _many(counter, seconds, in_flight)
        tell("replay")
        events, replay_s = await _replay(runtime)
    return Figures(
        on="Ray" if ray else "this process",
        cores=os.cpu_count() or 0,
        flush_ms=flush_ms,
        one_s=len(times) / sum(times),
        one_p50_ms=statistics.median(times) * 1000,
        many_in_flight=in_flight,
        many_s=rate,
        replay_events=events,
        replay_s=replay_s,
    )


def _flush_ms(path: Path) -> float:
    taken: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            started = time.perf_counter()
            file.write(b"\0" * FLUSH_BYTES)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


async def _one_at_a_time(counter: Counter, seconds: float) -> list[float]:
    taken: list[float] = []
    began = time.perf_counter()
    while (started := time.perf_counter()) - began < seconds:
        await counter.add(1)
        taken.append(time.perf_counter() - started)
    return taken


async def _many(counter: Counter, seconds: float, in_flight: int) -> float:
    done = 0
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await counter.add(1)
            done += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def _replay(runtime: Runtime) -> tuple[int, float]:
    """The events of the counter, and how many of them a second are read and applied: there is no snapshot of it."""
    taken: list[float] = []
    events = 0
    for _ in range(REPLAYS):
        started = time.perf_counter()
        state = await runtime.state_at(Counter, "hot")
        taken.append(time.perf_counter() - started)
        events = state.version
    return events, events / statistics.median(taken)
