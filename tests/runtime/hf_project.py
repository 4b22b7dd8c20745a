"""Projections of the tests, and a bench that runs them without Ray: over a journal in memory, by hand.

A module that the processes of followers import by its name."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from hf_bank import Deposited

from holdfast.actors import event, on
from holdfast.actors.events import event_codec, event_name
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import Fenced
from holdfast.journal.journal import Journal
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partition import partition_of
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.positions import Positions
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.store import Store
from holdfast.runtime import DeadLetter, FollowerStopped, Projection, RecordedEvent, Retry, Stop, Table
from holdfast.runtime.follower import Desk, Progress
from holdfast.runtime.model import Model, Row
from holdfast.runtime.model_errors import ReadModelUnavailable
from holdfast.runtime.model_url import ModelUrl
from holdfast.runtime.projection_follower import ProjectionFollower


@event("hf_project.withdrawn")
class Withdrawn:
    amount: int


@event("hf_project.noise")
class Noise:
    pass


class Balances(Projection):
    """What each account has, and how many events made it so."""

    balances = Table("id TEXT PRIMARY KEY, balance BIGINT NOT NULL, entries BIGINT NOT NULL", indexes=["balance DESC"])

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        self.add(recorded.id, event.amount)

    @on(Withdrawn)
    def withdrawn(self, event: Withdrawn, recorded: RecordedEvent) -> None:
        self.add(recorded.id, -event.amount)

    def add(self, id: str, amount: int) -> None:
        self.execute(
            f"INSERT INTO {self.balances} VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE SET"
            f" balance = {self.balances}.balance + excluded.balance, entries = {self.balances}.entries + 1",
            id,
            amount,
        )


class Twice(Balances, name="Balances", version=2):
    """The same, in cents."""

    def add(self, id: str, amount: int) -> None:
        super().add(id, 100 * amount)


class Shared(Balances, partitions=3):
    """By three."""


class Picky(Projection, on_error=DeadLetter()):
    """Takes no amount of 13 and, by a constraint, none of 99."""

    seen = Table("position BIGINT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount <> 99)")
    refuses = 13

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        self.execute(f"INSERT INTO {self.seen} VALUES (?, ?)", recorded.position, event.amount)
        if event.amount == self.refuses:
            raise ValueError("an amount of 13")


class Mended(Picky, name="Picky"):
    """The same, and mended."""

    refuses = 0


class Strict(Picky, on_error=Stop()):
    """Stops at what it does not take."""


class Patient(Picky, on_error=Retry(times=3, first_s=0.5, most_s=1.5, then="dead letter")):
    """Tries again."""


# -- the bench -------------------------------------------------------------------------------------------------------


class Direct:
    """To a server in this process."""

    def __init__(self, store: Store) -> None:
        self.server = JournalServer(store)

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self.server, method)(*args)


class Ledger:
    """A journal in memory that tests write to as if they were aggregates."""

    def __init__(self, partitions: int = 1, stores: list[Store] | None = None) -> None:
        self.stores = stores or [MemoryStore() for _ in range(partitions)]
        self.links = [Direct(store) for store in self.stores]
        self.parts = tuple(JournalClient(link) for link in self.links)
        self.journal: Journal = self.parts[0] if len(self.parts) == 1 else PartitionedJournal(self.parts)
        self._versions: dict[StreamId, int] = {}
        self._commands = itertools.count(1)
        self._epoch = 0
        self.events: list[tuple[str, Any]] = []

    async def write(self, id: str, *events: Any, category: str = "Account") -> None:
        """Append to a stream."""
        payloads = [(event_name(type(each)), event_codec(type(each), {}).encode(each)) for each in events]
        await self.write_raw(id, *payloads, category=category)
        self.events += [(id, each) for each in events]

    async def write_raw(self, id: str, *events: tuple[Any, bytes], category: str = "Account") -> None:
        """The same, of what need not be decodable."""
        if not self._epoch:
            self._epoch = await self.journal.claim("host", "first")
        stream = StreamId(category, id)
        at = self._versions.get(stream, 0)
        self._versions[stream] = at + len(events)
        made = tuple(
            NewEvent(type=name, payload=payload, command_id=f"{os.urandom(4).hex()}-{next(self._commands)}",
                     recorded_at=1_700_000_000_000_000, reply=b"\x01")
            for name, payload in events
        )  # fmt: skip
        await self.journal.append(
            Append(stream=stream, owner="host", epoch=self._epoch, expected_version=at, events=made)
        )

    async def head(self) -> Positions:
        return Positions(tuple([await part.head() for part in self.parts]))

    def of(self, partition: int, ids: Iterator[str]) -> str:
        """The next of these ids whose account lies in a partition."""
        return next(id for id in ids if partition_of(StreamId("Account", id), len(self.parts)) == partition)

    def balances(self, factor: int = 1) -> list[Row]:
        """The rows that `Balances` should come to: the fold."""
        folded: dict[str, list[int]] = {}
        for id, each in self.events:
            if isinstance(each, Deposited | Withdrawn):
                found = folded.setdefault(id, [0, 0])
                found[0] += factor * (each.amount if isinstance(each, Deposited) else -each.amount)
                found[1] += 1
        return sorted((id, *found) for id, found in folded.items())


class Running:
    """A follower at work, supervised as a resident would: run again when it fails, at once."""

    def __init__(self, ledger: Ledger, follower: ProjectionFollower, name: str, page: int) -> None:
        self.ledger, self.follower, self.owner = ledger, follower, f"follower:{name}"
        self.progress = Progress(len(ledger.parts))
        self.incarnation, self.page, self.epoch = os.urandom(4).hex(), page, 0
        self.failures: list[BaseException] = []
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            self.epoch = await self.ledger.journal.claim(self.owner, self.incarnation)
            try:
                await self.follower.run(self.desk())
            except (FollowerStopped, Fenced):
                raise
            except Exception as error:
                self.failures.append(error)
                if len(self.failures) > 1000:
                    raise
            await asyncio.sleep(0)

    def desk(self) -> Desk:
        gate: Any = None
        return Desk(owner=self.owner, epoch=self.epoch, parts=self.ledger.parts, gate=gate, progress=self.progress,
                    page=self.page)  # fmt: skip

    async def reach(self, until: Positions | None = None) -> None:
        """Wait until it is done with all there is. Raises what ended it."""
        wanted = until or await self.ledger.head()
        reached = asyncio.create_task(self.progress.wait(wanted, 60))
        await asyncio.wait({self.task, reached}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            reached.cancel()
            await self.task
        assert await reached, (wanted, self.progress.positions, self.failures)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.follower.close()


@contextlib.asynccontextmanager
async def following(
    ledger: Ledger, cls: Any, url: str, part: int = 0, page: int = 1000, **how: Any
) -> AsyncIterator[Running]:
    """Run one part of a projection. `how`: as `ProjectionFollower` takes it."""
    follower = ProjectionFollower(cls, url, part, **how)
    running = Running(ledger, follower, follower._name, page)
    try:
        yield running
    finally:
        await running.end()


async def rows(url: str, sql: str) -> list[Row]:
    """What a reader sees."""
    return await asyncio.to_thread(_rows, url, sql)


def _rows(url: str, sql: str) -> list[Row]:
    model = ModelUrl.parse(url).open()
    try:
        model.begin()
        return model.fetch(sql, ())
    finally:
        model.rollback()
        model.close()


async def change(url: str, *statements: str) -> None:
    """What somebody does to a read model behind its projection's back."""

    def work() -> None:
        model = ModelUrl.parse(url).open()
        model.begin()
        for statement in statements:
            model.execute(statement, ())
        model.commit()
        model.close()

    await asyncio.to_thread(work)


async def balances(url: str) -> list[Row]:
    return await rows(url, "SELECT id, balance, entries FROM balances ORDER BY id")


class Faulty(Model):
    """Another model, with steps that go wrong when a test says so. `fault(step)` is called before each `begin`,
    `execute`, `fetch`, `commit`, and after each commit as `committed`; it raises what should happen."""

    def __init__(self, model: Model, fault: Callable[[str], None]) -> None:
        super().__init__(model.name)
        self.model, self.fault = model, fault

    @property
    def must_not_be_silent(self) -> bool:  # type: ignore[override]
        return self.model.must_not_be_silent

    def begin(self) -> None:
        self.fault("begin")
        self.model.begin()

    def commit(self) -> None:
        self.fault("commit")
        self.model.commit()
        self.fault("committed")

    def rollback(self) -> None:
        self.model.rollback()

    def execute(self, sql: str, values: Any) -> None:
        self.fault("execute")
        self.model.at_once = self.at_once
        self.model.execute(sql, values)

    def fetch(self, sql: str, values: Any) -> list[Row]:
        self.fault("fetch")
        return self.model.fetch(sql, values)

    def keep_alive(self) -> None:
        self.fault("keep alive")
        self.model.keep_alive()

    def lock(self, name: str) -> None:
        self.model.lock(name)

    def hold_tables(self, names: Any) -> None:
        self.model.hold_tables(names)

    def has_table(self, name: str) -> bool:
        return self.model.has_table(name)

    @property
    def closed(self) -> bool:
        return self.model.closed

    def close(self) -> None:
        self.model.close()


def faulty(url: str, fault: Callable[[str], None]) -> Callable[[], Model]:
    """How a follower connects to such a one."""
    return lambda: Faulty(ModelUrl.parse(url).open(), fault)


def unavailable(step: str) -> ReadModelUnavailable:
    return ReadModelUnavailable("test", f"a test said so at {step}")
