"""Servers that are killed, sessions that are ended, answers that get lost: nothing acknowledged is lost or doubled."""

import asyncio
import contextlib
import random
from collections import Counter

import msgspec
import postgres_server
import pytest
from reminder_fold import folded, indexed

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalUnavailable
from holdfast.journal.records import Append, Appended, NewEvent, StreamId
from holdfast.journal.reminders import SET
from holdfast.journal.server import JournalServer
from holdfast.journal.url import open_store

KILLS = 6
STREAMS = 12


@pytest.fixture(scope="module")
def mortal():
    """A server of its own: no other test has files there, so it recovers in a moment."""
    server = postgres_server.Server()
    try:
        yield server
    finally:
        server.end()


class Direct:
    """A link to a journal server in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


class Workload:
    """Writes many streams at once through a `JournalClient`, and remembers what was acknowledged."""

    def __init__(self, client, epoch):
        self.client, self.epoch = client, epoch
        self.acknowledged = {}  # command id: stream and version
        self.more = asyncio.Event()
        self.over = False

    async def write(self, number, chance):
        stream, version = StreamId("Account", f"a{number}"), 0
        while not self.over:
            ids = [f"{number}.{version + n}" for n in range(1, chance.randint(1, 3) + 1)]
            reminder = {"name": "renew", "due": chance.choice((None, version)), "more": b"x" * 200}
            payload = msgspec.msgpack.encode(reminder)
            events = tuple(NewEvent(type=SET, payload=payload, command_id=id, recorded_at=0) for id in ids)
            append = Append(stream=stream, owner="host", epoch=self.epoch, expected_version=version, events=events)
            appended = await self.client.append(append)
            assert appended.version == version + len(ids), "what was sent again was written again"
            for n, id in enumerate(ids, 1):
                self.acknowledged[id] = stream, version + n
            version = appended.version
            self.more.set()

    async def reach(self, count):
        """Wait until so many events are acknowledged."""
        while len(self.acknowledged) < count:
            self.more.clear()
            await self.more.wait()


async def recorded(store):
    events, after = [], 0
    while page := await store.read_all(after=after):
        events += page
        after = page[-1].position
    return events


def judge(events, acknowledged):
    """Positions without gaps, versions without gaps, each command once, and what was acknowledged in its place."""
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    heads = Counter()
    for event in events:
        heads[event.stream] += 1
        assert event.version == heads[event.stream], event
    assert max(Counter(event.command_id for event in events).values()) == 1
    places = {event.command_id: (event.stream, event.version) for event in events}
    lost = {id: place for id, place in acknowledged.items() if places.get(id) != place}
    assert not lost, lost


async def restarted(server):
    """Start it, and let the others ask in vain until it answers."""
    server.launch()
    await asyncio.to_thread(server.wait_until_ready)


@contextlib.asynccontextmanager
async def working(store, seed):
    """A workload on a journal server over this store. It ends with what it has under way."""
    print(f"seed {seed}")
    server = JournalServer(store)
    await server.start()
    client = JournalClient(Direct(server), patience_s=120, pause=lambda s: asyncio.sleep(min(s, 0.05)))
    try:
        work = Workload(client, await client.claim("host", "first"))
        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                group.create_task(work.write(number, random.Random(seed + number)))
            try:
                yield work
            finally:
                work.over = True
        events = await recorded(store)
        judge(events, work.acknowledged)
        assert await indexed(store) == folded(events), "the index of reminders parted from the events"
    finally:
        await server.stop()


async def test_kill_9_of_the_server_loses_and_doubles_nothing(mortal):
    """All processes of PostgreSQL die in the middle of commits, again and again; the same store goes on each time."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    async with working(mortal.store(), seed) as work:
        for _ in range(KILLS):
            await work.reach(len(work.acknowledged) + chance.randint(1, 300))
            await asyncio.to_thread(mortal.kill)
            await restarted(mortal)
        await work.reach(len(work.acknowledged) + 100)


async def test_sessions_that_are_ended_lose_and_double_nothing(mortal):
    """An administrator ends the writer's session, or a reader's, in the middle of its work."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    journal = postgres_server.Journal(mortal)
    async with working(journal.store(), seed) as work:
        for _ in range(15):
            await work.reach(len(work.acknowledged) + chance.randint(1, 200))
            with contextlib.suppress(AssertionError):  # it may be between two sessions at this moment
                await journal.end_session("writer")
        await work.reach(len(work.acknowledged) + 100)


class Proxy:
    """A way to the server that breaks on demand: `lose` the next request, or the answer to it, and the way itself.

    After a `silence` the next answer is swallowed, and the server is not told when its client has gone.
    """

    def __init__(self, port):
        self._to = port
        self._lose = ""
        self._ways, self._kept = set(), []

    @contextlib.asynccontextmanager
    async def running(self):
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
            for way in self._ways:
                way.cancel()
            for there in self._kept:
                there.transport.abort()
            await asyncio.gather(*self._ways, return_exceptions=True)

    def lose(self, what):
        self._lose = what

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        ways = {
            asyncio.create_task(self._carry(reader, back, "request")),
            asyncio.create_task(self._carry(there, writer, "answer", back)),
        }
        self._ways |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        writer.transport.abort()
        if back not in self._kept:
            back.transport.abort()

    async def _carry(self, source, target, what, kept=None):
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if self._lose == what:
                    self._lose = ""
                    return
                if self._lose == "silence" and kept is not None:
                    self._lose = ""
                    self._kept.append(kept)
                    await asyncio.Event().wait()
                target.write(data)
                await target.drain()


@pytest.mark.parametrize(("lost", "is_there"), [("answer", True), ("request", False)])
async def test_an_append_without_an_answer_is_unknown_and_settled_by_asking(mortal, lost, is_there):
    """The commit was sent, or it was not: the caller cannot tell. Sent again it is there once, as it was answered."""
    journal = postgres_server.Journal(mortal)
    async with Proxy(mortal.port).running() as proxy:
        store = open_store(mortal.url(journal.schema, port=proxy.port, sslmode="disable"))
        await store.open()
        await store.claim("host", "first")
        assert await store.append([journal.append("alice", "a1")]) == [Appended(version=1, position=1)]
        append = journal.append("alice", "a2", "a3", at=1)
        proxy.lose(lost)
        with pytest.raises(JournalUnavailable):
            await store.append([append])
        async with journal.raw() as raw:
            if is_there:  # the answer came after the commit
                assert await raw.fetchval("SELECT max(position) FROM events") == 3
        assert await store.append([append]) == [Appended(version=3, position=3)]
        assert await store.append([journal.append("alice", "a4", at=3)]) == [Appended(version=4, position=4)]
        assert [event.command_id for event in await recorded(store)] == ["a1", "a2", "a3", "a4"]
        await store.close()


async def test_a_silent_server_is_given_up_and_its_old_session_does_not_keep_us_out(mortal):
    """Nobody closed the connection: the server would keep our lock for a session that nobody uses any more."""
    journal = postgres_server.Journal(mortal)
    async with Proxy(mortal.port).running() as proxy:
        store = open_store(mortal.url(journal.schema, port=proxy.port, sslmode="disable"))
        await store.open()
        await store.claim("host", "first")
        store._writer()._turns._taken.session._answer_wait_s = 0.05
        proxy.lose("silence")
        append = journal.append("alice", "a1")
        with pytest.raises(JournalUnavailable, match=r"no answer within 0.05 s"):
            await store.append([append])
        assert await store.append([append]) == [Appended(version=1, position=1)]
        assert [event.command_id for event in await recorded(store)] == ["a1"]
        await store.close()


async def test_a_claim_without_an_answer_is_not_made_twice(mortal):
    """The same incarnation gets the same epoch."""
    journal = postgres_server.Journal(mortal)
    async with Proxy(mortal.port).running() as proxy:
        store = open_store(mortal.url(journal.schema, port=proxy.port, sslmode="disable"))
        await store.open()
        proxy.lose("answer")
        with pytest.raises(JournalUnavailable):
            await store.claim("host", "first")
        assert await store.claim("host", "first") == 1
        assert await store.claim("host", "second") == 2
        await store.close()


async def test_a_server_that_stops_in_order_and_starts_again_is_taken_again(mortal):
    """Requests meanwhile are unanswered, and nothing is lost."""
    journal = postgres_server.Journal(mortal)
    async with journal.opened() as store:
        await store.append([journal.append("alice", "a1")])
        await asyncio.to_thread(mortal.stop)
        for call in (store.append([journal.append("alice", "a2", at=1)]), store.head()):
            with pytest.raises(JournalUnavailable):
                await call
        await restarted(mortal)
        assert await store.append([journal.append("alice", "a2", at=1)]) == [Appended(version=2, position=2)]
        assert await store.head() == 2
