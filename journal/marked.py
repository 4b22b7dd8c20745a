"""Marked values: what stands in a journal as something else than it is, and says so itself.

Two kinds, each a MessagePack extension value of one code, so that whatever reads MessagePack passes over them:

    compressed    a value, by zstd: `compression.py`
    sealed        a value, by AES-256-GCM, under the key of a data subject: `sealed.py`

An extension starts with four bytes that tell which kind it is. One of them is a byte that neither MessagePack nor UTF-8
ever uses, so looking for that one tells of a whole page of events, at the speed of memory, that there is nothing to
open in it: what has no marks pays for that look, and for nothing else.
"""

from typing import Any

import msgspec

from .errors import CodecError
from .wire import UNDECODABLE

__all__ = [
    "COMPRESSED",
    "MARK",
    "MARKED_HEADS",
    "SEALED",
    "Marked",
    "body_of",
    "body_of_whole",
    "has_mark",
    "is_marked",
    "kind_of",
    "marked",
    "whole",
]

MARK = b"hf\xc1"
"""Where this is not, nothing is marked. Where it is, something may be."""

COMPRESSED, SEALED = MARK + b"z", MARK + b"s"

_RARE = MARK[-1:]

CODE = 72

Marked = msgspec.msgpack.Ext

MARKED_HEADS = frozenset(b"\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8")
"""First bytes of MessagePack's extension values: one that is marked as a whole starts with one of them."""

_HEAD_MAX = 6
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(msgspec.msgpack.Ext).decode


def has_mark(data: bytes) -> bool:
    """Whether something in these bytes may be a marked value. (Python looks for one byte ten times as fast as for
    several.)"""
    at = data.find(_RARE)
    while at >= 0:
        if data.startswith(MARK, at - 2):
            return True
        at = data.find(_RARE, at + 1)
    return False


def _data(value: Any) -> bytes:
    return bytes(value.data)


def marked(kind: bytes, body: bytes) -> Marked:
    """The value to put in the place of another one."""
    return Marked(CODE, kind + body)


def kind_of(value: Any) -> bytes:
    """`COMPRESSED` or `SEALED` for a decoded extension value of ours; else nothing."""
    return _data(value)[: len(SEALED)] if isinstance(value, Marked) and value.code == CODE else b""


def body_of(value: Marked) -> bytes:
    """What stands after the mark."""
    return _data(value)[len(SEALED) :]


def is_marked(value: bytes, kind: bytes = MARK) -> bool:
    """Whether these bytes are, as a whole, a marked value (of a kind)."""
    return bool(value) and value[0] in MARKED_HEADS and kind in value[: _HEAD_MAX + len(SEALED)]


def whole(kind: bytes, body: bytes) -> bytes:
    """A marked value as bytes."""
    return _encode(marked(kind, body))


def body_of_whole(value: bytes) -> bytes:
    """What stands after the mark of bytes that are a marked value. Raises `CodecError`."""
    try:
        return body_of(_decode(value))
    except UNDECODABLE as error:
        raise CodecError("a marked value", str(error)) from error
