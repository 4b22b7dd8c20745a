"""How long does a caller wait when a process is killed under it, against starting one bare Ray actor?

`kill -9` of the host of an aggregate, sharded and dedicated, and of the journal; then the time to the first reply of a
command. Compared with a cold start: create an actor that does nothing and wait for its first reply, with no idle worker
at hand. All in turn, several times, in one run; the medians count. The promise is less than two cold starts.
"""

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from holdfast.actors import Aggregate, command, event, on, query
from holdfast.runtime import Dedicated, Runtime, Sharded

ROUNDS = 7
PROMISE = 2.0


@event("failover.added")
class Added:
    amount: int


class Book(Aggregate):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return self.total

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class Own(Book):
    """A book in a process of its own."""


class Bare:
    async def answer(self) -> int:
        return 1


class Cold:
    """A cold start of a bare actor: in a Ray of no CPUs, which keeps no idle workers, and which needs none."""

    def __init__(self) -> None:
        self._actor = ray.remote(num_cpus=0)(Bare)

    async def start_s(self) -> float:
        """From the creation to the first reply."""
        started = time.perf_counter()
        actor: Any = self._actor.remote()
        await actor.answer.remote()
        took = time.perf_counter() - started
        ray.kill(actor)
        return took


async def journal_pid(runtime: Runtime) -> int:
    """The process of the journal: the named actor of this namespace."""
    table: Any = ray._private.state.actors()
    return next(a["Pid"] for a in table.values() if a["Name"] == "journal" and a["State"] == "ALIVE")


async def killed_s(pid: int, call: Callable[[], Awaitable[Any]]) -> float:
    """From a kill -9 to the answer of a call made right after it."""
    os.kill(pid, signal.SIGKILL)
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def measure(folder: str) -> None:
    placement = {Book: Sharded(1), Own: Dedicated()}
    async with Runtime.open(f"sqlite:///{folder}/books.db", placement=placement) as runtime:
        book, own, cold = runtime.get(Book, "a"), runtime.get(Own, "a"), Cold()
        await asyncio.gather(book.add(1), own.add(1), cold.start_s())
        took: dict[str, list[float]] = {"cold Ray actor": [], "sharded host": [], "dedicated host": [], "journal": []}
        for number in range(ROUNDS):
            took["cold Ray actor"].append(await cold.start_s())
            took["sharded host"].append(await killed_s(await book.pid(), lambda: book.add(1)))
            took["dedicated host"].append(await killed_s(await own.pid(), lambda: own.add(1)))
            took["journal"].append(await killed_s(await journal_pid(runtime), lambda: book.add(1)))
            print(f"round {number + 1}:", ", ".join(f"{name} {times[-1]:.2f} s" for name, times in took.items()))
        assert (await runtime.state_at(Book, "a")).total == 1 + 2 * ROUNDS, "a command was lost or doubled"
    told(took)


def told(took: dict[str, list[float]]) -> None:
    """The medians, and whether the promise is kept."""
    base = statistics.median(took["cold Ray actor"])
    for name, times in took.items():
        median = statistics.median(times)
        spread = f"{min(times):.2f} to {max(times):.2f}"
        print(f"{name}: median {median:.2f} s ({spread}), {median / base:.2f} cold starts")
    worst = max(statistics.median(times) for times in took.values()) / base
    print(f"promise of less than {PROMISE:g} cold starts: {'kept' if worst < PROMISE else 'broken'}, {worst:.2f}")


def main() -> None:
    ray.init(address="local", num_cpus=0, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    dispatcher = ray._private.ray_logging.global_worker_stdstream_dispatcher
    dispatcher.remove_handler("ray_print_logs")  # it would tell of each process that is killed here
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(folder))
    ray.shutdown()
