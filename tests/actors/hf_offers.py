"""An aggregate that reminds itself in every way, for the tests of reminders and timers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hf_host import doors

from holdfast.actors import Aggregate, Rejected, command, event, on, query

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@event("hf_offers.noted")
class Noted:
    text: str


class Offer(Aggregate, category="offer", snapshot_every=1_000_000, snapshot_on_passivate=False):
    """Notes what happens to it: `"x 01T13:00"` when the reminder x rang on the first at one o'clock."""

    notes: list[str] = []

    @command
    def set(self, name: str, **how: Any) -> None:
        """A reminder of the command `ring`, unless `how` says another."""
        self.remind(name, **{"command": Offer.ring, "args": [name], **how})

    @command
    def set_and_refuse(self, name: str) -> None:
        self.emit(Noted("never"))
        self.remind(name, after=HOUR, command=Offer.ring, args=[name])
        raise Rejected("no")

    @command
    def cancel(self, name: str) -> bool:
        return self.cancel_reminder(name)

    @command
    def ring(self, name: str) -> None:
        self.emit(Noted(f"{name} {self.context.now:%dT%H:%M}"))

    @command
    async def ring_slowly(self, name: str, door: str) -> None:
        self.emit(Noted(f"{name} begun"))
        await doors[door].pass_through()
        self.emit(Noted(f"{name} done"))

    @command
    def refuse(self) -> None:
        self.emit(Noted("never"))
        raise Rejected("not today")

    @command
    def again(self, name: str) -> None:
        """Rings, and sets itself anew."""
        self.ring(name)
        self.remind(name, after=HOUR, command=self.again, args=(name,))

    @command
    async def tell(self, other: str) -> None:
        await self.aggregate(Offer, other).ring(f"told by {self.id}")

    @command
    def spoil(self, things: list[str]) -> None:
        """Changes what it is given."""
        things.append("spoilt")
        self.emit(Noted(",".join(things)))

    @command
    def set_timer(self, name: str, **how: Any) -> None:
        self.timer(name, **{"command": Offer.ring, "args": [name], **how})

    @command
    def set_timer_and_refuse(self, name: str) -> None:
        self.timer(name, after=HOUR, command=Offer.ring, args=[name])
        raise Rejected("no")

    @command
    def stop_timer(self, name: str) -> None:
        self.cancel_timer(name)

    @command
    def look_up(self) -> list[str]:
        return sorted(self.pending_reminders)

    @query
    def all(self) -> list[str]:
        return self.notes

    @query
    def pending(self) -> dict[str, datetime]:
        return {name: each.due for name, each in self.pending_reminders.items()}

    @query
    def set_in_query(self) -> None:
        self.remind("x", after=HOUR, command=Offer.ring, args=["x"])

    @query
    def time_in_query(self) -> None:
        self.timer("x", after=HOUR, command=Offer.ring, args=["x"])

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.notes.append(event.text)
