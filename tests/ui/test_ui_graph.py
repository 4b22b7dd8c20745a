"""The drawing of cause and effect: every command in it once, none upon another, and whatever a journal says."""

import random
from itertools import combinations

from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.codec import encode_plain
from holdfast.journal.records import Recorded, StreamId
from holdfast.runtime.console import graph


def an_event(
    position: int, command: str, cause: str = "", stream: str = "", metadata: bytes | None = None
) -> RecordedEvent:
    """Of a command of that id, which the command `cause` has sent."""
    kept = {"correlation_id": "request"} | ({"causation_id": cause} if cause else {})
    return RecordedEvent(
        Recorded(
            position=position,
            stream=StreamId("Thing", stream or command),
            version=position,
            type="thing.done",
            payload=b"",
            command_id=command,
            recorded_at=position,
            metadata=encode_plain(kept) if metadata is None else metadata,
        )
    )


def commands_of(drawing: graph.Graph) -> list[str]:
    return [box.command.id for box in drawing.boxes]


def check(drawing: graph.Graph) -> None:
    """No two boxes touch, all are inside, each is right of its cause, and lists and drawing have the same boxes."""
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - drawing.box_width
        assert 0 <= box.y <= drawing.height - box.height
        assert box.cause is None or box.x > box.cause.x + drawing.box_width
        assert all(box.y < line.y < box.y + box.height for line in box.lines)
    for one, other in combinations(drawing.boxes, 2):
        assert one.x != other.x or one.y + one.height < other.y or other.y + other.height < one.y
    listed, waiting = [], list(drawing.roots)
    while waiting:
        listed.append(box := waiting.pop())
        waiting += box.effects
    assert {id(box) for box in listed} == {id(box) for box in drawing.boxes}
    assert len(listed) == len(drawing.boxes)


def test_a_single_event_is_a_single_box():
    """Also where nothing else is known of it."""
    drawing = graph.graph_of([], focus := an_event(1, "a"))
    check(drawing)
    assert [line.event for box in drawing.boxes for line in box.lines] == [focus]
    assert drawing.boxes[0].edge == ""


def test_effects_stand_to_the_right_of_their_cause():
    """a sent b and c, and c sent d."""
    events = [an_event(1, "a"), an_event(2, "b", "a"), an_event(3, "c", "a"), an_event(4, "d", "c")]
    drawing = graph.graph_of(events, events[2])
    check(drawing)
    causes = {box.command.id: box.cause.command.id if box.cause else "" for box in drawing.boxes}
    assert causes == {"a": "", "b": "a", "c": "a", "d": "c"}
    assert [box.command.id for box in drawing.boxes if box.near] == ["c", "d"]


def test_random_trees_are_drawn_whole_and_apart():
    """Trees of any shape, seen from any of their events."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(100):
        size = chance.randint(1, 60)
        events = [
            an_event(number, str(number), str(chance.randrange(number)) if number and chance.random() < 0.9 else "")
            for number in range(size)
        ]
        for extra in range(10):
            of = chance.choice(events[:size])
            events.append(an_event(size + extra, of.record.command_id, of.context.causation_id))
        chance.shuffle(events)
        drawing = graph.graph_of(events, chance.choice(events))
        check(drawing)
        assert sorted(commands_of(drawing)) == sorted(map(str, range(size)))


def test_a_cause_without_events_is_drawn_as_what_it_is():
    """It is known that it was there, and nothing more."""
    drawing = graph.graph_of([], an_event(1, "b", "somebody"))
    check(drawing)
    ghost, box = drawing.boxes
    assert ghost.ghost
    assert ghost.title == "a command without events"
    assert box.cause is ghost


def test_a_reaction_is_tied_to_the_event_that_it_reacts_to():
    """Its command makes no event, but its id says where the event is."""
    paid, packed = an_event(7, "pay"), an_event(9, "pack", "reaction:Shipping:0:7")
    drawing = graph.graph_of([paid, packed], paid)
    check(drawing)
    assert [(box.title, box.cause.title if box.cause else "") for box in drawing.boxes] == [
        ("Thing/pay", ""),
        ("reaction Shipping", "Thing/pay"),
        ("Thing/pack", "reaction Shipping"),
    ]


def test_causes_that_go_round_in_a_circle_are_drawn_once():
    """No command of Holdfast's says so; a hostile journal may, and must not keep the page from coming."""
    for circle in ([("a", "a")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "a")]):
        events = [an_event(number, *pair) for number, pair in enumerate(circle, 1)]
        drawing = graph.graph_of(events, events[-1])
        check(drawing)
        assert sorted(commands_of(drawing)) == sorted(one for one, _ in circle)


def test_a_key_that_two_streams_use_is_two_commands():
    """An idempotency key belongs to its stream."""
    events = [an_event(1, "key", stream="x"), an_event(2, "key", stream="y")]
    drawing = graph.graph_of(events, events[1])
    check(drawing)
    assert len(drawing.boxes) == 2


def test_a_crowd_is_cut_to_what_is_nearest_and_says_so():
    """The way to the first cause stays, and so does the event that the page is about."""
    chain = [an_event(number, str(number), str(number - 1) if number else "") for number in range(50)]
    crowd = [an_event(100 + number, f"x{number}", "0") for number in range(500)]
    drawing = graph.graph_of(chain + crowd, chain[-1])
    check(drawing)
    assert len(drawing.boxes) == graph.COMMANDS_MAX
    assert drawing.left_out == 550 - graph.COMMANDS_MAX
    assert set(map(str, range(50))) <= set(commands_of(drawing))


def test_more_causes_than_are_drawn_leave_the_nearest():
    """However long the way to the first cause is."""
    chain = [an_event(number, str(number), str(number - 1) if number else "") for number in range(1000)]
    drawing = graph.graph_of(chain, chain[-1])
    check(drawing)
    assert commands_of(drawing) == [str(number) for number in range(1000 - graph.COMMANDS_MAX, 1000)]


def test_of_a_command_with_many_events_the_one_looked_at_is_drawn():
    """A box has a few lines; the list beside it has all."""
    events = [an_event(number, "many") for number in range(1, 101)]
    drawing = graph.graph_of(events, events[70])
    check(drawing)
    (box,) = drawing.boxes
    assert len(box.lines) == graph.EVENTS_MAX
    assert box.unlisted == 100 - graph.EVENTS_MAX
    assert [line.event for line in box.lines if line.here] == [events[70]]


def test_metadata_that_is_no_context_harms_nobody():
    """The event is drawn, alone."""
    broken = an_event(1, "a", metadata=b"\xff\xff")
    drawing = graph.graph_of([an_event(2, "b", "a")], broken)
    check(drawing)
    assert "a" in commands_of(drawing)
