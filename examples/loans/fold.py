"""The fold: what must come of a log, reckoned without the library and without the domain.

It shares no code with `domain.py`, not even its names, and it thinks differently: it keeps no state to move, it only
counts, per application, how often each recorded step was possible so far, and says from the counts whether the next
one is. Where the two disagree about one step of one application, the demonstration fails.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import accumulate
from typing import Any

from .log import Line

__all__ = ["Expected", "fold"]

_NEEDS = {  # what must have happened before work can be scheduled, and what must not
    "W_Afhandelen leads": ("A_PARTLYSUBMITTED", "A_PREACCEPTED"),
    "W_Beoordelen fraude": ("A_PARTLYSUBMITTED", ""),
    "W_Completeren aanvraag": ("A_PREACCEPTED", "A_ACCEPTED"),
    "W_Nabellen incomplete dossiers": ("A_FINALIZED", ""),
    "W_Nabellen offertes": ("A_ACCEPTED", ""),
    "W_Valideren aanvraag": ("A_FINALIZED", ""),
    "W_Wijzigen contractgegevens": ("A_FINALIZED", ""),
}
_LADDER = {  # each step up needs the one before it
    "A_PARTLYSUBMITTED": "A_SUBMITTED",
    "A_PREACCEPTED": "A_PARTLYSUBMITTED",
    "A_ACCEPTED": "A_PREACCEPTED",
    "A_FINALIZED": "A_ACCEPTED",
}
_STAGES = {
    "A_SUBMITTED": "submitted",
    "A_PARTLYSUBMITTED": "partly submitted",
    "A_PREACCEPTED": "pre-accepted",
    "A_ACCEPTED": "accepted",
    "A_FINALIZED": "finalized",
    "A_DECLINED": "declined",
    "A_CANCELLED": "cancelled",
}
_SEALS = {"A_APPROVED": "approved", "A_REGISTERED": "registered", "A_ACTIVATED": "activated"}
_OFFERS = {
    "O_CREATED": "created",
    "O_SENT": "sent",
    "O_SENT_BACK": "sent back",
    "O_ACCEPTED": "accepted",
    "O_DECLINED": "declined",
    "O_CANCELLED": "cancelled",
}


_CET = timezone(timedelta(hours=1))
_LAPSE = -1  # in the place of a line's number: the log does not have it


@dataclass(slots=True)
class Expected:
    """`applications` and `clerks`: the facts about each at the end, by number. `accepted`: of each application, the
    numbers of the lines that become its events, in order (-1: an offer that lapsed). `refused`: the lines that cannot
    have happened. `lapsed`: when an offer did, by application and version. `work`: by day, clerk and item, `days`: by
    day alone, how often work was taken up, laid down, and how much was open in the evening."""

    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    clerks: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: dict[str, list[int]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    lapsed: dict[tuple[str, int], datetime] = field(default_factory=dict)
    work: dict[tuple[str, str, str], tuple[int, int, int]] = field(default_factory=dict)
    days: dict[tuple[str], tuple[int, int, int]] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Of all applications."""
        return sum(map(len, self.accepted.values()))


def fold(lines: Iterable[Line]) -> Expected:
    """Reckon a whole log."""
    possible: defaultdict[str, list[Line]] = defaultdict(list)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sheets: defaultdict[str, dict[date, list[tuple[Line, bool]]]] = defaultdict(dict)
    expected = Expected()
    end = datetime.min.replace(tzinfo=_CET)
    for line in lines:
        done, n = possible[line.case], counts[line.case]
        end = end if line.at < end else _next_monday(line.at)
        _lapse(done, n, line.at)
        happens = (not done or line.at >= done[-1].at) and _possible(line.activity, line.lifecycle, n)
        if happens:
            done.append(line)
            n[_key(line.activity, line.lifecycle)] += 1
            if line.activity == "O_SENT":
                n["back before"] = n["O_SENT_BACK"]
        else:
            expected.refused.add(line.number)
        if line.clerk is not None:
            sheets[line.clerk].setdefault(_monday(line.at), []).append((line, happens))
    for case, done in possible.items():
        _lapse(done, counts[case], end)
        expected.lapsed |= {(case, n): line.at for n, line in enumerate(done, 1) if line.number == _LAPSE}
        expected.accepted[case] = [line.number for line in done]
        expected.applications[case] = _application(done, counts[case])
    expected.clerks = {clerk: _clerk(weeks) for clerk, weeks in sheets.items()}
    stints = [stint for done in possible.values() for stint in _stints(done)]
    expected.work = _evenings(stints)
    expected.days = {(day,): n for (day, *_), n in _evenings([((), *days) for _, *days in stints]).items()}
    return expected


def _key(activity: str, lifecycle: str) -> str:
    return f"{activity} {lifecycle}" if activity.startswith("W") else activity


def _possible(activity: str, lifecycle: str, n: Counter[str]) -> bool:
    closed = n["A_DECLINED"] + n["A_CANCELLED"] > 0
    if activity.startswith("W"):
        return _work_possible(activity, lifecycle, n, closed)
    if activity.startswith("O"):
        return _offer_possible(activity, n, closed)
    if activity == "A_SUBMITTED":
        return not n["A_SUBMITTED"]
    if activity in _LADDER:
        return bool(n[_LADDER[activity]]) and not n[activity] and not closed
    if activity in _SEALS:
        held = n["O_ACCEPTED"] > 0 or _out(n) == 1
        return n["A_FINALIZED"] > 0 and not closed and not n[activity] and held
    return n["A_PARTLYSUBMITTED"] > 0 and not closed and not any(n[seal] for seal in _SEALS)


def _out(n: Counter[str]) -> int:
    return n["O_SENT"] - n["O_ACCEPTED"] - n["O_DECLINED"] - n["O_CANCELLED"]


def _offer_possible(activity: str, n: Counter[str], closed: bool) -> bool:
    out, back = _out(n), n["O_SENT_BACK"] - n["back before"]
    match activity:
        case "O_SELECTED":
            unsealed = not any(n[seal] for seal in _SEALS)
            return n["A_ACCEPTED"] > 0 and not closed and unsealed and n["O_SELECTED"] == n["O_SENT"]
        case "O_CREATED":
            return n["A_FINALIZED"] > 0 and not closed and n["O_SELECTED"] == n["O_CREATED"] + 1 and out == 0
        case "O_SENT":
            return not closed and n["O_CREATED"] == n["O_SENT"] + 1
        case "O_SENT_BACK":
            return not closed and out == 1 and back == 0
        case "O_ACCEPTED":
            return not closed and out == 1
        case _:
            return out == 1


def _work_possible(activity: str, lifecycle: str, n: Counter[str], closed: bool) -> bool:
    scheduled, started, completed = (n[f"{activity} {each}"] for each in ("SCHEDULE", "START", "COMPLETE"))
    if lifecycle == "COMPLETE":
        return started == completed + 1
    if closed:
        return False
    if lifecycle == "START":
        return scheduled > 0 and started == completed
    before, over = _NEEDS[activity]
    return n[before] > 0 and not n[over]


def _application(done: list[Line], n: Counter[str]) -> dict[str, Any]:
    offers: list[str] = []
    for line in done:
        if line.activity == "O_SELECTED":
            offers.append("selected")
        elif line.activity in ("O_CREATED", "O_SENT"):
            offers[-1] = _OFFERS[line.activity]
        elif line.activity in _OFFERS:
            out = next(i for i, offer in enumerate(offers) if offer.startswith("sent"))
            offers[out] = _OFFERS[line.activity]
    stages = [_STAGES[line.activity] for line in done if line.activity in _STAGES]
    submitted: datetime | None = next((line.at for line in done if line.activity == "A_SUBMITTED"), None)
    return {
        "version": len(done),
        "amount": done[0].amount if submitted else 0,
        "stage": stages[-1] if stages else "new",
        "seals": sorted(name for seal, name in _SEALS.items() if n[seal]),
        "offers": offers,
        "work": {
            item[2:]: (n[f"{item} SCHEDULE"], n[f"{item} START"], n[f"{item} COMPLETE"])
            for item in _NEEDS
            if n[f"{item} SCHEDULE"]
        },
        "submitted_at": submitted,
        "changed_at": done[-1].at if done else None,
    }


def _monday(at: datetime) -> date:
    day = at.astimezone(_CET).date()
    return day - timedelta(days=day.weekday())


def _next_monday(at: datetime) -> datetime:
    week = _monday(at) + timedelta(days=7)
    return datetime(week.year, week.month, week.day, tzinfo=_CET)


def _lapse(done: list[Line], n: Counter[str], until: datetime) -> None:
    """Cancel the offer that is out at the first Monday 0:00 which is 30 days or more after it was sent, if that has
    come, it has not come back, and nothing was granted."""
    if _out(n) != 1 or n["O_SENT_BACK"] > n["back before"] or any(n[seal] for seal in _SEALS):
        return
    sent = next(line for line in reversed(done) if line.activity == "O_SENT")
    monday = _next_monday(sent.at + timedelta(days=30) - timedelta(microseconds=1))
    if monday <= until:
        done.append(Line(_LAPSE, sent.case, monday, "O_CANCELLED", "COMPLETE", None, sent.amount))
        n["O_CANCELLED"] += 1


def _stints(done: list[Line]) -> list[tuple[tuple[str, str], str, str | None]]:
    """Who was at what work, from which day to which (None: still is)."""
    begun: dict[str, Line] = {}
    stints: list[tuple[tuple[str, str], str, str | None]] = []
    for line in done:
        if line.lifecycle == "START":
            begun[line.activity] = line
        elif line.lifecycle == "COMPLETE" and line.activity[0] == "W":
            first = begun.pop(line.activity)
            stints.append(((first.clerk or "", line.activity[2:]), _day(first), _day(line)))
    return stints + [((line.clerk or "", line.activity[2:]), _day(line), None) for line in begun.values()]


def _day(line: Line) -> str:
    return str(line.at.astimezone(_CET).date())


def _evenings(stints: list[Any]) -> dict[Any, tuple[int, int, int]]:
    """Begun, ended, and open in the evening: of each day and whatever stands before the days of a stint."""
    begun = Counter((what, day) for what, day, _ in stints)
    ended = Counter((what, day) for what, _, day in stints if day is not None)
    found: dict[Any, tuple[int, int, int]] = {}
    by_what: defaultdict[Any, list[str]] = defaultdict(list)
    for what, day in sorted(begun.keys() | ended.keys()):
        by_what[what].append(day)
    for what, days in by_what.items():
        left = accumulate(begun[what, day] - ended[what, day] for day in days)
        found |= {
            (day, *what): (begun[what, day], ended[what, day], open) for day, open in zip(days, left, strict=True)
        }
    return found


def _clerk(weeks: dict[date, list[tuple[Line, bool]]]) -> dict[str, Any]:
    everything = [each for week in weeks.values() for each in week]
    work = Counter((x.activity[2:], x.lifecycle) for x, happens in everything if happens and x.activity[0] == "W")
    return {
        "version": len(weeks),
        "weeks": len(weeks),
        "steps": len(everything),
        "refused": sum(not happens for _, happens in everything),
        "taken": {item: times for (item, what), times in work.items() if what == "START"},
        "finished": {item: times for (item, what), times in work.items() if what == "COMPLETE"},
        "first_week": min(weeks),
        "last_week": max(weeks),
    }
