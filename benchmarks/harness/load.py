"""Load: how calls are made while the clock runs, with as little as possible beside them.

A closed loop is one task per place in flight, each making its next call when the last one is answered.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["closed_loop", "percentile", "rate"]


async def closed_loop(caller: Callable[[int], Awaitable[Any]], callers: int) -> float:
    """Seconds until each of so many callers, numbered from 0, has done all that it does."""
    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return time.perf_counter() - started


async def rate(call: Callable[[int], Awaitable[Any]], *, callers: int, each: int) -> float:
    """Calls a second, with `callers` of them in flight, each making `each`, one after the other. A call is told its
    caller's number."""

    async def caller(number: int) -> None:
        for _ in range(each):
            await call(number)

    return callers * each / await closed_loop(caller, callers)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share (0 to 1) of all do not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
