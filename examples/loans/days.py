"""The bank's days and weeks.

A moment comes back from the journal as the moment that it was, and without the time zone that it was written with. So
days are those of one time zone, the bank's in winter: also for the first month of the log, which is in summer time, and
without a database of time zones, which not every machine has.
"""

from datetime import date, datetime, time, timedelta, timezone

__all__ = ["day_of", "end_of_week", "midnight", "monday_of"]

BANK_TIME = timezone(timedelta(hours=1), "CET")


def day_of(at: datetime) -> date:
    """The day on which a moment is."""
    return at.astimezone(BANK_TIME).date()


def monday_of(at: datetime) -> date:
    """The first day of its week."""
    day = day_of(at)
    return day - timedelta(days=day.weekday())


def midnight(day: date) -> datetime:
    """The moment at which a day begins."""
    return datetime.combine(day, time(), BANK_TIME)


def end_of_week(at: datetime) -> datetime:
    """When its week is over: the first midnight before a Monday that is not earlier."""
    monday = midnight(monday_of(at))
    return monday if monday == at else monday + timedelta(days=7)
