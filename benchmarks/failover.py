"""How long does a caller wait when a process is killed under it, against starting one bare Ray actor?

`kill -9` of the host of an aggregate, sharded and dedicated, and of the journal; then the time to the first reply of a
command. Compared with a cold start: create an actor that does nothing and wait for its first reply, with no idle worker
at hand.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Question, Run, below
from benchmarks.harness.processes import JOURNAL, actor_pids
from benchmarks.subjects.bare import ColdStarts, ray_without_idle_workers
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Dedicated, Runtime, Sharded

QUESTION = Question(
    name="failover",
    asks="how long does a caller wait when a process is killed under it?",
    compared="cold starts of a bare Ray actor",
    target=below(2),
    in_quick=False,
)


class Own(Counter):
    """A counter in a process of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int


FULL = Sizes(rounds=7)
QUICK = Sizes(rounds=3)


async def measure(run: Run, sizes: Sizes) -> None:
    placement = {Counter: Sharded(1), Own: Dedicated()}
    url = f"sqlite:///{run.folder}/counters.db"
    with ray_without_idle_workers():
        async with Runtime.open(url, placement=placement) as runtime:
            shared, own, cold = runtime.get(Counter, "a"), runtime.get(Own, "a"), ColdStarts()
            await asyncio.gather(shared.add(1), own.add(1), cold.start_s())

            async def journal_killed() -> float:
                return await killed_s(actor_pids()[JOURNAL], lambda: shared.add(1))

            async def shared_killed() -> float:
                return await killed_s(await shared.pid(), lambda: shared.add(1))

            async def own_killed() -> float:
                return await killed_s(await own.pid(), lambda: own.add(1))

            systems = {"cold": cold.start_s, "sharded host": shared_killed, "journal": journal_killed}
            systems["dedicated host"] = own_killed
            samples = await run.alternate("kills", sizes.rounds, systems, warm_up=False)
            for of in ("sharded host", "dedicated host", "journal"):
                run.compare("kill -9 to the next reply", "s", samples[of], samples["cold"], of=of)
            assert (await runtime.state_at(Counter, "a")).total == 1 + 2 * sizes.rounds, "a command was lost or doubled"
            assert (await runtime.state_at(Own, "a")).total == 1 + sizes.rounds, "a command was lost or doubled"


async def killed_s(pid: int, call: Callable[[], Awaitable[Any]]) -> float:
    """From a kill -9 to the answer of a call made right after it."""
    os.kill(pid, signal.SIGKILL)
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started
