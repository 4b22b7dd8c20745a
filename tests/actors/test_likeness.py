"""Likeness: types count, all the way down, and the first difference is named."""

import enum
from dataclasses import dataclass
from decimal import Decimal
from math import nan
from typing import Any

import pytest

from holdfast.actors.likeness import difference


@dataclass(eq=False)
class Thing:
    name: str
    parts: list[Any]


class Side(enum.Enum):
    LEFT = 1


@pytest.mark.parametrize(
    "value",
    [None, 1, "a", nan, [nan, {"a": (nan, 1)}], {1, 2}, Thing("a", [Thing("b", [])]), Side.LEFT, Decimal("NaN")],
    ids=repr,
)
def test_a_value_is_like_its_copy(value: Any) -> None:
    """NaN included, and dataclasses that have no equality of their own."""
    import copy

    assert difference(value, copy.deepcopy(value)) == ""


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (1, True, "value: 1 is an int, True is a bool"),
        ([1, (2, 3)], [1, [2, 3]], "[1]: (2, 3) is a tuple, [2, 3] is a list"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "['a']['b']: 1 is not 2"),
        ({"a": 1}, {}, "['a']: is in the first only"),
        ({}, {"a": 1}, "['a']: is in the second only"),
        ({1: "x"}, {True: "x"}, "value: its keys are of other types"),
        ([1], [1, 2], "value: [1] is not [1, 2]"),
        ({1}, {2}, "value: {1} is not {2}"),
        (Thing("a", [1]), Thing("a", [2]), ".parts[0]: 1 is not 2"),
        ("x" * 200, "y", "xxx…"),
    ],
    ids=repr,
)
def test_the_first_difference_is_named(one: Any, other: Any, said: str) -> None:
    """Where it is, and both sides."""
    assert said in difference(one, other)


def test_an_int_may_stand_where_a_float_is_meant() -> None:
    """As type checkers have it."""
    assert difference({"a": 1}, {"a": 1.0}) == ""
    assert difference(1, 1.5) != ""
