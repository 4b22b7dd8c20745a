"""How fast is one long stream replayed, against reading and decoding the same rows with nothing else?

One aggregate of 1,000,000 small events, from the journal to its state, without a snapshot: `hydrate` over a journal
server in this process, with paging, checksums, the wire's encoding, typed events and the aggregate's own handler.
Compared with one raw `sqlite3` query over the same rows and columns, each payload decoded by msgspec, nothing applied.
"""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.harness import Question, Run, at_least
from benchmarks.subjects.counter import Added, Counter
from benchmarks.subjects.journals import CATEGORY, counter_stream, fill, filling, served
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal import StreamId
from holdfast.journal.rows import EVENT_COLUMNS

QUESTION = Question(
    name="replay",
    asks="how fast is one long stream replayed into state?",
    compared="raw sqlite3 and msgspec over the same rows, nothing applied",
    target=at_least(0.4),
)
STREAM = StreamId(CATEGORY, "long")
FILL_EVENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int
    events: int


FULL = Sizes(rounds=5, events=1_000_000)
QUICK = Sizes(rounds=3, events=60_000)


async def measure(run: Run, sizes: Sizes) -> None:
    path = run.folder / "long.db"
    await fill_long(run, path, "long", sizes.events)
    definition = definition_of(Counter)
    async with served(path) as client:

        async def ours() -> float:
            started = time.perf_counter()
            hydrated = await hydrate(definition, STREAM, client, use_snapshot=False)
            taken = time.perf_counter() - started
            assert (hydrated.version, hydrated.instance.value()) == (sizes.events, sizes.events), "an event is missing"
            return sizes.events / taken

        async def theirs() -> float:
            return sizes.events / raw_s(path, sizes.events)

        samples = await run.alternate("rounds", sizes.rounds, {"ours": ours, "theirs": theirs})
        run.compare("events replayed", "/s", samples["ours"], samples["theirs"])


async def fill_long(run: Run, path: Path, id: str, events: int) -> None:
    """A journal with one counter of so many events, each adding 1."""
    async with filling(path) as (store, epoch):
        with run.progress(f"filling {id}", events) as advance:
            for after in range(0, events, FILL_EVENTS):
                more = min(FILL_EVENTS, events - after)
                append = counter_stream(id, "fill", epoch, events=more, amount=1, after=after)
                await fill(store, [append], lambda _, more=more: advance(more))


def raw_s(path: Path, events: int) -> float:
    """Seconds to read all rows of the stream, by the same index, and to decode each payload."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA cache_size = {-64 * 1024}")
    connection.execute(f"PRAGMA mmap_size = {256 << 20}")
    decode = msgspec.msgpack.Decoder(Added).decode
    started = time.perf_counter()
    query = f"SELECT {EVENT_COLUMNS} FROM events WHERE stream = 1 AND version > 0 ORDER BY version"
    count = 0
    for row in connection.execute(query):
        decode(row[6])
        count += 1
    taken = time.perf_counter() - started
    connection.close()
    assert count == events, f"{count} rows of {events}"
    return taken
