"""The shape of a type: how its values stand on the wire, worked out once per type.

msgspec maps most types to MessagePack by itself and does it in a microsecond; such a shape is *plain* and stays
out of the way. Where msgspec refuses, the shape brings the value down to what msgspec knows (`lower`) and back
(`lift`):

    a union that one MessagePack kind cannot tell apart    `str | Decimal`, two dataclasses: {"$Decimal": "1.50"}
    an enum whose values are neither all str nor all int   by name: "RED"
    whatever contains one of these                         itself, part by part

A field of a dataclass stands on the wire in the same way on both paths. A union that became wider later still
reads what was written before it needed tags: where no tag is found, its members are tried in turn.

msgspec leaves its own notes on the classes it has seen, and those cannot be pickled; Ray must be able to send
user classes by value, so the notes are taken off again.
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

import enum
import functools
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

__all__ = [
    "ArrayShape",
    "EnumShape",
    "MapShape",
    "Misfit",
    "RecordShape",
    "Shape",
    "TupleShape",
    "UnionShape",
    "Unresolved",
]

_encode = msgspec.msgpack.Encoder().encode
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_raw_pairs = msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, msgspec.Raw]]).decode
_raw_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


class Misfit(Exception):
    """A value that is not of its type, or a type that has no shape. `path` leads from the top to the culprit."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem, path)
        self.problem, self.path = problem, path

    def __str__(self) -> str:
        return f"{self.problem} at {self.path}" if self.path else self.problem

    def under(self, step: str) -> "Misfit":
        """The same, seen from one level further up."""
        return type(self)(self.problem, step + self.path)


class Unresolved(Misfit):
    """An annotation is text that names nothing yet: it may be defined further down in its module."""


class Shape:
    """A type that msgspec carries by itself: the leaves, and the base of the rest.

    `kinds`: the msgspec groups it takes in a union. `native`: msgspec knows it, if it knows its `parts`.
    """

    def __init__(
        self, annotation: Any, name: str, kinds: Sequence[str], python: type | None = None, *, native: bool = True
    ) -> None:
        self.annotation, self.name, self.kinds, self.python, self.native = annotation, name, kinds, python, native
        self.tag = name  # how a union calls it
        self.parts: list[tuple[str, Shape]] = []

    @functools.cached_property
    def plain(self) -> bool:
        """Nothing in it needs `lower` and `lift`."""
        return all(shape.native for shape in self.walk())

    @functools.cached_property
    def lift(self) -> Callable[[Any], Any]:
        """From MessagePack bytes to the value."""
        return self.decoder() if self.plain else self._lift

    def lower(self, value: Any) -> Any:
        """From the value to something msgspec encodes."""
        return value if self.plain else self._lower(value)

    def text(self, outer: tuple["Shape", ...] = ()) -> str:
        """The structure, in words that are equal for equal structures; a type inside itself is its depth."""
        if self in outer:
            return f"^{len(outer) - outer.index(self)}"
        inside = ",".join(f"{step}:{part.text((*outer, self))}" for step, part in self.parts)
        return f"{self.name}[{inside}]" if self.parts else self.name

    def decoder(self) -> Callable[[Any], Any]:
        """msgspec's own decoder of it. Raises `Misfit` where msgspec refuses."""
        try:
            return msgspec.msgpack.Decoder(self.annotation).decode
        except (TypeError, ValueError, RecursionError) as error:
            raise Misfit(str(error)) from error
        finally:
            for shape in self.walk():
                if isinstance(shape.python, type) and "__msgspec_cache__" in vars(shape.python):
                    del shape.python.__msgspec_cache__  # type: ignore[attr-defined]

    def walk(self) -> Iterator["Shape"]:
        """This shape and every one inside it, each once."""
        seen: set[Shape] = {self}
        waiting = [self]
        while waiting:
            shape = waiting.pop()
            yield shape
            new = [part for _, part in shape.parts if part not in seen]
            seen.update(new)
            waiting += new

    def _lower(self, value: Any) -> Any:
        raise NotImplementedError

    def _lift(self, raw: Any) -> Any:
        raise NotImplementedError


class EnumShape(Shape):
    """An enum whose values MessagePack cannot hold: its members go by name."""

    def _lower(self, value: Any) -> str:
        if not isinstance(value, enum.Enum) or type(value) is not self.python:
            raise Misfit(f"expected {self.annotation.__name__}, got {type(value).__name__}")
        return value.name

    def _lift(self, raw: Any) -> Any:
        name = msgspec.msgpack.decode(raw, type=str)
        try:
            return self.annotation[name]
        except KeyError:
            raise Misfit(f"{self.annotation.__name__} has no member {name!r}") from None


class ArrayShape(Shape):
    """list, set, frozenset, and tuples of any length of one type."""

    python: type

    def _lower(self, value: Any) -> list[Any]:
        item = self.parts[0][1]
        return [_lower_at(item, each, f"[{index}]") for index, each in enumerate(_checked(value, self.python))]

    def _lift(self, raw: Any) -> Any:
        item = self.parts[0][1]
        return self.python(_lift_at(item, each, f"[{index}]") for index, each in enumerate(_raws(raw)))


class TupleShape(Shape):
    """A tuple with a type for each place; a NamedTuple too."""

    python: type

    def _lower(self, value: Any) -> list[Any]:
        values = tuple(_checked(value, self.python))
        if len(values) != len(self.parts):
            raise Misfit(f"expected {len(self.parts)} values, got {len(values)}")
        return [_lower_at(part, each, step) for (step, part), each in zip(self.parts, values, strict=True)]

    def _lift(self, raw: Any) -> Any:
        raws = _raws(raw)
        short = len(raws) < len(self.parts) and self.python is tuple  # a NamedTuple may have defaults
        if short or len(raws) > len(self.parts):
            raise Misfit(f"expected {len(self.parts)} values, got {len(raws)}")
        values = [_lift_at(part, each, step) for (step, part), each in zip(self.parts, raws, strict=False)]
        return tuple(values) if self.python is tuple else self.python(*values)


class MapShape(Shape):
    """A dict. Where its keys are not plain it is a list of pairs: a lowered key may not be a key any more."""

    @functools.cached_property
    def _by_plain_key(self) -> Callable[[Any], dict[Any, msgspec.Raw]]:
        key = self.parts[0][1].annotation
        return msgspec.msgpack.Decoder(dict[key, msgspec.Raw]).decode  # type: ignore[valid-type]

    def _lower(self, value: Any) -> Any:
        (_, key), (_, item) = self.parts
        pairs = [
            (_lower_at(key, k, f"[{k!r}]"), _lower_at(item, v, f"[{k!r}]")) for k, v in _checked(value, dict).items()
        ]
        return dict(pairs) if key.plain else pairs

    def _lift(self, raw: Any) -> dict[Any, Any]:
        (_, key), (_, item) = self.parts
        if key.plain:
            return {k: _lift_at(item, each, f"[{k!r}]") for k, each in self._by_plain_key(raw).items()}
        pairs = _raw_pairs(raw)
        return {(k := _lift_at(key, a, "[key]")): _lift_at(item, b, f"[{k!r}]") for a, b in pairs}


class RecordShape(Shape):
    """A dataclass or a TypedDict: a map of its fields, in both paths."""

    required: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()  # fields that __init__ does not take

    def _lower(self, value: Any) -> dict[str, Any]:
        if typing.is_typeddict(self.annotation):
            given = dict(_checked(value, dict))
        else:
            given = {step: getattr(value, step) for step, _ in self.parts} if self._is_mine(value) else {}
        return {s: _lower_at(part, given[s], f".{s}") for s, part in self.parts if s in given}

    def _is_mine(self, value: Any) -> bool:
        if not isinstance(value, self.python or object):
            raise Misfit(f"expected {self.name}, got {type(value).__name__}")
        return True

    def _lift(self, raw: Any) -> Any:
        raws = _raw_fields(raw)
        values = {s: _lift_at(part, raws[s], f".{s}") for s, part in self.parts if s in raws}
        missing = self.required - values.keys()
        if missing:
            raise Misfit(f"missing required field {sorted(missing)[0]!r}")
        if typing.is_typeddict(self.annotation):
            return values
        try:
            record = self.annotation(**{s: v for s, v in values.items() if s not in self.later})
        except (TypeError, ValueError) as error:  # its __post_init__ says no
            raise Misfit(str(error)) from error
        for step in self.later & values.keys():
            object.__setattr__(record, step, values[step])
        return record


class UnionShape(Shape):
    """Members that MessagePack cannot tell apart go under a tag: {"$Decimal": "1.50"}. None is nil, as ever."""

    @functools.cached_property
    def members(self) -> dict[str, Shape]:
        """All but None, by tag: the type's name; where two share it, the whole structure."""
        names = [part.tag for _, part in self.parts]
        return {
            "$" + (part.tag if names.count(part.tag) == 1 else part.text()): part
            for _, part in self.parts
            if part.kinds != ("nil",)
        }

    @functools.cached_property
    def optional(self) -> bool:
        """None is one of the members."""
        return len(self.members) < len(self.parts)

    def _lower(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        candidates = self._candidates(value)
        if len(self.members) == 1 and candidates:
            return self.members[candidates[0]].lower(value)
        if len(candidates) == 1:
            return {candidates[0]: self.members[candidates[0]].lower(value)}
        for tag in candidates:  # `list[int] | list[str]`: the one that gives the value back
            try:
                lowered = self.members[tag].lower(value)
                if self.members[tag].lift(_encode(lowered)) == value:
                    return {tag: lowered}
            except (Misfit, TypeError, ValueError, OverflowError):
                continue
        raise Misfit(f"expected {' | '.join(t[1:] for t in self.members)}, got {type(value).__name__}")

    def _candidates(self, value: Any) -> list[str]:
        """Tags of the members that the value may belong to: those of exactly its type, else of a base of it."""
        exact = [tag for tag, part in self.members.items() if part.python is type(value)]
        return exact or [tag for tag, part in self.members.items() if _may_be(value, part.python)]

    def _lift(self, raw: Any) -> Any:
        if self.optional and bytes(raw) == b"\xc0":
            return None
        tag, inner = _tagged(raw)
        if tag in self.members:
            return self.members[tag].lift(inner)
        if tag:
            raise Misfit(f"expected one of {', '.join(self.members)}, found {tag}")
        for part in self.members.values():  # written before this union needed tags
            try:
                return part.lift(raw)
            except (Misfit, msgspec.ValidationError) as error:
                if len(self.members) == 1:
                    raise error
        raise Misfit(f"expected one of {', '.join(self.members)}")


def _may_be(value: Any, python: type | None) -> bool:
    return python is None or isinstance(value, (float, int) if python is float else python)


def _tagged(raw: Any) -> tuple[str, Any]:
    """The tag and what stands under it; no tag if this is no map of one key that starts with "$"."""
    if bytes(raw)[:1] == b"\x81":
        try:
            ((tag, inner),) = _raw_fields(raw).items()
        except msgspec.ValidationError:  # its key is no text
            return "", raw
        return (tag, inner) if tag.startswith("$") else ("", raw)
    return "", raw


def _checked(value: Any, python: type) -> Any:
    if not isinstance(value, python):
        raise Misfit(f"expected {python.__name__}, got {type(value).__name__}")
    return value


def _lower_at(shape: Shape, value: Any, step: str) -> Any:
    try:
        return shape.lower(value)
    except Misfit as misfit:
        raise misfit.under(step) from misfit.__cause__


def _lift_at(shape: Shape, raw: Any, step: str) -> Any:
    try:
        return shape.lift(raw)
    except Misfit as misfit:
        raise misfit.under(step) from misfit.__cause__
    except msgspec.ValidationError as error:
        problem, _, inner = str(error).partition(" - at `$")
        raise Misfit(problem, step + inner.rstrip("`")) from None
