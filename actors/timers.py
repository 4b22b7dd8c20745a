"""Timers: commands that a live aggregate sends itself later. They are kept in memory only.

    self.timer("flush", after=timedelta(seconds=5), command=Basket.flush)

A timer is set when the command that asked for it is done, and is gone when its aggregate leaves memory, or has to be
read again because an append failed. What must happen in any case is a reminder (`reminders.py`).

A host keeps the timers of all its cells in one table: an aggregate without timers has nothing there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.journal.subject import Log, Subject

from .clock import Clock, Timed
from .errors import Rejected
from .reminder_plan import ReminderCommand, checked_command, checked_name

if TYPE_CHECKING:
    from .aggregate import Aggregate
    from .cell import Cell
    from .unit import Unit

__all__ = ["RING", "TimerPlan", "Timers", "holdfast_ring", "timer_planned"]

log = Log(__name__)

RING = "holdfast_ring"

EVERY_MIN = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerPlan:
    """A timer as a command asked for it. `after_s`: seconds from when that is done; `every_s`: from then on, None for
    once."""

    name: str
    after_s: float
    every_s: float | None
    command: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def timer_planned(
    unit: "Unit",
    name: str,
    after: timedelta | None,
    every: timedelta | None,
    command: ReminderCommand,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
) -> TimerPlan:
    """This timer, checked. Raises `ValueError`, `TypeError`."""
    checked_name(name)
    spec = checked_command(unit, command, args, kwargs or {})
    for what, value in (("after", after), ("every", every)):
        if value is not None and not isinstance(value, timedelta):
            raise TypeError(f"{what} is a timedelta, not {value!r}")
    first = after if after is not None else every
    if first is None:
        raise ValueError("say after, or every, or both; got none")
    if first < timedelta(0):
        raise ValueError(f"after={after!r} is in the past")
    if every is not None and every < EVERY_MIN:
        raise ValueError(f"every={every!r} is shorter than {EVERY_MIN!r}")
    return TimerPlan(
        name=name,
        after_s=first.total_seconds(),
        every_s=None if every is None else every.total_seconds(),
        command=spec.name,
        args=tuple(args),
        kwargs=dict(kwargs or {}),
    )


class _Timer:
    """One that runs. `handle`: of its next time. `busy`: its last call is not answered yet."""

    __slots__ = ("busy", "handle", "plan")

    def __init__(self, plan: TimerPlan) -> None:
        self.plan, self.busy = plan, False
        self.handle: Timed | None = None


class Timers:
    """The timers of all cells of a host."""

    def __init__(self, clock: Clock, deliver: "Callable[[Cell, TimerPlan, Callable[[], None]], None]") -> None:
        """`deliver`: puts a call into the cell's mailbox, and calls back when that is answered."""
        self._clock, self._deliver = clock, deliver
        self._timers: dict[Cell, dict[str, _Timer]] = {}

    def take(self, cell: "Cell", wishes: "Mapping[str, TimerPlan | None]") -> None:
        """Set these, and cancel those without a plan."""
        timers = self._timers.setdefault(cell, {})
        for name, plan in wishes.items():
            _stop(timers.pop(name, None))
            if plan is not None:
                timer = timers[name] = _Timer(plan)
                timer.handle = self._clock.call_later(plan.after_s, self._ring, cell, timer)
        if not timers:
            del self._timers[cell]

    def forget(self, cell: "Cell") -> None:
        """Cancel all of a cell."""
        for timer in self._timers.pop(cell, {}).values():
            _stop(timer)

    def close(self) -> None:
        """Cancel all."""
        for cell in list(self._timers):
            self.forget(cell)

    def _ring(self, cell: "Cell", timer: _Timer) -> None:
        plan, timers = timer.plan, self._timers[cell]
        if plan.every_s is not None:
            timer.handle = self._clock.call_later(plan.every_s, self._ring, cell, timer)
        else:
            del timers[plan.name]
            if not timers:
                del self._timers[cell]
        if timer.busy:
            return  # slower than it repeats: one call at a time
        timer.busy, release = True, self._clock.hold()

        def answered() -> None:
            timer.busy = False
            release()

        self._deliver(cell, plan, answered)


def _stop(timer: _Timer | None) -> None:
    if timer is not None and timer.handle is not None:
        timer.handle.cancel()


async def holdfast_ring(aggregate: "Aggregate", name: str, command: str, args: Any, kwargs: Any) -> None:
    """The command that carries out a timer's, and says in the log what nobody else would hear: why it failed."""
    unit: Unit = aggregate.__dict__["_unit"]
    spec = unit.definition.commands[command]
    try:
        result = spec.function(aggregate, *args, **kwargs)
        if spec.is_async:
            await result
    except Rejected as error:
        log.info(_subject(aggregate), "timer %r was rejected: %s", name, error)
        raise
    except Exception:
        log.warning(_subject(aggregate), "timer %r failed", name, exc_info=True)
        raise


def _subject(aggregate: "Aggregate") -> Subject:
    unit: Unit = aggregate.__dict__["_unit"]
    return Subject(unit.definition.category, aggregate.id, version=aggregate.version)
