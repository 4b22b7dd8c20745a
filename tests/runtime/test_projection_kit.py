"""The test kit of projections, on projections that are right and on some that are not."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hf_bank import Deposited
from hf_project import Balances, Noise, Picky, Shared, Withdrawn

from holdfast.actors import on
from holdfast.runtime import Projection, RecordedEvent, Table
from holdfast.runtime.model_errors import StatementRefused
from holdfast.runtime.testing import DependsOnPages, given_events


def test_given_events_then_rows() -> None:
    """Pairs of id and event, or events alone; more may come later."""
    given = given_events(Balances, ("ann", Deposited(5)), ("bob", Deposited(7)), ("ann", Withdrawn(2)), Noise())
    assert given.rows("SELECT id, balance FROM balances ORDER BY id") == [("ann", 3), ("bob", 7)]
    given.and_events(Deposited(1))
    assert given.rows("SELECT balance FROM balances WHERE id = ?", "test") == [(1,)]


def test_given_events_of_a_projection_in_parts() -> None:
    """All parts work on the one read model."""
    given = given_events(Shared, *((f"a{n}", Deposited(n)) for n in range(20)))
    assert given.rows("SELECT count(*), sum(balance) FROM balances") == [(20, 190)]


def test_given_events_raises_what_the_handler_raises() -> None:
    """Not the policy's business: a test is to see it."""
    with pytest.raises(ValueError, match="an amount of 13"):
        given_events(Picky, Deposited(1), Deposited(13))
    with pytest.raises(StatementRefused, match="CHECK"):
        given_events(Picky, Deposited(99))
    with pytest.raises(TypeError, match="is no event"):
        given_events(Picky, 5)


def test_given_events_notices_what_depends_on_the_size_of_pages() -> None:
    """Memory that is not in the tables makes a page of two something else than two pages."""
    seen: dict[int, int] = {}

    class Forgetful(Projection):
        rows = Table("position BIGINT, nth BIGINT")

        @on(Deposited)
        def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
            nth = seen[recorded.position] = seen.get(recorded.position, 0) + 1
            self.execute(f"INSERT INTO {self.rows} VALUES (?, ?)", recorded.position, nth)

    with pytest.raises(DependsOnPages, match="rows: in one page"):
        given_events(Forgetful, Deposited(1))


def test_given_events_have_the_record_that_was_asked_for() -> None:
    """Category, time and metadata are those of the test."""
    records: list[Any] = []

    class Looks(Projection):
        @on(Deposited)
        def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
            records.append(recorded)

    at = datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    given_events(Looks, ("a", Deposited(1)), category="Account", at=at, metadata={"clerk": "eve"})
    first = records[0]
    assert (first.category, first.id, first.version, first.position) == ("Account", "a", 1, 1)
    assert (first.recorded_at, first.metadata, first.event) == (at, {"clerk": "eve"}, Deposited(1))
