"""Fields: the state of an aggregate, read from its annotations.

balance: int = 0                                    a default; a mutable one is copied for each instance
lines: list[str] = field(default_factory=list)      or made for each
LIMIT: ClassVar[int] = 100                          no state
"""

# What this looks at is of any type at all, and stays unknown when it turns out to be a list or a class.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, ClassVar, get_origin

from holdfast.journal.annotations import hints_of, mended
from holdfast.journal.codec import Codec, CodecError, UnresolvedType
from holdfast.journal.shape import Misfit, Unresolved

from .errors import DefinitionError
from .likeness import difference
from .place import place_of_field

__all__ = ["State", "own_fields", "user_classes"]

OURS = tuple(f"{__name__.rpartition('.')[0]}.{module}" for module in ("aggregate", "reaction"))
MISSING = dataclasses.MISSING
SHARED = (list, dict, set, bytearray)


def user_classes(cls: type) -> list[type]:
    """The class and its bases, nearest first, as far as users wrote them."""
    return [base for base in cls.__mro__ if base.__module__ not in (*OURS, "builtins", "typing")]


def own_fields(cls: type) -> frozenset[str]:
    """Names annotated in this very class, class variables aside. Nothing is resolved for it."""
    annotations = inspect.get_annotations(cls)
    return frozenset(name for name, annotation in annotations.items() if not _is_class_variable(annotation))


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.replace("typing.", "").startswith("ClassVar")
    return annotation is ClassVar or get_origin(annotation) is ClassVar


class State:
    """What an instance starts from, and how its state becomes a snapshot and comes back.

    `fields`: the type of each, by name, bases first.
    """

    def __init__(self, cls: type, names: Mapping[str, Any], frame: FrameType | None = None) -> None:
        """`names`: what annotations may refer to. `frame`: where the class statement is being executed."""
        self._cls, self._frame = cls, frame
        self.fields = self._read_fields(names)
        self._constant: dict[str, Any] = {}
        self._made: dict[str, Callable[[], Any]] = {}
        for name in self.fields:
            self._take_default(name)
        for base in user_classes(cls):
            self._check_unannotated(base)
        self._holder = dataclasses.make_dataclass(f"{cls.__name__}State", self.fields.items())
        self.codec = self._codec(names)
        self._frame = None

    def fill(self, state: dict[str, Any]) -> None:
        """Give a new instance its first values."""
        state.update(self._constant)
        for name, make in self._made.items():
            state[name] = make()

    def encode(self, state: Mapping[str, Any]) -> bytes:
        """A snapshot of an instance's `__dict__`."""
        holder: Any = object.__new__(self._holder)
        holder.__dict__ = {name: state[name] for name in self.fields}
        return self.codec.encode(holder)

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The fields that a snapshot holds."""
        fields: dict[str, Any] = vars(self.codec.decode(payload))
        return fields

    def _read_fields(self, names: Mapping[str, Any]) -> dict[str, Any]:
        try:
            hints = hints_of(self._cls, names)
        except Unresolved as misfit:
            raise UnresolvedType(self._cls.__qualname__, str(misfit)) from misfit
        except Misfit as misfit:
            raise DefinitionError(self._cls.__qualname__, str(misfit)) from misfit
        own = {name for base in user_classes(self._cls) for name in own_fields(base)}
        return {name: hint for name, hint in hints.items() if name in own}

    def _take_default(self, name: str) -> None:
        default = next((vars(base)[name] for base in user_classes(self._cls) if name in vars(base)), MISSING)
        if isinstance(default, dataclasses.Field):
            mended(default)
            if default.default_factory is not MISSING:
                self._made[name] = default.default_factory
                return
            default = default.default
        if default is MISSING:
            raise self._error(name, "has no default; an aggregate starts from nothing, so say from what")
        if hasattr(default, "__get__"):
            kind = type(default).__name__.lower()
            raise self._error(name, f"is shadowed by a {kind} of the same name")
        if copy.deepcopy(default) is default:
            self._constant[name] = default
        elif type(default) in SHARED and not default:
            self._made[name] = type(default)  # five times as fast as a copy
        else:
            self._made[name] = lambda: copy.deepcopy(default)

    def _check_unannotated(self, cls: type) -> None:
        """`items = []` without an annotation would be one list for all aggregates of the process."""
        for name, value in vars(cls).items():
            if isinstance(value, SHARED) and not (name in self.fields or name.startswith("__") or name.isupper()):
                if name in inspect.get_annotations(cls):
                    continue  # a ClassVar: shared on purpose
                raise self._error(
                    name, "is shared by all instances; annotate it to make it state, or as ClassVar to share it"
                )

    def _codec(self, names: Mapping[str, Any]) -> Codec[Any]:
        for name, annotation in self.fields.items():
            try:
                codec = Codec[Any](annotation, name, names=names)
            except UnresolvedType:
                raise
            except CodecError as error:
                raise self._error(name, f"cannot be serialized: {error.problem}") from error
            self._check_default(name, codec)
        return Codec(self._holder, f"state of {self._cls.__name__}")

    def _check_default(self, name: str, codec: Codec[Any]) -> None:
        one: dict[str, Any] = {}
        two: dict[str, Any] = {}
        try:
            self.fill(one)
            self.fill(two)
            back = codec.decode(codec.encode(one[name]))
        except CodecError as error:
            raise self._error(name, f"has a default that is not of its type: {error.problem}") from error
        if difference(one[name], two[name]):
            raise self._error(name, "starts differently each time; a replay must start from the same")
        if difference(one[name], back):
            raise self._error(name, f"has a default that does not survive: {difference(one[name], back)}")

    def _error(self, name: str, problem: str) -> DefinitionError:
        place = place_of_field(self._cls, name, self._frame)
        return DefinitionError(f"{self._cls.__qualname__}.{name}", problem, place)
