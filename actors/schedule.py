"""Schedules: when a reminder is due, once or again and again.

The nominal times of a repeating reminder follow from its first one alone, so it never drifts, however late it was
fired. What is due is the nominal time and a jitter on top, which is drawn from the stream, the name and the nominal
time: a million reminders for midnight are spread, and each is due at the same moment whoever works it out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from cronsim import CronSim, CronSimError

from .clock import micros_of, moment_of

__all__ = ["Occurrence", "Schedule", "check_cron"]

COUNTED_MAX = 1000
"""Occurrences that are counted when a reminder is late; of a longer absence only the next one is worked out."""

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time at which a reminder is due. Both in µs since 1970 UTC."""

    nominal: int
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The occurrences of one reminder. `seed`: text that no other reminder has. `every`, `jitter`: µs. With neither
    `every` nor `cron` there is the first occurrence only."""

    seed: str
    every: int | None = None
    cron: str | None = None
    jitter: int = 0

    def at(self, nominal: int) -> Occurrence:
        """The occurrence of that nominal time."""
        return Occurrence(nominal=nominal, due=nominal + self._jitter(nominal))

    def after(self, nominal: int) -> Iterator[Occurrence]:
        """All occurrences later than that nominal time, in order, without end if it repeats."""
        if self.every is not None:
            while True:
                nominal += self.every
                yield self.at(nominal)
        elif self.cron is not None:
            for moment in CronSim(self.cron, moment_of(nominal)):
                yield self.at(micros_of(moment))

    def first_due_after(self, nominal: int, moment: int) -> tuple[Occurrence | None, int]:
        """The first occurrence later than `nominal` that is due later than `moment`, and how many were due between
        (counted up to `COUNTED_MAX`)."""
        passed = 0
        for occurrence in islice(self.after(nominal), COUNTED_MAX):
            if occurrence.due > moment:
                return occurrence, passed
            passed += 1
        if passed < COUNTED_MAX:
            return None, passed
        return next((each for each in self.after(self._before(nominal, moment)) if each.due > moment), None), passed

    def _before(self, nominal: int, moment: int) -> int:
        """A time shortly before `moment` from where to look on, every occurrence up to which is due by then."""
        start = moment - self.jitter
        return start if self.every is None else nominal + max(0, start - nominal) // self.every * self.every

    def _jitter(self, nominal: int) -> int:
        if not self.jitter:
            return 0
        drawn = hashlib.blake2b(f"{self.seed} {nominal}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") % (self.jitter + 1)


def check_cron(expression: str, now: int) -> int:
    """The first time, in µs, that five fields of cron mean after `now`, in UTC. Raises `ValueError`."""
    if len(expression.split()) != 5:
        raise ValueError(f"cron={expression!r} does not have five fields: minute hour day month weekday")
    try:
        return micros_of(next(CronSim(expression, moment_of(now))))
    except CronSimError as error:
        raise ValueError(f"cron={expression!r}: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError(f"cron={expression!r} means no time within the next 50 years") from None
