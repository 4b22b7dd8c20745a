"""Likeness: are two values the same all the way down, types included, and if not, where do they part?

To `==` a `True` equals `1`, and NaN differs from itself. Here types count, also inside containers, NaN is NaN, an
`int` may stand where a `float` is meant, and dataclasses are compared field by field even if they have no `==`.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["difference"]


def difference(one: Any, other: Any, path: str = "") -> str:
    """The first difference, in words that start with where it is; empty if there is none."""
    if one is other:
        return ""
    if type(one) is not type(other):
        if {type(one), type(other)} == {int, float} and one == other:
            return ""
        return f"{path or 'value'}: {_brief(one)} is {_a(one)}, {_brief(other)} is {_a(other)}"
    if isinstance(one, Mapping):
        return _of_maps(one, other, path)
    if isinstance(one, set | frozenset):
        return "" if one == other else f"{path or 'value'}: {_brief(one)} is not {_brief(other)}"
    parts = _parts(one, other)
    if parts is None:
        same = one == other or (one != one and other != other)
        return "" if same else f"{path or 'value'}: {_brief(one)} is not {_brief(other)}"
    if isinstance(one, list | tuple) and len(one) != len(other):
        return f"{path or 'value'}: {_brief(one)} is not {_brief(other)}"
    return next(filter(None, (difference(a, b, path + step) for step, a, b in parts)), "")


def _parts(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]] | None:
    if isinstance(one, list | tuple):
        return ((f"[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=False)))
    if dataclasses.is_dataclass(one) and not isinstance(one, enum.Enum):
        names = [field.name for field in dataclasses.fields(one)]
        return ((f".{name}", getattr(one, name, None), getattr(other, name, None)) for name in names)
    return None


def _of_maps(one: Mapping[Any, Any], other: Mapping[Any, Any], path: str) -> str:
    for key in one:
        if key not in other:
            return f"{path}[{key!r}]: is in the first only"
    for key in other:
        if key not in one:
            return f"{path}[{key!r}]: is in the second only"
    if (keys := [type(key) for key in one]) != [type(key) for key in other] and set(map(type, other)) != set(keys):
        return f"{path or 'value'}: its keys are of other types"
    return next(filter(None, (difference(one[key], other[key], f"{path}[{key!r}]") for key in one)), "")


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
