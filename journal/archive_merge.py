"""Partitions as one sequence: records of each in their own order, the least of all fronts first.

Pages go through as they are where there is one partition. Of several, one page of each is held.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, TypeVar

__all__ = ["merged"]

T = TypeVar("T")


async def merged(
    parts: Sequence[AsyncIterator[Sequence[T]]], order: Callable[[T], Any]
) -> AsyncIterator[Sequence[tuple[int, T]]]:
    """Pages of records with the number of their partition, by `order`, and by number where that is the same."""
    if len(parts) == 1:
        async for only in parts[0]:
            yield [(0, record) for record in only]
        return
    fronts = [_Front(part) for part in parts]
    heap = [(order(front.held[0]), number) for number, front in enumerate(fronts) if await front.filled()]
    heapify(heap)
    page: list[tuple[int, T]] = []
    while heap:
        _, number = heap[0]
        front = fronts[number]
        page.append((number, front.held.popleft()))
        if front.held or await front.filled():
            heapreplace(heap, (order(front.held[0]), number))
        else:
            heappop(heap)
        if not front.held or len(page) >= 1000:
            yield page
            page = []
    if page:
        yield page


class _Front:
    """What was read ahead of one partition."""

    def __init__(self, pages: AsyncIterator[Sequence[Any]]) -> None:
        self._pages = pages
        self.held: deque[Any] = deque()

    async def filled(self) -> bool:
        """Whether there is anything, after reading on if need be."""
        while not self.held:
            page = await anext(self._pages, None)
            if page is None:
                return False
            self.held.extend(page)
        return True
