"""Are appends and hydrations as fast with 10,000,000 streams in the journal as with 10,000?

Streams have one event each and names that follow no order. In each round, some at random are hydrated, then get one
event more, as a host does it, through a journal server in this process with hundreds of callers. No stream is taken
twice in a run.

The large journal is filled once, with the store's own rows, under its constraints and triggers, and kept in
`benchmarks/.cache/`; filling goes on where it was stopped. It is read once before the rounds, so that the question is
about what a larger journal costs, not about what the machine's memory holds of it. The small one is new in each round.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.harness import Question, Run, at_most, closed_loop
from benchmarks.harness.run import CACHE
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.journals import CATEGORY, counter_stream, fill_new_streams, served
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal import Appended, JournalClient, StreamId

QUESTION = Question(
    name="ten_million_streams",
    asks="are appends and hydrations as fast with ten million streams in the journal as with ten thousand?",
    compared="the same with 10,000 streams",
    target=at_most(1.5),
)
AT_ONCE = 1_000_000  # streams that one transaction fills
OWNER = f"{CATEGORY}#0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`taken`: streams that are hydrated and appended to in one round."""

    rounds: int
    streams: int
    few: int
    taken: int
    callers: int = 500


FULL = Sizes(rounds=9, streams=10_000_000, few=10_000, taken=9_000)
QUICK = Sizes(rounds=3, streams=200_000, few=10_000, taken=5_000)


async def measure(run: Run, sizes: Sizes) -> None:
    large, small, names = CACHE / f"streams-{sizes.streams}.db", run.folder, count()
    await asyncio.to_thread(filled, run, large, sizes.streams)
    await asyncio.to_thread(read_through, large)
    numbers = iter(run.random.sample(range(sizes.streams), sizes.taken * (1 + sizes.rounds)))
    appending: dict[str, list[float]] = {"many": [], "few": []}

    async def many() -> float:
        return await one("many", large, [next(numbers) for _ in range(sizes.taken)])

    async def few() -> float:
        path = small / f"small-{next(names)}.db"
        filled(run, path, sizes.few)
        return await one("few", path, run.random.sample(range(sizes.few), sizes.taken))

    async def one(name: str, path: Path, taken: Sequence[int]) -> float:
        async with served(path) as client:
            hydration_s, append_s = await hydrate_and_append(client, taken, sizes.callers)
        appending[name].append(append_s)
        return hydration_s

    hydrating = await run.alternate("rounds", sizes.rounds, {"many": many, "few": few})
    run.compare("each", "s", appending["many"][1:], appending["few"][1:], of="append")
    run.compare("each", "s", hydrating["many"], hydrating["few"], of="hydration")
    run.details["size of the large journal in MiB"] = large.stat().st_size >> 20
    if run.quick:
        run.note(f"quick: {sizes.streams:,} streams, not 10,000,000")


def filled(run: Run, path: Path, streams: int) -> None:
    """A journal of so many streams; those that it has already are not written again. Rounds append to it, but they
    make no new streams."""
    marked = path.with_suffix(".filled")
    if marked.exists():
        return
    there = streams_of(path)
    with run.progress(f"filling {path.name}", streams - there) as advance:
        for first in range(there, streams, AT_ONCE):
            ids = [name(number) for number in range(first, min(first + AT_ONCE, streams))]
            fill_new_streams(path, first + 1, ids, advance)
    marked.touch()


def streams_of(path: Path) -> int:
    """How many were there when filling was stopped."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT ifnull(max(key), 0) FROM streams").fetchone()
    return int(found)


def name(number: int) -> str:
    """Each number has its own, and neighbours have nothing in common: an odd factor permutes the 64-bit numbers."""
    return f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"


def read_through(path: Path) -> None:
    """Have the machine's memory hold the file, as far as it can."""
    with path.open("rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


async def hydrate_and_append(client: JournalClient, numbers: Sequence[int], callers: int) -> tuple[float, float]:
    """Seconds that one hydration and one append take, with `callers` of them under way."""
    definition, epoch = definition_of(Counter), await client.claim(OWNER, f"benchmark at {time.time_ns()}")
    versions, appended = [0] * len(numbers), [0] * len(numbers)

    async def hydrating(first: int) -> None:
        for place in range(first, len(numbers), callers):
            hydrated = await hydrate(definition, StreamId(CATEGORY, name(numbers[place])), client)
            versions[place] = hydrated.version
            assert hydrated.instance.value() == hydrated.version, "a state is wrong"

    async def appending(first: int) -> None:
        for place in range(first, len(numbers), callers):
            id, after = name(numbers[place]), versions[place]
            append = counter_stream(id, OWNER, epoch, events=1, amount=1, after=after)
            result: Appended = await client.append(append, 150)
            appended[place] = result.version

    hydration_s = await closed_loop(hydrating, callers) / len(numbers)
    append_s = await closed_loop(appending, callers) / len(numbers)
    assert min(versions) >= 1, "a stream is missing"
    assert appended == [version + 1 for version in versions], "an append was lost or doubled"
    return hydration_s, append_s
