"""The same counter as a bare Ray actor, async as Ray advises for many calls at once: nothing of it is stored."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import ray

__all__ = [
    "ColdStarts",
    "bare_counter",
    "bare_counters",
    "cold_starts_elsewhere",
    "ray_of",
    "ray_without_idle_workers",
    "wait_for",
]


class BareCounter:
    """One number."""

    def __init__(self) -> None:
        self.total = 0

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    async def pid(self) -> int:
        return os.getpid()


class BareCounters:
    """Many counters in one actor, by id."""

    def __init__(self) -> None:
        self.counters: dict[str, BareCounter] = {}

    async def add(self, id: str, amount: int) -> int:
        counter = self.counters.get(id)
        if counter is None:
            counter = self.counters[id] = BareCounter()
        counter.total += amount
        return counter.total

    async def totals(self) -> dict[str, int]:
        return {id: counter.total for id, counter in self.counters.items()}


def bare_counter(concurrency: int) -> Any:
    """The handle of a new actor that takes so many calls at once."""
    return ray.remote(num_cpus=0, max_concurrency=concurrency)(BareCounter).remote()


def bare_counters(concurrency: int) -> Any:
    """The handle of a new actor of many counters."""
    return ray.remote(num_cpus=0, max_concurrency=concurrency)(BareCounters).remote()


def wait_for(method: Any) -> Callable[..., Awaitable[Any]]:
    """An actor's method as a coroutine function: `await ref` inside."""

    async def call(*arguments: Any) -> Any:
        return await method.remote(*arguments)

    return call


class ColdStarts:
    """Starts one actor after the other. Cold, in `ray_without_idle_workers`: each needs a new process."""

    def __init__(self) -> None:
        self._actor = ray.remote(num_cpus=0)(BareCounter)
        self.pids: list[int] = []

    async def start_s(self) -> float:
        """From the creation to the first reply."""
        started = time.perf_counter()
        actor: Any = self._actor.remote()
        self.pids.append(await actor.pid.remote())
        took = time.perf_counter() - started
        ray.kill(actor)
        return took


@contextmanager
def ray_without_idle_workers() -> Generator[None, None, None]:
    """A Ray of no CPUs, which keeps no idle workers; neither hosts nor journals need a CPU there."""
    with ray_of(0):
        yield


@contextmanager
def ray_of(cpus: int) -> Generator[None, None, None]:
    """A Ray of this process that starts as many workers beforehand as it has CPUs, and tells of no killed ones.

    By itself it would start no more of them than the machine has cores: it takes the most that it may start at once."""
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        _system_config={"worker_maximum_startup_concurrency": cpus} if cpus else None,
    )
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def cold_starts_elsewhere() -> Generator[Callable[[], Awaitable[float]], None, None]:
    """Cold starts in another Ray on this machine, with a driver process of its own: what measures them, when asked."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_cold_starts, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that its end is heard of, if it has one too early

    async def start_s() -> float:
        ours.send(True)
        return float(await asyncio.to_thread(ours.recv))

    try:
        yield start_s
    finally:
        ours.send(False)
        process.join()


def _serve_cold_starts(way: Any) -> None:
    with ray_without_idle_workers():
        cold = ColdStarts()
        while way.recv():
            way.send(asyncio.run(cold.start_s()))
        assert len(set(cold.pids)) == len(cold.pids), "a bare actor got a worker that was there before"
