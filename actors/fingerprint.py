"""What a command asks for, in sixteen bytes: equal for the same method and arguments, in every process.

It notices an idempotency key that is used for two different commands, and derives the ids of commands that a
command sends to other aggregates, so that running it again sends the same ones.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

__all__ = ["fingerprint"]

DEPTH_MAX = 50


def fingerprint(method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """BLAKE2b-128 of the deterministic MessagePack of the call. Arguments of unknown types count by type only, unless
    they have a `holdfast_identity`, as references do."""
    call = (method, list(args), dict(kwargs))
    try:
        wire = _encode(call)
    except Exception:  # keys that cannot be ordered, integers over 64 bits, depth, an argument's own attributes
        wire = _encode(_outline_all(call, DEPTH_MAX))
    return hashlib.blake2b(wire, digest_size=16).digest()


def _outline(value: Any) -> str:
    """What can be said of an argument that MessagePack does not know and that is equal in every process."""
    try:
        identity = value.holdfast_identity
    except Exception:
        identity = None
    return identity if isinstance(identity, str) else f"{type(value).__module__}.{type(value).__qualname__}"


_encode = msgspec.msgpack.Encoder(enc_hook=_outline, order="deterministic").encode


def _outline_all(value: Any, depth: int) -> Any:
    """The same value, of what MessagePack can always carry."""
    if depth == 0:
        return "…"
    found: Any = value  # as it is, whatever is learned of its type below
    if isinstance(value, bool | float | str | bytes | None):
        return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        items = [_encode([_outline_all(key, depth - 1), _outline_all(found[key], depth - 1)]) for key in found]
        return sorted(items)
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_encode(_outline_all(each, depth - 1)) for each in cast("Iterable[Any]", value)]
        return parts if isinstance(value, list | tuple) else sorted(parts)
    try:
        return _encode(value)
    except Exception:
        return _outline(value)
