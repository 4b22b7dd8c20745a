"""How many durable commands a second does one hot aggregate do, against bare Ray calls that store nothing?

One client, 1,000 calls in flight. Holdfast answers each after its event is on disk (fsync, `synchronous=full`); the Ray
actor it is compared with adds to a number in memory.
"""

from dataclasses import dataclass

from benchmarks.harness import Question, Run, at_least, rate
from benchmarks.subjects.bare import bare_counter, wait_for
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime

QUESTION = Question(
    name="hot_aggregate",
    asks="how many durable commands a second does one hot aggregate do?",
    compared="bare Ray actor calls, nothing journaled",
    target=at_least(25),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`durable`, `bare`: calls of each caller in one round."""

    rounds: int
    callers: int
    durable: int
    bare: int


FULL = Sizes(rounds=9, callers=1000, durable=40, bare=4)
QUICK = Sizes(rounds=3, callers=1000, durable=10, bare=1)


async def measure(run: Run, sizes: Sizes) -> None:
    async with Runtime.open(f"sqlite:///{run.folder}/counter.db") as runtime:
        counter, bare = runtime.get(Counter, "hot"), bare_counter(sizes.callers)
        bare_add = wait_for(bare.add)

        async def durable() -> float:
            return await rate(lambda caller: counter.add(1), callers=sizes.callers, each=sizes.durable)

        async def plain() -> float:
            return await rate(lambda caller: bare_add(1), callers=sizes.callers, each=sizes.bare)

        samples = await run.alternate("rounds", sizes.rounds, {"durable": durable, "plain": plain})
        run.compare("durable commands", "/s", samples["durable"], samples["plain"])
        sent = (1 + sizes.rounds) * sizes.callers  # one round warms up
        assert (await runtime.state_at(Counter, "hot")).total == sent * sizes.durable, "a command was lost or doubled"
        assert await bare_add(0) == sent * sizes.bare, "a bare call was lost or doubled"
