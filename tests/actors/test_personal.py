"""Personal fields: what is refused when a class is made, what blank is, and that every type survives being sealed."""

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NewType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.actors import Aggregate, DefinitionError, Forgotten, NotSerializable, Personal, command, event, on
from holdfast.actors.definition import definition_of
from holdfast.actors.events import event_codec, event_name
from holdfast.actors.personal import PersonalCodec, personal_fields
from holdfast.actors.testing import given as kit
from holdfast.journal.client import JournalClient
from holdfast.journal.codec import CodecError
from holdfast.journal.key_desk import KeyDesk
from holdfast.journal.keys import DataSubject
from holdfast.journal.keys_sqlite import SqliteKeys
from holdfast.journal.memory import MemoryStore
from holdfast.journal.opening import OpeningLink
from holdfast.journal.records import Append, Load, NewEvent, StreamId
from holdfast.journal.sealing import sealing
from holdfast.journal.server import JournalServer


class Mood(enum.Enum):
    GOOD = "good"
    BAD = 2


@dataclass(frozen=True)
class Address:
    street: str
    number: int | None = None


Name = NewType("Name", str)
Whose = Personal("customer_id")


@event("test_personal.everything")
class Everything:
    """A field of each kind, with the blank that follows from its type or was given."""

    customer_id: int
    text: Annotated[str, Whose]
    named: Annotated[Name, Whose]
    data: Annotated[bytes, Whose]
    number: Annotated[int, Whose]
    share: Annotated[float, Whose]
    yes: Annotated[bool, Whose]
    amount: Annotated[Decimal, Whose]
    span: Annotated[timedelta, Whose]
    tags: Annotated[list[str], Whose]
    many: Annotated[set[int], Whose]
    few: Annotated[frozenset[Decimal], Whose]
    pair: Annotated[tuple[int, ...], Whose]
    table: Annotated[dict[str, Decimal], Whose]
    maybe: Annotated[Address | None, Whose]
    mixed: Annotated[str | Decimal | None, Whose]
    born: Annotated[date, Personal("customer_id", blank=date(1900, 1, 1))]
    seen: Annotated[datetime, Personal("customer_id", blank=datetime(1970, 1, 1, tzinfo=UTC))]
    token: Annotated[UUID, Personal("customer_id", blank=UUID(int=0))]
    mood: Annotated[Mood, Personal("customer_id", blank=Mood.BAD)]
    home: Annotated[Address, Personal("customer_id", blank=Address("", 0))]
    shout: Annotated[str, Personal("customer_id", blank="GONE")]
    city: Annotated[str, Whose] = "somewhere"
    lines: Annotated[list[int], Whose] = field(default_factory=lambda: [7])


BLANK = Everything(
    customer_id=42,
    text="",
    named=Name(""),
    data=b"",
    number=0,
    share=0.0,
    yes=False,
    amount=Decimal(0),
    span=timedelta(0),
    tags=[],
    many=set(),
    few=frozenset(),
    pair=(),
    table={},
    maybe=None,
    mixed=None,
    born=date(1900, 1, 1),
    seen=datetime(1970, 1, 1, tzinfo=UTC),
    token=UUID(int=0),
    mood=Mood.BAD,
    home=Address("", 0),
    shout="GONE",
    city="somewhere",
    lines=[7],
)

addresses = st.builds(Address, st.text(max_size=9), st.none() | st.integers(-9, 9))
finite = st.decimals(allow_nan=False, allow_infinity=False, places=2)
everything = st.builds(
    Everything,
    customer_id=st.just(42),
    text=st.text(),
    named=st.text(max_size=9).map(Name),
    data=st.binary(),
    number=st.integers(-(2**63), 2**64 - 1),
    share=st.floats(allow_nan=False),
    yes=st.booleans(),
    amount=finite,
    span=st.timedeltas(timedelta(-99), timedelta(99)),
    tags=st.lists(st.text(max_size=9), max_size=5),
    many=st.sets(st.integers(-99, 99), max_size=5),
    few=st.frozensets(finite, max_size=3),
    pair=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    table=st.dictionaries(st.text(max_size=5), finite, max_size=3),
    maybe=st.none() | addresses,
    mixed=st.none() | st.text(max_size=9) | finite,
    born=st.dates(),
    seen=st.datetimes(timezones=st.just(UTC)),
    token=st.uuids(),
    mood=st.sampled_from(Mood),
    home=addresses,
    shout=st.text(max_size=9),
    city=st.text(max_size=9),
    lines=st.lists(st.integers(0, 9), max_size=4),
)


class Direct:
    """A link to a server in this very loop."""

    def __init__(self, server: JournalServer) -> None:
        self._server = server

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self._server, method)(*args)


STREAM = StreamId("Person", "p")


async def kept_and_read(*events: Any, compress_from: int = 0) -> tuple[bytes, list[Any], list[Any]]:
    """What the store holds of these events, and what is read of them before and after their subject is forgotten."""
    store, keys = MemoryStore(), SqliteKeys()
    server = JournalServer(store, keys=KeyDesk(keys))
    await server.start()
    link = Direct(server)
    client = JournalClient(OpeningLink(link, link))
    personal = {name: f for each in events if (name := str(event_name(type(each)))) if (f := fields_of(type(each)))}
    journal = sealing(client, personal, compress_from=compress_from, streams_max=10)
    epoch = await journal.claim("host", "1")
    loaded: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    journal.request(Load(stream=STREAM, owner="host", epoch=epoch), loaded.set_result)
    assert (await loaded).head == 0
    codecs = {type(each): event_codec(type(each), {}) for each in events}
    new = tuple(
        NewEvent(
            type=str(event_name(type(each))),
            payload=codecs[type(each)].encode(each),
            command_id=str(n),
            recorded_at=1,
            reply=b"\x01",
        )
        for n, each in enumerate(events)
    )
    await journal.append(Append(stream=STREAM, owner="host", epoch=epoch, expected_version=0, events=new))
    held = b"".join(each.payload for each in await store.read_stream(STREAM))
    read = []
    for _ in range(2):
        page = await client.read_stream(STREAM)
        read.append([codecs[type(each)].decode(record.payload) for each, record in zip(events, page, strict=True)])
        await server.destroy_keys("customer", "42")
    await server.stop()
    return held, read[0], read[1]


def fields_of(cls: type) -> Any:
    return personal_fields(cls, globals())


@settings(deadline=None)
@given(everything, st.sampled_from([0, 1, 100]))
def test_every_type_of_personal_field_survives_and_is_blank_once_forgotten(value: Everything, compress: int) -> None:
    """Type for type, compressed or not; None stays None whatever its blank would be."""
    _, before, after = asyncio.run(kept_and_read(value, compress_from=compress))
    assert before == [value]
    assert [type(getattr(before[0], name)) for name in value.__slots__] == [
        type(getattr(value, name)) for name in value.__slots__
    ]
    assert after == [BLANK]


async def test_personal_values_are_not_in_what_the_store_holds() -> None:
    """From the beginning; what is not personal is."""
    held, before, after = await kept_and_read(Named("42", "Ada Lovelace", "Paris"), Named("43", "Bob Brown", "Rome"))
    assert b"Lovelace" not in held
    assert b"Brown" not in held
    assert b"Paris" in held
    assert [each.name for each in before] == ["Ada Lovelace", "Bob Brown"]
    assert [each.name for each in after] == ["", "Bob Brown"]


@event("test_personal.named")
class Named:
    customer_id: str
    name: Annotated[str, Personal("customer_id")]
    city: str = ""


@event("test_personal.plain")
class Plain:
    name: str


def test_personal_fields_cost_nothing_where_there_are_none() -> None:
    """No codec of another kind, no journal around the journal."""
    assert type(event_codec(Plain, {})) is not PersonalCodec
    assert type(event_codec(Named, {})) is PersonalCodec
    journal: Any = object()
    assert sealing(journal, {}, compress_from=0, streams_max=1) is journal


@pytest.mark.parametrize("id", ["", None, 1.5, True, "a\nb", "x" * 256])
def test_an_event_that_does_not_say_whose_its_personal_data_is_is_refused(id: Any) -> None:
    """When it is emitted, with the name of the field; where there is no data, nobody need be named."""
    with pytest.raises(CodecError, match=r"at \.customer_id, which says whose 'name' is"):
        event_codec(Named, {}).encode(Named(id, "Ada"))

    @event("test_personal.optional")
    class Optional:
        customer_id: str | None
        name: Annotated[str | None, Personal("customer_id")]

    assert event_codec(Optional, {}).decode(event_codec(Optional, {}).encode(Optional(None, None))) == Optional(
        None, None
    )


def refused(make: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        make()


def test_what_cannot_be_a_personal_field_is_refused_with_its_class() -> None:
    """When the class is made, at its line."""

    def no_such_field() -> None:
        @event("test_personal.bad")
        class Bad:
            name: Annotated[str, Personal("customer")]

    def of_itself() -> None:
        @event("test_personal.bad")
        class Bad:
            name: Annotated[str, Personal("name")]

    def subject_is_personal() -> None:
        @event("test_personal.bad")
        class Bad:
            other_id: str
            id: Annotated[str, Personal("other_id")]
            name: Annotated[str, Personal("id")]

    def nothing_obvious() -> None:
        @event("test_personal.bad")
        class Bad:
            born: Annotated[date, Personal.of_aggregate()]

    def blank_of_another_type() -> None:
        @event("test_personal.bad")
        class Bad:
            age: Annotated[int, Personal.of_aggregate(blank="none")]

    def twice() -> None:
        @event("test_personal.bad")
        class Bad:
            name: Annotated[str, Personal.of_aggregate(), Personal.of_aggregate("b")]

    def inside() -> None:
        @event("test_personal.bad")
        class Bad:
            names: list[Annotated[str, Personal.of_aggregate()]]

    def in_a_part() -> None:
        @dataclass
        class Part:
            name: Annotated[str, Personal.of_aggregate()]

        @event("test_personal.bad")
        class Bad:
            part: Part | None

    def in_a_union() -> None:
        @event("test_personal.bad")
        class Bad:
            name: Annotated[str, Personal.of_aggregate()] | None

    def kind() -> None:
        @event("test_personal.bad")
        class Bad:
            name: Annotated[str, Personal.of_aggregate("a\nb")]

    refused(no_such_field, r"names no field of this event")
    refused(of_itself, "cannot say itself whose it is")
    refused(subject_is_personal, "names the subject of another field")
    refused(nothing_obvious, r"no obvious blank.*blank=.*at \.born")
    refused(blank_of_another_type, "its blank 'none' is not of its type")
    refused(twice, "marked as personal twice")
    refused(inside, "as a whole")
    refused(in_a_part, "as a whole")
    refused(in_a_union, "as a whole")
    refused(kind, "kind is printable text")


def test_state_is_not_marked_as_personal() -> None:
    """What it has of personal data comes from events, and is sealed with them."""

    def marked() -> None:
        class Marked(Aggregate):
            name: Annotated[str, Personal.of_aggregate()] = ""

    refused(marked, "marks the field of an event")


def test_the_kind_of_a_personal_subject_is_named_or_follows_from_its_field() -> None:
    """`customer_id`: a customer. Of the aggregate: its category, which the journal knows."""

    @event("test_personal.kinds")
    class Kinds:
        customer_id: str
        owner: str
        a: Annotated[str, Personal("customer_id")]
        b: Annotated[str, Personal("owner")]
        c: Annotated[str, Personal("owner", kind="person")]
        d: Annotated[str, Personal.of_aggregate()]
        e: Annotated[str, Personal.of_aggregate("patient")]

    found = {f.name: (f.subject, f.kind) for f in personal_fields(Kinds, {})}
    assert found == {
        "a": ("customer_id", "customer"),
        "b": ("owner", "owner"),
        "c": ("owner", "person"),
        "d": ("", ""),
        "e": ("", "patient"),
    }


class Ledger(Aggregate):
    names: list[str] = []

    @command
    def add(self, customer_id: Any, name: str) -> int:
        self.emit(Named(customer_id, name))
        return len(self.names)

    @on(Named)
    def _named(self, event: Named) -> None:
        self.names.append(event.name)


def test_the_test_kit_knows_personal_fields_and_needs_no_keys() -> None:
    """Plain values in, plain values out; an event that names nobody is refused as in a host."""
    assert kit(Ledger).when.add("42", "Ada").events == [Named("42", "Ada")]
    with pytest.raises(NotSerializable, match="names no data subject"):
        kit(Ledger).when.add(None, "Ada")
    assert set(definition_of(Ledger).personal) == {"test_personal.named"}


def test_the_event_that_a_subject_was_forgotten_is_ours_and_has_a_name() -> None:
    """Projections and reactions handle it like any other."""
    codec = event_codec(Forgotten, {})
    assert event_name(Forgotten) == "holdfast.forgotten"
    assert codec.decode(codec.encode(Forgotten("customer", "42", 3))) == Forgotten("customer", "42", 3)
    assert str(DataSubject("customer", "42")) == "customer 42"
