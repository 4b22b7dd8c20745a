"""FaultyStore: each fault does what it says, to whom it says, as often as it says."""

import asyncio

import pytest

from holdfast.journal.errors import Fenced, JournalFailed, JournalUnavailable, VersionConflict
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, Appended, Load, NewEvent, StreamId
from holdfast.journal.testing import FaultyStore

ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")


async def opened():
    store = FaultyStore(MemoryStore())
    await store.open()
    await store.claim("host", "first")
    return store


def append(stream=ALICE, at=0):
    event = NewEvent(type="t", payload=b"\x80", command_id=f"c{at}", recorded_at=0)
    return Append(stream=stream, owner="host", epoch=1, expected_version=at, events=(event,))


async def test_without_faults_it_is_the_store_behind_it():
    """Every call is passed on and counted."""
    store = await opened()
    assert await store.append([append()]) == [Appended(version=1, position=1)]
    assert [event.position for event in await store.read_all()] == [1]
    assert (store.calls["append"], store.calls["read_all"], store.calls["head"]) == (1, 1, 0)


async def test_a_failing_append_writes_nothing_and_the_next_one_does():
    """`fail` is used up after `times` calls."""
    store = await opened()
    store.fail("append", times=2)
    for _ in range(2):
        with pytest.raises(JournalFailed):
            await store.append([append()])
    assert await store.head() == 0
    assert await store.append([append()]) == [Appended(version=1, position=1)]


async def test_a_lost_append_is_written():
    """The work is done, the answer is `JournalUnavailable`, and a resend gets the answer."""
    store = await opened()
    store.lose("append")
    with pytest.raises(JournalUnavailable):
        await store.append([append()])
    assert await store.head() == 1
    assert await store.append([append()]) == [Appended(version=1, position=1)]
    assert await store.head() == 1


async def test_a_rejected_append_stands_in_its_place():
    """Only that append of the batch is kept from the store."""
    store = await opened()
    refusal = VersionConflict(str(BOB), 0, 7)
    store.reject(refusal, streams=[BOB])
    results = await store.append([append(ALICE), append(BOB), append(ALICE, at=1)])
    assert results == [Appended(version=1, position=1), refusal, Appended(version=2, position=2)]
    assert await store.append([append(BOB)]) == [Appended(version=1, position=3)]


async def test_loads_are_rejected_too():
    """The answer of a load is the error."""
    store = await opened()
    fenced = Fenced("host", 1, 2)
    store.reject(fenced, method="load")
    first, second = await store.load([Load(stream=ALICE), Load(stream=ALICE)])
    assert first is fenced
    assert second.head == 0


async def test_a_fault_of_one_stream_leaves_others_alone():
    """A call that does not concern it neither fails nor uses the fault up."""
    store = await opened()
    store.fail("append", streams=[BOB])
    assert await store.append([append(ALICE)]) == [Appended(version=1, position=1)]
    with pytest.raises(JournalFailed):
        await store.append([append(ALICE, at=1), append(BOB)])
    assert await store.head() == 1


async def test_faults_come_in_the_order_they_were_asked_for():
    """First the one, then the other."""
    store = await opened()
    store.fail("head", error=JournalUnavailable("first"))
    store.fail("head", error=JournalUnavailable("second"))
    for problem in ("first", "second"):
        with pytest.raises(JournalUnavailable, match=problem):
            await store.head()
    assert await store.head() == 0


async def test_a_held_append_waits_at_the_door():
    """`reached` tells that it stands there; nothing is written until the door opens."""
    store = await opened()
    with store.hold("append") as held:
        task = asyncio.create_task(store.append([append()]))
        await held.reached.wait()
        assert (held.waiting, await store.head()) == (1, 0)
    assert await task == [Appended(version=1, position=1)]
    assert held.waiting == 0


async def test_an_append_held_after_its_work_is_written_but_not_answered():
    """The moment between the disk and the acknowledgement, for as long as a test wants."""
    store = await opened()
    held = store.hold("append", after=True, streams=[ALICE])
    assert await store.append([append(BOB)]) == [Appended(version=1, position=1)]
    task = asyncio.create_task(store.append([append(ALICE)]))
    await held.reached.wait()
    assert (await store.head(), task.done()) == (2, False)
    held.release()
    assert await task == [Appended(version=1, position=2)]


async def test_a_cancelled_call_leaves_the_door():
    """Cancelling who waits frees the place and writes nothing."""
    store = await opened()
    held = store.hold("append")
    task = asyncio.create_task(store.append([append()]))
    await held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (held.waiting, await store.head()) == (0, 0)


async def test_healing_forgets_faults_and_opens_doors():
    """Afterwards it is the store behind it again."""
    store = await opened()
    store.fail("append", times=9)
    held = store.hold("head")
    task = asyncio.create_task(store.head())
    await held.reached.wait()
    store.heal()
    assert await task == 0
    assert await store.append([append()]) == [Appended(version=1, position=1)]


async def test_a_method_that_no_store_has_is_a_mistake_of_the_test():
    """Said at once, not by a fault that never comes."""
    store = await opened()
    for misspelt in (store.fail, store.lose, store.hold):
        with pytest.raises(ValueError, match="no method 'apend'"):
            misspelt("apend")
    with pytest.raises(ValueError, match="append and load"):
        store.reject(VersionConflict("a", 0, 1), method="head")
