"""References: how callers hold an aggregate. Small, picklable, starting nothing.

`runtime.get(Account, "alice")` is typed as `Account`, so editors and type checkers know its commands; what it really
is, is a `Ref`, which sends them. A `Ref` that was pickled finds its way in the process where it is unpickled: through
the runtime open there for its namespace, or one made for the purpose.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.definition import CommandSpec, Definition, definition_of
from holdfast.actors.errors import UnknownCommand
from holdfast.actors.unit import Unit
from holdfast.journal.opening import OPENED
from holdfast.journal.records import Recorded
from holdfast.journal.wire import decode_page, encode

from .dispatcher import Dispatcher, Target
from .errors import InvalidId, NotAnAggregate, RuntimeClosed
from .link import Link

__all__ = ["Gate", "Home", "Ref", "target"]

A = TypeVar("A", bound=Aggregate)

NAME_BYTES_MAX = 255

_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, "dict[str, list[Gate]]"] = WeakKeyDictionary()
"""The open gates of each event loop, by namespace, oldest first: where references that came by pickle go."""


class Home(Protocol):
    """What travels with references: how to make a gate in a process that has none."""

    def gate(self) -> "Gate":
        """A new gate, not opened. Raises `RuntimeClosed` where there is no cluster to reach."""
        ...


class Gate:
    """A namespace's way out of this process, shared by all references in one event loop. Made in that loop."""

    def __init__(self, namespace: str, dispatcher: Dispatcher, home: Home | None = None) -> None:
        """`home`: makes a gate where there is none; travels with pickled references."""
        self.namespace, self.dispatcher, self.home = namespace, dispatcher, home
        self.loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Be one that unpickled references in this loop may use."""
        for loop in [loop for loop in _gates if loop.is_closed()]:  # they and their gates keep each other alive
            del _gates[loop]
        _gates.setdefault(self.loop, {}).setdefault(self.namespace, []).append(self)

    def close(self) -> None:
        """No longer be it."""
        gates = _gates.get(self.loop, {}).get(self.namespace, [])
        if self in gates:
            gates.remove(self)

    def get(self, type: type[Any], id: str, caller: Unit | None = None, **how: Any) -> Any:
        """A reference to an aggregate; `caller` is known from the context the reference is used in. `how`: as in
        `target`."""
        return Ref(target(type, id, **how), self)

    async def opened(self, recorded: Recorded) -> Recorded:
        """An event with what is sealed in it opened, or blank. Raises `CorruptRecord`, `JournalUnavailable`."""
        journal = self.dispatcher.journal
        (found,) = decode_page(await journal.parts[0].ask(OPENED, encode([recorded])))
        return found

    @staticmethod
    def here(namespace: str, home: Home | None) -> "Gate":
        """The gate of the running loop for a namespace, made if need be. Raises `RuntimeClosed`."""
        gates = _gates.get(asyncio.get_running_loop(), {}).get(namespace)
        if gates:
            return gates[0]
        if home is None:
            raise RuntimeClosed(f"namespace {namespace!r}")
        gate = home.gate()
        gate.open()
        return gate


class Ref:
    """A reference to one aggregate. `await ref.deposit(5)` sends a command; the reference itself holds no state."""

    __slots__ = ("_definition", "_gate", "_home", "_line", "_namespace", "_target")

    def __init__(self, target: Target, gate: Gate | None, namespace: str = "", home: Home | None = None) -> None:
        """`gate`: None for one that came by pickle, which knows `namespace` and `home` only."""
        self._target, self._gate = target, gate
        self._namespace, self._home = (namespace, home) if gate is None else (gate.namespace, gate.home)
        self._definition: Definition = definition_of(target.type)
        self._line: Link | None = None  # of its own gate, once it was used

    def __getattr__(self, name: str) -> Any:
        command = self._definition.commands.get(name)
        if command is None:
            raise UnknownCommand(self._definition.category, name)
        return _Bound(self, command)

    def __dir__(self) -> list[str]:
        return sorted(self._definition.commands)

    def __repr__(self) -> str:
        return f"<{self._target.category}/{self._target.id} in {self._namespace!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.holdfast_identity == other.holdfast_identity

    def __hash__(self) -> int:
        return hash(self.holdfast_identity)

    def __reduce__(self) -> Any:
        return Ref, (self._target, None, self._namespace, self._home)

    @property
    def holdfast_identity(self) -> str:
        """What makes two references name the same aggregate."""
        return f"{self._namespace}:{self._target.category}/{self._target.id}"

    def holdfast_gate(self) -> Gate:
        """The way out of the running event loop: its own, unless it came here from another loop or process."""
        gate = self._gate
        if gate is not None and gate.loop is asyncio.get_running_loop():
            return gate
        return Gate.here(self._namespace, self._home)

    async def holdfast_send(self, command: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Send a call whose signature was checked, and return its answer."""
        gate, line = self.holdfast_gate(), self._line
        if line is None or line.forgotten or gate is not self._gate:
            line = gate.dispatcher.line(self._target)
            if gate is self._gate:
                self._line = line
        return await gate.dispatcher.call(self._target, line, command, args, kwargs)


class _Bound:
    """A command of a reference. Checks its arguments when called, sends when awaited."""

    __slots__ = ("_command", "_ref")

    def __init__(self, ref: Ref, command: CommandSpec) -> None:
        self._ref, self._command = ref, command

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._command.check(args, kwargs)
        return self._ref.holdfast_send(self._command, args, kwargs)

    def __repr__(self) -> str:
        return f"{self._ref!r}.{self._command.name}"


def target(cls: type[Aggregate], id: str, **how: Any) -> Target:
    """Which aggregate is meant, checked. Raises `NotAnAggregate`, `InvalidId`, `ValueError`."""
    if not (isinstance(cls, type) and issubclass(cls, Aggregate)):
        raise NotAnAggregate(getattr(cls, "__qualname__", repr(cls)))
    id = _text(id, InvalidId)
    key, timeout_s = how.get("idempotency_key"), how.get("timeout_s")
    if key is not None:
        how["idempotency_key"] = _text(key, lambda value, problem: ValueError(f"idempotency key {value!r} {problem}"))
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0, got {timeout_s!r}")
    return Target(type=cls, category=definition_of(cls).category, id=id, **how)


def _text(value: Any, error: Callable[[Any, str], Exception]) -> str:
    """The value as a plain `str`, if it may name something."""
    if not isinstance(value, str):
        raise error(value, f"must be text, not {type(value).__name__}")
    if not value:
        raise error(value, "must not be empty")
    if not value.isprintable():
        raise error(value, "must be printable")
    if len(value.encode()) > NAME_BYTES_MAX:  # what is printable has no surrogates
        raise error(value, f"must be at most {NAME_BYTES_MAX} bytes in UTF-8")
    return str.__str__(value)  # not a subclass, which might be a member of an Enum
