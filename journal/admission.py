"""What a journal lets in: the checks of the server's edge, before anything comes near the store.

A request is bytes from another process, and may be anything. What can never be stored is refused here, each append by
itself and for good (`retryable` is false), so that nobody sends it again and its neighbours are written. Text that came
through MessagePack is Unicode already; only what comes as Python objects is looked at for that.
"""

from collections.abc import Sequence

from .errors import JournalError, RecordTooLarge, Unstorable
from .pages import EARLIEST, LATEST, NUMBER_MAX
from .records import Append, KeyedReply, NewEvent, StreamId

__all__ = [
    "NAME_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "check_epoch",
    "check_ids",
    "check_name",
    "check_position",
    "check_request",
    "check_stream",
    "refusal",
]

NAME_BYTES_MAX = 1024
"""Bytes, in UTF-8, of whatever names something: stream ids, owners, types of events, ids of commands, keys."""

REQUEST_BYTES_MAX = 256 << 20
"""Bytes of one request. SQLite holds rows of 10⁹ bytes at most; this is what keeps an event far below that."""

_SURELY_FITS = NAME_BYTES_MAX // 4
"""Characters that are within the bound whatever they are."""


def refusal(append: Append) -> JournalError | None:
    """Why no journal will ever hold this append, if that is so."""
    category, id = append.stream
    likely = category and id and "/" not in category and len(category) + len(id) + len(append.owner) <= _SURELY_FITS
    if not likely and (why := _misnamed(append)):
        return why
    if not 0 <= append.expected_version <= NUMBER_MAX - len(append.events) or not 0 <= append.epoch <= NUMBER_MAX:
        return Unstorable(f"an append to {append.stream}", "versions and epochs count from 0, in 64 bits")
    for event in append.events:
        likely = event.type and len(event.type) + len(event.command_id) <= _SURELY_FITS
        if (not likely or not EARLIEST <= event.recorded_at <= LATEST) and (why := _refused(append, event)):
            return why
    for reply in append.keys:
        if why := _refused_key(append, reply):
            return why
    return None


def _misnamed(append: Append) -> JournalError | None:
    category, id = append.stream
    if not category or not id or "/" in category:
        return Unstorable(f"stream {category[:40]!r}/{id[:40]!r}", "both parts have text, the first one no slash")
    too_long = _too_long("name of a stream", str(append.stream))
    return too_long or _too_long(f"owner of {append.stream}", append.owner)


def _refused(append: Append, event: NewEvent) -> JournalError | None:
    if not event.type:
        return Unstorable(f"an event of {append.stream}", "it has no type")
    if not EARLIEST <= event.recorded_at <= LATEST:
        return Unstorable(f"an event of {append.stream}", f"its time, {event.recorded_at} µs, is in no year up to 9999")
    too_long = _too_long(f"type of an event of {append.stream}", event.type)
    return too_long or _too_long(f"command id of an event of {append.stream}", event.command_id)


def _refused_key(append: Append, reply: KeyedReply) -> JournalError | None:
    if not 0 <= reply.version <= NUMBER_MAX:
        return Unstorable(f"a keyed reply of {append.stream}", f"its version, {reply.version}, is beyond 64 bits")
    return _too_long(f"idempotency key of {append.stream}", reply.key)


def _too_long(what: str, name: str) -> RecordTooLarge | None:
    size = len(name) if len(name) <= _SURELY_FITS else len(name.encode(errors="replace"))
    return RecordTooLarge(what, size, NAME_BYTES_MAX) if size > NAME_BYTES_MAX else None


def check_request(wire: bytes) -> None:
    """Raise `RecordTooLarge` for a request that no journal takes."""
    if len(wire) > REQUEST_BYTES_MAX:
        raise RecordTooLarge("a request to the journal", len(wire), REQUEST_BYTES_MAX)


def check_stream(stream: StreamId) -> None:
    """Raise for what names no stream, in whatever way it came here."""
    check_name("category of a stream", stream[0])
    check_name("id of a stream", stream[1])


def check_ids(ids: Sequence[str]) -> None:
    """Raise for what is no id of a command, and no key."""
    for id in ids:
        if not isinstance(id, str):
            raise Unstorable("id of a command", f"it must be text, not {type(id).__name__}")
        try:
            id.encode()
        except UnicodeEncodeError as error:
            raise Unstorable("id of a command", str(error)) from None


def check_epoch(owner: str, epoch: int) -> None:
    """Raise `Unstorable` for what can be no epoch."""
    if not isinstance(epoch, int) or not 0 <= epoch <= NUMBER_MAX:
        raise Unstorable(f"an epoch of owner {owner!r}", "epochs count from 0, in 64 bits")


def check_position(what: str, position: int) -> None:
    """Raise `Unstorable` for what can be no position."""
    if not isinstance(position, int) or not 0 <= position <= NUMBER_MAX:
        raise Unstorable(what, "positions count from 0, in 64 bits")


def check_name(what: str, name: str) -> None:
    """Raise `Unstorable` or `RecordTooLarge` for what cannot name anything."""
    if not isinstance(name, str) or not name:
        raise Unstorable(what, "it must be text, and not empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Unstorable(what, str(error)) from None
    if too_long := _too_long(what, name):
        raise too_long
