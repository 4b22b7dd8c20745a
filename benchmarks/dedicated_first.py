"""How long until a new dedicated aggregate answers its first command, if a worker is idle, against a cold Ray actor?

A dedicated aggregate is a Ray actor of its own, so a process. Ray starts as many workers beforehand as it has CPUs, for
whatever comes; this one is told that it has one for each aggregate of the run, and that each has got one of them is
checked. The bare actor it is compared with gets a new process, in another Ray on this machine that keeps no idle ones.
"""

import asyncio
import time
from dataclasses import dataclass
from itertools import count

from benchmarks.harness import Question, Run, at_most
from benchmarks.harness.processes import idle_workers
from benchmarks.subjects.bare import cold_starts_elsewhere, ray_of
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Dedicated, Runtime

QUESTION = Question(
    name="dedicated_first",
    asks="how long until a new dedicated aggregate has done its first command, with an idle worker at hand?",
    compared="the first reply of a bare Ray actor, cold",
    target=at_most(0.1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int


OTHERS = 2  # the journal's, and one to spare
START_S, SETTLE_S = 60, 1

FULL = Sizes(rounds=15)
QUICK = Sizes(rounds=3)


async def measure(run: Run, sizes: Sizes) -> None:
    workers = sizes.rounds + 1 + OTHERS
    with ray_of(workers), cold_starts_elsewhere() as cold:
        async with Runtime.open(f"sqlite:///{run.folder}/counters.db", placement=Dedicated()) as runtime:
            await runtime.register(Counter)
            idle, names = await started(workers - OTHERS), count()

            async def dedicated() -> float:
                counter = runtime.get(Counter, f"{next(names)}")
                started = time.perf_counter()
                total = await counter.add(1)
                taken = time.perf_counter() - started
                assert total == 1, "a command was lost or doubled"
                assert await counter.pid() in idle, "it did not get a worker that was idle"
                return taken

            samples = await run.alternate("rounds", sizes.rounds, {"dedicated": dedicated, "cold": cold})
            run.compare("first reply of a dedicated aggregate", "s", samples["dedicated"], samples["cold"])


async def started(count: int) -> set[int]:
    """The workers that are idle, when there are so many."""
    give_up = time.monotonic() + START_S
    while len(idle := idle_workers()) < count:
        assert time.monotonic() < give_up, f"Ray has started {len(idle)} workers beforehand, and not {count}"
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_S)  # the last ones tell Ray that they are there
    return idle
