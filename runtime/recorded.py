"""What `runtime.read` and `runtime.subscribe` make of the journal's records."""

from collections.abc import Sequence

from holdfast.actors.definition import Definition
from holdfast.actors.recorded import Decode, RecordedEvent
from holdfast.journal.records import Recorded

__all__ = ["Decode", "RecordedEvent", "opened"]


def opened(recorded: Recorded, definition: Definition | None, partition: int) -> Sequence[RecordedEvent]:
    """What a record of a partition is today, typed where the definition knows its event: one event, or the parts of an
    older one."""
    if definition is None:
        return (RecordedEvent(recorded, partition),)
    return definition.reading.opened(recorded, partition)
