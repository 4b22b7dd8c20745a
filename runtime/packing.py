"""Packing: how query results and exceptions travel, each on its own, so that one that cannot hurts its caller alone.

A result is pickled at the moment it is computed: what a query returned may be part of the state, which goes on
changing. An exception is taken apart into class, arguments and attributes, and put together without calling its
constructor: so any exception crosses as itself, whatever its constructor takes. Command replies are not packed:
they travel as the MessagePack that the journal keeps.
"""

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
        if not isinstance(error, Rejected) and error.__traceback__ is not None:  # a rejection is an answer
            error.add_note("where it was raised:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip())
        try:
            packed = Packed(self._dumps(_Error(type(error), error.args, vars(error))))
            self.unpack(packed)
        except Exception as problem:
            what = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
            told = NotSerializable(f"exception {what}", str(problem))
            return Packed(self._dumps(_Error(NotSerializable, told.args, {})))
        return packed


class _Error:
    """An exception, taken apart."""

    def __init__(self, cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        self.cls, self.args, self.attributes = cls, args, attributes

    def rebuild(self) -> BaseException:
        cls = _known_here(self.cls)
        error = cls.__new__(cls, *self.args)
        error.args = self.args
        vars(error).update(self.attributes)
        return error


def _known_here(cls: type[BaseException]) -> type[BaseException]:
    """The class that `except` means in this process: one that came by value may be a copy of it."""
    known: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        known = getattr(known, name, None)
    return known if isinstance(known, type) and issubclass(known, BaseException) else cls
