"""Recorded events as readers of a journal get them, and those who react to its events: the journal's record, opened
where it is looked into. So a reader that only counts, or picks a few by their type, pays for nothing else; and one
event that its class cannot take is a problem of whoever looks into it, not of the reading.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from holdfast.journal.codec import decode_plain
from holdfast.journal.event_types import name_and_version
from holdfast.journal.records import Recorded

from .context import Context

__all__ = ["Decode", "RecordedEvent", "RenamedEvent"]

Decode = Callable[[bytes], Any]

_UNOPENED: Any = object()


class RecordedEvent:
    """One event of the journal.

    `position` counts over its partition of the journal (all of it, and number 0, where there are no partitions),
    `version` over its stream; both from 1 and without gaps. `event` is an instance of the class that stands for `type`,
    or a plain mapping of its fields where none is known; `payload` is what the journal holds of it, MessagePack, fields
    that the class does not have included. `context` tells the command that caused it, and where that came from.

    `part`: which one of those that an older event was upcast to, from 0; they have one position and one version.
    """

    __slots__ = ("_context", "_decode", "_event", "_record", "partition")

    part: int = 0

    def __init__(
        self, record: Recorded, partition: int = 0, decode: Decode = decode_plain, event: Any = _UNOPENED
    ) -> None:
        """`event`: what `decode` makes of the payload, if that is known already."""
        self._record, self.partition, self._decode = record, partition, decode
        self._event, self._context = event, _UNOPENED

    @property
    def position(self) -> int:
        """Its place in its partition of the journal."""
        return self._record.position

    @property
    def category(self) -> str:
        """Of the aggregate that it happened to."""
        return self._record.stream.category

    @property
    def id(self) -> str:
        """Of the aggregate that it happened to."""
        return self._record.stream.id

    @property
    def version(self) -> int:
        """Its place in its stream."""
        return self._record.version

    @property
    def type(self) -> str:
        """The name that `@event` gives it today, whatever its version and whichever alias it was stored under."""
        return name_and_version(self._record.type)[0]

    @property
    def stored_type(self) -> str:
        """Name and version, as the journal holds them: `account.deposited@2`."""
        return self._record.type

    @property
    def payload(self) -> bytes:
        """Its fields, as a MessagePack map."""
        return self._record.payload

    @property
    def event(self) -> Any:
        """The event itself. Raises `CodecError` for a payload that its class cannot take."""
        if self._event is _UNOPENED:
            self._event = self._decode(self._record.payload)
        return self._event

    @property
    def context(self) -> Context:
        """Of its command. Raises `CodecError` for one that is damaged."""
        if self._context is _UNOPENED:
            record = self._record
            self._context = Context.decode(record.command_id, record.recorded_at, record.metadata)
        context: Context = self._context
        return context

    @property
    def recorded_at(self) -> datetime:
        """When its command ran, aware, UTC."""
        return self.context.now

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller added."""
        return self.context.metadata

    @property
    def record(self) -> Recorded:
        """As the journal holds it."""
        return self._record

    def __repr__(self) -> str:
        part = f", part {self.part}" if self.part else ""
        return f"<{self.category}<{self.id}@{self.version}> {self.type} at {self.partition}:{self.position}{part}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedEvent):
            return False
        return (self.partition, self.part, self._record) == (other.partition, other.part, other._record)

    def __hash__(self) -> int:
        return hash((self.partition, self._record.position))


class RenamedEvent(RecordedEvent):
    """An event that is called otherwise today than its record says: by an alias, or as a part of what an older one was
    upcast to."""

    __slots__ = ("_name", "part")

    def __init__(self, record: Recorded, partition: int, decode: Decode, name: str, part: int = 0) -> None:
        """`name`: what it is called today."""
        super().__init__(record, partition, decode)
        self._name, self.part = name, part

    @property
    def type(self) -> str:
        """The name that `@event` gives it today."""
        return self._name
