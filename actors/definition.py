"""Definition: what an aggregate class can do, worked out and checked once.

The class is checked when it is made, so that a mistake is told at its line and not in production. The
definition is built again, from the class alone, wherever it is needed: its codecs cannot travel, and a class
defined in `__main__` or a notebook reaches a host by value, first as an empty skeleton and then attribute by
attribute. So nothing of it hangs on the class.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from holdfast.journal.annotations import return_hint
from holdfast.journal.codec import Codec, CodecError, UnresolvedType, digest
from holdfast.journal.records import Fact, Recorded

from .behaviour import behaviour_of, codes_of, names_in
from .commands import Command
from .emits import emitted_classes
from .errors import DefinitionError, HydrationFailed
from .events import event_codec, event_name
from .fields import State, own_fields, user_classes
from .handlers import handled_by
from .likeness import difference
from .options import Options
from .place import place_of, visible_names
from .reminders import HANDLERS, carry, holdfast_fire, holdfast_fired, uncarried
from .timers import holdfast_ring

if TYPE_CHECKING:
    from .aggregate import Aggregate

__all__ = ["SYSTEM_COMMANDS", "CommandSpec", "Definition", "EventSpec", "check_class", "definition_of"]

Names: TypeAlias = Mapping[str, Any]

RESERVED = frozenset({"emit", "_id", "_version", "_unit", "_handling", "_reminders"})
OUR_PREFIX = "holdfast_"
UNUSABLE = frozenset({"__init__", "__new__", "__slots__", "__setattr__", "__delattr__", "__getattribute__"})


@dataclass(frozen=True, slots=True)
class EventSpec:
    """An event that the aggregate applies. `handler`: the function under `@on`, called as (instance, event)."""

    name: str
    type: type
    codec: Codec[Any]
    handler: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command or query. `reply`: the codec of what it returns; of anything plain, for a query."""

    name: str
    function: Callable[..., Any]
    is_query: bool
    is_async: bool
    reply: Codec[Any]
    owner: str
    signature: inspect.Signature
    positional: range
    """How many positional arguments make a right call all by themselves."""

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `TypeError`, as a call would, for arguments that the method does not take."""
        if not kwargs and len(args) in self.positional:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.owner}.{self.name}(): {error}") from None


class Definition:
    """One aggregate type: its commands, its events, its state. Immutable; not picklable; see `definition_of`.

    `commands`, `events`: those that its users wrote. `served`, `applied`, `events_by_name`: these and our own, which no
    reference has.
    """

    def __init__(self, cls: "type[Aggregate]", frame: FrameType | None = None) -> None:
        """`frame`: where the class statement is being executed, while it is. Raises `DefinitionError`, and
        `UnresolvedType` while an annotation names something that is not there yet."""
        self.type = cls
        self.options: Options = cls.__holdfast_options__
        self.category = self.options.category
        self._attributes = _attributes(cls)
        _check_names(cls, frame)
        _check_overrides(cls)
        names = visible_names(frame, cls)
        self.commands = self._read_commands(names)
        self.served = {**self.commands, **SYSTEM_COMMANDS}
        self._state = State(cls, names, frame)
        self.events = self._read_events(names)
        self.applied = {**self.events, **SYSTEM_EVENTS}
        self.events_by_name = {spec.name: spec for spec in self.applied.values()}
        if not self.options.abstract:
            self._check_emits()

    def __repr__(self) -> str:
        return f"<definition of {self.category}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled; send the class and call definition_of there")

    # -- instances -----------------------------------------------------------------------------------------------

    def new(self, id: str) -> "Aggregate":
        """An instance before its first event."""
        instance = object.__new__(self.type)
        state = instance.__dict__
        self._state.fill(state)
        state["_id"], state["_version"], state["_unit"], state["_handling"] = id, 0, None, False
        return instance

    def apply(self, instance: "Aggregate", spec: EventSpec, event: Any) -> None:
        """Let the handler change the instance by one event; what it raises is raised."""
        state = instance.__dict__
        state["_version"] += 1
        state["_handling"] = True
        try:
            spec.handler(instance, event)
        finally:
            state["_handling"] = False

    def replay(self, instance: "Aggregate", events: Iterable[Fact | Recorded]) -> None:
        """Apply recorded events in order. Raises `HydrationFailed` at the first one that cannot be."""
        state, specs = instance.__dict__, self.events_by_name
        recorded = None
        state["_handling"] = True
        try:
            for recorded in events:
                spec = specs[recorded.type]
                state["_version"] = recorded.version
                spec.handler(instance, spec.codec.decode(recorded.payload))
        except Exception as error:
            if recorded is None:  # the iterable itself failed
                raise
            raise self._hydration_failed(state["_id"], recorded, error) from error
        finally:
            state["_handling"] = False

    def encode_state(self, instance: "Aggregate") -> bytes:
        """The fields, and what reminders are pending, as MessagePack: a snapshot's payload. Raises `CodecError`."""
        return carry(self._state.encode(instance.__dict__), instance)

    def restore(self, instance: "Aggregate", payload: bytes, version: int = 0) -> None:
        """Put what a snapshot taken at `version` holds into a new instance. Raises `CodecError`."""
        instance.__dict__.update(self._state.decode(uncarried(payload, instance)))
        instance.__dict__["_version"] = version

    def same_state(self, one: "Aggregate", other: "Aggregate") -> bool:
        """Whether all fields and pending reminders are equal, types included."""
        return not self.state_difference(one, other)

    def state_difference(self, one: "Aggregate", other: "Aggregate") -> str:
        """Where the fields and pending reminders of two instances part, in words; empty if nowhere."""
        values, others = one.__dict__, other.__dict__
        apart = next(filter(None, (difference(values[n], others[n], n) for n in self._state.fields)), "")
        return apart or difference(values.get("_reminders", {}), others.get("_reminders", {}), "reminders")

    # -- fingerprints --------------------------------------------------------------------------------------------

    @functools.cached_property
    def schema(self) -> str:
        """Of a snapshot: equal if the same events make the same state. It covers the structure of the state, its
        first values and the handlers, so that a corrected handler replays instead of trusting what the old one
        made."""
        own = sorted(self.events.values(), key=lambda spec: spec.name)
        handlers = self._with_methods(spec.handler for spec in own)
        events = [spec.type for spec in own]
        start = self.encode_state(self.new(""))
        made = behaviour_of(*handlers, *events, module=self.type.__module__)
        return digest(f"{self._state.codec.schema} {start.hex()} {made}".encode())

    @functools.cached_property
    def code(self) -> str:
        """Of everything that this aggregate does; another one means that running hosts are out of date."""
        return digest(f"{self.schema} {behaviour_of(self.type, module=self.type.__module__)}".encode())

    @functools.cached_property
    def uses_reminders(self) -> bool:
        """Whether the code of any of its methods mentions `remind`. What functions beside the class do is not seen."""
        return any("remind" in names_in(code) for thing in self._attributes.values() for code in codes_of(thing))

    def _with_methods(self, functions: Iterable[Callable[..., Any]]) -> list[Any]:
        """These, and the methods and properties of the class that they use, and those that these use."""
        found: list[Any] = []
        waiting: list[Any] = list(functions)
        while waiting:
            function = waiting.pop(0)
            if function not in found:
                found.append(function)
                for code in codes_of(function):
                    used = sorted(names_in(code) & self._attributes.keys())
                    waiting += [self._attributes[name] for name in used if codes_of(self._attributes[name])]
        return found

    # -- reading the class ---------------------------------------------------------------------------------------

    def _read_commands(self, names: Names) -> dict[str, CommandSpec]:
        fields = {name for base in user_classes(self.type) for name in own_fields(base)}
        commands: dict[str, Command[..., Any, Any]] = {
            name: value for name, value in self._attributes.items() if isinstance(value, Command)
        }
        for name, command in commands.items():
            if name in fields:
                kind = "query" if command.is_query else "command"
                raise self._error(name, f"the {kind} shadows the field of the same name", command.function)
        return {name: self._command_spec(name, command, names) for name, command in commands.items()}

    def _command_spec(self, name: str, command: Command[..., Any, Any], names: Names) -> CommandSpec:
        reply = PLAIN_REPLY if command.is_query else self._reply_codec(name, command.function, names)
        return _spec_of(name, command.function, reply, self.type.__name__, is_query=command.is_query)

    def _reply_codec(self, name: str, function: Any, names: Names) -> Codec[Any]:
        what = f"reply of {self.type.__name__}.{name}"
        try:
            return Codec(return_hint(function, names), what, names=names)
        except UnresolvedType:
            raise
        except CodecError as error:
            raise self._error(name, f"its reply cannot be serialized: {error.problem}", function) from error

    def _read_events(self, names: Names) -> dict[type, EventSpec]:
        specs: dict[type, EventSpec] = {}
        named: dict[str, EventSpec] = {}
        for method, function in self._attributes.items():
            for event in handled_by(function) or ():
                spec = self._event_spec(method, function, event, names)
                other = named.get(spec.name)
                if event in specs:
                    first = specs[event].handler.__name__
                    raise self._error(method, f"{event.__name__} is applied by {first} already", function)
                if other is not None:
                    problem = f"{event.__name__} and {other.type.__name__} are both called {spec.name!r}"
                    raise self._error(method, problem, function)
                specs[event] = named[spec.name] = spec
        return specs

    def _event_spec(self, method: str, function: Any, event: Any, names: Names) -> EventSpec:
        name = event_name(event)
        if name is None:
            problem = f"@on takes event classes, and {getattr(event, '__name__', repr(event))} is none"
            raise self._error(method, f'{problem}; is @event("…") missing?', function)
        if event in SYSTEM_EVENTS:
            raise self._error(method, f"{event.__name__} is an event of our own, and is applied already", function)
        self._check_handler(method, function)
        try:
            return EventSpec(name=name, type=event, codec=event_codec(event, names), handler=function)
        except UnresolvedType:
            raise
        except CodecError as error:
            problem = f"event {event.__qualname__} cannot be serialized: {error.problem}"
            raise self._error(method, problem, function) from error

    def _check_handler(self, method: str, function: Any) -> None:
        if not isinstance(function, FunctionType):
            raise self._error(method, f"@on belongs on a method, not on a {type(function).__name__}")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise self._error(method, "an @on method applies an event at once: a plain def", function)
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise self._error(method, "an @on method takes self and the event, nothing else", function) from None

    def _check_emits(self) -> None:
        for name, value in self._attributes.items():
            function = value.function if isinstance(value, Command) else value
            for emitted in emitted_classes(function) if isinstance(function, FunctionType) else ():
                if emitted in self.events:
                    continue
                missing = f"no @on({emitted.__name__}) method applies it"
                if event_name(emitted) is None:
                    missing = 'it is no event; is @event("…") missing?'
                raise self._error(name, f"emits {emitted.__qualname__}, but {missing}", function)

    def _hydration_failed(self, id: str, recorded: Fact | Recorded, error: Exception) -> HydrationFailed:
        if recorded.type not in self.events_by_name:
            problem = f"no @on method of {self.type.__qualname__} applies {recorded.type!r}"
        elif isinstance(error, CodecError):
            problem = str(error)
        else:
            handler = self.events_by_name[recorded.type].handler.__name__
            problem = f"{handler} raised {type(error).__name__}: {error}"
        return HydrationFailed(f"{self.category}/{id}", recorded.version, recorded.position, problem)

    def _error(self, name: str, problem: str, function: Any = None) -> DefinitionError:
        place = place_of(self.type if function is None else function)
        return DefinitionError(f"{self.type.__qualname__}.{name}", problem, place)


def _spec_of(
    name: str, function: Callable[..., Any], reply: Codec[Any], owner: str, *, is_query: bool = False
) -> CommandSpec:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    return CommandSpec(
        name=name,
        function=function,
        is_query=is_query,
        is_async=inspect.iscoroutinefunction(function),
        reply=reply,
        owner=owner,
        signature=signature.replace(parameters=parameters),
        positional=_positional(parameters),
    )


_definitions: WeakKeyDictionary[type, Definition] = WeakKeyDictionary()
_building = threading.RLock()


def definition_of(cls: "type[Aggregate]") -> Definition:
    """The definition of an aggregate class, built on first use in each process. Raises `DefinitionError`."""
    try:
        return _definitions[cls]
    except (KeyError, TypeError):  # not built yet, or no class at all
        return _build(cls)


def _build(cls: Any) -> Definition:
    options = getattr(cls, "__holdfast_options__", None)
    if not isinstance(cls, type) or not isinstance(options, Options) or not options.category:
        raise DefinitionError(getattr(cls, "__qualname__", repr(cls)), "is no subclass of Aggregate")
    if options.abstract:
        raise DefinitionError(cls.__qualname__, "is abstract: only its subclasses can be used", place_of(cls))
    with _building:
        try:
            return _definitions.setdefault(cls, _definitions.get(cls) or Definition(cls))
        except UnresolvedType as error:
            raise DefinitionError(cls.__qualname__, f"{error.what}: {error.problem}", place_of(cls)) from error


def check_class(cls: "type[Aggregate]", frame: FrameType | None) -> None:
    """Raise `DefinitionError` for a class that cannot be an aggregate, while its statement is being executed.

    A class with nothing in it passes: it may be the skeleton of one that is on its way here by value. So does one
    that mentions what is defined further down: `definition_of` looks at it again."""
    if any(name in UNUSABLE or not name.startswith("__") for name in vars(cls)) or own_fields(cls):
        with contextlib.suppress(UnresolvedType):
            Definition(cls, frame)


def _attributes(cls: type) -> dict[str, Any]:
    """What instances see of the class and its bases, as far as users wrote it."""
    found: dict[str, Any] = {}
    for base in reversed(user_classes(cls)):
        found.update(vars(base))
    return found


def _check_names(cls: type, frame: FrameType | None) -> None:
    for base in user_classes(cls):
        for name in {*vars(base), *own_fields(base)}:
            value = vars(base).get(name)
            if name in RESERVED:
                raise DefinitionError(f"{cls.__qualname__}.{name}", "this name is ours", place_of(cls, frame))
            if name.startswith(OUR_PREFIX):
                problem = f"names that start with {OUR_PREFIX!r} are ours"
                raise DefinitionError(f"{cls.__qualname__}.{name}", problem, place_of(cls, frame))
            if name in UNUSABLE and base.__module__ != "typing":
                problem = "an aggregate starts from the defaults of its fields, and changes by events only"
                raise DefinitionError(f"{cls.__qualname__}.{name}", problem, place_of(value or cls, frame))


def _check_overrides(cls: type) -> None:
    """A method that takes the place of a command or handler must be one, or it would go unnoticed."""
    bases = user_classes(cls)
    for index, base in enumerate(bases):
        for name, value in vars(base).items():
            if not isinstance(value, FunctionType) or handled_by(value):
                continue
            inherited = next((vars(b)[name] for b in bases[index + 1 :] if name in vars(b)), None)
            if isinstance(inherited, Command):
                problem = f"overrides the {'query' if inherited.is_query else 'command'} without being one"
            elif handled_by(inherited):
                problem = "overrides an @on method without @on"
            else:
                continue
            raise DefinitionError(f"{cls.__qualname__}.{name}", problem, place_of(value))


def _positional(parameters: Sequence[inspect.Parameter]) -> range:
    """The numbers of positional arguments that need no closer look; none if a keyword is required."""
    ways = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in parameters if p.kind in ways]
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if any(p.default is inspect.Parameter.empty for p in keywords):
        return range(0)
    required = sum(p.default is inspect.Parameter.empty for p in places)
    return range(required, len(places) + 1)


PLAIN_REPLY = Codec[Any](Any, "reply")

SYSTEM_EVENTS: Mapping[type, EventSpec] = {
    event: EventSpec(name=str(event_name(event)), type=event, codec=event_codec(event, {}), handler=handler)
    for event, handler in HANDLERS.items()
}
"""Events that every aggregate applies."""

SYSTEM_COMMANDS: Mapping[str, CommandSpec] = {
    function.__name__: _spec_of(function.__name__, function, PLAIN_REPLY, "Aggregate")
    for function in (holdfast_fire, holdfast_fired, holdfast_ring)
}
"""Commands that every aggregate carries out and no reference has."""
