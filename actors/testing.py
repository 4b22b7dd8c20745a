"""The test kit: given events, when a command, then what it did. No Ray, no disk, no event loop to set up.

    outcome = given(Account, Deposited(5)).when.withdraw(9)
    assert isinstance(outcome.rejection, Rejected)

It runs the code that a live cell runs, and then checks what a cell has no time to check. Whatever the command
did, its state must equal the state replayed from the events through the real codec, and the state restored from
a snapshot; so state that was changed outside a handler, also inside a list, is caught, and so are events,
replies and state that do not survive MessagePack. These checks fail as `AssertionError`s that say what differs.

An async command runs to its end inside `.when`; in a test that is async itself, await the outcome.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from holdfast.journal.codec import CodecError
from holdfast.journal.errors import HoldfastError
from holdfast.journal.records import Recorded, StreamId

from .aggregate import Aggregate
from .context import Context
from .definition import CommandSpec, Definition, EventSpec, definition_of
from .errors import Rejected, UnhandledEvent, UnknownCommand
from .likeness import difference
from .unit import Unit

__all__ = ["DoesNotSurvive", "Given", "NotFromEvents", "Outcome", "When", "given"]

A = TypeVar("A", bound=Aggregate)


class NotFromEvents(AssertionError):
    """State is not what the events make of it: it was changed outside an `@on` method."""


class DoesNotSurvive(AssertionError):
    """An event, a reply or state comes back from MessagePack as something else."""


def given(
    type: type[A],
    *events: Any,
    id: str = "test",
    peers: Mapping[tuple[type[Any], str], Any] | None = None,
    at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> "Given[A]":
    """An aggregate to which these events have happened.

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
        history: Sequence[tuple[EventSpec, bytes]],
        peers: "_Peers",
        at: datetime | None,
        metadata: Mapping[str, Any],
    ) -> None:
        self.definition, self.history, self.peers = definition, list(history), peers
        self._id, self._at, self._metadata = id, at, metadata

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
        """All that has happened, oldest first."""
        return [spec.codec.decode(payload) for spec, payload in self.history]

    def run(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Outcome[A]":
        """The outcome of one command or query."""
        run = self.start(name, args, kwargs)
        if not run.command.is_async:
            return run.finish()
        if _in_event_loop():
            return cast("Outcome[A]", Pending(run))
        return asyncio.run(run.finish_async())

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
            recorded_at=0 if self._at is None else int(self._at.timestamp() * 1_000_000),
            chain=(f"{self.definition.category}/{self._id}",),
        )

    def after(self, emitted: Sequence[tuple[EventSpec, bytes]], peers: "_Peers") -> "Given[A]":
        """The same aggregate, some events later."""
        history = [*self.history, *emitted]
        return Given(self.definition, self._id, history, peers, self._at, self._metadata)

    def replayed(self, history: Sequence[tuple[EventSpec, bytes]]) -> Aggregate:
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

    `events`: what it emitted; empty when it was rejected. `rejection`: the exception that it raised, None if it
    did not. `state`: the instance after it, which is the one before it when it was rejected.
    """

    def __init__(self, after: Given[A], events: list[Any], reply: Any, rejection: Exception | None) -> None:
        self.after, self._reply = after, reply
        self.events, self.rejection = events, rejection
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

    def peer(self, type: type[Any], id: str) -> Given[Any]:
        """A peer given as `given(…)`, as the command left it."""
        return self.after.peers.given_peer(type, id)

    def __await__(self) -> "Generator[Any, None, Outcome[A]]":
        return self
        yield  # so that it can be awaited whether the command is async or not


class Pending(Generic[A]):
    """The outcome of an async command in a test that is async itself, before it is awaited."""

    def __init__(self, run: "_Run[A]") -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, Outcome[A]]:
        return self._run.finish_async().__await__()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"await the outcome first: {self._run.command.name} is an async command")


class _Run(Generic[A]):
    """One command on its way: runs it, then holds the instance against what the events say."""

    def __init__(self, given: Given[A], command: CommandSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.given, self.command = given, command
        self._args, self._kwargs = args, kwargs
        self._peers = given.peers.copied()
        self._unit = _CheckedUnit(given.definition, given.state, command, given.context(), self._peers)

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
        return Outcome(self.given.after([], self._peers), [], None, error)

    def _returned(self, reply: Any) -> Outcome[A]:
        self._check_state()
        if not self.command.is_query:
            self._check_reply(reply)
        after = self.given.after(self._unit.emitted, self._peers)
        self._check_snapshot(after.state)
        events = [spec.codec.decode(payload) for spec, payload in self._unit.emitted]
        return Outcome(after, events, reply, None)

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
    """A unit of work that also looks whether what it is given to emit comes back as it was."""

    def emit(self, event: Any) -> None:
        super().emit(event)
        _check_same(*self.emitted[-1], event)


def _survived(definition: Definition, event: Any) -> tuple[EventSpec, bytes]:
    spec = definition.applied.get(event.__class__)
    if spec is None:
        raise UnhandledEvent(definition.category, type(event).__qualname__)
    try:
        payload = spec.codec.encode(event)
        _check_same(spec, payload, event)
    except CodecError as error:
        raise DoesNotSurvive(f"event {spec.name} cannot be stored: {error.problem}") from error
    return spec, payload


def _check_same(spec: EventSpec, payload: bytes, event: Any) -> None:
    if apart := difference(event, spec.codec.decode(payload)):
        raise DoesNotSurvive(f"event {spec.name} does not survive the journal: {apart}")


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
