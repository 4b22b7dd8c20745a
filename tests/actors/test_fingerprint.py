"""Fingerprints: equal for the same call in every process, different for different ones, and never an error."""

import dataclasses
import datetime
import decimal
import enum
import os
import subprocess
import sys
import uuid

import pytest

from holdfast.actors.fingerprint import fingerprint


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Opaque:
    def __init__(self, inside):
        self.inside = inside


class Reference:
    def __init__(self, holdfast_identity):
        self.holdfast_identity = holdfast_identity


class Hostile:
    @property
    def holdfast_identity(self):
        raise ZeroDivisionError


DIFFERENT = [
    (),
    (1,),
    (2,),
    (1, 2),
    ([1, 2],),
    ([2, 1],),
    ("1",),
    (b"1",),
    (True,),
    (None,),
    (1.5,),
    ({"a": 1},),
    ({"a": 2},),
    ({1, 3},),
    ({1, 4},),
    (Point(1, 2),),
    (Point(2, 1),),
    (Colour.RED,),
    (Colour.BLUE,),
    (uuid.UUID(int=1),),
    (decimal.Decimal("1.5"),),
    (datetime.date(2026, 1, 1),),
    (2**70,),
    (2**71,),
    ({1: "a", "1": "b"},),
    ({1: "b", "1": "a"},),
    ({1, "1"},),
    ({2, "1"},),
    (Opaque(1),),
    (Reference("bank:account/a"),),
    (Reference("bank:account/b"),),
    ([Reference("bank:account/a")],),
    (Hostile(),),
    ("\ud800",),
]


def test_different_calls_have_different_fingerprints():
    """Method, arguments, their order, and what is inside them; big integers and mixed keys too."""
    found = {fingerprint("m", args, {}) for args in DIFFERENT}
    assert len(found) == len(DIFFERENT)
    assert fingerprint("m", (1,), {}) != fingerprint("n", (1,), {})
    assert fingerprint("m", (1,), {}) != fingerprint("m", (), {"x": 1})
    assert fingerprint("m", (), {"x": 1}) != fingerprint("m", (), {"y": 1})
    assert all(len(each) == 16 for each in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        ({1: "a", "b": 2**80}, {"b": 2**80, 1: "a"}),
        ((1, 2), [1, 2]),
        (Opaque(1), Opaque(2)),
    ],
)
def test_what_is_the_same_call_has_the_same_fingerprint(one, other):
    """Dicts and sets have no order, tuples arrive as lists, the unknown counts by its type."""
    assert fingerprint("m", (one,), {}) == fingerprint("m", (other,), {})


def test_what_contains_itself_has_a_fingerprint_too():
    """Nothing that a caller can send is an error here."""
    endless: list = []
    endless.append(endless)
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    assert len(fingerprint("m", (endless, deep), {})) == 16


def test_every_process_computes_the_same():
    """Hash seeds and the order of sets do not count."""
    program = (
        "from holdfast.actors.fingerprint import fingerprint as f;"
        "print(f('m', ({'b', 'a', 'c'}, {'x': 1, 'y': {1, 'z', 2**90}}), {'k': 'v'}).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
