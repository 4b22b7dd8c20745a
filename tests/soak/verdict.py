"""The verdict: all that callers were told against all that the journal holds, once everything has ended.

The journal is read from its file or database, without a runtime. Every aggregate is also brought back twice, from its
newest snapshot and from its first event; both must be the same.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal.client import JournalClient
from holdfast.journal.records import Recorded, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.url import open_store
from tests.checkers import judge_history

from .notes import Note
from .workload import MODELS, TYPES

__all__ = ["Verdict", "judged"]

PAGE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judges say. `wrong`: empty if all is well. `lost`, `doubled`: commands, with the time at which their
    callers were told that they are done."""

    wrong: list[str]
    lost: list[float]
    doubled: list[float]
    events: int
    streams: int
    stale: int


def judged(url: str, notes: Sequence[Note]) -> Verdict:
    """Read the journal, and judge."""
    return asyncio.run(_judged(url, notes))


async def _judged(url: str, notes: Sequence[Note]) -> Verdict:
    server = JournalServer(open_store(url))
    await server.start()
    try:
        journal = JournalClient(_Way(server))
        recorded = await _all(journal)
        wrong = _wrong(notes, recorded) + await _snapshots(journal, recorded)
    finally:
        await server.stop()
    tokens = Counter(msgspec.msgpack.decode(each.payload)["token"] for each in recorded)
    done = {note.line["token"]: note.returned or 0.0 for note in notes if note.done and note.line["token"]}
    return Verdict(
        wrong=wrong,
        lost=[at for token, at in done.items() if token not in tokens],
        doubled=[done.get(token, 0.0) for token, count in tokens.items() if count > 1],
        events=len(recorded),
        streams=len({each.stream for each in recorded}),
        stale=_stale(notes),
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
        definition = definition_of(TYPES[stream.category])
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
