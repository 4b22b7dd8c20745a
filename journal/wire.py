"""How the hot requests travel between host and journal: one bytes object per batch, MessagePack by msgspec.

A batch of a thousand appends costs one object on the way instead of thousands; errors travel as their name and
constructor arguments, among the results, so that one refused append does not fail its neighbours.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from . import errors
from .errors import JournalError, JournalUnavailable
from .records import Append, Appended, Load, Loaded

__all__ = [
    "decode_appended",
    "decode_appends",
    "decode_loaded",
    "decode_loads",
    "encode",
    "encode_results",
]

T = TypeVar("T")
Failure = tuple[str, list[Any]]

encode = msgspec.msgpack.Encoder().encode
decode_appends: Callable[[bytes], list[Append]] = msgspec.msgpack.Decoder(list[Append]).decode
decode_loads: Callable[[bytes], list[Load]] = msgspec.msgpack.Decoder(list[Load]).decode
_decode_appended = msgspec.msgpack.Decoder(list[tuple[Appended | None, Failure | None]]).decode
_decode_loaded = msgspec.msgpack.Decoder(list[tuple[Loaded | None, Failure | None]]).decode


def encode_results(results: Sequence[Any]) -> bytes:
    """Each result as a pair: the record, or the error's name and arguments."""
    return encode([(None, (type(r).__name__, r.args)) if isinstance(r, Exception) else (r, None) for r in results])


def decode_appended(wire: bytes) -> list[Appended | JournalError]:
    """What `encode_results` made of a batch of appends; errors come back as themselves."""
    return _rebuild(_decode_appended(wire))


def decode_loaded(wire: bytes) -> list[Loaded | JournalError]:
    """What `encode_results` made of a batch of loads; errors come back as themselves."""
    return _rebuild(_decode_loaded(wire))


def _rebuild(pairs: list[tuple[T | None, Failure | None]]) -> list[T | JournalError]:
    return [_error(failure) if value is None else value for value, failure in pairs]


def _error(failure: Failure | None) -> JournalError:
    assert failure is not None, "a result is a record or an error"
    name, args = failure
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if kind is None or not issubclass(kind, JournalError):  # of a newer release, or a bug: all is possible
        return JournalUnavailable(f"{name}{tuple(args)}")
    error: JournalError = kind(*args)
    return error
