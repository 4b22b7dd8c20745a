"""Codecs: what goes in comes out, type for type, and what cannot is refused by name."""

import dataclasses
import enum
import math
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.journal.codec import (
    Codec,
    CodecError,
    UnresolvedType,
    decode_plain,
    encode_canonical,
    encode_plain,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    PAIR = (1, 2)
    PRICE = Decimal("1.50")
    TEXT = "text"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass
class Parcel:
    weight: float
    to: tuple[str, int] = ("", 0)
    label: str = field(init=False, default="none")


@dataclass(frozen=True)
class Mixed:
    value: Money | Parcel | None
    notes: tuple[str | Decimal, ...] = ()
    inside: "tuple[Mixed, ...]" = ()


@dataclass(frozen=True)
class Tree:
    name: str
    branches: "tuple[Tree, ...]" = ()


class Point(NamedTuple):
    x: int
    y: int | Level = 0


class Row(TypedDict):
    id: int
    note: NotRequired[str | Decimal]


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T


CustomerId = NewType("CustomerId", str)

ints = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
decimals = st.decimals(allow_nan=False)
aware = st.datetimes(timezones=st.just(UTC))
dates = st.dates()
moneys = st.builds(Money, decimals, texts)
parcels = st.builds(Parcel, floats, st.tuples(texts, ints))
mixed = st.recursive(
    st.builds(Mixed, st.none() | moneys | parcels, st.lists(texts | decimals).map(tuple)),
    lambda inner: st.builds(Mixed, st.none() | moneys, st.just(()), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)
trees = st.recursive(
    st.builds(Tree, texts), lambda inner: st.builds(Tree, texts, st.lists(inner, max_size=3).map(tuple))
)

TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, ints),
    (float, floats),
    (str, texts),
    (bytes, st.binary()),
    (bool, st.booleans()),
    (None, st.none()),
    (datetime, aware | st.datetimes()),
    (date, dates),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Decimal, decimals),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Odd, st.sampled_from(Odd)),
    (Access, st.sampled_from([*Access, Access.READ | Access.WRITE])),
    (Money, moneys),
    (Parcel, parcels),
    (Tree, trees),
    (Mixed, mixed),
    (Point, st.builds(Point, ints, ints | st.sampled_from(Level))),
    (Row, st.fixed_dictionaries({"id": ints}, optional={"note": texts | decimals})),
    (Box[int], st.builds(Box, ints)),
    (Box[str | Decimal], st.builds(Box, texts | decimals)),
    (CustomerId, texts),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 100)),
    (Literal["a", "b", 1], st.sampled_from(["a", "b", 1])),
    (list[int], st.lists(ints)),
    (list[Odd], st.lists(st.sampled_from(Odd))),
    (set[str], st.sets(texts)),
    (set[Odd], st.sets(st.sampled_from(Odd))),
    (frozenset[tuple[int, str]], st.frozensets(st.tuples(ints, texts))),
    (tuple[int, str, Money], st.tuples(ints, texts, moneys)),
    (tuple[int | Level, ...], st.lists(ints | st.sampled_from(Level)).map(tuple)),
    (tuple[str | bytes, int], st.tuples(texts | st.binary(), ints)),
    (tuple[()], st.just(())),
    (dict[str, int], st.dictionaries(texts, ints)),
    (dict[int, Money], st.dictionaries(ints, moneys)),
    (dict[tuple[int, str], float], st.dictionaries(st.tuples(ints, texts), floats)),
    (dict[Money, int], st.dictionaries(moneys, ints)),
    (dict[Odd, Mixed], st.dictionaries(st.sampled_from(Odd), mixed)),
    (dict[str, list[str | Decimal]], st.dictionaries(texts, st.lists(texts | decimals))),
    (dict[date | str, int], st.dictionaries(dates | texts, ints)),
    (dict[UUID, set[date]], st.dictionaries(st.uuids(), st.sets(dates))),
    (int | None, st.none() | ints),
    (Money | None, st.none() | moneys),
    (Mixed | None, st.none() | mixed),
    (int | float | str | bool, ints | floats | texts | st.booleans()),
    (Decimal | float | int, decimals | floats | ints),
    (str | Decimal, texts | decimals),
    (str | bytes | None, texts | st.binary() | st.none()),
    (date | str | datetime | timedelta, dates | texts | aware | st.timedeltas()),
    (Money | Parcel, moneys | parcels),
    (Money | dict[str, int], moneys | st.dictionaries(texts, ints)),
    (Level | int, st.sampled_from(Level) | ints),
    (Colour | str | UUID, st.sampled_from(Colour) | texts | st.uuids()),
    (list[int] | tuple[int, ...] | set[int], st.lists(ints) | st.lists(ints).map(tuple) | st.sets(ints)),
    (list[int] | list[str], st.lists(ints) | st.lists(texts)),
    (dict[str, Any], st.dictionaries(texts, st.none() | ints | texts | st.lists(st.booleans()))),
    (Any, st.none() | ints | texts),
]


def same(one: Any, other: Any) -> bool:
    """Equal all the way down, and of equal types."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, list | tuple):
        return all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return sorted(map(repr, one)) == sorted(map(repr, other)) and all(same(one[k], other[k]) for k in one)
    return not isinstance(one, set | frozenset) or sorted(map(repr, one)) == sorted(map(repr, other))


@pytest.mark.parametrize(("annotation", "values"), TYPES, ids=[str(t) for t, _ in TYPES])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_goes_in_comes_out(annotation: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """A value of a supported type decodes to an equal value of the same type."""
    codec = CODECS[str(annotation)]
    value = data.draw(values)
    assert same(codec.decode(codec.encode(value)), value)


CODECS = {str(annotation): Codec[Any](annotation, "value") for annotation, _ in TYPES}


@settings(max_examples=100, deadline=None)
@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()))
def test_an_aware_datetime_comes_back_as_the_same_instant_in_utc(value: datetime) -> None:
    """Time zones are not stored; the instant is."""
    codec = Codec[datetime](datetime, "when")
    back = codec.decode(codec.encode(value))
    assert back - value.astimezone(UTC) == timedelta(0)
    assert back.tzinfo is UTC or back.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0])
def test_special_floats_survive(value: float) -> None:
    """Infinities, NaN and negative zero are values like others."""
    codec = Codec[float](float, "value")
    assert repr(codec.decode(codec.encode(value))) == repr(value)


@pytest.mark.parametrize(("annotation", "_values"), TYPES, ids=[str(t) for t, _ in TYPES])
def test_the_wire_is_messagepack_for_everybody(annotation: Any, _values: Any) -> None:
    """Records can be read by any MessagePack library, without their classes."""
    if annotation in (Mixed, Mixed | None):
        value = Mixed(Money(Decimal(1)), ("a", Decimal("1.5")))
        wire = CODECS[str(annotation)].encode(value)
        assert msgpack.unpackb(wire) == {
            "value": {"$Money": {"amount": "1", "currency": "EUR"}},
            "notes": [{"$str": "a"}, {"$Decimal": "1.5"}],
            "inside": [],
        }


@dataclass
class HasLock:
    lock: threading.Lock  # type: ignore[valid-type,unused-ignore]


@dataclass
class HasThread:
    name: str
    workers: dict[str, list[threading.Thread]]


class Plain:
    pass


@pytest.mark.parametrize(
    "annotation",
    [object, complex, Plain, Callable[[], int], type, HasLock, range, list[Plain], Exception, 5, Literal[b"x"]],
    ids=str,
)
def test_a_type_that_cannot_be_carried_is_refused_at_once(annotation: Any) -> None:
    """Arbitrary objects, callables and locks are no data."""
    with pytest.raises(CodecError):
        Codec[Any](annotation, "value")


def test_the_refusal_names_the_field() -> None:
    """The error leads from the top to the field that cannot be carried."""
    with pytest.raises(CodecError, match=r"state: Thread cannot be carried.* at \.workers"):
        Codec[Any](HasThread, "state")


def test_text_that_names_nothing_yet_is_told_apart() -> None:
    """A forward reference may be resolved later, so it has an error of its own."""
    with pytest.raises(UnresolvedType, match="Later"):
        Codec[Any](list["Later"], "value")  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "value", "where"),
    [
        (int, 2**64, "2\\*\\*64"),
        (int, -(2**63) - 1, "2\\*\\*63"),
        (list[int], [1, 2**70], r"\[1\]"),
        (Money, Money(NotImplemented), r"\.amount"),  # type: ignore[arg-type]
        (dict[str, Money], {"a": Money(Decimal(1), "\ud800")}, r"\['a'\]\.currency"),
        (str | Decimal, 5, "expected"),
        (Mixed, Mixed(None, (5,)), r"\.notes\[0\]"),  # type: ignore[arg-type]
        (Mixed, Mixed("x"), r"\.value"),  # type: ignore[arg-type]
        (Mixed, "no mixed", "Mixed"),
        (Odd, "PAIR", "Odd"),
        (dict[Odd, int], {"PAIR": 1}, "PAIR"),
        (tuple[int | Level, str], (1,), "2 values"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_named_when_encoded(annotation: Any, value: Any, where: str) -> None:
    """The error says which part of the value cannot be encoded."""
    with pytest.raises(CodecError, match=where):
        Codec[Any](annotation, "value").encode(value)


@pytest.mark.parametrize(
    ("annotation", "wire", "where"),
    [
        (Money, {"amount": 5.5, "currency": 1}, r"\.(amount|currency)"),
        (Money, {"currency": "EUR"}, "amount"),
        (Mixed, {"value": {"$Money": {"amount": "1", "currency": 5}}}, r"\.value\.currency"),
        (Mixed, {"value": {"$Gone": {}}}, r"\$Gone at \.value"),
        (Mixed, {"notes": []}, "missing required field 'value'"),
        (Mixed, {"value": None, "notes": [{"$str": 5}]}, r"\.notes\[0\]"),
        (Odd, "GONE", "GONE"),
        (tuple[int | Level, str], [1, "a", 3], "2 values"),
        (str | Decimal, [5], "one of"),
        (int, "5", "int"),
    ],
    ids=str,
)
def test_bytes_that_hold_something_else_are_named_when_decoded(annotation: Any, wire: Any, where: str) -> None:
    """The error says what was expected, and where."""
    with pytest.raises(CodecError, match=where):
        Codec[Any](annotation, "value").decode(msgpack.packb(wire))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_garbage_never_escapes_as_another_error(garbage: bytes) -> None:
    """Whatever the bytes, decoding gives a value or a CodecError."""
    for annotation in (Money, Mixed, Odd, dict[Odd, int], str | Decimal, dict[str, Any]):
        try:
            CODECS.setdefault(str(annotation), Codec[Any](annotation, "value")).decode(garbage)
        except CodecError:
            continue


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends in an error, not in a crash."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        Codec[Any](Any, "value").encode(loop)


def test_a_missing_field_takes_its_default() -> None:
    """Events written before a field was added are read with the field's default, on both paths."""
    assert Codec[Any](Parcel, "parcel").decode(msgpack.packb({"weight": 1.5})) == Parcel(1.5)
    assert Codec[Any](Mixed, "mixed").decode(msgpack.packb({"value": None})) == Mixed(None)


def test_a_union_that_became_wider_reads_what_was_written_before() -> None:
    """Values stored without tags are still understood when a new member makes tags necessary."""
    narrow, wide = Codec[Any](str | None, "note"), Codec[Any](str | Decimal | None, "note")
    assert wide.decode(narrow.encode("old")) == "old"
    assert wide.decode(narrow.encode(None)) is None
    before = Codec[Any](dict[str, Money], "all")
    after = Codec[Any](dict[str, Money | Parcel], "all")
    assert after.decode(before.encode({"a": Money(Decimal(1))})) == {"a": Money(Decimal(1))}


def test_equal_structures_have_equal_schemas_and_others_do_not() -> None:
    """The schema tells structures apart, in depth, and is the same for two codecs of one type."""
    assert Codec[Any](Mixed, "one").schema == Codec[Any](Mixed, "two").schema
    assert Codec[Any](int | str, "a").schema == Codec[Any](str | int, "b").schema
    different = [Mixed, Money, Tree, list[int], list[str], set[int], Box[int], Box[str], Odd, dict[str, int], int]
    assert len({Codec[Any](annotation, "value").schema for annotation in different}) == len(different)


def test_a_schema_is_the_same_in_every_process() -> None:
    """It depends on nothing that a process draws at random."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_codec as t;"
        "print([t.Codec(a, 'x').schema for a in (t.Mixed, t.Odd, t.Row, t.Literal['b', 'a'])])"
    )
    here = __file__.rpartition("/")[0]
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, here],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50


def test_a_codec_leaves_nothing_on_the_classes_it_has_seen() -> None:
    """msgspec's caches cannot be pickled; Ray must be able to send these classes by value."""
    for cls in (Money, Mixed, Parcel, Colour, Level, Odd, Tree, Point, Row):
        Codec[Any](cls, "value")
        left = [name for name, value in vars(cls).items() if type(value).__module__.startswith("msgspec")]
        assert left == []


def test_a_codec_cannot_be_pickled() -> None:
    """The error says what to do instead."""
    with pytest.raises(TypeError, match="make the codec there"):
        pickle.dumps(Codec[Any](Money, "money"))


def test_errors_of_a_codec_are_pickled_with_their_fields() -> None:
    """They cross processes as themselves."""
    error = pickle.loads(pickle.dumps(CodecError("state", "no")))
    assert (type(error), error.what, error.problem) == (CodecError, "state", "no")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(texts, st.none() | st.booleans() | ints | floats | texts | st.binary() | st.lists(texts)))
def test_plain_maps_come_back(value: dict[str, Any]) -> None:
    """Metadata needs no classes; an empty map takes no bytes, equal maps give equal bytes."""
    assert decode_plain(encode_plain(value)) == value
    assert encode_plain(dict(reversed(value.items()))) == encode_plain(value)
    assert (encode_plain(value) == b"") == (not value)


def test_metadata_that_is_not_plain_is_refused_by_name() -> None:
    """The error says which entry it is."""
    with pytest.raises(CodecError, match=r"metadata: .*'who'"):
        encode_plain({"who": object()})
    with pytest.raises(CodecError, match="metadata"):
        decode_plain(b"\x01")


def test_canonical_bytes_do_not_depend_on_order_but_on_types() -> None:
    """Fingerprints built on them are stable, and tell 1 from True and a list from a tuple."""
    assert encode_canonical({3, 1, 2}) == encode_canonical({2, 3, 1})
    assert encode_canonical({"a": 1, (1, 2): {"x"}}) == encode_canonical({(1, 2): {"x"}, "a": 1})
    values = [1, True, 1.0, "1", b"1", [1], (1,), {1}, {1: 1}, Decimal(1), Colour.RED, Money(Decimal(1)), None]
    assert len({encode_canonical(value) for value in values}) == len(values)
    with pytest.raises(CodecError):
        encode_canonical(object())


def module(name: str, source: str) -> Any:
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec("from __future__ import annotations\n" + source, vars(made))
    return made


RECORDS = """
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypedDict

@dataclass
class Item:
    name: str

@dataclass
class Order:
    LIMIT: ClassVar[int] = 5
    items: list[Item]
    parent: Order | None = None

class Pair(NamedTuple):
    one: Item
    two: str | bytes

class Row(TypedDict):
    item: Item
    note: str | bytes
"""


def test_text_means_what_it_means_where_it_was_written() -> None:
    """Names given with the codec only fill gaps; the same name may mean something else there."""
    there = module("codec_records", RECORDS)
    names = {"__name__": "elsewhere", "Item": int, "Order": str}
    for cls, value in (
        (there.Order, there.Order([there.Item("a")], there.Order([]))),
        (there.Pair, there.Pair(there.Item("a"), b"x")),
        (there.Row, {"item": there.Item("a"), "note": "x"}),
    ):
        codec = Codec[Any](cls, "value", names=names)
        assert codec.decode(codec.encode(value)) == value
    assert there.Order.__annotations__["items"] == list[there.Item]


def test_a_class_that_names_itself_is_not_mistaken_for_an_older_one() -> None:
    """As when a notebook's cell is run twice."""
    older = module("codec_notebook", RECORDS)
    again = dict(vars(older))
    exec("from __future__ import annotations\n" + RECORDS, again)  # the older classes still stand in the module
    newer = again["Order"]
    Codec[Any](newer, "value", names=vars(older))
    assert newer is not older.Order
    assert newer.__annotations__["parent"] == newer | None
