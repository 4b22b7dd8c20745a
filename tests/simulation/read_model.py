"""The read model of the simulation: a database that outlives every process, with connections that fail.

What runs in a projection's thread runs at one moment, so transactions never meet. What they can come to is all there:
a commit that is refused, one that is carried out and not heard of, and a process that dies at it, before or after.
"""

from collections.abc import Sequence
from typing import Any

from holdfast.runtime.model import Model, Row
from holdfast.runtime.model_errors import ReadModelUnavailable
from holdfast.runtime.model_sqlite import SqliteModel

from .clock import Process
from .faults import Faults

__all__ = ["Connection", "ReadModel"]


class ReadModel:
    """The database. `rows` looks at it from outside."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.engine = SqliteModel(":memory:")

    def connect(self, process: Process) -> "Connection":
        """As a follower in that process does."""
        return Connection(self, process)

    def rows(self, query: str) -> list[Row]:
        """What a reader finds."""
        return self.engine.fetch(query, ())

    def has_table(self, name: str) -> bool:
        """Whether anybody has made it."""
        return self.engine.has_table(name)

    def close(self) -> None:
        """The world is over."""
        self.engine.close()


class Connection(Model):
    """One process's way to it."""

    def __init__(self, database: ReadModel, process: Process) -> None:
        super().__init__("sqlite:///simulated")
        self._database, self._engine, self._process = database, database.engine, process
        self._is_closed = False

    def begin(self) -> None:
        if self._process.dead or self._is_closed:
            raise self._lost("nobody is there")
        self._engine.begin()

    def commit(self) -> None:
        trouble = self._database.faults.model_trouble()
        self._process.clock.tell("%s commits to the read model: %s", self._process.name, trouble or "done")
        if trouble == "read model fails":
            raise self._lost("it failed")
        if trouble == "follower dies at commit":
            if self._database.faults.chance.random() < 0.5:
                self._engine.commit()
            self._process.kill()
            raise self._lost("its process died")
        self._engine.commit()
        if trouble:
            raise self._lost("it did not say")

    def rollback(self) -> None:
        self._engine.rollback()

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        self._engine.execute(sql, values)

    def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        return self._engine.fetch(sql, values)

    def lock(self, name: str) -> None:
        """The transaction has all of it."""

    def hold_tables(self, names: Sequence[str]) -> None:
        """The transaction has all of it."""

    def has_table(self, name: str) -> bool:
        return self._engine.has_table(name)

    @property
    def closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True

    def _lost(self, problem: str) -> ReadModelUnavailable:
        """The database undoes what a connection that it loses had not committed."""
        if not self._is_closed:
            self._is_closed = True
            self._engine.rollback()
        return ReadModelUnavailable(self.name, problem)
