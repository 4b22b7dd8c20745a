"""What do those who follow cost those who write, and how fast is a crowd of reminders fired?

**Writers**: 1,000 commands in flight on one aggregate, as in `hot_aggregate`, while 0, 1 or 100 subscribers in a
process of their own follow everything, live. They cost the journal one page, which is then handed to all of them in
that process; but on a machine of two cores that process takes its time from the others. Each must have been told of
each event once.

**Reminders**: 10,000 aggregates in one host have one pending reminder each, all of them due, as after a long absence.
Then the follower that fires them is started; the time is that from the first that has fired to the last, as a
subscriber sees them. Compared with 10,000 plain commands to as many aggregates that do the same, from one client that
has as many under way as the follower may.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.harness import Question, Run, at_least, at_most, closed_loop, rate
from benchmarks.subjects.alarms import Alarm, Rang
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.readers import readers
from holdfast.actors.definition import definition_of
from holdfast.journal import Positions
from holdfast.runtime import Config, Runtime, Sharded
from holdfast.runtime.reminders import reminders_plan

QUESTION = Question(
    name="subscriptions",
    asks="what do those who follow cost those who write, and how fast are due reminders fired?",
    compared="durable commands/s without subscribers",
    target=at_least(0.9),
    in_quick=False,
)
TARGETS = {1: at_least(0.9), 100: at_least(0.8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`callers`: calls in flight. `each`: of each of them in one round. `reminders`: in one round."""

    rounds: int
    callers: int
    each: int
    reminders: int


FULL = Sizes(rounds=9, callers=1000, each=60, reminders=10_000)
QUICK = Sizes(rounds=3, callers=1000, each=6, reminders=1_000)
REMINDERS = Config(reminders_rate_max=1_000_000, reminders_in_flight_max=1000)


async def measure(run: Run, sizes: Sizes) -> None:
    await writers(run, sizes)
    await due_reminders(run, sizes)


async def writers(run: Run, sizes: Sizes) -> None:
    url = f"sqlite:///{run.folder}/counter.db"
    async with Runtime.open(url, placement=Sharded(1)) as runtime:
        counter, others = runtime.get(Counter, "one"), readers(url)

        async def commands(subscribers: int) -> float:
            before = await runtime.head()
            await others.start.remote(subscribers)
            done = await rate(lambda _: counter.add(1), callers=sizes.callers, each=sizes.each)
            after = await runtime.head()
            assert isinstance(before, int), "a journal without partitions"
            assert isinstance(after, int), "a journal without partitions"
            told = await others.stop.remote(after)
            assert told == [after - before] * subscribers, "an event was skipped or told twice"
            return done

        systems = {str(count): lambda count=count: commands(count) for count in (0, *TARGETS)}  # type: ignore[misc]
        samples = await run.alternate("rounds", sizes.rounds, systems)
        for count, target in TARGETS.items():
            what = f"with {count} subscriber{'s' * (count > 1)}"
            run.compare("durable commands", "/s", samples[str(count)], samples["0"], of=what, target=target)
        sent = (1 + sizes.rounds) * sizes.callers * sizes.each * len(systems)
        assert (await runtime.state_at(Counter, "one")).total == sent, "a command was lost or doubled"


async def due_reminders(run: Run, sizes: Sizes) -> None:
    config = replace(REMINDERS, host=replace(REMINDERS.host, live_max=2 * sizes.reminders * (2 + sizes.rounds)))
    async with Runtime.open(f"sqlite:///{run.folder}/alarms.db", placement=Sharded(1), config=config) as runtime:
        plan, rounds = reminders_plan(definition_of(Alarm), config), iter(range(1_000_000))
        await runtime.register(Alarm)
        await asyncio.wait(runtime._starting)  # beside all else, what fires them, and would fire what is set below

        async def fired() -> float:
            await runtime.stop(plan)
            before = await runtime.head()
            ids = [f"{next(rounds)}-{n}" for n in range(sizes.reminders)]
            due = datetime.now(UTC) - timedelta(seconds=1)
            await each(ids, lambda id: runtime.get(Alarm, id).set(due))
            rings = runtime.subscribe(after=await runtime.head(), types=[Rang])
            starting = asyncio.create_task(runtime.start(plan))
            await anext(rings)
            started = time.perf_counter()
            for _ in range(sizes.reminders - 1):
                await anext(rings)
            taken = time.perf_counter() - started
            await starting
            await check(ids, before)
            return taken

        async def plain() -> float:
            before = await runtime.head()
            ids = [f"{next(rounds)}-{n}" for n in range(sizes.reminders)]
            await each(ids, lambda id: runtime.get(Alarm, id).set(datetime.now(UTC) + timedelta(days=1)))
            started = time.perf_counter()
            await each(ids, lambda id: runtime.get(Alarm, id).ring())
            taken = time.perf_counter() - started
            await check(ids, before)
            return taken

        async def check(ids: list[str], after: int | Positions) -> None:
            rang = [event.id async for event in runtime.read(after=after) if event.type == "alarm.rang"]
            assert sorted(rang) == sorted(ids), "a reminder was lost or fired twice"

        samples = await run.alternate("rounds", sizes.rounds, {"fired": fired, "plain": plain})
        figure = f"{sizes.reminders:,} due reminders fired"
        compared = "as many plain commands that do the same"
        run.compare(figure, "s", samples["fired"], samples["plain"], compared=compared, target=at_most(3))


async def each(ids: Sequence[str], call: Callable[[str], Awaitable[Any]]) -> None:
    """One call for each, so many at once."""
    waiting = iter(ids)

    async def caller(_: int) -> None:
        for id in waiting:
            await call(id)

    await closed_loop(caller, REMINDERS.reminders_in_flight_max)
