"""The fold: what must come of a log, reckoned without the library and without the domain.

It shares no code with `domain.py`, not even its names, and it thinks differently: it keeps no state to move, it only
counts, per application, how often each recorded step was possible so far, and says from the counts whether the next
one is. Where the two disagree about one step of one application, the demonstration fails.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
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


@dataclass(slots=True)
class Expected:
    """`applications` and `clerks`: the facts about each at the end, by number. `accepted`: of each application, the
    numbers of the lines that become its events, in order. `refused`: the lines that cannot have happened."""

    applications: dict[str, dict[str, Any]] = field(default_factory=dict)
    clerks: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: dict[str, list[int]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

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
    for line in lines:
        done, n = possible[line.case], counts[line.case]
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
        expected.accepted[case] = [line.number for line in done]
        expected.applications[case] = _application(done, counts[case])
    expected.clerks = {clerk: _clerk(weeks) for clerk, weeks in sheets.items()}
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
    return at.date() - timedelta(days=at.weekday())


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
