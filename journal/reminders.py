"""Reminders, as the journal sees them: events of an aggregate's own stream, with reserved types.

An aggregate that wants to be woken later writes so into its stream, among the other events of the same command: both
are durable or neither is. The events are the truth, and their stream tells for ever what was wanted and what became of
it. What wakes aggregates must find those that are due without reading all streams, so each store keeps a table of
pending reminders, one row for each (stream, name): the index. It is a fold over the events, and nothing else.

    pending = {}
    for event in the stream's events of these types, in order:
        name, due = what its payload says
        pending[name] = due        # None: nothing is pending under that name any more

**Whatever the type, `due` decides.** `holdfast.reminder.set` says when; `holdfast.reminder.cancelled` and
`holdfast.reminder.fired` say None, or leave it out; one that repeats fires with the next time as its `due`.

**Why the index is written in the very transaction of the append.** Written after it, a crash in between would leave a
reminder that is in the stream and that nobody ever looks up: it would be forgotten without a word. Written before it,
one would be looked up that was never set. Kept up by a reader of the journal, it would lag behind, need a place of its
own to remember how far it is, and be asked about what it has not seen yet. In one transaction a crash leaves both or
neither, whatever the moment, so there is nothing to repair and no start-up scan; what an append that was refused, or
sent again and recognised, does to the index is nothing, since it inserts no events. `holdfast verify` holds the table
against the fold.

Before this: an append passed its checks, and its events are gathered. After this: they are committed, with the rows.
"""

from typing import Annotated, NamedTuple

import msgspec

from .errors import CodecError
from .pages import EARLIEST, LATEST
from .wire import UNDECODABLE

__all__ = [
    "CANCELLED",
    "FIRED",
    "NAME_OF_REMINDER_BYTES_MAX",
    "REMINDER_TYPES",
    "RESERVED_PREFIX",
    "SET",
    "Change",
    "change_of",
]

RESERVED_PREFIX = "holdfast."
"""Event types that start with this are Holdfast's own."""

SET = "holdfast.reminder.set"
CANCELLED = "holdfast.reminder.cancelled"
FIRED = "holdfast.reminder.fired"
REMINDER_TYPES = frozenset((SET, CANCELLED, FIRED))
"""Looked up for each event that is appended: for an event of another type that is all that reminders cost."""

NAME_OF_REMINDER_BYTES_MAX = 1024
"""Bytes, in UTF-8, of a reminder's name. It stands in two indexes."""


class Change(NamedTuple):
    """What one event does to the index: `name` is due then, in µs since 1970 UTC; None: it is pending no more."""

    name: str
    due: int | None


class _Payload(msgspec.Struct, frozen=True):
    """As much of a payload as the journal reads. What else is in the map is for the aggregate."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    due: Annotated[int, msgspec.Meta(ge=EARLIEST, le=LATEST)] | None = None


_decode = msgspec.msgpack.Decoder(_Payload).decode


def change_of(payload: bytes) -> Change:
    """What an event of `REMINDER_TYPES` says. Raises `CodecError` for a payload that says nothing of the kind."""
    try:
        found = _decode(payload)
    except UNDECODABLE as error:
        raise CodecError("a reminder's payload", str(error)) from error
    size = len(found.name.encode())
    if size > NAME_OF_REMINDER_BYTES_MAX:
        problem = f"its name has {size} bytes, the limit is {NAME_OF_REMINDER_BYTES_MAX}"
        raise CodecError("a reminder's payload", problem)
    return Change(found.name, found.due)
