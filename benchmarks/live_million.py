"""How many aggregates are live at once in one host, against bare Ray actors in the same memory?

One real Ray host holds 1,000,000 of them, each made by a durable command of its own. Then a random 10,000 are asked for
their values, and none may have left memory meanwhile. Memory per aggregate is what the host's process has grown by,
divided by their number; the state itself, one int, is taken off. A few bare Ray actors with the same small state tell
what one of them costs (proportional set size: what processes share is divided among them), and so how many 8 GiB would
hold.
"""

import asyncio
import sys
from dataclasses import dataclass

from benchmarks.harness import Question, Run, at_least, at_most, closed_loop
from benchmarks.harness.processes import actor_pids, proportional_bytes, resident_bytes
from benchmarks.subjects.bare import bare_counter
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime, Sharded

MEMORY_BYTES = 8 << 30

QUESTION = Question(
    name="live_million",
    asks="how many aggregates are live at once in one host of 8 GiB?",
    compared="bare Ray actors in 8 GiB, by the memory of a few",
    target=at_least(1000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`asked`: of the live ones, at random. `actors`: bare ones that are started to be weighed."""

    aggregates: int
    asked: int
    actors: int
    callers: int = 1000


FULL = Sizes(aggregates=1_000_000, asked=10_000, actors=8)
QUICK = Sizes(aggregates=20_000, asked=2_000, actors=2)


async def measure(run: Run, sizes: Sizes) -> None:
    placement = Sharded(1, live_max=sizes.aggregates + 1, idle_s=24 * 3600)
    async with Runtime.open(f"sqlite:///{run.folder}/counters.db", placement=placement) as runtime:
        await runtime.get(Counter, "first").add(0)
        pid = actor_pids()["host:Counter#0"]
        before = resident_bytes(pid)
        await make_live(run, runtime, sizes)
        after = resident_bytes(pid)
        await ask_some(run, runtime, sizes)
        statistics = await runtime.statistics()
        assert statistics.live == statistics.hydrations == sizes.aggregates + 1, f"some have left: {statistics}"
        told(run, sizes, before, after, await actor_bytes(sizes.actors))


def told(run: Run, sizes: Sizes, before: int, after: int, actor: float) -> None:
    """The figures. In less than full size the number is what the memory would hold, by the memory of those few."""
    each = (after - before) / sizes.aggregates
    state = sys.getsizeof(sizes.aggregates)
    hold = (MEMORY_BYTES - before) / each
    run.compare(
        "of one aggregate, beyond its state", "bytes", [each - state], target=at_most(2048, "bytes"), compared=""
    )
    if not run.quick:
        fits = sizes.aggregates if after <= MEMORY_BYTES else 0
        target = at_least(1_000_000, "live")
        run.compare("at once in 8 GiB, held", "live", [fits], target=target, compared="")
    run.compare("that 8 GiB would hold, by their memory", "live", [hold], [MEMORY_BYTES / actor])
    run.details["bytes of one aggregate, its state included"] = round(each)
    run.details["memory of the host's process in MiB, before and with all"] = [before >> 20, after >> 20]
    run.details["memory of a bare Ray actor in MiB"] = round(actor / (1 << 20), 1)
    run.note(f"the actors that 8 GiB hold are extrapolated from {sizes.actors} that were started")
    if run.quick:
        run.note(f"quick: {sizes.aggregates:,} live aggregates, not 1,000,000; more is extrapolated")


async def make_live(run: Run, runtime: Runtime, sizes: Sizes) -> None:
    """Aggregate number n is made by the command that adds n."""
    numbers = iter(range(sizes.aggregates))
    with run.progress("making them live", sizes.aggregates) as advance:

        async def caller(_: int) -> None:
            for number in numbers:
                total = await runtime.get(Counter, f"{number}").add(number)
                assert total == number, "a command was lost or doubled"
                if number % 1000 == 0:
                    advance(1000)

        taken = await closed_loop(caller, sizes.callers)
    run.details["durable commands a second that made them"] = round(sizes.aggregates / taken)


async def ask_some(run: Run, runtime: Runtime, sizes: Sizes) -> None:
    """A random sample answers what its number says."""
    numbers = run.random.sample(range(sizes.aggregates), sizes.asked)
    values = await asyncio.gather(*(runtime.get(Counter, f"{number}").value() for number in numbers))
    assert values == numbers, "a state is wrong"
    run.details["verified"] = f"the values of {sizes.asked:,} at random, seed {run.seed}"


async def actor_bytes(count: int) -> float:
    """Memory of one bare actor, by that of several which are there together."""
    actors = [bare_counter(1) for _ in range(count)]
    pids = [await actor.pid.remote() for actor in actors]
    return sum(map(proportional_bytes, pids)) / count
