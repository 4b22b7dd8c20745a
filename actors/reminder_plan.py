"""Setting a reminder: what a command asks for, checked, as the event that records it.

All that can be wrong is told there and then, in the command that sets it, and not in a month, when nobody is there to
hear it: times that make no sense together, a command that the aggregate has not, arguments that it does not take or
that MessagePack would bring back as something else.

Before this: a command says `self.remind(…)`. After this: the event is emitted, and the reminder is pending.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from holdfast.journal.codec import CodecError
from holdfast.journal.pages import LATEST

from .clock import micros_of, moment_of
from .commands import Command
from .errors import NotSerializable
from .events import event_codec
from .likeness import difference
from .reminders import ReminderSet, seed_of
from .schedule import MICROSECOND, Schedule, check_cron

if TYPE_CHECKING:
    from .definition import CommandSpec
    from .unit import Unit

__all__ = ["Missed", "ReminderCommand", "checked_command", "checked_name", "planned"]

Missed: TypeAlias = Literal["once", "all", "skip"]
ReminderCommand: TypeAlias = Command[..., Any, Any] | Callable[..., Any] | str

EVERY_MIN = timedelta(seconds=1)
NAME_BYTES_MAX = 255

_set_codec = event_codec(ReminderSet, {})


def planned(
    unit: "Unit",
    name: str,
    *,
    at: datetime | None,
    after: timedelta | None,
    every: timedelta | None,
    cron: str | None,
    command: ReminderCommand,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    missed: str,
    jitter: timedelta | None,
) -> ReminderSet:
    """The event that sets this reminder, checked. Raises `ValueError`, `TypeError`, `NotSerializable`."""
    checked_name(name)
    spec = checked_command(unit, command, args, kwargs or {})
    if missed not in get_args(Missed):
        raise ValueError(f'missed is "once", "all" or "skip", not {missed!r}')
    if cron is not None and not isinstance(cron, str):
        raise TypeError(f"cron is text, not {cron!r}")
    nominal = _first(unit.context.recorded_at, at, after, every, cron)
    every_us = None if every is None else every // MICROSECOND
    jitter_us = _jitter(jitter, every)
    due = Schedule(seed=seed_of(unit, name), jitter=jitter_us).at(nominal).due
    if due > LATEST:
        raise ValueError(f"reminder {name!r} would be due after the year 9999")
    event = ReminderSet(
        name=name,
        due=due,
        nominal=nominal,
        command=spec.name,
        args=list(args),
        kwargs=dict(kwargs or {}),
        every=every_us,
        cron=cron,
        missed=missed,
        jitter=jitter_us,
    )
    _check_survives(event, f"arguments of reminder {name!r} of {unit.instance!r}")
    return event


def checked_name(name: Any) -> None:
    """Raise `ValueError` if nothing can be called this."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"a name is printable text of 1 to {NAME_BYTES_MAX} bytes, not {name!r}")


def checked_command(
    unit: "Unit", command: ReminderCommand, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> "CommandSpec":
    """The command of the aggregate itself that is meant, which takes these arguments. Raises `TypeError`."""
    name = command if isinstance(command, str) else _name_of(type(unit.instance), command)
    spec = unit.definition.commands.get(name)
    if spec is None or spec.is_query:
        raise TypeError(f"{unit.definition.type.__qualname__} has no command {name!r}" + (" (a query)" if spec else ""))
    spec.check(args, kwargs)
    return spec


def _name_of(cls: type, command: Any) -> str:
    """What the class calls it: `Offer.expire`, `self.expire`."""
    function: Any = command.function if isinstance(command, Command) else command
    if isinstance(command, MethodType):
        function = command.__func__
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, Command) and value.function is function:
                return name
    return str(getattr(function, "__qualname__", repr(function)))


def _first(now: int, at: datetime | None, after: timedelta | None, every: timedelta | None, cron: str | None) -> int:
    """The nominal time of the first occurrence, in µs."""
    for what, value, kind in (("at", at, datetime), ("after", after, timedelta), ("every", every, timedelta)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{what} is a {kind.__name__}, not {value!r}")
    given = {"at": at, "after": after, "every": every, "cron": cron}
    said = [name for name, value in given.items() if value is not None]
    if not said or len(said) > (2 if said[-1] == "every" else 1):
        got = " and ".join(said) or "none"
        raise ValueError(f"say one of at, after, every and cron, or every with at or after; got {got}")
    if at is not None and at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone")
    if after is not None and after < timedelta(0):
        raise ValueError(f"after={after!r} is in the past")
    if every is not None and every < EVERY_MIN:
        raise ValueError(f"every={every!r} is shorter than {EVERY_MIN!r}")
    if cron is not None:
        return check_cron(cron, now)
    if at is not None:
        return micros_of(at)
    delay = after if after is not None else every
    assert delay is not None, "one of them is given"
    try:
        return micros_of(moment_of(now) + delay)
    except OverflowError:
        raise ValueError(f"{delay!r} from now is after the year 9999") from None


def _jitter(jitter: timedelta | None, every: timedelta | None) -> int:
    if jitter is None:
        return 0
    if not isinstance(jitter, timedelta):
        raise TypeError(f"jitter is a timedelta, not {jitter!r}")
    if jitter < timedelta(0) or (every is not None and jitter > every):
        raise ValueError(f"jitter={jitter!r} is below 0, or longer than every={every!r}")
    return jitter // MICROSECOND


def _check_survives(event: ReminderSet, what: str) -> None:
    try:
        back = _set_codec.decode(_set_codec.encode(event))
    except CodecError as error:
        raise NotSerializable(what, error.problem) from error
    apart = difference(event.args, back.args, "args") or difference(event.kwargs, back.kwargs, "kwargs")
    if apart:
        raise NotSerializable(what, f"it comes back from MessagePack as something else: {apart}")
