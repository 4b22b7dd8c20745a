"""A host: the cells of one aggregate type that live in one process, under one name and one epoch.

It takes calls in from its clients' sessions, finds or makes the cell of each, carries what the cells have to append
to the journal together, and sends idle cells away. A dedicated host is a host with one cell.

Before this: the transport delivered a batch of calls. After this: their answers go back the same way.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import Fenced
from holdfast.journal.records import StreamId

from .calls import Answer, Call, CallWire, Kind
from .cell import Cell, Counters, Phase
from .definition import Definition
from .errors import Overloaded
from .limits import HostLimits
from .session import Session
from .snapshots import SnapshotWriter
from .unit import Peers

__all__ = ["Host", "HostStatistics"]

log = logging.getLogger(__name__)


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


class Host:
    """Serves the aggregates of one definition under one owner name. `start` before use; one event loop."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        definition: Definition,
        journal: JournalClient,
        *,
        peers: Peers | None = None,
        limits: HostLimits | None = None,
        pack: Callable[[Any], Any] = lambda value: value,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
        on_gone: Callable[[], None] = lambda: None,
        exits_when_empty: bool = False,
    ) -> None:
        """`incarnation`: unique to this process's life of the name. `pack`: makes values ready for the way.
        `on_gone`: called once, when this host must not serve any more. `exits_when_empty`: its only aggregate's
        passivation ends it."""
        self.owner, self.incarnation, self.definition, self.journal = name, incarnation, definition, journal
        self.epoch = 0
        self.peers, self.limits, self.pack = peers, limits or HostLimits(), pack
        self.now, self._wall, self._on_gone = now, wall, on_gone
        self.counters = Counters()
        self.permits = asyncio.Semaphore(self.limits.hydrations_max)
        self.snapshots = SnapshotWriter(
            journal, keep=definition.options.snapshots_kept, bytes_max=self.limits.snapshot_bytes_max
        )
        self._exits_when_empty = exits_when_empty
        self._idle_s = definition.options.idle_s or self.limits.idle_s
        self._cells: OrderedDict[str, Cell] = OrderedDict()  # least recently used first
        self._sessions: dict[str, Session] = {}
        self._live = 0  # cells in memory, or on their way there
        self._entrance: deque[Cell] = deque()  # cells that wait for another one to leave
        self._used_at = now()
        self._appending: dict[Cell, None] = {}  # cells with something to append, in order
        self._closing = False  # no new calls, what is under way finishes
        self._gone = False  # nothing at all
        self._sweeper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<host {self.owner} epoch {self.epoch} with {len(self._cells)} live>"

    async def start(self) -> None:
        """Claim the name at the journal: from now on every earlier incarnation is fenced."""
        self.epoch = await self.journal.claim(self.owner, self.incarnation)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def ping(self) -> None:
        """Answers if the host is there and its loop turns."""

    # -- calls ---------------------------------------------------------------------------------------------------

    async def exchange(self, session_id: str, number: int, calls: Sequence[CallWire]) -> list[Answer]:
        """Take in batch `number` of a session; return answers of that session, of this batch or earlier ones."""
        if self._gone or self._closing:
            return [(call[0], int(Kind.MOVED), call[7]) for call in calls]
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = Session(self.limits.linger_s)
        if not await session.turn(number):
            return []  # a second copy: the first one's answers are on their way
        room = self.limits.inbox_max - sum(s.unanswered for s in self._sessions.values())
        batch, now = session.opened(len(calls)), self.now()
        self._used_at = now
        for wire in calls:
            call = Call(wire, now, batch.resolve)
            if room > 0:
                self._cell(call.id).accept(call)
                room -= 1
            else:
                full = Overloaded(f"inbox of {self.owner}", self.limits.inbox_max)
                call.resolve(call, Kind.ERROR, self.pack(full))
        return await session.answers(batch)

    async def collect(self, session_id: str) -> list[Answer] | None:
        """Answers that became ready after their batch was answered. None: there is no such session (any more)."""
        session = self._sessions.get(session_id)
        return None if session is None else await session.answers()

    def _cell(self, id: str) -> Cell:
        cell = self._cells.get(id)
        if cell is None:
            cell = self._cells[id] = Cell(StreamId(self.definition.category, id), self)
        else:
            self._cells.move_to_end(id)
        return cell

    # -- what cells ask of their surroundings --------------------------------------------------------------------

    def recorded_at(self) -> int:
        """The wall clock, in µs since 1970 UTC."""
        return self._wall() // 1000

    def has_pending(self, cell: Cell) -> None:
        """Append for this cell at the end of this turn of the loop, together with all others."""
        if not self._appending:
            asyncio.get_running_loop().call_soon(self._append)
        self._appending[cell] = None

    def was_fenced(self, error: Fenced) -> None:
        """Another incarnation owns this name: answer everybody that this is not the place, and end."""
        if not self._gone:
            log.warning("%r was fenced: %s", self, error)
            self._leave()

    def may_enter(self, cell: Cell) -> bool:
        """A place in memory for this cell. False: it waits at the entrance, and will be told to `enter`."""
        if self._live >= self.limits.live_max:
            idle = next((c for c in self._cells.values() if c.idle), None)  # least recently used first
            if idle is None:
                self._entrance.append(cell)
                return False
            self._passivate(idle)
        self._live += 1
        return True

    def became_idle(self, cell: Cell) -> None:
        """The cell has nothing to do for now. If others wait for a place, it is theirs."""
        if self._entrance and cell.idle:
            self._passivate(cell)

    def left(self, cell: Cell) -> None:
        """The cell holds nothing any more."""
        self._cells.pop(cell.stream.id, None)
        self._live -= 1
        while self._entrance and self._live < self.limits.live_max:
            self._live += 1
            self._entrance.popleft().enter()

    def _append(self) -> None:
        cells, self._appending = self._appending, {}
        for cell in cells:
            if cell.phase is not Phase.GONE and cell.wants_append:
                append, size = cell.take_append()
                self.journal.append(append, size).add_done_callback(cell.appended)

    # -- leaving memory ------------------------------------------------------------------------------------------

    async def passivate(self, id: str) -> bool:
        """Send one aggregate out of memory as soon as it has nothing to do; its snapshot is written when this
        returns. False: it was not live."""
        cell = self._cells.get(id)
        if cell is None:
            return False
        if not cell.idle:
            if cell.leaving is None:
                cell.leaving = asyncio.get_running_loop().create_future()
            await asyncio.shield(cell.leaving)
        if cell.idle and self._cells.get(id) is cell:
            self._passivate(cell)
        await self.snapshots.drain()
        return True

    async def retire(self) -> None:
        """Finish what is under way, take no more, write the snapshots, and end: a successor takes over."""
        self._closing = True
        while self._cells:
            await self.passivate(next(iter(self._cells)))
        await self.snapshots.drain()
        if not self._gone:
            self._leave()

    def _passivate(self, cell: Cell) -> None:
        cell.passivate()
        self.left(cell)
        if self._exits_when_empty and not self._cells:
            asyncio.get_running_loop().create_task(self._end_when_written())

    async def _end_when_written(self) -> None:
        await self.snapshots.drain()
        if not self._cells and not self._gone:  # a call that came meanwhile keeps it
            self._leave()

    async def _sweep(self) -> None:
        """Every so often: passivate what has been idle for long, drop sessions whose client is gone."""
        every_s = max(0.05, min(self._idle_s, self.limits.session_idle_s) / 4)
        while not self._gone:
            await asyncio.sleep(every_s)
            now = self.now()
            for cell in list(self._cells.values()):
                if now - cell.used_at < self._idle_s:
                    break  # the rest was used later
                if cell.idle:
                    self._passivate(cell)
            loop_now = asyncio.get_running_loop().time()
            for id, session in list(self._sessions.items()):
                if session.expired(loop_now, self.limits.session_idle_s):
                    session.close()
                    del self._sessions[id]

    def _leave(self) -> None:
        self._gone = True
        self._entrance.clear()
        for cell in list(self._cells.values()):
            cell.abandon()
        self._cells.clear()
        for session in self._sessions.values():
            session.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._on_gone()

    # -- sight ---------------------------------------------------------------------------------------------------

    async def statistics(self) -> HostStatistics:
        """What it holds and has done."""
        counters = {name: getattr(self.counters, name) for name in Counters.__slots__}
        return HostStatistics(
            name=self.owner,
            epoch=self.epoch,
            live=self._live,
            calls=sum(s.unanswered for s in self._sessions.values()),
            sessions=len(self._sessions),
            idle_s=self.now() - self._used_at,
            snapshots=self.snapshots.written,
            appends=self.journal.appends_sent,
            append_batches=self.journal.append_batches,
            **counters,
        )

    async def live(self) -> list[str]:
        """The ids in memory, least recently used first."""
        return list(self._cells)
