"""Codecs: from a typed value to MessagePack and back.

A codec is made once per type and checked then: what cannot be carried is refused before anything is stored.
Most types go through msgspec alone, in a fraction of a microsecond; `shape` knows what to do for the rest.

What comes back equals what went in, type for type. Three things are normalized: an aware `datetime` comes back
as the same instant in UTC; an `int` in a `float` field comes back as `float`; what is annotated `Any` or a bare
container comes back as MessagePack's own types (a tuple as a list). Integers reach from -2**63 to 2**64 - 1.

Codecs cannot be pickled, so they never hang on a class that Ray may send by value.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
import enum
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from .annotations import shape_of
from .compression import expanded
from .errors import CodecError, ExtraMissing
from .marked import MARKED_HEADS
from .shape import Misfit, Shape, Unresolved

__all__ = [
    "Codec",
    "CodecError",
    "UnresolvedType",
    "decode_plain",
    "digest",
    "encode_canonical",
    "encode_plain",
]

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_encode_sorted = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_map = msgspec.msgpack.Decoder(dict[str, Any]).decode


class UnresolvedType(CodecError):
    """An annotation is text that names nothing yet. Try again when its module has been loaded."""


class Codec(Generic[T]):
    """Encodes and decodes the values of one type.

    `schema`: 16 hex digits that are equal for equal structures, whatever process or release computes them.
    """

    __slots__ = ("_lift", "_lower", "schema", "what")

    def __init__(self, annotation: Any, what: str, *, names: Mapping[str, Any] | None = None) -> None:
        """`what`: how errors call the value. `names`: what annotations given as text may refer to, besides
        their modules. Raises `CodecError` naming the field that cannot be carried."""
        self.what = what
        try:
            shape = shape_of(annotation, names)
            self._lift, self._lower = shape.lift, None if shape.plain else shape.lower
            _probe(shape)
        except Unresolved as misfit:
            raise UnresolvedType(what, str(misfit)) from misfit
        except Misfit as misfit:
            raise CodecError(what, str(misfit)) from misfit
        self.schema = digest(shape.text().encode())

    def __repr__(self) -> str:
        return f"<codec of {self.what}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled; send the type and make the codec there")

    def encode(self, value: T) -> bytes:
        """MessagePack of the value. Raises `CodecError` naming the field that does not fit."""
        try:
            return _encode(value if self._lower is None else self._lower(value))
        except Exception as error:
            raise CodecError(self.what, _why_not_encoded(value, error)) from error

    def decode(self, payload: bytes) -> T:
        """The value again. Raises `CodecError` for bytes that hold no value of this type."""
        try:
            value: T = self._lift(payload)
        except Exception as error:  # also what a dataclass's __post_init__ raises
            raise CodecError(self.what, _why_not_decoded(error)) from error
        return value


def encode_plain(value: Mapping[str, Any]) -> bytes:
    """A map of plain values (numbers, text, bytes, lists, maps); equal maps give equal bytes, empty ones none."""
    if not value:
        return b""
    try:
        return _encode_sorted(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError("metadata", _why_not_encoded(value, error)) from error


def decode_plain(payload: bytes) -> dict[str, Any]:
    """The map that `encode_plain` was given, or that a compressed payload was made from. What is sealed in it stays an
    extension value, which `sealed.shown` puts into words. Raises `CodecError` for bytes that hold none, and
    `ExtraMissing`."""
    if not payload:
        return {}
    try:
        return _decode_map(expanded(payload) if payload[0] in MARKED_HEADS else payload)
    except ExtraMissing:
        raise
    except Exception as error:  # also text that is no UTF-8, and nesting without end
        raise CodecError("metadata", _why_not_decoded(error)) from error


def encode_canonical(value: Any) -> bytes:
    """Bytes for comparing, not for reading back: equal for equal values of equal types in every process, whatever
    the order of sets and dicts. Raises `CodecError` for what MessagePack does not know."""
    try:
        return _encode(_canonical(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError("value", _why_not_encoded(value, error)) from error


def digest(content: bytes) -> str:
    """16 hex digits of BLAKE2b."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _canonical(value: Any) -> Any:
    kind = type(value).__name__
    if isinstance(value, enum.Enum):
        return [kind, value.name]
    if isinstance(value, dict):
        return [kind, sorted((_encode(_canonical(k)), _encode(_canonical(v))) for k, v in value.items())]
    if isinstance(value, set | frozenset):
        return [kind, sorted(_encode(_canonical(each)) for each in value)]
    if isinstance(value, list | tuple):
        return [kind, [_canonical(each) for each in value]]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [kind, [(f.name, _canonical(getattr(value, f.name))) for f in dataclasses.fields(value)]]
    return value if value is None or type(value) in (bool, int, float, str, bytes) else [kind, value]


def _probe(shape: Shape) -> None:
    """Have every part of a slow shape find its decoder now, so that a type is refused here or never."""
    if not shape.plain:
        for part in shape.walk():
            part.lift  # noqa: B018


def _why_not_decoded(error: Exception) -> str:
    problem, _, path = str(error).partition(" - at `$")
    if not isinstance(error, Misfit | msgspec.DecodeError):
        return f"{type(error).__name__}: {problem}"
    return f"{problem} at {path.rstrip('`')}" if path else problem


def _why_not_encoded(value: Any, error: Exception) -> str:
    if isinstance(error, Misfit):
        return str(error)
    if isinstance(error, RecursionError):
        return "nested too deeply, or contains itself"
    path, problem = _culprit(value, "", error)
    return f"{problem} at {path}" if path else problem


def _culprit(value: Any, path: str, error: Exception) -> tuple[str, str]:
    """The innermost part that cannot be encoded, and why."""
    for step, part in _parts(value):
        try:
            _encode(part)
        except Exception as inner:
            return _culprit(part, path + step, inner)
    return path, str(error)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield f"[{key!r}]", key
            yield f"[{key!r}]", each
    elif isinstance(value, list | tuple | set | frozenset):
        for index, each in enumerate(value):
            yield f"[{index}]", each
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name, None)
