"""What the tests of publishing share: events, a journal with a publisher at it, a sink that fails as told, and a clock
that nobody waits for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from holdfast.journal.client import JournalClient
from holdfast.journal.codec import encode_plain
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, NewEvent, Recorded, StreamId
from holdfast.journal.server import JournalServer
from holdfast.runtime import CloudEvent, EventRefused, Publisher, SinkUnavailable
from holdfast.runtime.cloud_events import cloud_event
from holdfast.runtime.follower import Desk, Progress
from holdfast.runtime.publisher import PublisherFollower
from holdfast.runtime.sink import by_stream

OWNER = "follower:publisher/test"


def recorded(version: int = 1, id: str = "alice", *, type: str = "account.deposited", **how: Any) -> Recorded:
    """An event of `Account/<id>`, as a journal holds it."""
    fields = {
        "payload": msgspec.msgpack.encode({"amount": version}),
        "command_id": f"command-{id}-{version}",
        "recorded_at": 1_700_000_000_123_456,
        "position": version,
        "stream": StreamId("Account", id),
    }
    return Recorded(**{**fields, "version": version, "type": type, **how})


def envelope(version: int = 1, id: str = "alice", **how: Any) -> CloudEvent:
    """The same in its envelope."""
    return cloud_event(recorded(version, id, **how), "/holdfast/test")


def envelopes(*ids: str, count: int) -> list[CloudEvent]:
    """So many events of each stream, one stream in turn with the others."""
    return [envelope(version, id) for version in range(1, count + 1) for id in ids]


def place(event: CloudEvent) -> tuple[str, int]:
    """Its stream's id, and its version."""
    return event.stream.partition("/")[2], int(event.attributes["sequence"])


def first_copies(places: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    """The versions of each stream in the order in which each was there for the first time."""
    streams: dict[str, list[int]] = {}
    for id, version in dict.fromkeys(places):
        streams.setdefault(id, []).append(version)
    return streams


def assert_all_in_order(places: Sequence[tuple[str, int]], ids: Sequence[str], count: int) -> None:
    """Nothing is missing, and of no stream was a later event there before an earlier one."""
    assert first_copies(places) == {id: list(range(1, count + 1)) for id in ids}


class Collecting:
    """A sink that keeps what it confirms. `troubles`: what goes wrong with the next batches, one each: an exception,
    or a function that takes the batch and the sink and may raise. Copies share what they have got."""

    def __init__(self, *troubles: Any) -> None:
        self.troubles, self.got, self.opened, self.closed = list(troubles), list[CloudEvent](), [0], [0]
        self.batches: list[int] = []

    async def open(self) -> None:
        self.opened[0] += 1

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        self.batches.append(len(batch))
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            await trouble(self, batch)
        self.got.extend(batch)

    async def close(self) -> None:
        self.closed[0] += 1

    @property
    def places(self) -> list[tuple[str, int]]:
        return [place(event) for event in self.got]


def away(after_s: float = 0.0) -> SinkUnavailable:
    """The broker cannot be reached."""
    return SinkUnavailable("broker", "no connection", after_s=after_s)


def refuses(id: str, version: int, *, error: type[Exception] = EventRefused) -> Callable[..., Any]:
    """One event is refused, or fails; the other streams get through, and what is before it in its own."""

    async def trouble(sink: Collecting, batch: Sequence[CloudEvent]) -> None:
        done: list[CloudEvent] = []
        for lane in by_stream(batch):
            places = [place(event) for event in lane]
            end = places.index((id, version)) if (id, version) in places else len(lane)
            done += lane[:end]
        if len(done) < len(batch):
            sink.got.extend(done)
            bad = next(event for event in batch if place(event) == (id, version))
            raise error("broker", "no", bad.id, tuple(event.id for event in done))

    return trouble


class Pauses:
    """Instead of waiting."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


class Killed(BaseException):
    """Ends a life in the middle of anything, as a signal would: nothing in it handles this."""


class Link:
    """To a server in this process. `dies_at`: a request that is never sent, since its sender is killed before."""

    def __init__(self, server: JournalServer) -> None:
        self.server, self.asked, self.dies_at = server, list[str](), ""

    async def ask(self, method: str, *args: Any) -> Any:
        self.asked.append(method)
        if method == self.dies_at:
            self.dies_at = ""
            raise Killed
        return await getattr(self.server, method)(*args)


class Bench:
    """A journal in memory, and lives of a publisher that follow it."""

    def __init__(self, server: JournalServer) -> None:
        self.link = Link(server)
        self.journal = JournalClient(self.link)
        self.pauses = Pauses()
        self._versions: dict[StreamId, int] = {}
        self._lives = 0

    async def append(self, id: str, count: int = 1, *, category: str = "Account", **how: Any) -> int:
        """So many events more in a stream. Returns the journal's position."""
        stream = StreamId(category, id)
        version = self._versions.get(stream, 0)
        fields: dict[str, Any] = {"type": "account.deposited", "recorded_at": 1_700_000_000_000_000, **how}
        events = tuple(
            NewEvent(**{"payload": encode_plain({"amount": n}), "command_id": f"c-{category}-{id}-{n}", **fields})
            for n in range(version + 1, version + count + 1)
        )
        append = Append(stream=stream, owner="host", epoch=1, expected_version=version, events=events)
        self._versions[stream] = version + count
        return (await self.journal.append(append)).position

    async def desk(self, page: int = 1000) -> Desk:
        """A new life's, by a claim of its own."""
        self._lives += 1
        epoch = await self.journal.claim(OWNER, f"life {self._lives}")
        gate: Any = SimpleNamespace(namespace="test")
        parts = self.journal.parts
        return Desk(owner=OWNER, epoch=epoch, parts=parts, gate=gate, progress=Progress(len(parts)), page=page)

    def follower(self, sink: Any, **how: Any) -> PublisherFollower:
        return PublisherFollower(Publisher("test", sink, **how), pause=self.pauses, jitter=lambda: 0.0)

    async def live(self, sink: Any, until: int, *, page: int = 1000, desk: Desk | None = None, **how: Any) -> Desk:
        """One life, until it is done with everything up to a position, or what it raises."""
        follower, desk = self.follower(sink, **how), desk or await self.desk(page)
        running = asyncio.create_task(follower.run(desk))
        reached = asyncio.create_task(self._reach(desk, until))
        await asyncio.wait({running, reached}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        over = running.done()
        for task in (running, reached):
            task.cancel()
        await asyncio.wait({running, reached})
        await follower.close()
        if over:
            running.result()
        assert desk.progress.positions[0] >= until, "it has not got there"
        return desk

    async def checkpoint(self, name: str = OWNER) -> int:
        return await self.journal.find_checkpoint(name)

    @staticmethod
    async def _reach(desk: Desk, until: int) -> None:
        while not await desk.progress.wait(type(desk.progress.positions)((until,)), 30):
            pass


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    server = JournalServer(MemoryStore())
    await server.start()
    try:
        made = Bench(server)
        await made.journal.claim("host", "first")
        yield made
    finally:
        await server.stop()
