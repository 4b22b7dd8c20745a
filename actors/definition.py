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
from .events import event_codec, event_name, stored_type
from .fields import State, own_fields, user_classes
from .firing import holdfast_fire, holdfast_fired
from .handlers import applied_by, correlated_by, handled_by
from .likeness import difference
from .options import Options
from .personal import personal_fields, personal_in
from .place import place_of, visible_names
from .reacting import REACT, Reactions, ReactionSpec, correlation_problem, reacting_with
from .reading import Decodes, Reading
from .reminders import HANDLERS, carry, uncarried
from .timers import holdfast_ring
from .upcasting import Ancestry

if TYPE_CHECKING:
    from .aggregate import Aggregate

__all__ = ["SYSTEM_COMMANDS", "CommandSpec", "Definition", "EventSpec", "OlderSpec", "check_class", "definition_of"]

Names: TypeAlias = Mapping[str, Any]

RESERVED = frozenset({"emit", "_id", "_version", "_unit", "_handling", "_reminders"})
OUR_PREFIX = "holdfast_"
UNUSABLE = frozenset({"__init__", "__new__", "__slots__", "__setattr__", "__delattr__", "__getattribute__"})


@dataclass(frozen=True, slots=True)
class EventSpec:
    """An event that the aggregate applies. `name`: what the journal stores as its type; `handler`: the function under
    `@on`, called as (instance, event)."""

    name: str
    type: type
    codec: Codec[Any]
    handler: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class OlderSpec:
    """An older type of an event that the aggregate applies, in the same shape, so that a replay does not ask which of
    the two it has: `codec` makes a list of all that it is today, and `handler` applies that."""

    name: str
    codec: Decodes
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

    `commands`, `events`: those that its users wrote. `served`, `applied`: these and our own, which no reference has.
    `events_by_name`: by all types that the journal may hold of them. `reactions`: the events of the journal that a
    `Reaction` reacts to, by the type that is stored of them today; else empty. `personal`: the fields with personal
    data of those of its events that have some, likewise.
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
        self.reactions = Reactions(self._read_reactions(names) if cls.__holdfast_reacts__ else {})
        self.served = {**self.commands, **SYSTEM_COMMANDS, **self._reacting()}
        self._state = State(cls, names, frame)
        self._check_state()
        self.events = self._read_events(names)
        self.applied = {**self.events, **SYSTEM_EVENTS}
        self.ancestry = Ancestry(self.events)
        self.events_by_name = self._by_stored_type()
        self.personal = {spec.name: f for spec in self.events.values() if (f := personal_fields(spec.type, names))}
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

    @functools.cached_property
    def reading(self) -> Reading:
        """How records of its streams are opened."""
        return Reading({cls: spec.codec for cls, spec in self.applied.items()})

    # -- fingerprints --------------------------------------------------------------------------------------------

    @functools.cached_property
    def schema(self) -> str:
        """Of a snapshot: equal if the same events make the same state. It covers the structure of the state, its
        first values and the handlers, so that a corrected handler replays instead of trusting what the old one
        made."""
        own = sorted(self.events.values(), key=lambda spec: spec.name)
        handlers = self._with_methods(spec.handler for spec in own)
        events = [spec.type for spec in own]
        events += [cls for cls in self.ancestry.classes if cls not in events]  # whose upcasters make some of them
        start = self.encode_state(self.new(""))
        made = behaviour_of(*handlers, *events, module=self.type.__module__)
        if self.options.snapshot_version != 1:
            made = f"{made} {self.options.snapshot_version}"
        return digest(f"{self._state.codec.schema} {start.hex()} {made}".encode())

    @functools.cached_property
    def code(self) -> str:
        """Of everything that this aggregate does; another one means that running hosts are out of date."""
        module = self.type.__module__
        made = [self.schema, behaviour_of(self.type, module=module)]
        made += [self.reactions[name].code(module) for name in sorted(self.reactions)]
        made += [behaviour_of(cls, module=module) for cls in self.reactions.origins]
        if self.reactions:
            made.append(repr(self.type.__holdfast_on_error__))
        return digest(" ".join(made).encode())

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

    def _reacting(self) -> dict[str, CommandSpec]:
        if not self.reactions:
            return {}
        function = reacting_with(self.category, self.reactions)
        return {REACT: _spec_of(REACT, function, PLAIN_REPLY, self.type.__name__)}

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
            self._check_kind(method, function)
            for event in self._applied_by(function):
                spec = self._event_spec(method, function, event, names)
                other = named.get(str(event_name(event)))
                if event in specs:
                    first = specs[event].handler.__name__
                    raise self._error(method, f"{event.__name__} is applied by {first} already", function)
                if other is not None:
                    problem = f"{event.__name__} and {other.type.__name__} are both called {event_name(event)!r}"
                    raise self._error(method, problem, function)
                specs[event] = named[str(event_name(event))] = spec
        return specs

    def _by_stored_type(self) -> dict[str, "EventSpec | OlderSpec"]:
        specs: dict[str, EventSpec | OlderSpec] = {spec.name: spec for spec in self.applied.values()}
        for stored, cls in self.ancestry.current.items():
            if cls in self.events:
                specs[stored] = self.events[cls]
        for stored in self.ancestry.older:
            specs[stored] = OlderSpec(stored, _Pieces(self, stored), _apply_pieces)
        return specs

    def _read_reactions(self, names: Names) -> dict[str, ReactionSpec]:
        specs: dict[str, ReactionSpec] = {}
        for method, function in self._attributes.items():
            for event, by in zip(handled_by(function), correlated_by(function), strict=True):
                self._check_event(method, function, event, "@on")
                name = stored_type(event)
                if name in specs:
                    first = specs[name].handler.__name__
                    raise self._error(method, f"{event.__name__} is reacted to by {first} already", function)
                takes_record = self._takes_record(method, function)
                if problem := correlation_problem(event, by):
                    raise self._error(method, problem, function)
                codec = self._event_codec(method, function, event, names)
                specs[name] = ReactionSpec(
                    name=name, type=event, codec=codec, handler=function, takes_record=takes_record, by=by
                )
        if not specs and not self.options.abstract:
            raise DefinitionError(
                self.type.__qualname__, "reacts to nothing: it has no @on method", place_of(self.type)
            )
        return specs

    def _applied_by(self, function: Any) -> tuple[Any, ...]:
        """In a reaction `@on` does not apply an event, it reacts to one."""
        own = applied_by(function)
        return own if self.type.__holdfast_reacts__ else (*own, *handled_by(function))

    def _check_kind(self, method: str, function: Any) -> None:
        if self.type.__holdfast_reacts__:
            if applied_by(function) and handled_by(function):
                raise self._error(method, "one method cannot both react (@on) and change state (@apply)", function)
        elif any(by is not None for by in correlated_by(function)):
            problem = "by= says which instance of a Reaction an event is for; an aggregate has its own events only"
            raise self._error(method, problem, function)

    def _event_spec(self, method: str, function: Any, event: Any, names: Names) -> EventSpec:
        what = "@apply" if event in applied_by(function) else "@on"
        if event in SYSTEM_EVENTS:
            raise self._error(method, f"{event.__name__} is an event of our own, and is applied already", function)
        self._check_event(method, function, event, what)
        self._check_handler(method, function, f"an {what} method")
        codec = self._event_codec(method, function, event, names)
        return EventSpec(name=stored_type(event), type=event, codec=codec, handler=function)

    def _check_event(self, method: str, function: Any, event: Any, what: str) -> None:
        if event_name(event) is None:
            problem = f"{what} takes event classes, and {getattr(event, '__name__', repr(event))} is none"
            raise self._error(method, f'{problem}; is @event("…") missing?', function)
        if not isinstance(function, FunctionType):
            raise self._error(method, f"{what} belongs on a method, not on a {type(function).__name__}")

    def _event_codec(self, method: str, function: Any, event: Any, names: Names) -> Codec[Any]:
        try:
            return event_codec(event, names)
        except UnresolvedType:
            raise
        except CodecError as error:
            problem = f"event {event.__qualname__} cannot be serialized: {error.problem}"
            raise self._error(method, problem, function) from error

    def _check_handler(self, method: str, function: Any, what: str) -> None:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise self._error(method, f"{what} applies an event at once: a plain def", function)
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise self._error(method, f"{what} takes self and the event, nothing else", function) from None

    def _takes_record(self, method: str, function: Any) -> bool:
        """Whether a method that reacts can be called with the record of the event as well."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self._error(method, "an @on method of a reaction is a def or an async def, no generator", function)
        signature = inspect.signature(function)
        for arguments in ((None, None, None), (None, None)):
            with contextlib.suppress(TypeError):
                signature.bind(*arguments)
                return len(arguments) == 3
        problem = "an @on method of a reaction takes self, the event and, if it wants, its record; nothing else"
        raise self._error(method, problem, function)

    def _check_state(self) -> None:
        for name, annotation in self._state.fields.items():
            if personal_in(annotation):
                problem = "Personal(…) marks the field of an event; what the state has of it is kept sealed with it"
                raise self._error(name, problem)

    def _check_emits(self) -> None:
        for name, value in self._attributes.items():
            function = value.function if isinstance(value, Command) else value
            for emitted in emitted_classes(function) if isinstance(function, FunctionType) else ():
                if emitted in self.events:
                    continue
                missing = f"no {self._applies}({emitted.__name__}) method applies it"
                if event_name(emitted) is None:
                    missing = 'it is no event; is @event("…") missing?'
                raise self._error(name, f"emits {emitted.__qualname__}, but {missing}", function)

    def _hydration_failed(self, id: str, recorded: Fact | Recorded, error: Exception) -> HydrationFailed:
        spec = self.events_by_name.get(recorded.type)
        if spec is None:
            newer = self.reading.too_new(recorded.type)
            missing = f"no {self._applies} method of {self.type.__qualname__} applies {recorded.type!r}"
            problem = newer.problem if newer else missing
        elif isinstance(error, CodecError):
            problem = str(error)
        elif isinstance(spec, OlderSpec):
            problem = f"a handler of what {spec.name!r} is today raised {type(error).__name__}: {error}"
        else:
            problem = f"{spec.handler.__name__} raised {type(error).__name__}: {error}"
        return HydrationFailed(f"{self.category}/{id}", recorded.version, recorded.position, problem)

    @property
    def _applies(self) -> str:
        return "@apply" if self.type.__holdfast_reacts__ else "@on"

    def _error(self, name: str, problem: str, function: Any = None) -> DefinitionError:
        place = place_of(self.type if function is None else function)
        return DefinitionError(f"{self.type.__qualname__}.{name}", problem, place)


class _Pieces:
    """In the place of the codec of an older type: what its payload is today, each with the handler that applies it."""

    def __init__(self, definition: Definition, stored: str) -> None:
        self._ancestry, self._stored = definition.ancestry, stored
        self._handlers = {spec.name: spec for spec in definition.applied.values()}

    def decode(self, payload: bytes) -> list[tuple[EventSpec, Any]]:
        """Raises `CodecError`, before anything of it is applied."""
        found: list[tuple[EventSpec, Any]] = []
        for type, today in self._ancestry.pieces(self._stored, payload):
            spec = self._handlers.get(type)
            if spec is None:
                raise CodecError(f"event {self._stored}", f"it is upcast to {type!r}, which no method applies")
            found.append((spec, spec.codec.decode(today)))
        return found


def _apply_pieces(instance: Any, pieces: Sequence[tuple[EventSpec, Any]]) -> None:
    for spec, event in pieces:
        spec.handler(instance, event)


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
            if not isinstance(value, FunctionType) or handled_by(value) or applied_by(value):
                continue
            inherited = next((vars(b)[name] for b in bases[index + 1 :] if name in vars(b)), None)
            if isinstance(inherited, Command):
                problem = f"overrides the {'query' if inherited.is_query else 'command'} without being one"
            elif handled_by(inherited):
                problem = "overrides an @on method without @on"
            elif applied_by(inherited):
                problem = "overrides an @apply method without @apply"
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
