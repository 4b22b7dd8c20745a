"""Personal data: which fields of an event are, and whose.

    @event("customer.moved")
    class Moved:
        customer_id: str
        street: Annotated[str, Personal("customer_id")]

The value is kept encrypted under the key of that customer, and `runtime.forget("customer", "42")` destroys the key.
From then on the field reads as *blank*, in state, replays, projections and exports alike: None where its type allows
it, else its default, else what is empty of its type, or what `Personal(…, blank=…)` says.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_args, get_origin, is_typeddict

from holdfast.journal.annotations import hints_of, mended, unwrapped
from holdfast.journal.codec import Codec, CodecError
from holdfast.journal.sealing import PersonalField

__all__ = ["Personal", "PersonalCodec", "personal_codec", "personal_fields", "personal_in"]

T = TypeVar("T")

ID_BYTES_MAX, KIND_BYTES_MAX = 255, 100
EMPTY = (str, bytes, int, float, bool, list, set, frozenset, dict, tuple, Decimal, timedelta)
"""Types of which there is one that is plainly empty: what they make of nothing."""


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a field of an event: `Annotated[str, Personal("customer_id")]`.

    `subject`: the field of the same event that holds the id of the person, or whatever the data is about. It is kept in
    the clear, and so are ids in general: they should say nothing of a person. `kind`: of the subject, the first half of
    what `runtime.forget` is told; if not given, that field's name without `_id`. `blank`: what the field is once the
    subject was forgotten, where that does not follow from its type.
    """

    subject: str
    kind: str = ""
    blank: Any = ...

    @classmethod
    def of_aggregate(cls, kind: str = "", blank: Any = ...) -> "Personal":
        """The subject is the aggregate that the event is of, by its id. `kind`: if not given, its category."""
        return cls("", kind, blank)


def personal_fields(cls: type, names: Mapping[str, Any]) -> tuple[PersonalField, ...]:
    """The personal fields of an event class; `names`: what its annotations may refer to. Raises `CodecError` naming the
    field for one that cannot be."""
    hints = hints_of(cls, names)
    fields = {field.name: mended(field) for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    found: list[PersonalField] = []
    for name, hint in hints.items():
        marks = _marks_of(hint)
        if any(personal_in(part) for part in _inside(hint)):
            raise _refused(cls, name, "Personal(…) marks a field of the event itself, as a whole")
        if len(marks) > 1:
            raise _refused(cls, name, "is marked as personal twice")
        if marks:
            found.append(_field(cls, fields[name], hint, marks[0], hints, names))
    subjects = {field.subject for field in found}
    for field in found:
        if field.name in subjects:
            raise _refused(cls, field.name, "names the subject of another field, so it cannot be personal itself")
    return tuple(found)


def personal_in(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether something in this type, however deep, is marked as personal."""
    if _marks_of(annotation):
        return True
    bare = unwrapped(annotation)
    if isinstance(bare, type):
        if bare in seen:
            return False
        seen = seen | {bare}
    return any(personal_in(part, seen) for part in _inside(annotation))


class PersonalCodec(Codec[T]):
    """The codec of an event with personal fields: one that does not say whose they are is refused."""

    __slots__ = ("_fields",)

    def __init__(
        self, annotation: Any, what: str, fields: tuple[PersonalField, ...], *, names: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(annotation, what, names=names)
        self._fields = fields

    def encode(self, value: T) -> bytes:
        """MessagePack of the value. Raises `CodecError` naming the field that does not fit."""
        for field in self._fields:
            if field.subject and getattr(value, field.name) is not None:
                problem = _problem_with(getattr(value, field.subject))
                if problem:
                    raise CodecError(self.what, f"{problem} at .{field.subject}, which says whose {field.name!r} is")
        return super().encode(value)


def personal_codec(codec: Codec[T], cls: type, names: Mapping[str, Any]) -> Codec[T]:
    """This codec of an event class, or, if the class has personal fields, one that looks after them."""
    fields = personal_fields(cls, names)
    return PersonalCodec(cls, codec.what, fields, names=names) if fields else codec


def _problem_with(id: Any) -> str:
    if type(id) not in (str, int):
        return f"{id!r} names no data subject"
    text = str(id)
    if not text or not text.isprintable() or len(text.encode()) > ID_BYTES_MAX:
        return f"{text[:50]!r} names no data subject: printable text of 1 to {ID_BYTES_MAX} bytes does"
    return ""


def _field(
    cls: type,
    field: "dataclasses.Field[Any]",
    hint: Any,
    mark: Personal,
    hints: Mapping[str, Any],
    names: Mapping[str, Any],
) -> PersonalField:
    subject: Any = mark.subject
    if not isinstance(subject, str) or (subject and subject not in hints):
        raise _refused(cls, field.name, f"Personal({subject!r}) names no field of this event")
    if subject == field.name:
        raise _refused(cls, field.name, "cannot say itself whose it is: the subject's id is kept in the clear")
    kind: Any = mark.kind or subject.removesuffix("_id")
    if not isinstance(kind, str) or (kind and not kind.isprintable()) or len(kind.encode()) > KIND_BYTES_MAX:
        raise _refused(cls, field.name, f"kind is printable text of up to {KIND_BYTES_MAX} bytes, not {kind!r}")
    return PersonalField(name=field.name, subject=subject, kind=kind, blank=_blank(cls, field, hint, mark, names))


def _blank(cls: type, field: "dataclasses.Field[Any]", hint: Any, mark: Personal, names: Mapping[str, Any]) -> bytes:
    """What the field is once it was forgotten, as MessagePack."""
    codec = Codec[Any](hint, field.name, names=names)
    for value in _candidates(field, hint, mark):
        try:
            payload = codec.encode(value)
            codec.decode(payload)
        except CodecError as error:
            if mark.blank is ...:
                continue
            raise _refused(cls, field.name, f"its blank {value!r} is not of its type: {error.problem}") from error
        return payload
    raise _refused(cls, field.name, "has no obvious blank: say what it is once forgotten, Personal(…, blank=…)")


def _candidates(field: "dataclasses.Field[Any]", hint: Any, mark: Personal) -> Iterator[Any]:
    if mark.blank is not ...:
        yield mark.blank
        return
    yield None
    if field.default is not dataclasses.MISSING:
        yield field.default
    elif field.default_factory is not dataclasses.MISSING:
        yield field.default_factory()
    bare = unwrapped(hint)
    kind = get_origin(bare) or bare
    if kind in EMPTY:
        yield kind()


def _marks_of(annotation: Any) -> list[Personal]:
    """Those on the very field, whatever aliases and wrappers are around them."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        return [note for note in notes if isinstance(note, Personal)] + _marks_of(inner)
    if get_origin(annotation) in (typing.Final, typing.Required, typing.NotRequired):
        return _marks_of(get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return _marks_of(annotation.__supertype__)
    return _marks_of(annotation.__value__) if type(annotation).__name__ == "TypeAliasType" else []


def _inside(annotation: Any) -> tuple[Any, ...]:
    """The parts of a type: of its fields, if it has some. They were resolved when its codec was made."""
    bare = unwrapped(annotation)
    if isinstance(bare, type) and (dataclasses.is_dataclass(bare) or hasattr(bare, "_fields") or is_typeddict(bare)):
        return tuple(hints_of(bare).values())
    return tuple(part for part in get_args(bare) if not isinstance(part, str))


def _refused(cls: type, name: str, problem: str) -> CodecError:
    return CodecError(cls.__name__, f"{problem} at .{name}")
