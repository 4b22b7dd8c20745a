"""How many durable commands a second, against the library `eventsourcing` with SQLite?

Both flush each command to the same disk before they answer. The library works in one process, in blocking calls, with
the settings that make it fastest (`subjects/library.py`); over 1,000 aggregates it may use threads, if that is faster.
Holdfast has 1,000 calls in flight.
"""

import asyncio
from dataclasses import dataclass

from benchmarks.harness import Question, Run, at_least, rate
from benchmarks.many_aggregates import verify
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.library import Counters, commands_per_s, opened
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="eventsourcing_sqlite",
    asks="how many durable commands a second, against the library eventsourcing?",
    compared="eventsourcing 9.5 with SQLite",
    target=at_least(20),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`ours`, `theirs`: commands in one round, whatever the number of aggregates. `threads`: that it may use."""

    rounds: int
    callers: int
    aggregates: int
    ours: int
    theirs: int
    threads: tuple[int, ...] = (1, 4)


FULL = Sizes(rounds=7, callers=1000, aggregates=1000, ours=40_000, theirs=4_000)
QUICK = Sizes(rounds=3, callers=1000, aggregates=1000, ours=6_000, theirs=1_000)


async def measure(run: Run, sizes: Sizes) -> None:
    url = f"sqlite:///{run.folder}/counters.db"
    async with Runtime.open(url, placement=Sharded(2)) as runtime:
        await compare(run, sizes, runtime, of="1 aggregate", aggregates=1, threads=(1,))
        of = f"{sizes.aggregates:,} aggregates"
        await compare(run, sizes, runtime, of=of, aggregates=sizes.aggregates, threads=sizes.threads)


async def compare(
    run: Run, sizes: Sizes, runtime: Runtime, *, of: str, aggregates: int, threads: tuple[int, ...]
) -> None:
    ids = [f"{of} {number}" for number in range(aggregates)]
    counters = [runtime.get(Counter, id) for id in ids]
    library = opened(run.folder / f"library-{aggregates}.db", cached=True)
    theirs, each_of_theirs = library.start(aggregates), sizes.theirs // aggregates
    rates = {n: await asyncio.to_thread(commands_per_s, library, theirs, each_of_theirs, threads=n) for n in threads}
    fastest = max(rates, key=lambda n: rates[n])

    async def ours_once() -> float:
        return await rate(lambda n: counters[n % aggregates].add(1), callers=sizes.callers, each=each)

    async def theirs_once() -> float:
        return await asyncio.to_thread(commands_per_s, library, theirs, each_of_theirs, threads=fastest)

    each = sizes.ours // sizes.callers
    samples = await run.alternate(of, sizes.rounds, {"ours": ours_once, "theirs": theirs_once})
    run.compare("durable commands", "/s", samples["ours"], samples["theirs"], of=of)
    run.details[f"threads of eventsourcing, {of}"] = fastest
    await verify(runtime, ids, (1 + sizes.rounds) * sizes.ours // aggregates)
    verify_library(library, theirs, (1 + sizes.rounds + len(threads)) * each_of_theirs)
    library.close()


def verify_library(library: Counters, ids: list, total: int) -> None:
    """Every counter, as its file has it."""
    library.repository.cache = None
    assert [library.value(id) for id in ids] == [total] * len(ids), "eventsourcing lost or doubled a command"
