"""Events: facts, as frozen dataclasses under a name that never changes.

The journal stores the name, so renaming or moving the class breaks nothing; what the fields once were is told by a
version and by upcasters (`upcasting.py`). Name and version hang on the class as plain values; the codec does not, since
Ray must be able to send the class by value.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

from holdfast.journal.codec import Codec, CodecError, UnresolvedType
from holdfast.journal.event_types import VERSIONED
from holdfast.journal.reminders import RESERVED_PREFIX

from .errors import DefinitionError
from .personal import personal_codec
from .place import defining_frame, place_of, place_of_field, visible_names
from .upcasting import ALIASES, NAME, SPLIT_FROM, VERSION, check_chain, stored_type

__all__ = ["event", "event_codec", "event_name", "stored_type"]

T = TypeVar("T")

NAME_BYTES_MAX = 255
VERSION_MAX = 999_999_999

_named: WeakValueDictionary[tuple[str, str, str], type] = WeakValueDictionary()


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def event(
    name: str, *, version: int = 1, aliases: Iterable[str] = (), split_from: Iterable[type[Any]] = ()
) -> Callable[[type[T]], type[T]]:
    """Make the class an event called `name`: a frozen, slotted dataclass whose fields all have annotations.

    The name is what the journal stores: choose it once, `"account.deposited"` say, and keep it. `version`: of its
    fields; a class at a higher one than 1 has an `@upcast` for each version before it. `aliases`: other names, under
    which it is read as well. `split_from`: event classes whose upcasters make some of these, so that who reads these
    only finds them there.

    Raises `DefinitionError` for a name that another event of the same module (or function) has, for one that starts
    with `holdfast.` (those are our own) or ends with an `@` and digits (those are versions), for versions that nothing
    leads on from, and for fields that MessagePack cannot carry.
    """
    names = (name, *_tuple(aliases))
    for each in names:
        _check_name(each)
        if each.startswith(RESERVED_PREFIX):
            raise DefinitionError(repr(each), f"event names that start with {RESERVED_PREFIX!r} are Holdfast's own")
        if VERSIONED.fullmatch(each):
            raise DefinitionError(repr(each), "an event name does not end with @ and digits: say version=…")
    _check_evolution(names, version, origins := _tuple(split_from))
    evolution = {VERSION: version, ALIASES: names[1:], SPLIT_FROM: origins}
    return _event(name, {attribute: value for attribute, value in evolution.items() if value not in (1, ())})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def system_event(name: str) -> Callable[[type[T]], type[T]]:
    """`@event` for Holdfast's own events, the only ones whose names may start with `holdfast.`."""
    return _event(name, {})


def _event(name: str, evolution: Mapping[str, Any]) -> Callable[[type[T]], type[T]]:
    def decorate(cls: type[T]) -> type[T]:
        frame = defining_frame(cls)
        _check_annotated(cls, place_of(cls, frame))
        made = _frozen(cls, place_of(cls, frame))
        setattr(made, NAME, name)
        for attribute, value in evolution.items():
            setattr(made, attribute, value)
        check_chain(made, evolution.get(VERSION, 1), place_of(cls, frame))
        _take_names(made, (name, *evolution.get(ALIASES, ())), place_of(cls, frame))
        try:
            personal_codec(Codec[Any](made, made.__name__, names=visible_names(frame)), made, visible_names(frame))
        except UnresolvedType:
            pass  # something defined further down; the aggregate that handles it will tell
        except CodecError as error:
            field = error.problem.rpartition(" at .")[2].partition(".")[0].partition("[")[0]
            place = place_of_field(made, field, frame)
            raise DefinitionError(made.__qualname__, f"cannot be serialized: {error.problem}", place) from error
        return made

    return decorate


def event_name(cls: Any) -> str | None:
    """The name of an event class; None if the class itself is none, whatever its bases are."""
    name = vars(cls).get(NAME) if isinstance(cls, type) else None
    return name if isinstance(name, str) else None


def event_codec(cls: type, names: Mapping[str, Any]) -> Codec[Any]:
    """A codec of an event class; `names`: what its annotations may refer to."""
    return personal_codec(Codec[Any](cls, f"event {stored_type(cls)}", names=names), cls, names)


def _check_name(name: Any) -> None:
    """`@event` without a name hands over the class itself."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > NAME_BYTES_MAX:
        problem = f'an event needs a stable name, @event("…"): printable text of 1 to {NAME_BYTES_MAX} bytes'
        raise DefinitionError(getattr(name, "__qualname__", repr(name)), problem)


def _tuple(several: Any) -> tuple[Any, ...]:
    """A lone one is meant as one, and a text not as its letters."""
    return (several,) if isinstance(several, str | type) else tuple(several)


def _check_evolution(names: tuple[str, ...], version: Any, origins: tuple[Any, ...]) -> None:
    if type(version) is not int or not 1 <= version <= VERSION_MAX:
        raise DefinitionError(repr(names[0]), f"version is a whole number from 1 to {VERSION_MAX}, not {version!r}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DefinitionError(repr(names[0]), f"it is called {twice!r} twice")
    strange = next((origin for origin in origins if event_name(origin) is None), None)
    if strange is not None:
        raise DefinitionError(repr(names[0]), f"split_from takes event classes, and {strange!r} is none")


def _check_annotated(cls: type, place: str) -> None:
    annotated = inspect.get_annotations(cls)
    for name, value in vars(cls).items():
        plain = not (name.startswith("__") or callable(value) or hasattr(value, "__get__"))
        if plain and name not in annotated:
            raise DefinitionError(cls.__qualname__, f"field {name!r} has no annotation", place)


def _frozen(cls: type[T], place: str) -> type[T]:
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None:
        try:
            return dataclasses.dataclass(frozen=True, slots=True)(cls)
        except (TypeError, ValueError) as error:  # a default before a field without, a base that is not frozen
            raise DefinitionError(cls.__qualname__, str(error), place) from error
    if not parameters.frozen:
        raise DefinitionError(cls.__qualname__, "is a dataclass that is not frozen; leave that to @event", place)
    return cls


def _take_names(cls: type, names: Iterable[str], place: str) -> None:
    """One event per name and scope. The same class again (a notebook's cell run twice) replaces the older one."""
    scope = cls.__qualname__.rpartition(".")[0]
    for name in names:
        other = _named.get((cls.__module__, scope, name))
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise DefinitionError(cls.__qualname__, f"the event name {name!r} belongs to {other.__qualname__}", place)
    _named.update({(cls.__module__, scope, name): cls for name in names})
