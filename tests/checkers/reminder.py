"""Reminders, by what their streams tell: each occurrence fired once, in time, with its command, and none is forgotten.

The stream is taken at its word for nothing that can be seen from elsewhere: when an event was on disk is what storage
says, that a reminder was asked for is what the command's other event says, and what is pending is held against the
journal's index.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["Pending", "Reminded", "fired_once", "nothing_forgotten"]

SET, CANCELLED, FIRED = "holdfast.reminder.set", "holdfast.reminder.cancelled", "holdfast.reminder.fired"

Pending = Mapping[tuple[str, str], int]
"""When what is due, in µs since 1970 UTC, by stream and name."""


@dataclass(slots=True)
class Reminded:
    """What the streams told. `pending`: what is left at their end."""

    set: int = 0
    cancelled: int = 0
    fired: int = 0
    pending: dict[tuple[str, str], int] = field(default_factory=dict)


def fired_once(
    streams: Mapping[str, Sequence[Any]],
    *,
    asked: str,
    rang: str,
    on_disk: Callable[[str, int], int] | None = None,
) -> Reminded:
    """`streams`: the records of aggregates with reminders, none of whose commands fails, in order of version. `asked`:
    the type of the event, with `name` and `due`, that their commands emit beside setting one; `rang`: that of the
    event, with `name`, that a reminder's command emits, and no other command does. `on_disk(stream, version)`: when
    that was durable, in µs since 1970 UTC, by a clock that nobody here can set. Raises AssertionError, naming stream
    and version."""
    told = Reminded()
    for stream, events in streams.items():
        for unit in _units(events):
            _one_command(told, stream, unit, asked, rang)
            for event in unit:
                _not_early(stream, event, None if on_disk is None else on_disk(stream, event.version))
    return told


def nothing_forgotten(told: Reminded, index: Pending, quiet_since: int) -> None:
    """What is pending by the events is what the index says; and nothing that was due before `quiet_since`, when the
    world had come to rest, still is."""
    apart = {each: (told.pending.get(each), index.get(each)) for each in {*told.pending, *index}}
    apart = {each: (ours, theirs) for each, (ours, theirs) in apart.items() if ours != theirs}
    assert not apart, f"pending by the events, and by the index: {dict(sorted(apart.items())[:5])}"
    late = {each: due for each, due in told.pending.items() if due < quiet_since}
    assert not late, f"due, and never fired: {dict(sorted(late.items())[:5])}, at rest since {quiet_since}"


def _units(events: Sequence[Any]) -> list[list[Any]]:
    """The events of one command after the other."""
    units: list[list[Any]] = []
    for event in events:
        if units and units[-1][0].command_id == event.command_id:
            units[-1].append(event)
        else:
            units.append([event])
    return units


def _one_command(told: Reminded, stream: str, unit: Sequence[Any], asked: str, rang: str) -> None:
    where = f"{stream} version {unit[0].version}"
    said = [(event.type, msgspec.msgpack.decode(event.payload)) for event in unit]
    sets = sorted((payload["name"], payload["due"]) for type, payload in said if type == SET)
    wished = sorted((payload["name"], payload["due"]) for type, payload in said if type == asked)
    assert sets == wished, f"{where}: the command asked for {wished}, and set {sets}"
    rings = [payload["name"] for type, payload in said if type == rang]
    fires = [payload["name"] for type, payload in said if type == FIRED and not payload.get("skipped")]
    assert rings == fires, f"{where}: {rings} rang, and {fires} fired"
    for type, payload in said:
        _fold(told, where, (stream, payload.get("name", "")), type, payload)


def _fold(told: Reminded, where: str, which: tuple[str, str], type: str, payload: Mapping[str, Any]) -> None:
    pending = told.pending.get(which)
    if type == SET:
        told.set += 1
        told.pending[which] = payload["due"]
    elif type == CANCELLED:
        assert pending is not None, f"{where}: {which[1]!r} was cancelled, and nothing was pending"
        told.cancelled += 1
        del told.pending[which]
    elif type == FIRED:
        assert pending is not None, f"{where}: {which[1]!r} fired, and nothing was pending"
        assert payload["fired"] == pending, f"{where}: {which[1]!r} fired for {payload['fired']}, due was {pending}"
        told.fired += 1
        if payload["due"] is None:
            del told.pending[which]
        else:
            assert payload["due"] > pending, f"{where}: {which[1]!r} goes back from {pending} to {payload['due']}"
            told.pending[which] = payload["due"]


def _not_early(stream: str, event: Any, on_disk: int | None) -> None:
    if event.type == FIRED:
        due = msgspec.msgpack.decode(event.payload)["fired"]
        at = event.recorded_at if on_disk is None else min(on_disk, event.recorded_at)
        assert at >= due, f"{stream} version {event.version}: fired at {at}, due was {due}"
