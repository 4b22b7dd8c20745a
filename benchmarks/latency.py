"""How long does one durable command take when nothing else is going on, against a bare Ray call plus one fsync?

One caller, one command at a time: nothing to batch, so that every hop and the flush to disk count in full. What it is
compared with is the least that a durable actor could take: a bare Ray call, and the append of one frame of SQLite's
log (24 bytes and a page of 4,096) to a file on the same disk, with fdatasync.
"""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Question, Run, at_most, percentile
from benchmarks.subjects.bare import bare_counter, wait_for
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime

QUESTION = Question(
    name="latency",
    asks="how long does one durable command take, one caller, one at a time?",
    compared="a bare Ray call plus one fsync",
    target=at_most(2.5),
)
FRAME = bytes(24 + 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`calls`: of each kind in one round."""

    rounds: int
    calls: int


FULL = Sizes(rounds=9, calls=1000)
QUICK = Sizes(rounds=3, calls=200)


async def measure(run: Run, sizes: Sizes) -> None:
    async with Runtime.open(f"sqlite:///{run.folder}/counter.db") as runtime:
        counter, bare = runtime.get(Counter, "one"), bare_counter(1000)
        bare_add, parts = wait_for(bare.add), ([], [])

        async def durable() -> float:
            return await median_s(lambda: counter.add(1), sizes.calls)

        async def call_and_flush() -> float:
            call_s = await median_s(lambda: bare_add(1), sizes.calls)
            flush_s = fsync_median_s(run.folder / "frames", sizes.calls)
            for times, taken in zip(parts, (call_s, flush_s), strict=True):
                times.append(taken)
            return call_s + flush_s

        samples = await run.alternate("rounds", sizes.rounds, {"durable": durable, "least": call_and_flush})
        found = run.compare("one durable command, p50", "s", samples["durable"], samples["least"])
        run.details["sequential durable commands a second"] = round(1 / found.median)
        run.details["of the comparison: bare Ray call, fsync, p50 in ms"] = [
            round(1e3 * percentile(times, 0.5), 3) for times in parts
        ]
        sent = (1 + sizes.rounds) * sizes.calls
        assert (await runtime.state_at(Counter, "one")).total == sent, "a command was lost or doubled"
        assert await bare_add(0) == sent, "a bare call was lost or doubled"


async def median_s(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    """Seconds for one, of so many, one after the other."""
    times: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return percentile(times, 0.5)


def fsync_median_s(path: Path, flushes: int) -> float:
    """Seconds to append one frame to a file and have it on the disk."""
    times: list[float] = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        for _ in range(flushes):
            started = time.perf_counter()
            os.write(file, FRAME)
            os.fdatasync(file)
            times.append(time.perf_counter() - started)
    finally:
        os.close(file)
    return percentile(times, 0.5)
