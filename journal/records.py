"""The records that cross into and out of a journal. Frozen, compact, MessagePack all the way.

They are `msgspec.Struct`s encoded as arrays: a batch of a thousand travels as one bytes object. Field order
is wire order between processes of one release; what is kept on disk are columns, never these structs.
"""

from typing import NamedTuple

import msgspec

__all__ = [
    "Append",
    "Appended",
    "Checkpoint",
    "Fact",
    "Followed",
    "KeyedReply",
    "Load",
    "Loaded",
    "NewEvent",
    "Recorded",
    "Registration",
    "Reminder",
    "Snapshot",
    "StoreStatistics",
    "StoredReply",
    "StreamId",
    "recorded",
]


class StreamId(NamedTuple):
    """Names one stream: the events of one aggregate. Written `Account/alice`; a category has no slash."""

    category: str
    id: str

    def __str__(self) -> str:
        return f"{self.category}/{self.id}"


class NewEvent(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A fact about to be appended.

    `payload` is a MessagePack map of the event's fields, `metadata` a MessagePack map or empty.
    `command_id` names the command that caused it. `reply` is that command's reply, MessagePack, on the last
    event of the command; None on the others and on commands recorded by key. `recorded_at`: µs since 1970 UTC.
    """

    type: str
    payload: bytes
    command_id: str
    recorded_at: int
    metadata: bytes = b""
    reply: bytes | None = None


class KeyedReply(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """The reply of a command that carried the caller's idempotency key: remembered as long as the stream is.

    `fingerprint` identifies method and arguments, so that a key reused for something else is noticed.
    `version`: of the stream after that command.
    """

    key: str
    fingerprint: bytes
    version: int
    reply: bytes


class Append(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """All or nothing: these events and keyed replies, at versions `expected_version + 1 …`, by this owner.

    `events` may be empty when `keys` is not: a keyed command that changed nothing still answers the same twice.
    """

    stream: StreamId
    owner: str
    epoch: int
    expected_version: int
    events: tuple[NewEvent, ...]
    keys: tuple[KeyedReply, ...] = ()


class Appended(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Durable. `version`: of the stream now; `position`: of the last event (0 when there was none)."""

    version: int
    position: int


class Recorded(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """An event as the journal holds it. `version` from 1 within its stream, `position` from 1 in the journal.

    `sealed`: the payload as it is stored, where fields of it are sealed and `payload` has been opened; else empty."""

    position: int
    stream: StreamId
    version: int
    type: str
    payload: bytes
    command_id: str
    recorded_at: int
    metadata: bytes = b""
    reply: bytes | None = None
    sealed: bytes = b""


def recorded(event: NewEvent, stream: StreamId, version: int, position: int) -> Recorded:
    """The event as the journal holds it, once it was written at that version of its stream and that position."""
    return Recorded(
        position=position,
        stream=stream,
        version=version,
        type=event.type,
        payload=event.payload,
        command_id=event.command_id,
        recorded_at=event.recorded_at,
        metadata=event.metadata,
        reply=event.reply,
    )


class Fact(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """An event as a replay needs it: a `Recorded` without what nobody looks at then."""

    position: int
    version: int
    type: str
    payload: bytes


class Followed(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What a follower of a journal is told: a page of what comes after a position.

    `reached`: each event of its filter at or below this position is in this page or in those before it; it goes on
    after that. `head`: the newest position when this was read; a follower that has reached it has caught up.
    """

    events: tuple[Recorded, ...]
    reached: int
    head: int


class Snapshot(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A cache of state at `version`. `schema` fingerprints the state's fields; another schema is not for us."""

    stream: StreamId
    version: int
    schema: str
    payload: bytes


class Load(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Ask for the fastest way to a stream's state: the newest usable snapshot and the first page of its tail; or,
    with `after`, for the page that follows that version.

    `owner` empty: a bystander reads, nobody's epoch is checked. `schema` empty: no snapshot wanted.
    `snapshot_max`: only a snapshot at or below this version (None: any). `limit`: events in the page.
    """

    stream: StreamId
    owner: str = ""
    epoch: int = 0
    schema: str = ""
    snapshot_max: int | None = None
    limit: int = 1000
    after: int = 0


class Loaded(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """The answer to `Load`: `events` start right after the snapshot, the version that was named, or nothing, and end
    at `head` or at the page's limit, whichever is first. `head`: the stream's version at the time of the read."""

    snapshot: Snapshot | None
    events: tuple[Fact, ...]
    head: int


class StoredReply(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What a command answered when it was done. `fingerprint` is empty for generated command ids."""

    version: int
    reply: bytes
    fingerprint: bytes = b""


class Registration(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What the journal records of an aggregate type: its placement, the code that was last opened with it,
    and how many times that code has changed (`generation`, from 1)."""

    category: str
    placement: str
    code: str
    generation: int


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """How far a reader of the journal has come: it has done with all events up to `position`. `name`: of the reader;
    `owner`, `epoch`: who says so, and by which claim."""

    name: str
    owner: str
    epoch: int
    position: int


class Reminder(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A reminder that is pending: the aggregate of `stream` wants to be woken at `due`, in µs since 1970 UTC. There is
    at most one under a `name`."""

    stream: StreamId
    name: str
    due: int


class StoreStatistics(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Counts of what is stored, and of what this store has done since it was opened."""

    streams: int
    events: int
    snapshots: int
    bytes_on_disk: int
    appends: int
    commits: int
    rows_read: int
    fenced: int
    conflicts: int
