"""An offer that expires, for the tests of reminders in a runtime. A module that hosts import by its name."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from hf_bank import there_is

from holdfast.actors import Aggregate, Rejected, command, event, on, query


@event("hf_offers.rang")
class Rang:
    what: str
    at: datetime
    pid: int


class Offer(Aggregate, category="offer"):
    """Notes what rang, and when."""

    rang: list[str] = []

    @command
    def set(self, name: str, after: timedelta, every: timedelta | None = None, missed: str = "once") -> None:
        self.remind(name, after=after, every=every, missed=missed, command=Offer.ring, args=[name])  # type: ignore

    @command
    def set_at(self, name: str, at: datetime, gate: str = "") -> None:
        """`gate`: a file without which it does not come to its end."""
        self.remind(name, at=at, command=Offer.ring_behind, args=[name, gate])

    @command
    def set_refused(self, name: str, after: timedelta) -> None:
        self.remind(name, after=after, command=Offer.refuse)

    @command
    def set_timer(self, name: str, every: timedelta) -> None:
        self.timer(name, every=every, command=Offer.ring, args=[name])

    @command
    def ring(self, what: str) -> None:
        self.emit(Rang(what, self.context.now, os.getpid()))

    @command
    async def ring_behind(self, what: str, gate: str) -> None:
        if gate:
            Path(f"{gate}.reached").touch()  # noqa: ASYNC240
            await there_is(gate)
        self.ring(what)

    @command
    def refuse(self) -> None:
        raise Rejected("not today")

    @query
    def all(self) -> list[str]:
        return self.rang

    @query
    def pending(self) -> dict[str, datetime]:
        return {name: each.due for name, each in self.pending_reminders.items()}

    @on(Rang)
    def _rang(self, event: Rang) -> None:
        self.rang.append(f"{event.what} {event.at:%dT%H:%M}")
