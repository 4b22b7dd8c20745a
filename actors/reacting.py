"""Reacting: how an event of the journal becomes a command of one instance of a reaction.

    journal ──▶ follower: which instance? ──▶ `holdfast_react`, keyed by the event's position ──▶ the `@on` method

The command carries the event as it was recorded, byte for byte, so that it is the same one whenever, and from wherever,
the event is delivered again.

Before this: a follower has read the event. After this: the instance has done what its handler says, once.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.journal.codec import Codec, CodecError, digest
from holdfast.journal.event_types import name_and_version
from holdfast.journal.marked import has_mark
from holdfast.journal.records import Recorded, StreamId

from .behaviour import behaviour_of
from .errors import UnknownCommand
from .handlers import By
from .reading import Reading
from .recorded import RecordedEvent
from .upcasting import Ancestry, stored_type

__all__ = ["REACT", "ReactionSpec", "Reactions", "arguments_of", "correlation_problem", "key_of", "reacting_with"]

REACT = "holdfast_react"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionSpec:
    """An event that a reaction reacts to. `handler`: the function under `@on`, called as (instance, event), or with the
    record of the event as well if it `takes_record`. `by`: which instance the event is for, as `@on` was told. `name`:
    what the journal stores as its type, today."""

    name: str
    type: type
    codec: Codec[Any]
    handler: Callable[..., Any]
    takes_record: bool
    by: By[Any]

    def goes_to(self, recorded: RecordedEvent) -> str | None:
        """The id of the instance that the event is for; None: of none. Raises what `by` raises, and `TypeError` for
        an answer that is no text."""
        if self.by is None:
            return recorded.id
        id: Any = self.by(recorded.event, recorded) if callable(self.by) else getattr(recorded.event, self.by)
        if id is not None and not isinstance(id, str):
            raise TypeError(f"{self.name} goes to an instance by its id, which is text and not {id!r}")
        return id

    async def react(self, instance: Any, recorded: RecordedEvent) -> None:
        """Have the instance react, as a part of its running command."""
        more = (recorded,) if self.takes_record else ()
        result = self.handler(instance, recorded.event, *more)
        if inspect.isawaitable(result):
            await result

    def code(self, module: str) -> str:
        """A fingerprint of what it does. `module`: whose top-level package counts as the same code."""
        by = self.by if isinstance(self.by, str) else ""
        roots = [self.handler, self.type, *([self.by] if callable(self.by) else [])]
        return digest(f"{self.name} {by} {behaviour_of(*roots, module=module)}".encode())


class Reactions(dict[str, ReactionSpec]):
    """What a reaction reacts to, by the type that the journal stores of it today; and how it finds that in a record."""

    def __init__(self, specs: Mapping[str, ReactionSpec]) -> None:
        """Raises `DefinitionError` for event classes that share a name."""
        super().__init__(specs)
        self.reading = Reading({spec.type: spec.codec for spec in specs.values()})
        self._by_name = {name_and_version(name)[0]: spec for name, spec in specs.items()}

    @property
    def origins(self) -> list[type]:
        """Event classes that it does not react to, and whose upcasters make some that it does."""
        return [cls for cls in self.reading.ancestry.classes if stored_type(cls) not in self]

    def of(self, recorded: Recorded, partition: int) -> list[tuple[ReactionSpec, RecordedEvent]]:
        """What there is to react to in a record: one event, or the parts of an older one that are its business. One
        that cannot be opened raises `CodecError` when it is looked into."""
        spec = self.get(recorded.type)
        if spec is not None:
            return [(spec, RecordedEvent(recorded, partition, spec.codec.decode))]
        opening = self.reading[recorded.type]
        if opening is None:
            return []
        if opening.decode is not None:  # under an alias, or too new
            return [(self._by_name[opening.name], event) for event in self.reading.opened(recorded, partition)]
        try:
            events = self.reading.parts(recorded, partition)
        except CodecError:
            return [(self._concerned(recorded.type), event) for event in self.reading.opened(recorded, partition)]
        return [(self._by_name[event.type], event) for event in events if event.type in self._by_name]

    def _concerned(self, stored: str) -> ReactionSpec:
        """One whose business an older event is that nobody can tell what it is today: it is not to go unnoticed."""
        cls, _ = self.reading.ancestry.older[stored]
        specs = self.values()
        return next((spec for spec in specs if spec.type is cls), None) or next(
            spec for spec in specs if cls in Ancestry([spec.type]).classes
        )


def correlation_problem(event: type, by: Any) -> str:
    """What is wrong with the `by=` of an event class; empty if nothing."""
    if by is None:
        return ""
    name = event.__name__
    if isinstance(by, str):
        named = dataclasses.is_dataclass(event) and any(f.name == by for f in dataclasses.fields(event))
        return "" if named else f"{name} has no field {by!r} to go by"
    if not callable(by):
        return f"by= is the name of a field, or a function of the event and its record, not {by!r}"
    if inspect.iscoroutinefunction(by):
        return "by= is a plain function: which instance an event is for follows from the event alone"
    try:
        inspect.signature(by).bind(None, None)
    except (TypeError, ValueError):
        return "by= is called with the event and its record, which this function does not take"
    return ""


def key_of(reaction: str, partition: int, position: int, part: int = 0) -> str:
    """The idempotency key of what a reaction does at the event of a position, or at a later part of it: the same for
    ever, so it is done once."""
    return f"reaction:{reaction}:{partition}:{position}" + (f":{part}" if part else "")


def arguments_of(recorded: Recorded, partition: int, part: int = 0) -> tuple[Any, ...]:
    """What `holdfast_react` is called with: all that the journal says of the event, and nothing else. An older event
    goes as it was recorded, with the number of its part, so that it is the same command also when its upcasters are
    not. What is sealed there travels sealed: the command is the same after its subject was forgotten, and its
    fingerprint tells nothing."""
    event = recorded
    stream, payload = event.stream, event.sealed or event.payload
    what = (event.type, payload, partition, event.position, stream.category, stream.id, event.version)
    return *what, event.command_id, event.recorded_at, event.metadata, *((part,) if part else ())


def reacting_with(category: str, reactions: Reactions) -> Callable[..., Any]:
    """The system command of a reaction that reacts like this."""

    async def holdfast_react(
        self: Any,
        type: str,
        payload: bytes,
        partition: int,
        position: int,
        stream_category: str,
        stream_id: str,
        version: int,
        command_id: str,
        recorded_at: int,
        metadata: bytes,
        part: int = 0,
    ) -> None:
        recorded = Recorded(
            position=position,
            stream=StreamId(stream_category, stream_id),
            version=version,
            type=type,
            payload=payload,
            command_id=command_id,
            recorded_at=recorded_at,
            metadata=metadata,
        )
        if has_mark(payload):
            recorded = await self.__dict__["_unit"].peers.opened(recorded)
        for spec, event in reactions.of(recorded, partition):
            if event.part == part:
                return await spec.react(self, event)
        raise UnknownCommand(category, f"{REACT} of {type}")  # this host runs other code than the follower

    return holdfast_react
