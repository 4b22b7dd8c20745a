"""A session: batches in their order, answers as they come, and slow calls that hold nobody back."""

import asyncio

import pytest
from hf_host import Bench, Client, Clock, door, turns

from holdfast.actors.calls import Call, Kind
from holdfast.actors.session import Session


def session(linger_s=0.0001):
    return Session(linger_s, Clock())


def calls(batch, *numbers):
    """Calls of a batch, which answer by their `resolve`."""
    return [Call((number, "a", "m", (), {}, "c", False, False, 1.0, None), 0.0, batch.resolve) for number in numbers]


def answer(call):
    call.resolve(call, Kind.DONE, call.number)


def numbers(answers):
    return [number for number, _, _ in answers]


async def test_a_batch_is_answered_when_all_its_calls_are():
    """In the order in which they were."""
    line = session(linger_s=60)
    assert await line.turn(0)
    batch = line.opened(3)
    first, second, third = calls(batch, 1, 2, 3)
    answer(second)
    waiting = asyncio.create_task(line.answers(batch))
    answer(first)
    await turns()
    assert not waiting.done()
    assert line.unanswered == 1
    answer(third)
    assert numbers(await waiting) == [2, 1, 3]


async def test_a_batch_that_is_answered_at_once_takes_what_is_ready_and_disturbs_no_other():
    """An open request of another batch is not sent home with nothing."""
    line = session(linger_s=60)
    slow = line.opened(1)
    (late,) = calls(slow, 1)
    waiting = asyncio.create_task(line.answers(slow))
    await turns(3)
    quick = line.opened(1)
    answer(calls(quick, 2)[0])
    assert numbers(await line.answers(quick)) == [2]
    await turns()
    assert not waiting.done()
    answer(late)
    assert numbers(await waiting) == [1]


async def test_a_slow_call_holds_its_neighbours_for_the_linger_time_at_most():
    """Then they go, and it comes with the next request or with one opened for it."""
    line = session()
    batch = line.opened(2)
    quick, slow = calls(batch, 1, 2)
    waiting = asyncio.create_task(line.answers(batch))
    answer(quick)
    assert numbers(await waiting) == [1]
    collecting = asyncio.create_task(line.answers())
    await turns(3)
    assert not collecting.done()
    answer(slow)
    assert numbers(await collecting) == [2]


async def test_late_answers_travel_with_the_next_batch():
    """They do not wait for a request of their own."""
    line = session()
    batch = line.opened(2)
    quick, slow = calls(batch, 1, 2)
    answer(quick)
    assert numbers(await line.answers(batch)) == [1]
    answer(slow)
    following = line.opened(1)
    answer(calls(following, 3)[0])
    assert numbers(await line.answers(following)) == [2, 3]


async def test_a_late_answer_sends_the_request_home_that_waited_longest():
    """One request is enough; the others keep waiting for theirs."""
    line = session()
    batch = line.opened(2)
    quick, slow = calls(batch, 1, 2)
    answer(quick)
    await line.answers(batch)
    others = [line.opened(1) for _ in range(2)]
    waiting = [asyncio.create_task(line.answers(other)) for other in others]
    await turns(3)
    answer(slow)
    assert numbers(await waiting[0]) == [2]
    await turns()
    assert not waiting[1].done()


async def test_nobody_is_sent_home_with_nothing_because_others_took_what_lingered():
    """A client that gets nothing, though it waits for something, believes that its answer was lost."""
    line = session()
    slow = line.opened(2)
    quick, late = calls(slow, 1, 2)
    waiting = asyncio.create_task(line.answers(slow))
    await turns(3)
    answer(quick)  # lingers, for the request above to take along
    following = line.opened(1)
    answer(calls(following, 3)[0])
    assert numbers(await line.answers(following)) == [1, 3]
    assert line._linger is None
    line._wake_oldest()  # as a timer would that had run out in this very turn
    await turns()
    assert not waiting.done()
    answer(late)
    assert numbers(await waiting) == [2]


async def test_collecting_with_nothing_missing_is_answered_with_nothing():
    """So that a client whose answer got lost finds out."""
    line = session()
    assert await line.answers() == []


async def test_a_second_copy_of_a_batch_is_not_its_turn():
    """Early or late, any number of copies: one is taken."""
    line = session()
    taken = []

    async def take():
        if await line.turn(1):
            taken.append(line.opened(0))

    takers = [asyncio.create_task(take()) for _ in range(3)]
    await turns(3)
    assert await line.turn(0)
    line.opened(0)
    assert not await line.turn(0)
    await asyncio.gather(*takers)
    assert len(taken) == 1
    assert await line.turn(2)


async def test_early_batches_come_in_their_order():
    """However they were sent."""
    line = session()
    order = []

    async def take(number):
        assert await line.turn(number)
        order.append(number)
        line.opened(0)

    await asyncio.gather(*(take(number) for number in (3, 1, 4, 2, 0)))
    assert order == [0, 1, 2, 3, 4]


async def test_closing_sends_everybody_home():
    """Open requests with what is ready, early batches with nothing; later answers are kept for who asks."""
    line = session(linger_s=60)
    batch = line.opened(2)
    quick, slow = calls(batch, 1, 2)
    waiting = asyncio.create_task(line.answers(batch))
    early = asyncio.create_task(line.turn(7))
    await turns(3)
    answer(quick)
    line.close()
    assert numbers(await waiting) == [1]
    assert not await early
    assert not await line.turn(1)
    answer(slow)
    assert numbers(await line.answers()) == [2]
    assert await line.answers() == []


async def test_a_session_expires_when_nobody_has_asked_for_long():
    """Not while a request is open."""
    clock = Clock()
    line = Session(0.0001, clock)
    batch = line.opened(1)
    waiting = asyncio.create_task(line.answers(batch))
    await turns(3)
    clock.advance(100)
    assert not line.expired(50)
    answer(calls(batch, 1)[0])
    await waiting
    clock.advance(50)
    assert not line.expired(50)
    clock.advance(1)
    assert line.expired(50)


async def test_a_request_that_breaks_off_leaves_the_answers_to_the_next():
    """What was ready is still there."""
    line = session(linger_s=60)
    batch = line.opened(2)
    quick, slow = calls(batch, 1, 2)
    waiting = asyncio.create_task(line.answers(batch))
    await turns(3)
    answer(quick)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    answer(slow)
    assert numbers(await line.answers()) == [1, 2]


async def test_a_slow_async_command_does_not_hold_its_neighbours_replies():
    """Through a host: commands of other aggregates in the same batch are answered while it runs."""
    async with Bench() as bench:
        client, d = Client(await bench.host()), door("d")
        slow, *quick = client.send(
            client.wire("slow", "put_slowly", "x", "d"), *(client.wire(str(n), "put", "x") for n in range(20))
        )
        assert await asyncio.gather(*quick) == [1] * 20
        assert not slow.done()
        d.open.set()
        assert await slow == 2
