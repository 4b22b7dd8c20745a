"""Does an aggregate with a snapshot come back as fast after 1,000,000 events as after 100?

Both have a snapshot ten events before their end, as one that took it on its way has, in one journal. Hydrated again
and again through a journal server in this process; one sample is the median of many.
"""

import time
from dataclasses import dataclass

from benchmarks.harness import Question, Run, at_most, percentile
from benchmarks.replay import fill_long
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.journals import CATEGORY, served
from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.actors.snapshots import take
from holdfast.journal import JournalClient, StreamId

QUESTION = Question(
    name="snapshot_hydration",
    asks="does the length of the history matter when there is a snapshot?",
    compared="the same after 100 events",
    target=at_most(1.5),
)
TAIL, SHORT = 10, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`events`: of the long stream. `times`: that each is hydrated in one round."""

    rounds: int
    events: int
    times: int


FULL = Sizes(rounds=9, events=1_000_000, times=500)
QUICK = Sizes(rounds=3, events=60_000, times=150)


async def measure(run: Run, sizes: Sizes) -> None:
    path = run.folder / "two.db"
    streams = {"long": sizes.events, "short": SHORT}
    for id, events in streams.items():
        await fill_long(run, path, id, events)
    async with served(path) as client:
        for id, events in streams.items():
            await snapshot(client, id, events - TAIL)

        async def long() -> float:
            return await hydration_s(client, "long", sizes.events, sizes.times)

        async def short() -> float:
            return await hydration_s(client, "short", SHORT, sizes.times)

        samples = await run.alternate("rounds", sizes.rounds, {"long": long, "short": short})
        run.compare(f"hydration after {sizes.events:,} events, p50", "s", samples["long"], samples["short"])


async def snapshot(client: JournalClient, id: str, version: int) -> None:
    """What a host would have left behind at that version."""
    definition, stream = definition_of(Counter), StreamId(CATEGORY, id)
    hydrated = await hydrate(definition, stream, client, version=version)
    await client.save_snapshots([take(definition, stream, hydrated.instance, version)], keep=2)


async def hydration_s(client: JournalClient, id: str, events: int, times: int) -> float:
    """Seconds that one takes."""
    definition, stream, taken = definition_of(Counter), StreamId(CATEGORY, id), []
    for _ in range(times):
        started = time.perf_counter()
        hydrated = await hydrate(definition, stream, client)
        taken.append(time.perf_counter() - started)
        assert hydrated.snapshot_version == events - TAIL, "it did not start from the snapshot"
        assert hydrated.instance.value() == events, "an event is missing"
    return percentile(taken, 0.5)
