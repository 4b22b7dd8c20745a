"""What do subscribers cost those who write?

1,000 commands in flight on one aggregate, as in `hot_aggregate`, while 0, 1 or 100 subscribers in a process of their
own follow everything, live. They cost the journal one read, whose page is then handed to all of them in that process;
but on a machine of two cores that process takes its time from the others. Each must have been told of each event once.
"""

from dataclasses import dataclass

from benchmarks.harness import Question, Run, at_least, rate
from benchmarks.subjects.counter import Counter
from benchmarks.subjects.readers import readers
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="subscriptions",
    asks="what do subscribers cost those who write?",
    compared="durable commands/s without subscribers",
    target=at_least(0.9),
)
TARGETS = {1: at_least(0.9), 100: at_least(0.8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`callers`: calls in flight. `each`: of each of them in one round."""

    rounds: int
    callers: int
    each: int


FULL = Sizes(rounds=9, callers=1000, each=60)
QUICK = Sizes(rounds=3, callers=1000, each=12)


async def measure(run: Run, sizes: Sizes) -> None:
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
