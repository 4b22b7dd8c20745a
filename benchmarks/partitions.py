"""How many durable appends a second do 2 and 4 partitions of a SQLite journal take, against one?

Journals on Ray, each partition a process of its own, with `synchronous=full`, all files on one disk. Callers in this
process each append one event to a stream of their own, wait until it is durable, and append the next; what waits for
the same partition travels together and is one commit, as a host's appends are. They are so many that one partition too
has the next batch waiting when it has written one.

Reported, not promised: partitions give a journal more processes, not a faster disk and not more cores. The cores that
were at work tell whether there was anything for them to give. Where all of the machine's are at work already, or this
process is the one that is busy, there was not.
"""

import json
import os
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Question, Run, closed_loop
from benchmarks.harness.processes import cpu_s
from benchmarks.subjects.journals import CATEGORY, added_event
from holdfast.journal import Append, Journal, StreamId
from holdfast.runtime import Config, Runtime
from holdfast.runtime._ray import RayCluster
from holdfast.runtime.cluster import JournalSpec
from holdfast.runtime.resident import journal_over, ways_to

QUESTION = Question(
    name="partitions",
    asks="how many durable appends a second do 2 and 4 partitions of a journal take?",
    compared="one partition",
    target=None,
)
COUNTS = (1, 2, 4)
OWNER = f"{CATEGORY}#0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`each`: appends of each caller in one round."""

    rounds: int
    callers: int
    each: int


FULL = Sizes(rounds=9, callers=6000, each=20)
QUICK = Sizes(rounds=3, callers=3000, each=4)


class Subject:
    """One journal of so many partitions, and what it used in each round."""

    def __init__(self, journal: Journal, epoch: int, pids: list[int]) -> None:
        self.journal, self.used, self.rows = journal, dict[str, list[float]](), list[float]()
        self._epoch, self._pids, self._version = epoch, pids, 0

    async def append_all(self, sizes: Sizes) -> float:
        """Durable appends a second, until every caller has done all of its own."""
        first, number = self._version, sizes.callers * sizes.each
        self._version += sizes.each

        async def caller(name: int) -> None:
            stream = StreamId(CATEGORY, f"{name}")
            for version in range(first, first + sizes.each):
                event = added_event(version, 1, version + 1)
                append = Append(
                    stream=stream, owner=OWNER, epoch=self._epoch, expected_version=version, events=(event,)
                )
                await self.journal.append(append, 150)

        before, commits = self._cpu(), (await self.journal.statistics()).commits
        taken = await closed_loop(caller, sizes.callers)
        for kind, seconds in self._cpu().items():
            self.used.setdefault(kind, []).append((seconds - before[kind]) / taken)
        self.rows.append(number / ((await self.journal.statistics()).commits - commits))
        return number / taken

    def _cpu(self) -> dict[str, float]:
        return {"callers": time.process_time(), "busiest partition": max(map(cpu_s, self._pids)),
                "all partitions": sum(map(cpu_s, self._pids))}  # fmt: skip

    async def verify(self, sizes: Sizes) -> None:
        """Nothing was lost or doubled."""
        versions = {version for _, version in await self.journal.list_streams(category=CATEGORY, limit=sizes.callers)}
        assert versions == {self._version}, f"an append was lost or doubled: {versions}"
        assert (await self.journal.statistics()).events == sizes.callers * self._version


async def measure(run: Run, sizes: Sizes) -> None:
    async with AsyncExitStack() as opened:
        subjects = {f"{count}": await subject(count, run.folder, opened) for count in COUNTS}
        systems = {name: lambda each=each: each.append_all(sizes) for name, each in subjects.items()}
        samples = await run.alternate("rounds", sizes.rounds, systems)
        run.compare("durable appends", "/s", samples["1"], of="1 partition", compared="", has_target=False)
        for count in COUNTS[1:]:
            run.compare("durable appends", "/s", samples[f"{count}"], samples["1"], of=f"{count} partitions")
        run.details["cores at work, by partitions"] = {
            name: {kind: round(statistics.median(found[1:]), 2) for kind, found in each.used.items()}
            for name, each in subjects.items()
        }
        run.details["rows in one transaction, by partitions"] = {
            name: round(statistics.median(each.rows[1:])) for name, each in subjects.items()
        }
        run.note(f"all partitions on one disk, and the callers on the same {os.cpu_count()} cores")
        for each in subjects.values():
            await each.verify(sizes)


async def subject(count: int, folder: Path, opened: AsyncExitStack) -> Subject:
    """A new journal, its residents started by a runtime that stays as long as `opened`."""
    path, namespace = folder / f"{count}.db", f"partitions-{count}"
    await opened.enter_async_context(Runtime.open(f"sqlite:///{path}?partitions={count}", namespace=namespace))
    spec = JournalSpec(namespace=namespace, url="", volatile=False, partitions=count)
    journal = journal_over(ways_to(RayCluster(spec, may_start_journal=False), spec, Config()), Config())
    epoch = await journal.claim(OWNER, "benchmark")
    files = (f"{path}.p{number}" if number else f"{path}" for number in range(count))
    return Subject(journal, epoch, [writer(Path(f"{file}.writer")) for file in files])


def writer(lock: Path) -> int:
    """The process that holds the lock of a journal's file."""
    return int(json.loads(lock.read_bytes())["pid"])
