"""Permits: as many at once as there are, in order, and none lost."""

import asyncio

from holdfast.actors.permits import Permits


class Queue:
    """Tasks that take a permit, say so, and keep it until they are told to go."""

    def __init__(self, count):
        self.permits, self.entered, self.doors = Permits(count), [], {}

    def start(self, name):
        self.doors[name] = asyncio.Event()
        return asyncio.create_task(self._hold(name))

    async def _hold(self, name):
        async with self.permits:
            self.entered.append(name)
            await self.doors[name].wait()


async def turns():
    """All that can go on without anybody's help has done so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_enter_than_there_are_permits_and_in_order():
    """The next one as soon as one leaves."""
    queue = Queue(2)
    tasks = [queue.start(name) for name in "abcd"]
    await turns()
    assert queue.entered == ["a", "b"]
    queue.doors["b"].set()
    await turns()
    assert queue.entered == ["a", "b", "c"]
    for door in queue.doors.values():
        door.set()
    await asyncio.gather(*tasks)
    assert queue.entered == ["a", "b", "c", "d"]


async def test_one_that_stops_waiting_is_passed_over():
    """Its turn goes to the next one."""
    queue = Queue(1)
    a, b, c = (queue.start(name) for name in "abc")
    await turns()
    b.cancel()
    queue.doors["a"].set()
    queue.doors["c"].set()
    await asyncio.gather(a, b, c, return_exceptions=True)
    assert queue.entered == ["a", "c"]


async def test_one_that_is_cancelled_in_the_moment_of_its_turn_hands_it_on():
    """A permit that nobody took out would be missing for ever."""
    queue = Queue(1)
    a, b, c = (queue.start(name) for name in "abc")
    await turns()
    queue.doors["a"].set()
    while not a.done():
        await asyncio.sleep(0)
    b.cancel()  # it was given the permit, and has not run since
    queue.doors["c"].set()
    await asyncio.gather(a, b, c, return_exceptions=True)
    assert "b" not in queue.entered
    assert queue.entered == ["a", "c"]
    async with queue.permits:
        pass


async def test_one_that_fails_while_it_holds_a_permit_gives_it_back():
    """Whatever becomes of its work."""
    queue = Queue(1)
    a = queue.start("a")
    await turns()
    a.cancel()
    b = queue.start("b")
    queue.doors["b"].set()
    await asyncio.gather(a, b, return_exceptions=True)
    assert queue.entered == ["a", "b"]
