"""Tables of a projection: what a class declares, and what its handlers write into their SQL.

    balances = Table("id TEXT PRIMARY KEY, balance BIGINT NOT NULL", indexes=["balance DESC"])

In a handler `self.balances` is the name of the table as it is called at that moment: `balances` while this version
serves, `balances__2` while it is being built beside the one that does. So the same handlers do both.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, overload

if TYPE_CHECKING:
    from .projection import Projection

__all__ = ["Table"]

_NAME = re.compile("[a-z_][a-z0-9_]{0,39}")
_NOT_OURS = re.compile("holdfast_|sqlite_|pg_|.*__[0-9]+$")


class Table:
    """A table that belongs to one projection, which alone writes it; anybody may read it.

    `columns`: as in CREATE TABLE, constraints included; the database's own types. `indexes`: what each is on, as in
    CREATE INDEX; `UNIQUE` may stand before it. `name`: what it is called where it serves; the attribute's name if not
    given.
    """

    __slots__ = ("columns", "indexes", "name")

    def __init__(self, columns: str, *, indexes: Sequence[str] = (), name: str = "") -> None:
        self.columns, self.name = columns, name
        self.indexes = indexes if isinstance(indexes, str) else tuple(indexes)

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = self.name or attribute

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(self, instance: "Projection", owner: Any = None) -> str: ...
    def __get__(self, instance: "Projection | None", owner: Any = None) -> Self | str:
        if instance is None:
            return self
        # Its name stands in the instance, where it goes before this descriptor: an f-string asks for it at every event.
        raise AttributeError(f"{self!r} is no table of {instance!r}")

    def __repr__(self) -> str:
        return f"<table {self.name}>"

    @property
    def problem(self) -> str:
        """What is wrong with its declaration; empty if nothing is."""
        if not isinstance(self.columns, str) or not self.columns.strip():
            return "a table needs columns, as in CREATE TABLE"
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or _NOT_OURS.match(self.name):
            return (
                f"a table is called by up to 40 of a-z, 0-9 and _, and not {self.name!r}: holdfast_, sqlite_ and pg_"
                " before it, and __ with a number after it, are taken"
            )
        if isinstance(self.indexes, str) or not all(isinstance(on, str) and on.strip() for on in self.indexes):
            return f"indexes is a list of what each is on, not {self.indexes!r}"
        return ""

    def statements(self, name: str, generation: int) -> list[str]:
        """What makes it under a name. Indexes carry the generation in theirs: they need not be renamed ever."""
        made = [f"CREATE TABLE {name} ({self.columns})"]
        for number, on in enumerate(self.indexes, 1):
            unique, on = ("UNIQUE ", on.strip()[7:]) if on.strip()[:7].upper() == "UNIQUE " else ("", on)
            on = on.strip()
            on = on if on.startswith("(") else f"({on})"
            made.append(f"CREATE {unique}INDEX {self.name}__{generation}_{number} ON {name} {on}")
        return made

    @property
    def shape(self) -> str:
        """All that its declaration says, for comparing."""
        return f"{self.name} ({' '.join(self.columns.split())}) {list(self.indexes)}"
