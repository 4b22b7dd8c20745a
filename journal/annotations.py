"""Annotations: from what a user writes after the colon to the shape of its values on the wire.

Annotations may be text (`from __future__ import annotations`, or a name in quotes). What it means is looked up
here and written back to the class: one that Ray sends by value leaves its module, where the names are, behind.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NewType, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec

from .shape import ArrayShape, EnumShape, MapShape, Misfit, RecordShape, Shape, TupleShape, UnionShape, Unresolved

__all__ = ["hints_of", "mended", "return_hint", "shape_of", "unwrapped"]

Names = Mapping[str, Any] | None

# One union may hold one member of each of msgspec's groups, whatever the members are.
_LEAVES: dict[Any, str] = {
    type(None): "nil",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "str",
    datetime: "str",
    date: "str",
    time: "str",
    timedelta: "str",
    Decimal: "str",
    UUID: "str",
}

_ARRAYS: dict[Any, type] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    set: set,
    collections.abc.MutableSet: set,
    collections.abc.Set: set,
    frozenset: frozenset,
}
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def shape_of(annotation: Any, names: Names = None) -> Shape:
    """The shape of a type. Raises `Misfit` for one that cannot be carried, `Unresolved` for text that names
    nothing; `names` are looked up first. Annotations that are text are replaced, on their classes, by what they
    name: a class that Ray sends by value leaves its module behind."""
    return _Reader(names).read(annotation)


class _Reader:
    """Reads one annotation; a class met twice has one shape, so that types may contain themselves."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.known: dict[Any, Shape] = {}

    def read(self, annotation: Any, step: str = "") -> Shape:
        try:
            return self._read(unwrapped(annotation), annotation)
        except Misfit as misfit:
            raise misfit.under(step) from misfit.__cause__

    def _read(self, bare: Any, annotation: Any) -> Shape:
        origin, args = get_origin(bare) or bare, get_args(bare)
        if bare is Any:
            return Shape(annotation, "Any", ("any",))
        if isinstance(bare, str | typing.ForwardRef):
            raise Unresolved(f"{bare!r} names nothing here")
        if bare in _LEAVES:
            name = "None" if bare is type(None) else bare.__name__
            return Shape(annotation, name, (_LEAVES[bare],), bare)
        if origin is Literal:
            return self._literal(bare, args)
        if origin in (Union, types.UnionType):
            return self._union(annotation, args)
        if origin in _ARRAYS:
            python = _ARRAYS[origin]
            return self._with_parts(ArrayShape(annotation, python.__name__, ("array",), python), {"": _first(args)})
        if origin in _MAPS:
            key, value = args or (Any, Any)
            return self._with_parts(MapShape(annotation, "dict", ("map",), dict), {"key": key, "value": value})
        if origin is tuple:
            return self._tuple(annotation, args)
        if isinstance(origin, type):
            return self._class(annotation, bare, origin)
        raise Misfit(f"{_name(bare)} cannot be carried by MessagePack")

    def _with_parts(self, shape: Shape, parts: Mapping[str, Any], prefix: str = "") -> Shape:
        shape.parts = [(prefix + step, self.read(part, f".{step}" if step else "")) for step, part in parts.items()]
        return shape

    def _literal(self, bare: Any, values: tuple[Any, ...]) -> Shape:
        if not all(value is None or type(value) in (str, int) for value in values):
            raise Misfit(f"{bare}: only str, int and None can be literals")
        kinds = tuple(sorted({_LEAVES[type(value)] for value in values}))
        python = type(values[0]) if len(kinds) == 1 else None
        return Shape(bare, f"Literal{sorted(map(repr, values))}", kinds, python)

    def _union(self, annotation: Any, args: tuple[Any, ...]) -> Shape:
        literals = [value for arg in args if get_origin(arg) is Literal for value in get_args(arg)]
        members = [arg for arg in args if get_origin(arg) is not Literal]
        if literals:
            members.append(Literal[tuple(literals)])
        shapes = [self.read(member) for member in members]
        kinds = [kind for shape in shapes for kind in shape.kinds]
        native = len(set(kinds)) == len(kinds) or "any" in kinds
        union = UnionShape(annotation, "union", tuple(kinds), native=native)
        union.parts = sorted([("", shape) for shape in shapes], key=lambda part: part[1].name)
        return union

    def _tuple(self, annotation: Any, args: tuple[Any, ...]) -> Shape:
        if (not args and annotation is not tuple[()]) or (len(args) == 2 and args[1] is Ellipsis):
            return self._with_parts(ArrayShape(annotation, "tuple", ("array",), tuple), {"": _first(args)})
        parts = {str(index): arg for index, arg in enumerate(args)}
        return self._with_parts(TupleShape(annotation, "tuple", ("array",), tuple), parts)

    def _class(self, annotation: Any, bare: Any, cls: type) -> Shape:
        if bare in self.known:
            return self.known[bare]
        if issubclass(cls, enum.Enum):
            return self._enum(annotation, cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(annotation, bare, cls)
        if typing.is_typeddict(cls):
            record = RecordShape(bare, cls.__name__, ("map",), dict)
            hints = hints_of(cls, self.names)
            optional = {name for name, hint in hints.items() if get_origin(hint) is typing.NotRequired}
            record.required = frozenset(getattr(cls, "__required_keys__", ())) - optional
            return self._fields(record, bare, cls, list(hints))
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):  # a NamedTuple
            shape = TupleShape(annotation, cls.__name__, ("array",), cls)
            return self._fields(shape, bare, cls, list(hints_of(cls, self.names)))
        if issubclass(cls, msgspec.Struct):
            return self._struct(annotation, bare, cls)
        raise Misfit(f"{_name(bare)} cannot be carried by MessagePack")

    def _enum(self, annotation: Any, cls: type[enum.Enum]) -> Shape:
        values = [member.value for member in cls]
        name = f"{cls.__name__}({','.join(f'{m.name}={m.value!r}' for m in cls)})"  # new members, new structure
        kind = {str: "str", int: "int"}.get(type(values[0])) if values else None
        if kind and all(type(value) is type(values[0]) for value in values):
            leaf = Shape(annotation, name, (kind,), cls)
            leaf.tag = cls.__name__
            leaf.decoder()  # integers beyond 64 bits show here
            return leaf
        if issubclass(cls, enum.Flag) or not values:
            raise Misfit(f"{cls.__name__} cannot be carried by MessagePack")
        by_name = f"{cls.__name__}({','.join(cls.__members__)})"  # a value's repr may hold an address
        shape = EnumShape(cls, by_name, ("str",), cls, native=False)
        shape.tag = cls.__name__
        return shape

    def _dataclass(self, annotation: Any, bare: Any, cls: type[Any]) -> Shape:
        if any(isinstance(hint, dataclasses.InitVar) for hint in hints_of(cls, self.names).values()):
            raise Misfit(f"{cls.__name__} has InitVar fields")
        fields = [mended(field) for field in dataclasses.fields(cls)]
        record = RecordShape(annotation, cls.__name__, ("map",), cls)
        record.required = frozenset(
            f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING and f.init
        )
        record.later = frozenset(f.name for f in fields if not f.init)
        return self._fields(record, bare, cls, [f.name for f in fields])

    def _struct(self, annotation: Any, bare: Any, cls: type[msgspec.Struct]) -> Shape:
        kind = "array" if cls.__struct_config__.array_like else "map"
        shape = self._fields(Shape(annotation, cls.__name__, (kind,), cls), bare, cls, list(cls.__struct_fields__))
        if not shape.plain:
            raise Misfit(f"{cls.__name__} is a Struct with fields that need tags: make it a dataclass")
        return shape

    def _fields(self, shape: Shape, bare: Any, cls: type, fields: list[str]) -> Shape:
        self.known[bare] = shape
        hints, bound = hints_of(cls, self.names), dict(zip(_parameters(cls), get_args(bare), strict=False))
        for field in fields:
            shape.parts.append((field, self.read(_bound(_bare_field(hints[field]), bound), f".{field}")))
        return shape


def _first(args: tuple[Any, ...]) -> Any:
    return args[0] if args else Any


def unwrapped(annotation: Any) -> Any:
    """Without `Annotated`, `NewType`, `Final`, type aliases and type variables."""
    if annotation is None:
        return type(None)
    if isinstance(annotation, NewType):
        return unwrapped(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        return unwrapped(Any if annotation.__bound__ is None else annotation.__bound__)
    if get_origin(annotation) is Annotated:
        return unwrapped(get_args(annotation)[0])
    if type(annotation).__name__ == "TypeAliasType":
        return unwrapped(annotation.__value__)
    return annotation


def _bare_field(hint: Any) -> Any:
    """Without what says something about the field and nothing about its type."""
    wrapped = get_origin(hint) in (typing.Final, typing.Required, typing.NotRequired)
    return get_args(hint)[0] if wrapped else hint


def _parameters(cls: type) -> tuple[Any, ...]:
    return getattr(cls, "__parameters__", ())


def _bound(annotation: Any, bound: Mapping[Any, Any]) -> Any:
    """With a generic dataclass's type variables replaced by what they stand for here."""
    if isinstance(annotation, TypeVar):
        return bound.get(annotation, annotation)
    inside = _parameters(annotation) if get_origin(annotation) else ()
    if not inside:
        return annotation
    return annotation[tuple(bound.get(each, each) for each in inside)]


def _name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)


def hints_of(cls: type, names: Names = None) -> dict[str, Any]:
    """The annotations of a class and its bases, by field. Text is resolved, and the class told what it means."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = inspect.get_annotations(base)
        if any(_is_text(annotation) for annotation in own.values()):
            own = base.__annotations__ = _resolved(base, own, names)
        hints.update(own)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar and hint is not ClassVar}


def _is_text(annotation: Any) -> bool:
    """Text, or something with text inside: `list["Item"]`."""
    return isinstance(annotation, str) or "ForwardRef(" in repr(annotation) or "'" in repr(annotation)


def _resolved(cls: type, annotations: dict[str, Any], names: Names) -> dict[str, Any]:
    """What the annotations of this very class mean. It is looked up where the class was written; its own name is
    itself, though an older class may still stand under it, as in a notebook."""
    parameters = {each.__name__: each for each in getattr(cls, "__type_params__", ())}
    home = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    visible = {**_bases(cls), **_seen_from(cls.__module__, home, names), **parameters, cls.__name__: cls}
    stub = type(cls.__name__, (), {"__annotations__": annotations, "__module__": cls.__module__})
    try:
        return typing.get_type_hints(stub, localns=visible, include_extras=True)
    except NameError as error:
        raise Unresolved(str(error)) from error
    except (TypeError, SyntaxError) as error:  # `x: 5`, or text that is no expression
        raise Misfit(f"{cls.__name__} has an annotation that is no type: {error}") from error


def _bases(cls: type) -> dict[str, Any]:
    return {base.__name__: base for base in reversed(cls.__mro__)}


def _seen_from(module: str, home: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """`names` as far as they may stand in for what is written in `module`. They come from one place in one module;
    elsewhere they only fill gaps, since the same name may mean something else there."""
    if not names or names.get("__name__") == module:
        return dict(names or {})
    return {name: value for name, value in names.items() if name not in home}


def mended(field: "dataclasses.Field[Any]") -> "dataclasses.Field[Any]":
    """A dataclass's field as it was before its class travelled by value.

    "No default" is a marker that is told by identity, and a copy of it arrives: msgspec would then fill a missing
    field with that copy.
    """
    for name in ("default", "default_factory", "kw_only"):
        if type(getattr(field, name)) is type(dataclasses.MISSING):
            setattr(field, name, dataclasses.MISSING)
    return field


def return_hint(function: Any, names: Names = None) -> Any:
    """What a function is annotated to return; `Any` if it does not say. Text is resolved, on the function too."""
    annotations = function.__annotations__
    if "return" not in annotations:
        return Any
    stub = types.SimpleNamespace(__annotations__={"return": annotations["return"]})
    try:
        visible = _seen_from(function.__module__, function.__globals__, names)
        hint = typing.get_type_hints(stub, function.__globals__, visible, include_extras=True)["return"]
    except NameError:
        return annotations["return"]  # text that names nothing yet, as `shape_of` will say
    annotations["return"] = hint
    return hint
