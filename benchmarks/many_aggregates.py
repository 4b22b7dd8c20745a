"""How many durable commands a second do 1,000 aggregates do, against 1,000 objects in bare Ray actors?

One client, 1,000 calls in flight, one for each aggregate; two hosts. The bare side holds the same 1,000 counters in two
async Ray actors, in memory only.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Question, Run, at_least, rate
from benchmarks.subjects.bare import bare_counters
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="many_aggregates",
    asks="how many durable commands a second do 1,000 aggregates do?",
    compared="bare Ray calls to 1,000 objects in 2 actors, nothing journaled",
    target=at_least(25),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`durable`, `bare`: calls of each aggregate in one round."""

    rounds: int
    aggregates: int
    hosts: int
    durable: int
    bare: int


FULL = Sizes(rounds=9, aggregates=1000, hosts=2, durable=40, bare=4)
QUICK = Sizes(rounds=3, aggregates=1000, hosts=2, durable=10, bare=1)


async def measure(run: Run, sizes: Sizes) -> None:
    url = f"sqlite:///{run.folder}/counters.db"
    async with Runtime.open(url, placement=Sharded(sizes.hosts)) as runtime:
        ids = [f"counter-{number}" for number in range(sizes.aggregates)]
        counters = [runtime.get(Counter, id) for id in ids]
        actors = [bare_counters(sizes.aggregates) for _ in range(sizes.hosts)]

        async def durable() -> float:
            return await rate(lambda n: counters[n].add(1), callers=sizes.aggregates, each=sizes.durable)

        async def bare_add(number: int) -> Any:
            return await actors[number % sizes.hosts].add.remote(ids[number], 1)

        async def plain() -> float:
            return await rate(bare_add, callers=sizes.aggregates, each=sizes.bare)

        samples = await run.alternate("rounds", sizes.rounds, {"durable": durable, "plain": plain})
        run.compare("durable commands", "/s", samples["durable"], samples["plain"])
        await verify(runtime, ids, (1 + sizes.rounds) * sizes.durable)
        totals: dict[str, int] = {}
        for actor in actors:
            totals |= await actor.totals.remote()
        assert totals == dict.fromkeys(ids, (1 + sizes.rounds) * sizes.bare), "a bare call was lost or doubled"


async def verify(runtime: Runtime, ids: list[str], total: int, type: type[Counter] = Counter) -> None:
    """Every counter, as its journal has it."""
    states = await asyncio.gather(*(runtime.state_at(type, id) for id in ids))
    assert [state.total for state in states] == [total] * len(ids), "a command was lost or doubled"
