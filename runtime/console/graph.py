"""Cause and effect, drawn: the commands around one event, each with the events that it made.

A command was sent by at most one other, so what follows from one request is a tree. It grows to the right, a column for
each step from cause to effect; a command takes the height of its effects and stands in the middle of them.

Before this: the events that share a correlation. After this: boxes and lines with coordinates, for a template to write
as SVG, and the same tree as nested lists, for whoever does not look at pictures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from holdfast.actors.context import Context
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.codec import CodecError
from holdfast.journal.records import StreamId

from .shown import plain

__all__ = ["Box", "Graph", "Line", "graph_of"]

COMMANDS_MAX = 120
EVENTS_MAX = 6  # of one command that are drawn; the list below has them all
WIDTH, GAP_X, GAP_Y = 236, 52, 16
HEAD, ROW, PAD = 30, 24, 8
LABEL_MAX = 27
REACTION = "reaction:"


@dataclass(slots=True, eq=False)
class Command:
    """One command: where it came from, and what it made. `events` is empty for one that is only known as a cause."""

    id: str
    stream: StreamId | None
    cause: str = ""
    events: list[RecordedEvent] = field(default_factory=list[RecordedEvent])
    effects: list["Command"] = field(default_factory=list["Command"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event in a box. `here`: it is the one that the page is about."""

    event: RecordedEvent
    label: str
    y: float
    here: bool


@dataclass(slots=True, eq=False, kw_only=True)
class Box:
    """A command with its place. `here`: it made the event that the page is about; `unlisted`: its events without a
    line; `effects`: the boxes that it caused."""

    command: Command
    cause: "Box | None"
    title: str
    here: bool
    x: float
    y: float
    height: float
    lines: Sequence[Line] = ()
    unlisted: int = 0
    effects: list["Box"] = field(default_factory=list["Box"])

    @property
    def ghost(self) -> bool:
        """Nothing is known of it but that it caused something."""
        return not self.command.events

    @property
    def near(self) -> bool:
        """The line from its cause touches the event that the page is about."""
        return self.here or (self.cause is not None and self.cause.here)

    @property
    def edge(self) -> str:
        """The path of the line from its cause; empty if it has none."""
        if self.cause is None:
            return ""
        x, y, to = self.cause.x + WIDTH, self.cause.y + HEAD / 2, self.y + HEAD / 2
        half = x + GAP_X / 2
        return f"M{x:g} {y:g} C{half:g} {y:g} {half:g} {to:g} {self.x - 6:g} {to:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """`roots`: what nothing here has caused; `boxes`: all, each after its cause. `left_out`: how many are not drawn."""

    roots: Sequence[Box]
    boxes: Sequence[Box]
    width: float
    height: float
    left_out: int
    box_width: int = WIDTH
    row_height: int = ROW


def graph_of(events: Iterable[RecordedEvent], focus: RecordedEvent) -> Graph:
    """The commands that made these events and `focus`, around it."""
    commands = _commands(events, focus)
    kept = _nearest(commands, next(each for each in commands if focus in each.events))
    drawing, caused = _Drawing(focus, kept), {effect for command in kept for effect in command.effects}
    for command in commands:
        if command in kept and command not in caused:
            drawing.draw(command, None)
    return Graph(
        roots=[box for box in drawing.boxes if box.cause is None],
        boxes=drawing.boxes,
        width=max(box.x for box in drawing.boxes) + WIDTH + PAD,
        height=max(box.y + box.height for box in drawing.boxes) + PAD,
        left_out=len(commands) - len(kept),
    )


class _Drawing:
    """Gives commands their places, top down. `boxes`: what is drawn so far."""

    def __init__(self, focus: RecordedEvent, kept: set[Command]) -> None:
        self.boxes: list[Box] = []
        self._top = float(PAD)  # nothing stands at or below it yet
        self._focus, self._kept = focus, kept

    def draw(self, command: Command, cause: Box | None) -> Box:
        """A command and all that follows from it, below what is there."""
        shown = _drawn(command, self._focus)
        unlisted = len(command.events) - len(shown)
        box = Box(
            command=command,
            cause=cause,
            title=_title(command),
            here=self._focus in command.events,
            x=PAD if cause is None else cause.x + WIDTH + GAP_X,
            y=self._top,
            height=HEAD + ROW * (len(shown) + (unlisted > 0)) + (PAD if shown else 0),
            unlisted=unlisted,
        )
        self.boxes.append(box)
        box.effects = [self.draw(effect, box) for effect in command.effects if effect in self._kept]
        if box.effects:
            first, last = box.effects[0], box.effects[-1]
            box.y = max(box.y, (first.y + last.y + last.height - box.height) / 2)
        box.lines = [self._line(event, box.y + HEAD + ROW * index) for index, event in enumerate(shown)]
        self._top = max(self._top, box.y + box.height + GAP_Y)
        return box

    def _line(self, event: RecordedEvent, y: float) -> Line:
        return Line(event=event, label=plain(event.type, LABEL_MAX), y=y, here=event == self._focus)


def _commands(events: Iterable[RecordedEvent], focus: RecordedEvent) -> list[Command]:
    """Those that made the events, and those that are only named as causes, oldest first; each knows its effects."""
    found: dict[tuple[StreamId, str], Command] = {}
    for event in sorted({focus, *events}, key=lambda each: (each.record.recorded_at, each.partition, each.position)):
        record = event.record
        context = context_of(event)
        command = found.setdefault((record.stream, record.command_id), Command(record.command_id, record.stream))
        command.cause = context.causation_id if context is not None else ""
        command.events.append(event)
    by_id = dict[str, Command]()
    for command in found.values():
        by_id.setdefault(command.id, command)
    commands = list(found.values())
    for command in list(commands):
        _tie(command, by_id, commands)
    return commands


def _tie(command: Command, by_id: dict[str, Command], commands: list[Command]) -> None:
    """Put it under its cause, which is made up where it made no event that is known."""
    if not command.cause:
        return
    cause = by_id.get(command.cause)
    if cause is None:
        cause = by_id[command.cause] = Command(command.cause, None, _reacted_to(command.cause, by_id))
        commands.append(cause)
        _tie(cause, by_id, commands)
    if cause is command or command in _above(cause, by_id):  # no honest journal says so; one that does is still drawn
        command.cause = ""
        return
    cause.effects.append(command)


def _reacted_to(id: str, by_id: dict[str, Command]) -> str:
    """The command whose event a reaction reacts to with the command of this id, if that is known."""
    place = place_of_reaction(id)
    if place is None:
        return ""
    for other in by_id.values():
        if any((event.partition, event.position) == place for event in other.events):
            return other.id
    return ""


def place_of_reaction(id: str) -> tuple[int, int] | None:
    """Where the event is that a reaction reacts to with the command of this id."""
    head, _, position = id.rpartition(":")
    head, _, partition = head.rpartition(":")
    numbers = partition.isascii() and partition.isdigit() and position.isascii() and position.isdigit()
    return (int(partition[:18]), int(position[:18])) if head.startswith(REACTION) and numbers else None


def _above(command: Command, by_id: dict[str, Command]) -> list[Command]:
    """Its causes, nearest first."""
    found, at = list[Command](), command
    while at.cause and (cause := by_id.get(at.cause)) is not None and cause is not command and cause not in found:
        found.append(cause)
        at = cause
    return found


def _nearest(commands: Sequence[Command], focus: Command) -> set[Command]:
    """At most `COMMANDS_MAX`: its causes up to the first, what follows from these, the nearest first, and then what
    else is there. None is without its cause, unless there are too many of these."""
    causes = {effect: command for command in commands for effect in command.effects}
    kept, at = [focus], focus
    while at in causes:
        at = causes[at]
        kept.append(at)
    known = set(kept)
    others = (command for command in commands if not command.cause and command not in known)
    for command in kept:  # grows while it is gone through: breadth first
        kept += (found := [effect for effect in command.effects if effect not in known])
        known.update(found)
        if command is kept[-1] and (another := next(others, None)) is not None:
            kept.append(another)
            known.add(another)
    return set(kept[:COMMANDS_MAX])


def _drawn(command: Command, focus: RecordedEvent) -> list[RecordedEvent]:
    """Its first events, and the one that the page is about in any case."""
    shown = command.events[:EVENTS_MAX]
    if focus in command.events and focus not in shown:
        shown = [*shown[:-1], focus]
    return shown


def _title(command: Command) -> str:
    if command.stream is not None:
        return plain(str(command.stream), LABEL_MAX)
    if command.id.startswith(REACTION):
        return plain(f"reaction {command.id.split(':')[1]}", LABEL_MAX)
    return "a command without events"


def context_of(event: RecordedEvent) -> Context | None:
    """None: it is damaged."""
    try:
        return event.context
    except CodecError:
        return None
