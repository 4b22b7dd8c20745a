"""Rows under verification: what each says by itself. SQLite and PostgreSQL share it, as they share `rows.py`.

Whatever stands in a row may be rotten, its types included. Nothing here raises because of it: it is told.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from .codec import CodecError, decode_plain
from .errors import CorruptRecord
from .records import Recorded, StreamId
from .reminders import REMINDER_TYPES, Change, change_of
from .rows import name_checksum, number, read_event, read_keyed, read_snapshot
from .verify_source import EventRow, KeyedRow, ReminderRow, SnapshotRow, StreamRow, Unreadable

__all__ = [
    "Named",
    "as_bytes",
    "event_row",
    "keyed_row",
    "named",
    "onward",
    "reminder_row",
    "snapshot_row",
    "stream_row",
    "text",
    "weight",
]

_T = TypeVar("_T")


class Named(NamedTuple):
    """A stream: where its checksums begin, the key of its category, and what to call it."""

    stream: StreamId
    checksum: int
    category: int
    called: str


def named(category: Any, id: Any, category_key: Any) -> Named | None:
    """The stream with this name; None if nothing can have it."""
    try:
        stream = StreamId(category.decode(), id.decode())
    except (AttributeError, UnicodeDecodeError):
        return None
    return Named(stream, name_checksum(stream), category_key, str(stream))


def event_row(row: tuple[Any, ...], of: Named | None) -> EventRow:
    """An event of `EVENT_COLUMNS`. `of`: the stream that it says it is of; None if there is none."""
    position, key, version, category = row[:4]
    if of is None:
        return EventRow(f"stream {key}", number(version), position, "its stream is not in the journal")
    problem, reminder = "", None
    try:
        recorded = read_event(of.stream, of.checksum, row)
        if category != of.category:
            problem = f"its category is {category}, that of its stream {of.category}"
        decode_plain(recorded.payload)
        reminder, why = _reminder_of(recorded)
        problem = problem or why
    except CorruptRecord as error:
        problem = error.problem
    except CodecError as error:
        problem = f"its payload is no MessagePack: {error}"
    return EventRow(of.called, number(version), position, problem, key=key, reminder=reminder)


def _reminder_of(recorded: Recorded) -> tuple[Change | None, str]:
    """What an event says of a reminder, if it is one of those; and what is wrong with what it says."""
    if recorded.type not in REMINDER_TYPES:
        return None, ""
    try:
        return change_of(recorded.payload), ""
    except CodecError as error:
        return None, str(error)


def text(value: Any) -> str:
    """To be shown."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _stream_of(category: Any, id: Any, key: Any) -> tuple[StreamId | None, str]:
    """The stream, if it has a name that can be; and what to call it in any case."""
    found = named(category, id, 0)
    if found is not None:
        return found.stream, found.called
    return None, f"stream {key}" if category is None and id is None else f"{text(category)}/{text(id)}"


def stream_row(key: int, category: Any, id: Any, head: int | None, has_keys: int) -> StreamRow:
    """A stream: its key, category and id, its newest version, and whether it has keyed replies."""
    stream, called = _stream_of(category, id, key)
    problem = ""
    if category is None:
        problem = f"stream {key} has a category that is not in the journal"
    elif stream is None:
        problem = "its name is no UTF-8"
    elif not stream.category or "/" in stream.category or not stream.id:
        problem = "a category is not empty and has no slash, an id is not empty"
    return StreamRow(called, number(head), bool(has_keys), problem)


def keyed_row(row: Sequence[Any]) -> KeyedRow:
    """A keyed reply: `KEYED_COLUMNS`, then its stream's category, id and newest version."""
    *keyed, category, id, head = row
    stream, called = _stream_of(category, id, keyed[0])
    key, version, problem = text(keyed[1]), number(keyed[2]), ""
    if stream is None:
        problem = f"keyed reply {key!r} is of a stream that is not in the journal"
    else:
        try:
            read_keyed(stream, name_checksum(stream), tuple(keyed))
        except CorruptRecord as error:
            problem = error.problem
    return KeyedRow(called, key, version, number(head), problem)


def snapshot_row(row: Sequence[Any]) -> SnapshotRow:
    """A snapshot: `SNAPSHOT_COLUMNS`, then its stream's category, id and newest version."""
    *values, category, id, head = row
    stream, called = _stream_of(category, id, values[0])
    problem, snapshot = "", None
    if stream is None:
        problem = "a snapshot of a stream that is not in the journal"
    else:
        snapshot = read_snapshot(stream, name_checksum(stream), tuple(values))
        problem = "" if snapshot is not None else "the checksum of the snapshot does not match"
    return SnapshotRow(values[0], called, number(values[1]), number(head), snapshot, problem)


def reminder_row(row: Sequence[Any]) -> ReminderRow:
    """A row of the index: stream, name, due, category; then its stream's category, id and key of its category."""
    key, name, due, category, of_category, id, wanted = row
    stream, called = _stream_of(of_category, id, key)
    problem = ""
    if stream is None:
        problem = f"reminder {text(name)!r} is of a stream that is not in the journal"
    elif category != wanted:
        problem = f"reminder {text(name)!r} is in category {category}, its stream in {wanted}"
    return ReminderRow(key, called, as_bytes(name), number(due), problem)


def as_bytes(name: Any) -> bytes:
    """A name, to be compared with others; whatever stands there has some."""
    return name if isinstance(name, bytes) else text(name).encode()


def onward(before: _T, after: _T) -> _T:
    """Where the next page begins. In a damaged index it could be where this one did, for ever."""
    found: Any = after
    try:
        if found > before:
            return after
    except TypeError:
        pass
    raise Unreadable(f"the index is out of order: {after!r} follows {before!r}")


def weight(row: Sequence[Any]) -> int:
    """Bytes of the values that may be many."""
    return sum([len(value) for value in row if type(value) is bytes])
