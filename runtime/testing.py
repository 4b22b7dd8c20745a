"""The test kit of projections: given events, then rows. No Ray, no journal, no file.

    given = given_events(Balances, ("ann", Deposited(5)), ("bob", Deposited(7)), ("ann", Withdrawn(2)))
    assert given.rows("SELECT id, balance FROM balances ORDER BY id") == [("ann", 3), ("bob", 7)]

It runs the code that a live projection runs, over SQLite in memory, and checks what that has no time to check: that the
same events, all in one page or each in a transaction of its own, come to the same rows. A handler that counts on either
is told as `DependsOnPages`. What a handler raises is raised.

What a projection means for PostgreSQL alone, types and functions that SQLite does not have, is tested there.
"""

# What tests give is of any type at all, and stays unknown when it turns out to be a tuple.
# pyright: reportUnknownVariableType=false

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.actors.context import EPOCH
from holdfast.actors.events import event_codec, event_name, stored_type
from holdfast.actors.testing import Stored
from holdfast.journal.codec import encode_plain
from holdfast.journal.records import Recorded, StreamId

from .model import Row
from .model_sqlite import SqliteModel
from .projection import Projection
from .projection_books import Books
from .projection_definition import ProjectionDefinition, projection_of
from .projection_generations import Generations
from .projector import Projector

__all__ = ["DependsOnPages", "GivenEvents", "given_events"]

STARTED = datetime(2024, 1, 1, tzinfo=UTC)


class DependsOnPages(AssertionError):
    """The rows depend on how many events came in one go: the handler counts on something that is not in the tables."""


def given_events(
    cls: type[Projection],
    *events: Any,
    category: str = "Test",
    at: datetime = STARTED,
    metadata: dict[str, Any] | None = None,
) -> "GivenEvents":
    """A read model to which these events have come, in this order: each an instance of its class, of the stream `test`,
    or a pair of an id and the instance. `category`, `at`, `metadata`: what their records say."""
    given = GivenEvents(projection_of(cls), category, at, metadata or {})
    return given.and_events(*events)


class GivenEvents:
    """A read model in memory, ready to be looked at."""

    def __init__(self, definition: ProjectionDefinition, category: str, at: datetime, metadata: dict[str, Any]) -> None:
        self._definition, self._category, self._at, self._metadata = definition, category, at, metadata
        self._positions = itertools.count(1)
        self._versions: dict[str, int] = {}
        self._whole, self._single = _Lane(definition), _Lane(definition)

    def __repr__(self) -> str:
        return f"<given {sum(self._versions.values())} events to {self._definition.name}>"

    def and_events(self, *events: Any) -> "GivenEvents":
        """These come as well. Raises what a handler raises, `DependsOnPages`."""
        recorded = [self._recorded(each) for each in events]
        self._whole.take(recorded)
        for each in recorded:
            self._single.take([each])
        for name in self._definition.tables:
            self._compare(name)
        return self

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """What a reader finds, with `?` for each value."""
        return self._whole.rows(sql, values)

    def _compare(self, table: str) -> None:
        query = f"SELECT * FROM {table}"
        whole, single = (sorted(lane.rows(query, ()), key=repr) for lane in (self._whole, self._single))
        if whole != single:
            only = [row for row in whole if row not in single], [row for row in single if row not in whole]
            raise DependsOnPages(f"{table}: in one page {only[0]!r}, event by event {only[1]!r}")

    def _recorded(self, given: Any) -> Recorded:
        pair: tuple[Any, ...] = given if isinstance(given, tuple) else ("test", given)
        id, event = pair if len(pair) == 2 else ("", None)
        kind: type[Any] = type(event)
        if not (isinstance(event, Stored) or event_name(kind) is not None) or not isinstance(id, str):
            raise TypeError(f"{given!r} is no event, nor a pair of an id and one")
        what = event if isinstance(event, Stored) else Stored(stored_type(kind), event_codec(kind, {}).encode(event))
        position = next(self._positions)
        version = self._versions[id] = self._versions.get(id, 0) + 1
        return Recorded(
            position=position,
            stream=StreamId(self._category, id),
            version=version,
            type=what.type,
            payload=what.payload,
            command_id=f"command-{position}",
            recorded_at=(self._at - EPOCH) // timedelta(microseconds=1),
            metadata=encode_plain({"metadata": self._metadata}) if self._metadata else b"",
        )


class _Lane:
    """One read model, in which all parts of the projection work."""

    def __init__(self, definition: ProjectionDefinition) -> None:
        self._model = SqliteModel(":memory:")
        books = Books(self._model, definition.name)
        books.prepare()
        self._model.begin()
        seat = Generations(definition, self._model, 1).take_seat()
        self._model.commit()
        self._projectors = [
            Projector(
                definition,
                self._model,
                generation=seat.generation,
                state=seat.state,
                part=part,
                owner="test",
                epoch=0,
                positions={0: 0},
            )
            for part in range(definition.parts)
        ]

    def take(self, events: Sequence[Recorded]) -> None:
        for projector in self._projectors if events else ():
            taken = projector.take(0, events, events[-1].position)
            if taken.failure is not None:
                raise taken.failure.cause

    def rows(self, sql: str, values: Iterable[Any]) -> list[Row]:
        self._model.begin()
        try:
            return self._model.fetch(sql, tuple(values))
        finally:
            self._model.rollback()
