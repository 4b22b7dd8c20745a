"""What the tests of archives share: journals of every kind, with something of everything in them."""

import io
import random
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import msgspec
import postgres_server
from hypothesis import strategies as st

from holdfast.journal.archive import ArchivedFact, Header
from holdfast.journal.archive_export import export, open_archive_sources
from holdfast.journal.archive_frames import Chain, Meta, array_of, frame_of
from holdfast.journal.archive_import import import_archive, opened_stores
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.archive_source import MemoryArchiveSource
from holdfast.journal.codec import encode_plain
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partition import Membership, Partition, partition_of
from holdfast.journal.records import Append, Appended, Checkpoint, KeyedReply, NewEvent, Snapshot, StreamId

KINDS = ["memory", "sqlite", "postgres"]


class Place:
    """Where a journal is, or may be: opened for writing, or read beside whoever writes."""

    def __init__(self, kind, folder, partitions=1):
        self.partitions = partitions
        self.memory = [MemoryStore() for _ in range(partitions)] if kind == "memory" else None
        options = {"partitions": partitions} if partitions > 1 else {}
        if kind == "sqlite":
            self.url = f"sqlite:///{folder}/bank.db?lock_wait_s=0" + "".join(f"&{k}={v}" for k, v in options.items())
        elif kind == "postgres":
            self.url = postgres_server.server().url(**options)

    @asynccontextmanager
    async def stores(self):
        if self.memory:
            yield self.memory
            return
        async with opened_stores(self.url) as stores:
            yield stores

    @asynccontextmanager
    async def sources(self):
        if self.memory:
            count = self.partitions
            yield [
                MemoryArchiveSource(store, Membership(Partition(number, count)))
                for number, store in enumerate(self.memory)
            ]
            return
        sources = await open_archive_sources(self.url)
        try:
            yield sources
        finally:
            for source in sources:
                await source.close()

    async def export(self, **how):
        """The archive, and what is in it."""
        out = io.BytesIO()
        async with self.sources() as sources:
            contents = await export(sources, out, **how)
        return out.getvalue(), contents

    async def take(self, archive, **how):
        """Import it, and say what came of it."""
        async with self.stores() as stores:
            return await import_archive(ArchiveReader(io.BytesIO(archive)), stores, **how)


@asynccontextmanager
async def place(kind, partitions=1):
    """A new, empty one."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        yield Place(kind, Path(folder), partitions)


# Journals. A step: which stream, how many events, whether by key, when a reminder is due, whether a snapshot follows.

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
names = st.tuples(st.sampled_from(["A", "Bank", "Zoë"]), st.one_of(st.sampled_from(["1", "2", "a/b"]), text))
steps = st.tuples(
    names,
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([None, None, 5, 10**12]),
    st.booleans(),
    st.binary(max_size=40),
)
journals = st.lists(steps, max_size=12)


async def write(stores, steps, *, owner="host", incarnation="first"):
    """The events of these steps, in their order."""
    count = len(stores)
    epoch = await stores[0].claim(owner, incarnation)
    for other in stores[1:]:
        await other.claim(owner, incarnation, epoch)
    heads, keys = {}, 0
    for number, (name, events, keyed, due, snapshot, payload) in enumerate(steps):
        stream = StreamId(*name)
        store, at = stores[partition_of(stream, count)], heads.get(stream, 0)
        built = tuple(_event(number, n, events, keyed, due, payload) for n in range(events))
        replies = ()
        if keyed:
            keys += 1
            replies = (KeyedReply(key=f"key {keys}", fingerprint=payload, version=at + events, reply=b"\xa2ok"),)
        (result,) = await store.append(
            [Append(stream=stream, owner=owner, epoch=epoch, expected_version=at, events=built, keys=replies)]
        )
        assert isinstance(result, Appended), result
        heads[stream] = at + events
        if snapshot and heads[stream]:
            saved = Snapshot(stream=stream, version=heads[stream], schema="s1", payload=payload)
            await store.save_snapshots([saved])
    for number, store in enumerate(stores):
        position = await store.head() // 2
        await store.save_checkpoint(Checkpoint(name=f"mail-{number}", owner=owner, epoch=epoch, position=position))
    return heads


def _event(number, n, events, keyed, due, payload):
    last = n == events - 1
    reminder = last and due is not None
    return NewEvent(
        type="holdfast.reminder.set" if reminder else f"bank.thing@{n + 1}",
        payload=encode_plain({"name": "renew", "due": due} if reminder else {"of": payload}),
        command_id=f"command {number}",
        recorded_at=1_700_000_000_000_000 + number,
        metadata=payload[:3],
        reply=b"\x07" if last and not keyed else None,
    )


def story(seed, length=120, streams=12):
    """A fixed journal of some length."""
    rnd = random.Random(seed)
    return [
        (
            ("Account" if rnd.random() < 0.6 else "Loan", f"s{rnd.randrange(streams)}"),
            rnd.randint(0, 4),
            rnd.random() < 0.3,
            rnd.choice([None, None, None, 10**9 + rnd.randrange(10**6)]),
            rnd.random() < 0.3,
            rnd.randbytes(rnd.randrange(60)),
        )
        for _ in range(length)
    ]


async def everything(stores):
    """Of each stream all that a store will say, in plain order: what two equal journals have in common."""
    found = {}
    for store in stores:
        for stream, version in await store.list_streams(limit=10**6):
            events = await store.read_stream(stream, limit=10**6)
            keys = await store.find_keyed(stream, [f"key {n}" for n in range(1, 200)])
            pending = await store.due_reminders(category=stream.category, until=10**15, limit=10**6)
            due = [reminder for reminder in pending if reminder.stream == stream]
            plain = [(e.version, e.type, e.payload, e.command_id, e.recorded_at, e.metadata, e.reply) for e in events]
            found[stream] = version, plain, keys, due
    return found


# Archives as somebody could make them up


def frames_of(archive):
    """Its frames, as they stand, with where each begins."""
    unpacker, frames = msgpack.Unpacker(io.BytesIO(archive), raw=False, max_buffer_size=1 << 30), []
    at = 0
    for frame in unpacker:
        frames.append((at, frame))
        at = unpacker.tell()
    return frames


def chained(parts):
    """An archive of these metas and data, with the digests that they need: what somebody could make up."""
    chain, archive = Chain(), b""
    for number, (section, data, *count) in enumerate(parts):
        records = count[0] if count else len(msgpack.unpackb(data))
        meta = Meta(section, number, records, count[1] if len(count) > 1 else len(data)).packed()
        archive += frame_of(meta, data, chain.add(meta, data))
    return archive


def header(**fields):
    return "holdfast-archive", array_of([msgspec.msgpack.encode(Header(**{"format": 1, "upto": (3,), **fields}))])


def event(position, version, *, id="1", category="A", payload=b"\x80"):
    fact = ArchivedFact(
        category=category,
        id=id,
        version=version,
        type="t",
        command_id="c",
        recorded_at=0,
        payload=payload,
        metadata=b"",
        reply=None,
    )
    return b"\x92" + msgspec.msgpack.encode(position) + msgspec.msgpack.encode(fact)
