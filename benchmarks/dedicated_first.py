"""How long until a new dedicated aggregate answers its first command, with a spare ready, against a cold Ray actor?

A dedicated aggregate is a Ray actor of its own, so a process. A runtime that keeps spares (`Config(spare_hosts=1)`) has
one that was started beforehand, and starts the next when it is taken: each round waits for that, off the clock. The
bare actor it is compared with gets a new process, in another Ray on this machine that keeps no idle ones.
"""

import asyncio
import time
from dataclasses import dataclass
from itertools import count

from benchmarks.harness import Question, Run, at_most
from benchmarks.subjects.bare import cold_starts_elsewhere, ray_of
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Config, Dedicated, Runtime

QUESTION = Question(
    name="dedicated_first",
    asks="how long until a new dedicated aggregate has done its first command, with a spare process ready?",
    compared="the first reply of a bare Ray actor, cold",
    target=at_most(0.1),
    own_ray=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int


CPUS, START_S = 2, 60

FULL = Sizes(rounds=15)
QUICK = Sizes(rounds=3)


async def measure(run: Run, sizes: Sizes) -> None:
    with ray_of(CPUS), cold_starts_elsewhere() as cold:
        url, config = f"sqlite:///{run.folder}/counters.db", Config(spare_hosts=1)
        async with Runtime.open(url, placement=Dedicated(), config=config) as runtime:
            await runtime.register(Counter)
            names = count()

            async def dedicated() -> float:
                await spare(runtime)
                counter = runtime.get(Counter, f"{next(names)}")
                started = time.perf_counter()
                total = await counter.add(1)
                taken = time.perf_counter() - started
                assert total == 1, "a command was lost or doubled"
                return taken

            samples = await run.alternate("rounds", sizes.rounds, {"dedicated": dedicated, "cold": cold})
            run.compare("first reply of a dedicated aggregate", "s", samples["dedicated"], samples["cold"])


async def spare(runtime: Runtime) -> None:
    """Returns when a spare is ready."""
    give_up = time.monotonic() + START_S
    while not (await runtime.statistics()).spares:
        assert time.monotonic() < give_up, "no spare has come up"
        await asyncio.sleep(0.1)
