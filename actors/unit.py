"""Unit: the unit of work of one command, the same in a live cell and in the test kit.

An event is encoded the moment it is emitted, and what its bytes decode to is what is applied. So live state is
made from exactly what every replay will see, and an event that does not survive the journal is refused before
it is in.

Before this: the call is checked and it is its turn. After this: `emitted` goes to the journal, or, when the
command raised, nothing does and the instance, if anything was emitted, is of no use any more.
"""

from collections.abc import Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from holdfast.journal import tracing
from holdfast.journal.codec import CodecError
from holdfast.journal.records import Recorded

from .context import Context
from .definition import CommandSpec, Definition, EventSpec
from .errors import NotInCommand, NotSerializable, UnhandledEvent

if TYPE_CHECKING:
    from .aggregate import Aggregate
    from .timers import TimerPlan

__all__ = ["CALLER", "Context", "Peers", "Unit"]

T = TypeVar("T")

CALLER: "ContextVar[Unit | None]" = ContextVar("holdfast_caller", default=None)
"""The command on whose behalf code runs, wherever it got its references from. Set in async commands."""


class Peers(Protocol):
    """Where a command finds other aggregates."""

    def get(self, type: type[Any], id: str, caller: "Unit") -> Any:
        """A reference to an aggregate, for calls on behalf of `caller`."""
        ...

    async def opened(self, recorded: Recorded) -> Recorded:
        """An event with what is sealed in it opened, or blank."""
        ...


class Unit:
    """One run of one command or query on one instance. Not reused.

    `emitted`: the events in order, each with its payload. `sent`: how often it has sent each command to others, so
    that what it sends gets the same ids when it runs again. `timers`: those that it has set, and cancelled (None).
    """

    __slots__ = ("_broken", "command", "context", "definition", "emitted", "instance", "peers", "sent", "timers")

    def __init__(
        self,
        definition: Definition,
        instance: "Aggregate",
        command: CommandSpec,
        context: Context,
        peers: Peers | None = None,
    ) -> None:
        self.definition, self.instance, self.command = definition, instance, command
        self.context, self.peers = context, peers
        self.emitted: list[tuple[EventSpec, bytes]] = []
        self.sent: dict[str, int] = {}
        self.timers: dict[str, TimerPlan | None] | None = None
        self._broken: BaseException | None = None

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the method. For an `async def` command this only makes its coroutine, for `awaiting`."""
        command = self.command
        if command.is_async:
            return command.function(self.instance, *args, **kwargs)
        state = self.instance.__dict__
        state["_unit"] = self
        try:
            if tracing.tracer is None:
                result = command.function(self.instance, *args, **kwargs)
            else:
                with tracing.within(self.context.metadata):
                    result = command.function(self.instance, *args, **kwargs)
        finally:
            state["_unit"] = None
        if self._broken is not None:
            raise self._broken
        return result

    async def awaiting(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine that `run` made. What it leaves running when it ends can emit no more."""
        state = self.instance.__dict__
        state["_unit"] = self
        outer = CALLER.set(self)  # in the tasks that it starts as well
        try:
            with tracing.within(self.context.metadata):
                result = await coroutine
        finally:
            CALLER.reset(outer)
            if state["_unit"] is self:
                state["_unit"] = None
        if self._broken is not None:
            raise self._broken
        return result

    def emit(self, event: Any) -> None:
        """Encode the event, apply what its bytes say, and keep the bytes."""
        spec = self.definition.applied.get(event.__class__)
        if spec is None:
            raise UnhandledEvent(self.definition.category, type(event).__qualname__)
        if self.command.is_query or (self.command.is_async and CALLER.get() is not self):
            raise NotInCommand(repr(self.instance))  # or a task that an earlier command has left running
        try:
            payload = spec.codec.encode(event)
            copy = spec.codec.decode(payload)
        except CodecError as error:
            raise NotSerializable(f"event {spec.name} of {self.instance!r}", error.problem) from error
        self.emitted.append((spec, payload))  # first, so that a handler that raises leaves a trace
        try:
            self.definition.apply(self.instance, spec, copy)
        except BaseException as error:
            # A command that swallowed this would write an event that no replay gets past.
            self._broken = error
            raise

    def set_timer(self, name: str, plan: "TimerPlan | None") -> None:
        """Remember a timer to be set, or cancelled, when the command is done."""
        self.check_changes("timer()")
        self.timers = {} if self.timers is None else self.timers
        self.timers[name] = plan

    def check_changes(self, what: str) -> None:
        """Raise `NotInCommand` in a query, and in a task that the command, or an earlier one, has left running."""
        if self.command.is_query or (self.command.is_async and CALLER.get() is not self):
            raise NotInCommand(repr(self.instance), what)

    def reach(self, type: type[T], id: str) -> T:
        """A reference to another aggregate."""
        if self.peers is None:
            raise LookupError(f"{self.instance!r} reaches for {type.__name__} {id!r}, but there are no others here")
        reference: T = self.peers.get(type, id, self)
        return reference
