"""Firing a reminder: the commands of ours that are sent to an aggregate when one is due.

Nobody has to be sure that it is sent once, or at the right time: the aggregate knows what it has pending. What is not
is gone, and what is fires in one unit of work with the command that it was set for.

Before this: a reminder is due, and its aggregate was woken. After this: it has fired, and waits for its next time.
"""

import copy
import dataclasses
from typing import TYPE_CHECKING

import msgspec

from .errors import UnknownCommand
from .reminders import PendingReminder, ReminderFired, pending_in, seed_of

if TYPE_CHECKING:
    from .aggregate import Aggregate
    from .unit import Unit

__all__ = ["FIRE", "GAVE_UP", "holdfast_fire", "holdfast_fired"]

FIRE, GAVE_UP = "holdfast_fire", "holdfast_fired"

SKIP_AFTER_S = 60.0
"""With `missed="skip"`: seconds that a reminder may be late, or its own `every` if that is shorter."""

PROBLEM_MAX = 1000


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
        sends_as=f"{FIRE} {seed_of(unit, name)} {pending.version}",
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
    schedule = pending.schedule(seed_of(unit, name))
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
