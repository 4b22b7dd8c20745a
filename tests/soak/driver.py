"""A driver: a process that has joined the cluster at a node of its own, with callers, and with Ray tasks that call.

It takes up what its predecessor of that name, killed perhaps, had asked under a key and not been told. On SIGTERM its
callers finish what they do; then it reads every aggregate once more, so that nothing is left that does not answer, and
waits, when the other drivers are as far, until those who live from events are done with all of them.
"""

import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import ray

from holdfast.actors import Aggregate
from holdfast.journal import HoldfastError
from holdfast.runtime import Config, Runtime

from .caller import Caller
from .notes import Histories, Notes
from .reader import Reader
from .reading import READING
from .workload import DEDICATED, PLACEMENTS, TYPES, Plan, patiently, plans

__all__ = ["ALL_QUIET", "CONFIG", "Orders", "main"]

CONFIG = Config(timeout_s=60, suspect_s=1.0, paused_s=1.5)
"""Fail-over of a paused process after 2.5 s, so that a pause of a few seconds is one."""

TASK_CALLS = 40
ALL_QUIET = "all-quiet"
"""The file that tells drivers that none of them writes any more."""
OPENING_S = 90.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver is to do. `began`: of the run, on the monotonic clock. `ip`: of the node that it joins.
    `role`: what its predecessors have in common with it. `predecessors`: whose unanswered keyed commands it sends
    again."""

    name: str
    role: str
    folder: str
    address: str
    ip: str
    url: str
    read_url: str
    placement: str
    seed: str
    began: float
    predecessors: list[str]
    callers: int = 6
    tasks: int = 1
    pause_s: float = 0.08


class Driver:
    """One life of a driver."""

    def __init__(self, orders: Orders, runtime: Runtime, notes: Notes) -> None:
        self._orders, self._runtime, self._notes = orders, runtime, notes
        self._rng = random.Random(f"{orders.seed} {orders.name}")
        self._touched: set[tuple[str, str]] = set()
        self._over = asyncio.Event()
        folder = Path(orders.folder)
        self._reader = Reader(orders.name, orders.role, folder, orders.read_url, runtime, notes)

    async def run(self) -> None:
        """Until SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._over.set)
        loop.add_signal_handler(signal.SIGUSR1, _tell_what_waits)
        self._notes.says("ready")
        work = [self._reader.start(), self._resend(), *map(self._caller, range(self._orders.callers))]
        work.append(self._reader.set_reminders(random.Random(self._rng.random()), self._over))
        work += map(self._tasks, range(self._orders.tasks))
        await asyncio.gather(*work)
        await self._read_all()
        self._notes.says("quiet")
        while not (Path(self._orders.folder) / ALL_QUIET).exists():
            await asyncio.sleep(0.05)
        await self._reader.settle()
        self._notes.says("finished")
        self._reader.close()

    def _reference(self, plan: Plan) -> Any:
        """A reference as the plan wants it."""
        self._touched.add((plan.category, plan.id))
        key = plan.token if plan.keyed else None
        return self._runtime.get(
            TYPES[plan.category],
            plan.id,
            idempotency_key=key,
            timeout_s=plan.timeout_s,
            linearizable=plan.linearizable,
        )

    def _types(self, number: int) -> Sequence[type[Aggregate]]:
        """Callers take turns in what they call: one placement each, if there are two."""
        types = list(PLACEMENTS[self._orders.placement])
        if self._orders.placement == "both":
            return [each for each in types if (each in DEDICATED) == (number % 3 == 0)]
        return types

    async def _caller(self, number: int) -> None:
        caller = Caller(f"{self._orders.name}.{number}", self._notes, self._reference)
        rng = random.Random(self._rng.random())
        for plan in plans(rng, caller.name, self._types(number), self._age_s):
            if self._over.is_set():
                return
            await caller.carry_out([plan], rng, pause_s=self._orders.pause_s)

    def _age_s(self) -> float:
        return time.monotonic() - self._orders.began

    async def _resend(self) -> None:
        """What a predecessor asked under a key and was not told: asked again, by a process that knows the key only."""
        for name in self._orders.predecessors:
            for line in Histories.unanswered(Path(self._orders.folder) / f"{name}.jsonl"):
                category, _, id = line["aggregate"].partition("/")
                plan = Plan(
                    category=category,
                    id=id,
                    method=line["name"],
                    argument=line["argument"],
                    token=line["token"],
                    keyed=True,
                )
                await Caller(f"{self._orders.name}.heir", self._notes, self._reference).settle(plan)

    async def _tasks(self, number: int) -> None:
        """One Ray task after the other, each with references of its own. One that dies with its node is no loss."""
        rng = random.Random(self._rng.random())
        count = 0
        while not self._over.is_set():
            count += 1
            name = f"{self._orders.name}.task{number}.{count}"
            types = self._types(number + count)
            planned = list(islice(plans(rng, name, types, self._age_s), TASK_CALLS))
            again = [patiently(plan) for plan in planned if plan.keyed]
            references = {_mark(plan): self._reference(plan) for plan in (*planned, *again)}
            path = Path(self._orders.folder) / f"{name}.jsonl"
            with contextlib.suppress(ray.exceptions.RayError):
                await _task.remote(str(path), name, planned, references, rng.random(), self._orders.pause_s / 3)

    async def _read_all(self) -> None:
        """Every aggregate of this driver answers, and with what is durable."""
        caller = Caller(f"{self._orders.name}.last", self._notes, self._reference)
        for category, id in sorted(self._touched):
            await caller.settle(
                Plan(category=category, id=id, method="read", argument=None, token="", linearizable=True)
            )


@ray.remote(num_cpus=0, max_retries=0)
def _task(path: str, name: str, planned: list[Plan], references: dict[str, Any], seed: float, pause_s: float) -> None:
    """Runs in a worker somewhere: calls through references that came by pickle, and notes in a file of its own."""
    caller = Caller(name, Notes(Path(path)), lambda plan: references[_mark(plan)])
    asyncio.run(caller.carry_out(planned, random.Random(seed), pause_s=pause_s))


def _mark(plan: Plan) -> str:
    """Plans that are alike in this are made with one reference."""
    return f"{plan.aggregate} {plan.token if plan.keyed else ''} {plan.timeout_s} {plan.linearizable}"


def _tell_what_waits() -> None:
    """For whoever wants to know why nothing goes on: what each task of the loop stands at."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


async def _opened(orders: Orders) -> Runtime:
    """The journal may be on its way up, or down."""
    give_up = time.monotonic() + OPENING_S
    while True:
        try:
            return await Runtime.open(
                orders.url, namespace="soak", placement=PLACEMENTS[orders.placement] | READING, config=CONFIG
            )
        except HoldfastError as error:
            if not error.retryable or time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.2)


async def _main(orders: Orders, notes: Notes) -> None:
    runtime = await _opened(orders)
    await Driver(orders, runtime, notes).run()
    await runtime.close()


def main() -> None:
    """The process: its orders are its one argument, as JSON."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    notes = Notes(Path(orders.folder) / f"{orders.name}.jsonl")
    try:
        ray.init(address=orders.address, _node_ip_address=orders.ip, log_to_driver=False, logging_level=logging.ERROR)
        asyncio.run(_main(orders, notes))
    except Exception as error:
        notes.problem("".join(traceback.format_exception(error)))
        raise
