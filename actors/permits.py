"""Permits: how many hydrations a host has under way at once.

A semaphore that hands each permit straight to whoever has waited longest. That of asyncio looks for them among all
whom it has woken and that have not run yet: with a thousand waking aggregates, that was a fifth of their cost.
"""

import asyncio
from collections import deque
from types import TracebackType

__all__ = ["Permits"]


class Permits:
    """`async with permits:` holds one of `count` of them, first come, first served. One event loop."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """All of them are out: who comes now has to wait."""
        return not self._free

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1  # nobody waits while one is free
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._hand_on()  # it was given to us in the moment in which we stopped waiting
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
