"""Fingerprints of behaviour: the same code gives the same one everywhere, another rule another one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.actors.definition import definition_of

SOURCE = '''
import enum
from dataclasses import dataclass
from functools import cache
from holdfast.actors import Aggregate, command, event, on, query

LIMIT = 100
NAMES = frozenset({"ann", "bob", "cyd", "dee"})
RATES = {"low": 1, "high": 2}
calls = []

class Kind(enum.Enum):
    LOW = "low"
    HIGH = "high"

@event("paid")
class Paid:
    amount: int
    kind: Kind = Kind.LOW

    def doubled(self):
        return self.amount * 2

def allowed(name, amount=10):
    # a rule
    return name in NAMES and amount < LIMIT

@cache
def rate(kind):
    return RATES[kind.value]

class Purse(Aggregate):
    total: int = 0

    @command
    def pay(self, name: str, amount: int) -> int:
        """Pay."""
        if allowed(name):
            self.emit(Paid(amount))
        return self._sum()

    def _sum(self) -> int:
        calls.append(1)
        return sum(x for x in [self.total])

    def _add(self, amount: int) -> None:
        self.total += amount

    @property
    def big(self) -> bool:
        return self.total > 1000

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self._add(event.doubled() * rate(event.kind))
'''


def fingerprints(source: str, name: str = "shop") -> tuple[str, str]:
    """`schema` and `code` of the class that the source defines."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(source, "shop.py", "exec"), namespace)
    definition = definition_of(namespace["Purse"])
    return definition.schema, definition.code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a rule", "# another comment\n    # on two lines"),
        ('"""Pay."""', '"""Pay some more."""'),
        ('        """Pay."""\n', ""),
        ("    def doubled(self):\n", '    def doubled(self):\n        """Twice the amount."""\n'),
        ("import enum\n", "import enum\n\n\n\n"),
        ('{"ann", "bob", "cyd", "dee"}', '{"dee", "cyd", "bob", "ann"}'),
        ("calls = []", "calls = [1, 2, 3]"),
        ("if allowed(name):", "if (\n            allowed(name)\n        ):"),
    ],
)
def test_what_does_not_change_behaviour_does_not_change_the_code(old: str, new: str) -> None:
    """Comments, docstrings, line numbers, the order of sets, the contents of caches."""
    assert old in SOURCE
    assert fingerprints(SOURCE.replace(old, new)) == fingerprints(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 100", "LIMIT = 101"),
        ('"dee"}', '"eve"}'),
        ("amount < LIMIT", "amount <= LIMIT"),
        ("amount=10", "amount=11"),
        ("> 1000", "> 1001"),
        ("def pay(self, name: str, amount: int)", "def pay(self, name: str, amount: int, *, twice: bool = False)"),
    ],
)
def test_another_rule_is_another_code_but_the_same_schema(old: str, new: str) -> None:
    """Hosts are rolled; snapshots stay good, since the same events still make the same state."""
    schema, code = fingerprints(SOURCE.replace(old, new))
    assert (schema == fingerprints(SOURCE)[0], code == fingerprints(SOURCE)[1]) == (True, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.amount * 2", "self.amount * 3"),
        ('"high": 2', '"high": 3'),
        ("self.total += amount", "self.total -= amount"),
        ("total: int = 0", "total: int = 1"),
        ("total: int = 0", "total: int = 0\n    more: str = ''"),
        ("kind: Kind = Kind.LOW", "kind: Kind = Kind.HIGH"),
        ('HIGH = "high"', 'HIGH = "high"\n    TOP = "top"'),
    ],
)
def test_what_makes_another_state_of_the_same_events_is_another_schema(old: str, new: str) -> None:
    """Snapshots taken by the old code are passed over; so is the old code."""
    schema, code = fingerprints(SOURCE.replace(old, new))
    assert (schema == fingerprints(SOURCE)[0], code == fingerprints(SOURCE)[1]) == (False, False)


def test_fingerprints_are_the_same_in_every_process_and_place(tmp_path: Path) -> None:
    """Whatever the hash seed, the folder and what was imported before."""
    found = set()
    for seed in ("0", "1", "2"):
        home = tmp_path / seed
        home.mkdir()
        (home / "shop.py").write_text(SOURCE)
        program = (
            "from shop import Purse; from holdfast.actors.definition import definition_of;"
            "d = definition_of(Purse); print(d.schema, d.code)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program],
            cwd=home,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(tuple(ran.stdout.split()))
    assert found == {fingerprints(SOURCE)}
