"""The test kit: given events, when a command, then what it did. No Ray, no disk, no event loop to set up.

    outcome = given(Account, Deposited(5)).when.withdraw(9)
    assert isinstance(outcome.rejection, Rejected)

It runs the code that a live cell runs, and then checks what a cell has no time to check. Whatever the command
did, its state must equal the state replayed from the events through the real codec, and the state restored from
a snapshot; so state that was changed outside a handler, also inside a list, is caught, and so are events,
replies and state that do not survive MessagePack. These checks fail as `AssertionError`s that say what differs.

An async command runs to its end inside `.when`; in a test that is async itself, await the outcome.

Time passes when the test says so, and with it reminders and timers fire, each at its own time and in order:

    outcome = given(Offer, at=NOON).when.make()
    assert outcome.reminders["expire"].due == NOON + timedelta(days=30)
    assert outcome.later(timedelta(days=31)).events == [Expired()]

Reactions get events of the journal in the place of commands:

    outcome = given(Transfers, id="t1", peers={(Account, "alice"): given(Account, Opened(9))}).when_event(
        Requested("t1", "alice", "bob", 5)
    )
    assert outcome.commands == [Sent(Account, "alice", "withdraw", (5,))]

What an older version of an event was is given as the journal holds it:

    outcome = given(Account, stored("account.deposited", 1, {"amount": 5})).when.withdraw(9)
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec

from holdfast.journal.codec import CodecError
from holdfast.journal.errors import HoldfastError
from holdfast.journal.event_types import typed_name
from holdfast.journal.records import Recorded, StreamId

from .aggregate import Aggregate
from .clock import moment_of
from .context import Context
from .definition import SYSTEM_COMMANDS, CommandSpec, Definition, EventSpec, OlderSpec, definition_of
from .derived import derived_id
from .errors import Rejected, UnhandledEvent, UnknownCommand
from .events import event_name, stored_type
from .firing import FIRE, GAVE_UP
from .likeness import difference
from .reacting import REACT, arguments_of, key_of
from .reminders import HANDLERS, PendingReminder, pending_in
from .timers import TimerPlan
from .unit import Unit

__all__ = [
    "DoesNotSurvive",
    "Given",
    "NotForThis",
    "NotFromEvents",
    "Outcome",
    "Sent",
    "Stored",
    "When",
    "given",
    "stored",
]

A = TypeVar("A", bound=Aggregate)

History: TypeAlias = Sequence[tuple[EventSpec | OlderSpec, bytes]]
"""Events under what the journal calls them, with their payloads."""


class NotFromEvents(AssertionError):
    """State is not what the events make of it: it was changed outside an `@on` method."""


class DoesNotSurvive(AssertionError):
    """An event, a reply or state comes back from MessagePack as something else."""


class NotForThis(AssertionError):
    """An event does not reach the reaction that it was given to: no `@on` names it, or it is for another instance."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that a command has sent to another aggregate. `key`: its id there, by which it acts once; two that
    differ in nothing else are equal."""

    type: type[Any]
    id: str
    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    key: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as the journal holds it."""

    type: str
    payload: bytes


def stored(name: str, version: int, fields: Mapping[str, Any]) -> Stored:
    """An event that some version of the code wrote, or will write: its name then, its version, and its fields as
    MessagePack has them. Raises `DoesNotSurvive` for what MessagePack does not know."""
    try:
        return Stored(typed_name(name, version), msgspec.msgpack.encode(dict(fields)))
    except (TypeError, ValueError, OverflowError) as error:
        raise DoesNotSurvive(f"event {name!r} cannot be stored: {error}") from error


def given(
    type: type[A],
    *events: Any,
    id: str = "test",
    peers: Mapping[tuple[type[Any], str], Any] | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> "Given[A]":
    """An aggregate to which these events have happened: as they are today, or as they were `stored`.

    `peers`: what `self.aggregate(Type, id)` finds: another `given(…)`, which then runs its commands and keeps what
    they did, or any object with methods, async or not. `at`: the time of `self.context.now`, with a time zone.
    `metadata`: what the caller of the commands added.
    """
    definition = definition_of(type)
    history = [_survived(definition, event) for event in events]
    return Given(definition, id, history, _Peers.of(peers or {}), at, metadata or {})


class Given(Generic[A]):
    """An aggregate with a history, ready for a command."""

    def __init__(
        self,
        definition: Definition,
        id: str,
        history: History,
        peers: "_Peers",
        at: datetime | None,
        metadata: Mapping[str, Any],
        timers: "Mapping[str, _Set] | None" = None,
    ) -> None:
        self.definition, self.history, self.peers = definition, list(history), peers
        self._id, self._at, self._metadata, self._timers = id, at, metadata, dict(timers or {})

    def __repr__(self) -> str:
        return f"<given {self.definition.category}<{self._id}@{self.version}>>"

    @property
    def when(self) -> "When[A]":
        """Its commands and queries, to be called."""
        return When(self)

    @property
    def state(self) -> A:
        """An instance as the events make it."""
        return cast(A, self.replayed(self.history))

    @property
    def version(self) -> int:
        """How many events have happened."""
        return len(self.history)

    @property
    def events(self) -> list[Any]:
        """All that has happened, oldest first, what became of reminders included; older events as what they are
        today."""
        return [event for spec, payload in self.history for event in _today(spec, payload)]

    @property
    def now_us(self) -> int:
        """The time of the next command, in µs since 1970 UTC."""
        return 0 if self._at is None else int(self._at.timestamp() * 1_000_000)

    @property
    def reminders(self) -> Mapping[str, PendingReminder]:
        """What is pending, by name."""
        return pending_in(self.state)

    @property
    def timers(self) -> Mapping[str, TimerPlan]:
        """What timers run, by name."""
        return {name: timer.plan for name, timer in self._timers.items()}

    def at(self, moment: datetime) -> "Given[A]":
        """The same aggregate, at another time; nothing has fired in between."""
        return self._with(at=moment)

    def later(self, by: timedelta, *, down: bool = False) -> "Outcome[A]":
        """Let time pass, and everything fire that is due on the way, each at its own time. `down`: as if nothing had
        run meanwhile, so that what fell due is late, and timers are gone. The outcome has all events that were emitted,
        and the first exception that a command was over with. In an async test, await it."""
        until_us = self.now_us + by // timedelta(microseconds=1)
        start = self._with(at=moment_of(until_us), timers={}) if down else self
        return _waited(lambda: _pass(start, until_us))

    def due(self) -> "Outcome[A]":
        """Go on to whatever is due next, and fire that. In an async test, await the outcome."""
        return _waited(lambda: _pass(self, None))

    def next_due(self) -> tuple[int, str, bool] | None:
        """When, in µs, what is due next, and whether it is a timer."""
        waiting = [(pending.due_us, name, False) for name, pending in self.reminders.items()]
        return min(waiting + [(timer.due_us, name, True) for name, timer in self._timers.items()], default=None)

    async def fired(self, due_us: int, name: str, is_timer: bool) -> "Outcome[A]":
        """What it does when it is time."""
        here = self.at(moment_of(max(due_us, self.now_us)))
        if is_timer:
            timers = dict(self._timers)
            plan = timers.pop(name).plan
            if plan.every_s is not None:
                timers[name] = _Set(due_us + round(plan.every_s * 1e6), plan)
            here = here._with(timers=timers)
            run = _Run(here, self.definition.commands[plan.command], plan.args, plan.kwargs)
            return await run.finish_async() if run.command.is_async else run.finish()
        outcome = await _Run(here, SYSTEM_COMMANDS[FIRE], (name, due_us), {}).finish_async()
        if outcome.rejection is None:
            return outcome
        problem = f"{type(outcome.rejection).__name__}: {outcome.rejection}"
        over = _Run(here, SYSTEM_COMMANDS[GAVE_UP], (name, due_us, problem), {}).finish()
        return Outcome(over.after, [], None, outcome.rejection)

    def _with(self, **changed: Any) -> "Given[A]":
        own: dict[str, Any] = {"history": self.history, "peers": self.peers, "at": self._at, "timers": self._timers}
        return Given(self.definition, self._id, metadata=self._metadata, **(own | changed))

    def run(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Outcome[A]":
        """The outcome of one command or query."""
        return self._outcome(self.start(name, args, kwargs))

    def _outcome(self, run: "_Run[A]") -> "Outcome[A]":
        if not run.command.is_async:
            return run.finish()
        if _in_event_loop():
            return cast("Outcome[A]", Pending(run.finish_async, f"{run.command.name} is an async command"))
        return asyncio.run(run.finish_async())

    def when_event(
        self,
        event: Any,
        *,
        id: str | None = None,
        category: str = "test",
        version: int = 1,
        partition: int = 0,
        position: int = 1,
        command_id: str = "test",
        metadata: Mapping[str, Any] | None = None,
        part: int = 0,
    ) -> "Outcome[A]":
        """The outcome of an event of the journal that reaches this reaction: as it is today, or as it was `stored`, and
        then `part`, of what it is today. `id`, `category`, `version`: of the stream
        that it is of; the id is the reaction's own if not given. `partition`, `position`: its place, from which the
        keys of what is sent follow. `command_id`, `metadata`: of the command that it is from.

        Raises `NotForThis`."""
        what = event if isinstance(event, Stored) else self._reacted_to(event)
        from_caller = Context(
            command_id=command_id, correlation_id=command_id, metadata=metadata or {}, recorded_at=self.now_us
        )
        recorded = Recorded(
            position=position,
            stream=StreamId(category, self._id if id is None else id),
            version=version,
            type=what.type,
            payload=what.payload,
            command_id=command_id,
            recorded_at=self.now_us,
            metadata=from_caller.encoded,
        )
        found = self.definition.reactions.of(recorded, partition)
        spec, opened = next(((spec, each) for spec, each in found if each.part == part), (None, None))
        if spec is None or opened is None:
            raise NotForThis(f"{self.definition.category} has no @on for part {part} of {what.type!r}")
        goes_to = spec.goes_to(opened)
        if goes_to != self._id:
            whose = "none" if goes_to is None else f"{goes_to!r}"
            raise NotForThis(f"{event!r} is for {whose}, and this is {self._id!r}")
        context = Context(
            command_id=key_of(self.definition.category, partition, position, part),
            correlation_id=command_id,
            causation_id=command_id,
            metadata=metadata or {},
            recorded_at=self.now_us,
            chain=(f"{self.definition.category}/{self._id}",),
            keyed=True,
        )
        arguments = arguments_of(recorded, partition, part)
        return self._outcome(_Run(self, self.definition.served[REACT], arguments, {}, context))

    def _reacted_to(self, event: Any) -> Stored:
        kind = cast("type[Any]", event.__class__)
        spec = self.definition.reactions.get(stored_type(kind)) if event_name(kind) is not None else None
        if spec is None:
            raise NotForThis(f"{self.definition.category} has no @on for {kind.__name__}")
        return Stored(spec.name, _encoded(spec, event))

    def start(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "_Run[A]":
        """One command or query, not run yet. Raises `UnknownCommand`, and `TypeError` for wrong arguments."""
        command = self.definition.commands.get(name)
        if command is None:
            raise UnknownCommand(self.definition.category, name)
        command.check(args, kwargs)
        return _Run(self, command, args, kwargs)

    def context(self) -> Context:
        """Of the next command."""
        number = self.version + 1
        return Context(
            command_id=f"test-{number}",
            correlation_id=f"test-{number}",
            metadata=self._metadata,
            recorded_at=self.now_us,
            chain=(f"{self.definition.category}/{self._id}",),
        )

    def after(
        self,
        emitted: Sequence[tuple[EventSpec, bytes]],
        peers: "_Peers",
        wishes: Mapping[str, TimerPlan | None] | None = None,
    ) -> "Given[A]":
        """The same aggregate, some events later. `wishes`: timers that were set, and cancelled."""
        timers = {name: timer for name, timer in self._timers.items() if name not in (wishes or {})}
        for name, plan in (wishes or {}).items():
            if plan is not None:
                timers[name] = _Set(self.now_us + round(plan.after_s * 1e6), plan)
        return self._with(history=[*self.history, *emitted], peers=peers, timers=timers)

    def replayed(self, history: History) -> Aggregate:
        """A new instance that these events have happened to."""
        stream = StreamId(self.definition.category, self._id)
        instance = self.definition.new(self._id)
        self.definition.replay(
            instance,
            [
                Recorded(
                    position=version,
                    stream=stream,
                    version=version,
                    type=spec.name,
                    payload=payload,
                    command_id="given",
                    recorded_at=0,
                )
                for version, (spec, payload) in enumerate(history, 1)
            ],
        )
        return instance


class When(Generic[A]):
    """The commands and queries of an aggregate: `.when.withdraw(9)` runs one and gives its outcome."""

    def __init__(self, given: Given[A]) -> None:
        self._given = given

    def __getattr__(self, name: str) -> "Callable[..., Outcome[A]]":
        if name not in self._given.definition.commands:
            raise UnknownCommand(self._given.definition.category, name)
        return lambda *args, **kwargs: self._given.run(name, args, kwargs)


class Outcome(Generic[A]):
    """What a command did.

    `events`: what it emitted; empty when it was rejected. What it did to reminders is in `reminders` instead.
    `rejection`: the exception that it raised, None if it did not. `state`: the instance after it, which is the one
    before it when it was rejected. `commands`: those that it has sent to others, in order, also when it was rejected:
    they had their effect.
    """

    def __init__(
        self, after: Given[A], events: list[Any], reply: Any, rejection: Exception | None, commands: Sequence[Sent] = ()
    ) -> None:
        self.after, self._reply = after, reply
        self.events, self.rejection, self.commands = events, rejection, list(commands)
        self.state: A = after.state
        self.version = after.version

    def __repr__(self) -> str:
        said = f"rejected with {self.rejection!r}" if self.rejection else f"replied {self._reply!r}"
        return f"<{said}, emitted {self.events!r}, now at version {self.version}>"

    @property
    def reply(self) -> Any:
        """What the caller gets; raises the rejection if that is what the caller gets."""
        if self.rejection is not None:
            raise self.rejection
        return self._reply

    @property
    def when(self) -> When[A]:
        """The next command, on the aggregate as this one left it."""
        return self.after.when

    @property
    def reminders(self) -> Mapping[str, PendingReminder]:
        """What is pending after it, by name."""
        return self.after.reminders

    @property
    def timers(self) -> Mapping[str, TimerPlan]:
        """What timers run after it, by name."""
        return self.after.timers

    def later(self, by: timedelta, *, down: bool = False) -> "Outcome[A]":
        """See `Given.later`."""
        return self.after.later(by, down=down)

    def due(self) -> "Outcome[A]":
        """See `Given.due`."""
        return self.after.due()

    def when_event(self, event: Any, **where: Any) -> "Outcome[A]":
        """The next event of the journal, on the reaction as this one left it: `Given.when_event`."""
        return self.after.when_event(event, **where)

    def peer(self, type: type[Any], id: str) -> Given[Any]:
        """A peer given as `given(…)`, as the command left it."""
        return self.after.peers.given_peer(type, id)

    def __await__(self) -> "Generator[Any, None, Outcome[A]]":
        return self
        yield  # so that it can be awaited whether the command is async or not


@dataclass(frozen=True, slots=True)
class _Set:
    """A timer that runs, and is due then."""

    due_us: int
    plan: TimerPlan


def _waited(outcome: Callable[[], Coroutine[Any, Any, Outcome[A]]]) -> Outcome[A]:
    if _in_event_loop():
        return cast("Outcome[A]", Pending(outcome, "time passes by and by"))
    return asyncio.run(outcome())


async def _pass(given: Given[A], until_us: int | None) -> Outcome[A]:
    """Fire what is due up to then; the next one only, if no time is given."""
    events: list[Any] = []
    rejection: Exception | None = None
    while (coming := given.next_due()) is not None and (until_us is None or coming[0] <= until_us):
        outcome = await given.fired(*coming)
        given, events, rejection = outcome.after, events + outcome.events, rejection or outcome.rejection
        if until_us is None:
            return outcome
    if until_us is None:
        raise AssertionError(f"nothing is pending of {given!r}")
    return Outcome(given.at(moment_of(max(until_us, given.now_us))), events, None, rejection)


class Pending(Generic[A]):
    """The outcome of what takes its time, in a test that is async itself, before it is awaited."""

    def __init__(self, outcome: Callable[[], Coroutine[Any, Any, Outcome[A]]], what: str) -> None:
        self._outcome, self._what = outcome, what

    def __await__(self) -> Generator[Any, None, Outcome[A]]:
        return self._outcome().__await__()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"await the outcome first: {self._what}")


class _Run(Generic[A]):
    """One command on its way: runs it, then holds the instance against what the events say."""

    def __init__(
        self,
        given: Given[A],
        command: CommandSpec,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        context: Context | None = None,
    ) -> None:
        self.given, self.command = given, command
        self._args, self._kwargs = args, kwargs
        self._peers = given.peers.copied()
        self._unit = _CheckedUnit(given.definition, given.state, command, context or given.context(), self._peers)

    def finish(self) -> Outcome[A]:
        try:
            reply = self._unit.run(self._args, self._kwargs)
        except Exception as error:
            return self._raised(error)
        return self._returned(reply)

    async def finish_async(self) -> Outcome[A]:
        try:
            coroutine: Coroutine[Any, Any, Any] = self._unit.run(self._args, self._kwargs)
            reply = await self._unit.awaiting(coroutine)
        except Exception as error:
            return self._raised(error)
        return self._returned(reply)

    def _raised(self, error: Exception) -> Outcome[A]:
        """A domain exception is an outcome. Misuse of the library and failed assertions are the test's to see."""
        if isinstance(error, AssertionError) or (isinstance(error, HoldfastError) and not isinstance(error, Rejected)):
            raise error
        self._check_state()
        return Outcome(self.given.after([], self._peers), [], None, error, self._unit.noted)

    def _returned(self, reply: Any) -> Outcome[A]:
        self._check_state()
        if not self.command.is_query:
            self._check_reply(reply)
        after = self.given.after(self._unit.emitted, self._peers, self._unit.timers)
        self._check_snapshot(after.state)
        events = [spec.codec.decode(payload) for spec, payload in self._unit.emitted if spec.type not in HANDLERS]
        return Outcome(after, events, reply, None, self._unit.noted)

    def _check_state(self) -> None:
        """The instance, after all the command did to it, against the events alone."""
        replayed = self.given.replayed([*self.given.history, *self._unit.emitted])
        if apart := self.given.definition.state_difference(self._unit.instance, replayed):
            raise NotFromEvents(
                f"after {self.given.definition.category}.{self.command.name} the state is not what its events "
                f"make of it ({apart}); state changes in @on methods only"
            )

    def _check_snapshot(self, state: Aggregate) -> None:
        definition = self.given.definition
        copy = definition.new(state.id)
        try:
            definition.restore(copy, definition.encode_state(state), self.given.version)
        except CodecError as error:
            raise DoesNotSurvive(f"state of {state!r} cannot be a snapshot: {error.problem}") from error
        if apart := definition.state_difference(state, copy):
            raise DoesNotSurvive(f"state of {state!r} does not survive a snapshot: {apart}")

    def _check_reply(self, reply: Any) -> None:
        what = f"reply of {self.given.definition.category}.{self.command.name}"
        try:
            copy = self.command.reply.decode(self.command.reply.encode(reply))
        except CodecError as error:
            raise DoesNotSurvive(f"{what} cannot be stored: {error.problem}") from error
        if apart := difference(reply, copy):
            raise DoesNotSurvive(f"{what} does not survive the journal: {apart}")


class _CheckedUnit(Unit):
    """A unit of work that also looks whether what it is given to emit comes back as it was, and notes what it sends."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.noted: list[Sent] = []

    def emit(self, event: Any) -> None:
        super().emit(event)
        _check_same(*self.emitted[-1], event)

    def reach(self, type: type[Any], id: str) -> Any:
        return _Reached(super().reach(type, id), type, id, self)


def _today(spec: EventSpec | OlderSpec, payload: bytes) -> list[Any]:
    event = spec.codec.decode(payload)
    return [each for _, each in event] if isinstance(spec, OlderSpec) else [event]


def _survived(definition: Definition, event: Any) -> tuple[EventSpec | OlderSpec, bytes]:
    if isinstance(event, Stored):
        older = definition.events_by_name.get(event.type)
        if older is None:
            raise UnhandledEvent(definition.category, event.type)
        return older, event.payload
    spec = definition.applied.get(event.__class__)
    if spec is None:
        raise UnhandledEvent(definition.category, type(event).__qualname__)
    return spec, _encoded(spec, event)


def _encoded(spec: Any, event: Any) -> bytes:
    """An event as bytes, which come back as what they were."""
    try:
        payload: bytes = spec.codec.encode(event)
        _check_same(spec, payload, event)
    except CodecError as error:
        raise DoesNotSurvive(f"event {spec.name} cannot be stored: {error.problem}") from error
    return payload


def _check_same(spec: EventSpec, payload: bytes, event: Any) -> None:
    if apart := difference(event, spec.codec.decode(payload)):
        raise DoesNotSurvive(f"event {spec.name} does not survive the journal: {apart}")


class _Reached:
    """A reference as the command gets it: notes the commands that are sent over it, under the ids that they have."""

    def __init__(self, peer: Any, type: type[Any], id: str, caller: _CheckedUnit) -> None:
        self._peer, self._type, self._id, self._caller = peer, type, id, caller

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        call = getattr(self._peer, name)
        spec = definition_of(self._type).commands.get(name)

        async def noted(*args: Any, **kwargs: Any) -> Any:
            if spec is not None and not spec.is_query:
                category = definition_of(self._type).category
                key = derived_id(self._caller, category, self._id, name, args, kwargs)
                self._caller.noted.append(Sent(self._type, self._id, name, args, kwargs, key))
            return await call(*args, **kwargs)

        return noted


class _Peers:
    """The other aggregates, as one command finds them."""

    def __init__(self, peers: Mapping[tuple[type[Any], str], "_Known | _Fake"]) -> None:
        self._peers = peers

    @classmethod
    def of(cls, peers: Mapping[tuple[type[Any], str], Any]) -> "_Peers":
        return cls({key: _standing_for(peer) for key, peer in peers.items()})

    def copied(self) -> "_Peers":
        """The same, for a command whose calls must leave these untouched."""
        return _Peers({k: _Known(p.given) if isinstance(p, _Known) else p for k, p in self._peers.items()})

    def get(self, type: type[Any], id: str, caller: Unit) -> Any:
        if (type, id) not in self._peers:
            raise AssertionError(f"no peer given for ({type.__name__}, {id!r}), which {caller.instance!r} calls")
        return self._peers[type, id]

    async def opened(self, recorded: Recorded) -> Recorded:
        return recorded  # nothing is sealed here

    def given_peer(self, type: type[Any], id: str) -> Given[Any]:
        peer = self._peers[type, id]
        assert isinstance(peer, _Known), f"the peer {type.__name__} {id!r} is not a given(…)"
        return peer.given


def _standing_for(peer: Any) -> "_Known | _Fake":
    if isinstance(peer, Given):
        return _Known(peer)  # pyright: ignore[reportUnknownArgumentType]
    return _Fake(peer)


class _Known:
    """Another aggregate of the kit, as a reference to it behaves: its commands are awaited and may raise."""

    def __init__(self, given: Given[Any]) -> None:
        self.given = given

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            outcome = await self.given.run(name, args, kwargs)
            self.given = outcome.after
            return outcome.reply

        return call


class _Fake:
    """Any object in the place of a reference: its methods may be plain, callers await them all the same."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._fake, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return call


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
