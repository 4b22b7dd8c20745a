"""How far is the 99th percentile of a command's latency from its median, at half of the load that is possible?

1,000 aggregates, two hosts. First the peak, with 1,000 calls in flight; then calls come at half that rate, at random
(Poisson), whether or not earlier ones have been answered. A latency counts from the moment at which the call was due,
so that a stall delays everything behind it in the figures as it does for callers. The client sends what is due once a
millisecond.

A ratio to its own median is met the more easily the worse the median is, so that one is told beside it, as are both at
lower loads.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from benchmarks.harness import Question, Run, at_most, percentile, rate
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="tail_latency",
    asks="how far is p99 from p50 at half of the peak load?",
    compared="its own p50",
    target=at_most(5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`seconds`: of one round. `each`: calls of each aggregate in one measurement of the peak."""

    rounds: int
    aggregates: int
    each: int
    seconds: float


FULL = Sizes(rounds=7, aggregates=1000, each=30, seconds=10)
QUICK = Sizes(rounds=3, aggregates=1000, each=8, seconds=0.6)
PEAK_TIMES, HALF, LOWER = 3, 0.5, (0.05, 0.2)


async def measure(run: Run, sizes: Sizes) -> None:
    url = f"sqlite:///{run.folder}/counters.db"
    async with Runtime.open(url, placement=Sharded(2)) as runtime:
        counters = [runtime.get(Counter, f"counter-{number}") for number in range(sizes.aggregates)]
        sent = [0] * sizes.aggregates

        async def call(number: int) -> int:
            sent[number] += 1
            return await counters[number].add(1)

        await rate(call, callers=sizes.aggregates, each=1)  # all are live
        peaks = [await rate(call, callers=sizes.aggregates, each=sizes.each) for _ in range(PEAK_TIMES)]
        peak = statistics.median(peaks)

        async def latencies_at(load: float) -> list[float]:
            times = list(accumulate(run.random.expovariate(load) for _ in range(int(load * sizes.seconds))))
            whom = run.random.choices(range(sizes.aggregates), k=len(times))
            return await open_loop(lambda number: call(whom[number]), times)

        p50, p99, worst = [], [], []

        async def once() -> float:
            latencies = await latencies_at(peak * HALF)
            for found, share in ((p50, 0.5), (p99, 0.99), (worst, 1.0)):
                found.append(percentile(latencies, share))
            return p99[-1]

        await run.alternate("rounds", sizes.rounds, {"once": once})
        run.compare("p50 of a durable command", "s", p50[1:], of="by itself", compared="", has_target=False)
        run.compare("p99 of a durable command", "s", p99[1:], p50[1:])
        run.details["peak and load in commands a second"] = [round(peak), round(peak * HALF)]
        run.details["slowest of each round in ms"] = [round(1e3 * each, 1) for each in worst[1:]]
        for share in LOWER:
            latencies = await latencies_at(peak * share)
            told = [round(1e3 * percentile(latencies, each), 1) for each in (0.5, 0.99)]
            run.details[f"p50 and p99 in ms at {share:.0%} of the peak"] = told
        values = await asyncio.gather(*(counter.value() for counter in counters))
        assert values == sent, "a command was lost or doubled"


async def open_loop(call: Callable[[int], Awaitable[Any]], times: Sequence[float]) -> list[float]:
    """Make call number n when `times[n]` seconds have passed, whatever became of the others; seconds from then to its
    answer."""
    latencies, started = [0.0] * len(times), time.perf_counter()

    async def one(number: int, due: float) -> None:
        await call(number)
        latencies[number] = time.perf_counter() - due

    tasks: list[asyncio.Task[None]] = []
    for number, after in enumerate(times):
        if (left := started + after - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.create_task(one(number, started + after)))
    await asyncio.gather(*tasks)
    return latencies
