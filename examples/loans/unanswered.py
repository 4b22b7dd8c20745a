"""The reaction: an offer that nobody has answered within 30 days is taken back at the end of the week.

    offer.sent ──▶ reminder, 30 days later ──▶ `LoanApplication.lapse_offer` ──▶ offer.cancelled
                     ▲
    offer.sent_back, .accepted, .declined, .cancelled: no reminder any more

It reckons with the times that the events carry, and never with the time at which it hears of them. What it asks for it
asks for once, and the application has the last word: by the time that it is asked, it may have heard from the customer.

Before this: an offer is out. After this: it was answered, or is off the table.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from holdfast.actors import Reaction, Rejected, command, on

from .days import end_of_week
from .domain import LoanApplication, OfferAccepted, OfferCancelled, OfferDeclined, OfferSent, OfferSentBack

__all__ = ["PATIENCE", "UnansweredOffers"]

PATIENCE = timedelta(days=30)


class UnansweredOffers(Reaction):
    """Looks after the offer of one application that is out, if one is. All that it knows is its reminder."""

    @on(OfferSent)
    def sent(self, event: OfferSent) -> None:
        due = event.at + PATIENCE
        self.remind("lapse", at=due, command=UnansweredOffers.lapse, args=[end_of_week(due).astimezone(UTC)])

    @on(OfferSentBack, OfferAccepted, OfferDeclined, OfferCancelled)
    def answered(self, event: OfferSentBack | OfferAccepted | OfferDeclined | OfferCancelled) -> None:
        self.cancel_reminder("lapse")

    @command
    async def lapse(self, at: datetime) -> None:
        """If this runs again after a crash, what it sends is what it has sent: it follows from the reminder alone."""
        with suppress(Rejected):  # granted meanwhile, say
            await self.aggregate(LoanApplication, self.id).lapse_offer(at)
