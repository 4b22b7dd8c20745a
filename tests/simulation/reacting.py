"""What lives from the events of the simulated aggregates: a projection, a reaction, and the aggregates that it and
reminders write to. Everything that they do can be told from what they leave behind.
"""

from datetime import timedelta

from holdfast.actors import Aggregate, Reaction, RecordedEvent, apply, command, event, on
from holdfast.actors.clock import micros_of
from holdfast.runtime import Projection, Table

from .aggregates import Added, Appended, Written

__all__ = ["ASKED", "ENTERED", "MIRRORED", "RANG", "Alarm", "Book", "Mirror", "Totals", "is_mirrored"]

ENTERED, MIRRORED = "simulation.entered", "simulation.mirrored"
ASKED, RANG = "simulation.asked", "simulation.rang"


class Totals(Projection, version=1):
    """A row for each aggregate: its sum, how many events that is, and all of them in order. Nothing here is idempotent,
    and everything depends on the order."""

    totals = Table("id TEXT PRIMARY KEY, total BIGINT NOT NULL, events BIGINT NOT NULL, told TEXT NOT NULL")

    @on(Added)
    def added(self, event: Added, recorded: RecordedEvent) -> None:
        self._enter(recorded, event.amount)

    @on(Written)
    def written(self, event: Written, recorded: RecordedEvent) -> None:
        self._enter(recorded, event.value)

    @on(Appended)
    def appended(self, event: Appended, recorded: RecordedEvent) -> None:
        self._enter(recorded, event.item)

    def _enter(self, recorded: RecordedEvent, number: int) -> None:
        self.execute(
            f"INSERT INTO {self.totals} VALUES (?, ?, 1, ?) ON CONFLICT (id) DO UPDATE SET"
            " total = total + excluded.total, events = events + 1, told = told || ',' || excluded.told",
            f"{recorded.category}/{recorded.id}",
            number,
            str(number),
        )


@event(ENTERED)
class Entered:
    amount: int


@event(MIRRORED)
class Mirrored:
    amount: int


class Book(Aggregate, category="book", snapshot_every=4):
    """What reactions write to. Two entries of one handler look alike; what tells them apart is where they come from."""

    total: int = 0

    @command
    def enter(self, amount: int) -> int:
        self.emit(Entered(amount))
        return self.total

    @on(Entered)
    def _entered(self, event: Entered) -> None:
        self.total += event.amount


def is_mirrored(amount: int) -> bool:
    """Whether the reaction reacts to it."""
    return amount % 2 == 0


class Mirror(Reaction, category="mirror", snapshot_every=3):
    """For what is added to a counter, if it is even: the same twice into a book; then, as its own event says, once into
    another."""

    total: int = 0

    @on(Added, by=lambda event, recorded: recorded.id if is_mirrored(event.amount) else None)
    async def added(self, event: Added) -> None:
        book = self.aggregate(Book, self.id)
        await book.enter(event.amount)
        await book.enter(event.amount)
        self.emit(Mirrored(event.amount))

    @on(Mirrored)
    async def mirrored(self, event: Mirrored) -> None:
        await self.aggregate(Book, "all").enter(event.amount)

    @apply(Mirrored)
    def _mirrored(self, event: Mirrored) -> None:
        self.total += event.amount


@event(ASKED)
class Asked:
    token: str
    name: str
    due: int


@event("simulation.calmed")
class Calmed:
    token: str


@event(RANG)
class Rang:
    name: str


class Alarm(Aggregate, category="alarm", snapshot_every=3):
    """Reminders that are set, replaced and cancelled. `rung`: how often any of them has fired."""

    rung: int = 0

    @command
    def wake(self, token: str, name: str, after_us: int) -> None:
        due = self.remind(name, after=timedelta(microseconds=after_us), command=Alarm.ring, args=(name,))
        self.emit(Asked(token, name, micros_of(due)))

    @command
    def wake_again_and_again(self, token: str, name: str, every_us: int) -> None:
        due = self.remind(name, every=timedelta(microseconds=every_us), command=Alarm.ring, args=(name,), missed="all")
        self.emit(Asked(token, name, micros_of(due)))

    @command
    def calm(self, token: str, name: str) -> None:
        self.cancel_reminder(name)
        self.emit(Calmed(token))

    @command
    def calm_what_repeats(self, token: str) -> None:
        for name in [name for name, pending in self.pending_reminders.items() if pending.repeats]:
            self.cancel_reminder(name)
        self.emit(Calmed(token))

    @command
    def ring(self, name: str) -> None:
        self.emit(Rang(name))

    @on(Asked)
    def _asked(self, event: Asked) -> None: ...

    @on(Calmed)
    def _calmed(self, event: Calmed) -> None: ...

    @on(Rang)
    def _rang(self, event: Rang) -> None:
        self.rung += 1
