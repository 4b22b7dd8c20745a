"""How much is still done under ten times the load that can be taken, and does memory stay bounded?

The peak is what some callers get done in closed loops. Then ten times as many come, in several client processes, with
bursts of thousands of calls at once between them. Each client lets so many wait for the host; whoever comes beyond that
gets `Overloaded`, stays away for a moment and comes again, so that there are always far more who want something than
may wait. Afterwards the journal is read: every acknowledged call is in it exactly once, none that was refused, and of
those whose outcome is unknown none twice.

Callers, refusals, hosts and journal share the machine's cores: what a refusal costs is missing elsewhere.
"""

import asyncio
import sqlite3
from collections import Counter as Tally
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import ray

from benchmarks.harness import Question, Run, at_least, at_most, percentile
from benchmarks.harness.processes import JOURNAL, actor_pids, resident_bytes
from benchmarks.subjects.crowd import NOT_DONE, TOLD, UNKNOWN, Crowd, Pressed, call_number
from holdfast.runtime import Runtime, Sharded

QUESTION = Question(
    name="overload",
    asks="how much is still done under ten times the load that can be taken?",
    compared="its own peak",
    target=at_least(0.8),
)
TIMES = 10
HOST = "host:Counter#0"
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`callers`: of all clients, at the peak. `waiting_max`: calls that may wait in one client; `burst`: calls of one
    client at once, far more than that. `pause_s`: how long one who was refused stays away, on average."""

    rounds: int
    peak_s: float
    overload_s: float
    clients: int = 2
    callers: int = 1000
    aggregates: int = 1000
    waiting_max: int = 2000
    burst: int = 10_000
    burst_every_s: float = 5.0
    pause_s: float = 1.0


FULL = Sizes(rounds=3, peak_s=10, overload_s=60)
QUICK = Sizes(rounds=3, peak_s=1, overload_s=2)


async def measure(run: Run, sizes: Sizes) -> None:
    path = run.folder / "counters.db"
    url = f"sqlite:///{path}"
    async with Runtime.open(url, placement=Sharded(1)):
        crowds, pids = await come(run, sizes, url)
        load = Load(crowds, sizes)
        await load.peak(1)
        memory = Memory(pids)
        samples = await run.alternate(
            "rounds",
            sizes.rounds,
            {"peak": load.peak, "overload": lambda: memory.watched(load.overload)},
            warm_up=False,
        )
        run.compare("durable commands under ten times the load", "/s", samples["overload"], samples["peak"])
        report(run, sizes, load, memory)
        verify(path, [await crowd.fates.remote() for crowd in crowds], run)
        await asyncio.gather(*(crowd.close.remote() for crowd in crowds))


async def come(run: Run, sizes: Sizes, url: str) -> tuple[list[Any], dict[str, int]]:
    """The crowds, and all processes whose memory counts."""
    crowds = [ray.remote(num_cpus=0, max_concurrency=10)(Crowd).remote() for _ in range(sizes.clients)]
    opened = [
        crowd.open.remote(url, number, sizes.aggregates, sizes.waiting_max, run.seed + number)
        for number, crowd in enumerate(crowds)
    ]
    clients = {f"client {number}": pid for number, pid in enumerate(await asyncio.gather(*opened))}
    named = actor_pids()
    return crowds, clients | {"host": named[HOST], "journal": named[JOURNAL]}


class Load:
    """All crowds together. `seen`: what they saw under overload, by round."""

    def __init__(self, crowds: list[Any], sizes: Sizes) -> None:
        self._crowds, self._sizes = crowds, sizes
        self.seen: list[list[Pressed]] = []
        self.peaks: list[list[Pressed]] = []

    async def peak(self, seconds: float | None = None) -> float:
        """Commands a second with as many callers as it takes."""
        callers = self._sizes.callers // self._sizes.clients
        self.peaks.append(await self._press(seconds or self._sizes.peak_s, callers))
        return sum(pressed.done_per_s for pressed in self.peaks[-1])

    async def overload(self) -> float:
        """Commands a second with ten times as many, and bursts."""
        sizes = self._sizes
        callers = TIMES * sizes.callers // sizes.clients
        more = {"pause_s": sizes.pause_s, "burst": sizes.burst, "burst_every_s": sizes.burst_every_s}
        self.seen.append(await self._press(sizes.overload_s, callers, **more))
        return sum(pressed.done_per_s for pressed in self.seen[-1])

    async def _press(self, seconds: float, callers: int, **more: float) -> list[Pressed]:
        return list(await asyncio.gather(*(c.press.remote(seconds, callers, **more) for c in self._crowds)))


class Memory:
    """What each process holds, looked at twice a second while it is watched: by name, by round, in bytes."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.rounds: list[dict[str, list[int]]] = []

    async def watched(self, work: Any) -> float:
        """Do it, and look meanwhile."""
        self.rounds.append({name: [] for name in self._pids})
        looking = asyncio.create_task(self._look())
        try:
            return await work()
        finally:
            looking.cancel()

    async def _look(self) -> None:
        while True:
            for name, pid in self._pids.items():
                self.rounds[-1][name].append(resident_bytes(pid))
            await asyncio.sleep(0.5)  # a quick round, too, has a middle that is not its end


def report(run: Run, sizes: Sizes, load: Load, memory: Memory) -> None:
    """Everything but the throughput."""
    tally: Tally[str] = Tally()
    for crowd in (pressed for seen in load.seen for pressed in seen):
        tally.update(crowd.tally)
    offered = tally.total() / (sizes.rounds * sizes.overload_s)
    run.details["calls under overload, by what became of them"] = dict(tally)
    run.details["calls a second, offered"] = round(offered)
    run.details["callers at the peak and under overload"] = [sizes.callers, TIMES * sizes.callers]
    for what, rounds in (("peak", load.peaks[1:]), ("overload", load.seen)):
        times = [latency for seen in rounds for pressed in seen for latency in pressed.latencies]
        run.details[f"latency of what was done, {what}: p50, p99, worst in ms"] = [
            round(1e3 * percentile(times, share), 1) for share in (0.5, 0.99, 1.0)
        ]
    run.details["fairness: commands of each client under overload"] = [
        [pressed.tally["done"] for pressed in seen] for seen in load.seen
    ]
    run.details["memory in MiB: first, middle, last, most, by round"] = {
        name: [
            [round(v / MIB) for v in (m[0], m[len(m) // 2], m[-1], max(m))] for m in (r[name] for r in memory.rounds)
        ]
        for name in memory.rounds[0]
    }
    middle = [sum(m[len(m) // 2] for m in r.values()) for r in memory.rounds]
    last = [sum(m[-1] for m in r.values()) for r in memory.rounds]
    run.compare("memory at the end", "B", last, middle, compared="in the middle of the round", target=at_most(1.1))


def verify(path: Path, fates: list[bytes], run: Run) -> None:
    """The journal against what callers were told: exactly once, not at all, or at most once."""
    told = {call_number(crowd, n): fate for crowd, all in enumerate(fates) for n, fate in enumerate(all)}
    decode, seen = msgspec.msgpack.decode, 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
        for (payload,) in reader.execute("SELECT payload FROM events"):
            fate = told.pop(decode(payload)["amount"], None)
            assert fate is not None, "an event that nobody asked for, or one twice"
            assert fate != NOT_DONE, "a call that was refused was carried out"
            seen += 1
    missing = sum(fate == TOLD for fate in told.values())
    assert missing == 0, f"{missing} acknowledged calls are not in the journal"
    assert all(fate in (NOT_DONE, UNKNOWN) for fate in told.values()), "a call was never answered"
    run.details["events in the journal, each of a call of its own"] = seen
