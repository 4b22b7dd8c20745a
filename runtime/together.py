"""Several things at once, as one: the first of them that fails ends the others, and is what the whole fails with."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["together"]


@asynccontextmanager
async def together() -> AsyncGenerator[asyncio.TaskGroup, None]:
    """A task group that raises what the first of its tasks raised, and not a group of exceptions.

    It takes back the cancellation that `asyncio.TaskGroup`, before Python 3.13, leaves counted in the task around it
    when one of its own fails. Whoever goes on after a failure would else have `asyncio.timeout`, before 3.11.3, end it
    as if it had been cancelled."""
    task = asyncio.current_task()
    assert task is not None, "outside a task"
    cancelled = task.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as problems:
        if task.cancelling() > cancelled:
            task.uncancel()
        raise problems.exceptions[0] from None
