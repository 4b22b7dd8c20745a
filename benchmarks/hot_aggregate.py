"""How many durable commands a second does one hot aggregate do, against bare Ray calls that store nothing?

One client, 1,000 calls in flight. Holdfast answers each after its event is on disk (fsync, `synchronous=full`); the Ray
actor it is compared with adds to a number in memory. Both run in turn, several times, in one run; the median counts.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from holdfast.actors import Aggregate, command, event, on
from holdfast.runtime import Runtime

ROUNDS, CALLERS = 5, 1_000
DURABLE_CALLS, BARE_CALLS = 20_000, 2_000


@event("counter.added")
class Added:
    amount: int


class Counter(Aggregate):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return self.total

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class Bare:
    def __init__(self) -> None:
        self.total = 0

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total


async def rate(call: Callable[[int], Awaitable[Any]], calls: int) -> float:
    """Calls a second, with `CALLERS` of them in flight."""

    async def caller() -> None:
        for _ in range(calls // CALLERS):
            await call(1)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - started)


async def measure(folder: str) -> None:
    async with Runtime.open(f"sqlite:///{folder}/counter.db") as runtime:
        counter = runtime.get(Counter, "hot")
        bare = ray.remote(num_cpus=0, max_concurrency=CALLERS)(Bare).remote()

        async def bare_add(amount: int) -> Any:
            return await bare.add.remote(amount)

        await rate(counter.add, CALLERS)  # warm up: processes start, caches fill
        await rate(bare_add, CALLERS)
        durable, plain = [], []
        for number in range(ROUNDS):
            durable.append(await rate(counter.add, DURABLE_CALLS))
            plain.append(await rate(bare_add, BARE_CALLS))
            print(f"round {number + 1}: {durable[-1]:,.0f} durable commands/s, {plain[-1]:,.0f} bare Ray calls/s")
        expected = CALLERS + ROUNDS * DURABLE_CALLS
        assert (await runtime.state_at(Counter, "hot")).total == expected, "a command was lost or doubled"
    ratio = statistics.median(durable) / statistics.median(plain)
    print(
        f"median {statistics.median(durable):,.0f} ({min(durable):,.0f} to {max(durable):,.0f}) durable commands/s, "
        f"{statistics.median(plain):,.0f} ({min(plain):,.0f} to {max(plain):,.0f}) bare Ray calls/s: {ratio:.1f} x"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(folder))
