"""Aggregates: what users subclass.

    class Account(Aggregate):
        balance: int = 0                       # annotated fields are the state, and the snapshot

        @command
        def deposit(self, amount: int) -> int:
            self.emit(Deposited(amount))       # applied at once, so the next line sees it
            return self.balance

        @on(Deposited)                         # the only place where state changes
        def _deposited(self, event: Deposited) -> None:
            self.balance += event.amount

A live instance keeps its fields and four names of ours (`_id`, `_version`, `_unit`, `_handling`) in its
`__dict__`. Users may have fields called `id`, `version`, `aggregate` or `context`: nothing in here relies on
those.
"""

from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from .commands import command, query
from .context import Context
from .definition import check_class
from .errors import DefinitionError, NotInCommand, StateChangedOutsideHandler
from .events import event
from .fields import own_fields
from .handlers import on
from .options import ClassKeywords, Options
from .place import defining_frame, place_of

if TYPE_CHECKING:
    from .unit import Unit

__all__ = ["Aggregate", "command", "event", "on", "query"]

A = TypeVar("A", bound="Aggregate")


class Aggregate:
    """The base of every aggregate. Callers reach one by `runtime.get(Type, id)`; nobody constructs it.

    Class keywords are the fields of `Options`: `category`, `snapshot_every`, `snapshots_kept`,
    `snapshot_on_passivate`, `idle_s`, `abstract`.
    """

    __holdfast_options__ = Options()
    __holdfast_fields__ = cast("frozenset[str]", frozenset())
    __holdfast_reacts__ = False

    def __init_subclass__(cls, **options: Unpack[ClassKeywords]) -> None:
        super().__init_subclass__()
        frame = defining_frame(cls)
        try:
            cls.__holdfast_options__ = cls.__holdfast_options__.derive(cls.__name__, options)
        except ValueError as error:
            raise DefinitionError(cls.__qualname__, str(error), place_of(cls, frame)) from error
        cls.__holdfast_fields__ |= own_fields(cls)
        check_class(cls, frame)

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not constructed: runtime.get({type(self).__name__}, id)")

    def emit(self, event: Any) -> None:
        """Record a fact. It is applied at once by its `@on` method, becomes durable with the command's other
        events before the caller hears anything, and is as if never emitted when the command raises.

        Raises `NotInCommand`, `UnhandledEvent`, `NotSerializable`, and what the `@on` method raises."""
        state = self.__dict__
        unit = state["_unit"]
        if unit is None or state["_handling"]:
            raise NotInCommand(repr(self))
        unit.emit(event)

    @property
    def id(self) -> str:
        """Which one of its type it is: the second argument of `runtime.get`."""
        identity: str = self.__dict__["_id"]
        return identity

    @property
    def version(self) -> int:
        """How many events made it what it is, those that the running command has emitted included."""
        version: int = self.__dict__["_version"]
        return version

    @property
    def context(self) -> Context:
        """Where the running command comes from. Raises `NotInCommand` in handlers: a replay has no command."""
        return self.__unit("context").context

    def aggregate(self, type: type[A], id: str) -> A:
        """A reference to another aggregate, for `await self.aggregate(Account, "bob").deposit(5)`.

        What is called carries this command's correlation id, and its command id as the cause."""
        return self.__unit("aggregate()").reach(type, id)

    def __unit(self, what: str) -> "Unit":
        state = self.__dict__
        unit: Unit | None = state["_unit"]
        if unit is None or state["_handling"]:
            raise NotInCommand(repr(self), what)
        return unit

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if name in self.__holdfast_fields__:
            if not state["_handling"]:
                raise StateChangedOutsideHandler(type(self).__name__, name)
            state[name] = value
        else:
            self.__check_undeclared(name)
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__holdfast_fields__:
            raise StateChangedOutsideHandler(type(self).__name__, name)
        object.__delattr__(self, name)

    def __check_undeclared(self, name: str) -> None:
        if name.startswith("_") or hasattr(type(self), name):
            return  # a cache of its own, a property
        if not self.__dict__["_handling"]:
            raise StateChangedOutsideHandler(type(self).__name__, name)
        raise AttributeError(
            f"{type(self).__name__} has no field {name!r}: annotate it, or a snapshot will not have it"
        )

    def __repr__(self) -> str:
        state = self.__dict__
        return f"{type(self).__name__}<{state.get('_id', '?')}@{state.get('_version', '?')}>"
