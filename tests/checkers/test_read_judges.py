"""The judges of the read side: what is right passes, and each way of being wrong is found."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkers import effects_once, equals_fold, every_event_once, fired_once, nothing_forgotten, seen_of
from holdfast.journal.records import Recorded, StreamId

some = settings(max_examples=100, deadline=None)

ASKED, RANG = "t.asked", "t.rang"


def recorded(stream="a/1", version=1, type="t", command="c1", at=0, position=1, **payload):
    """One event."""
    return Recorded(
        position=position,
        stream=StreamId(*stream.split("/")),
        version=version,
        type=type,
        payload=msgspec.msgpack.encode(payload),
        command_id=command,
        recorded_at=at,
    )


# -- subscriptions -------------------------------------------------------------------------------------------------


@st.composite
def journals(draw):
    """What a filter leaves of a journal: not every position, in up to three partitions."""
    places = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=3))
    return [seen_of(recorded(position=at, n=at), partition) for partition, at in sorted(places)]


@some
@given(journals(), st.data())
def test_a_subscription_that_was_given_everything_once_is_right(wanted, data):
    """Partitions may come in any order among each other."""
    partitions = data.draw(st.permutations([0, 1, 2]))
    given_ones = sorted(wanted, key=lambda each: (partitions.index(each.partition), each.position))
    assert every_event_once("s", given_ones, wanted) == len(wanted)


@some
@given(journals(), st.data())
def test_a_gap_of_a_subscription_is_found(wanted, data):
    """Wherever it is, at the end too."""
    lost = data.draw(st.sampled_from(wanted))
    with pytest.raises(AssertionError, match="never given"):
        every_event_once("s", [each for each in wanted if each is not lost], wanted)


@some
@given(journals(), st.data())
def test_a_repeat_of_a_subscription_is_found(wanted, data):
    """At once, or later."""
    twice = data.draw(st.sampled_from(wanted))
    at = data.draw(st.integers(wanted.index(twice), len(wanted)))
    with pytest.raises(AssertionError, match="more than once"):
        every_event_once("s", [*wanted[:at], twice, *wanted[at:]], wanted)


@some
@given(journals(), st.data())
def test_what_a_subscription_was_given_beside_its_filter_or_altered_is_found(wanted, data):
    """An event that the journal does not have there, or with other bytes."""
    one = data.draw(st.sampled_from(wanted))
    for stranger in (replace(one, position=99), replace(one, payload=b"\x80"), replace(one, version=7)):
        with pytest.raises(AssertionError, match="not of its filter"):
            every_event_once("s", [*wanted, stranger], wanted)


def test_an_order_of_its_own_of_a_subscription_is_found():
    """Nothing is missing and nothing there twice."""
    wanted = [seen_of(recorded(position=at), 0) for at in (1, 2, 3)]
    with pytest.raises(AssertionError, match="was given where"):
        every_event_once("s", [wanted[0], wanted[2], wanted[1]], wanted)


# -- projections ---------------------------------------------------------------------------------------------------


def add(rows, event):
    """What the projection of these tests does."""
    key, amount = event
    rows[key] = rows.get(key, 0) + amount


@some
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1), st.data())
def test_a_projection_is_right_if_its_rows_are_the_fold_of_the_events_and_wrong_otherwise(events, data):
    """An event lost, an event counted twice, a row of nobody's."""
    rows: dict[str, int] = {}
    for event in events:
        add(rows, event)
    assert equals_fold("p", rows, events, add) == len(rows)
    one = data.draw(st.sampled_from(events))
    for wrong in (rows | {one[0]: rows[one[0]] - one[1]}, rows | {one[0]: rows[one[0]] + one[1]}, rows | {"z": 1}):
        with pytest.raises(AssertionError, match="not what the events make"):
            equals_fold("p", wrong, events, add)
    with pytest.raises(AssertionError, match="no row"):
        equals_fold("p", {key: row for key, row in rows.items() if key != one[0]}, events, add)


# -- reactions -----------------------------------------------------------------------------------------------------

WANTED = {("r:1", "book/a", "entered"): 2, ("r:2", "book/a", "entered"): 1}
DONE = [("r:1", "book/a", "entered"), ("r:2", "book/a", "entered"), ("r:1", "book/a", "entered")]


def test_a_reaction_whose_effects_are_all_there_once_is_right():
    """In any order."""
    assert effects_once("r", WANTED, DONE) == len(DONE)


def test_an_effect_of_a_reaction_that_is_missing_doubled_or_invented_is_found():
    """Also one of two that look alike, and one that came by another delivery, or went elsewhere."""
    with pytest.raises(AssertionError, match="missing"):
        effects_once("r", WANTED, DONE[1:])
    with pytest.raises(AssertionError, match="too often"):
        effects_once("r", WANTED, [*DONE, DONE[1]])
    for stranger in (("r:3", "book/a", "entered"), ("r:1", "book/b", "entered"), ("", "book/a", "entered")):
        with pytest.raises(AssertionError, match="no event asked for"):
            effects_once("r", WANTED, [*DONE, stranger])


# -- reminders -----------------------------------------------------------------------------------------------------


def reminder_set(version, due, command, name="x"):
    """One that is set, with the event of its command."""
    return [
        recorded("alarm/a", version, "holdfast.reminder.set", command, name=name, due=due),
        recorded("alarm/a", version + 1, ASKED, command, name=name, due=due),
    ]


def fired(version, was, command, due=None, at=100, name="x", **more):
    """One that fires, with the event of its command."""
    return [
        recorded("alarm/a", version, "holdfast.reminder.fired", command, at, name=name, fired=was, due=due, **more),
        recorded("alarm/a", version + 1, RANG, command, at, name=name),
    ]


def cancelled(version, command, name="x"):
    """One that is cancelled."""
    return [recorded("alarm/a", version, "holdfast.reminder.cancelled", command, name=name, due=None)]


def judged(*events, **how):
    return fired_once({"alarm/a": events}, asked=ASKED, rang=RANG, **how)


def test_reminders_that_fire_once_repeat_and_are_cancelled_are_right():
    """Whatever is left is pending."""
    told = judged(
        *reminder_set(1, 50, "c1"),
        *fired(3, 50, "c2"),
        *reminder_set(5, 60, "c3"),
        *fired(7, 60, "c4", due=70),
        *cancelled(9, "c5"),
        *reminder_set(10, 90, "c6", name="y"),
    )
    assert (told.set, told.fired, told.cancelled) == (3, 2, 1)
    assert told.pending == {("alarm/a", "y"): 90}
    nothing_forgotten(told, {("alarm/a", "y"): 90}, quiet_since=90)


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([*fired(3, 50, "c2"), *fired(5, 50, "c3")], "nothing was pending"),
        ([*cancelled(3, "c2"), *fired(4, 50, "c3")], "nothing was pending"),
        ([*cancelled(3, "c2"), *cancelled(4, "c3")], "nothing was pending"),
        ([*reminder_set(3, 60, "c2"), *fired(5, 50, "c3")], "due was 60"),
        (fired(3, 50, "c2", at=49), "fired at 49"),
        (fired(3, 50, "c2", due=40), "goes back"),
        (fired(3, 50, "c2")[:1], "rang"),
        (fired(3, 50, "c2")[1:], "rang"),
        (fired(3, 50, "c2", skipped=True), "rang"),
        (reminder_set(3, 60, "c2")[:1], "asked for"),
        (reminder_set(3, 60, "c2")[1:], "asked for"),
    ],
    ids=["twice", "after it was cancelled", "cancelled twice", "after it was set anew", "early", "backwards",
         "without its command", "the command alone", "skipped and run", "set by nobody", "asked for and not set"],
)  # fmt: skip
def test_a_reminder_that_went_wrong_is_found(events, what):
    """Each in a stream in which one was set, for 50."""
    with pytest.raises(AssertionError, match=what):
        judged(*reminder_set(1, 50, "c1"), *events)


def test_a_reminder_whose_event_and_command_are_two_appends_is_found():
    """The one without the other was on disk for a while, under another command or none."""
    apart = [recorded("alarm/a", 4, RANG, "c9", 100, name="x")]
    with pytest.raises(AssertionError, match="rang"):
        judged(*reminder_set(1, 50, "c1"), *fired(3, 50, "c2")[:1], *apart)


def test_a_reminder_that_was_on_disk_before_it_was_due_is_found():
    """Whatever time its command says that it was."""
    events = [*reminder_set(1, 50, "c1"), *fired(3, 50, "c2", at=50)]
    judged(*events, on_disk=lambda stream, version: 50)
    with pytest.raises(AssertionError, match="fired at 49"):
        judged(*events, on_disk=lambda stream, version: 49)


def test_a_reminder_that_is_forgotten_is_found():
    """By its time, or because the index does not say what the events do."""
    told = judged(*reminder_set(1, 50, "c1"))
    index = {("alarm/a", "x"): 50}
    nothing_forgotten(told, index, quiet_since=50)
    with pytest.raises(AssertionError, match="never fired"):
        nothing_forgotten(told, index, quiet_since=51)
    for wrong in ({}, {("alarm/a", "x"): 51}, index | {("alarm/b", "x"): 50}):
        with pytest.raises(AssertionError, match="by the index"):
            nothing_forgotten(told, wrong, quiet_since=0)
