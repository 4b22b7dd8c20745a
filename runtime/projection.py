"""Projections: events in, rows of a database out.

    class Balances(Projection, version=1, on_error=Retry(times=5, then="dead letter")):
        balances = Table("id TEXT PRIMARY KEY, balance BIGINT NOT NULL")

        @on(Deposited)
        def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
            self.execute(
                f"INSERT INTO {self.balances} VALUES (?, ?)"
                f" ON CONFLICT (id) DO UPDATE SET balance = {self.balances}.balance + excluded.balance",
                recorded.id, event.amount,
            )

    await runtime.start(Balances, "sqlite:///read.db")          # or postgres://…
    await runtime.wait_for(Balances)                            # all that was answered is in the tables

**Each event counts once.** What handlers write and the checkpoint are committed in one transaction, a page of events at
a time; so after a crash at any moment the tables are what the events up to the checkpoint make of them.

**Another `version` is built beside the one that serves**, from the first event on, and takes its place in one
transaction when it has caught up; until then the old one goes on, with its old code. Code that changes without a new
version goes on from the checkpoint: right for a handler that got faster, or learned of a new event, and wrong for one
that should have done something else about the events that are past. `runtime.rebuild` builds the same version anew.
"""

from typing import TYPE_CHECKING, Any, Unpack

from holdfast.actors.errors import DefinitionError
from holdfast.actors.place import defining_frame, place_of

from .model import Row
from .projection_definition import ProjectionKeywords, ProjectionOptions, check_projection

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Projection"]


class Projection:
    """The base of every projection. Class keywords are the fields of `ProjectionOptions`: `name`, `version`,
    `partitions`, `on_error`.

    Handlers are plain methods, `(self, event)` or `(self, event, recorded)`, called in the order of the events (with
    `partitions`: of each stream's events), in a thread of the projection's own. All that one may rely on is what is in
    the tables: the instance keeps nothing, since it would survive a transaction that did not.
    """

    __holdfast_projection__ = ProjectionOptions()

    def __init_subclass__(cls, **options: Unpack[ProjectionKeywords]) -> None:
        super().__init_subclass__()
        frame = defining_frame(cls)
        try:
            cls.__holdfast_projection__ = cls.__holdfast_projection__.derive(cls.__name__, options)
        except ValueError as error:
            raise DefinitionError(cls.__qualname__, str(error), place_of(cls, frame)) from error
        check_projection(cls, frame)

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not constructed: runtime.start({type(self).__name__}, url)")

    def execute(self, sql: str, *values: Any) -> None:
        """Run a statement in the page's transaction, with `?` for each value, in both databases. (For the operators of
        PostgreSQL that are spelled so there are functions: `jsonb_exists`.)

        Raises `StatementRefused`; then the transaction is lost, whether or not the handler catches it."""
        model: Model = self.__dict__["_model"]
        model.execute(sql, values)

    def fetch(self, sql: str, *values: Any) -> list[Row]:
        """The rows of a query, or of a statement that returns some. It sees all that was executed before it."""
        model: Model = self.__dict__["_model"]
        return model.fetch(sql, values)

    def fetch_one(self, sql: str, *values: Any) -> Row | None:
        """The first row; None if there is none."""
        rows = self.fetch(sql, *values)
        return rows[0] if rows else None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: a projection keeps nothing but its tables")

    def __repr__(self) -> str:
        options = type(self).__holdfast_projection__
        return f"<projection {options.name}@{options.version}>"
