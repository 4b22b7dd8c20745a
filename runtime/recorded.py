"""What `runtime.read` and `runtime.subscribe` make of the journal's records."""

from holdfast.actors.definition import Definition
from holdfast.actors.recorded import Decode, RecordedEvent
from holdfast.journal.codec import decode_plain
from holdfast.journal.records import Recorded

__all__ = ["Decode", "RecordedEvent", "opened"]


def opened(recorded: Recorded, definition: Definition | None, partition: int) -> RecordedEvent:
    """A record of a partition, typed where the definition knows its event."""
    spec = None if definition is None else definition.events_by_name.get(recorded.type)
    return RecordedEvent(recorded, partition, decode_plain if spec is None else spec.codec.decode)
