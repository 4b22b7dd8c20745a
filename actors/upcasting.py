"""Upcasting: what an older version of an event was, as events of today.

    @event("account.deposited", version=2)
    class Deposited:
        cents: int

        @upcast(from_version=1)
        @staticmethod
        def _in_cents(old: dict[str, Any]) -> dict[str, Any]:
            return {"cents": old["amount"] * 100}

An upcaster works on plain data, what the journal holds, and takes it one version further; they are chained. It may make
one event into several, of other types too, or into none. The journal keeps what it holds: events are never rewritten.

The functions stand in the class, so they travel with it wherever it is sent by value.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from holdfast.journal.codec import CodecError, decode_plain
from holdfast.journal.event_types import VERSIONED, typed_name

from .errors import DefinitionError
from .place import place_of

__all__ = [
    "Ancestry",
    "Piece",
    "Upcast",
    "Upcaster",
    "check_chain",
    "event_aliases",
    "event_version",
    "origins",
    "stored_type",
    "upcast",
]

Upcast: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any] | tuple[str, Mapping[str, Any]]]
"""What an upcaster returns: the fields of the event, one version on; or a list of such, or of other events with their
names. An empty list: nothing is left of it."""

Upcaster: TypeAlias = Callable[[dict[str, Any]], Upcast]

FROM = "__upcasts_from__"
NAME, VERSION, ALIASES, SPLIT_FROM = "__event_name__", "__event_version__", "__event_aliases__", "__event_split_from__"
DEPTH_MAX = 200
"""Steps from one stored event to one of today: more of them go round in a circle."""

_encode = msgspec.msgpack.Encoder().encode


def upcast(*, from_version: int) -> Callable[[Upcaster], "staticmethod[[dict[str, Any]], Upcast]"]:
    """In an event class: have this static function make data of the version after this one out of data of this one.

    It gets a dict of its own, the fields as MessagePack has them (a `Decimal` is text, an enum its value), and returns
    the fields of the next version: a dict, or a list for an event that became several, or none. In a list, a pair
    `("account.fee_charged", {…})` is an event of another type: at its version of today; write the version that it has
    now, `"account.fee_charged@1"`, and it is upcast itself when there are later ones. A pair that names the event
    itself goes on in the chain. What is returned must follow from what is given, for ever.
    """

    def decorate(function: Upcaster) -> "staticmethod[[dict[str, Any]], Upcast]":
        plain = _plain(function)
        if type(from_version) is not int or from_version < 1:
            problem = f"from_version is a whole number from 1, not {from_version!r}"
            raise DefinitionError(getattr(plain, "__qualname__", repr(plain)), problem, place_of(plain))
        if hasattr(plain, FROM):
            raise DefinitionError(plain.__qualname__, "an upcaster starts from one version", place_of(plain))
        setattr(plain, FROM, from_version)
        return staticmethod(plain)

    return decorate


def event_version(cls: type) -> int:
    """The version of an event class."""
    return cast(int, vars(cls).get(VERSION, 1))


def event_aliases(cls: type) -> tuple[str, ...]:
    """What else an event class was called."""
    return cast("tuple[str, ...]", vars(cls).get(ALIASES, ()))


def stored_type(cls: type) -> str:
    """What the journal stores for an event class of today."""
    return typed_name(vars(cls)[NAME], event_version(cls))


def origins(cls: type) -> tuple[type, ...]:
    """The event classes whose upcasters make some of these."""
    return cast("tuple[type, ...]", vars(cls).get(SPLIT_FROM, ()))


def upcasters_of(cls: type) -> dict[int, list[Upcaster]]:
    """The upcasters that stand in a class, by the version that they start from."""
    found: dict[int, list[Upcaster]] = {}
    for value in vars(cls).values():
        function = _plain(value)
        start = getattr(function, "__dict__", {}).get(FROM)
        if start is not None:
            found.setdefault(start, []).append(function)
    return found


def check_chain(cls: type, version: int, place: str) -> None:
    """Raise `DefinitionError` unless the upcasters of a class lead from version 1 to `version`, in one way."""
    found = upcasters_of(cls)
    for start, functions in found.items():
        where = place_of(functions[-1])
        if len(functions) > 1:
            names = " and ".join(function.__name__ for function in functions)
            raise DefinitionError(cls.__qualname__, f"{names} both upcast from version {start}", where)
        if start >= version:
            problem = f"{functions[0].__name__} upcasts from version {start}, and the event is at version {version}"
            raise DefinitionError(cls.__qualname__, problem, where)
    missing = next((start for start in range(1, version) if start not in found), None)
    if missing is not None:
        problem = f"is at version {version}, and no @upcast(from_version={missing}) leads on from version {missing}"
        raise DefinitionError(cls.__qualname__, problem, place)


class Piece(NamedTuple):
    """An event of today that a stored one became. `type`: as the journal would store it today."""

    type: str
    payload: bytes


class Ancestry:
    """All that the journal may hold of some event classes: under which types, and what becomes of it.

    `classes`: these, and those that they were split from. `current`: types that are read as they are, with the class
    (of today's version, an alias among them). `older`: types that are upcast, with class and version.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        """Raises `DefinitionError` if two of them share a name, by an alias too."""
        self.classes = _with_origins(classes)
        self.named: dict[str, type] = {}
        self.current: dict[str, type] = {}
        self.older: dict[str, tuple[type, int]] = {}
        self._steps: dict[tuple[type, int], Upcaster] = {}
        self._today = {cls: (event_version(cls), stored_type(cls)) for cls in self.classes}
        self._origins = {cls: {vars(each)[NAME] for each in _with_origins(origins(cls))} for cls in self.classes}
        for cls in self.classes:
            self._take(cls)

    @property
    def evolved(self) -> list[type]:
        """The classes of which the journal may hold something that is not read as it is."""
        return [cls for cls in self.classes if event_version(cls) > 1 or event_aliases(cls) or origins(cls)]

    def pieces(self, stored: str, payload: bytes) -> list[Piece]:
        """What an event of an older type is today, in order. Raises `CodecError`."""
        cls, version = self.older[stored]
        try:
            data = decode_plain(payload)
            return [Piece(type, _encode(fields)) for type, fields in self._lead_on(cls, version, data, 0)]
        except Exception as error:  # an upcaster raises what it likes
            problem = error.problem if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
            raise CodecError(f"event {stored}", f"it cannot be upcast: {problem}") from error

    def _take(self, cls: type) -> None:
        version = event_version(cls)
        for name in (vars(cls)[NAME], *event_aliases(cls)):
            other = self.named.setdefault(name, cls)
            if other is not cls:
                problem = f"{cls.__name__} and {other.__name__} are both called {name!r}"
                raise DefinitionError(cls.__qualname__, problem, place_of(cls))
            self.current[typed_name(name, version)] = cls
            self.older.update({typed_name(name, each): (cls, each) for each in range(1, version)})
        self._steps.update({(cls, start): functions[0] for start, functions in upcasters_of(cls).items()})

    def _lead_on(
        self, cls: type, version: int, data: Mapping[str, Any], depth: int
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if depth >= DEPTH_MAX:
            raise ValueError(f"{DEPTH_MAX} steps lead to no end")
        today, type = self._today[cls]
        while version < today:
            step = self._steps[cls, version]
            result = step(dict(data))
            if not isinstance(result, dict):
                yield from self._part(cls, version, _results(step, result), depth + 1)
                return
            data, version = result, version + 1
        yield type, _fields(data)

    def _part(
        self, cls: type, version: int, results: Iterable[tuple[str | None, Mapping[str, Any]]], depth: int
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What the upcaster from a version of `cls` returned as a list."""
        for name, fields in results:
            if name is None or self.named.get(name) is cls:
                yield from self._lead_on(cls, version + 1, fields, depth)
            else:
                yield from self._become(cls, version, name, fields, depth)

    def _become(
        self, cls: type, version: int, name: str, fields: Mapping[str, Any], depth: int
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What an upcaster of `cls` calls by a name, with or without a version."""
        told = VERSIONED.fullmatch(name)
        bare = told[1] if told else name
        other = self.named.get(bare)
        if other is None:  # this reader has nothing to do with it
            yield typed_name(bare, int(told[2]) if told else 1), _fields(fields)
            return
        today, _ = self._today[other]
        start = int(told[2]) if told else today
        if not 1 <= start <= today or (other is cls and start <= version):
            raise ValueError(f"{name!r} is no version to go on from: {bare!r} is at {today}")
        if other is not cls and vars(cls)[NAME] not in self._origins[other]:
            raise ValueError(f"it makes {bare!r}: @event({bare!r}, split_from=({cls.__name__},)) must say so")
        yield from self._lead_on(other, start, fields, depth)


def _with_origins(classes: Iterable[type]) -> list[type]:
    """These, and what they were split from. Where a class was made again (a notebook's cell run twice), an event that
    was split from the older one is taken to be from the newer."""
    found = list(classes)
    names = {vars(cls)[NAME] for cls in found}
    for cls in found:  # which grows meanwhile
        for origin in origins(cls):
            if vars(origin)[NAME] not in names:
                names.add(vars(origin)[NAME])
                found.append(origin)
    return found


def _results(step: Upcaster, result: Any) -> list[tuple[str | None, Mapping[str, Any]]]:
    """What an upcaster returned, one by one; without a name where it is the event itself."""
    if isinstance(result, Mapping):
        return [(None, cast("Mapping[str, Any]", result))]
    if not isinstance(result, list | tuple):
        raise TypeError(f"{step.__name__} returned {type(result).__name__}, no dict and no list of events")
    return [_result(step, each) for each in cast("Sequence[Any]", result)]


def _result(step: Upcaster, each: Any) -> tuple[str | None, Mapping[str, Any]]:
    if isinstance(each, Mapping):
        return None, cast("Mapping[str, Any]", each)
    pair: Any = each
    is_pair = isinstance(each, tuple) and len(pair) == 2
    if not is_pair or not isinstance(pair[0], str) or not isinstance(pair[1], Mapping):
        raise TypeError(f"{step.__name__} returned {each!r} in its list: no dict, and no pair of a name and a dict")
    return pair[0], cast("Mapping[str, Any]", pair[1])


def _fields(data: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in data:
        if not isinstance(key, str):
            raise TypeError(f"fields have names, and {key!r} is none")
    return data


def _plain(thing: Any) -> Any:
    wrapped: Any = thing
    return wrapped.__func__ if isinstance(thing, staticmethod | classmethod) else thing
