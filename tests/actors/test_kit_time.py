"""The test kit lets time pass: reminders and timers fire through the code of a live cell."""

from datetime import timedelta

import pytest
from hf_offers import DAY, HOUR, NOON, Noted, Offer

from holdfast.actors import Rejected
from holdfast.actors.testing import given


def test_the_kit_shows_the_reminders_that_a_command_has_set_and_not_as_events() -> None:
    """`events` are the user's own."""
    outcome = given(Offer, at=NOON).when.set("x", after=HOUR)
    assert outcome.events == []
    assert {name: each.due for name, each in outcome.reminders.items()} == {"x": NOON + HOUR}
    assert outcome.version == 1


def test_the_kit_fires_each_reminder_at_its_own_time() -> None:
    """In order of due, repeating ones again and again; the clock stands where it was moved to."""
    outcome = given(Offer, at=NOON).when.set("x", every=HOUR).when.set("y", after=90 * HOUR / 60)
    later = outcome.later(2.5 * HOUR)
    assert later.events == [Noted("x 01T13:00"), Noted("y 01T13:30"), Noted("x 01T14:00")]
    assert {name: each.due for name, each in later.reminders.items()} == {"x": NOON + 3 * HOUR}
    assert later.when.ring("now").events == [Noted("now 01T14:30")]


def test_the_kit_fires_what_is_due_next_and_only_that() -> None:
    """However far away it is."""
    outcome = given(Offer, at=NOON).when.set("x", after=DAY).when.set("y", after=2 * DAY).due()
    assert outcome.events == [Noted("x 02T12:00")]
    assert outcome.due().events == [Noted("y 03T12:00")]
    with pytest.raises(AssertionError, match="nothing is pending"):
        outcome.due().due()


def test_the_kit_shows_what_a_reminder_does_about_the_times_that_it_missed() -> None:
    """`down=True`: as if nothing had run meanwhile."""
    for missed, events in (("once", 1), ("all", 5), ("skip", 0)):
        outcome = given(Offer, at=NOON).when.set("x", every=HOUR, missed=missed)
        late = outcome.later(5 * HOUR + timedelta(minutes=5), down=True)
        assert len(late.events) == events, missed
        assert late.reminders["x"].due == NOON + 6 * HOUR


def test_the_kit_gives_up_a_reminder_whose_command_is_rejected_as_the_runtime_does() -> None:
    """The rejection is the outcome's; nothing of the command stays; what repeats goes on."""
    outcome = given(Offer, at=NOON).when.set("x", every=HOUR, command="refuse", args=()).later(2 * HOUR)
    assert isinstance(outcome.rejection, Rejected)
    assert (outcome.events, outcome.state.notes) == ([], [])
    assert outcome.reminders["x"].due == NOON + 3 * HOUR


def test_the_kit_keeps_timers_and_loses_them_when_everything_was_down() -> None:
    """They fire beside the reminders, in order."""
    outcome = given(Offer, at=NOON).when.set_timer("t", every=HOUR).when.set("x", after=90 * HOUR / 60)
    assert set(outcome.timers) == {"t"}
    assert outcome.later(2 * HOUR).events == [Noted("t 01T13:00"), Noted("x 01T13:30"), Noted("t 01T14:00")]
    assert outcome.when.stop_timer("t").timers == {}
    down = outcome.later(2 * HOUR, down=True)
    assert (down.events, down.timers) == ([Noted("x 01T14:00")], {})


def test_the_kit_has_reminders_of_async_commands_call_their_peers() -> None:
    """As any command does."""
    there = given(Offer, id="b", at=NOON)
    outcome = given(Offer, at=NOON, peers={(Offer, "b"): there})
    told = outcome.when.set("x", after=HOUR, command=Offer.tell, args=["b"]).due()
    assert told.peer(Offer, "b").state.notes == ["told by test 01T12:00"]


async def test_in_an_async_test_the_passing_of_time_is_awaited() -> None:
    """And says so when it is not."""
    outcome = given(Offer, at=NOON).when.set("x", after=HOUR)
    assert (await outcome.later(HOUR)).events == [Noted("x 01T13:00")]
    with pytest.raises(AssertionError, match="await"):
        print(outcome.due().events)


def test_given_at_moves_an_aggregate_to_another_time_without_firing_a_reminder() -> None:
    """For a history whose present matters."""
    history = given(Offer, at=NOON).when.set("x", after=HOUR).after
    assert history.at(NOON + DAY).when.ring("y").events == [Noted("y 02T12:00")]
