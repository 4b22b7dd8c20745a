"""Plain: the state of an aggregate as numbers, text, lists and maps, and what lies between two such states.

For people who look: it shows values as the journal would keep them, whatever their classes are. A value that only its
codec understands (an extension of MessagePack, such as something encrypted) is shown as that.
"""

# What this looks at is of any type at all.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from holdfast.journal.codec import decode_plain

from .aggregate import Aggregate
from .definition import Definition
from .reminders import uncarried

__all__ = ["DIFFERENCES_MAX", "Difference", "differences", "plain_state"]

DIFFERENCES_MAX = 200
"""Differences that are told of one event. One that changes more is told by its first ones."""

_order = msgspec.msgpack.Encoder(order="deterministic").encode


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One place at which two states part, as `balance` or `lines[2].amount`. What is not there on one side is UNSET."""

    path: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


def plain_state(definition: Definition, instance: Aggregate) -> dict[str, Any]:
    """The fields of an instance. Sets come as sorted lists, so that equal ones look equal. Raises `CodecError`."""
    payload = uncarried(definition.encode_state(instance), definition.new(instance.id))
    values = vars(instance)
    return {name: _settled(values.get(name), value) for name, value in decode_plain(payload).items()}


def _settled(value: Any, plain: Any) -> Any:
    """`plain` is what `value` became: wherever that is a set, its order means nothing."""
    if isinstance(plain, list):
        if isinstance(value, set | frozenset):
            return sorted(plain, key=_order)
        if isinstance(value, list | tuple) and len(value) == len(plain):
            return [_settled(*pair) for pair in zip(value, plain, strict=True)]
    if isinstance(plain, dict):
        if isinstance(value, Mapping) and len(value) == len(plain):
            return {key: _settled(*pair) for key, *pair in zip(plain, value.values(), plain.values(), strict=True)}
        if dataclasses.is_dataclass(value):
            return {name: _settled(getattr(value, str(name), None), each) for name, each in plain.items()}
    return plain


def differences(before: Any, after: Any) -> list[Difference]:
    """Where two plain values part, each place once, in the order in which they stand there."""
    found: list[Difference] = []
    for difference in _apart(before, after, ""):
        if len(found) == DIFFERENCES_MAX:
            break
        found.append(difference)
    return found


def _apart(before: Any, after: Any, path: str) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from _apart(before.get(key, msgspec.UNSET), after.get(key, msgspec.UNSET), _within(path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _apart_lists(before, after, path)
    elif type(before) is not type(after) or before != after:
        yield Difference(path=path, before=before, after=after)


def _apart_lists(before: list[Any], after: list[Any], path: str) -> Iterator[Difference]:
    """By place, once the common beginning and end are put aside: one that was taken out is one difference."""
    start, shorter = 0, min(len(before), len(after))
    while start < shorter and _same(before[start], after[start]):
        start += 1
    end = 0
    while end < shorter - start and _same(before[-1 - end], after[-1 - end]):
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for index in range(max(len(old), len(new))):
        here = f"{path}[{start + index}]"
        if index < len(old) and index < len(new):
            yield from _apart(old[index], new[index], here)
        else:
            yield Difference(
                path=here,
                before=old[index] if index < len(old) else msgspec.UNSET,
                after=new[index] if index < len(new) else msgspec.UNSET,
            )


def _same(one: Any, other: Any) -> bool:
    return next(_apart(one, other, ""), None) is None


def _within(path: str, key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"
