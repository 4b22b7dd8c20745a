"""Waking: one state or one error for each cell, and every permit comes back, whatever happens on the way."""

import asyncio

import pytest

from holdfast.actors import Aggregate, event, on
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import SLICE, Hydrated
from holdfast.actors.permits import Permits
from holdfast.actors.waking import Waking
from holdfast.journal.errors import JournalBusy, JournalUnavailable
from holdfast.journal.records import Fact, Load, Loaded, StreamId


@event("waking.counted")
class Counted:
    ends: bool = False


class Count(Aggregate):
    count: int = 0

    @on(Counted)
    def _counted(self, event: Counted) -> None:
        if event.ends:
            raise SystemExit
        self.count += 1


DEFINITION = definition_of(Count)
LOAD = Load(stream=StreamId("Count", "a"))


def loaded(first, last, head, *, ends=False):
    payload = DEFINITION.events[Counted].codec.encode(Counted(ends))
    facts = (Fact(position=v, version=v, type="waking.counted", payload=payload) for v in range(first, last + 1))
    return Loaded(snapshot=None, events=tuple(facts), head=head)


class Journal:
    """Keeps what it is asked, until it is told the answer."""

    def __init__(self):
        self.asked, self.pages, self.full = [], [], False

    def request(self, load, answered):
        if self.full:
            raise JournalBusy("load queue", 1)
        self.asked.append(answered)

    def load(self, load):
        self.pages.append(asyncio.get_running_loop().create_future())
        return self.pages[-1]


class Bench:
    def __init__(self, permits=1):
        self.journal, self.permits, self.told = Journal(), Permits(permits), []

    def start(self):
        waking = Waking(DEFINITION, self.journal, self.permits, LOAD, self.told.append)
        waking.start()
        return waking


async def turns():
    """All that can go on without anybody's help has done so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_answer_is_applied_in_the_turn_that_brings_it():
    """No task, no other turn; and the permit is free again."""
    bench = Bench()
    bench.start()
    assert bench.permits.locked()
    bench.journal.asked[0](loaded(1, 3, 3))
    (state,) = bench.told
    assert isinstance(state, Hydrated)
    assert (state.instance.count, state.version, state.rows_read) == (3, 3, 3)
    assert not bench.permits.locked()


@pytest.mark.parametrize("last", [2, SLICE + 1])
async def test_a_stream_that_takes_more_is_read_to_its_end(last):
    """Page after page, or slice after slice, holding its permit all the time."""
    bench = Bench()
    bench.start()
    bench.journal.asked[0](loaded(1, last, SLICE + 1))
    await turns()
    for page in bench.journal.pages:
        assert bench.permits.locked()
        page.set_result(loaded(last + 1, SLICE + 1, SLICE + 1))
    await turns()
    (state,) = bench.told
    assert (state.instance.count, state.version) == (SLICE + 1, SLICE + 1)
    assert not bench.permits.locked()


@pytest.mark.parametrize("head", [1, 2])
async def test_a_handler_that_ends_the_process_ends_one_cell(head):
    """At once, or on a later page: what it raises is told, and does not reach the loop."""
    bench = Bench()
    bench.start()
    bench.journal.asked[0](loaded(1, 1, head, ends=head == 1))
    await turns()
    for page in bench.journal.pages:
        page.set_result(loaded(2, 2, 2, ends=True))
    await turns()
    (error,) = bench.told
    assert isinstance(error, SystemExit)
    assert not bench.permits.locked()


async def test_a_failed_read_and_a_full_queue_are_told():
    """After `start` has returned, and the permit is free again."""
    bench = Bench()
    bench.start()
    bench.journal.asked[0](JournalUnavailable("gone"))
    bench.journal.full = True
    bench.start()
    assert len(bench.told) == 1
    await turns()
    assert [type(error) for error in bench.told] == [JournalUnavailable, JournalBusy]
    assert not bench.permits.locked()


@pytest.mark.parametrize("stage", ["waits for a permit", "was asked for", "was answered", "is read on"])
async def test_one_that_is_cancelled_is_told_nothing_and_keeps_nothing(stage):
    """Wherever it is; its permit goes to the next one as soon as the journal is not busy with it any more."""
    bench = Bench()
    waking = bench.start()
    if stage == "waits for a permit":
        waking, first = bench.start(), waking
        waking.cancel()
        first.cancel()
    if stage == "is read on":
        bench.journal.asked[0](loaded(1, 1, 2))
        await turns()
    if stage == "was answered":
        bench.journal.asked[0](loaded(1, 1, 2))  # its task has not run yet
    waking.cancel()
    if stage in ("was asked for", "waits for a permit"):
        assert bench.permits.locked()
        bench.journal.asked[0](loaded(1, 1, 1))
    await turns()
    assert len(bench.journal.asked) == 1
    assert bench.told == []
    assert not bench.permits.locked()


async def test_a_task_that_others_cancel_is_told():
    """When the loop is ending: nobody may wait for ever."""
    bench = Bench()
    waking = bench.start()
    bench.journal.asked[0](loaded(1, 1, 2))
    await turns()
    waking._task.cancel()
    await turns()
    assert [type(error) for error in bench.told] == [asyncio.CancelledError]
    assert not bench.permits.locked()
