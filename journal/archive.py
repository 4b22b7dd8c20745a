"""The archive: a journal as one stream of MessagePack, which any store is written to and read from.

    frame    = [meta, data, digest]                        three byte strings; the archive is nothing but frames
    meta     = [section, number, count, size]              its section, its place, records in it, bytes of them
    data     = the records, one MessagePack array; deflated if the header says so
    digest   = SHA-256 of (the digest of the frame before, meta, data)

So each digest vouches for all that came before it: a byte that has changed, a frame that is missing, doubled or out of
its place is found at that frame. Sections come in this order; those with a name that starts with `optional.` may be
passed over by whoever does not know them, any other that is unknown is refused.

    holdfast-archive         the header: one map, see `Header`
    keys                     keyed replies, in the order of category, id and key
    events                   in the order of positions; those of several partitions by the time of their commands
    optional.checkpoints     how far followers have come, by partition and name
    optional.snapshots       if asked for; in the order of category, id, version and schema
    end                      one map of totals, see `Totals`. What has none was torn

**What travels, and what does not.** Events and keyed replies are the journal. The index of reminders is a fold over
events, and is made again by whoever appends them. Snapshots are a cache. Checkpoints are places in an order of events:
they travel, and are taken over where that order is kept. Owners and their epochs do not: an epoch is a right to write
*that* journal, nobody has one in the target, and what an import did to those of the target would be to take them back.
Nor do the placements of aggregate types: they keep two owners out of one journal, and the target is another one.

**Keyed replies come before the events**, since an import may be cut short. A journal with all keys and half of its
events knows too much, and `holdfast verify` says so; one with all events and half of its keys would look whole, and
run a command again that was done.

**Equal journals make equal archives**, byte for byte, whatever stores they are in: there is no time, no name and no
storage in one. A frame is closed by the count and the bytes of its records alone.

Records are the format: their fields, and the order of those, are never changed. What is new is a section, or a format.
"""

from typing import Annotated

import msgspec

from .pages import NUMBER_MAX
from .partition import PARTITIONS_MAX
from .records import KeyedReply, Recorded, Snapshot, StreamId

__all__ = [
    "CATEGORIES_MAX",
    "CHECKPOINTS",
    "COMPRESSIONS",
    "END",
    "EVENTS",
    "FORMAT",
    "HEADER",
    "KEYS",
    "OPTIONAL",
    "SECTIONS",
    "SNAPSHOTS",
    "ArchivedCheckpoint",
    "ArchivedEvent",
    "ArchivedFact",
    "ArchivedKey",
    "ArchivedSnapshot",
    "Header",
    "Totals",
    "encode_record",
    "fact_of",
    "key_of",
    "snapshot_of",
]

FORMAT = 1
"""Of what is written. What is read may be older."""

HEADER, KEYS, EVENTS, END = "holdfast-archive", "keys", "events", "end"
OPTIONAL = "optional."
CHECKPOINTS, SNAPSHOTS = f"{OPTIONAL}checkpoints", f"{OPTIONAL}snapshots"
SECTIONS = (HEADER, KEYS, EVENTS, CHECKPOINTS, SNAPSHOTS, END)
"""In their order."""

COMPRESSIONS = ("", "zlib")

CATEGORIES_MAX = 10_000
"""A journal has as many as aggregate types. Each is remembered while an archive is read or written."""

_Number = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_Time = Annotated[int, msgspec.Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
_Partition = Annotated[int, msgspec.Meta(ge=0, lt=PARTITIONS_MAX)]

encode_record = msgspec.msgpack.Encoder().encode


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds. `upto`: the cut, the newest position of each partition. `categories`: none for all."""

    format: int
    upto: tuple[_Count, ...]
    categories: tuple[str, ...] = ()
    snapshots: bool = False
    compression: str = ""

    @property
    def partitions(self) -> int:
        """How many the journal had."""
        return len(self.upto)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the end record. `digest`: of the contents, see `archive_digest.py`."""

    keyed_replies: int
    events: int
    checkpoints: int
    snapshots: int
    digest: str


class ArchivedFact(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """An event without its position: what it is wherever it stands."""

    category: str
    id: str
    version: _Number
    type: str
    command_id: str
    recorded_at: _Time
    payload: bytes
    metadata: bytes
    reply: bytes | None

    @property
    def stream(self) -> StreamId:
        """Whose event it is."""
        return StreamId(self.category, self.id)


class ArchivedEvent(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """An event at its position. `fact`: an `ArchivedFact`, not opened yet: its bytes are what is digested."""

    position: _Number
    fact: msgspec.Raw


class ArchivedKey(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A keyed reply of a stream."""

    category: str
    id: str
    key: str
    version: _Count
    fingerprint: bytes
    reply: bytes

    @property
    def stream(self) -> StreamId:
        """Whose it is."""
        return StreamId(self.category, self.id)


class ArchivedCheckpoint(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """How far a follower has come in one partition, at the cut or before it."""

    partition: _Partition
    name: str
    position: _Count


class ArchivedSnapshot(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A snapshot of a stream."""

    category: str
    id: str
    version: _Number
    schema: str
    payload: bytes

    @property
    def stream(self) -> StreamId:
        """Whose it is."""
        return StreamId(self.category, self.id)


def fact_of(event: Recorded) -> ArchivedFact:
    """An event of a journal, as archives have it."""
    return ArchivedFact(
        category=event.stream.category,
        id=event.stream.id,
        version=event.version,
        type=event.type,
        command_id=event.command_id,
        recorded_at=event.recorded_at,
        payload=event.payload,
        metadata=event.metadata,
        reply=event.reply,
    )


def key_of(stream: StreamId, reply: KeyedReply) -> ArchivedKey:
    """A keyed reply of a journal, as archives have it."""
    return ArchivedKey(
        category=stream.category,
        id=stream.id,
        key=reply.key,
        version=reply.version,
        fingerprint=reply.fingerprint,
        reply=reply.reply,
    )


def snapshot_of(snapshot: Snapshot) -> ArchivedSnapshot:
    """A snapshot of a journal, as archives have it."""
    category, id = snapshot.stream
    return ArchivedSnapshot(
        category=category, id=id, version=snapshot.version, schema=snapshot.schema, payload=snapshot.payload
    )
