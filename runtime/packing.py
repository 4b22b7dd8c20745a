"""Packing: how query results and exceptions travel, each on its own, so that one that cannot hurts its caller alone.

A result is pickled at the moment it is computed: what a query returned may be part of the state, which goes on
changing. An exception is taken apart into class, arguments and attributes, and put together without calling its
constructor: so any exception crosses as itself, whatever its constructor takes. Command replies are not packed:
they travel as the MessagePack that the journal keeps.
"""

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from holdfast.actors.errors import NotSerializable, Rejected

__all__ = ["Packer"]

PLAIN = (int, float, bool, str, bytes, type(None))


class Packed:
    """A value as bytes."""

    __slots__ = ("wire",)

    def __init__(self, wire: bytes) -> None:
        self.wire = wire

    def __reduce__(self) -> Any:
        return Packed, (self.wire,)


class Packer:
    """Packs with `dumps`, which must be able to send classes by value, and unpacks with `loads`."""

    def __init__(self, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        self._dumps, self._loads = dumps, loads

    def pack(self, value: Any) -> Any:
        """Make a query's result or an exception ready for the way. Raises `NotSerializable` for a result that
        cannot go; an exception always can, if need be as its text."""
        if type(value) in PLAIN:
            return value
        if isinstance(value, BaseException):
            return self._pack_error(value)
        try:
            return Packed(self._dumps(value))
        except Exception as error:
            raise NotSerializable(f"result of type {type(value).__qualname__}", str(error)) from None

    def unpack(self, value: Any) -> Any:
        """What was packed; an exception as an instance of the class that this process knows by its name."""
        if not isinstance(value, Packed):
            return value
        found = self._loads(value.wire)
        return found.rebuild() if isinstance(found, _Error) else found

    def _pack_error(self, error: BaseException) -> Packed:
        try:
            packed = Packed(self._dumps(_Error.of(error)))
            self.unpack(packed)
        except Exception as problem:
            what = f"{type(error).__module__}.{type(error).__qualname__}: {_text(error)}"
            told = NotSerializable(f"exception {what}", f"{type(problem).__name__}: {problem}")
            return Packed(self._dumps(_Error.of(told)))
        return packed


class _Error:
    """An exception, taken apart."""

    def __init__(
        self, cls: type[BaseException], made_of: tuple[Any, ...], args: tuple[Any, ...], attributes: dict[str, Any]
    ) -> None:
        """`made_of`: what the built-in wants, which may be more than it shows as `args`: a filename, say."""
        self.cls, self.made_of, self.args, self.attributes = cls, made_of, args, attributes

    @classmethod
    def of(cls, error: BaseException) -> "_Error":
        """Its parts, and where it was raised, as a note. The exception itself, which is the user's, stays as it is."""
        reduced: Any = _builtin(type(error)).__reduce__(error)
        plain = isinstance(error, OSError) and error.errno is None  # its arguments are its own, not errno and so on
        attributes: dict[str, Any] = {**_slots(error), **(reduced[2] if len(reduced) > 2 and reduced[2] else {})}
        if not isinstance(error, Rejected) and error.__traceback__ is not None:  # a rejection is an answer
            where = "where it was raised:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
            attributes["__notes__"] = [*attributes.get("__notes__", ()), where]
        return cls(type(error), () if plain else reduced[1], error.args, attributes)

    def rebuild(self) -> BaseException:
        """The exception again; no constructor of the user's is called."""
        cls = _known_here(self.cls)
        builtin: Any = _builtin(cls)
        error: BaseException = builtin.__new__(cls, *self.made_of)
        with contextlib.suppress(TypeError):  # the built-in may want other arguments than its subclass keeps
            builtin.__init__(error, *self.made_of)
        error.args = self.args
        for name, value in self.attributes.items():
            object.__setattr__(error, name, value)
        return error


def _builtin(cls: type[BaseException]) -> type[BaseException]:
    """The built-in exception that a class is made from: it knows the layout of its instances."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _slots(error: BaseException) -> dict[str, Any]:
    names = [name for base in type(error).__mro__ for name in _names(vars(base).get("__slots__", ()))]
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:
        return f"(its text fails: {problem})"


def _known_here(cls: type[BaseException]) -> type[BaseException]:
    """The class that `except` means in this process: one that came by value may be a copy of it."""
    known: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        known = getattr(known, name, None)
    return known if isinstance(known, type) and issubclass(known, BaseException) else cls
