"""Read models: the database that a projection writes to, as its handlers and its checkpoint see it.

The same small interface for SQLite and PostgreSQL. SQL has `?` for its values in both. All calls are plain ones that
block, made by one thread of the projection's own, so that a page of events costs one hop to that thread and not one
per statement.

A transaction is everything between `begin` and `commit`. One in which a statement was refused cannot be committed any
more, also where the handler has caught the error: what it meant to do beside is not known.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

from .model_errors import StatementRefused

__all__ = ["Model", "Row", "check_statement"]

Row: TypeAlias = tuple[Any, ...]

_OURS = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE|ATTACH|DETACH|PRAGMA|VACUUM|SET)\b",
    re.I | re.S,
)


class Model(ABC):
    """A connection to a read model, made and used by one thread. `name`: for errors and logs, without a password."""

    must_not_be_silent = False
    """Whether a transaction that says nothing for a while would be given up: `keep_alive`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.at_once = False
        """Have no statement wait for those after it, so that one is refused while its event's handler runs."""
        self._refused: StatementRefused | None = None  # what spoilt the transaction under way

    @abstractmethod
    def begin(self) -> None:
        """Start a transaction. Raises `ReadModelUnavailable`."""

    @abstractmethod
    def commit(self) -> None:
        """Make it durable. Raises `StatementRefused` if anything in it was, and `ReadModelUnavailable`: then what
        became of it is unknown."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo it. Never raises; a connection that cannot is closed."""

    @abstractmethod
    def execute(self, sql: str, values: Sequence[Any]) -> None:
        """Run a statement; what it returns is of no interest. Raises `StatementRefused`, at once or at a later
        call, unless `at_once`."""

    @abstractmethod
    def fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement and return its rows. It sees all that was executed before."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Until the end of the transaction, let nobody else past who locks the same name."""

    @abstractmethod
    def hold_tables(self, names: Sequence[str]) -> None:
        """Until the end of the transaction, let nobody read or write these tables: they are about to be replaced. Gives
        up soon, with `ReadModelUnavailable`, rather than have readers wait long, or for each other."""

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether something of that name stands there."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it is of no use any more: connect again."""

    @abstractmethod
    def close(self) -> None:
        """Let go. Never raises."""

    def keep_alive(self) -> None:  # noqa: B027  a file gives up nothing
        """Between two events: have a server that would take a silent transaction for an abandoned one hear of it.
        Raises as `execute` does."""

    def check_unspoilt(self) -> None:
        """Raise what spoilt the transaction under way, if anything has."""
        if self._refused is not None:
            raise self._refused

    def spoil(self, refused: StatementRefused) -> StatementRefused:
        """The transaction under way can only be undone now."""
        self._refused = self._refused or refused
        return refused


def check_statement(sql: str) -> None:
    """Refuse what would end, or reach out of, the transaction that handler and checkpoint share."""
    found = _OURS.match(sql)
    if found is not None:
        raise StatementRefused(f"{found[1].upper()} is no business of a handler: its transaction is ours", "holdfast")
