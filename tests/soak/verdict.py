"""The verdict: all that callers were told against all that the journal holds, once everything has ended.

The journal is read from its file or database, without a runtime. Every aggregate is also brought back twice, from its
newest snapshot and from its first event; both must be the same.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal.client import JournalClient
from holdfast.journal.pages import LATEST
from holdfast.journal.records import Recorded, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.url import open_store
from tests.checkers import judge_history, numbered

from .notes import Note
from .read_verdict import read_rows, read_side_judged
from .reading import READING
from .workload import MODELS, TYPES

__all__ = ["Verdict", "judged"]

PAGE = 5000
ALL_TYPES = TYPES | {cls.__name__: cls for cls in READING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judges say. `wrong`: empty if all is well. `lost`, `doubled`: commands, with the time at which their
    callers were told that they are done. `read_side`: what came of it, a line for each part."""

    wrong: list[str]
    lost: list[float]
    doubled: list[float]
    events: int
    streams: int
    stale: int
    read_side: list[str]


def judged(url: str, notes: Sequence[Note], seen: Path, read_url: str) -> Verdict:
    """Read the journal and the read model, and judge. `seen`: the folder with what subscribers noted."""
    return asyncio.run(_judged(url, notes, seen, read_rows(read_url)))


async def _judged(url: str, notes: Sequence[Note], seen: Path, rows: Mapping[str, Any]) -> Verdict:
    server = JournalServer(open_store(url))
    await server.start()
    try:
        journal = JournalClient(_Way(server))
        everything = await _all(journal)
        index = await server.store.due_reminders(category="Diary", until=LATEST)
        read_side = read_side_judged(everything, seen, rows, index)
        recorded = _of_callers(everything)
        wrong = _wrong(notes, recorded) + await _snapshots(journal, everything) + read_side.wrong
    finally:
        await server.stop()
    tokens = Counter(msgspec.msgpack.decode(each.payload)["token"] for each in recorded)
    done = {note.line["token"]: note.returned or 0.0 for note in notes if note.done and note.line["token"]}
    return Verdict(
        wrong=wrong,
        lost=[at for token, at in done.items() if token not in tokens],
        doubled=[done.get(token, 0.0) for token, count in tokens.items() if count > 1],
        events=len(everything),
        streams=len({each.stream for each in everything}),
        stale=_stale(notes),
        read_side=read_side.lines,
    )


class _Way:
    """A `JournalLink` to a server in this process."""

    def __init__(self, server: JournalServer) -> None:
        self._server = server

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self._server, method)(*args)


async def _all(journal: JournalClient) -> list[Recorded]:
    found: list[Recorded] = []
    while page := await journal.read_all(after=len(found), limit=PAGE):
        found += page
    return found


def _of_callers(recorded: Sequence[Recorded]) -> list[Recorded]:
    """The events of the aggregates that callers use, numbered anew. All of them are numbered right."""
    numbered(recorded)
    mine = [each for each in recorded if each.stream.category in TYPES]
    return [msgspec.structs.replace(each, position=at) for at, each in enumerate(mine, 1)]


def _wrong(notes: Sequence[Note], recorded: Sequence[Recorded]) -> list[str]:
    try:
        judge_history([note.operation() for note in notes], recorded, MODELS)
    except AssertionError as error:
        return [str(error)]
    return []


async def _snapshots(journal: JournalClient, recorded: Sequence[Recorded]) -> list[str]:
    """Streams whose snapshot and tail give another state than all events."""
    wrong = []
    for stream in sorted({StreamId(*each.stream) for each in recorded}):
        if stream.category not in ALL_TYPES:  # a follower's own
            continue
        definition = definition_of(ALL_TYPES[stream.category])
        short = await hydrate(definition, stream, journal)
        full = await hydrate(definition, stream, journal, use_snapshot=False)
        if short.instance.read() != full.instance.read():  # type: ignore[attr-defined]
            wrong.append(f"{stream}: its snapshot at version {short.snapshot_version} is not what its events say")
    return wrong


def _stale(notes: Sequence[Note]) -> int:
    """Answers of plain queries that were older than what somebody had been told before: allowed, and counted."""
    newest: dict[str, int] = {}
    stale = 0
    moments = [(note.called, 1, note) for note in notes if note.done and not note.line["sure"]]
    moments += [(note.returned or 0.0, 0, note) for note in notes if note.done]
    seen: dict[int, int] = {}
    for _, is_call, note in sorted(moments, key=lambda moment: moment[:2]):
        aggregate = note.line["aggregate"]
        if is_call:
            seen[id(note)] = newest.get(aggregate, 0)
        else:
            stale += id(note) in seen and note.value[0] < seen[id(note)]
            newest[aggregate] = max(newest.get(aggregate, 0), note.value[0])
    return stale
