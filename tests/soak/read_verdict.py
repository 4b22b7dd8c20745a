"""The verdict on the read side: what subscribers were given, the rows of the read model, the effects of the reaction,
and the reminders, each against the events of the journal.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from holdfast.actors.context import Context
from holdfast.actors.reacting import key_of
from holdfast.journal.pages import LATEST
from holdfast.journal.records import Recorded, Reminder
from holdfast.runtime.model_url import ModelUrl
from tests.checkers import (
    Effect,
    Seen,
    effects_once,
    equals_fold,
    every_event_once,
    fired_once,
    nothing_forgotten,
    seen_of,
)

from .reader import SEEN, WOKEN, given, woken
from .reading import ADDED, ASKED, ENTERED, MIRRORED, RANG, is_mirrored

__all__ = ["ReadVerdict", "read_rows", "read_side_judged"]

NUMBERED = ("soak.written", ADDED, "soak.appended")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadVerdict:
    """What came of it: a line for each part, and what is wrong."""

    lines: list[str]
    wrong: list[str]


def read_rows(url: str) -> dict[str, Any]:
    """The rows of the read model, from its file or database."""
    model = ModelUrl.parse(url).open()
    try:
        model.begin()
        if not model.has_table("totals"):
            return {}
        return {id: (int(total), int(events)) for id, total, events in model.fetch("SELECT * FROM totals", ())}
    finally:
        model.rollback()
        model.close()


def read_side_judged(
    recorded: Sequence[Recorded], folder: Path, rows: Mapping[str, Any], index: Sequence[Reminder]
) -> ReadVerdict:
    """`folder`: with the notes of subscribers. `rows`: of the read model. `index`: reminders that are pending."""
    judges: dict[str, Callable[[], str]] = {
        "subscriptions": lambda: _subscriptions(recorded, folder),
        "projection": lambda: _projection(recorded, rows),
        "reaction": lambda: _reaction(recorded),
        "reminders": lambda: _reminders(recorded, folder, index),
    }
    lines: list[str] = []
    wrong: list[str] = []
    for name, judge in judges.items():
        try:
            lines.append(f"{name}: {judge()}")
        except AssertionError as error:
            lines.append(f"{name}: WRONG")
            wrong.append(f"{name}: {error}")
    return ReadVerdict(lines=lines, wrong=wrong)


def _subscriptions(recorded: Sequence[Recorded], folder: Path) -> str:
    wanted = [_seen(*_place(event)) for event in recorded]
    files = sorted(folder.glob(f"*{SEEN}"))
    assert files, "nobody has subscribed"
    count = sum(every_event_once(path.stem, [_seen(*line) for line in given(path)], wanted) for path in files)
    return f"{len(files)} subscribers were given {count:,} events, each once and in order"


def _place(event: Recorded) -> tuple[int, str, int, str]:
    seen = seen_of(event, 0)
    return seen.position, seen.stream, seen.version, seen.type


def _seen(position: int, stream: str, version: int, type: str) -> Seen:
    return Seen(partition=0, position=position, stream=stream, version=version, type=type, payload=b"")


def _projection(recorded: Sequence[Recorded], rows: Mapping[str, Any]) -> str:
    count = equals_fold("totals", rows, recorded, _total)
    events = sum(events for _, events in rows.values())
    return f"{count:,} rows are the fold of {events:,} events"


def _total(rows: dict[Any, Any], event: Recorded) -> None:
    if event.type in NUMBERED:
        total, events = rows.get(str(event.stream), (0, 0))
        rows[str(event.stream)] = total + msgspec.msgpack.decode(event.payload)["value"], events + 1


def _reaction(recorded: Sequence[Recorded]) -> str:
    wanted: dict[Effect, int] = defaultdict(int)
    found: list[Effect] = []
    reacted = 0
    for event in recorded:
        key = key_of("Mirror", 0, event.position)
        if event.type == ADDED and is_mirrored(msgspec.msgpack.decode(event.payload)["value"]):
            reacted += 1
            wanted[key, f"Diary/{event.stream.id}", ENTERED] += 2
            wanted[key, f"Mirror/{event.stream.id}", MIRRORED] += 1
        elif event.type == MIRRORED:
            reacted += 1
            wanted[key, "Diary/all", ENTERED] += 1
            found.append((event.command_id, str(event.stream), MIRRORED))
        elif event.type == ENTERED:
            context = Context.decode(event.command_id, event.recorded_at, event.metadata)
            found.append((context.causation_id, str(event.stream), ENTERED))
    count = effects_once("mirror", wanted, found)
    return f"{count:,} effects of {reacted:,} events, each once"


def _reminders(recorded: Sequence[Recorded], folder: Path, index: Sequence[Reminder]) -> str:
    streams: dict[str, list[Recorded]] = defaultdict(list)
    for event in recorded:
        if event.stream.category == "Diary":
            streams[str(event.stream)].append(event)
    told = fired_once(streams, asked=ASKED, rang=RANG)
    nothing_forgotten(told, {(str(each.stream), each.name): each.due for each in index}, LATEST)
    asked = [event for events in streams.values() for event in events if event.type == ASKED]
    tokens = {msgspec.msgpack.decode(event.payload)["token"] for event in asked}
    lost = {token for path in folder.glob(f"*{WOKEN}") for token in woken(path)} - tokens
    assert not lost, f"{len(lost)} were acknowledged, and are not in the journal: {sorted(lost)[:5]}"
    return f"{told.set:,} set, {told.fired:,} fired once and not early, none forgotten"
