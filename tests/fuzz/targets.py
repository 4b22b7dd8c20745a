"""Everything that reads bytes or text from elsewhere, as functions of bytes: each returns, or has found a bug.

A target lets the errors pass that its reader promises, and nothing else; what was read without an error must hold what
its target says. Fed by Hypothesis and by the regression corpus in `test_fuzz.py`, and by coverage in `__main__.py`.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec

from holdfast.actors import Aggregate, event, on
from holdfast.actors.context import Context
from holdfast.actors.definition import definition_of
from holdfast.actors.errors import HydrationFailed
from holdfast.actors.fingerprint import fingerprint
from holdfast.journal import wire
from holdfast.journal.admission import refusal
from holdfast.journal.codec import Codec, CodecError, decode_plain, encode_canonical, encode_plain
from holdfast.journal.errors import CorruptRecord, JournalError, JournalUrlError
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, NewEvent, Recorded, StreamId
from holdfast.journal.reminders import NAME_OF_REMINDER_BYTES_MAX, change_of
from holdfast.journal.rows import read_event, read_keyed, read_snapshot
from holdfast.journal.server import JournalServer
from holdfast.journal.url import JournalUrl
from holdfast.runtime.errors import InvalidId
from holdfast.runtime.ref import target as named

__all__ = ["TARGETS"]


class Colour(enum.Enum):
    RED = "red"
    DEEP = (1, 2)


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict, total=False):
    name: str
    depth: int


@dataclass
class Money:
    amount: Decimal
    currency: Literal["EUR", "USD"] = "EUR"


@dataclass
class Tree:
    value: int | str | Decimal | None
    colour: Colour = Colour.RED
    children: list["Tree"] = field(default_factory=list)
    by_colour: dict[Colour, set[int]] = field(default_factory=dict)
    money: Money | UUID | None = None


@event("fuzz.happened")
class Happened:
    tree: Tree
    at: datetime
    tags: frozenset[str] = frozenset()


@event("fuzz.noted")
class Noted:
    text: str
    many: tuple[int, ...] = ()


class Garden(Aggregate):
    trees: list[Tree] = []
    notes: dict[str, tuple[int, ...]] = {}
    since: datetime | date | None = None
    spent: timedelta = timedelta()
    options: dict[str, str | bytes | Decimal] = {}

    @on(Happened)
    def _happened(self, event: Happened) -> None:
        self.trees.append(event.tree)
        self.since = event.at

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.notes[event.text] = event.many


CODECS = [
    Codec[Any](annotation, f"value {number}")
    for number, annotation in enumerate(
        [
            Tree, Money, Point, Options, Colour, Happened, datetime, date, time, timedelta, Decimal, UUID, float,
            dict[str, Any], dict[Colour, int], dict[tuple[int, str], Tree], set[Colour], str | Decimal | None,
            list[int] | list[str], int | Colour, tuple[int | Colour, str], tuple[Tree, ...], bytes | str | None,
        ]
    )
]  # fmt: skip
GARDEN = definition_of(Garden)


def codec(data: bytes) -> None:
    """A value that comes back as it is, or `CodecError`."""
    chosen = CODECS[data[0] % len(CODECS)] if data else CODECS[0]
    try:
        value = chosen.decode(data[1:])
    except CodecError:
        return
    again = chosen.decode(chosen.encode(value))
    assert encode_canonical(again) == encode_canonical(value), (value, again)


def events(data: bytes) -> None:
    """A stream of one known event and one of these bytes: the aggregate, or `HydrationFailed` that says where."""
    kinds = ["fuzz.happened", "fuzz.noted", "fuzz.unknown"]
    kind = kinds[data[0] % len(kinds)] if data else kinds[0]
    recorded = Recorded(
        position=9,
        stream=StreamId("Garden", "a"),
        version=1,
        type=kind,
        payload=data[1:],
        command_id="c",
        recorded_at=0,
    )
    instance = GARDEN.new("a")
    try:
        GARDEN.replay(instance, [recorded])
    except HydrationFailed as failed:
        told = failed
    else:
        GARDEN.encode_state(instance)
        return
    assert (told.stream, told.version, told.position) == ("Garden/a", 1, 9)


def snapshot(data: bytes) -> None:
    """State that can be stored again, or `CodecError`: then it is passed over."""
    instance = GARDEN.new("a")
    try:
        GARDEN.restore(instance, data, 3)
    except CodecError:
        return
    again = GARDEN.new("a")
    GARDEN.restore(again, GARDEN.encode_state(instance), 3)
    assert not GARDEN.state_difference(instance, again) or b"\xf8" in data  # where NaN may be: the second byte of one


def metadata(data: bytes) -> None:
    """A map that comes back as it is, and a context; or `CodecError`."""
    try:
        found = decode_plain(data)
        assert decode_plain(encode_plain(found)).keys() == found.keys()
        context = Context.decode("c", 0, data)
    except CodecError:
        return
    assert isinstance(context.correlation_id, str)
    assert isinstance(context.causation_id, str)
    assert Context.decode("c", 0, context.encoded).correlation_id == context.correlation_id


def requests(data: bytes) -> None:
    """A request that a server answers item by item, or `CodecError`; the server is as good as ever."""

    async def ask() -> None:
        server = JournalServer(MemoryStore())
        await server.start()
        epoch = await server.claim("host", "one")
        for ask, decode in ((server.append, wire.decode_appended), (server.load, wire.decode_loaded)):
            try:
                decode(await ask(data))
            except CodecError:
                continue
        at = len(wire.decode_page(await server.read_stream(StreamId("A", "after"))))
        event = NewEvent(type="t", payload=b"\x80", command_id="c", recorded_at=0)
        last = Append(stream=StreamId("A", "after"), owner="host", epoch=epoch, expected_version=at, events=(event,))
        (answer,) = wire.decode_appended(await server.append(wire.encode([last])))
        assert not isinstance(answer, JournalError), answer

    asyncio.run(ask())


def answers(data: bytes) -> None:
    """Results, or errors of ours among them, or `CodecError`."""
    for decode in (wire.decode_appended, wire.decode_loaded):
        try:
            results = decode(data)
        except CodecError:
            continue
        for result in results:
            assert result is not None
            assert str(result) or not isinstance(result, JournalError)


def rows(data: bytes) -> None:
    """A row of any values of SQLite is a record whose checksum is right, `CorruptRecord`, or no snapshot."""
    try:
        values = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    values = values if isinstance(values, list) else [values]
    row = [value if isinstance(value, int | float | bytes | None) else data for value in values]
    versions: list[Any] = []
    for read, width in ((read_event, 11), (read_keyed, 6), (read_snapshot, 5)):
        try:
            read(StreamId("A", "a"), 7, tuple((row + [None] * width)[:width]))
        except CorruptRecord as corrupt:
            versions.append(corrupt.version)
    assert all(isinstance(version, int) for version in versions)


def reminders(data: bytes) -> None:
    """A name and a time that every column holds, or `CodecError`; and it is what a plain reader of the map reads, if
    that one can: what else is in it is not looked at here."""
    try:
        change = change_of(data)
    except CodecError:
        return
    assert 0 < len(change.name.encode()) <= NAME_OF_REMINDER_BYTES_MAX
    assert change.due is None or abs(change.due) < 1 << 63
    try:
        said = decode_plain(data)
    except CodecError:
        return
    assert (said["name"], said.get("due")) == change


def url(data: bytes) -> None:
    """A journal's URL that says the same when it is written out, or `JournalUrlError`."""
    text = data.decode(errors="replace")
    for candidate in (text, f"sqlite:///{text}", f"memory://{text}", f"sqlite:///a?{text}"):
        try:
            parsed = JournalUrl.parse(candidate)
        except JournalUrlError:
            continue
        assert JournalUrl.parse(str(parsed)) == parsed
        assert JournalUrl.parse(parsed.absolute()).absolute() == parsed.absolute()
        assert parsed.redacted


def ids(data: bytes) -> None:
    """An id that the journal will take, or `InvalidId`."""
    id = data.decode(errors="surrogateescape")
    try:
        found = named(Garden, id)
    except InvalidId:
        return
    assert found.id == id
    assert len(id.encode()) <= 255
    event = NewEvent(type="t", payload=b"\x80", command_id=id, recorded_at=0)
    append = Append(
        stream=StreamId(found.category, id), owner=f"Garden/{id}", epoch=1, expected_version=0, events=(event,)
    )
    assert refusal(append) is None
    assert wire.decode_appends(wire.encode([append])) == [append]


def fingerprints(data: bytes) -> None:
    """Sixteen bytes, the same ones for the same call."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return
    assert fingerprint("method", [value], {"name": value}) == fingerprint("method", [value], {"name": value})
    assert len(fingerprint("method", [value], {})) == 16


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (answers, codec, events, fingerprints, ids, metadata, reminders, requests, rows, snapshot, url)
}
