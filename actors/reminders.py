"""Reminders: commands that an aggregate has asked to be sent later. They are part of its state.

    self.remind("expire", after=timedelta(days=30), command=Offer.expire)

What sets, changes, cancels and fires them are events of the aggregate's own stream, so they are durable together with
the other events of their command or not at all, and any state, replayed or from a snapshot, has the right ones
pending. The journal keeps an index of what is due; whoever follows that sends `holdfast_fire`, and the aggregate,
which knows best, decides: what is not pending any more is gone, and what is fires in one unit of work with the
command it was set for. So it fires once, however often it is sent.

This is the state and its events; `reminder_plan.py` sets a reminder, `firing.py` fires it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.journal.codec import Codec, CodecError
from holdfast.journal.reminders import CANCELLED, FIRED, SET
from holdfast.journal.wire import UNDECODABLE

from .clock import moment_of
from .events import system_event
from .schedule import MICROSECOND, Schedule

if TYPE_CHECKING:
    from .aggregate import Aggregate
    from .unit import Unit

__all__ = [
    "HANDLERS",
    "PendingReminder",
    "ReminderCancelled",
    "ReminderFired",
    "ReminderSet",
    "carry",
    "pending_in",
    "seed_of",
    "uncarried",
]

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


def seed_of(unit: "Unit", name: str) -> str:
    """What tells this reminder from all others."""
    return f"{unit.definition.category}/{unit.instance.__dict__['_id']} {name}"


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
    except UNDECODABLE as error:
        raise CodecError("snapshot", str(error)) from error
    aggregate.__dict__[_KEY] = _table.decode(bytes(pending))
    return bytes(fields)
