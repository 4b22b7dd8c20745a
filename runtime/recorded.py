"""Recorded events as `runtime.read` gives them: the journal's record, opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.actors.context import Context
from holdfast.actors.definition import Definition
from holdfast.journal.codec import decode_plain
from holdfast.journal.records import Recorded

__all__ = ["RecordedEvent", "opened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """One event of the journal.

    `position` counts over its partition of the journal (all of it, and number 0, where there are no partitions),
    `version` over its stream; both from 1 and without gaps. `event` is an instance of the class that the aggregate's
    type handles under `type`, or a plain mapping of its fields when no type was given. `context` tells the command that
    caused it, and where that came from.
    """

    partition: int = 0
    position: int
    category: str
    id: str
    version: int
    type: str
    event: Any
    context: Context

    @property
    def recorded_at(self) -> datetime:
        """When its command ran, aware, UTC."""
        return self.context.now

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller added."""
        return self.context.metadata


def opened(recorded: Recorded, definition: Definition | None, partition: int) -> RecordedEvent:
    """Decode a record of a partition, typed where the definition knows its event. Raises `CodecError` for a payload
    that does not decode as its type."""
    spec = None if definition is None else definition.events_by_name.get(recorded.type)
    return RecordedEvent(
        partition=partition,
        position=recorded.position,
        category=recorded.stream.category,
        id=recorded.stream.id,
        version=recorded.version,
        type=recorded.type,
        event=decode_plain(recorded.payload) if spec is None else spec.codec.decode(recorded.payload),
        context=Context.decode(recorded.command_id, recorded.recorded_at, recorded.metadata),
    )
