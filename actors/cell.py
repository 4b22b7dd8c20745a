"""One activation: an aggregate in memory, the mailbox in front of it, and the gate behind it.

The life of a cell:

    PASSIVE ──a call arrives──▶ HYDRATING ──▶ LIVE ──idle──▶ GONE
                                    ▲          │
                                    └──────── RECOVERING    a command raised after it emitted, or an append failed:
                                                            forget the tentative state, read the journal again

**The mailbox.** Calls run one at a time, in order of arrival. One that awaits (an async command, a look-up of a
resent command, hydration) holds the others back until it is done.

**The gate.** A command runs on tentative state, ahead of the disk. Its events join the next append; its reply, and
every reply that saw a version not yet durable, is held until that append is. Appends of one cell are numbered; a
held reply names the number it waits for. At most one append of a cell is in flight, so versions cannot overtake.

A crash here loses nothing that was answered: what was held was never told to anybody.
"""

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from holdfast.journal.client import JournalClient
from holdfast.journal.codec import CodecError
from holdfast.journal.errors import (
    DuplicateKey,
    Fenced,
    JournalBusy,
    JournalError,
    JournalUnavailable,
    RecordTooLarge,
    VersionConflict,
)
from holdfast.journal.records import Append, Appended, KeyedReply, NewEvent, Snapshot, StreamId

from .aggregate import Aggregate
from .calls import CALLER, Call, Kind
from .definition import CommandSpec, Definition
from .errors import CallCycle, DeadlineExceeded, KeyReused, NotSerializable, Overloaded, UnknownCommand
from .fingerprint import fingerprint
from .hydrate import hydrate
from .limits import HostLimits
from .snapshots import SnapshotWriter, take
from .unit import Context, Peers, Unit

__all__ = ["Cell", "Phase", "Surroundings"]

log = logging.getLogger(__name__)

UNKNOWN_OUTCOME = (VersionConflict, DuplicateKey, JournalUnavailable, JournalBusy)
"""After these a command may be durable or not: it is sent again, and the journal tells."""


class Phase(enum.Enum):
    """Where a cell is in its life; the module's docstring draws it."""

    PASSIVE = "passive"
    HYDRATING = "hydrating"
    LIVE = "live"
    RECOVERING = "recovering"
    GONE = "gone"


class Surroundings(Protocol):
    """What a cell needs of its host."""

    definition: Definition
    owner: str
    epoch: int
    journal: JournalClient
    limits: HostLimits
    peers: Peers | None
    snapshots: SnapshotWriter
    permits: asyncio.Semaphore
    counters: "Counters"

    def now(self) -> float:
        """The host's clock, in seconds."""
        ...

    def recorded_at(self) -> int:
        """The wall clock, in µs since 1970 UTC."""
        ...

    def pack(self, value: Any) -> Any:
        """Make a value ready for the way to the client; raises `NotSerializable`."""
        ...

    def has_pending(self, cell: "Cell") -> None:
        """The cell has something to append, and nothing in flight."""
        ...

    def was_fenced(self, error: Fenced) -> None:
        """Another incarnation owns the host's name: everything here must stop."""
        ...

    def may_enter(self, cell: "Cell") -> bool:
        """Whether there is room in memory for this cell; if not, `enter` is called when there is."""
        ...

    def became_idle(self, cell: "Cell") -> None:
        """The cell has nothing to do for now."""
        ...

    def left(self, cell: "Cell") -> None:
        """The cell holds nothing any more and may be forgotten."""
        ...


class Counters:
    """What a host has done since it started; every cell of it counts here."""

    __slots__ = (
        "commands",
        "events",
        "expired",
        "failures",
        "hydration_rows",
        "hydrations",
        "last_hydration_rows",
        "passivations",
        "queries",
        "recoveries",
        "replays",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    commands: int
    events: int
    expired: int
    failures: int
    hydration_rows: int
    hydrations: int
    last_hydration_rows: int
    passivations: int
    queries: int
    recoveries: int
    replays: int


class Cell:
    """One aggregate of one host. Everything here runs in the host's event loop."""

    __slots__ = (
        "_activation",
        "_ahead_bytes",
        "_current",
        "_done",
        "_held",
        "_in_flight",
        "_keys",
        "_pending",
        "_sent",
        "_settled",
        "_snapshot",
        "_snapshot_version",
        "_worker",
        "durable",
        "host",
        "instance",
        "leaving",
        "mailbox",
        "name",
        "phase",
        "stream",
        "used_at",
        "version",
    )

    def __init__(self, stream: StreamId, host: Surroundings) -> None:
        self.stream, self.host, self.name = stream, host, str(stream)
        self.phase = Phase.PASSIVE
        self.mailbox: deque[Call] = deque()
        self.instance: Aggregate | None = None
        self.version = 0  # tentative: what commands see
        self.durable = 0  # what the journal holds
        self.used_at = host.now()
        self.leaving: asyncio.Future[None] | None = None  # somebody waits for it to become idle
        self._activation = 0  # counts hydrations: what was looked up before one is stale after it
        self._worker: asyncio.Task[None] | None = None  # what holds the mailbox back
        self._current: Call | None = None  # the call of a running async command
        self._pending: list[NewEvent] = []  # events of finished commands, not yet sent
        self._keys: list[KeyedReply] = []
        self._ahead_bytes = 0  # of pending events
        self._in_flight: Append | None = None
        self._sent = 0  # number of the last append sent
        self._settled = 0  # number of the last append answered
        self._held: deque[tuple[int, Call, Kind, Any]] = deque()
        self._done: dict[tuple[bool, str], tuple[bytes, bytes]] = {}  # command -> reply, fingerprint
        self._snapshot: Snapshot | None = None  # taken, waiting for its version to become durable
        self._snapshot_version = 0

    def __repr__(self) -> str:
        return f"{self.stream.category}<{self.stream.id}@{self.version}>"

    # -- the mailbox ---------------------------------------------------------------------------------------------

    def accept(self, call: Call) -> None:
        """Take a call in. It is answered through `call.resolve`, exactly once, sooner or later."""
        if self.name in call.trace.chain:
            # It would wait for a command that waits for it. Said now: in the mailbox it would never be reached.
            self._refuse(call, CallCycle((*call.trace.chain, self.name)))
        elif len(self.mailbox) >= self.host.limits.mailbox_max:
            self._refuse(call, Overloaded(f"mailbox of {self.name}", self.host.limits.mailbox_max))
        else:
            self.mailbox.append(call)
            if self.phase is Phase.PASSIVE:
                self.phase = Phase.HYDRATING
                if self.host.may_enter(self):
                    self.enter()
            elif self._worker is None:
                self._drain()

    def enter(self) -> None:
        """There is room in memory: hydrate."""
        self._hydrate()

    @property
    def wants_append(self) -> bool:
        """Something is finished and not on its way to the disk, and nothing else is."""
        return self._in_flight is None and bool(self._pending or self._keys)

    @property
    def idle(self) -> bool:
        """Live, with nothing to do, nothing held and nothing on its way to the disk."""
        return self.phase is Phase.LIVE and not (
            self.mailbox or self._worker or self._pending or self._keys or self._in_flight or self._held
        )

    def passivate(self) -> None:
        """Leave memory. Only an idle cell can; its snapshot, if one is wanted, goes out in the background."""
        assert self.idle, f"{self!r} has work to do"
        options = self.host.definition.options
        if options.snapshot_on_passivate and self.version > self._snapshot_version:
            self._take_snapshot()
            self._send_snapshot()
        self.phase, self.instance = Phase.GONE, None
        self.host.counters.passivations += 1

    def abandon(self) -> None:
        """The host was fenced: answer everybody at once that this is not the place any more."""
        self.phase = Phase.GONE
        self._tell_leaving()
        self._forget_tentative(lambda call: (Kind.MOVED, True))
        self._empty_mailbox(lambda call: (Kind.MOVED, call.maybe_executed))

    def _drain(self) -> None:
        self.used_at = self.host.now()
        while self.mailbox and self._worker is None and self.phase is Phase.LIVE:
            if self._ahead_bytes > self.host.limits.ahead_bytes_max:
                return  # the disk is behind; its next answer resumes here
            self._execute(self.mailbox.popleft())
        if self.idle:
            self._tell_leaving()
            self.host.became_idle(self)

    def _execute(self, call: Call) -> None:
        if call.deadline <= self.host.now():
            # Its caller has gone. Not starting it is the one thing that is certainly what they were told.
            self.host.counters.expired += 1
            self._refuse(call, DeadlineExceeded(f"{self.name}.{call.method}", call.timeout_s, "not sent"))
            return
        if (call.keyed or call.maybe_executed) and not self._is_new(call):
            return
        command = self.host.definition.commands.get(call.method)
        if command is None:
            self._refuse(call, UnknownCommand(self.host.definition.category, call.method))
            return
        assert self.instance is not None, "a live cell has an instance"
        unit = Unit(self.host.definition, self.instance, command, self._context(call), self.host.peers)
        try:
            command.check(call.args, call.kwargs)
            result = unit.run(call.args, call.kwargs)
        except BaseException as error:  # SystemExit too: one caller's command must not end the others' host
            self._failed(call, unit, error)
        else:
            if command.is_async:
                self._start(self._finish(call, unit, result))
            else:
                self._completed(call, unit, result)

    async def _finish(self, call: Call, unit: Unit, coroutine: Coroutine[Any, Any, Any]) -> None:
        """An async command: the mailbox waits for it, until it returns or its caller's deadline has passed."""
        self._current = call
        CALLER.set(unit)  # this task's own context: references that the command holds know their caller
        try:
            async with asyncio.timeout(max(0.0, call.deadline - self.host.now())):
                result = await unit.awaiting(coroutine)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self._current is None:
                raise  # dropped together with the tentative state it ran on; its call was answered
            self._current = None
            if isinstance(error, TimeoutError) and call.deadline <= self.host.now():
                error = DeadlineExceeded(f"{self.name}.{call.method}", call.timeout_s, "unknown")
            self._failed(call, unit, error)
        else:
            self._current = None
            self._completed(call, unit, result)

    def _context(self, call: Call) -> Context:
        trace = call.trace
        return Context(
            command_id=call.command_id,
            correlation_id=trace.correlation_id or call.command_id,
            causation_id=trace.causation_id,
            metadata=trace.metadata,
            recorded_at=self.host.recorded_at(),
            chain=(*trace.chain, self.name),
            keyed=call.keyed,
            maybe_executed=call.maybe_executed,
        )

    # -- effectively once ----------------------------------------------------------------------------------------

    def _is_new(self, call: Call) -> bool:
        """Whether a call that may have been executed before has not been. If it was, it is answered as it was
        then; if that cannot be told yet, the journal is asked and the mailbox waits."""
        if call.keyed and not call.fingerprint:
            call.fingerprint = fingerprint(call.method, call.args, call.kwargs)
        earlier = self._done.get((call.keyed, call.command_id))
        if earlier is None:
            if call.checked != self._activation:
                self.mailbox.appendleft(call)
                self._start(self._look_up())
                return False
            if call.known is None:
                return True
            earlier = (call.known.reply, call.known.fingerprint)
        self.host.counters.replays += 1
        reply, recorded_as = earlier
        if call.keyed and recorded_as != call.fingerprint:
            self._hold(call, Kind.ERROR, self.host.pack(KeyReused(self.name, call.command_id)))
        else:
            self._hold(call, Kind.DONE, reply)
        return False

    async def _look_up(self) -> None:
        """Ask the journal about every waiting call that may have been executed, in one go."""
        calls = [c for c in self.mailbox if (c.keyed or c.maybe_executed) and c.checked != self._activation]
        ids = [c.command_id for c in calls if not c.keyed]
        keys = [c.command_id for c in calls if c.keyed]
        journal, activation = self.host.journal, self._activation
        try:
            window = self.host.limits.command_window
            replies = await journal.find_replies(self.stream, ids, window=window) if ids else {}
            keyed = await journal.find_keyed(self.stream, keys) if keys else {}
        except JournalError as error:
            log.warning("%r: cannot tell which commands are done: %s", self, error)
            self._empty_mailbox(lambda call: (Kind.AGAIN, call.maybe_executed))
            return
        for call in calls:
            call.known = (keyed if call.keyed else replies).get(call.command_id)
            call.checked = activation

    def _remember(self, call: Call, reply: bytes) -> None:
        """Keep what this activation did at hand: the journal cannot tell yet about what is on its way there.

        The bound is above what the mailbox holds, so a copy that waits there always finds its original here.
        """
        self._done[call.keyed, call.command_id] = (reply, call.fingerprint)
        if len(self._done) > 2 * self.host.limits.mailbox_max:
            del self._done[next(iter(self._done))]

    # -- outcomes ------------------------------------------------------------------------------------------------

    def _completed(self, call: Call, unit: Unit, result: Any) -> None:
        command, emitted = unit.command, unit.emitted
        try:
            if command.is_query:
                self.host.counters.queries += 1
                packed = self.host.pack(result)
                if call.trace.linearizable:
                    self._start(self._confirm(call, packed))
                else:
                    self._hold(call, Kind.ANSWER, packed)
                return
            reply = self._encode_reply(command, result)
            events = self._events(call, unit, reply)
        except Exception as error:
            self._failed(call, unit, error)
            return
        self.host.counters.commands += 1
        if events or call.keyed:
            self.host.counters.events += len(events)
            self._pending += events
            self.version += len(events)
            self._ahead_bytes += sum(len(e.payload) for e in events)
            if call.keyed:
                self._keys.append(
                    KeyedReply(
                        key=call.command_id, fingerprint=call.fingerprint, version=self.version, reply=reply
                    )
                )
            self._remember(call, reply)
            if self._in_flight is None:
                self.host.has_pending(self)
        self._hold(call, Kind.DONE, reply)
        if emitted and self.version - self._snapshot_version >= self.host.definition.options.snapshot_every:
            self._take_snapshot()

    def _encode_reply(self, command: CommandSpec, result: Any) -> bytes:
        try:
            reply = command.reply.encode(result)
        except CodecError as error:
            raise NotSerializable(f"reply of {self.host.definition.category}.{command.name}", str(error)) from None
        if len(reply) > self.host.limits.reply_bytes_max:
            what = f"reply of {self.host.definition.category}.{command.name}"
            raise RecordTooLarge(what, len(reply), self.host.limits.reply_bytes_max)
        return reply

    def _events(self, call: Call, unit: Unit, reply: bytes) -> list[NewEvent]:
        """The command's events as the journal keeps them. The last one carries the reply of a generated id."""
        metadata, context, limit = unit.context.encoded, unit.context, self.host.limits.event_bytes_max
        last = len(unit.emitted) - 1
        events: list[NewEvent] = []
        for index, (spec, payload) in enumerate(unit.emitted):
            if len(payload) > limit:
                raise RecordTooLarge(f"event {spec.name} of {self.name}", len(payload), limit)
            events.append(
                NewEvent(
                    type=spec.name,
                    payload=payload,
                    command_id=call.command_id,
                    recorded_at=context.recorded_at,
                    metadata=metadata,
                    reply=reply if index == last and not call.keyed else None,
                )
            )
        return events

    def _failed(self, call: Call, unit: Unit, error: BaseException) -> None:
        """The command raised. If it had emitted, the state it leaves behind never was: read the journal again."""
        self.host.counters.failures += 1
        self._hold(call, Kind.ERROR, self.host.pack(error))
        if unit.emitted:
            self._recover()

    async def _confirm(self, call: Call, packed: Any) -> None:
        """A linearizable query: the journal says that nobody has taken over since."""
        self._current = call
        try:
            await self.host.journal.confirm(self.host.owner, self.host.epoch)
            self._current = None
        except Fenced as error:
            self.host.was_fenced(error)  # which answers this call with the others
        except JournalError as error:
            self._current = None
            self._hold(call, Kind.ERROR, self.host.pack(error))
        else:
            self._hold(call, Kind.ANSWER, packed)

    def _refuse(self, call: Call, error: Exception) -> None:
        call.resolve(call, Kind.ERROR, self.host.pack(error))

    # -- the gate ------------------------------------------------------------------------------------------------

    def _hold(self, call: Call, kind: Kind, value: Any) -> None:
        """Answer now if all that this call could have seen is durable; else when it is."""
        if self._pending or self._keys:
            waits_for = self._sent + 1
        elif self._in_flight is not None:
            waits_for = self._sent
        else:
            call.resolve(call, kind, value)
            return
        self._held.append((waits_for, call, kind, value))

    def take_append(self) -> tuple[Append, int]:
        """Everything finished since the last append, as the next one, and its size in bytes."""
        assert self._in_flight is None, f"{self!r} already has an append in flight"
        append = Append(
            stream=self.stream,
            owner=self.host.owner,
            epoch=self.host.epoch,
            expected_version=self.durable,
            events=tuple(self._pending),
            keys=tuple(self._keys),
        )
        size = self._ahead_bytes
        self._pending, self._keys, self._ahead_bytes = [], [], 0
        self._in_flight = append
        self._sent += 1
        return append, size

    def appended(self, future: "asyncio.Future[Appended]") -> None:
        """The journal has answered the append in flight."""
        if self._in_flight is None or self.phase is Phase.GONE:
            return  # abandoned meanwhile
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Fenced):
            self.host.was_fenced(error)
            return
        if error is not None or future.cancelled():
            self._drop(error or JournalUnavailable("the request was cancelled"))
            return
        append, self._in_flight = self._in_flight, None
        self.durable = append.expected_version + len(append.events)
        assert future.result().version >= self.durable, f"{self!r}: {future.result()} after {self.durable}"
        self._settled = self._sent
        while self._held and self._held[0][0] <= self._settled:
            _, call, kind, value = self._held.popleft()
            call.resolve(call, kind, value)
        self._send_snapshot()
        if self._pending or self._keys:
            self.host.has_pending(self)
        elif self.phase is Phase.RECOVERING:
            self._hydrate()
        if self._worker is None:
            self._drain()

    # -- when things go wrong ------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Leave the tentative state. What earlier commands have pending is good and still goes to the disk."""
        self.phase = Phase.RECOVERING
        self.host.counters.recoveries += 1
        self._snapshot = None
        if not (self._pending or self._keys or self._in_flight):
            self._hydrate()

    def _drop(self, error: BaseException) -> None:
        """An append was not acknowledged: nothing that depends on it may be told to anybody."""
        log.warning("%r: an append failed, reading the journal again: %s", self, error)
        if isinstance(error, UNKNOWN_OUTCOME) or not isinstance(error, Exception):
            self._forget_tentative(lambda call: (Kind.AGAIN, True))
        else:  # refused as a whole: these commands did not happen, and their callers hear why
            packed = self.host.pack(error)
            self._forget_tentative(lambda call: (Kind.ERROR, packed))
        self.phase = Phase.RECOVERING
        self.host.counters.recoveries += 1
        self._hydrate()

    def _forget_tentative(self, outcome: Any) -> None:
        """Drop everything that is not durable. Commands held get `outcome`; what only looked is asked again."""
        self._pending, self._keys, self._ahead_bytes = [], [], 0
        self._in_flight, self._settled, self._snapshot = None, self._sent, None
        self._done.clear()
        held, self._held = self._held, deque()
        for _, call, kind, _ in held:
            call.resolve(call, *(outcome(call) if kind is Kind.DONE else (Kind.AGAIN, call.maybe_executed)))
        if self._current is not None:
            call, self._current = self._current, None
            call.resolve(call, Kind.AGAIN, True)
        if self._worker is not None:
            self._worker.cancel()

    def _empty_mailbox(self, outcome: Any) -> None:
        waiting, self.mailbox = self.mailbox, deque()
        for call in waiting:
            call.resolve(call, *outcome(call))

    # -- hydration and what else holds the mailbox back ----------------------------------------------------------

    def _hydrate(self) -> None:
        if self._worker is not None:  # a cancelled command is still unwinding: go on when it is gone
            self._worker.add_done_callback(lambda _: self._hydrate() if self.phase is Phase.RECOVERING else None)
            return
        self.phase = Phase.HYDRATING
        self._start(self._load())

    async def _load(self) -> None:
        host = self.host
        try:
            async with host.permits:
                loaded = await hydrate(
                    host.definition,
                    self.stream,
                    host.journal,
                    owner=host.owner,
                    epoch=host.epoch,
                    page=host.limits.page,
                )
        except Fenced as error:
            host.was_fenced(error)
        except JournalUnavailable as error:
            log.warning("%r: cannot hydrate: %s", self, error)
            self._give_up(lambda call: (Kind.AGAIN, call.maybe_executed))
        except Exception as error:
            log.warning("%r: cannot hydrate: %s", self, error)
            packed = host.pack(error)
            self._give_up(lambda call: (Kind.ERROR, packed))
        else:
            self.instance, self.version = loaded.instance, loaded.version
            self.durable, self._snapshot_version = loaded.version, loaded.snapshot_version
            self._activation += 1
            self.phase = Phase.LIVE
            host.counters.hydrations += 1
            host.counters.hydration_rows += loaded.rows_read
            host.counters.last_hydration_rows = loaded.rows_read

    def _give_up(self, outcome: Any) -> None:
        """It cannot be brought into memory now. The next call tries again from the start."""
        self.phase, self.instance = Phase.GONE, None
        self._tell_leaving()
        self._empty_mailbox(outcome)
        self.host.left(self)

    def _tell_leaving(self) -> None:
        leaving, self.leaving = self.leaving, None
        if leaving is not None and not leaving.done():
            leaving.set_result(None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._worker is None, f"{self!r} is already busy"
        self._worker = asyncio.get_running_loop().create_task(work)
        self._worker.add_done_callback(self._done_working)

    def _done_working(self, task: "asyncio.Task[None]") -> None:
        self._worker = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%r: a bug in the cell", self, exc_info=error)
            if self.phase is not Phase.GONE:
                self._drop(error)
        elif self.phase is Phase.LIVE:
            self._drain()

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        assert self.instance is not None, "only a live aggregate has a state to keep"
        self._snapshot_version = self.version  # also when it fails: the next try is a whole interval away
        self._snapshot = take(self.host.definition, self.stream, self.instance, self.version)

    def _send_snapshot(self) -> None:
        if self._snapshot is not None and self._snapshot.version <= self.durable:
            self.host.snapshots.put(self._snapshot)
            self._snapshot = None
