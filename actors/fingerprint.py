"""What a command asks for, in sixteen bytes: equal for the same method and arguments, in every process.

It notices an idempotency key that is used for two different commands, and derives the ids of commands that a
command sends to other aggregates, so that running it again sends the same ones.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["fingerprint"]


def _outline(value: Any) -> Any:
    """What can be said of an argument that MessagePack does not know and that is equal in every process."""
    return getattr(value, "holdfast_identity", None) or f"{type(value).__module__}.{type(value).__qualname__}"


_encode = msgspec.msgpack.Encoder(enc_hook=_outline, order="deterministic").encode


def fingerprint(method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """BLAKE2b-128 of the deterministic MessagePack of the call. Arguments of unknown types count by type only."""
    try:
        wire = _encode((method, list(args), dict(kwargs)))
    except (TypeError, ValueError, OverflowError):  # unorderable keys, integers over 64 bits
        wire = _encode((method, [repr(type(a)) for a in args], sorted(kwargs)))
    return hashlib.blake2b(wire, digest_size=16).digest()
