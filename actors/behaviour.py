"""Behaviour: a fingerprint of what code does, to tell whether a running host has the same.

It covers the bytecode of functions with the names and constants they use, and, from there, the functions,
classes and constants of the same top-level package or module that they reach. Line numbers, file paths,
comments, docstrings and the order of sets do not count, so every process that loads the same code gets the same
answer. Another Python version compiles to another bytecode and gives another one.

Global constants count when they are plain values (and tables of them, when their name is written LIKE_THIS): a
changed limit is a changed rule. What lives in other packages does not count.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import dataclasses
import dis
import enum
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from holdfast.journal.annotations import mended
from holdfast.journal.codec import Codec, CodecError, digest, encode_canonical

from .commands import Command

__all__ = ["behaviour_of", "codes_of", "names_in"]

PLAIN = (bool, int, float, str, bytes, type(None), tuple, frozenset)
TABLES = (list, dict, set)


def behaviour_of(*roots: Any, module: str) -> str:
    """16 hex digits. `roots`: functions and classes; `module`: whose top-level package counts as the same code."""
    outline = _Outline(module.partition(".")[0])
    for root in roots:
        outline.add(root)
    return digest(encode_canonical(outline.found))


class _Outline:
    """Collects, in order and once each, what the code consists of."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.found: list[Any] = []
        self._seen: dict[int, Any] = {}

    def add(self, thing: Any) -> None:
        """Take in a function, a class, a property … and all that it reaches."""
        thing = _unwrapped(thing)
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing  # kept, so that its id is not given to another
        if isinstance(thing, FunctionType):
            self._add_function(thing)
        elif isinstance(thing, property):
            for function in (thing.fget, thing.fset, thing.fdel):
                self.add(function)
        elif isinstance(thing, type):
            self._add_class(thing)

    def _add_function(self, function: FunctionType) -> None:
        self.found.append(("function", function.__name__, _code(function.__code__)))
        self._add_value("defaults", (function.__defaults__, function.__kwdefaults__))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self._add_reached(name, cell.cell_contents)
            except ValueError:  # not bound yet
                continue
        for name in sorted(names_in(function.__code__)):
            if name in function.__globals__:
                self._add_reached(name, function.__globals__[name], function.__code__)

    def _add_class(self, cls: type) -> None:
        # Not its qualified name: a class that travels by value forgets in which function it was made.
        self.found.append(("class", [base.__name__ for base in cls.__mro__]))
        if issubclass(cls, enum.Enum):
            self._add_value("members", [(m.name, m.value) for m in cls])
        if dataclasses.is_dataclass(cls):
            self.found.append(_structure(cls))
        for base in cls.__mro__:
            for name, value in sorted(vars(base).items()) if self._is_home(base) else ():
                if not _is_generated(base, name, value):
                    self._add_reached(name, value)

    def _add_reached(self, name: str, value: Any, code: CodeType | None = None) -> None:
        if isinstance(value, ModuleType):
            if code is not None and self._is_home_name(value.__name__):
                for attribute in sorted(names_in(code) & vars(value).keys()):
                    self._add_reached(attribute, vars(value)[attribute])
        elif isinstance(value, (*PLAIN, enum.Enum)) or (isinstance(value, TABLES) and name.isupper()):
            if not name.startswith("__"):
                self._add_value(name, value)
        elif self._is_home(_unwrapped(value)):
            self.add(value)

    def _add_value(self, name: str, value: Any) -> None:
        try:
            self.found.append((name, encode_canonical(value)))
        except CodecError:  # holds something else than plain values
            self.found.append((name, type(value).__qualname__))

    def _is_home(self, thing: Any) -> bool:
        if isinstance(thing, property):
            return True
        return isinstance(thing, FunctionType | type) and self._is_home_name(thing.__module__ or "")

    def _is_home_name(self, module: str) -> bool:
        return module.partition(".")[0] == self.home


def codes_of(thing: Any) -> list[CodeType]:
    """The code behind a function, a command, a property or a class or static method; none for anything else."""
    thing = _unwrapped(thing)
    functions = (thing.fget, thing.fset, thing.fdel) if isinstance(thing, property) else (thing,)
    return [function.__code__ for function in functions if isinstance(function, FunctionType)]


def _unwrapped(thing: Any) -> Any:
    if isinstance(thing, Command):
        return thing.function
    if isinstance(thing, staticmethod | classmethod):
        return thing.__func__
    if callable(getattr(thing, "__wrapped__", None)) and not isinstance(thing, FunctionType | type):
        return thing.__wrapped__  # functools.cache and the like
    return thing


def _is_generated(cls: type, name: str, value: Any) -> bool:
    """What `@dataclass` writes by itself, which its fields tell already."""
    code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
    made = code is not None and code.co_filename == "<string>" and name.startswith("__")
    return name in ("__dataclass_fields__", "__match_args__") or (made and dataclasses.is_dataclass(cls))


def _structure(cls: type) -> Any:
    fields = [(f.name, f.init, _default(mended(f))) for f in dataclasses.fields(cls)]
    try:
        return fields, Codec(cls, cls.__qualname__).schema
    except CodecError:  # it need not go through MessagePack to be used
        return fields, ""


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return "made by", getattr(field.default_factory, "__qualname__", "")
    try:
        return "is", encode_canonical(field.default)
    except CodecError:
        return "is a", type(field.default).__qualname__


def names_in(code: CodeType) -> set[str]:
    """Global names and attributes that the code uses, functions inside it included."""
    inner = (names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


def _code(code: CodeType) -> Any:
    head = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_varnames)
    return *head, list(_instructions(code)), code.co_exceptiontable


def _instructions(code: CodeType) -> Iterator[Any]:
    """Each instruction with what it means, not with its index in a table: a docstring moves those."""
    for instruction in dis.get_instructions(code):
        yield instruction.opname, _constant(instruction.argval)


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, tuple | frozenset):
        parts = [encode_canonical(_constant(each)) for each in value]
        return type(value).__name__, parts if isinstance(value, tuple) else sorted(parts)
    return value if isinstance(value, int | float | str | bytes | None) else repr(value)
