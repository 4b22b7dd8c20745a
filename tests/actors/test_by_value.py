"""Classes from `__main__`, a prompt or a notebook: they reach a host by value, and must work there too."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
{future}
import enum
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from holdfast.actors import Aggregate, Rejected, command, event, on, query

LIMIT = 1000


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Item:
    sku: str
    price: Decimal | str
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)


@event("account.deposited")
class Deposited:
    amount: int
    item: Item | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Receipt:
    total: int
    items: list[Item]


class TooMuch(Rejected):
    pass


class Saving(Aggregate, abstract=True, snapshot_every=7):
    total: int = 0
    limit: int = field(default=LIMIT)

    @command
    def deposit(self, amount: int) -> Receipt:
        if amount > LIMIT:
            raise TooMuch(amount)
        self.emit(Deposited(amount, Item("a", Decimal("1.5"), Colour.BLUE)))
        return Receipt(self.total, self.items)


class Account(Saving, category="account"):
    items: list[Item] = field(default_factory=list)
    seen: dict[Colour, datetime | None] = {{}}

    @query
    def peek(self) -> int:
        return self.total

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.total += event.amount
        self.seen[Colour.RED] = None
        if event.item:
            self.items.append(event.item)
"""

SEND = """
import sys
import ray.cloudpickle
from holdfast.actors.definition import definition_of

definition = definition_of(Account)
with open(sys.argv[1], "wb") as file:
    file.write(ray.cloudpickle.dumps((Account, Deposited(5), definition.schema, definition.code)))
"""

RECEIVE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    Account, sent, schema, code = pickle.load(file)

import ray.cloudpickle
from holdfast.actors.definition import definition_of
from holdfast.actors.unit import Context, Unit

definition = definition_of(Account)
assert (definition.schema, definition.code) == (schema, code)
assert (definition.category, definition.options.snapshot_every) == ("account", 7)
account, copy = definition.new("a"), definition.new("a")
command = definition.commands["deposit"]
unit = Unit(definition, account, command, Context(command_id="1", correlation_id="1"))
receipt = unit.run((5,), {})
assert command.reply.decode(command.reply.encode(receipt)) == receipt
definition.restore(copy, definition.encode_state(account), 1)
assert definition.same_state(account, copy) and copy.total == 5 and copy.limit == 1000, vars(copy)

((spec, payload),) = unit.emitted
old = spec.codec.decode(b"\\x81\\xa6amount\\x05")
assert old == type(old)(5) == sent and old.notes == [], old
try:
    spec.codec.decode(b"\\x80")
except Exception as error:
    assert "amount" in str(error), error
else:
    raise AssertionError("a required field was missing")
try:
    Unit(definition, account, command, Context(command_id="2", correlation_id="2")).run((5000,), {})
except Exception as error:
    assert type(error).__name__ == "TooMuch" and error.args == (5000,)
ray.cloudpickle.dumps((Account, receipt))  # and on to the next process
print("done")
"""


def run(path: Path, source: str, *args: str) -> str:
    path.write_text(source)
    ran = subprocess.run([sys.executable, str(path), *args], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"], ids=["plain", "future"])
@pytest.mark.parametrize("where", ["main", "prompt", "function"])
def test_a_class_sent_by_value_works_in_a_process_that_has_no_such_module(
    tmp_path: Path, where: str, future: str
) -> None:
    """Commands, events with defaults, snapshots and fingerprints are those of the sender."""
    program = PROGRAM.format(future=future)
    if where == "main":
        source = program + SEND
    elif where == "prompt":
        source = f"exec(compile({program + SEND!r}, '<stdin>', 'exec'), {{'__name__': '__main__'}})"
    else:
        imports, _, classes = program.partition("LIMIT = 1000")
        body = "\n".join("    " + line for line in ("LIMIT = 1000" + classes).split("\n"))
        source = f"{imports}\ndef make():\n{body}\n    return Account, Deposited\nAccount, Deposited = make()\n{SEND}"
    run(tmp_path / "sender.py", source, str(tmp_path / "sent"))
    assert run(tmp_path / "receiver.py", RECEIVE, str(tmp_path / "sent")) == "done\n"
