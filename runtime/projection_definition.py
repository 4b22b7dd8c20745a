"""What a projection class declares, worked out and checked once.

The class is checked when it is made, so that a mistake is told at its line. As with aggregates, the definition is built
again, from the class alone, wherever it is needed, and nothing of it hangs on the class: that may travel by value.
"""

import contextlib
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard
from weakref import WeakKeyDictionary

from holdfast.actors.behaviour import behaviour_of
from holdfast.actors.errors import DefinitionError
from holdfast.actors.events import event_codec, event_name, stored_type
from holdfast.actors.handlers import applied_by, correlated_by, handled_by
from holdfast.actors.place import place_of, visible_names
from holdfast.actors.policy import DeadLetter, Policy, Retry, Stop
from holdfast.actors.reading import Reading
from holdfast.journal.codec import Codec, CodecError, UnresolvedType, digest

from .projection_table import Table

if TYPE_CHECKING:
    from .projection import Projection

__all__ = [
    "EventHandler",
    "ProjectionDefinition",
    "ProjectionKeywords",
    "ProjectionOptions",
    "check_projection",
    "is_projection",
    "projection_of",
]

OURS = f"{__name__.rpartition('.')[0]}.projection"
RESERVED = frozenset({"execute", "fetch", "fetch_one", "_model"})
UNUSABLE = frozenset({"__init__", "__new__", "__slots__", "__setattr__", "__delattr__", "__getattribute__"})
NAME_BYTES_MAX, PARTS_MAX = 200, 64


class ProjectionKeywords(TypedDict, total=False):
    """What may stand beside `Projection` in a class statement: the fields of `ProjectionOptions`."""

    name: str
    version: int
    partitions: int
    on_error: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionOptions:
    """Plain and picklable; it hangs on the class and travels with it.

    `name`: of its checkpoints, and of its followers; the class's name if not given. `version`: of what it makes; a
    higher one is built anew, from the first event on, beside the one that serves, and then takes its place.
    `partitions`: how many processes share the work, each with its own streams; their handlers must not need the rows
    of each other's. `on_error`: what becomes of an event whose handler fails.
    """

    name: str = ""
    version: int = 1
    partitions: int = 1
    on_error: Policy = field(default_factory=lambda: Retry(times=5, then="stop"))

    def derive(self, name: str, given: ProjectionKeywords) -> "ProjectionOptions":
        """The options of a subclass called `name`. Raises `ValueError` naming the one that cannot be."""
        unknown = given.keys() - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"unknown class keyword {sorted(unknown)[0]!r}")
        start: ProjectionKeywords = {"name": name, "version": 1}
        options = replace(self, **(start | given))
        options.check()
        return options

    def check(self) -> None:
        """Raise `ValueError` if these cannot be the options of a projection."""
        name: Any = self.name
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise ValueError(f"name is printable text of 1 to {NAME_BYTES_MAX} bytes, not {name!r}")
        if set(name) & set("/@#"):
            raise ValueError(f"name is text without /, @ and #, not {name!r}")
        if type(self.version) is not int or self.version < 1:
            raise ValueError(f"version is a whole number from 1, not {self.version!r}")
        if type(self.partitions) is not int or not 1 <= self.partitions <= PARTS_MAX:
            raise ValueError(f"partitions is a whole number from 1 to {PARTS_MAX}, not {self.partitions!r}")
        if not isinstance(self.on_error, Retry | DeadLetter | Stop):
            raise ValueError(f"on_error is Retry(…), DeadLetter() or Stop(), not {self.on_error!r}")


@dataclass(frozen=True, slots=True)
class EventHandler:
    """What a projection does about one event. `takes_record`: the function wants the `RecordedEvent` as well."""

    name: str
    type: type
    codec: Codec[Any]
    function: Callable[..., Any]
    takes_record: bool


class ProjectionDefinition:
    """One projection class: its handlers, its tables. Immutable; not picklable; see `projection_of`."""

    def __init__(self, cls: "type[Projection]", frame: FrameType | None = None) -> None:
        """Raises `DefinitionError`, and `UnresolvedType` while an annotation names what is not there yet."""
        self.type = cls
        self.options: ProjectionOptions = cls.__holdfast_projection__
        self.name, self.version, self.parts = self.options.name, self.options.version, self.options.partitions
        self._frame = frame
        self._attributes = _attributes(cls)
        self._check_names()
        self.tables = self._read_tables()
        self.handlers = self._read_handlers(visible_names(frame, cls))
        """By the type that the journal stores today."""
        self.reading = Reading({handler.type: handler.codec for handler in self.handlers.values()})
        if not self.handlers:
            raise self._error("", "has no @on method: it would do nothing about any event")
        self._frame = None

    def __repr__(self) -> str:
        return f"<definition of projection {self.name}@{self.version}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled; send the class and call projection_of there")

    @property
    def shape(self) -> str:
        """Of the tables: one of another shape holds other rows."""
        return digest("\n".join(sorted(table.shape for table in self.tables.values())).encode())

    @property
    def code(self) -> str:
        """Of everything that it does; another one means that what runs is out of date."""
        module = self.type.__module__
        made = " ".join(behaviour_of(each, module=module) for each in (self.type, *self.reading.ancestry.evolved))
        return digest(f"{self.shape} {made} {self.options!r}".encode())

    def owner(self, part: int) -> str:
        """What the follower of a part is called. Versions are followers of their own: for a while there are two."""
        return f"projection/{self.name}@{self.version}" + (f"#{part}" if self.parts > 1 else "")

    @property
    def owners(self) -> tuple[str, ...]:
        """What all its followers are called."""
        return tuple(map(self.owner, range(self.parts)))

    def is_former(self, owner: str) -> bool:
        """Whether a follower is one of an older version of this."""
        found = re.fullmatch(rf"projection/{re.escape(self.name)}@(\d+)(?:#\d+)?", owner)
        return found is not None and int(found[1]) < self.version

    def names(self, generation: int, *, serving: bool) -> dict[str, str]:
        """What each table is called in a generation, while that serves and while it is being built."""
        return {name: name if serving else shadow(name, generation) for name in self.tables}

    # -- reading the class ---------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        for name, value in self._attributes.items():
            if name in RESERVED:
                raise self._error(name, "this name is ours", value)
            if name in UNUSABLE:
                raise self._error(name, "a projection keeps nothing but its tables", value)

    def _read_tables(self) -> dict[str, Table]:
        tables: dict[str, Table] = {}
        self.attributes: dict[str, str] = {}
        """Of the tables: where handlers find the name of each."""
        for attribute, table in self._attributes.items():
            if not isinstance(table, Table):
                if table is Table:
                    raise self._error(attribute, "a table needs columns: Table(…)")
                continue
            if table.problem:
                raise self._error(attribute, table.problem)
            if table.name in tables:
                other = next(each for each, name in self.attributes.items() if name == table.name)
                raise self._error(attribute, f"{other} is called {table.name!r} already")
            tables[table.name], self.attributes[attribute] = table, table.name
        return tables

    def _read_handlers(self, names: Mapping[str, Any]) -> dict[str, EventHandler]:
        handlers: dict[str, EventHandler] = {}
        for method, function in self._attributes.items():
            if applied_by(function):
                raise self._error(method, "@apply changes the state of an aggregate; a projection has @on", function)
            if any(by is not None for by in correlated_by(function)):
                raise self._error(method, "by= finds the instance of a reaction; a projection has none", function)
            for event in handled_by(function):
                found = self._handler(method, function, event, names)
                other = handlers.get(found.name)
                if other is not None:
                    first = other.function.__name__
                    same = other.type is found.type
                    what = event.__name__ if same else f"{event_name(event)!r}, the name of {event.__name__} too,"
                    raise self._error(method, f"{what} is handled by {first} already", function)
                handlers[found.name] = found
        self._check_overrides()
        return handlers

    def _handler(self, method: str, function: Any, event: Any, names: Mapping[str, Any]) -> EventHandler:
        if event_name(event) is None:
            problem = f"@on takes event classes, and {getattr(event, '__name__', repr(event))} is none"
            raise self._error(method, f'{problem}; is @event("…") missing?', function)
        takes_record = self._takes_record(method, function)
        try:
            codec = event_codec(event, names)
        except UnresolvedType:
            raise
        except CodecError as error:
            problem = f"event {event.__qualname__} cannot be serialized: {error.problem}"
            raise self._error(method, problem, function) from error
        name = stored_type(event)
        return EventHandler(name=name, type=event, codec=codec, function=function, takes_record=takes_record)

    def _takes_record(self, method: str, function: Any) -> bool:
        if not isinstance(function, FunctionType):
            raise self._error(method, f"@on belongs on a method, not on a {type(function).__name__}")
        kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(kind(function) for kind in kinds):
            problem = "an @on method of a projection is a plain def: it runs in a thread, in a transaction"
            raise self._error(method, problem, function)
        for given in ((None, None, None), (None, None)):
            with contextlib.suppress(TypeError):
                inspect.signature(function).bind(*given)
                return len(given) == 3
        raise self._error(method, "an @on method takes self, the event and, if it likes, its record", function)

    def _check_overrides(self) -> None:
        """A method that takes the place of a handler must be one, or it would go unnoticed."""
        bases = _bases(self.type)
        for index, base in enumerate(bases):
            for name, value in vars(base).items():
                inherited = next((vars(b)[name] for b in bases[index + 1 :] if name in vars(b)), None)
                if handled_by(inherited) and not handled_by(value):
                    raise self._error(name, "overrides an @on method without @on", value)

    def _error(self, name: str, problem: str, thing: Any = None) -> DefinitionError:
        place = place_of(thing) if hasattr(thing, "__code__") else place_of(self.type, self._frame)
        return DefinitionError(f"{self.type.__qualname__}{'.' if name else ''}{name}", problem, place)


def shadow(table: str, generation: int) -> str:
    """What a table is called while its generation is being built."""
    return f"{table}__{generation}"


_definitions: WeakKeyDictionary[type, ProjectionDefinition] = WeakKeyDictionary()
_building = threading.RLock()


def projection_of(cls: Any) -> ProjectionDefinition:
    """The definition of a projection class, built on first use in each process. Raises `DefinitionError`."""
    options = getattr(cls, "__holdfast_projection__", None)
    if not isinstance(cls, type) or not isinstance(options, ProjectionOptions) or not options.name:
        raise DefinitionError(getattr(cls, "__qualname__", repr(cls)), "is no subclass of Projection")
    with _building:
        found = _definitions.get(cls)
        if found is not None:
            return found
        try:
            return _definitions.setdefault(cls, ProjectionDefinition(cls))
        except UnresolvedType as error:
            raise DefinitionError(cls.__qualname__, f"{error.what}: {error.problem}", place_of(cls)) from error


def is_projection(cls: Any) -> TypeGuard[type[Any]]:
    """Whether it is a class that subclasses `Projection`."""
    return isinstance(cls, type) and isinstance(getattr(cls, "__holdfast_projection__", None), ProjectionOptions)


def check_projection(cls: "type[Projection]", frame: FrameType | None) -> None:
    """Raise `DefinitionError` for a class that cannot be a projection, while its statement is being executed.

    A class with nothing in it passes: it may be the skeleton of one that is on its way here by value. So does one that
    mentions what is defined further down: `projection_of` looks at it again."""
    if any(name in UNUSABLE or not name.startswith("__") for name in vars(cls)):
        with contextlib.suppress(UnresolvedType):
            ProjectionDefinition(cls, frame)


def _bases(cls: type) -> list[type]:
    """The class and its bases, nearest first, as far as users wrote them."""
    return [base for base in cls.__mro__ if base.__module__ not in (OURS, "builtins", "typing")]


def _attributes(cls: type) -> dict[str, Any]:
    """What instances see of the class and its bases, as far as users wrote it."""
    found: dict[str, Any] = {}
    for base in reversed(_bases(cls)):
        found.update(vars(base))
    return found
