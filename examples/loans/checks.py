"""The checks: what the callers were told, what the journal holds, and what the independent fold expects.

They run when every process of the cluster has ended, on what is on the disk, through a runtime in this process.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.runtime import RecordedEvent, Runtime

from .board import GRANTED, Board
from .domain import Clerk, LoanApplication, Seal, Step
from .feed import Answers
from .fold import Expected
from .log import Line, Log

__all__ = ["Check", "application_facts", "check_all", "clerk_facts"]

AT_ONCE = 500
EVENT_NAMES = {
    "A_SUBMITTED": "application.submitted",
    "A_PARTLYSUBMITTED": "application.partly_submitted",
    "A_PREACCEPTED": "application.preaccepted",
    "A_ACCEPTED": "application.accepted",
    "A_FINALIZED": "application.finalized",
    "A_DECLINED": "application.declined",
    "A_CANCELLED": "application.cancelled",
    "A_APPROVED": "application.approved",
    "A_REGISTERED": "application.registered",
    "A_ACTIVATED": "application.activated",
    "O_SELECTED": "offer.selected",
    "O_CREATED": "offer.created",
    "O_SENT": "offer.sent",
    "O_SENT_BACK": "offer.sent_back",
    "O_ACCEPTED": "offer.accepted",
    "O_DECLINED": "offer.declined",
    "O_CANCELLED": "offer.cancelled",
    "SCHEDULE": "work.scheduled",
    "START": "work.started",
    "COMPLETE": "work.completed",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One claim, whether it holds, and the figures."""

    claim: str
    holds: bool
    found: str


def application_facts(it: LoanApplication) -> dict[str, Any]:
    """An application's state, in the words of the fold."""
    return {
        "version": it.version,
        "amount": it.amount,
        "stage": it.stage.value,
        "seals": sorted(seal.value for seal in it.seals),
        "offers": [offer.value for offer in it.offers],
        "work": {item.value: (w.scheduled, w.started, w.completed) for item, w in it.work.items()},
        "submitted_at": it.submitted_at,
        "changed_at": it.changed_at,
    }


def clerk_facts(it: Clerk) -> dict[str, Any]:
    """A clerk's state, in the words of the fold."""
    return {
        "version": it.version,
        "weeks": it.weeks,
        "steps": it.steps,
        "refused": it.refused,
        "taken": {item.value: times for item, times in it.taken.items()},
        "finished": {item.value: times for item, times in it.finished.items()},
        "first_week": it.first_week,
        "last_week": it.last_week,
    }


async def check_all(
    runtime: Runtime, log: Log, answers: Answers, expected: Expected, board: Board, read_model: Path
) -> list[Check]:
    """Every check, in the order of the report. `read_model`: the file of `OpenWork`."""
    return [
        _answered(log, answers),
        _refused(answers, expected),
        await _applications(runtime, expected),
        await _clerks(runtime, expected),
        *await _journal(runtime, log, answers, expected),
        await _reports(runtime, answers),
        _open_work(read_model, expected),
        _board(board, expected),
    ]


def _answered(log: Log, answers: Answers) -> Check:
    rejected, lines = len(answers.rejected), len(log.lines)
    found = f"{answers.acknowledged:,} done + {rejected:,} rejected of {lines:,}"
    return Check("every command was answered", answers.acknowledged + rejected == lines, found)


def _refused(answers: Answers, expected: Expected) -> Check:
    apart = answers.rejected.keys() ^ expected.refused
    found = f"{len(answers.rejected):,} rejected, {len(apart):,} judged differently"
    return Check("what was rejected is what the fold finds impossible", not apart, found)


async def _applications(runtime: Runtime, expected: Expected) -> Check:
    numbers, wrong = list(expected.applications), list[str]()
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        states = await asyncio.gather(*(runtime.state_at(LoanApplication, number) for number in some))
        facts = zip(some, map(application_facts, states), strict=True)
        wrong += [number for number, found in facts if found != expected.applications[number]]
    return _compared("every application is as the fold says", len(numbers), wrong)


async def _clerks(runtime: Runtime, expected: Expected) -> Check:
    states = {clerk: await runtime.state_at(Clerk, clerk) for clerk in expected.clerks}
    wrong = [clerk for clerk, state in states.items() if clerk_facts(state) != expected.clerks[clerk]]
    return _compared("every clerk is as the fold says", len(states), wrong)


def _compared(claim: str, total: int, wrong: list[str]) -> Check:
    found = f"{total:,} compared, {len(wrong):,} differ" + (f": {', '.join(wrong[:5])} …" if wrong else "")
    return Check(claim, total > 0 and not wrong, found)


async def _journal(runtime: Runtime, log: Log, answers: Answers, expected: Expected) -> list[Check]:
    """Each acknowledged command is one event: in its application's stream, at the version the caller was told. The
    others are the offers that lapsed, each where the fold has it."""
    told = {(line.case, answers.versions[line.number]): line for line in log.lines if answers.versions[line.number] > 0}
    lapses, lapsed = dict(expected.lapsed), 0
    heads, command_ids = Counter[str](), Counter[str]()
    events = gaps = strangers = 0
    async for recorded in runtime.read(LoanApplication):
        events += 1
        gaps += recorded.version != heads[recorded.id] + 1
        heads[recorded.id] = recorded.version
        command_ids[recorded.context.command_id] += 1
        line = told.pop((recorded.id, recorded.version), None)
        if line is None and _lapsed(recorded) == lapses.pop((recorded.id, recorded.version), ""):
            lapsed += 1
        else:
            strangers += line is None or not _says(recorded.type, recorded.event, line)
    doubled = events - len(command_ids)
    lost = answers.acknowledged + lapsed - events
    return [
        Check("no acknowledged command was lost", not told and lost <= 0, f"{events:,} events, {len(told):,} missing"),
        Check(
            "none was doubled, nothing was invented",
            not doubled and not strangers,
            f"{doubled} twice, {strangers} strange",
        ),
        Check(
            "each offer that nobody answered lapsed, once",
            not lapses and lapsed == len(expected.lapsed),
            f"{lapsed:,} lapsed when they should, {len(lapses):,} missing",
        ),
        Check("versions run 1, 2, 3 … in every stream", not gaps, f"{len(heads):,} streams, {gaps} gaps"),
    ]


def _lapsed(recorded: RecordedEvent) -> Any:
    """When an offer did, if that is what the event says, and no clerk but another command has caused it."""
    if recorded.type != "offer.cancelled" or not recorded.context.causation_id:
        return None
    return recorded.event.at if recorded.event.by is None else None


def _says(type: str, event: Step, line: Line) -> bool:
    """Whether the event is what the line of the log says."""
    name = EVENT_NAMES[line.lifecycle if line.activity.startswith("W_") else line.activity]
    return (type, event.at, event.by) == (name, line.at, line.clerk)


async def _reports(runtime: Runtime, answers: Answers) -> Check:
    """Each clerk's reports were told the versions 1 … n, and the stream has n events."""
    events = Counter([recorded.id async for recorded in runtime.read(Clerk)])
    wrong = _unlike(answers.reports, events)
    found = f"{sum(events.values()):,} weeks reported, {wrong} clerks with other counts"
    return Check("no clerk's report was lost or doubled", not wrong, found)


def _unlike(reports: Mapping[str, list[int]], events: Mapping[str, int]) -> int:
    return sum(
        sorted(reports.get(clerk, [])) != list(range(1, events.get(clerk, 0) + 1))
        for clerk in reports.keys() | events.keys()
    )


def _open_work(read_model: Path, expected: Expected) -> Check:
    """The projection's tables, row by row."""
    with closing(sqlite3.connect(f"file:{read_model}?mode=ro", uri=True)) as connection:
        work = connection.execute("SELECT day, clerk, item, opened, closed, open FROM open_work").fetchall()
        days = connection.execute("SELECT day, opened, closed, open FROM work_by_day").fetchall()
    found = {row[:-3]: row[-3:] for row in (*work, *days)}
    right: dict[Any, Any] = {**expected.work, **expected.days}
    wrong = {key for key in found.keys() | right.keys() if found.get(key) != right.get(key)}
    told = f"{len(work):,} + {len(days):,} rows compared, {len(wrong):,} differ"
    return Check("the projection's tables are as the fold says", bool(work) and not wrong, told)


def _board(board: Board, expected: Expected) -> Check:
    """What was shown in the end."""
    sealed = len(Seal)
    right = Counter(
        GRANTED if len(facts["seals"]) == sealed else facts["stage"] for facts in expected.applications.values()
    )
    wrong = [status for status, count in board.counts.items() if count != right[status]]
    holds = not wrong and board.caught_up and board.events == expected.events
    found = f"{board.events:,} events seen, {len(wrong)} of {len(board.counts)} counts differ"
    return Check("the board ended with the fold's counts", holds, found)
