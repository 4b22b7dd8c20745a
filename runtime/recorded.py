"""Opening what a journal recorded, for `runtime.read`: from bytes to events."""

from holdfast.actors.context import Context
from holdfast.actors.definition import Definition
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.codec import decode_plain
from holdfast.journal.records import Recorded

__all__ = ["RecordedEvent", "opened"]


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
