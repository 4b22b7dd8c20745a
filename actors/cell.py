"""One activation: an aggregate in memory, the mailbox in front of it, and the gate behind it.

The life of a cell:

    PASSIVE ──a call arrives──▶ HYDRATING ──▶ LIVE ──asked to leave──▶ GONE     a later call gets a new cell
                                    ▲          │
                                    └──────── RECOVERING    a command raised after it emitted, or an append failed:
                                                            forget the tentative state, read the journal again

**The mailbox.** Calls run one at a time, in order of arrival. One that awaits (an async command, a look-up of a
resent command, hydration) holds the others back until it is done. What holds them back is the *worker*.

**The gate** (`gate.py`). A command runs on tentative state, ahead of the disk; what it answers, and what others
answer that have seen its state, is told when the append that carries its events is durable.

A crash here loses nothing that was answered: what was held was never told to anybody.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeAlias

from holdfast.journal import tracing
from holdfast.journal.codec import CodecError
from holdfast.journal.errors import (
    CorruptRecord,
    Fenced,
    JournalBusy,
    JournalFailed,
    JournalOpenError,
    JournalUnavailable,
    RecordTooLarge,
    Unstorable,
)
from holdfast.journal.journal import Journal
from holdfast.journal.opening import is_sealed
from holdfast.journal.records import Append, Appended, KeyedReply, Load, NewEvent, Snapshot, StoredReply, StreamId
from holdfast.journal.subject import Log, Subject

from .aggregate import Aggregate
from .calls import Call, Kind
from .counters import Counters
from .definition import CommandSpec, Definition
from .errors import (
    CommandAborted,
    DeadlineExceeded,
    KeyReused,
    NotSerializable,
    Rejected,
    ReplyForgotten,
    UnknownCommand,
)
from .fingerprint import fingerprint
from .gate import RECORD_BYTES, Done, OutputGate
from .hydrate import Hydrated
from .limits import HostLimits
from .meters import HostMeters
from .permits import Permits
from .snapshots import SnapshotWriter
from .timers import TimerPlan
from .unit import CALLER, Context, Peers, Unit
from .waking import Waking

__all__ = ["Cell", "Phase", "Surroundings"]

log = Log(__name__)

Outcome: TypeAlias = Callable[[Call], tuple[Kind, Any]]

NOTHING_WRITTEN = (JournalFailed, JournalOpenError, RecordTooLarge, CodecError, CorruptRecord, Unstorable)
"""After these an append certainly did not happen. After any other it may have: the journal tells, when asked."""

LOOK_UP_MAX = 1000


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
    journal: Journal
    limits: HostLimits
    peers: Peers | None
    snapshots: SnapshotWriter
    permits: Permits
    counters: Counters
    meters: HostMeters | None
    awaiting: "dict[Cell, Unit]"

    def now(self) -> float:
        """The host's clock, in seconds."""
        ...

    def recorded_at(self) -> int:
        """The wall clock, in µs since 1970 UTC."""
        ...

    def pack(self, value: Any, /) -> Any:
        """Make a value ready for the way to the client; raises `NotSerializable`."""
        ...

    def refuse_overload(self, call: Call, what: str, limit: int) -> None:
        """Answer a call for which there is no room."""
        ...

    def set_timers(self, cell: "Cell", wishes: "Mapping[str, TimerPlan | None]") -> None:
        """A command is done that has set, or cancelled (None), these timers."""
        ...

    def forget_timers(self, cell: "Cell") -> None:
        """The state that set this cell's timers never was."""
        ...

    def has_pending(self, cell: "Cell") -> None:
        """The cell has something to append, and nothing in flight."""
        ...

    def was_fenced(self, error: Fenced) -> None:
        """Another incarnation owns the host's name: everything here must stop."""
        ...

    def wants_to_enter(self, cell: "Cell") -> None:
        """The cell is told to `enter` as soon as there is room in memory: now, or later."""
        ...

    def wants_room(self) -> bool:
        """Others wait for a place in memory, more than have been promised one."""
        ...

    def will_leave(self, cell: "Cell") -> None:
        """The cell takes no more calls, and leaves when those that it has are done."""
        ...

    def became_idle(self, cell: "Cell") -> None:
        """The cell has nothing to do for now."""
        ...

    def left(self, cell: "Cell", later: list[Call]) -> None:
        """The cell holds nothing any more and is forgotten; calls that came too late for it want a successor."""
        ...


class Cell:
    """One aggregate of one host. Everything here runs in the host's event loop."""

    __slots__ = (
        "_activation",
        "_current",
        "_last_calls",
        "_looked_up",
        "_snapshot",
        "_snapshot_version",
        "_timer",
        "_worker",
        "departure",
        "gate",
        "host",
        "instance",
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
        self.mailbox: list[Call] = []  # mostly empty: a list takes a tenth of a deque's memory
        self.gate = OutputGate()
        self.instance: Aggregate | None = None
        self.version = 0  # tentative: what commands see
        self.used_at = host.now()
        self.departure: asyncio.Future[None] | None = None  # of those who wait for it to leave
        self._last_calls: int | None = None  # leaving: how many of the mailbox are still for this cell
        self._looked_up = 0  # calls of the mailbox that the journal was asked about, or is being asked
        self._activation = object()  # of the state in memory: what was looked up for an earlier one is stale
        self._worker: asyncio.Task[None] | Waking | None = None  # what holds the mailbox back
        self._current: Call | None = None  # the call that the worker carries out, if it is one
        self._timer: asyncio.TimerHandle | None = None  # of that call's deadline
        self._snapshot: Snapshot | None = None  # taken, waiting for its version to become durable
        self._snapshot_version = 0

    def __repr__(self) -> str:
        return f"{self.stream.category}<{self.stream.id}@{self.version}>"

    @property
    def subject(self) -> Subject:
        """What the log calls it."""
        return Subject(self.stream.category, self.stream.id, version=self.version, host=self.host.owner)

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """What carries out its call, if that awaits."""
        return self._worker if isinstance(self._worker, asyncio.Task) else None

    # -- the mailbox ---------------------------------------------------------------------------------------------

    def accept(self, call: Call) -> None:
        """Take a call in. It is answered through `call.resolve`, exactly once, sooner or later."""
        if len(self.mailbox) >= self.host.limits.mailbox_max:
            self.host.refuse_overload(call, f"mailbox of {self.name}", self.host.limits.mailbox_max)
            return
        stays = self._worker is None and self.phase is Phase.LIVE and self._last_calls is None
        if stays and not self.mailbox and self._may_go_on():
            self._execute(call)  # nothing holds it back: it need not wait in the mailbox
            if self.gate.clear or self.host.wants_room():
                self._rest()
            return
        self.mailbox.append(call)
        if self.phase is Phase.PASSIVE:
            self.phase = Phase.HYDRATING
            self.host.wants_to_enter(self)
        elif self._worker is None:
            self._drain()

    def enter(self) -> None:
        """There is room in memory: hydrate."""
        self._hydrate()

    def expire(self) -> bool:
        """Answer those whose deadline has passed while waiting for a place. False: nobody wants it any more."""
        now = self.host.now()
        late = [call for call in self.mailbox if call.deadline <= now]
        self.mailbox = [call for call in self.mailbox if call.deadline > now]
        for call in late:
            self._refuse_late(call)
        if not self.mailbox:
            self.phase = Phase.GONE
            self._tell_departure()
        return bool(self.mailbox)

    @property
    def idle(self) -> bool:
        """Live, with nothing to do, nothing held and nothing on its way to the disk."""
        return not self.mailbox and self._quiet

    @property
    def leaving(self) -> bool:
        """It was asked to leave memory, and will."""
        return self._last_calls is not None

    def leave(self) -> None:
        """Leave memory: as soon as the calls that wait now are done, and what they did is durable. Calls that come
        later are for the successor."""
        self._decide_to_leave()
        if self._worker is None:
            self._drain()

    def turn_away(self, stays: Callable[[Call], bool]) -> None:
        """Answer those in the mailbox that do not stay that this is not the place any more."""
        away = [call for call in self.mailbox if not stays(call)]
        self.mailbox = [call for call in self.mailbox if stays(call)]
        self._looked_up -= sum(call.checked is self._activation for call in away)
        for call in away:
            call.resolve(call, Kind.MOVED, call.maybe_executed)

    def abandon(self) -> None:
        """The host serves no more: answer everybody at once that this is not the place."""
        self.phase, self.instance = Phase.GONE, None
        self._forget_tentative(lambda _: (Kind.MOVED, True), lambda call: (Kind.MOVED, call.maybe_executed))
        self._empty_mailbox(lambda call: (Kind.MOVED, call.maybe_executed))
        self._tell_departure()

    @property
    def _quiet(self) -> bool:
        return self.phase is Phase.LIVE and self._worker is None and self.gate.clear

    def _decide_to_leave(self) -> None:
        if self._last_calls is None:
            self._last_calls = len(self.mailbox)
            self.host.will_leave(self)

    def _drain(self) -> None:
        while self.mailbox and self._worker is None and self.phase is Phase.LIVE and self._may_go_on():
            self._execute(self._next_call())
        self._rest()

    def _may_go_on(self) -> bool:
        """One more call may run. When the disk is behind, its next answer resumes the mailbox."""
        return self._last_calls != 0 and self.gate.pending_bytes <= self.host.limits.ahead_bytes_max

    def _rest(self) -> None:
        """After the last call that can run now: leave if it is time to, or be idle."""
        if self.phase is not Phase.LIVE:
            return
        if self._looked_up == 0:
            self.gate.forget_recent()
        if self._last_calls is None and self.host.wants_room():
            self._decide_to_leave()  # it has had its turn
        if not self._quiet:
            return
        if self._last_calls is not None and (self._last_calls == 0 or not self.mailbox):
            self._passivate()
        elif not self.mailbox:
            self.host.became_idle(self)

    def _next_call(self) -> Call:
        call = self.mailbox.pop(0)
        if self._last_calls is not None:
            self._last_calls -= 1
        if call.checked is self._activation:
            self._looked_up -= 1
        return call

    def _passivate(self) -> None:
        """Leave memory; the snapshot, if one is wanted, goes out in the background."""
        assert self._quiet, f"{self!r} has work to do"
        if self.host.definition.options.snapshot_on_passivate and self.version > self._snapshot_version:
            self._take_snapshot()
            self._send_snapshot()
        self.host.counters.passivations += 1
        self._go()

    def _go(self) -> None:
        """Be gone. Whatever is left in the mailbox is for the successor."""
        later, self.mailbox = self.mailbox, []
        self.phase, self.instance = Phase.GONE, None
        self.host.left(self, later)
        self._tell_departure()

    def _tell_departure(self) -> None:
        departure, self.departure = self.departure, None
        if departure is not None and not departure.done():
            departure.set_result(None)

    # -- one call ------------------------------------------------------------------------------------------------

    def _execute(self, call: Call) -> None:
        if call.deadline <= self.host.now():
            # Its caller has gone. Not starting it is the one thing that is certainly what they were told.
            self._refuse_late(call)
            return
        command = self.host.definition.served.get(call.method)
        is_query = command is not None and command.is_query
        if (call.keyed or call.maybe_executed) and not is_query and not self._is_new(call, command):
            return
        if command is None:
            self._refuse(call, UnknownCommand(self.host.definition.category, call.method))
            return
        assert self.instance is not None, "a live cell has an instance"
        unit = Unit(self.host.definition, self.instance, command, self._context(call), self.host.peers)
        try:
            command.check(call.args, call.kwargs)
            if command.is_async or (is_query and call.trace.linearizable):
                self._begin(call, unit)
                return
            result = unit.run(call.args, call.kwargs)
        except BaseException as error:  # SystemExit too: one caller's command must not end the others' host
            self._failed(call, unit, error)
        else:
            self._completed(call, unit, result)

    def _begin(self, call: Call, unit: Unit) -> None:
        self._current = call
        self.host.awaiting[self] = unit
        loop, remaining_s = asyncio.get_running_loop(), call.deadline - self.host.now()
        self._timer = loop.call_later(remaining_s, self._overdue, call)
        self._start(self._finish(call, unit))

    async def _finish(self, call: Call, unit: Unit) -> None:
        """A call that awaits: an async method, or the confirmation of a linearizable call that emitted nothing. The
        mailbox waits for it, until it is done or its caller's deadline has passed."""
        CALLER.set(unit)  # this task's own context: references that the command holds know their caller
        result: Any = None
        error: BaseException | None = None
        try:
            result = unit.run(call.args, call.kwargs)
            if unit.command.is_async:
                result = await unit.awaiting(result)
            if call.trace.linearizable and not unit.emitted:  # what was emitted finds out by itself
                await self._confirm(call)
        except BaseException as raised:
            if self._current is not call and isinstance(raised, asyncio.CancelledError):
                raise
            error = raised
        if self._current is not call:
            return  # dropped meanwhile, with the state it ran on; its call was answered
        self._end_current()
        self._worker = None
        if error is None:
            self._completed(call, unit, result)
        else:
            self._failed(call, unit, error)
        self._drain()

    async def _confirm(self, call: Call) -> None:
        try:
            await self.host.journal.confirm(self.host.owner, self.host.epoch)
        except Fenced as error:
            self.host.was_fenced(error)  # answers this call with all others
            raise

    def _overdue(self, call: Call) -> None:
        """The caller's deadline has passed. The command is cancelled, but not waited for: should it refuse to end,
        it goes on with an instance that nobody looks at any more, and what it emits there goes nowhere."""
        if self._current is call:
            self._end_current()
            self._release_worker()
            self.host.counters.expired += 1
            late = DeadlineExceeded(f"{self.name}.{call.method}", call.timeout_s, DeadlineExceeded.UNKNOWN)
            self.gate.hold(call, Kind.ERROR, self.host.pack(late))
            if self.host.definition.served[call.method].is_async:
                self._recover()
            else:  # a query that was being confirmed: it has left the state as it was
                self._drain()

    def _end_current(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.host.awaiting.pop(self, None)
        self._current = self._timer = None

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

    def _is_new(self, call: Call, command: CommandSpec | None) -> bool:
        """Whether a call that may have been executed before has not been. If it was, it is answered as it was
        then; if that cannot be told yet, the journal is asked and the mailbox waits."""
        if call.keyed and not call.fingerprint:
            call.fingerprint = _fingerprint(call, command)
        done = self.gate.find(call)
        if done is None:
            if call.checked is not self._activation:
                self._put_back(call)
                self._start(self._look_up())
                return False
            if call.known is None:
                return True
            if is_sealed(call.known.reply):
                self._refuse(call, ReplyForgotten(self.name, call.command_id))
                return False
            done = Done(call.known.reply, call.known.fingerprint)
        self.host.counters.replays += 1
        if call.keyed and done.fingerprint != call.fingerprint:
            self.gate.answer(call, done, Kind.ERROR, self.host.pack(KeyReused(self.name, call.command_id)))
        else:
            self.gate.answer(call, done, Kind.DONE, done.reply)
        return False

    def _put_back(self, call: Call) -> None:
        self.mailbox.insert(0, call)
        if self._last_calls is not None:
            self._last_calls += 1

    async def _look_up(self) -> None:
        """Ask the journal about every waiting call that may have been executed, in one go.

        None of them was asked about before: those that were stood before them. From now until the last of them is
        done the gate remembers what becomes durable, since this look-up may have come too early to see it."""
        assert self._looked_up == 0, f"{self!r}: the mailbox is out of order"
        calls = [c for c in self.mailbox if c.keyed or c.maybe_executed]
        self._looked_up = len(calls)
        try:
            replies = await self._find([c.command_id for c in calls if not c.keyed], keyed=False)
            keyed = await self._find([c.command_id for c in calls if c.keyed], keyed=True)
        except (JournalUnavailable, JournalBusy) as error:
            log.warning(self.subject, "cannot tell which commands are done: %s", error)
            self._empty_mailbox(lambda call: (Kind.AGAIN, call.maybe_executed))
        except Exception as error:
            log.warning(self.subject, "cannot tell which commands are done: %s", error)
            packed, asked = self.host.pack(error), set(calls)
            refused = [c for c in self.mailbox if c in asked]  # not those that were turned away meanwhile
            self.mailbox = [c for c in self.mailbox if c not in asked]
            self._looked_up = 0
            for call in refused:
                call.resolve(call, Kind.ERROR, packed)
        else:
            if any(reply.version > self.version for reply in (*replies.values(), *keyed.values())):
                # An append that nobody answered was written after this state was read. Whoever hears of it now must
                # not be shown the state without it later.
                self._looked_up, self._worker = 0, None
                self._recover()
                return
            for call in calls:
                call.known = (keyed if call.keyed else replies).get(call.command_id)
                call.checked = self._activation
            self._looked_up = sum(c.checked is self._activation for c in self.mailbox)  # some may have been turned away

    async def _find(self, ids: list[str], *, keyed: bool) -> dict[str, StoredReply]:
        journal, window, found = self.host.journal, self.host.limits.command_window, dict[str, StoredReply]()
        for start in range(0, len(ids), LOOK_UP_MAX):
            some = ids[start : start + LOOK_UP_MAX]
            if keyed:
                found |= await journal.find_keyed(self.stream, some)
            else:
                found |= await journal.find_replies(self.stream, some, window=window)
        return found

    # -- outcomes ------------------------------------------------------------------------------------------------

    def _completed(self, call: Call, unit: Unit, result: Any) -> None:
        command = unit.command
        try:
            if command.is_query:
                self.gate.hold(call, Kind.ANSWER, self.host.pack(result))
                self.host.counters.queries += 1
                return
            reply = self._encode_reply(command, result)
            events, size = self._events(call, unit, reply)
        except Exception as error:
            self._failed(call, unit, error)
            return
        host, gate = self.host, self.gate
        host.counters.commands += 1
        if events or call.keyed:
            host.counters.events += len(events)
            self.version += len(events)
            opens = gate.pending is None
            gate.add(call, events, size, self._keyed_reply(call, reply) if call.keyed else None, reply)
            if opens and host.meters is not None and gate.pending is not None:
                gate.pending.since = host.meters.now()
            if tracing.tracer is not None and isinstance(call.resolve, tracing.Served):
                call.resolve.has_run(self.version, len(events))
            if gate.in_flight is None:
                host.has_pending(self)
        gate.hold(call, Kind.DONE, reply)
        if unit.timers is not None:
            host.set_timers(self, unit.timers)
        if events and self.version - self._snapshot_version >= host.definition.options.snapshot_every:
            self._take_snapshot()

    def _encode_reply(self, command: CommandSpec, result: Any) -> bytes:
        limit = self.host.limits.reply_bytes_max
        try:
            reply = command.reply.encode(result)
        except CodecError as error:
            raise NotSerializable(f"reply of {self.host.definition.category}.{command.name}", error.problem) from None
        if len(reply) > limit:
            raise RecordTooLarge(f"reply of {self.host.definition.category}.{command.name}", len(reply), limit)
        return reply

    def _keyed_reply(self, call: Call, reply: bytes) -> KeyedReply:
        return KeyedReply(key=call.command_id, fingerprint=call.fingerprint, version=self.version, reply=reply)

    def _events(self, call: Call, unit: Unit, reply: bytes) -> tuple[list[NewEvent], int]:
        """The command's events as the journal keeps them, and their size in bytes. The last one carries the reply of
        a generated id. Raises `RecordTooLarge` for a command that would be more than the journal takes in one piece."""
        context, limits = unit.context, self.host.limits
        metadata = context.encoded
        if len(metadata) > limits.metadata_bytes_max:
            raise RecordTooLarge(f"metadata of {self.name}.{call.method}", len(metadata), limits.metadata_bytes_max)
        size, left = 0, len(unit.emitted)
        events: list[NewEvent] = []
        for spec, payload in unit.emitted:
            if len(payload) > limits.event_bytes_max:
                raise RecordTooLarge(f"event {spec.name} of {self.name}", len(payload), limits.event_bytes_max)
            size += len(payload) + len(metadata) + RECORD_BYTES
            left -= 1
            events.append(
                NewEvent(
                    type=spec.name,
                    payload=payload,
                    command_id=call.command_id,
                    recorded_at=context.recorded_at,
                    metadata=metadata,
                    reply=None if left or call.keyed else reply,
                )
            )
        if size > limits.command_bytes_max:
            raise RecordTooLarge(f"events of {self.name}.{call.method}", size, limits.command_bytes_max)
        return events, size

    def _failed(self, call: Call, unit: Unit, error: BaseException) -> None:
        """The command raised. If it had emitted, the state it leaves behind never was: read the journal again."""
        self.host.counters.failures += 1
        self.host.counters.rejections += isinstance(error, Rejected)
        if not isinstance(error, Exception):
            error = CommandAborted(f"{self.name}.{call.method}", f"{type(error).__name__}: {error}")
        self.gate.hold(call, Kind.ERROR, self.host.pack(error))
        if unit.emitted:
            self._recover()

    def _refuse(self, call: Call, error: Exception) -> None:
        call.resolve(call, Kind.ERROR, self.host.pack(error))

    def _refuse_late(self, call: Call) -> None:
        self.host.counters.expired += 1
        outcome = DeadlineExceeded.UNKNOWN if call.maybe_executed else DeadlineExceeded.NOT_SENT
        self._refuse(call, DeadlineExceeded(f"{self.name}.{call.method}", call.timeout_s, outcome))

    # -- the disk ------------------------------------------------------------------------------------------------

    def take_append(self) -> tuple[Append, int]:
        """Everything finished since the last append, as the next one, and its size in bytes."""
        return self.gate.take(self.stream, self.host.owner, self.host.epoch)

    def appended(self, expected_version: int, answer: Appended | Exception) -> None:
        """The journal has answered the append that was taken at that version."""
        if self.phase is Phase.GONE or self.gate.in_flight is None:
            return  # abandoned meanwhile
        assert expected_version == self.gate.durable, f"{self!r}: another append is in flight"
        if isinstance(answer, Appended):
            self._settle()
        elif isinstance(answer, Fenced):
            self.host.was_fenced(answer)
        else:
            self._drop(answer)

    def _settle(self) -> None:
        meters, ahead = self.host.meters, self.gate.in_flight
        if meters is not None and ahead is not None:
            meters.settled(ahead.commands, ahead.since)
        if tracing.tracer is not None and ahead is not None:
            tracing.durable(ahead.commands)
        self.gate.settle(remember=self._looked_up > 0 or self._worker is not None)
        if self._snapshot is not None:
            self._send_snapshot()
        if self.gate.pending is not None:
            self.host.has_pending(self)
        elif self.phase is Phase.RECOVERING:
            self._hydrate()
        if self._worker is None:
            self._drain()

    # -- when things go wrong ------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Leave the tentative state. What earlier commands have pending is good and still goes to the disk."""
        self.phase, self.instance, self._snapshot = Phase.RECOVERING, None, None
        self.host.counters.recoveries += 1
        if self.gate.clear:
            self._hydrate()

    def _drop(self, error: BaseException) -> None:
        """An append was not acknowledged: nothing that depends on it may be told to anybody."""
        log.warning(self.subject, "an append failed, reading the journal again: %s", error)
        self.host.forget_timers(self)
        packed = self.host.pack(error) if isinstance(error, NOTHING_WRITTEN) else None
        self._forget_tentative(
            # Of one that comes again, an earlier append that nobody answered may still be on its way to the disk.
            lambda call: (Kind.AGAIN, True) if packed is None or call.maybe_executed else (Kind.ERROR, packed),
            lambda call: (Kind.AGAIN, call.maybe_executed),
        )
        self.host.counters.recoveries += 1
        self._hydrate()

    def _forget_tentative(self, commands: Outcome, others: Outcome) -> None:
        """Drop everything that is not durable, and answer those who waited for it: `commands` that were done in
        vain, and `others`, which only looked. A command that is under way has to be tried again."""
        self._snapshot = None
        for call, kind in self.gate.drop():
            call.resolve(call, *(commands if kind is Kind.DONE else others)(call))
        if self._current is not None:
            call = self._current
            self._end_current()
            call.resolve(call, others(call)[0], True)
        self._release_worker()

    def _empty_mailbox(self, outcome: Outcome) -> None:
        waiting, self.mailbox, self._looked_up = self.mailbox, [], 0
        for call in waiting:
            call.resolve(call, *outcome(call))

    # -- hydration and what else holds the mailbox back ----------------------------------------------------------

    def _hydrate(self) -> None:
        self.phase, self.instance = Phase.HYDRATING, None
        assert self._worker is None, f"{self!r} is already busy"
        host = self.host
        load = Load(
            stream=self.stream,
            owner=host.owner,
            epoch=host.epoch,
            schema=host.definition.schema,
            limit=host.limits.page,
        )
        self._worker = waking = Waking(host.definition, host.journal, host.permits, load, self._hydrated)
        waking.start()

    def _hydrated(self, outcome: Hydrated | BaseException) -> None:
        """It has its state, or cannot have it now."""
        host, self._worker = self.host, None
        if isinstance(outcome, Hydrated):
            self.instance, self.version = outcome.instance, outcome.version
            self.gate, self._snapshot_version = OutputGate(outcome.version), outcome.snapshot_version
            self._activation, self._looked_up = object(), 0
            self.phase = Phase.LIVE
            host.counters.hydrations += 1
            host.counters.hydration_rows += outcome.rows_read
            host.counters.last_hydration_rows = outcome.rows_read
            self._drain()
        elif isinstance(outcome, Fenced):
            host.was_fenced(outcome)
        elif isinstance(outcome, JournalUnavailable | JournalBusy | asyncio.CancelledError):
            log.warning(self.subject, "cannot hydrate: %s", outcome)
            self._give_up(lambda call: (Kind.AGAIN, call.maybe_executed))
        else:
            log.warning(self.subject, "cannot hydrate: %s", outcome)
            told = outcome if isinstance(outcome, Exception) else CommandAborted(self.name, type(outcome).__name__)
            packed = host.pack(told)
            self._give_up(lambda call: (Kind.ERROR, packed))

    def _give_up(self, outcome: Outcome) -> None:
        """It cannot be in memory now. The next call tries again from the start."""
        self._empty_mailbox(outcome)
        self._go()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._worker is None, f"{self!r} is already busy"
        self._worker = worker = asyncio.get_running_loop().create_task(work)
        worker.add_done_callback(self._done_working)

    def _release_worker(self) -> None:
        """What it does is of no use any more; nobody waits for it to end."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()

    def _done_working(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error(self.subject, "a bug in the cell", exc_info=error)
        if task is not self._worker:
            return  # released before, by itself or by others
        self._worker = None
        if task.cancelled() or error is not None:  # not by us: give everybody back, and start from nothing
            again: Outcome = lambda call: (Kind.AGAIN, call.maybe_executed)  # noqa: E731
            self._forget_tentative(lambda _: (Kind.AGAIN, True), again)
            self._give_up(again)
        elif self.phase is Phase.LIVE:
            self._drain()

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        assert self.instance is not None, "only a live aggregate has a state to keep"
        self._snapshot_version = self.version  # also when it fails: the next try is a whole interval away
        self._snapshot = self.host.snapshots.take(self.host.definition, self.stream, self.instance, self.version)

    def _send_snapshot(self) -> None:
        if self._snapshot is not None and self._snapshot.version <= self.gate.durable:
            self.host.snapshots.put(self._snapshot)
            self._snapshot = None


def _fingerprint(call: Call, command: CommandSpec | None) -> bytes:
    """Of a call, however its arguments were spelled: by position or by name."""
    args, kwargs = call.args, call.kwargs
    if kwargs and command is not None:
        try:
            bound = command.signature.bind(*args, **kwargs)
        except TypeError:
            pass  # the call is refused, as soon as it is known to be new
        else:
            args, kwargs = bound.args, bound.kwargs
    return fingerprint(call.method, args, kwargs)
