"""How many aggregates a second come into memory from disk, against `repository.get` of the library `eventsourcing`?

Each exists already, with 10 events and no snapshot, and is asked for once: a query to an aggregate that no host has in
memory. The library's cache is off, so that it reads as well. Every round asks for other aggregates.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from benchmarks.harness import Question, Run, at_least, closed_loop
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.journals import counter_stream, fill, filling
from benchmarks.subjects.library import Counters, opened
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="cold_activation",
    asks="how many aggregates a second come into memory, with 10 events each?",
    compared="repository.get of eventsourcing 9.5 with SQLite, cache off",
    target=at_least(10),
)
EVENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`ours`, `theirs`: activations in one round."""

    rounds: int
    callers: int
    ours: int
    theirs: int


FULL = Sizes(rounds=7, callers=1000, ours=20_000, theirs=3_000)
QUICK = Sizes(rounds=3, callers=1000, ours=2_000, theirs=400)


async def measure(run: Run, sizes: Sizes) -> None:
    path = run.folder / "counters.db"
    waiting = iter(await prepare(run, sizes))
    library = opened(run.folder / "library.db", cached=False)
    theirs = iter(library.start(sizes.theirs * (1 + sizes.rounds), events=EVENTS, amount=3))
    async with Runtime.open(f"sqlite:///{path}", placement=Sharded(2)) as runtime:
        await asyncio.gather(*(runtime.get(Counter, f"first {n}").value() for n in range(10)))  # the hosts start

        async def ours_once() -> float:
            return await activations_per_s(runtime, [next(waiting) for _ in range(sizes.ours)], sizes.callers)

        async def theirs_once() -> float:
            ids = [next(theirs) for _ in range(sizes.theirs)]
            return await asyncio.to_thread(gets_per_s, library, ids)

        samples = await run.alternate("rounds", sizes.rounds, {"ours": ours_once, "theirs": theirs_once})
        run.compare("cold activations", "/s", samples["ours"], samples["theirs"])
        hydrations = (await runtime.statistics()).hydrations
        assert hydrations == 10 + sizes.ours * (1 + sizes.rounds), f"{hydrations}: some were in memory already"
    library.close()


async def prepare(run: Run, sizes: Sizes) -> list[int]:
    """Numbers of counters that exist, in random order; number n has had `EVENTS` additions of n."""
    numbers = list(range(1, sizes.ours * (1 + sizes.rounds) + 1))
    run.random.shuffle(numbers)
    async with filling(run.folder / "counters.db") as (store, epoch):
        with run.progress("filling the journal", len(numbers)) as advance:
            appends = (counter_stream(f"{n}", "fill", epoch, events=EVENTS, amount=n) for n in numbers)
            await fill(store, appends, advance)
    run.random.shuffle(numbers)
    return numbers


async def activations_per_s(runtime: Runtime, numbers: Sequence[int], callers: int) -> float:
    """Ask each once, with so many questions under way."""
    counters = [runtime.get(Counter, f"{number}") for number in numbers]
    values = [0] * len(numbers)

    async def caller(first: int) -> None:
        for place in range(first, len(numbers), callers):
            values[place] = await counters[place].value()

    taken = await closed_loop(caller, callers)
    assert values == [EVENTS * number for number in numbers], "a state is wrong"
    return len(numbers) / taken


def gets_per_s(library: Counters, ids: Sequence[UUID]) -> float:
    """The same, one after the other."""
    started = time.perf_counter()
    values = [library.value(id) for id in ids]
    taken = time.perf_counter() - started
    assert values == [EVENTS * 3] * len(ids), "a state is wrong"
    return len(ids) / taken
