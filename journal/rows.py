"""Rows: how records become rows of a table with a checksum, and come back checked. SQLite and PostgreSQL share it.

A checksum is the CRC-32 of: the stream's name, the row's numbers and the lengths of its fields, then the fields
themselves. The name makes a row that strayed into another stream fail as well. The lengths keep two fields from
trading bytes. It finds rot, not malice: who can write the file can compute a CRC.

Text arrives here from either database as the bytes of its UTF-8, so that rotten text is a failed checksum of one
row and not an error of the whole query. SQLite types each value, not each column; a rotten type is a TypeError here.
"""

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any
from zlib import crc32

from msgspec import convert

from .errors import CorruptRecord
from .pages import PAGE_BYTES_MAX
from .records import Fact, KeyedReply, NewEvent, Recorded, Snapshot, StoredReply, StreamId

__all__ = [
    "EVENT_COLUMNS",
    "FACT_COLUMNS",
    "KEYED_COLUMNS",
    "ROTTEN",
    "SNAPSHOT_COLUMNS",
    "Plain",
    "category_checksum",
    "event_row",
    "keyed_row",
    "name_checksum",
    "number",
    "read_event",
    "read_facts",
    "read_keyed",
    "read_page",
    "read_snapshot",
    "recorded_page",
    "snapshot_row",
]

EVENT_COLUMNS = "position, stream, version, category, type, command_id, payload, metadata, reply, recorded_at, checksum"
FACT_COLUMNS = EVENT_COLUMNS.replace(" stream,", "")
"""What a replay reads: the whole row, for its checksum, but for the number of a stream that is known by name."""

KEYED_COLUMNS = "stream, key, version, fingerprint, reply, checksum"
SNAPSHOT_COLUMNS = "stream, version, schema, payload, checksum"

ROTTEN = (TypeError, ValueError, AttributeError, StructError)
"""What reading a rotten row can raise before its checksum is even compared."""

Plain = tuple[int, tuple[str, str], int, str, bytes, str, int, bytes, bytes | None]
"""A `Recorded` as it travels: its fields in their order, up to those that a stored event does not have."""

_EVENT = Struct("<qqqqIIIIq").pack
_KEYED = Struct("<qIII").pack
_SNAPSHOT = Struct("<qII").pack


def name_checksum(stream: StreamId) -> int:
    """Where the checksums of this stream's rows begin. A category has no slash, so the name is unambiguous."""
    return crc32(f"{stream[0]}/{stream[1]}".encode())


def category_checksum(category: bytes) -> int:
    """Where `name_checksum` is when it has come to the id."""
    return crc32(category + b"/")


def number(found: Any) -> int:
    """A version for an error to name: 0 if what stands there is no number."""
    return found if isinstance(found, int) else 0


def event_row(event: NewEvent, position: int, stream: int, version: int, category: int, name: int) -> tuple[Any, ...]:
    """One event as the values of `EVENT_COLUMNS`."""
    kind, command_id, payload, metadata = event.type, event.command_id, event.payload, event.metadata
    reply, recorded_at = event.reply, event.recorded_at
    checksum = _event_checksum(
        name,
        position,
        version,
        category,
        recorded_at,
        kind.encode(),
        command_id.encode(),
        payload,
        metadata,
        reply,
    )
    return position, stream, version, category, kind, command_id, payload, metadata, reply, recorded_at, checksum


def _event_checksum(
    name: int,
    position: int,
    version: int,
    category: int,
    recorded_at: int,
    kind: bytes,
    command_id: bytes,
    payload: bytes,
    metadata: bytes,
    reply: bytes | None,
) -> int:
    numbers = _EVENT(
        position,
        version,
        category,
        recorded_at,
        len(kind),
        len(command_id),
        len(payload),
        len(metadata),
        -1 if reply is None else len(reply),
    )
    return crc32(b"".join((numbers, kind, command_id, payload, metadata, reply or b"")), name)


def read_event(stream: StreamId, name: int, row: tuple[Any, ...]) -> Recorded:
    """The event in a row of `EVENT_COLUMNS`. Raises `CorruptRecord`."""
    position, _, version, category, kind, command_id, payload, metadata, reply, recorded_at, checksum = row
    try:
        found = _event_checksum(
            name, position, version, category, recorded_at, kind, command_id, payload, metadata, reply
        )
        if found != checksum:
            raise CorruptRecord(str(stream), number(version), position, "the checksum does not match")
        return Recorded(
            position=position,
            stream=stream,
            version=version,
            type=kind.decode(),
            payload=payload,
            command_id=command_id.decode(),
            recorded_at=recorded_at,
            metadata=metadata,
            reply=reply,
        )
    except ROTTEN as error:
        raise CorruptRecord(str(stream), number(version), position, f"cannot be read: {error}") from error


def read_page(rows: Iterable[tuple[Any, ...]], categories: Mapping[int, tuple[str, int]]) -> list[Plain]:
    """The page of events of any streams that these rows make: of `EVENT_COLUMNS`, and the id of the stream. Raises
    `CorruptRecord`. `categories`: their names, and where the checksums of the names in them begin.

    What every follower of the journal reads goes through here, and most of it only on its way to the wire: so it stays
    plain, the checksum is worked out in place, as `_event_checksum` does it, and a stream's name is made once for a
    page."""
    page: list[Plain] = []
    names: dict[int, tuple[tuple[str, str], int]] = {}
    left = PAGE_BYTES_MAX
    for position, key, version, category, kind, command_id, payload, metadata, reply, recorded_at, checksum, id in rows:
        try:
            known = names.get(key)
            if known is None:
                of, begun = categories[category]
                known = names[key] = (of, id.decode("utf-8", "replace")), crc32(id, begun)
            stream, name = known
        except (LookupError, *ROTTEN) as error:
            problem = "its stream is not in the journal"
            raise CorruptRecord(f"stream {key}", number(version), position, problem) from error
        try:
            size, beside, answer = len(payload), len(metadata), -1 if reply is None else len(reply)
            numbers = _EVENT(position, version, category, recorded_at, len(kind), len(command_id), size, beside, answer)
            if crc32(b"".join((numbers, kind, command_id, payload, metadata, reply or b"")), name) != checksum:
                raise CorruptRecord("/".join(stream), number(version), position, "the checksum does not match")
            left -= size + beside + (0 if reply is None else answer)
            if left < 0 and page:
                break
            kind, command_id = kind.decode(), command_id.decode()
            page.append((position, stream, version, kind, payload, command_id, recorded_at, metadata, reply))
        except ROTTEN as error:
            raise CorruptRecord("/".join(stream), number(version), position, f"cannot be read: {error}") from error
    return page


def recorded_page(page: Sequence[Plain]) -> list[Recorded]:
    """What `read_page` has read, as events."""
    return convert(page, list[Recorded])


def read_facts(stream: StreamId, name: int, rows: Iterable[tuple[Any, ...]], after: int) -> tuple[list[Fact], int]:
    """The page of events that these rows of `FACT_COLUMNS` make, versions `after + 1` on, and its bytes as stored.
    Raises `CorruptRecord`.

    The hottest loop of the journal: what every replay reads goes through here, so nothing is made that it drops, and
    the checksum is worked out in place, as `_event_checksum` does it."""
    page: list[Fact] = []
    taken, expected = 0, after
    for position, version, category, kind, command_id, payload, metadata, reply, recorded_at, checksum in rows:
        try:
            size, beside, answer = len(payload), len(metadata), -1 if reply is None else len(reply)
            numbers = _EVENT(position, version, category, recorded_at, len(kind), len(command_id), size, beside, answer)
            if crc32(b"".join((numbers, kind, command_id, payload, metadata, reply or b"")), name) != checksum:
                raise CorruptRecord(str(stream), number(version), position, "the checksum does not match")
            expected += 1
            if version != expected:
                raise CorruptRecord(str(stream), expected, 0, "this version is missing")
            taken += size + beside + (0 if reply is None else answer)
            if taken > PAGE_BYTES_MAX and page:
                break
            page.append(Fact(position=position, version=version, type=kind.decode(), payload=payload))
        except ROTTEN as error:
            raise CorruptRecord(str(stream), number(version), position, f"cannot be read: {error}") from error
    return page, taken


def keyed_row(reply: KeyedReply, stream: int, name: int) -> tuple[Any, ...]:
    """One keyed reply as the values of `KEYED_COLUMNS`."""
    checksum = _keyed_checksum(name, reply.key.encode(), reply.version, reply.fingerprint, reply.reply)
    return stream, reply.key, reply.version, reply.fingerprint, reply.reply, checksum


def _keyed_checksum(name: int, key: bytes, version: int, fingerprint: bytes, reply: bytes) -> int:
    numbers = _KEYED(version, len(key), len(fingerprint), len(reply))
    return crc32(b"".join((numbers, key, fingerprint, reply)), name)


def read_keyed(stream: StreamId, name: int, row: tuple[Any, ...]) -> tuple[str, StoredReply]:
    """The key and its reply in a row of `KEYED_COLUMNS`. Raises `CorruptRecord`, position 0."""
    _, key, version, fingerprint, reply, checksum = row
    try:
        if _keyed_checksum(name, key, version, fingerprint, reply) != checksum:
            raise CorruptRecord(str(stream), number(version), 0, f"the checksum of keyed reply {key!r} does not match")
        return key.decode(), StoredReply(version=version, reply=reply, fingerprint=fingerprint)
    except ROTTEN as error:
        raise CorruptRecord(str(stream), number(version), 0, f"keyed reply {key!r} cannot be read: {error}") from error


def snapshot_row(snapshot: Snapshot, stream: int, name: int) -> tuple[Any, ...]:
    """One snapshot as the values of `SNAPSHOT_COLUMNS`."""
    schema, payload = snapshot.schema, snapshot.payload
    checksum = _snapshot_checksum(name, snapshot.version, schema.encode(), payload)
    return stream, snapshot.version, schema, payload, checksum


def _snapshot_checksum(name: int, version: int, schema: bytes, payload: bytes) -> int:
    return crc32(b"".join((_SNAPSHOT(version, len(schema), len(payload)), schema, payload)), name)


def read_snapshot(stream: StreamId, name: int, row: tuple[Any, ...]) -> Snapshot | None:
    """The snapshot in a row of `SNAPSHOT_COLUMNS`; None if it is not intact, for it is only a cache."""
    _, version, schema, payload, checksum = row
    try:
        if _snapshot_checksum(name, version, schema, payload) != checksum:
            return None
        return Snapshot(stream=stream, version=version, schema=schema.decode(), payload=payload)
    except ROTTEN:
        return None
