"""How the hot requests travel between host and journal: one bytes object per batch, MessagePack by msgspec.

A batch of a thousand appends costs one object on the way instead of thousands; errors travel as their name and
constructor arguments, among the results, so that one refused append does not fail its neighbours.

What comes in may be anything: bytes that are no such batch raise `CodecError`, and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from . import errors
from .errors import CodecError, JournalError, JournalUnavailable, Unstorable
from .records import Append, Appended, Followed, Load, Loaded, Recorded

__all__ = [
    "UNDECODABLE",
    "PackedPage",
    "decode_appended",
    "decode_appends",
    "decode_followed",
    "decode_loaded",
    "decode_loads",
    "decode_packed",
    "decode_page",
    "encode",
    "encode_fitting",
    "encode_results",
    "in_place",
]

T = TypeVar("T")
UNDECODABLE = (msgspec.DecodeError, RecursionError, TypeError, ValueError, OverflowError)
"""What msgspec raises over bytes that it cannot decode: its own error, and a ValueError for text that is no UTF-8."""
Failure = tuple[str, list[Any]]


class PackedPage(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A `Followed`, with its events still as they travel, or already: see there.

    Pack and unpack where events are worked on, in the same thread: what one core has made of a page costs another core
    as much again to read as it cost to make."""

    packed: msgspec.Raw
    reached: int
    head: int

    def unpacked(self) -> Sequence[Recorded]:
        """The events. Raises `CodecError`."""
        return _decoded(_decode_page, self.packed, "a page of events")


encode = msgspec.msgpack.Encoder().encode
_decode_appends = msgspec.msgpack.Decoder(list[Append]).decode
_decode_loads = msgspec.msgpack.Decoder(list[Load]).decode
_decode_appended = msgspec.msgpack.Decoder(list[tuple[Appended | None, Failure | None]]).decode
_decode_loaded = msgspec.msgpack.Decoder(list[tuple[Loaded | None, Failure | None]]).decode
_decode_page = msgspec.msgpack.Decoder(list[Recorded]).decode
_decode_followed = msgspec.msgpack.Decoder(Followed).decode
_decode_packed = msgspec.msgpack.Decoder(PackedPage).decode


def encode_fitting(batch: Sequence[Any]) -> tuple[bytes, Mapping[int, JournalError]]:
    """A batch of requests as bytes, without those that hold what cannot travel: their places, and why."""
    try:
        return encode(batch), {}
    except Exception:
        refused = {place: why for place, each in enumerate(batch) if (why := _misfit(each)) is not None}
        return encode([each for place, each in enumerate(batch) if place not in refused]), refused


def in_place(count: int, refused: Mapping[int, JournalError], answers: Sequence[T]) -> list[T | JournalError]:
    """The answers to those that were let through, with the errors of the others in their places."""
    if len(refused) + len(answers) != count:
        raise JournalUnavailable(f"{len(answers)} answers came to {count - len(refused)} requests")
    passed = iter(answers)
    return [refused[place] if place in refused else next(passed) for place in range(count)]


def _misfit(request: Any) -> Unstorable | None:
    try:
        encode(request)
    except Exception as error:  # text that is no Unicode, integers beyond 64 bits, fields of other types
        return Unstorable(repr(request)[:100].encode(errors="backslashreplace").decode(), str(error))
    return None


def decode_appends(wire: bytes) -> list[Append]:
    """What `encode` made of a batch of appends."""
    return _decoded(_decode_appends, wire, "a batch of appends")


def decode_loads(wire: bytes) -> list[Load]:
    """What `encode` made of a batch of loads."""
    return _decoded(_decode_loads, wire, "a batch of loads")


def encode_results(results: Sequence[Any]) -> bytes:
    """Each result as a pair: the record, or the error's name and arguments."""
    return encode([(None, (type(r).__name__, r.args)) if isinstance(r, Exception) else (r, None) for r in results])


def decode_appended(wire: bytes) -> list[Appended | JournalError]:
    """What `encode_results` made of a batch of appends; errors come back as themselves."""
    return _rebuild(_decoded(_decode_appended, wire, "the answers to a batch of appends"))


def decode_loaded(wire: bytes) -> list[Loaded | JournalError]:
    """What `encode_results` made of a batch of loads; errors come back as themselves."""
    return _rebuild(_decoded(_decode_loaded, wire, "the answers to a batch of loads"))


def decode_page(wire: bytes) -> list[Recorded]:
    """What `encode` made of a page of events."""
    return _decoded(_decode_page, wire, "a page of events")


def decode_followed(wire: bytes) -> Followed:
    """What `encode` made of a follower's page."""
    return _decoded(_decode_followed, wire, "a follower's page")


def decode_packed(wire: bytes) -> PackedPage:
    """What `encode` made of a follower's page, packed or not. Its events are not looked at."""
    return _decoded(_decode_packed, wire, "a follower's page")


def _decoded(decode: Callable[[Any], T], wire: bytes | msgspec.Raw, what: str) -> T:
    try:
        return decode(wire)
    except UNDECODABLE as error:
        raise CodecError(what, str(error)) from error


def _rebuild(pairs: list[tuple[T | None, Failure | None]]) -> list[T | JournalError]:
    return [_error(failure) if value is None else value for value, failure in pairs]


def _error(failure: Failure | None) -> JournalError:
    name, args = failure or ("an answer without a result or an error", [])
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if kind is None or not issubclass(kind, JournalError):  # of a newer release, or a bug: all is possible
        return JournalUnavailable(f"{name}{tuple(args)}")
    try:
        error: JournalError = kind(*args)
        str(error)
    except Exception:  # not the arguments that it has here
        return JournalUnavailable(f"{name}{tuple(args)}")
    return error
