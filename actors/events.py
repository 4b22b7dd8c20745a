"""Events: facts, as frozen dataclasses under a name that never changes.

The journal stores the name, so renaming or moving the class breaks nothing. The name hangs on the class as
plain text; the codec does not, since Ray must be able to send the class by value.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

from holdfast.journal.codec import Codec, CodecError, UnresolvedType
from holdfast.journal.reminders import RESERVED_PREFIX

from .errors import DefinitionError
from .place import defining_frame, place_of, place_of_field, visible_names

__all__ = ["event", "event_codec", "event_name"]

T = TypeVar("T")

NAME_BYTES_MAX = 255
ATTRIBUTE = "__event_name__"

_named: WeakValueDictionary[tuple[str, str, str], type] = WeakValueDictionary()


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def event(name: str) -> Callable[[type[T]], type[T]]:
    """Make the class an event called `name`: a frozen, slotted dataclass whose fields all have annotations.

    The name is what the journal stores: choose it once, `"account.deposited"` say, and keep it. Raises
    `DefinitionError` for a name that another event of the same module (or function) has, for one that starts with
    `holdfast.` (those are our own), and for fields that MessagePack cannot carry.
    """
    _check_name(name)
    if name.startswith(RESERVED_PREFIX):
        raise DefinitionError(repr(name), f"event names that start with {RESERVED_PREFIX!r} are Holdfast's own")
    return system_event(name)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def system_event(name: str) -> Callable[[type[T]], type[T]]:
    """`@event` for Holdfast's own events, the only ones whose names may start with `holdfast.`."""

    def decorate(cls: type[T]) -> type[T]:
        frame = defining_frame(cls)
        _check_annotated(cls, place_of(cls, frame))
        made = _frozen(cls, place_of(cls, frame))
        setattr(made, ATTRIBUTE, name)
        _take_name(made, name, place_of(cls, frame))
        try:
            Codec[Any](made, made.__name__, names=visible_names(frame))
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
    name = vars(cls).get(ATTRIBUTE) if isinstance(cls, type) else None
    return name if isinstance(name, str) else None


def event_codec(cls: type, names: Mapping[str, Any]) -> Codec[Any]:
    """A codec of an event class; `names`: what its annotations may refer to."""
    return Codec(cls, f"event {event_name(cls)}", names=names)


def _check_name(name: Any) -> None:
    """`@event` without a name hands over the class itself."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > NAME_BYTES_MAX:
        problem = f'an event needs a stable name, @event("…"): printable text of 1 to {NAME_BYTES_MAX} bytes'
        raise DefinitionError(getattr(name, "__qualname__", repr(name)), problem)


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


def _take_name(cls: type, name: str, place: str) -> None:
    """One event per name and scope. The same class again (a notebook's cell run twice) replaces the older one."""
    scope = cls.__qualname__.rpartition(".")[0]
    other = _named.get((cls.__module__, scope, name))
    if other is not None and other.__qualname__ != cls.__qualname__:
        raise DefinitionError(cls.__qualname__, f"the event name {name!r} belongs to {other.__qualname__}", place)
    _named[cls.__module__, scope, name] = cls
