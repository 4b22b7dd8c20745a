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
`__dict__`, and a fifth, `_reminders`, while it has any. Users may have fields called `id`, `version`, `aggregate`,
`context`, `remind` or `timer`: nothing in here relies on those.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, cast

from .commands import command, query
from .context import Context
from .definition import check_class
from .errors import DefinitionError, NotInCommand, StateChangedOutsideHandler
from .events import event
from .fields import own_fields
from .handlers import on
from .options import ClassKeywords, Options
from .place import defining_frame, place_of
from .policy import Policy, Retry
from .reminder_plan import Missed, ReminderCommand, planned
from .reminders import PendingReminder, ReminderCancelled, pending_in
from .timers import timer_planned

if TYPE_CHECKING:
    from .unit import Unit

__all__ = ["Aggregate", "command", "event", "on", "query"]

A = TypeVar("A", bound="Aggregate")


class Aggregate:
    """The base of every aggregate. Callers reach one by `runtime.get(Type, id)`; nobody constructs it.

    Class keywords are the fields of `Options`: `category`, `snapshot_every`, `snapshots_kept`,
    `snapshot_version`, `snapshot_on_passivate`, `idle_s`, `abstract`.
    """

    __holdfast_options__ = Options()
    __holdfast_fields__ = cast("frozenset[str]", frozenset())
    __holdfast_reacts__ = False
    __holdfast_on_error__: ClassVar[Policy] = Retry()  # of reactions

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

    def remind(
        self,
        name: str,
        *,
        command: ReminderCommand,
        at: datetime | None = None,
        after: timedelta | None = None,
        every: timedelta | None = None,
        cron: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        missed: Missed = "once",
        jitter: timedelta | None = None,
    ) -> datetime:
        """Have `command` (`Offer.expire`, `self.expire` or `"expire"`) sent to this aggregate later, in memory or not.
        It is set with the command's events, or, when that raises, not at all; one of the same name is replaced.
        Returns when it is due.

        When: `at` a time (with a time zone), `after` a while from `self.context.now`, again and again `every` so often
        (from one interval on, or from `at` or `after` on), or by `cron`, five fields in UTC. The times of what repeats
        do not drift. `jitter`: up to so much later, drawn anew for each time; it spreads what would come all at once.

        It fires once: with the events of its command, or not yet. What fell due while everything was down fires when it
        is up again, by `missed`: `"once"`, for however many times, and goes on with the first after now; `"all"`, once
        for each, in order; `"skip"`, what is more than a minute late (or than `every`, if that is shorter) is recorded,
        and not run. A command that is rejected, or fails in a way that sending it again would not mend, has had its
        turn.

        Raises `ValueError` for times that make no sense together, `TypeError` for what is no command of this aggregate
        or arguments that it does not take, `NotSerializable` for arguments that MessagePack does not bring back as they
        are, `NotInCommand`."""
        unit = self.__unit("remind()")
        unit.check_changes("remind()")
        event = planned(
            unit,
            name,
            at=at,
            after=after,
            every=every,
            cron=cron,
            command=command,
            args=args,
            kwargs=kwargs,
            missed=missed,
            jitter=jitter,
        )
        unit.emit(event)
        return pending_in(self)[name].due

    def cancel_reminder(self, name: str) -> bool:
        """Have nothing pending under this name, with the command's events or not at all. False: nothing was.

        One that is just being fired is fired before this command, or not at all. Raises `NotInCommand`."""
        unit = self.__unit("cancel_reminder()")
        unit.check_changes("cancel_reminder()")
        if name not in pending_in(self):
            return False
        unit.emit(ReminderCancelled(name))
        return True

    @property
    def pending_reminders(self) -> Mapping[str, PendingReminder]:
        """What reminders are pending, by name, those that the running command has set included. It shows what is
        pending at any time, and cannot be written to."""
        return pending_in(self)

    def timer(
        self,
        name: str,
        *,
        command: ReminderCommand,
        after: timedelta | None = None,
        every: timedelta | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Have `command` sent to this aggregate `after` a while, and again `every` so often, as long as it stays in
        memory. It costs no write, and is gone when the aggregate leaves memory for whatever reason: what must happen is
        a reminder. One of the same name is replaced. It is set when the command is done; not if that raises.

        The command stands in the mailbox like any other. If it is rejected or fails, or there is no room, the log says
        so, and what repeats goes on; a time that comes while the last call is not answered yet is left out. A pending
        timer does not keep the aggregate in memory. The calls that it makes do, as any call does for a while: one that
        repeats more often than `idle_s` keeps it there.

        Raises `ValueError`, `TypeError`, `NotInCommand`."""
        unit = self.__unit("timer()")
        unit.set_timer(name, timer_planned(unit, name, after, every, command, args, kwargs))

    def cancel_timer(self, name: str) -> None:
        """Have no timer of this name when the command is done. Raises `NotInCommand`."""
        self.__unit("cancel_timer()").set_timer(name, None)

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
