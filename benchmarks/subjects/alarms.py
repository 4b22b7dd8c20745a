"""An aggregate that sets a reminder, and counts how often it rang."""

from datetime import datetime

from holdfast.actors import Aggregate, command, event, on

__all__ = ["Alarm", "Rang"]


@event("alarm.rang")
class Rang:
    pass


class Alarm(Aggregate):
    rang: int = 0

    @command
    def set(self, at: datetime) -> None:
        self.remind("ring", at=at, command=Alarm.ring)

    @command
    def ring(self) -> int:
        self.emit(Rang())
        return self.rang

    @on(Rang)
    def _rang(self, event: Rang) -> None:
        self.rang += 1
