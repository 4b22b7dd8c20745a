"""A read model against the events that it was made of: its rows are their fold, whatever befell its projection."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["Rows", "equals_fold"]

E = TypeVar("E")

Rows = Mapping[Any, Any]
"""The rows of a table, by their key."""


def equals_fold(name: str, rows: Rows, events: Iterable[E], apply: Callable[[dict[Any, Any], E], None]) -> int:
    """`apply(rows, event)` does to a dict what the projection's handler does to its table: the model, of a few lines.
    `events`: all of the journal, in order. Returns how many rows there were. Raises AssertionError, naming rows."""
    expected: dict[Any, Any] = {}
    for event in events:
        apply(expected, event)
    wrong = [
        f"{key}: it has {rows.get(key, 'no row')!r}, the events make {expected.get(key, 'no row')!r}"
        for key in [*expected, *(key for key in rows if key not in expected)]
        if rows.get(key, ...) != expected.get(key, ...)
    ]
    assert not wrong, f"{name}: {len(wrong)} of {len(expected)} rows are not what the events make: {wrong[:5]}"
    return len(expected)
