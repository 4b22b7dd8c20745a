"""Reminders: commands that an aggregate has asked to be sent later. They are part of its state.

    self.remind("expire", after=timedelta(days=30), command=Offer.expire)

What sets, changes, cancels and fires them are events of the aggregate's own stream, so they are durable together with
the other events of their command or not at all, and any state, replayed or from a snapshot, has the right ones
pending. The journal keeps an index of what is due; whoever follows that sends `holdfast_fire`, and the aggregate,
which knows best, decides: what is not pending any more is gone, and what is fires in one unit of work with the
command it was set for. So it fires once, however often it is sent.

Before this: a reminder is due, and its aggregate was woken. After this: it has fired, and waits for its next time.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from holdfast.journal.codec import Codec, CodecError
from holdfast.journal.reminders import CANCELLED, FIRED, SET

from .clock import micros_of, moment_of
from .commands import Command
from .errors import NotSerializable, UnknownCommand
from .events import event_codec, system_event
from .likeness import difference
from .schedule import MICROSECOND, Schedule, check_cron

if TYPE_CHECKING:
    from .aggregate import Aggregate
    from .definition import CommandSpec
    from .unit import Unit

__all__ = [
    "FIRE",
    "GAVE_UP",
    "HANDLERS",
    "Missed",
    "PendingReminder",
    "ReminderCancelled",
    "ReminderCommand",
    "ReminderFired",
    "ReminderSet",
    "carry",
    "checked_command",
    "checked_name",
    "holdfast_fire",
    "holdfast_fired",
    "pending_in",
    "planned",
    "uncarried",
]

Missed: TypeAlias = Literal["once", "all", "skip"]
ReminderCommand: TypeAlias = Command[..., Any, Any] | Callable[..., Any] | str

FIRE, GAVE_UP = "holdfast_fire", "holdfast_fired"

SKIP_AFTER_S = 60.0
"""With `missed="skip"`: seconds that a reminder may be late, or its own `every` if that is shorter."""

EVERY_MIN = timedelta(seconds=1)
NAME_BYTES_MAX = 255
PROBLEM_MAX = 1000

_KEY = "_reminders"


# -- events ------------------------------------------------------------------------------------------------------


@system_event(SET)
class ReminderSet:
    """A reminder was set, or set anew. `due`, `nominal`: of its first occurrence, with and without jitter, in µs since
    1970 UTC. `every`, `jitter`: µs."""

    name: str
    due: int
    nominal: int
    command: str
    args: list[Any]
    kwargs: dict[str, Any]
    every: int | None
    cron: str | None
    missed: str
    jitter: int


@system_event(CANCELLED)
class ReminderCancelled:
    """Nothing is pending under this name any more."""

    name: str
    due: None = None


@system_event(FIRED)
class ReminderFired:
    """The occurrence that was due at `fired` is over, and with it `covers` in all. `due`, `nominal`: of the next one;
    None if there is none. `skipped`: they were too late, so the command did not run. `problem`: why it did not; empty
    if it did."""

    name: str
    due: int | None
    nominal: int | None
    fired: int
    covers: int = 1
    skipped: bool = False
    problem: str = ""


# -- state -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingReminder:
    """A reminder that waits. `due_us`, `nominal_us`: when, in µs since 1970 UTC, with and without its jitter.
    `version`: of the event that has it wait for this time."""

    due_us: int
    nominal_us: int
    command: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    every_us: int | None
    cron: str | None
    missed: str
    jitter_us: int
    version: int

    @property
    def due(self) -> datetime:
        """When it is due next, aware, UTC."""
        return moment_of(self.due_us)

    @property
    def every(self) -> timedelta | None:
        """How far its occurrences are apart, if it repeats by that."""
        return None if self.every_us is None else MICROSECOND * self.every_us

    @property
    def repeats(self) -> bool:
        """Whether it comes again after it has fired."""
        return self.every_us is not None or self.cron is not None

    def schedule(self, seed: str) -> Schedule:
        """All its occurrences. `seed`: see `Schedule`."""
        return Schedule(seed=seed, every=self.every_us, cron=self.cron, jitter=self.jitter_us)


def pending_in(aggregate: "Aggregate") -> Mapping[str, PendingReminder]:
    """What is pending, by name; cannot be written to."""
    return MappingProxyType(aggregate.__dict__.get(_KEY, {}))


def _was_set(aggregate: "Aggregate", event: ReminderSet) -> None:
    state = aggregate.__dict__
    state.setdefault(_KEY, {})[event.name] = PendingReminder(
        due_us=event.due,
        nominal_us=event.nominal,
        command=event.command,
        args=tuple(event.args),
        kwargs=event.kwargs,
        every_us=event.every,
        cron=event.cron,
        missed=event.missed,
        jitter_us=event.jitter,
        version=state["_version"],
    )


def _was_cancelled(aggregate: "Aggregate", event: ReminderCancelled) -> None:
    _forget(aggregate.__dict__, event.name)


def _has_fired(aggregate: "Aggregate", event: ReminderFired) -> None:
    state = aggregate.__dict__
    if event.due is None or event.nominal is None:
        _forget(state, event.name)
    else:
        pending = state[_KEY][event.name]
        moved = {"due_us": event.due, "nominal_us": event.nominal, "version": state["_version"]}
        state[_KEY][event.name] = dataclasses.replace(pending, **moved)


def _forget(state: dict[str, Any], name: str) -> None:
    """The last one takes the table with it: an aggregate without reminders pays nothing for them."""
    del state[_KEY][name]
    if not state[_KEY]:
        del state[_KEY]


HANDLERS: Mapping[type, Callable[[Any, Any], None]] = {
    ReminderSet: _was_set,
    ReminderCancelled: _was_cancelled,
    ReminderFired: _has_fired,
}


# -- snapshots ---------------------------------------------------------------------------------------------------

_encode = msgspec.msgpack.Encoder().encode
_open = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode
_table = Codec[dict[str, PendingReminder]](dict[str, PendingReminder], "pending reminders")

CARRYING = 0x92
"""First byte of a snapshot with reminders: a list of two, the fields and they. One without is the fields: a map."""


def carry(fields: bytes, aggregate: "Aggregate") -> bytes:
    """A snapshot's payload: the fields, and what is pending, if anything is. Raises `CodecError`."""
    pending = aggregate.__dict__.get(_KEY)
    if pending is None:
        return fields
    return _encode((msgspec.Raw(fields), msgspec.Raw(_table.encode(pending))))


def uncarried(payload: bytes, aggregate: "Aggregate") -> bytes:
    """The fields of a snapshot; what it has pending is put into the instance. Raises `CodecError`."""
    if not payload or payload[0] != CARRYING:
        return payload
    try:
        fields, pending = _open(payload)
    except msgspec.DecodeError as error:
        raise CodecError("snapshot", str(error)) from error
    aggregate.__dict__[_KEY] = _table.decode(bytes(pending))
    return bytes(fields)


# -- setting one -------------------------------------------------------------------------------------------------

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
    schedule = Schedule(seed=_seed(unit, name), every=every_us, cron=cron, jitter=jitter_us)
    event = ReminderSet(
        name=name,
        due=schedule.at(nominal).due,
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


def _seed(unit: "Unit", name: str) -> str:
    return f"{unit.definition.category}/{unit.instance.__dict__['_id']} {name}"


# -- firing one --------------------------------------------------------------------------------------------------


async def holdfast_fire(aggregate: "Aggregate", name: str, due: int) -> str:
    """The command that fires what is due: `"fired"` if it was pending for that time, else `"gone"`. Raises what the
    reminder's own command raises, and then nothing has fired."""
    unit = _unit_of(aggregate)
    pending = pending_in(aggregate).get(name)
    if pending is None or pending.due_us != due:
        return "gone"
    command = unit.definition.commands.get(pending.command)
    if command is None or command.is_query:
        raise UnknownCommand(unit.definition.category, pending.command)  # the code has changed since it was set
    command.check(pending.args, pending.kwargs)
    # Whatever it sends to others carries ids of this very occurrence: when it runs again after a crash, that acts
    # once. And its time is never before it was due, whatever the clocks of two machines think of each other.
    unit.context = msgspec.structs.replace(
        unit.context,
        recorded_at=max(unit.context.recorded_at, due),
        maybe_executed=True,
        sends_as=f"{FIRE} {_seed(unit, name)} {pending.version}",
    )
    fired = _over(unit, name, pending)
    unit.emit(fired)  # first, so that the command sees what is pending now, and may set it anew
    if not fired.skipped:
        result = command.function(aggregate, *copy.deepcopy(pending.args), **copy.deepcopy(pending.kwargs))
        if command.is_async:
            await result
    return "fired"


def holdfast_fired(aggregate: "Aggregate", name: str, due: int, problem: str) -> str:
    """The command that records that what was due is over although its own command failed, and always would."""
    unit = _unit_of(aggregate)
    pending = pending_in(aggregate).get(name)
    if pending is None or pending.due_us != due:
        return "gone"
    recorded_at = max(unit.context.recorded_at, due)
    unit.context = msgspec.structs.replace(unit.context, recorded_at=recorded_at)
    fired = _over(unit, name, pending)
    unit.emit(fired if fired.skipped else dataclasses.replace(fired, problem=problem[:PROBLEM_MAX]))
    return "fired"


def _over(unit: "Unit", name: str, pending: PendingReminder) -> ReminderFired:
    """What to record of an occurrence that is due, by the reminder's policy for late ones."""
    now, nominal = unit.context.recorded_at, pending.nominal_us
    schedule = pending.schedule(_seed(unit, name))
    tolerated = int(SKIP_AFTER_S * 1e6) if pending.every_us is None else min(int(SKIP_AFTER_S * 1e6), pending.every_us)
    skipped = pending.missed == "skip" and now - pending.due_us > tolerated
    if pending.missed == "once":
        following, passed = schedule.first_due_after(nominal, now)
    elif skipped:
        following, passed = schedule.first_due_after(nominal, now - tolerated - 1)
    else:
        following, passed = next(schedule.after(nominal), None), 0
    return ReminderFired(
        name=name,
        due=None if following is None else following.due,
        nominal=None if following is None else following.nominal,
        fired=pending.due_us,
        covers=1 + passed,
        skipped=skipped,
    )


def _unit_of(aggregate: "Aggregate") -> "Unit":
    unit: Unit = aggregate.__dict__["_unit"]
    return unit
