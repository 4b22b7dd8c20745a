"""Reading: what records of the journal are to somebody who knows some event classes.

A record of an event of today is opened as it is. An older one is upcast and may be several, its parts, or none; it is
found out once for each stored type, so reading what is not old takes one look into a dict.

Before this: a record of the journal. After this: `RecordedEvent`s, opened where they are looked into.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from holdfast.journal.codec import CodecError, decode_plain
from holdfast.journal.event_types import name_and_version
from holdfast.journal.records import Recorded

from .recorded import Decode, RecordedEvent, RenamedEvent
from .upcasting import NAME, Ancestry, event_version, stored_type

__all__ = ["Decodes", "Opening", "Reading", "TooNew"]

TYPES_MAX = 10_000
"""Stored types that are remembered as unknown."""


class Decodes(Protocol):
    """What makes a value of a payload, as a `Codec` does."""

    def decode(self, payload: bytes) -> Any:
        """The value. Raises `CodecError`."""
        ...


class TooNew:
    """In the place of a codec: for events that newer code than this has written."""

    def __init__(self, stored: str, known: int) -> None:
        """`known`: the version that this code has."""
        self.stored, self.known = stored, known

    @property
    def problem(self) -> str:
        """Both versions."""
        name, version = name_and_version(self.stored)
        return f"newer code wrote {name!r} at version {version}, and this code knows it up to version {self.known}"

    def decode(self, payload: bytes) -> Any:
        """Raises `CodecError`."""
        raise CodecError(f"event {self.stored}", self.problem)


class Opening(NamedTuple):
    """How records of one stored type are opened. `name`: of the event class, today. `decode`: None for those that are
    upcast."""

    name: str
    decode: Decode | None


class Reading(dict[str, Opening | None]):
    """By stored type: how it is opened by who knows these classes; None where it is none of theirs."""

    def __init__(self, codecs: Mapping[type, Decodes]) -> None:
        """Raises `DefinitionError` for classes that share a name."""
        super().__init__()
        self.ancestry = Ancestry(codecs)
        self._decoders = {stored_type(cls): codec.decode for cls, codec in codecs.items()}
        self._versions = {name: event_version(cls) for name, cls in self.ancestry.named.items() if cls in codecs}
        for stored, cls in self.ancestry.current.items():
            if cls in codecs:
                self[stored] = Opening(vars(cls)[NAME], codecs[cls].decode)
        for stored, (cls, _) in self.ancestry.older.items():
            self[stored] = Opening(vars(cls)[NAME], None)

    def __missing__(self, stored: str) -> Opening | None:
        newer = self.too_new(stored)
        found = None
        if newer is not None:
            found = Opening(vars(self.ancestry.named[name_and_version(stored)[0]])[NAME], newer.decode)
        if len(self) < TYPES_MAX:
            self[stored] = found
        return found

    def too_new(self, stored: str) -> TooNew | None:
        """Something if this is an event of theirs, at a version that they do not have yet."""
        name, version = name_and_version(stored)
        known = self._versions.get(name, version)
        return TooNew(stored, known) if known < version else None

    def opened(self, record: Recorded, partition: int) -> list[RecordedEvent]:
        """The events that a record is, in order. One that cannot be told is one, and raises when it is looked into."""
        opening = self[record.type]
        if opening is None:
            return [RecordedEvent(record, partition)]
        if opening.decode is not None:
            return [RenamedEvent(record, partition, opening.decode, opening.name)]
        try:
            return self.parts(record, partition)
        except CodecError as error:
            return [RenamedEvent(record, partition, partial(_raise, error), opening.name)]

    def parts(self, record: Recorded, partition: int) -> list[RecordedEvent]:
        """What an event of an older type is today. Raises `CodecError`."""
        return [
            RenamedEvent(
                record,
                partition,
                partial(_decoded, self._decoders.get(piece.type, decode_plain), piece.payload),
                name_and_version(piece.type)[0],
                part,
            )
            for part, piece in enumerate(self.ancestry.pieces(record.type, record.payload))
        ]


def _raise(error: CodecError, payload: bytes) -> Any:
    raise error


def _decoded(decode: Decode, today: bytes, stored: bytes) -> Any:
    return decode(today)
