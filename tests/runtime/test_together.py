"""Several things at once: the first failure is the whole's, and nothing of it is left in the task around."""

import asyncio

import pytest

from holdfast.runtime.together import together


async def fails(after_turns: int) -> None:
    for _ in range(after_turns):
        await asyncio.sleep(0)
    raise LookupError("gone")


async def one_fails(after_turns: int) -> None:
    async with together() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(fails(after_turns))


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_whoever_goes_on_after_a_failure_was_not_cancelled(turns: int) -> None:
    """Python counts the cancellation by which a group that fails wakes its task, and lets a later time-out pass for
    one, which ends whoever waits."""
    task = asyncio.current_task()
    assert task is not None
    for _ in range(3):
        with pytest.raises(LookupError):
            await one_fails(turns)
        assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)


async def test_a_cancellation_from_outside_is_one() -> None:
    """It ends all of them, and the task."""
    inner = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            inner.append("ended")

    async def whole() -> None:
        async with together() as group:
            group.create_task(waits())
            group.create_task(waits())

    task = asyncio.create_task(whole())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert inner == ["ended"] * 2
