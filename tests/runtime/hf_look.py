"""What the tests of inspection and of the command line share: a small domain, and journals of each kind with it."""

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.actors import Aggregate, command, event, on
from holdfast.actors.definition import definition_of
from holdfast.actors.snapshots import take
from holdfast.journal.codec import encode_plain
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Append, Checkpoint, NewEvent, StreamId
from holdfast.journal.url import JournalUrl, open_store
from holdfast.runtime.inspection import Inspection

if (TESTS := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(TESTS)

from postgres_server import server

NOON = 1_700_000_000_000_000
"""µs since 1970: the first event of a journal here; each further one comes a second later."""

SECOND = 1_000_000


@event("hf_look.opened")
class Opened:
    owner: str


@event("hf_look.paid")
class Paid:
    amount: int


@event("hf_look.tagged")
class Tagged:
    tag: str


@dataclass
class Line:
    amount: int


class Purse(Aggregate):
    owner: str = ""
    total: int = 0
    lines: list[Line] = []
    tags: set[str] = set()

    @command
    def pay(self, amount: int) -> int:
        self.emit(Paid(amount))
        return self.total

    @command
    def open(self, owner: str) -> None:
        self.emit(Opened(owner))

    @command
    def tag(self, tag: str) -> None:
        self.emit(Tagged(tag))

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.owner = event.owner

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self.total += event.amount
        self.lines = [*self.lines, Line(event.amount)]

    @on(Tagged)
    def _tagged(self, event: Tagged) -> None:
        self.tags = self.tags | {event.tag}


def new(type, number, **fields):
    """An event of the command `c<number>`, so many seconds after noon."""
    return NewEvent(
        type=type,
        payload=encode_plain(fields),
        command_id=f"c{number}",
        recorded_at=NOON + number * SECOND,
        reply=b"\x01",
    )


def paid(number, amount=1):
    return new("hf_look.paid", number, amount=amount)


class Written:
    """A journal that is open for writing in this process, of any kind and number of partitions."""

    def __init__(self, stores):
        self.stores, self.epochs, self.versions, self.number = stores, [], {}, 0

    async def start(self):
        for store in self.stores:
            await store.open()
            self.epochs.append(await store.claim("host", "first"))
        return self

    async def close(self):
        for store in reversed(self.stores):
            await store.close()

    async def write(self, stream, *events):
        number = partition_of(stream, len(self.stores))
        at = self.versions.get(stream, 0)
        append = Append(stream=stream, owner="host", epoch=self.epochs[number], expected_version=at, events=events)
        (answer,) = await self.stores[number].append([append])
        self.versions[stream] = answer.version
        return answer

    async def pay(self, id, *amounts, category="Purse"):
        """One event for each amount, each by a command of its own."""
        for amount in amounts:
            self.number += 1
            await self.write(StreamId(category, id), paid(self.number, amount))

    async def snapshot(self, id, version):
        """Of a purse into which `version` times something was paid, as its class would take it; a wrong total of 1000
        more tells whether it was used."""
        stream = StreamId("Purse", id)
        definition = definition_of(Purse)
        instance = definition.new(id)
        definition.restore(instance, definition.encode_state(instance), version)
        vars(instance)["total"] = 1000
        await self.stores[partition_of(stream, len(self.stores))].save_snapshots(
            [take(definition, stream, instance, version)]
        )

    async def checkpoint(self, name, positions):
        for store, epoch, position in zip(self.stores, self.epochs, positions, strict=True):
            await store.save_checkpoint(Checkpoint(name=name, owner="host", epoch=epoch, position=position))


def url_of(kind, folder):
    """A journal of this kind that does not exist yet."""
    if kind.startswith("postgres"):
        return server().url(partitions=kind.removeprefix("postgres") or 1)
    return f"sqlite:///{folder}/purses.db?partitions={kind.removeprefix('sqlite') or 1}"


@asynccontextmanager
async def journal(kind, folder, classes=()):
    """A journal that is written here, and a look at it."""
    if kind == "memory3":
        written = await Written([MemoryStore() for _ in range(3)]).start()
        yield written, Inspection.over(written.stores, classes)
        return
    url = url_of(kind, folder)
    written = await Written([open_store(url, each) for each in range(JournalUrl.parse(url).partitions)]).start()
    try:
        async with await Inspection.open(url, classes) as look:
            yield written, look
    finally:
        await written.close()


def make(path, *what, partitions=1):
    """A journal file of these (id, amounts …), closed again; its URL."""

    async def made():
        url = f"sqlite:///{path}?partitions={partitions}"
        written = await Written([open_store(url, each) for each in range(partitions)]).start()
        for id, *amounts in what:
            await written.pay(id, *amounts)
        await written.close()

    asyncio.run(made())
    return f"sqlite:///{path}"
