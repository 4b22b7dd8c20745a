"""What does a projection cost, beside the inserts that it is there for, and how soon does it show what happened?

**Catching up**: a projection that keeps a row for each counter goes through a journal, in SQLite both: pages,
checksums, the wire's encoding, typed events, its handlers, its checkpoint in each transaction. The journal's server is
a process of the cluster, as ever; the projection is in this one, which looks for garbage as a follower's process does
(both sides have that). Compared with one loop in one thread over the same rows of the file: raw `sqlite3`, payloads
decoded by msgspec, the same inserts, a commit for each page. Once over one stream, and once over as many streams as
events. The latter must be no slower by itself; there a projection goes through both that keeps one row for all, since a
table of a million rows takes longer to write than one of a single row, whoever writes it.

**Live**: on a cluster; one command, and then the wait until the projection has it, as a program would that reads its
own writes, against a bare Ray call.
"""

import asyncio
import gc
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from benchmarks.harness import Question, Run, at_least, at_most
from benchmarks.latency import median_s
from benchmarks.replay import fill_long
from benchmarks.subjects.bare import bare_counter, wait_for
from benchmarks.subjects.counter import Added, Counter
from benchmarks.subjects.journals import fill_new_streams
from holdfast.actors import on
from holdfast.actors.limits import HostLimits
from holdfast.journal import JournalClient, Positions
from holdfast.runtime import Projection, RecordedEvent, Runtime, Table
from holdfast.runtime.collector import Collector
from holdfast.runtime.follower import Desk, Progress
from holdfast.runtime.projection_follower import ProjectionFollower

QUESTION = Question(
    name="projections",
    asks="what does a projection cost beside its inserts, and how soon does it show what happened?",
    compared="a bare loop over the same rows with the same inserts, in one thread",
    target=at_least(0.5),
    in_quick=False,
)
PAGE = ProjectionFollower.pages_at_once * HostLimits().page  # events of one transaction, on both sides
UPSERT = "INSERT INTO totals VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET total = totals.total + excluded.total"


class Totals(Projection):
    """What each counter has come to."""

    totals = Table("id TEXT PRIMARY KEY, total BIGINT NOT NULL")

    @on(Added)
    def added(self, event: Added, recorded: RecordedEvent) -> None:
        self.execute(
            f"INSERT INTO {self.totals} VALUES (?, ?)"
            f" ON CONFLICT (id) DO UPDATE SET total = {self.totals}.total + excluded.total",
            recorded.id,
            event.amount,
        )


class Overall(Totals):
    """The same of all counters together: one row, however many streams there are."""

    @on(Added)
    def added(self, event: Added) -> None:
        self.execute(
            f"INSERT INTO {self.totals} VALUES ('all', ?)"
            f" ON CONFLICT (id) DO UPDATE SET total = {self.totals}.total + excluded.total",
            event.amount,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`events`: in one stream. `streams`: of one event each. `calls`: of one round of the live measurement."""

    rounds: int
    events: int
    streams: int
    calls: int


FULL = Sizes(rounds=5, events=200_000, streams=1_000_000, calls=300)
QUICK = Sizes(rounds=3, events=20_000, streams=20_000, calls=30)


async def measure(run: Run, sizes: Sizes) -> None:
    Collector().start()
    gc.collect()
    async with Runtime.open(f"sqlite:///{run.folder}/live.db") as runtime:
        await catching_up(run, sizes)
        await live(run, sizes, runtime)


async def catching_up(run: Run, sizes: Sizes) -> None:
    one, many = run.folder / "one.db", run.folder / "many.db"
    await fill_long(run, one, "long", sizes.events)
    with run.progress(f"filling {sizes.streams:,} streams", sizes.streams) as advance:
        fill_new_streams(many, 1, [f"counter-{n}" for n in range(sizes.streams)], advance)
    cases = {"one stream": (one, sizes.events, 1), "a stream for each event": (many, sizes.streams, sizes.streams)}
    model = run.folder / "model.db"
    for name, (path, events, rows) in cases.items():

        async def ours(path: Path = path, events: int = events, rows: int = rows) -> float:
            return events / await projected_s(Totals, path, events, rows, model)

        async def theirs(path: Path = path, events: int = events, rows: int = rows) -> float:
            return events / bare_s(path, events, rows, model)

        samples = await run.alternate(name, sizes.rounds, {"ours": ours, "theirs": theirs})
        run.compare("events projected", "/s", samples["ours"], samples["theirs"], of=f"over {name}")

    async def single() -> float:
        return sizes.events / await projected_s(Overall, one, sizes.events, 1, model)

    async def several() -> float:
        return sizes.streams / await projected_s(Overall, many, sizes.streams, 1, model)

    samples = await run.alternate("one row for all", sizes.rounds, {"single": single, "several": several})
    run.compare(
        "events projected",
        "/s",
        samples["several"],
        samples["single"],
        of="over a stream for each event, into one row",
        compared="over one stream",
        target=at_least(0.9),
    )


async def projected_s(cls: type[Totals], path: Path, events: int, rows: int, model: Path) -> float:
    """Seconds for the projection, from nothing to the end of the journal."""
    discard(model)
    async with remembering_nothing(path) as client:
        follower, progress = ProjectionFollower(cls, f"sqlite:///{model}"), Progress(1)
        owner = f"follower:projection/{cls.__name__}@1"
        epoch = await client.claim(owner, "benchmark")
        desk = Desk(
            owner=owner,
            epoch=epoch,
            parts=[client],
            gate=cast(Any, None),  # a projection calls nobody
            progress=progress,
            page=PAGE,
        )
        started = time.perf_counter()
        running = asyncio.create_task(follower.run(desk))
        assert await progress.wait(Positions((events,)), 3600), "it has not come to the end"
        taken = time.perf_counter() - started
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await follower.close()
    check(model, events, rows)
    return taken


@asynccontextmanager
async def remembering_nothing(path: Path) -> AsyncGenerator[JournalClient, None]:
    """A client of a journal's server in a process of its own, which has not been asked for any page before."""
    async with Runtime.open(f"sqlite:///{path}", namespace=f"catching-up-{time.monotonic_ns()}") as runtime:
        yield runtime._journal.parts[0]
        await runtime._stop_journal(0)


def bare_s(path: Path, events: int, rows: int, model: Path) -> float:
    """Seconds for the loop."""
    discard(model)
    decode = msgspec.msgpack.Decoder(Added).decode
    with closing(sqlite3.connect(path)) as journal, closing(sqlite3.connect(model, isolation_level=None)) as read_model:
        read_model.execute("PRAGMA journal_mode = WAL")
        read_model.execute("PRAGMA synchronous = FULL")
        read_model.execute("CREATE TABLE totals (id TEXT PRIMARY KEY, total BIGINT NOT NULL)")
        started = time.perf_counter()
        query = (
            "SELECT s.id, e.payload FROM events e JOIN streams s ON s.key = e.stream WHERE e.position > ? AND"
            " e.position <= ? ORDER BY e.position"
        )
        for after in range(0, events, PAGE):
            read_model.execute("BEGIN IMMEDIATE")
            for id, payload in journal.execute(query, (after, after + PAGE)):
                read_model.execute(UPSERT, (id, decode(payload).amount))
            read_model.execute("COMMIT")
        taken = time.perf_counter() - started
    check(model, events, rows)
    return taken


def discard(model: Path) -> None:
    for path in model.parent.glob(f"{model.name}*"):
        path.unlink()


def check(model: Path, events: int, rows: int) -> None:
    """Every event counts once, in the row of its stream."""
    with closing(sqlite3.connect(model)) as connection:
        found = connection.execute("SELECT sum(total), count(*) FROM totals").fetchone()
    assert found == (events, rows), f"the table says {found}, the journal {events, rows}"


async def live(run: Run, sizes: Sizes, runtime: Runtime) -> None:
    await runtime.start(Totals, f"sqlite:///{run.folder}/live-model.db")
    counter, bare, position = runtime.get(Counter, "one"), bare_counter(1000), 0
    bare_add = wait_for(bare.add)

    async def lag() -> float:
        nonlocal position
        times: list[float] = []
        for _ in range(sizes.calls):
            await counter.add(1)
            position += 1
            started = time.perf_counter()
            await runtime.wait_for(Totals, position)
            times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2]

    async def call() -> float:
        return await median_s(lambda: bare_add(1), sizes.calls)

    samples = await run.alternate("live", sizes.rounds, {"lag": lag, "call": call})
    run.compare(
        "from the answer to a command to its row, p50",
        "s",
        samples["lag"],
        samples["call"],
        of="live",
        compared="a bare Ray call",
        target=at_most(5),
    )
