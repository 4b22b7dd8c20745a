"""A counter, as an aggregate: the smallest thing that has a state, an event and a reply."""

import os

from holdfast.actors import Aggregate, command, event, on, query

__all__ = ["Added", "Counter"]


@event("counter.added")
class Added:
    amount: int


class Counter(Aggregate):
    total: int = 0

    @command
    def add(self, amount: int) -> int:
        self.emit(Added(amount))
        return self.total

    @query
    def value(self) -> int:
        return self.total

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount
