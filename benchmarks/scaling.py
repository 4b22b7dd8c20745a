"""What does a second client, and a second host, add, and where does the CPU time go?

Clients are processes of their own, each with as many calls in flight as it has aggregates. Reported, not promised: a
machine of few cores has few to give. The CPU seconds of clients, hosts, journal and Ray's own processes (raylet, gcs)
for 1,000 commands tell which of them would be the bottleneck with more cores.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from benchmarks.harness import Question, Run, closed_loop
from benchmarks.harness.processes import JOURNAL, actor_pids, cpu_s, ray_pids
from benchmarks.many_aggregates import verify
from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="scaling",
    asks="what do a second client and a second host add, and where does the CPU time go?",
    compared="one client and one host",
    target=None,
    own_ray=True,
)


class InOne(Counter):
    """A counter of a type that has one host."""


class InTwo(Counter):
    """A counter of a type that has two."""


TYPES: dict[int, type[Counter]] = {1: InOne, 2: InTwo}
CASES = {f"{c} client{'s' * (c > 1)}, {h} host{'s' * (h > 1)}": (c, h) for c in (1, 2) for h in (1, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`aggregates`: of each client. `each`: commands of each aggregate in one round."""

    rounds: int
    aggregates: int
    each: int


FULL = Sizes(rounds=7, aggregates=1000, each=40)
QUICK = Sizes(rounds=3, aggregates=500, each=4)


class Client:
    """Calls aggregates from a process of its own."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters

    async def run(self, each: int) -> tuple[float, float]:
        """When it started and ended, by the clock that all processes of a machine share."""

        async def caller(number: int) -> None:
            for _ in range(each):
                await self._counters[number].add(1)

        started = time.monotonic()
        await closed_loop(caller, len(self._counters))
        return started, time.monotonic()


async def measure(run: Run, sizes: Sizes) -> None:
    placement = {InOne: Sharded(1), InTwo: Sharded(2)}
    async with Runtime.open(f"sqlite:///{run.folder}/counters.db", placement=placement) as runtime:
        actor = ray.remote(num_cpus=0)(Client)
        ids = {number: [f"{number}-{n}" for n in range(sizes.aggregates)] for number in (0, 1)}
        clients: dict[tuple[int, int], Any] = {
            (number, hosts): actor.options(name=f"client-{number}-{hosts}").remote(
                [runtime.get(type, id) for id in ids[number]]
            )
            for number in (0, 1)
            for hosts, type in TYPES.items()
        }
        used: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}

        async def once(case: str) -> float:
            count, hosts = CASES[case]
            before = cpu_by_kind()
            running = [clients[number, hosts].run.remote(sizes.each) for number in range(count)]
            spans = await asyncio.gather(*running)
            commands = count * sizes.aggregates * sizes.each
            after = cpu_by_kind()
            used[case].append({kind: 1e6 * (after[kind] - before[kind]) / commands for kind in after})
            return commands / (max(end for _, end in spans) - min(start for start, _ in spans))

        systems = {case: lambda case=case: once(case) for case in CASES}
        samples = await run.alternate("rounds", sizes.rounds, systems)
        base, *others = CASES
        for case in others:
            run.compare("durable commands", "/s", samples[case], samples[base], of=case)
        run.details["CPU ms for 1,000 commands"] = {case: per_kind(found[1:]) for case, found in used.items()}
        for hosts, type in TYPES.items():
            both = sum(clients > 1 for clients, h in CASES.values() if h == hosts)
            for number, cases in ((0, 2), (1, both)):
                await verify(runtime, ids[number], cases * (1 + sizes.rounds) * sizes.each, type)


def cpu_by_kind() -> dict[str, float]:
    """CPU seconds until now: of clients, hosts, the journal, and Ray."""
    kinds = dict.fromkeys(("client", "host", JOURNAL), 0.0)
    for name, pid in actor_pids().items():
        kinds[next(kind for kind in kinds if name.startswith(kind))] += cpu_s(pid)
    return kinds | {"ray": sum(map(cpu_s, ray_pids()))}


def per_kind(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The medians over the rounds."""
    return {kind: round(statistics.median(each[kind] for each in found), 1) for kind in found[0]}
