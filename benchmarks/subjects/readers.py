"""Subscribers in a process of their own, as another program of the cluster would have them."""

import asyncio
from typing import Any

import ray

from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime

__all__ = ["readers"]


class Readers:
    """So many subscriptions to all counters, from now on, each of which adds up what it is told."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: list[list[int]] = []  # of each: events, and the last position
        self._more = asyncio.Event()
        self._runtime: Any = None

    async def start(self, count: int) -> None:
        """Have so many, and no others."""
        if self._runtime is None:
            self._runtime = await Runtime.open(self._url)
        after = await self._runtime.head()
        self._seen = [[0, after] for _ in range(count)]
        self._tasks = [asyncio.create_task(self._read(number, after)) for number in range(count)]

    async def stop(self, position: int) -> list[int]:
        """How many events each was told of, once all have come to a position. They end."""
        while any(at < position for _, at in self._seen):
            self._more.clear()
            await self._more.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return [count for count, _ in self._seen]

    async def _read(self, number: int, after: int) -> None:
        async for batch in self._runtime.subscribe(after=after, categories=[Counter]).batches():
            self._seen[number] = [self._seen[number][0] + len(batch.events), batch.position]
            self._more.set()


def readers(url: str) -> Any:
    """The handle of a new process of them."""
    return ray.remote(num_cpus=0)(Readers).remote(url)
