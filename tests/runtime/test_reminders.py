"""Reminders in a runtime: the scheduler by itself, over an index that is a list, and all of it together."""

import asyncio
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hf_reminders import Offer, Rang
from hf_support import eventually

from holdfast.actors import Rejected, VirtualClock
from holdfast.actors.clock import MachineClock, micros_of
from holdfast.actors.definition import definition_of
from holdfast.actors.errors import Overloaded, UnknownCommand
from holdfast.actors.firing import FIRE
from holdfast.journal.errors import JournalUnavailable
from holdfast.journal.records import Reminder, StreamId
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.follower import Desk, Progress
from holdfast.runtime.reminders import RemindersFollower, RemindersScheduler, reminders_plan

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


class Index:
    """A partition of the journal that has nothing but pending reminders. `asked`: the limits of what it was asked."""

    def __init__(self) -> None:
        self.pending: dict[tuple[StreamId, str], int] = {}
        self.asked: list[int] = []
        self.longest = 0

    def set(self, id: str, after: timedelta, name: str = "x") -> None:
        self.pending[StreamId("offer", id), name] = micros_of(NOON + after)

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        assert category == "offer"
        self.asked.append(limit)
        order = sorted((due, stream, name) for (stream, name), due in self.pending.items() if due <= until)
        if after is not None:
            order = [each for each in order if each > (after.due, after.stream, after.name)]
        return [Reminder(stream=stream, name=name, due=due) for due, stream, name in order[:limit]]


class World:
    """A scheduler over such partitions. `fired`: what was, and when. `does`: what a fire does beside that, by id."""

    def __init__(self, parts: int = 1, **how: Any) -> None:
        self.clock = VirtualClock(NOON)
        self.parts = [Index() for _ in range(parts)]
        self.fired: list[tuple[str, timedelta]] = []
        self.gave_up: list[tuple[str, str]] = []
        self.does: dict[str, Callable[[], Any]] = {}
        self.running = self.running_max = 0
        self.scheduler = RemindersScheduler("offer", self.parts, self.fire, self.give_up, self.clock, **how)

    async def fire(self, stream: StreamId, name: str, due: int) -> str:
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            await asyncio.sleep(0)
            if stream.id in self.does and (answer := await self.does[stream.id]()) is not None:
                return str(answer)
            return self.over(stream, name)
        finally:
            self.running -= 1

    def over(self, stream: StreamId, name: str) -> str:
        for part in self.parts:
            if part.pending.pop((stream, name), None) is not None:
                self.fired.append((stream.id, self.clock.now - NOON))
                return "fired"
        return "gone"

    async def give_up(self, stream: StreamId, name: str, due: int, problem: str) -> str:
        self.gave_up.append((stream.id, problem))
        if "broken" in stream.id:
            raise UnknownCommand("offer", "ring")
        for part in self.parts:
            part.pending.pop((stream, name), None)
        return "fired"


@asynccontextmanager
async def scheduling(built: World | None = None, **how: Any) -> AsyncIterator[World]:
    """The scheduler of a world runs for as long as the block."""
    built = built or World(**how)
    task = asyncio.create_task(built.scheduler.run())
    try:
        yield built
        assert not task.done() or task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


# -- the scheduler -----------------------------------------------------------------------------------------------


async def test_the_scheduler_fires_reminders_in_order_of_due_over_all_partitions() -> None:
    """Each at its own time, though the clock was moved past all of them at once."""
    async with scheduling(parts=3) as w:
        for n in range(9):
            w.parts[n % 3].set(f"o{n}", (9 - n) * HOUR)
        await w.clock.advance(DAY)
        assert w.fired == [(f"o{n}", (9 - n) * HOUR) for n in reversed(range(9))]
        assert w.scheduler.counters.fired == 9
        assert w.scheduler.counters.late_max_s == 0.0


async def test_the_scheduler_fires_late_reminders_in_order_of_due() -> None:
    """What fell due while it was not there, oldest first, more than a page of it."""
    late = World(2, in_flight_max=1)
    for n in range(350):
        late.parts[n % 2].set(f"o{n:03}", -n * SECOND)
    async with scheduling(late):
        await late.clock.advance(timedelta(0))
        assert [id for id, _ in late.fired] == [f"o{n:03}" for n in reversed(range(350))]
        assert late.scheduler.counters.late_max_s == 349.0


async def test_the_scheduler_holds_no_more_reminders_than_a_page_of_each_partition() -> None:
    """Idle, it asks for a single row."""
    async with scheduling() as w:
        for n in range(500):
            w.parts[0].set(f"o{n}", HOUR)
        await w.clock.advance(SECOND)
        assert set(w.parts[0].asked) == {1}
        await w.clock.advance(HOUR)
        assert (len(w.fired), max(w.parts[0].asked)) == (500, 100)


async def test_the_scheduler_fires_no_more_reminders_in_a_second_than_it_may() -> None:
    """A stampede is spread; none is lost, and none comes out of order."""
    async with scheduling(rate_max=10) as w:
        for n in range(35):
            w.parts[0].set(f"o{n:02}", HOUR)
        await w.clock.advance(HOUR)
        assert len(w.fired) == 10
        await w.clock.advance(10 * SECOND)
        times = [(at - HOUR) // SECOND for _, at in w.fired]
        assert times == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 5
        assert [id for id, _ in w.fired] == sorted(id for id, _ in w.fired)


async def test_the_scheduler_fires_no_more_reminders_at_once_than_it_may() -> None:
    """And does fire as many."""
    async with scheduling(in_flight_max=4) as w:
        for n in range(50):
            w.parts[0].set(f"o{n:02}", HOUR)
        await w.clock.advance(HOUR)
        assert (len(w.fired), w.running_max) == (50, 4)


async def test_the_scheduler_never_fires_one_reminder_twice_at_once() -> None:
    """However often it looks while a fire takes its time."""
    async with scheduling() as w:
        go = asyncio.Event()
        fires = 0

        async def slow() -> None:
            nonlocal fires
            fires += 1
            await go.wait()

        w.does["slow"] = slow
        w.parts[0].set("slow", HOUR)
        for n in range(20):
            w.parts[0].set(f"o{n}", HOUR)
        advancing = asyncio.create_task(w.clock.advance(HOUR))
        while len(w.fired) < 20:
            await asyncio.sleep(0)
        for _ in range(100):  # it looks again, and meets the slow one
            await asyncio.sleep(0)
        assert (fires, "slow" in dict(w.fired)) == (1, False)
        go.set()
        await advancing
        assert fires == 1


async def test_the_scheduler_fires_a_reminder_again_later_and_later_when_that_may_help() -> None:
    """A retryable failure; others are not held up by it."""
    async with scheduling() as w:
        tries: list[timedelta] = []

        async def trouble() -> None:
            tries.append(w.clock.now - NOON - HOUR)
            if len(tries) < 5:
                raise Overloaded("mailbox of offer/bad", 1)

        w.does["bad"] = trouble
        w.parts[0].set("bad", HOUR)
        w.parts[0].set("good", HOUR + SECOND / 10)
        await w.clock.advance(2 * HOUR)
        assert [id for id, _ in w.fired] == ["good", "bad"]
        assert [each.total_seconds() for each in tries] == [0.0, 0.2, 0.6, 1.4, 3.0]
        assert (w.scheduler.counters.retries, w.scheduler.counters.failed, w.gave_up) == (4, 0, [])


async def test_the_scheduler_gives_a_reminder_up_whose_command_says_no() -> None:
    """With the problem, once; a rejection is no failure of the machinery."""
    async with scheduling() as w:

        async def refuse() -> None:
            raise Rejected("not today")

        w.does["no"] = refuse
        w.parts[0].set("no", HOUR)
        await w.clock.advance(DAY)
        assert w.gave_up == [("no", "Rejected: not today")]
        assert (w.scheduler.counters.failed, w.scheduler.counters.retries) == (1, 0)


async def test_the_scheduler_goes_on_past_a_reminder_that_can_neither_be_fired_nor_given_up() -> None:
    """An aggregate that cannot be brought back stands in nobody's way, and is not asked without end."""
    async with scheduling() as w:
        tries = 0

        async def broken() -> None:
            nonlocal tries
            tries += 1
            raise UnknownCommand("offer", "ring")

        for n in range(3):
            w.does[f"broken {n}"] = broken
            w.parts[0].set(f"broken {n}", HOUR)
        w.parts[0].set("good", 2 * HOUR)
        await w.clock.advance(2 * HOUR)
        assert [id for id, _ in w.fired] == ["good"]
        assert 3 * 60 < tries < 3 * 80  # at most once a minute in that hour, each


async def test_the_scheduler_does_not_go_round_and_round_for_a_reminder_that_is_gone_but_listed() -> None:
    """An index that is behind, or wrong, is asked again after a while."""
    async with scheduling() as w:
        asked = 0

        async def gone() -> str:
            nonlocal asked
            asked += 1
            return "gone"

        w.does["ghost"] = gone
        w.parts[0].set("ghost", HOUR)
        await w.clock.advance(HOUR + SECOND)
        assert 1 < asked < 5
        assert w.scheduler.counters.gone == asked


async def test_the_scheduler_sees_a_reminder_that_is_set_while_time_passes() -> None:
    """By another one's command, for a time before all others."""
    async with scheduling() as w:

        async def set_another() -> None:
            w.parts[0].set("second", 2 * HOUR)

        w.does["first"] = set_another
        w.parts[0].set("first", HOUR)
        w.parts[0].set("third", 3 * HOUR)
        await w.clock.advance(DAY)
        assert w.fired == [("first", HOUR), ("second", 2 * HOUR), ("third", 3 * HOUR)]


async def test_the_scheduler_fires_a_reminder_that_is_due_again_at_once() -> None:
    """One that wants all that it missed: occurrence after occurrence, without waiting for a poll."""
    async with scheduling() as w:
        left = [timedelta(minutes=n) for n in (1, 2, 3)]

        async def again() -> Any:
            w.fired.append(("all", w.clock.now - NOON))
            del w.parts[0].pending[StreamId("offer", "all"), "x"]
            if left:
                w.parts[0].set("all", left.pop(0))
            return "fired"

        w.does["all"] = again
        w.parts[0].set("all", -HOUR)
        await w.clock.advance(timedelta(0))
        await w.clock.advance(HOUR)
        assert w.fired == [("all", timedelta(minutes=n)) for n in range(4)]


async def test_the_scheduler_looks_again_as_soon_as_a_fire_is_over() -> None:
    """It does not wait for a poll, on a clock that never polls."""

    class Patient(MachineClock):
        async def pause(self, until_us: int | None, poll_s: float, wake: asyncio.Event) -> None:
            await wake.wait()

    w, left, over = World(), list(range(5)), asyncio.Event()
    scheduler = RemindersScheduler("offer", w.parts, w.fire, w.give_up, Patient())

    async def again() -> str:
        if left:
            w.parts[0].set("all", left.pop() * SECOND - 9999 * DAY)
        else:
            over.set()
        return "fired"

    w.does["all"] = again
    w.parts[0].set("all", -9999 * DAY)
    task = asyncio.create_task(scheduler.run())
    await asyncio.wait_for(over.wait(), 10)
    task.cancel()


async def test_a_journal_that_does_not_answer_ends_the_scheduler_with_its_error() -> None:
    """Whoever runs it runs it again; nothing of it is left behind, and the clock moves on."""

    class Away:
        async def due_reminders(self, **_: Any) -> list[Reminder]:
            raise JournalUnavailable("it is away")

    clock = VirtualClock(NOON)
    built = World(0)
    scheduler = RemindersScheduler("offer", [Away()], built.fire, built.give_up, clock)
    with pytest.raises(JournalUnavailable):
        await scheduler.run()
    await clock.advance(HOUR)


# -- a scheduler whose clock is moved from elsewhere -------------------------------------------------------------


class Way:
    """The way to the aggregates of a world, as a follower has it. Its references are itself."""

    def __init__(self, world: World) -> None:
        self.world, self.id = world, ""

    def get(self, type: type, id: str, **how: Any) -> "Way":
        way = Way(self.world)
        way.id = id
        return way

    async def holdfast_send(self, command: Any, args: Any, kwargs: Any) -> str:
        send = self.world.fire if command.name == FIRE else self.world.give_up
        return await send(StreamId("offer", self.id), *args)


@asynccontextmanager
async def following(w: World, settle_s: float = 10.0, **how: Any) -> AsyncIterator[RemindersFollower]:
    """The follower over a world, with a clock of its own; run again whenever it fails, as its resident does."""
    w.clock = VirtualClock(NOON, settle_s=settle_s)
    follower = RemindersFollower(Offer, w.clock, **how)
    parts: Any = w.parts
    way: Any = Way(w)
    desk = Desk(owner="f", epoch=1, parts=parts, gate=way, progress=Progress(len(w.parts), time.monotonic))

    async def live() -> None:
        while True:
            try:
                await follower.run(desk)
            except JournalUnavailable:
                await asyncio.sleep(0)

    task = asyncio.create_task(live())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_clock_that_is_moved_from_elsewhere_has_fired_all_that_is_due_when_that_returns() -> None:
    """Each at its own time, none that is due later, and none again when the same is asked once more, or less."""
    w = World(2)
    async with following(w) as follower:
        for n in range(9):
            w.parts[n % 2].set(f"o{n}", n * HOUR)
        for hours in (5, 5, 2):
            await follower.advance(micros_of(NOON + hours * HOUR))
            assert w.fired == [(f"o{n}", n * HOUR) for n in range(6)]
        assert w.clock.now == NOON + 5 * HOUR


async def test_a_clock_that_is_moved_from_elsewhere_waits_for_what_has_failed_for_a_while() -> None:
    """The very last one before its time is up, too: what is put off is tried again without that time moves on."""
    w, tries = World(), list[timedelta]()

    async def trouble() -> None:
        tries.append(w.clock.now - NOON)
        if len(tries) < 4:
            raise Overloaded("mailbox of offer/bad", 1)

    w.does["bad"] = trouble
    async with following(w) as follower:
        w.parts[0].set("bad", HOUR)
        await follower.advance(micros_of(NOON + HOUR))
        assert (tries, w.fired) == ([HOUR] * 4, [("bad", HOUR)])


async def test_a_clock_that_is_moved_from_elsewhere_waits_for_more_than_may_fire_in_a_second() -> None:
    """All are due in one instant, at which it stands."""
    w = World()
    async with following(w, rate_max=500) as follower:
        for n in range(1100):
            w.parts[0].set(f"o{n}", HOUR)
        await follower.advance(micros_of(NOON + HOUR))
        assert len({id for id, _ in w.fired}) == len(w.fired) == 1100


async def test_a_clock_that_is_moved_from_elsewhere_waits_for_a_journal_that_is_away() -> None:
    """It is away when the time has come, for the scheduler and for who wants to know whether anything is left."""
    w, away = World(), 3

    class Flickering(Index):
        async def due_reminders(self, **how: Any) -> list[Reminder]:
            nonlocal away
            if w.clock.now >= NOON + HOUR and away:
                away -= 1
                raise JournalUnavailable("it is away")
            return await super().due_reminders(**how)

    w.parts = [Flickering()]
    async with following(w) as follower:
        w.parts[0].set("o", HOUR)
        w.clock.call_later(3600, lambda: None)
        await follower.advance(micros_of(NOON + DAY))
        assert (away, [id for id, _ in w.fired]) == (0, ["o"])


async def test_who_moves_a_clock_elsewhere_hears_when_what_is_due_does_not_fire() -> None:
    """After as long as the clock says; and that the machine's clock is moved by nobody."""
    w = World()

    async def trouble() -> None:
        raise Overloaded("mailbox of offer/bad", 1)

    w.does["bad"] = trouble
    async with following(w, settle_s=0.3) as follower:
        w.parts[0].set("bad", HOUR)
        with pytest.raises(TimeoutError):
            await follower.advance(micros_of(NOON + HOUR))
    with pytest.raises(TypeError, match="the machine's clock"):
        await RemindersFollower(Offer, MachineClock()).advance(0)


def test_reminders_that_go_by_another_sort_of_clock_are_another_follower() -> None:
    """One that runs by the machine's is not left to itself where a test wants to move the time."""
    definition = definition_of(Offer)
    codes = {reminders_plan(definition, Config(), clock).code for clock in (MachineClock(), VirtualClock(NOON))}
    assert len(codes) == 2
    assert reminders_plan(definition, Config(), VirtualClock(NOON + DAY)).code in codes


# -- all of it together ------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory://", "sqlite", "memory://?partitions=2"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/j.db" if request.param == "sqlite" else str(request.param)


async def test_a_reminder_wakes_its_aggregate_when_the_clock_is_moved(url: str) -> None:
    """In a runtime of one process, with timers beside it."""
    clock = VirtualClock(NOON)
    async with Runtime.local(url, clock=clock, placement=Sharded(2)) as runtime:
        offers = [runtime.get(Offer, f"o{n}") for n in range(5)]
        for n, offer in enumerate(offers):
            await offer.set("x", HOUR * (n + 1), every=DAY)
        await offers[0].set_timer("t", 7 * HOUR)
        await runtime.passivate(Offer, "o1")
        await clock.advance(DAY)
        assert await offers[0].all() == ["x 01T13:00", "t 01T19:00", "t 02T02:00", "t 02T09:00"]
        for n, offer in enumerate(offers[1:], 1):
            assert await offer.all() == [f"x 01T{13 + n}:00"]
        followers = (await runtime.statistics()).followers
        assert [(f.name, f.kind, f.details["fired"]) for f in followers] == [("reminders/offer", "reminders", 5)]


async def test_reminders_survive_a_restart_and_fire_when_their_type_is_registered(tmp_path: Any) -> None:
    """Without a call to anybody; what fell due meanwhile by its policy."""
    url = f"sqlite:///{tmp_path}/j.db"
    async with Runtime.local(url, clock=VirtualClock(NOON)) as runtime:
        await runtime.get(Offer, "once").set("x", HOUR, every=HOUR)
        await runtime.get(Offer, "all").set("x", HOUR, every=HOUR, missed="all")
        await runtime.get(Offer, "skip").set("x", HOUR, every=HOUR, missed="skip")
    clock = VirtualClock(NOON + timedelta(hours=3, minutes=30))
    async with Runtime.local(url, clock=clock) as runtime:
        await runtime.register(Offer)
        await clock.advance(timedelta(0))
        assert await runtime.get(Offer, "once").all() == ["x 01T15:30"]
        assert await runtime.get(Offer, "all").all() == ["x 01T15:30"] * 3
        assert await runtime.get(Offer, "skip").all() == []
        for id in ("once", "all", "skip"):
            assert await runtime.get(Offer, id).pending() == {"x": NOON + 4 * HOUR}


async def test_a_rejected_reminder_is_over_and_the_journal_says_why() -> None:
    """As an event of the aggregate's own stream."""
    clock = VirtualClock(NOON)
    async with Runtime.local(clock=clock) as runtime:
        offer = runtime.get(Offer, "a")
        await offer.set_refused("x", HOUR)
        await clock.advance(DAY)
        assert await offer.pending() == {}
        recorded = [each async for each in runtime.read(Offer, "a")]
        assert [each.type.rpartition(".")[2] for each in recorded] == ["set", "fired"]
        assert recorded[-1].event.problem == "Rejected: not today"
        assert recorded[-1].recorded_at == NOON + HOUR


async def test_the_commands_that_fire_reminders_cannot_be_sent_by_users() -> None:
    """No reference has them."""
    async with Runtime.local() as runtime:
        offer: Any = runtime.get(Offer, "a")
        for name in ("holdfast_fire", "holdfast_fired", "holdfast_ring"):
            with pytest.raises(UnknownCommand):
                getattr(offer, name)
        assert not [name for name in dir(offer) if name.startswith("holdfast")]


async def test_reminders_of_a_type_that_sets_none_start_nothing() -> None:
    """No follower, no process."""
    from_elsewhere = pytest.importorskip("hf_bank")
    async with Runtime.local() as runtime:
        await runtime.get(from_elsewhere.Account, "a").deposit(1)
        assert (await runtime.statistics()).followers == ()


async def test_the_programs_of_the_page_on_reminders_run_as_they_stand(tmp_path: Any) -> None:
    """One after the other, in a process of their own."""
    page = (Path(__file__).parents[2] / "docs/reminders.md").read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "False"]


@pytest.mark.ray
async def test_a_virtual_clock_takes_the_reminders_of_a_cluster_along_also_when_their_process_dies(
    world: Any, kill: Any, tmp_path: Path
) -> None:
    """kill -9 while one of them is under way: when the clock has come to its time, all that were due have fired, once,
    in order, each at its own time; a later one waits for its own."""
    gate = tmp_path / "go"
    clock = VirtualClock(NOON, settle_s=60.0)
    async with world.open(placement=Sharded(1), clock=clock) as runtime:

        async def rung() -> list[tuple[str, datetime]]:
            return [(e.id, e.event.at) async for e in runtime.read(Offer) if isinstance(e.event, Rang)]

        for n in range(8):
            await runtime.get(Offer, f"o{n}").set_at("x", NOON + n * HOUR, str(gate) if n == 3 else "")
        advancing = asyncio.create_task(clock.advance(6 * HOUR))
        await eventually(Path(f"{gate}.reached").exists)
        assert await rung() == [(f"o{n}", NOON + n * HOUR) for n in range(3)]
        kill(world.pid_of("follower:reminders/offer"))
        gate.touch()
        await advancing
        assert await rung() == [(f"o{n}", NOON + n * HOUR) for n in range(7)]

        kill(world.pid_of("follower:reminders/offer"))  # and starts again where the clock stood first
        await clock.advance(HOUR)
        assert await rung() == [(f"o{n}", NOON + n * HOUR) for n in range(8)]
    await clock.advance(HOUR)  # a runtime that was closed moves nothing any more


@pytest.mark.ray
async def test_reminders_fire_once_each_whatever_is_killed_when_they_are_due(world: Any, kill: Any) -> None:
    """On a cluster, by the machine's clock: the processes of the scheduler, of the host and of the journal die while
    reminders of aggregates that are not in memory fall due. Nobody calls them."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, ids = random.Random(seed), [f"o{n:02}" for n in range(30)]
    async with world.open(placement=Sharded(1)) as runtime:

        async def rung(count: int) -> list[Any]:
            found = [each async for each in runtime.read(Offer) if isinstance(each.event, Rang)]
            return found if len(found) >= count else []

        for id in ids:
            await runtime.get(Offer, id).set("x", timedelta(seconds=chance.uniform(1.0, 4.0)))
            await runtime.passivate(Offer, id)
        kills = {
            "scheduler": lambda _: kill(world.pid_of("follower:reminders/offer")),
            "host": lambda found: kill(found[-1].event.pid),
            "journal": lambda _: world.kill_journal(),
        }
        for count, victim in zip((3, 10, 17), chance.sample(sorted(kills), 3), strict=True):
            kills[victim](await eventually(partial(rung, count)))
        found = await eventually(partial(rung, len(ids)))
        assert sorted(each.id for each in found) == ids
        assert not any(await asyncio.gather(*(runtime.get(Offer, id).pending() for id in ids)))
