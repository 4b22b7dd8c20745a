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

from holdfast.journal.codec import Codec, digest
from holdfast.journal.records import Recorded, StreamId

from .behaviour import behaviour_of
from .errors import UnknownCommand
from .handlers import By
from .recorded import RecordedEvent

__all__ = ["REACT", "ReactionSpec", "arguments_of", "correlation_problem", "key_of", "reacting_with"]

REACT = "holdfast_react"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionSpec:
    """An event that a reaction reacts to. `handler`: the function under `@on`, called as (instance, event), or with the
    record of the event as well if it `takes_record`. `by`: which instance the event is for, as `@on` was told."""

    name: str
    type: type
    codec: Codec[Any]
    handler: Callable[..., Any]
    takes_record: bool
    by: By[Any]

    def opened(self, recorded: Recorded, partition: int) -> RecordedEvent:
        """The event, typed; whoever looks at one that its class cannot take gets a `CodecError`."""
        return RecordedEvent(recorded, partition, self.codec.decode)

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


def key_of(reaction: str, partition: int, position: int) -> str:
    """The idempotency key of what a reaction does at the event of a position: the same for ever, so it is done once."""
    return f"reaction:{reaction}:{partition}:{position}"


def arguments_of(recorded: Recorded, partition: int) -> tuple[Any, ...]:
    """What `holdfast_react` is called with: all that the journal says of the event, and nothing else."""
    event = recorded
    stream = event.stream
    what = (event.type, event.payload, partition, event.position, stream.category, stream.id, event.version)
    return *what, event.command_id, event.recorded_at, event.metadata


def reacting_with(category: str, reactions: Mapping[str, ReactionSpec]) -> Callable[..., Any]:
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
    ) -> None:
        spec = reactions.get(type)
        if spec is None:  # this host runs other code than the follower
            raise UnknownCommand(category, f"{REACT} of {type}")
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
        await spec.react(self, spec.opened(recorded, partition))

    return holdfast_react
