"""Reminders in a live cell: set with a command's events or not at all, fired once, and part of the state."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hf_host import Again, Bench, Client, door, failure, turns
from hf_offers import DAY, HOUR, NOON, Noted, Offer

from holdfast.actors import (
    Aggregate,
    DefinitionError,
    NotInCommand,
    NotSerializable,
    Rejected,
    UnknownCommand,
    command,
    event,
    on,
    query,
)
from holdfast.actors.clock import VirtualClock, micros_of, moment_of
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.actors.reminders import ReminderFired, ReminderSet
from holdfast.actors.snapshots import take
from holdfast.journal.errors import CodecError, JournalFailed
from holdfast.journal.records import StreamId

FIRE, FIRED = "holdfast_fire", "holdfast_fired"
LATEST = 2**53


class Stage:
    """A host of offers at noon, and a client; `fire_due` does what the runtime's scheduler does."""

    def __init__(self, bench: Bench, clock: VirtualClock) -> None:
        self.bench, self.clock = bench, clock

    async def start(self, name: str = "host", **how: Any) -> None:
        self.host = await self.bench.host(Offer, name, clock=self.clock, **how)
        self.client = Client(self.host)

    async def call(self, method: str, *args: Any, id: str = "a", **how: Any) -> Any:
        return await self.client.call(id, method, *args, **how)

    async def due(self) -> list[Any]:
        return await self.bench.store.due_reminders(category="offer", until=self.clock.now_us())

    async def fire_due(self) -> list[str]:
        """Fire what is due until nothing is; what each was answered."""
        answers: list[str] = []
        while found := await self.due():
            for each in found:
                answers.append(await self.call(FIRE, each.name, each.due, id=each.stream.id))
        return answers

    async def notes(self, id: str = "a") -> list[str]:
        return list(await self.call("all", id=id))

    async def hydrated(self, id: str = "a", **how: Any) -> Any:
        found = await hydrate(definition_of(Offer), StreamId("offer", id), self.bench.journal, **how)
        return found.instance

    async def recorded(self, id: str = "a") -> list[str]:
        found = await self.bench.store.read_stream(StreamId("offer", id), limit=1000)
        return [event.type.removeprefix("holdfast.reminder.") for event in found]


@asynccontextmanager
async def stage(**how: Any) -> AsyncIterator[Stage]:
    async with Bench() as bench:
        built = Stage(bench, VirtualClock(NOON))
        await built.start(**how)
        yield built


# -- setting -----------------------------------------------------------------------------------------------------


async def test_a_reminder_is_durable_with_the_events_of_its_command_and_in_the_journals_index() -> None:
    """When the caller hears of it, a crash can take back neither."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        assert await s.recorded() == ["set"]
        assert await s.call("pending") == {"x": NOON + HOUR}
        index = await s.bench.store.due_reminders(category="offer", until=LATEST)
        assert [(each.stream, each.name, each.due) for each in index] == [(("offer", "a"), "x", micros_of(NOON + HOUR))]


async def test_a_reminder_of_a_command_that_raises_was_never_set() -> None:
    """As if never emitted: neither state nor journal nor index has it."""
    async with stage() as s:
        with pytest.raises(Rejected):
            await s.call("set_and_refuse", "x")
        assert (await s.call("pending"), await s.recorded()) == ({}, [])


async def test_a_reminder_of_the_same_name_replaces_the_earlier_one() -> None:
    """One name, one reminder; the earlier time fires nothing."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.call("set", "x", after=DAY)
        await s.clock.advance(2 * HOUR)
        assert await s.due() == []
        assert await s.call(FIRE, "x", micros_of(NOON + HOUR)) == "gone"
        await s.clock.advance(DAY)
        assert await s.fire_due() == ["fired"]
        assert await s.notes() == ["x 02T14:00"]


async def test_an_aggregate_has_many_reminders_each_under_its_name() -> None:
    """They fire in order of due."""
    async with stage() as s:
        for hours in (3, 1, 2):
            await s.call("set", f"x{hours}", after=hours * HOUR)
        await s.clock.advance(DAY)
        assert await s.fire_due() == ["fired"] * 3
        assert [note[:2] for note in await s.notes()] == ["x1", "x2", "x3"]
        assert await s.call("pending") == {}


async def test_a_reminder_is_cancelled_with_the_events_of_the_command_and_only_if_it_was_pending() -> None:
    """True and an event, or False and none."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        assert [await s.call("cancel", "x"), await s.call("cancel", "x")] == [True, False]
        assert await s.recorded() == ["set", "cancelled"]
        await s.clock.advance(DAY)
        assert await s.due() == []


async def test_the_running_command_sees_what_reminders_it_has_set_and_nobody_can_write_to_them() -> None:
    """`pending_reminders` is the state there and then."""
    instance = definition_of(Offer).new("a")
    with pytest.raises(TypeError):
        instance.pending_reminders["x"] = None  # type: ignore[index]
    async with stage() as s:
        await s.call("set", "x", every=DAY, jitter=HOUR, missed="all", kwargs={})
        pending = (await s.hydrated()).pending_reminders["x"]
        assert (pending.command, pending.args, pending.every, pending.repeats) == ("ring", ("x",), DAY, True)
        assert timedelta(0) <= pending.due - (NOON + DAY) <= HOUR
        assert await s.call("look_up") == ["x"]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({}, "got none"),
        ({"at": NOON, "after": HOUR}, "got at and after"),
        ({"at": NOON, "after": HOUR, "every": HOUR}, "got at and after and every"),
        ({"every": HOUR, "cron": "* * * * *"}, "got every and cron"),
        ({"at": NOON, "cron": "* * * * *"}, "got at and cron"),
        ({"at": datetime(2030, 1, 1)}, "time zone"),
        ({"after": -HOUR}, "in the past"),
        ({"every": timedelta(milliseconds=999)}, "shorter than"),
        ({"after": HOUR, "jitter": -HOUR}, "jitter"),
        ({"every": HOUR, "jitter": 2 * HOUR}, "jitter"),
        ({"cron": "* * *"}, "five fields"),
        ({"after": HOUR, "missed": "never"}, "missed"),
        ({"after": timedelta.max}, "year 9999"),
        ({"after": HOUR, "name": ""}, "name"),
    ],
)
async def test_times_of_a_reminder_that_make_no_sense_together_are_told_with_what_was_given(
    how: dict[str, Any], problem: str
) -> None:
    """`ValueError` in the command that sets it; nothing is written."""
    async with stage() as s:
        with pytest.raises(ValueError, match=problem):
            await s.call("set", how.pop("name", "x"), **how)
        assert await s.recorded() == []


class Elsewhere(Aggregate):
    """Another aggregate, without reminders."""

    @command
    def ring_else(self, name: str) -> None: ...


@pytest.mark.parametrize(
    "how",
    [
        {"command": "nothing"},
        {"command": "all"},
        {"command": Offer.all},
        {"command": Elsewhere.ring_else},
        {"command": print},
        {"args": []},
        {"args": ["x", "y"]},
        {"kwargs": {"door": "y"}},
        {"after": 3600},
        {"cron": 5, "after": None},
        {"jitter": 5},
    ],
)
async def test_a_reminder_of_what_is_no_command_or_with_wrong_arguments_is_a_type_error(how: dict[str, Any]) -> None:
    """Told when it is set, not when it is due."""
    async with stage() as s:
        with pytest.raises(TypeError):
            await s.call("set", "x", **{"after": HOUR, **how})
        assert await s.recorded() == []


@pytest.mark.parametrize("value", [(1, 2), Decimal(2), object(), {"a": {3}}])
async def test_arguments_of_a_reminder_that_do_not_come_back_as_they_are_are_refused(value: Any) -> None:
    """Whatever MessagePack would make of them: it would be another command."""
    async with stage() as s:
        with pytest.raises(NotSerializable, match="reminder 'x'"):
            await s.call("set", "x", after=HOUR, args=[value])


async def test_a_reminder_is_set_by_a_running_command_only() -> None:
    """Not in a query, nor in a handler, nor from outside."""
    async with stage() as s:
        for method in ("set_in_query", "time_in_query"):
            with pytest.raises(NotInCommand):
                await s.call(method)
        for use in (
            lambda offer: offer.remind("x", after=HOUR, command="ring", args=["x"]),
            lambda offer: offer.cancel_reminder("x"),
            lambda offer: offer.timer("x", after=HOUR, command="ring", args=["x"]),
        ):
            with pytest.raises(NotInCommand):
                use(definition_of(Offer).new("a"))


# -- firing ------------------------------------------------------------------------------------------------------


async def test_a_reminder_fires_with_the_events_of_its_command_in_one_append() -> None:
    """Both or neither; the command's own events come after the record that it fired."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.clock.advance(HOUR)
        before = s.host.journal.appends_sent
        assert await s.fire_due() == ["fired"]
        assert s.host.journal.appends_sent == before + 1
        assert await s.recorded() == ["set", "fired", "hf_offers.noted"]


async def test_a_due_reminder_wakes_an_aggregate_that_is_not_in_memory() -> None:
    """And one whose host was another."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.host.passivate("a")
        assert await s.host.live() == []
        await s.start("host 2")
        await s.clock.advance(HOUR)
        assert await s.fire_due() == ["fired"]
        assert await s.notes() == ["x 01T13:00"]


async def test_a_fire_whose_answer_was_lost_and_that_is_sent_again_fires_the_reminder_once() -> None:
    """With the same command id, and with another one after the sender has started again."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR)
        await s.clock.advance(HOUR)
        due = micros_of(NOON + HOUR)
        assert await s.call(FIRE, "x", due, command_id="f1") == "fired"
        assert await s.call(FIRE, "x", due, command_id="f1", maybe=True) == "fired"  # the stored reply
        assert await s.call(FIRE, "x", due, command_id="f2") == "gone"
        assert await s.notes() == ["x 01T13:00"]


async def test_two_fires_of_one_reminder_at_once_fire_it_once() -> None:
    """Two schedulers may run for a while; the aggregate decides."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.clock.advance(HOUR)
        due = micros_of(NOON + HOUR)
        answers = await asyncio.gather(*(Client(s.host).call("a", FIRE, "x", due) for _ in range(5)))
        assert sorted(answers) == ["fired", "gone", "gone", "gone", "gone"]
        assert await s.notes() == ["x 01T13:00"]


async def test_a_host_that_is_replaced_before_the_append_has_not_fired_the_reminder() -> None:
    """Its successor does, once, and with the state that it finds."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.clock.advance(HOUR)
        with s.bench.store.hold("append") as disk:
            fire = s.client.start("a", FIRE, "x", micros_of(NOON + HOUR))
            await disk.reached.wait()
            await s.start()  # under the same name: the claim fences the append that stands at the door
        assert isinstance(await failure(fire), Again)
        assert await s.recorded() == ["set"]
        assert await s.fire_due() == ["fired"]
        assert (await s.notes(), await s.recorded()) == (["x 01T13:00"], ["set", "fired", "hf_offers.noted"])


async def test_a_host_that_is_replaced_after_the_append_has_fired_the_reminder() -> None:
    """Nobody heard of it; the fire that is sent to its successor finds it gone."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.clock.advance(HOUR)
        with s.bench.store.hold("append", after=True) as disk:
            fire = s.client.start("a", FIRE, "x", micros_of(NOON + HOUR))
            await disk.reached.wait()
            s.host._leave()
            assert isinstance(await failure(fire), Again)
            await s.start()
            assert await s.call(FIRE, "x", micros_of(NOON + HOUR)) == "gone"
        assert (await s.notes(), await s.recorded()) == (["x 01T13:00"], ["set", "fired", "hf_offers.noted"])


async def test_a_reminder_whose_append_fails_is_still_pending_and_fires_later() -> None:
    """Nothing of the failed attempt stays: neither in the state nor in the index."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        await s.clock.advance(HOUR)
        s.bench.store.reject(JournalFailed("the disk is full"))
        with pytest.raises(JournalFailed):
            await s.call(FIRE, "x", micros_of(NOON + HOUR))
        assert (await s.call("pending"), await s.notes()) == ({"x": NOON + HOUR}, [])
        assert await s.fire_due() == ["fired"]
        assert await s.notes() == ["x 01T13:00"]


async def test_cancelling_a_reminder_that_is_just_being_fired_comes_before_or_after_it() -> None:
    """Never both: cancelled and fired."""
    async with stage() as s:
        for id, first in (("a", "cancel"), ("b", "fire")):
            await s.call("set", "x", after=HOUR, id=id)
            calls = {
                "cancel": s.client.wire(id, "cancel", "x"),
                "fire": s.client.wire(id, FIRE, "x", micros_of(NOON + HOUR)),
            }
            order = sorted(calls, key=lambda name: name != first)
            done = dict(zip(order, await asyncio.gather(*s.client.send(*(calls[name] for name in order))), strict=True))
            assert done == ({"cancel": True, "fire": "gone"} if id == "a" else {"cancel": False, "fire": "fired"})
        assert (await s.notes("a"), len(await s.notes("b"))) == ([], 1)


async def test_a_reminder_of_an_async_command_is_fired_when_that_is_done() -> None:
    """The record and all it emitted, before and after it waited, become durable together."""
    async with stage() as s:
        there = door("slow")
        await s.call("set", "x", after=HOUR, command=Offer.ring_slowly, args=["x", "slow"])
        await s.clock.advance(HOUR)
        fire = s.client.start("a", FIRE, "x", micros_of(NOON + HOUR))
        await there.reached.wait()
        assert await s.recorded() == ["set"]
        there.open.set()
        assert await fire == "fired"
        assert await s.recorded() == ["set", "fired", "hf_offers.noted", "hf_offers.noted"]


async def test_a_rejected_command_leaves_its_reminder_pending_until_it_is_given_up() -> None:
    """The sender of the fire decides; `holdfast_fired` then records that it had its turn, and why, and runs nothing."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR, command="refuse", args=())
        await s.clock.advance(HOUR)
        due = micros_of(NOON + HOUR)
        with pytest.raises(Rejected, match="not today"):
            await s.call(FIRE, "x", due)
        assert await s.call("pending") == {"x": NOON + HOUR}
        assert await s.call(FIRED, "x", due, "Rejected: not today") == "fired"
        assert await s.call(FIRED, "x", due, "Rejected: not today") == "gone"
        assert (await s.call("pending"), await s.notes(), await s.due()) == ({}, [], [])
        assert (await s.bench.events("a", Offer))[-1]["problem"] == "Rejected: not today"


async def test_a_repeating_reminder_goes_on_after_its_command_was_given_up() -> None:
    """With its next time."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR, command="refuse", args=())
        await s.clock.advance(HOUR)
        await s.call(FIRED, "x", micros_of(NOON + HOUR), "no")
        assert await s.call("pending") == {"x": NOON + 2 * HOUR}


async def test_a_command_that_sets_its_own_reminder_anew_is_fired_again() -> None:
    """It sees what is pending after it fired, and may replace it."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR, command=Offer.again)
        for _ in range(3):
            await s.clock.advance(HOUR)
            assert await s.fire_due() == ["fired"]
        assert await s.notes() == ["x 01T13:00", "x 01T14:00", "x 01T15:00"]


async def test_a_command_that_changes_its_arguments_does_not_change_its_reminder() -> None:
    """The next time it gets what was set."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR, command=Offer.spoil, args=[["fresh"]])
        for _ in range(2):
            await s.clock.advance(HOUR)
            await s.fire_due()
        assert await s.notes() == ["fresh,spoilt"] * 2


async def test_a_reminder_of_a_command_that_is_gone_from_the_code_is_told_and_stays_pending() -> None:
    """`UnknownCommand`, which is not retryable: the sender gives it up."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        del s.host.definition.commands["ring"]
        try:
            with pytest.raises(UnknownCommand, match="ring"):
                await s.call(FIRE, "x", micros_of(NOON + HOUR))
        finally:
            s.host.definition.commands["ring"] = s.host.definition.served["ring"]
        assert await s.call("pending") == {"x": NOON + HOUR}


async def test_a_fired_reminder_runs_at_its_due_even_if_the_clock_of_its_host_is_behind() -> None:
    """Two machines never quite agree; a command must not find itself before its time."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR)
        assert await s.call(FIRE, "x", micros_of(NOON + HOUR)) == "fired"
        assert (await s.notes(), await s.call("pending")) == (["x 01T13:00"], {"x": NOON + 2 * HOUR})


async def test_what_a_fired_command_sends_to_others_has_the_ids_of_that_occurrence_in_every_attempt() -> None:
    """So a peer that did its part before the crash recognises it; the next occurrence, and one set anew for the very
    same time, are others."""
    seen: list[str] = []

    class Peers:
        def get(self, type: Any, id: str, caller: Any) -> Any:
            seen.append(f"{caller.context.sends_as} {caller.context.maybe_executed}")
            raise ConnectionError("the peer is away")

    async with stage(peers=Peers()) as s:
        for _ in range(2):
            await s.call("set", "x", at=NOON + HOUR, every=HOUR, command=Offer.tell, args=["b"])
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await s.call(FIRE, "x", micros_of(NOON + HOUR))
        await s.call(FIRED, "x", micros_of(NOON + HOUR), "no")
        with pytest.raises(ConnectionError):
            await s.call(FIRE, "x", micros_of(NOON + 2 * HOUR))
    assert [seen.index(each) for each in seen] == [0, 0, 2, 2, 4]
    assert all(each.endswith("True") for each in seen)


# -- late ones ---------------------------------------------------------------------------------------------------


async def test_a_reminder_that_missed_several_times_fires_once_and_goes_on_after_now() -> None:
    """The default. How many it stands for is recorded."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR)
        await s.clock.advance(5.5 * HOUR)
        assert await s.fire_due() == ["fired"]
        assert (await s.notes(), await s.call("pending")) == (["x 01T17:30"], {"x": NOON + 6 * HOUR})
        assert [e["covers"] for e in await s.bench.events("a", Offer) if "covers" in e] == [5]


async def test_a_reminder_that_wants_all_it_missed_fires_once_for_each_in_order() -> None:
    """Then it goes on."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR, missed="all")
        await s.clock.advance(3.5 * HOUR)
        assert await s.fire_due() == ["fired"] * 3
        assert await s.call("pending") == {"x": NOON + 4 * HOUR}
        fired = [e["fired"] for e in await s.bench.events("a", Offer) if "fired" in e]
        assert fired == [micros_of(NOON + n * HOUR) for n in (1, 2, 3)]


async def test_a_reminder_that_skips_what_it_missed_records_it_and_runs_nothing() -> None:
    """What is more than a minute late; what is less is fired. One that comes once is skipped too."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR, missed="skip")
        await s.call("set", "y", after=HOUR, missed="skip")
        await s.clock.advance(3 * HOUR + timedelta(seconds=30))
        assert await s.fire_due() == ["fired"] * 3
        assert await s.notes() == ["x 01T15:00"]
        assert await s.call("pending") == {"x": NOON + 4 * HOUR}
        recorded = [(e["name"], e["covers"], e["skipped"]) for e in await s.bench.events("a", Offer) if "covers" in e]
        assert sorted(recorded) == [("x", 1, False), ("x", 2, True), ("y", 1, True)]


async def test_a_reminder_by_cron_that_was_missed_for_ten_years_goes_on_at_once() -> None:
    """The occurrences in between are not walked through one by one for ever."""
    async with stage() as s:
        await s.call("set", "x", cron="* * * * *")
        await s.clock.advance(3650 * DAY)
        assert await s.fire_due() == ["fired"]
        assert await s.call("pending") == {"x": NOON + 3650 * DAY + timedelta(minutes=1)}


# -- state -------------------------------------------------------------------------------------------------------


async def test_pending_reminders_come_back_from_a_snapshot_as_from_a_replay() -> None:
    """A repeating one that has fired, too; and they fire then."""
    async with stage() as s:
        await s.call("set", "x", every=HOUR, missed="all", jitter=timedelta(minutes=1), kwargs={})
        await s.call("set", "y", cron="0 6 * * *", args=(), kwargs={"name": "y"})
        await s.clock.advance(HOUR + timedelta(minutes=1))
        await s.fire_due()
        replayed = await s.hydrated()
        definition = definition_of(Offer)
        await s.bench.store.save_snapshots([take(definition, StreamId("offer", "a"), replayed, replayed.version)])
        found = await hydrate(definition, StreamId("offer", "a"), s.bench.journal)
        assert (found.rows_read, found.snapshot_version) == (1, replayed.version)
        assert definition.same_state(found.instance, replayed)
        assert dict(found.instance.pending_reminders) == dict(replayed.pending_reminders) != {}


def test_a_snapshot_without_reminders_is_byte_for_byte_its_fields() -> None:
    """As it was before there were any, also after the last one is over: those that exist stay valid."""
    definition = definition_of(Offer)
    instance = definition.new("a")
    plain = msgspec.msgpack.encode({"notes": []})
    assert definition.encode_state(instance) == plain
    _apply(instance, ReminderSet("x", 1, 1, "ring", ["x"], {}, None, None, "once", 0))
    assert definition.encode_state(instance) != plain
    _apply(instance, ReminderFired("x", None, None, 1))
    assert definition.encode_state(instance) == plain
    assert "_reminders" not in vars(instance)


def test_a_torn_snapshot_with_reminders_is_a_codec_error_and_never_half_a_state() -> None:
    """Whatever byte it ends at."""
    definition = definition_of(Offer)
    instance = definition.new("a")
    _apply(instance, ReminderSet("x", 1, 1, "ring", ["x"], {}, None, None, "once", 0))
    payload = definition.encode_state(instance)
    for end in range(len(payload)):
        with pytest.raises(CodecError):
            definition.restore(definition.new("a"), payload[:end], 1)
    whole = definition.new("a")
    definition.restore(whole, payload, 1)
    assert definition.same_state(whole, instance)


def test_states_that_differ_in_their_reminders_differ() -> None:
    """So a snapshot that lost one is never taken for good."""
    definition = definition_of(Offer)
    one, other = definition.new("a"), definition.new("a")
    _apply(one, ReminderSet("x", 1, 1, "ring", ["x"], {}, None, None, "once", 0))
    assert definition.state_difference(one, other) == "reminders['x']: is in the first only"


async def test_an_aggregate_is_hydrated_with_its_reminders_after_a_command_raised() -> None:
    """Recovery reads them again, as all state."""
    async with stage() as s:
        await s.call("set", "x", after=HOUR)
        assert isinstance(await failure(s.client.start("a", "refuse")), Rejected)
        await turns(20)
        assert await s.call("pending") == {"x": NOON + HOUR}


@pytest.mark.parametrize("seed", range(25))
async def test_pending_reminders_are_the_fold_of_what_was_done(seed: int) -> None:
    """Random commands against a model of five lines; state, replay, and the journal's index all agree with it."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    model: dict[str, tuple[datetime, timedelta | None]] = {}
    async with stage() as s:
        for _ in range(60):
            name, act = chance.choice("xyz"), chance.random()
            if act < 0.4:
                after, every = chance.randint(1, 9) * HOUR, chance.choice((None, HOUR, 3 * HOUR))
                await s.call("set", name, after=after, every=every)
                model[name] = s.clock.now + after, every
            elif act < 0.55:
                assert await s.call("cancel", name) == (model.pop(name, None) is not None)
            else:
                await s.clock.advance(chance.randint(1, 5) * HOUR)
                await s.fire_due()
                for each, (due, every) in list(model.items()):
                    while every is not None and due <= s.clock.now:
                        due += every
                    model[each] = due, every
                    if due <= s.clock.now:
                        del model[each]
            expected = {each: due for each, (due, _) in model.items()}
            assert await s.call("pending") == expected
        assert {n: each.due for n, each in (await s.hydrated()).pending_reminders.items()} == expected
        index = await s.bench.store.due_reminders(category="offer", until=LATEST)
        assert {each.name: moment_of(each.due) for each in index} == expected


# -- names -------------------------------------------------------------------------------------------------------


def test_reminders_change_no_fingerprint_and_are_no_field() -> None:
    """Neither the schema of snapshots nor the code of hosts, which would roll every host, knows of them."""
    definition = definition_of(Offer)
    assert set(definition.events) == {Noted}
    assert "holdfast_fire" not in definition.commands
    assert {"holdfast_fire", "holdfast_fired"} <= set(definition.served)
    assert set(vars(definition.new("a"))) == {"notes", "_id", "_version", "_unit", "_handling"}


def test_whether_a_type_uses_reminders_is_read_from_its_code() -> None:
    """Its own and its bases'."""

    class Special(Offer): ...

    assert definition_of(Offer).uses_reminders
    assert definition_of(Special).uses_reminders
    assert not definition_of(Elsewhere).uses_reminders


def test_names_of_reminders_that_are_ours_are_refused() -> None:
    """Told at the class."""
    with pytest.raises(DefinitionError, match="ours"):

        class _One(Aggregate):
            @command
            def holdfast_fire(self) -> None: ...

    with pytest.raises(DefinitionError, match="our own"):

        class _Two(Aggregate):
            @on(ReminderFired)
            def _fired(self, event: ReminderFired) -> None: ...


def test_an_aggregate_may_have_a_command_called_remind_or_a_field_called_timer() -> None:
    """Nothing of ours relies on those names."""

    @event("test_reminders.named")
    class Named:
        name: str

    class Own(Aggregate):
        timer: str = ""

        @command
        def remind(self, name: str) -> None:
            self.emit(Named(name))
            Aggregate.remind(self, name, after=HOUR, command="remind", args=[name])

        @query
        def cancel_timer(self) -> str:
            return self.timer

        @on(Named)
        def _named(self, event: Named) -> None:
            self.timer = event.name

    definition = definition_of(Own)
    assert definition.uses_reminders
    assert set(definition.commands) == {"remind", "cancel_timer"}


def _apply(instance: Any, event: Any) -> None:
    definition = definition_of(Offer)
    definition.apply(instance, definition.applied[type(event)], event)
