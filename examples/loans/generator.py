"""The generator: a log of the real one's shape, for where the real one is not at hand.

It walks each application through the bank: a third is declined at once, leads are called, applications completed,
offers sent, called about, cancelled and replaced, papers validated. How often each way is taken, and how many times a
clerk takes the same work up, was counted in the real log. As in the real one, a few steps cannot have happened:
work that ends twice, work on an application that is closed. One seed, one log.
"""

import functools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

__all__ = ["CASES", "CLERKS", "Row", "generate"]

CASES = 13_087
CLERKS = 68
FIRST_CASE, CASE_STEP = 173_688, 3
START = datetime(2011, 10, 1, tzinfo=timezone(timedelta(hours=1)))
ARRIVALS_OVER = timedelta(days=152)

MACHINE = "112"  # the clerk who never sleeps: it takes applications in and sorts them
_PEOPLE = [str(10_100 + 18 * n) for n in range(1, CLERKS)]
_BUSYNESS = [1 / (8 + n) for n in range(1, CLERKS)]
AT_WORK = 20  # people in the office on one day
NOBODY = 0.07  # the part of the work that names no clerk
ENDS_TWICE = 0.014
STARTS_TOO_LATE = 0.008

LEADS, FRAUD, COMPLETE = "W_Afhandelen leads", "W_Beoordelen fraude", "W_Completeren aanvraag"
PAPERS, CALL = "W_Nabellen incomplete dossiers", "W_Nabellen offertes"
VALIDATE, CONTRACT = "W_Valideren aanvraag", "W_Wijzigen contractgegevens"


class Row(NamedTuple):
    """One recorded step."""

    case: str
    at: datetime
    activity: str
    lifecycle: str
    clerk: str | None
    amount: int


def generate(seed: int, cases: int = CASES) -> Iterator[Row]:
    """A log of so many applications, ordered by time. The first ones of a longer log are other ones: they arrive
    closer together."""
    rows: list[Row] = []
    for number in range(cases):
        chance = random.Random(f"{seed}/{number}")
        arrives = START + ARRIVALS_OVER * ((number + chance.random()) / cases)
        rows += _Walk(seed, str(FIRST_CASE + CASE_STEP * number), arrives, chance).walk()
    rows.sort(key=lambda row: row.at)  # stable: steps of one instant stay in order
    return iter(rows)


class _Walk:
    """One application on its way through the bank."""

    def __init__(self, seed: int, case: str, arrives: datetime, chance: random.Random) -> None:
        self.seed, self.case, self.now, self.chance = seed, case, _in_the_day(arrives), chance
        self.amount = round(min(99_999.0, chance.lognormvariate(9.3, 0.8)) / 500) * 500 or 500
        self.rows: list[Row] = []

    def walk(self) -> list[Row]:
        """From its submission to an end, or to where it is left."""
        self.say("A_SUBMITTED", MACHINE)
        self.say("A_PARTLYSUBMITTED", MACHINE)
        self.wait(seconds=40)
        way = self.chance.random()
        if way < 0.262:
            self.say("A_DECLINED", MACHINE)
        elif way < 0.632:
            self.say("A_PREACCEPTED", MACHINE)
            self.complete()
        elif way < 0.992:
            self.leads()
        else:
            self.fraud()
        return self.rows

    def leads(self) -> None:
        self.schedule(LEADS, MACHINE)
        self.sessions(LEADS, again=0.19, hours=3)
        with_whom = self.start(LEADS, hours=2)
        if self.chance.random() < 0.48:
            self.say("A_DECLINED", with_whom)
            self.end(LEADS, with_whom)
        else:
            self.say("A_PREACCEPTED", with_whom)
            self.schedule(COMPLETE, with_whom)
            self.end(LEADS, with_whom)
            self.completing()

    def fraud(self) -> None:
        self.schedule(FRAUD, MACHINE)
        self.sessions(FRAUD, again=0.5, hours=20)
        with_whom = self.start(FRAUD, hours=20)
        self.say("A_DECLINED", with_whom)
        self.end(FRAUD, with_whom)

    def complete(self) -> None:
        self.schedule(COMPLETE, MACHINE)
        self.completing()

    def completing(self) -> None:
        """The application's blanks are filled in with the customer, by telephone, often in many calls."""
        self.sessions(COMPLETE, again=0.695, hours=8)
        who, how = self.start(COMPLETE, hours=5), self.chance.random()
        if how < 0.158:
            self.close("A_CANCELLED", COMPLETE, who)
        elif how < 0.309:
            self.close("A_DECLINED", COMPLETE, who)
        elif how < 0.319:
            self.end(COMPLETE, who)
        else:
            self.say("A_ACCEPTED", who)
            self.wait(seconds=300)
            self.say("A_FINALIZED", who)
            self.offer(who)
            self.end(COMPLETE, who)
            self.offered()

    def offer(self, who: str | None, *, replaces: bool = False) -> None:
        self.say("O_SELECTED", who)
        if replaces:
            self.say("O_CANCELLED", who)
        self.say("O_CREATED", who)
        self.say("O_SENT", who)
        self.schedule(CALL, who)

    def offered(self) -> None:
        """An offer is out: the customer is called about it until it comes back, is replaced, or is forgotten."""
        self.sessions(CALL, again=0.705, hours=30)
        who, how = self.start(CALL, hours=40), self.chance.random()
        if how < 0.27:
            self.offer(who, replaces=True)
            self.end(CALL, who)
            self.offered()
        elif how < 0.50:
            self.close("A_CANCELLED", CALL, who, "O_CANCELLED")
        elif how < 0.545:
            self.end(CALL, who)
        else:
            self.say("O_SENT_BACK", who)
            self.schedule(VALIDATE, who)
            self.end(CALL, who)
            self.validating()

    def validating(self) -> None:
        """The papers are looked through; what is missing is called for."""
        while self.chance.random() < 0.40:
            who = self.start(VALIDATE, hours=18)
            self.schedule(PAPERS, who)
            self.end(VALIDATE, who)
            self.sessions(PAPERS, again=0.84, hours=12)
            self.schedule(VALIDATE, self.anyone())
        self.sessions(VALIDATE, again=0.42, hours=9)
        who, how = self.start(VALIDATE, hours=12), self.chance.random()
        if how < 0.05:
            self.end(VALIDATE, who)
        elif how < 0.28:
            self.close("A_DECLINED", VALIDATE, who, "O_DECLINED")
        else:
            seals = ["O_ACCEPTED", "A_APPROVED", "A_REGISTERED", "A_ACTIVATED"]
            self.chance.shuffle(seals)
            for seal in seals:
                self.say(seal, who)
            self.end(VALIDATE, who)
            if self.chance.random() < 0.004:
                self.schedule(CONTRACT, who)

    # -- words ---------------------------------------------------------------------------------------------------

    def close(self, activity: str, item: str, who: str | None, *offer: str) -> None:
        """The end: the application's, the offer's, the work's. Now and then somebody starts again all the same."""
        for each in (activity, *offer):
            self.say(each, who)
        self.end(item, who)
        if self.chance.random() < STARTS_TOO_LATE:
            self.end(item, self.start(item, hours=30))

    def sessions(self, item: str, *, again: float, hours: float) -> None:
        """Work is taken up and laid down a number of times, each time after so many hours on average."""
        while self.chance.random() < again:
            self.end(item, self.start(item, hours=hours))

    def start(self, item: str, *, hours: float) -> str | None:
        self.wait(seconds=hours * 3600)
        who = self.anyone()
        self.say(item, who, "START")
        self.wait(seconds=200)
        return who

    def end(self, item: str, who: str | None) -> None:
        self.say(item, who, "COMPLETE")
        if self.chance.random() < ENDS_TWICE:
            self.say(item, who, "COMPLETE")

    def schedule(self, item: str, who: str | None) -> None:
        self.say(item, who, "SCHEDULE")

    def say(self, activity: str, who: str | None, lifecycle: str = "COMPLETE") -> None:
        self.now += timedelta(milliseconds=self.chance.randint(1, 900))
        self.rows.append(Row(self.case, self.now, activity, lifecycle, who, self.amount))

    def wait(self, *, seconds: float) -> None:
        self.now += timedelta(seconds=int(self.chance.expovariate(1 / seconds)))
        if seconds > 1000:
            self.now = _in_the_day(self.now)

    def anyone(self) -> str | None:
        if self.chance.random() < NOBODY:
            return None
        return self.chance.choice(_at_work(self.seed, self.now.toordinal()))


@functools.cache
def _at_work(seed: int, day: int) -> list[str]:
    """Who is in the office; some are there on most days, some hardly ever."""
    return random.Random(f"{seed}/day {day}").choices(_PEOPLE, _BUSYNESS, k=AT_WORK)


def _in_the_day(at: datetime) -> datetime:
    """Nobody works from 21 to 8 o'clock."""
    if 8 <= at.hour < 21:
        return at
    return at + timedelta(hours=(8 - at.hour) % 24, minutes=7 * (at.second % 17))
