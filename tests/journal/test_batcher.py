"""The batcher: at once when idle, together while a batch is under way, bounded, and every future its own answer."""

import asyncio
import random

import pytest

from holdfast.journal.batcher import Batcher
from holdfast.journal.errors import JournalBusy, JournalFailed, JournalUnavailable


class Sender:
    """A `send` that answers each item with its double, when it is let to."""

    def __init__(self):
        self.batches = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, batch):
        self.batches.append(list(batch))
        await self.open.wait()
        return [item * 2 for item in batch]


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_item_goes_at_once():
    """No timer is waited for: two turns of the loop, and it is on its way."""
    send = Sender()
    batcher = Batcher("test", send)
    future = batcher.submit(1)
    await turns(2)
    assert send.batches == [[1]]
    assert await future == 2


async def test_items_of_one_turn_go_together():
    """In order of arrival, each answered with its own result."""
    send = Sender()
    batcher = Batcher("test", send)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(10))) == [n * 2 for n in range(10)]
    assert send.batches == [list(range(10))]
    assert (batcher.batches, batcher.items, len(batcher)) == (1, 10, 0)


@pytest.mark.parametrize("in_flight_max", [1, 2, 3])
async def test_items_gather_while_as_many_batches_as_may_be_are_under_way(in_flight_max):
    """Then they go together, the moment one of those has landed."""
    send = Sender()
    batcher = Batcher("test", send, in_flight_max=in_flight_max)
    send.open.clear()
    futures = []
    for n in range(in_flight_max + 5):
        futures.append(batcher.submit(n))
        await turns(3)
    assert send.batches == [[n] for n in range(in_flight_max)]
    assert len(batcher) == 5
    send.open.set()
    assert await asyncio.gather(*futures) == [n * 2 for n in range(in_flight_max + 5)]
    assert send.batches[in_flight_max:] == [list(range(in_flight_max, in_flight_max + 5))]


async def test_batches_are_bounded_in_count_and_bytes():
    """Never empty, and over the limit of bytes only with a single item."""
    send = Sender()
    batcher = Batcher("test", send, batch_max=3, batch_bytes_max=10)
    sizes = [1, 1, 1, 1, 9, 2, 50, 50, 1]
    await asyncio.gather(*(batcher.submit(n, size) for n, size in enumerate(sizes)))
    assert send.batches == [[0, 1, 2], [3, 4], [5], [6], [7], [8]]


async def test_a_queue_that_is_full_refuses():
    """In items or in bytes; what it has goes on, and then there is room again."""
    send = Sender()
    batcher = Batcher("test", send, waiting_max=3, waiting_bytes_max=100)
    send.open.clear()
    futures = [batcher.submit(0)]
    await turns(3)
    futures += [batcher.submit(n) for n in (1, 2, 3)]
    with pytest.raises(JournalBusy) as told:
        batcher.submit(4)
    assert (told.value.what, told.value.limit) == ("test queue (items)", 3)
    send.open.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6]
    send.open.clear()
    futures = [batcher.submit(0)]
    await turns(3)
    futures.append(batcher.submit(1, 101))
    with pytest.raises(JournalBusy, match="bytes"):
        batcher.submit(2, 1)
    send.open.set()
    assert await asyncio.gather(*futures) == [0, 2]
    assert await batcher.submit(3, 1) == 6


async def test_an_error_among_the_results_is_for_its_item_alone():
    """The neighbours get theirs."""

    async def send(batch):
        return [JournalFailed(str(item)) if item == 1 else item for item in batch]

    batcher = Batcher("test", send)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert results[::2] == [0, 2]
    assert isinstance(results[1], JournalFailed)


async def test_an_error_of_the_whole_batch_is_for_each_of_its_items():
    """An instance of its own each, since notes and tracebacks grow on what is raised; the next batch goes on."""
    failing = [JournalUnavailable("gone")]

    async def send(batch):
        if failing:
            raise failing.pop()
        return batch

    batcher = Batcher("test", send)
    errors = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [(type(e), e.args) for e in errors] == [(JournalUnavailable, ("gone",))] * 3
    assert len({id(e) for e in errors}) == 3
    assert await batcher.submit(7) == 7


async def test_an_error_that_cannot_be_copied_is_told_all_the_same():
    """As it is."""

    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    async def send(batch):
        raise Odd(1, 2)

    batcher = Batcher("test", send)
    errors = await asyncio.gather(*(batcher.submit(n) for n in range(2)), return_exceptions=True)
    assert [type(e) for e in errors] == [Odd, Odd]


async def test_an_answer_of_another_length_is_an_error_for_all():
    """Whose answer is whose cannot be told."""

    async def send(batch):
        return batch[1:]

    batcher = Batcher("test", send)
    errors = await asyncio.gather(*(batcher.submit(n) for n in range(2)), return_exceptions=True)
    assert all(isinstance(e, AssertionError) for e in errors)


async def test_a_waiter_that_is_cancelled_disturbs_nobody():
    """Its item is sent all the same; the others get their own answers."""
    send = Sender()
    batcher = Batcher("test", send)
    futures = [batcher.submit(n) for n in range(3)]
    futures[1].cancel()
    assert await futures[0] == 0
    assert await futures[2] == 4
    assert send.batches == [[0, 1, 2]]


async def test_draining_waits_for_what_waits_and_what_is_under_way():
    """Then both are empty."""
    send = Sender()
    batcher = Batcher("test", send, batch_max=1)
    futures = [batcher.submit(n) for n in range(5)]
    await batcher.drain()
    assert all(future.done() for future in futures)
    await batcher.drain()


async def test_when_the_loop_ends_nobody_waits_for_ever():
    """A batch that is cancelled takes with it what waits behind it."""
    send = Sender()
    send.open.clear()
    batcher = Batcher("test", send, batch_max=1)
    futures = [batcher.submit(n) for n in range(3)]
    await turns(3)
    for task in list(batcher._in_flight):
        task.cancel()
    await turns(3)
    assert all(isinstance(future.exception(), JournalUnavailable) for future in futures)
    assert len(batcher) == 0
    send.open.set()
    assert await batcher.submit(4) == 8


async def test_a_bug_in_one_callback_keeps_nobody_from_being_told_that_a_batch_is_given_up():
    """Those after it hear of it all the same, whether they were in the batch or waited behind it."""
    told, bugs = [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: bugs.append(context["exception"]))
    send = Sender()
    send.open.clear()
    batcher = Batcher("test", send, batch_max=2)

    def broken(result):
        raise ZeroDivisionError

    for answered in (broken, told.append, told.append):
        batcher.put(1, 0, answered)
    await turns(3)
    for task in list(batcher._in_flight):
        task.cancel()
    await turns(3)
    assert [type(error) for error in told] == [JournalUnavailable] * 2
    assert [type(error) for error in bugs] == [ZeroDivisionError]


async def test_whatever_comes_in_whatever_order_goes_out_once_in_order():
    """Random submits, sizes, failures and turns, against the plainest of models: a list."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent = []

    async def send(batch):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        sent.extend(batch)
        if chance.random() < 0.1:
            raise JournalFailed("now and then")
        return [JournalFailed("this one") if chance.random() < 0.1 else item for item in batch]

    batcher = Batcher("test", send, batch_max=7, batch_bytes_max=50)
    futures = []
    for n in range(500):
        futures.append(batcher.submit(n, chance.randrange(20)))
        if chance.random() < 0.3:
            await turns(chance.randrange(5))
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert sent == list(range(500))
    assert all(result == n or isinstance(result, JournalFailed) for n, result in enumerate(results))
