"""The feed: the log as commands, in the order of time, thousands under way at once.

Commands to one application arrive in the order in which they are made here, so an application's steps stay in order
while those of different applications overtake each other. When all answers of a week are in, each clerk of that
week reports it, under an idempotency key: a report that is sent twice counts once.

When the reports are under way, the feed waits until the reaction has heard of all that happened in the week, and moves
the clock to Monday, by which the offers have lapsed that nobody answered. Meanwhile the next weeks' steps go on, but
for those of an application that had an offer out for 30 days: they wait for their Monday. So they meet what the bank
has decided by then, however fast the one or the other was.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby

from holdfast.actors import Rejected, VirtualClock
from holdfast.runtime import Runtime

from .days import day_of, end_of_week, midnight, monday_of
from .domain import Clerk, LoanApplication, WorkItem
from .log import Line, Log
from .unanswered import PATIENCE, UnansweredOffers

__all__ = ["Answers", "Incident", "feed"]

UNDER_WAY_MAX = 4000  # commands without an answer; more only wait longer
PROGRESS_LINES = 500
PATIENCE_S = 120.0  # for a clerk's report, and for the reaction: a process may have to start, beside all the rest

Send = Callable[[LoanApplication, Line], Awaitable[int]]

COMMANDS: dict[tuple[str, str], Send] = {
    ("A_SUBMITTED", "COMPLETE"): lambda it, line: it.submit(line.at, line.clerk, line.amount),
    ("A_PARTLYSUBMITTED", "COMPLETE"): lambda it, line: it.partly_submit(line.at, line.clerk),
    ("A_PREACCEPTED", "COMPLETE"): lambda it, line: it.preaccept(line.at, line.clerk),
    ("A_ACCEPTED", "COMPLETE"): lambda it, line: it.accept(line.at, line.clerk),
    ("A_FINALIZED", "COMPLETE"): lambda it, line: it.finalize(line.at, line.clerk),
    ("A_DECLINED", "COMPLETE"): lambda it, line: it.decline(line.at, line.clerk),
    ("A_CANCELLED", "COMPLETE"): lambda it, line: it.cancel(line.at, line.clerk),
    ("A_APPROVED", "COMPLETE"): lambda it, line: it.approve(line.at, line.clerk),
    ("A_REGISTERED", "COMPLETE"): lambda it, line: it.register(line.at, line.clerk),
    ("A_ACTIVATED", "COMPLETE"): lambda it, line: it.activate(line.at, line.clerk),
    ("O_SELECTED", "COMPLETE"): lambda it, line: it.select_offer(line.at, line.clerk),
    ("O_CREATED", "COMPLETE"): lambda it, line: it.create_offer(line.at, line.clerk),
    ("O_SENT", "COMPLETE"): lambda it, line: it.send_offer(line.at, line.clerk),
    ("O_SENT_BACK", "COMPLETE"): lambda it, line: it.receive_offer(line.at, line.clerk),
    ("O_ACCEPTED", "COMPLETE"): lambda it, line: it.accept_offer(line.at, line.clerk),
    ("O_DECLINED", "COMPLETE"): lambda it, line: it.decline_offer(line.at, line.clerk),
    ("O_CANCELLED", "COMPLETE"): lambda it, line: it.cancel_offer(line.at, line.clerk),
}
WORK: dict[str, Callable[[LoanApplication, Line, WorkItem], Awaitable[int]]] = {
    "SCHEDULE": lambda it, line, item: it.schedule_work(line.at, line.clerk, item),
    "START": lambda it, line, item: it.start_work(line.at, line.clerk, item),
    "COMPLETE": lambda it, line, item: it.complete_work(line.at, line.clerk, item),
}


@dataclass(slots=True)
class Incident:
    """Something that is done to the cluster while line `number` is fed. `at`: seconds into the feed. `follower`: to
    which, if it is to one: no caller waits for those."""

    number: int
    name: str
    strike: Callable[[], Awaitable[int]]
    follower: str = ""
    at: float = -1.0
    pid: int = 0


@dataclass(slots=True)
class Answers:
    """What the callers were told. By line number: the `versions` acknowledged (0: rejected, why is in `rejected`),
    and the times in seconds into the feed when each command was `sent` and when its answer came.
    `reports`: of each clerk, the versions acknowledged."""

    versions: list[int]
    sent: list[float]
    answered: list[float]
    rejected: dict[int, Rejected] = field(default_factory=dict)
    reports: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def none(cls, lines: int) -> "Answers":
        """Before the first command: -1 stands for no answer."""
        return cls([-1] * lines, [0.0] * lines, [0.0] * lines)

    @property
    def acknowledged(self) -> int:
        """Commands that were done."""
        return sum(version > 0 for version in self.versions)

    @property
    def lasted(self) -> float:
        """Seconds until the last command had its answer. The clerks' last reports may come later."""
        return max(self.answered)

    def waits(self) -> list[float]:
        """How long each caller waited, in seconds, the longest last."""
        return sorted(b - a for a, b in zip(self.sent, self.answered, strict=True))

    def caught(self, incident: Incident) -> list[float]:
        """How long those waited whose command was under way when it struck, the longest last."""
        pairs = zip(self.sent, self.answered, strict=True)
        return sorted(b - a for a, b in pairs if a <= incident.at < b)


async def feed(
    runtime: Runtime,
    clock: VirtualClock,
    log: Log,
    incidents: list[Incident],
    progress: Callable[[int], None] = lambda lines: None,
) -> Answers:
    """Send the whole log; return when every command and every report has its answer, and what fell due in the last week
    is done. `clock`: that of the runtime, at or before the log's first step. `progress` hears of each batch of answers.
    `UnansweredOffers` has to run. Raises an `ExceptionGroup` of anything that is not a rejection."""
    feeding = _Feeding(runtime, clock, log, progress)
    async with asyncio.TaskGroup() as group:
        await feeding.run(group, incidents)
    feeding.tell()
    return feeding.answers


@dataclass(frozen=True, slots=True)
class _Week:
    """One in which something happened. `following`: the Monday of the next one."""

    monday: date
    following: date
    lines: list[Line]
    under_way: set[asyncio.Task[None]]


class _Feeding:
    """One run through a log."""

    def __init__(self, runtime: Runtime, clock: VirtualClock, log: Log, progress: Callable[[int], None]) -> None:
        self.log, self.progress, self._clock = log, progress, clock
        self.answers = Answers.none(len(log.lines))
        self._runtime, self._started = runtime, time.perf_counter()
        self._untold = 0
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self._in_turn = {clerk: asyncio.Lock() for clerk in log.clerks}
        self._begun: dict[date, asyncio.Event] = {}  # by Monday: what fell due before it is done
        sent = [(line.case, day_of(end_of_week(line.at + PATIENCE))) for line in log.lines if line.activity == "O_SENT"]
        self._all_lapses = {monday for _, monday in sent}  # on which an offer may lapse
        self._lapses = dict(reversed(sent))  # by application: the first of them
        self._applications = {case: runtime.get(LoanApplication, case) for case in log.cases}

    def now(self) -> float:
        return time.perf_counter() - self._started

    async def run(self, group: asyncio.TaskGroup, incidents: list[Incident]) -> None:
        ahead = {incident.number: incident for incident in incidents}
        weeks = [(week, list(lines)) for week, lines in groupby(self.log.lines, key=lambda line: monday_of(line.at))]
        mondays = [week for week, _ in weeks] + [weeks[-1][0] + timedelta(days=7)]
        self._begun |= {monday: asyncio.Event() for monday in mondays}
        ended: asyncio.Queue[_Week | None] = asyncio.Queue()
        group.create_task(self._end_weeks(group, ended))
        for (monday, lines), following in zip(weeks, mondays[1:], strict=True):
            under_way = set[asyncio.Task[None]]()
            for line in lines:
                await self._room.acquire()
                under_way.add(group.create_task(self._send(line, monday)))
                if line.number in ahead:
                    group.create_task(self._strike(ahead[line.number]))
            ended.put_nowait(_Week(monday, following, lines, under_way))
        ended.put_nowait(None)

    async def _send(self, line: Line, monday: date) -> None:
        application, answers, number = self._applications[line.case], self.answers, line.number
        if monday >= self._lapses.get(line.case, date.max):
            await self._begun[monday].wait()
        answers.sent[number] = self.now()
        try:
            if line.activity.startswith("W_"):
                item = WorkItem(line.activity.removeprefix("W_"))
                answers.versions[number] = await WORK[line.lifecycle](application, line, item)
            else:
                answers.versions[number] = await COMMANDS[line.activity, line.lifecycle](application, line)
        except Rejected as rejection:
            answers.versions[number] = 0
            answers.rejected[number] = rejection
        finally:
            answers.answered[number] = self.now()
            self._room.release()
            self._untold += 1
            if self._untold == PROGRESS_LINES:
                self.tell()

    def tell(self) -> None:
        """Report the answers that came since the last time."""
        self.progress(self._untold)
        self._untold = 0

    async def _strike(self, incident: Incident) -> None:
        incident.pid = await incident.strike()
        incident.at = self.now()

    async def _end_weeks(self, group: asyncio.TaskGroup, ended: "asyncio.Queue[_Week | None]") -> None:
        """Week by week, when all its answers are in: have its clerks report it, and have what fell due in it done."""
        while (week := await ended.get()) is not None:
            await asyncio.wait(week.under_way)
            by_clerk: dict[str, list[Line]] = {}
            for line in week.lines:
                if line.clerk is not None:
                    by_clerk.setdefault(line.clerk, []).append(line)
            for clerk, theirs in by_clerk.items():
                group.create_task(self._report_week(clerk, week.monday, theirs))
            await self._let_lapse(week.following)
            self._begun[week.following].set()

    async def _let_lapse(self, until: date) -> None:
        """All offers of the last weeks that nobody has answered."""
        if any(self._clock.now < midnight(monday) and monday <= until for monday in self._all_lapses):
            await self._runtime.wait_for(UnansweredOffers, timeout_s=PATIENCE_S)
            await self._clock.advance_to(midnight(until))

    async def _report_week(self, clerk: str, week: date, lines: list[Line]) -> None:
        taken, finished = Counter[WorkItem](), Counter[WorkItem]()
        refused = sum(self.answers.versions[line.number] == 0 for line in lines)
        for line in lines:
            if self.answers.versions[line.number] > 0 and line.lifecycle == "START":
                taken[WorkItem(line.activity.removeprefix("W_"))] += 1
            elif self.answers.versions[line.number] > 0 and line.activity.startswith("W_"):
                finished[WorkItem(line.activity.removeprefix("W_"))] += line.lifecycle == "COMPLETE"
        reports = self.answers.reports.setdefault(clerk, [])
        reference = self._runtime.get(Clerk, clerk, idempotency_key=f"week of {week}", timeout_s=PATIENCE_S)
        async with self._in_turn[clerk]:
            reports.append(await reference.report_week(week, len(lines), refused, dict(taken), dict(+finished)))
