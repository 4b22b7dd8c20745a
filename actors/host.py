"""A host: the cells of one aggregate type that live in one process, under one name and one epoch.

It takes calls in from its clients' sessions, finds or makes the cell of each, carries what the cells have to append
to the journal together, and sends idle cells away. A dedicated host is a host with one cell.

Before this: the transport delivered a batch of calls. After this: their answers go back the same way.
"""

import asyncio
import dataclasses
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import Any

import msgspec

from holdfast.journal import tracing
from holdfast.journal.errors import Fenced, JournalError
from holdfast.journal.journal import Journal
from holdfast.journal.keys import DataSubject, stream_of
from holdfast.journal.records import StreamId
from holdfast.journal.sealing import SealingJournal
from holdfast.journal.subject import Log, Subject

from .calls import Answer, Call, CallWire, Kind
from .cell import Cell, Phase
from .clock import MACHINE, Clock
from .counters import Counters
from .definition import Definition
from .errors import CallCycle, Overloaded
from .limits import HostLimits
from .meters import HostMeters
from .permits import Permits
from .session import Session
from .snapshots import SnapshotWriter
from .timers import RING, TimerPlan, Timers
from .unit import Peers, Unit

__all__ = ["Host", "HostStatistics"]

log = Log(__name__)

TIMER_TIMEOUT_S = 30.0
"""Seconds that a command which a timer sends may take, waiting included."""

SWEPT_MAX = 500
"""Aggregates that are sent out of memory in one turn of the event loop."""


class HostStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one host holds now (`live`, `calls`, `sessions`) and has done since it started (the rest)."""

    name: str
    epoch: int
    live: int
    calls: int
    sessions: int
    idle_s: float
    commands: int
    queries: int
    events: int
    failures: int
    expired: int
    replays: int
    recoveries: int
    hydrations: int
    hydration_rows: int
    last_hydration_rows: int
    passivations: int
    snapshots: int
    appends: int
    append_batches: int
    rejections: int = 0
    slow_commands: int = 0


class Host:
    """Serves the aggregates of one definition under one owner name. `start` before use; one event loop."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        definition: Definition,
        journal: Journal,
        *,
        peers: Peers | None = None,
        limits: HostLimits | None = None,
        pack: Callable[[Any], Any] = lambda value: value,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] | None = None,
        clock: Clock = MACHINE,
        on_gone: Callable[[], None] = lambda: None,
        exits_when_empty: bool = False,
        meters: HostMeters | None = None,
    ) -> None:
        """`incarnation`: unique to this process's life of the name. `pack`: makes values ready for the way.
        `clock`: what timers go by, and the time of commands unless `wall`, in ns since 1970 UTC, says another.
        `on_gone`: called once, when this host must not serve any more. `exits_when_empty`: it is there for a single
        aggregate, and ends when that leaves memory. `meters`: where it notes how long commands take; None: nowhere."""
        self.owner, self.incarnation, self.definition, self.journal = name, incarnation, definition, journal
        self.epoch = 0
        self.peers, self.limits, self.pack = peers, limits or HostLimits(), pack
        self.now, self._on_gone = now, on_gone
        self._now_us = clock.now_us if wall is None else lambda: wall() // 1000
        self._timers = Timers(clock, self._ring)
        self._rings = itertools.count(1)
        self.counters, self.meters = Counters(), meters
        self.permits = Permits(self.limits.hydrations_max)
        self.snapshots = SnapshotWriter(
            journal, keep=definition.options.snapshots_kept, bytes_max=self.limits.snapshot_bytes_max
        )
        self._exits_when_empty = exits_when_empty
        self._idle_s = definition.options.idle_s or self.limits.idle_s
        self._cells: OrderedDict[str, Cell] = OrderedDict()  # least recently used first
        self._sessions: dict[str, Session] = {}
        self._live = 0  # cells in memory, or on their way there
        self._entrance: dict[Cell, None] = {}  # cells that wait for a place, in order; if any, then none is idle
        self._leaving: set[Cell] = set()  # cells in memory that will leave
        self._used_at = now()
        self._appending: dict[Cell, None] = {}  # cells with something to append, in order
        self._refusal: tuple[str, Any] = "", None  # the last thing that was full, and the error as it travels
        self._closing = False  # no new calls, what is under way finishes
        self._gone = False  # nothing at all
        self.awaiting: dict[Cell, Unit] = {}  # what runs as a task, by its cell
        self._ending: asyncio.Task[None] | None = None  # kept, or it would be collected
        self._sweeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<host {self.owner} epoch {self.epoch} with {self._live} live>"

    async def start(self) -> None:
        """Claim the name at the journal: from now on every earlier incarnation is fenced. One that is fenced itself
        before it has started, by a newer claim that came to a partition first, serves nobody."""
        try:
            self.epoch = await self.journal.claim(self.owner, self.incarnation)
        except Fenced as error:
            self.was_fenced(error)
            return
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    @property
    def subject(self) -> Subject:
        """What the log calls it."""
        return Subject("host", self.owner, epoch=self.epoch, live=self._live)

    @property
    def gone(self) -> bool:
        """It serves nobody any more."""
        return self._gone

    @property
    def live_count(self) -> int:
        """Aggregates in memory, or on their way there."""
        return self._live

    @property
    def unanswered(self) -> int:
        """Calls that it has taken in and not answered."""
        return sum(session.unanswered for session in self._sessions.values())

    def holds(self, id: str) -> bool:
        """Whether the aggregate is here."""
        return id in self._cells

    def was_slow(self) -> None:
        """One more command that ran longer than its limit."""
        self.counters.slow_commands += 1

    async def ping(self) -> None:
        """Answers if the host is there and its loop turns."""

    # -- calls ---------------------------------------------------------------------------------------------------

    async def exchange(self, session_id: str, number: int, calls: Sequence[CallWire]) -> list[Answer]:
        """Take in batch `number` of a session; return answers of that session, of this batch or earlier ones."""
        session = self._sessions.get(session_id)
        if session is not None and session.has_taken(number):
            return []  # a second copy: the first one's answers are on their way, also if this host has left since
        if self._serves_none_of(calls):
            return _moved(calls)
        if session is None:
            session = self._sessions[session_id] = Session(self.limits.linger_s, self.now)
        is_its_turn = await session.turn(number)
        if session.has_taken(number):
            return []
        if self._serves_none_of(calls):
            return _moved(calls)
        if not is_its_turn:
            return []
        room = self.limits.inbox_max - self.unanswered
        batch, now = session.opened(len(calls)), self.now()
        self._used_at = now
        for wire in calls:
            call = Call(wire, now, batch.resolve)
            if tracing.tracer is not None:
                call.be_traced(self.definition.category)
            if room > 0:
                self._deliver(call)
                room -= 1
            else:
                self.refuse_overload(call, f"inbox of {self.owner}", self.limits.inbox_max)
        return await session.answers(batch)

    async def collect(self, session_id: str) -> list[Answer] | None:
        """Answers that became ready after their batch was answered. None: there is no such session (any more)."""
        session = self._sessions.get(session_id)
        return None if session is None else await session.answers()

    def _deliver(self, call: Call) -> None:
        """Hand a call to its cell, or answer it."""
        chain = call.trace.chain
        if self._gone or (self._closing and not self._is_awaited_here(chain)):
            call.resolve(call, Kind.MOVED, call.maybe_executed)
            return
        if chain and (name := f"{self.definition.category}/{call.id}") in chain:
            # It would wait for a command that waits for it. Said now: in the mailbox it would never be reached.
            call.resolve(call, Kind.ERROR, self.pack(CallCycle((*chain, name))))
            return
        cell = self._cells.get(call.id)
        if cell is None:
            cell = self._cells[call.id] = Cell(StreamId(self.definition.category, call.id), self)
        self._touch(cell)
        cell.accept(call)
        if chain and cell in self._entrance:
            # A command waits for it, maybe one that holds the place in memory that it would have to wait for.
            self._admit(cell)

    def refuse_overload(self, call: Call, what: str, limit: int) -> None:
        """There is no room for a call. One that may have been executed before is not told that nothing was done:
        it has to come again, until it can be looked up."""
        if call.maybe_executed:
            call.resolve(call, Kind.AGAIN, True)
            return
        if self._refusal[0] != what:  # one packs as long as a command takes, and under overload there are very many
            self._refusal = what, self.pack(Overloaded(what, limit))
        packed = self._refusal[1]
        # Where nothing is packed, each caller raises one of its own: a traceback grows wherever an exception is raised.
        call.resolve(call, Kind.ERROR, Overloaded(what, limit) if isinstance(packed, Overloaded) else packed)

    def _ring(self, cell: Cell, plan: TimerPlan, answered: Callable[[], None]) -> None:
        """A timer of a live cell is due: its call stands in the mailbox like any other."""

        def resolve(call: Call, kind: Kind, value: Any) -> None:
            answered()
            if kind is not Kind.DONE:
                log.info(cell.subject, "the command of timer %r was not done: %s", plan.name, kind.name)

        command_id = f"{self.incarnation}-timer-{next(self._rings)}"
        args = (plan.name, plan.command, plan.args, plan.kwargs)
        wire: CallWire = (0, cell.stream.id, RING, args, {}, command_id, False, False, TIMER_TIMEOUT_S, None)
        self._deliver(Call(wire, self.now(), resolve))

    def _serves_none_of(self, calls: Sequence[CallWire]) -> bool:
        if not self._closing:
            return self._gone
        return self._gone or not any(trace and self._is_awaited_here(trace.chain) for *_, trace in calls)

    def _is_awaited_here(self, chain: tuple[str, ...]) -> bool:
        """Whether a command that is under way in this host waits for a call with that chain."""
        category = f"{self.definition.category}/"
        return any(n.startswith(category) and n.removeprefix(category) in self._cells for n in chain)

    def _touch(self, cell: Cell) -> None:
        cell.used_at = self.now()
        self._cells.move_to_end(cell.stream.id)

    # -- what cells ask of their surroundings --------------------------------------------------------------------

    def recorded_at(self) -> int:
        """The wall clock, in µs since 1970 UTC."""
        return self._now_us()

    def set_timers(self, cell: Cell, wishes: Mapping[str, TimerPlan | None]) -> None:
        """A command is done that has set, or cancelled (None), these timers."""
        self._timers.take(cell, wishes)

    def forget_timers(self, cell: Cell) -> None:
        """The state that set this cell's timers never was."""
        self._timers.forget(cell)

    def has_pending(self, cell: Cell) -> None:
        """Append for this cell at the end of this turn of the loop, together with all others."""
        if not self._appending:
            asyncio.get_running_loop().call_soon(self._append)
        self._appending[cell] = None

    def was_fenced(self, error: Fenced) -> None:
        """Another incarnation owns this name: answer everybody that this is not the place, and end."""
        if not self._gone:
            log.warning(self.subject, "fenced: %s", error)
            self._leave()

    def wants_to_enter(self, cell: Cell) -> None:
        """A place in memory for this cell: now, or when another one has left. It is told to `enter`."""
        if not self._entrance and self._live < self.limits.live_max:
            self._live += 1
            cell.enter()
            return
        self._entrance[cell] = None
        if len(self._entrance) == 1 and self._live >= self.limits.live_max:
            idle = next((c for c in self._cells.values() if c.idle), None)  # least recently used first
            if idle is not None:
                idle.leave()  # at once, which lets the other one in
        self._admit_waiting()

    def wants_room(self) -> bool:
        """Others wait for a place in memory, more than have been promised one."""
        return len(self._entrance) > len(self._leaving)

    def will_leave(self, cell: Cell) -> None:
        """The cell takes no more calls, and leaves when those that it has are done."""
        if cell.phase is not Phase.GONE and cell not in self._entrance:
            self._leaving.add(cell)

    def became_idle(self, cell: Cell) -> None:
        """The cell has nothing to do for now."""
        self._touch(cell)
        if self._entrance:
            cell.leave()

    def left(self, cell: Cell, later: list[Call]) -> None:
        """The cell holds nothing any more and is forgotten; calls that came too late for it want a successor."""
        del self._cells[cell.stream.id]
        self._timers.forget(cell)
        self._leaving.discard(cell)
        self._live -= 1
        self._admit_waiting()
        for call in later:
            self._deliver(call)

    def _admit_waiting(self) -> None:
        while self._entrance and self._live < self.limits.live_max:
            cell = next(iter(self._entrance))
            if self._is_wanted(cell):
                self._admit(cell)

    def _is_wanted(self, cell: Cell) -> bool:
        """Whether anybody still waits for a cell that has no place yet; if not, it is forgotten."""
        if not cell.expire():
            del self._entrance[cell], self._cells[cell.stream.id]
        return cell in self._entrance

    def _admit(self, cell: Cell) -> None:
        del self._entrance[cell]
        self._live += 1
        if cell.leaving:
            self._leaving.add(cell)
        cell.enter()

    def _append(self) -> None:
        cells, self._appending = self._appending, {}
        for cell in cells:
            if cell.phase is not Phase.GONE and cell.gate.wants_append:
                append, size = cell.take_append()
                answered = partial(cell.appended, append.expected_version)
                try:
                    self.journal.hand_over(append, size, answered)
                except JournalError as error:  # its queue is full
                    asyncio.get_running_loop().call_soon(answered, error)

    # -- leaving memory ------------------------------------------------------------------------------------------

    async def passivate(self, id: str) -> bool:
        """Send one aggregate out of memory as soon as it has done what it was asked until now; its snapshot is
        written when this returns. False: it was not in memory, nor about to be."""
        cell = self._cells.get(id)
        if cell is None:
            return False
        await self._departure(cell)
        await self._end_if_empty()
        return True

    async def forget(self, kind: str, id: str, streams: Sequence[str]) -> int:
        """A data subject was forgotten: have no key of it at hand any more, and send the aggregates of these streams
        out of memory, without a snapshot. Returns how many were there."""
        ids = [stream.id for stream in map(stream_of, streams) if stream.category == self.definition.category]
        if isinstance(self.journal, SealingJournal):
            self.journal.let_go(DataSubject(kind, id), [StreamId(self.definition.category, each) for each in ids])
        return sum(await asyncio.gather(*map(self.passivate, ids)))

    async def retire(self) -> None:
        """Finish what is under way, take no more, write the snapshots, and end: a successor takes over. Calls that
        have not started are sent there, except those that a command which is under way here waits for."""
        self._closing = True
        for cell in list(self._cells.values()):
            cell.turn_away(lambda call: self._is_awaited_here(call.trace.chain))
            if cell not in self._entrance or self._is_wanted(cell):
                cell.leave()
        while self._cells:
            await self._departure(next(iter(self._cells.values())))
        await self.snapshots.drain()
        if not self._gone:
            self._leave()

    async def _departure(self, cell: Cell) -> None:
        cell.leave()
        if cell.phase is not Phase.GONE:
            if cell.departure is None:
                cell.departure = asyncio.get_running_loop().create_future()
            await asyncio.shield(cell.departure)

    async def _end_if_empty(self) -> None:
        """Write the snapshots; then a host that is there for a single aggregate ends, unless that has come back."""
        await self.snapshots.drain()
        if self._exits_when_empty and not self._cells and not self._gone:
            self._leave()

    async def _sweep(self) -> None:
        every_s = max(0.05, min(self._idle_s, self.limits.session_idle_s) / 4)
        while not self._gone:
            await asyncio.sleep(every_s)
            try:
                more = True
                while more:
                    more = self.sweep()
                    await asyncio.sleep(0)  # others have a turn in between
            except Exception:  # the next one must come all the same
                log.error(self.subject, "a bug in the sweep", exc_info=True)

    def sweep(self) -> bool:
        """Every so often: passivate what has been idle for long, drop sessions whose client is gone. Looks at no cell
        that was used since, and sends no more than `SWEPT_MAX` away: True if it may not be done."""
        idle_since = self.now() - self._idle_s
        long_unused = takewhile(lambda cell: cell.used_at <= idle_since, self._cells.values())
        swept = list(islice((cell for cell in long_unused if cell.idle), SWEPT_MAX))
        for cell in swept:
            cell.leave()
        for id, session in list(self._sessions.items()):
            if session.expired(self.limits.session_idle_s):
                session.close()
                del self._sessions[id]
        if self._exits_when_empty and not self._cells and self._used_at <= idle_since:
            self._ending = asyncio.get_running_loop().create_task(self._end_if_empty())
        return len(swept) == SWEPT_MAX

    def _leave(self) -> None:
        self._gone = True
        cells = list(self._cells.values())
        self._cells.clear()
        self._entrance.clear()
        self._leaving.clear()
        self._live = 0
        self._timers.close()
        self.snapshots.close()
        for cell in cells:
            cell.abandon()
        for session in self._sessions.values():
            session.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._on_gone()

    # -- sight ---------------------------------------------------------------------------------------------------

    async def statistics(self) -> HostStatistics:
        """What it holds and has done."""
        return HostStatistics(
            name=self.owner,
            epoch=self.epoch,
            live=self._live,
            calls=self.unanswered,
            sessions=len(self._sessions),
            idle_s=self.now() - self._used_at,
            snapshots=self.snapshots.written,
            appends=self.journal.appends_sent,
            append_batches=self.journal.append_batches,
            **dataclasses.asdict(self.counters),
        )

    async def live(self) -> list[str]:
        """The ids in memory, least recently used first."""
        return [id for id, cell in self._cells.items() if cell not in self._entrance]


def _moved(calls: Sequence[CallWire]) -> list[Answer]:
    return [(call[0], int(Kind.MOVED), call[7]) for call in calls]
