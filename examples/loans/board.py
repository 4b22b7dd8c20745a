"""The board: how many applications there are of each status, while the log runs. From a subscription of the runtime.

It counts by names of events, as anybody could who follows the journal: no aggregate is asked or woken for it. A status
is the stage that an application has come to, or, with all three seals, that its loan is granted.
"""

from collections import Counter

from rich.table import Table

from holdfast.journal import Positions
from holdfast.runtime import Batch, Runtime

from .domain import LoanApplication

__all__ = ["GRANTED", "Board"]

GRANTED = "granted"
STATUSES = {
    "application.submitted": "submitted",
    "application.partly_submitted": "partly submitted",
    "application.preaccepted": "pre-accepted",
    "application.accepted": "accepted",
    "application.finalized": "finalized",
    "application.declined": "declined",
    "application.cancelled": "cancelled",
}
SEALS = frozenset({"application.approved", "application.registered", "application.activated"})


class Board:
    """Counts what it is shown; `rich` can print it at any time, also from another thread. `caught_up`: when it was last
    shown something, there was nothing else."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys((*STATUSES.values(), GRANTED), 0)
        self.events, self.caught_up = 0, False
        self._position: int | Positions = 0
        self._status: dict[str, str] = {}
        self._seals = Counter[str]()

    async def watch(self, runtime: Runtime, *, until_caught_up: bool = False) -> None:
        """Follow the applications, from where it is: for ever, or until there is nothing more."""
        async with runtime.subscribe(after=self._position, categories=[LoanApplication]) as subscription:
            async for batch in subscription.batches():
                self._take(batch)
                if until_caught_up and self.caught_up:
                    return

    def _take(self, batch: Batch) -> None:
        for recorded in batch.events:
            status = STATUSES.get(recorded.type)
            if recorded.type in SEALS:
                self._seals[recorded.id] += 1
                status = GRANTED if self._seals[recorded.id] == len(SEALS) else None
            if status is not None:
                if (before := self._status.get(recorded.id)) is not None:
                    self.counts[before] -= 1
                self._status[recorded.id] = status
                self.counts[status] += 1
        self.events += len(batch.events)
        self._position, self.caught_up = batch.position, batch.caught_up

    def __rich__(self) -> Table:
        table = Table(title="Applications by status", title_justify="left")
        table.add_column("status")
        table.add_column("applications", justify="right")
        for status, count in self.counts.items():
            table.add_row(status, f"{count:,}")
        table.caption = f"{self.events:,} events, {'all there are' if self.caught_up else 'and more to come'}"
        return table
