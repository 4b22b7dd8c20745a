"""What does it cost to be looked at: metrics, the watchdog, traces, logs?

The load of `hot_aggregate`, 1,000 calls in flight on one aggregate, on three runtimes that are open at once and take
turns: with everything off, as it is by default (metrics and watchdog on), and with everything on, traces by
OpenTelemetry's SDK included, with every span made and handed to nobody. Beside the rate: the CPU time that a command
takes of client, host and journal together, which says more where the machine is shared.
"""

import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.harness import Question, Run, at_least, at_most, rate
from benchmarks.harness.processes import cpu_s
from benchmarks.subjects.counter import Counter
from holdfast.journal import tracing
from holdfast.runtime import Config, Runtime, Sharded

QUESTION = Question(
    name="sight",
    asks="what does it cost to be looked at?",
    compared="everything off",
    target=at_least(0.98),
    in_quick=False,
)
OFF = Config(metrics=False, slow_command_s=None)
ON = Config(tracing="benchmarks.subjects.spans:set_up", log_level="INFO", log_json=True)
CPU_TARGET = at_most(1.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`callers`: calls in flight. `each`: of each of them in one round."""

    rounds: int
    callers: int
    each: int


FULL = Sizes(rounds=15, callers=1000, each=20)
QUICK = Sizes(rounds=3, callers=1000, each=10)


class System:
    """One runtime, its aggregate, and the processes that work for it."""

    def __init__(self, runtime: Runtime, pids: list[int], *, traces: bool) -> None:
        self.runtime, self._pids, self._traces = runtime, pids, traces
        self.counter = runtime.get(Counter, "hot")
        self.cpu_s: list[float] = []  # of a command, in each round

    async def run(self, sizes: Sizes) -> float:
        """Commands a second. A tracer is the whole process's: the others run without."""
        if not self._traces:
            tracing.stop()
        else:
            tracing.start()
        before = self._used_s()
        done = await rate(lambda _: self.counter.add(1), callers=sizes.callers, each=sizes.each)
        self.cpu_s.append((self._used_s() - before) / (sizes.callers * sizes.each))
        return done

    def _used_s(self) -> float:
        return sum(map(cpu_s, self._pids))


async def measure(run: Run, sizes: Sizes) -> None:
    async with (
        system(run, "off", OFF) as off,
        system(run, "default", Config()) as default,
        system(run, "on", ON) as on,
    ):
        systems = {"off": off, "default": default, "on": on}
        calls = {name: lambda each=each: each.run(sizes) for name, each in systems.items()}  # type: ignore[misc]
        samples = await run.alternate("rounds", sizes.rounds, calls)
        tracing.stop()
        cpu = {name: [1e6 * s for s in each.cpu_s[1:]] for name, each in systems.items()}  # the first one warms up
        for name, what in (("default", "as it is by default"), ("on", "with everything on")):
            promised = name == "default"
            run.compare("durable commands", "/s", samples[name], samples["off"], of=what, has_target=promised)
            run.compare(
                "CPU of a command, all processes", "µs", cpu[name], cpu["off"], of=what, target=CPU_TARGET,
                has_target=promised,
            )  # fmt: skip
        sent = (1 + sizes.rounds) * sizes.callers * sizes.each
        for each in systems.values():
            assert (await each.runtime.state_at(Counter, "hot")).total == sent, "a command was lost or doubled"
        run.details["told"] = await told(default.runtime)
        assert run.details["told"]["holdfast_commands_total"] == sent, "the metrics do not count what was done"


@asynccontextmanager
async def system(run: Run, name: str, config: Config) -> AsyncIterator[System]:
    """A runtime with a host and a journal of its own."""
    path = Path(run.folder) / f"{name}.db"
    async with Runtime.open(f"sqlite:///{path}", namespace=name, placement=Sharded(1), config=config) as runtime:
        tracing.stop()
        pids = [os.getpid(), await runtime.get(Counter, "hot").pid(), _writer_of(path)]
        yield System(runtime, pids, traces=bool(config.tracing))


async def told(runtime: Runtime) -> dict[str, float]:
    """What its metrics say in the end, added up over labels."""
    sums: defaultdict[str, float] = defaultdict(float)
    for sample in await runtime.metrics():
        if not sample.name.endswith("_bucket"):
            sums[sample.name] += sample.value
    return dict(sums)


def _writer_of(path: Path) -> int:
    return int(msgspec.json.decode(Path(f"{path}.writer").read_bytes())["pid"])
