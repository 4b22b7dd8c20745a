"""Exports and backups beside writers at full speed: one cut, one moment, constant memory, and nobody waits."""

import asyncio
import io
import random
from pathlib import Path

import pytest
from archive_stories import place, story, write

from holdfast.journal.archive_export import contents_of, export, open_archive_sources
from holdfast.journal.archive_import import import_archive
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.backup import backup
from holdfast.journal.codec import encode_plain
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Append, Appended, KeyedReply, NewEvent, StreamId
from holdfast.journal.verify import open_sources, verify


class Writer:
    """Appends as fast as it can until it is told to stop. Each append is two events, one of them by key."""

    def __init__(self, stores, seed):
        self.stores, self.rnd = stores, random.Random(seed)
        self.heads, self.written, self.going = {}, 0, True

    async def run(self):
        epoch = await self.stores[0].claim("busy", "x")
        for other in self.stores[1:]:
            await other.claim("busy", "x", epoch)
        while self.going:
            names = {f"s{self.rnd.randrange(300)}" for _ in range(20)}
            await asyncio.gather(*(self._batch(store, epoch, names) for store in self.stores))

    async def _batch(self, store, epoch, names):
        streams = [StreamId("Busy", name) for name in sorted(names)]
        batch = [
            self._append(stream, epoch)
            for stream in streams
            if self.stores[partition_of(stream, len(self.stores))] is store
        ]
        for append, result in zip(batch, await store.append(batch), strict=True):
            assert isinstance(result, Appended), result
            self.heads[append.stream] = result.version
            self.written += 2

    def _append(self, stream, epoch):
        at = self.heads.get(stream, 0)
        payload = encode_plain({"amount": self.rnd.random()})
        events = tuple(NewEvent(type="t", payload=payload, command_id=f"{at}-{n}", recorded_at=at) for n in range(2))
        keys = (KeyedReply(key=f"key {at}", fingerprint=b"f", version=at + 2, reply=b"\x01"),)
        return Append(stream=stream, owner="busy", epoch=epoch, expected_version=at, events=events, keys=keys)

    async def until(self, count):
        """Return when it has written so many events more."""
        goal = self.written + count
        while self.written < goal:
            await asyncio.sleep(0)


class SlowSink(io.BytesIO):
    """Takes a block, and lets the writer write before it takes the next one."""

    def __init__(self, writer, loop):
        super().__init__()
        self.writer, self.loop, self.blocks = writer, loop, 0

    def write(self, data):
        self.blocks += 1
        if self.writer.going:
            asyncio.run_coroutine_threadsafe(self.writer.until(100), self.loop).result()
        return super().write(data)


@pytest.mark.parametrize(("kind", "partitions"), [("sqlite", 1), ("sqlite", 3), ("postgres", 1), ("postgres", 2)])
async def test_an_export_beside_a_writer_at_full_speed_is_the_journal_at_its_cut(kind, partitions, monkeypatch):
    """The writer goes on at each block; the archive is the first positions of each partition, with the keys of exactly
    those events, and an import of it is a sound journal."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    monkeypatch.setattr("holdfast.journal.archive_writer.BLOCK_RECORDS", 200)
    async with place(kind, partitions) as here, place("sqlite", partitions) as there:
        async with here.stores() as stores:
            writer = Writer(stores, seed)
            writing = asyncio.create_task(writer.run())
            await writer.until(2000)
            async with here.sources() as sources:
                sink = SlowSink(writer, asyncio.get_running_loop())
                before = writer.written
                await export(sources, sink)
                assert writer.written > before + 100 * 10, "it wrote all the while"
            writer.going = False
            await writing
        reader = ArchiveReader(io.BytesIO(sink.getvalue()))
        upto = reader.open().upto
        blocks = list(reader.blocks())
        positions = [[e.position for b in blocks for e in b.events if e.partition == p] for p in range(partitions)]
        assert positions == [list(range(1, head + 1)) for head in upto]
        heads = {e.stream: e.fact.version for block in blocks for e in block.events}
        keys = {}
        for block in blocks:
            for key in block.keys:
                keys.setdefault(key.stream, []).append(key.version)
        assert {stream: sorted(found) for stream, found in keys.items()} == {
            stream: list(range(2, head + 1, 2)) for stream, head in heads.items()
        }
        await there.take(sink.getvalue())
        report = await verify(await open_sources(there.url))
        assert report.good, report.problems


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_backup_beside_a_writer_at_full_speed_opens_as_a_journal_of_one_moment(partitions, tmp_path):
    """Whole by its own verification; each partition is the first positions of the journal; and the writer never
    waited for it: it wrote between any two steps of the copy."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    loop = asyncio.get_running_loop()
    async with place("sqlite", partitions) as here:
        async with here.stores() as stores:
            writer = Writer(stores, seed)
            writing = asyncio.create_task(writer.run())
            await writer.until(4000)
            steps = []

            def progress(step, done, total):
                before = writer.written
                asyncio.run_coroutine_threadsafe(writer.until(100), loop).result()
                steps.append(writer.written - before)

            made = await backup(here.url, tmp_path / "copy.db", progress=progress)
            writer.going = False
            await writing
        assert len(steps) >= partitions
        assert min(steps) >= 100
        assert [file.partition for file in made.files] == list(range(partitions))
        report = await verify(await open_sources(f"sqlite:///{tmp_path}/copy.db"))
        assert report.good, report.problems
        assert sum(file.position for file in made.files) < writer.written
        copies = await open_archive_sources(f"sqlite:///{tmp_path}/copy.db")
        copied = [part.digest for part in (await contents_of(copies)).partitions]
        for copy in copies:
            await copy.close()
        async with here.sources() as sources:
            for source, file in zip(sources, made.files, strict=True):  # what it was then is what it begins with now
                source.head = head_at(file.position)
            assert [part.digest for part in (await contents_of(sources)).partitions] == copied


def head_at(position):
    async def head():
        return position

    return head


async def test_a_writer_that_comes_to_a_closed_journal_does_not_spoil_the_export(monkeypatch):
    """The file was taken for one that nobody writes; each page that was read from it is looked at again."""
    monkeypatch.setattr("holdfast.journal.archive_sqlite.PAGE", 50)
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(21, length=300))
        archive, contents = await here.export()
        out = io.BytesIO()
        async with here.sources() as sources:
            (source,) = sources
            assert source._file._before is not None, "nobody has it open"
            pages = source.events(0, await source.head(), ())
            first = await anext(pages)
            async with here.stores() as stores:
                writer = Writer(stores, 1)
                writing = asyncio.create_task(writer.run())
                await writer.until(5000)
                writer.going = False
                await writing
                rest = [event async for page in pages for event in page]
                assert len(first) + len(rest) == contents.events
                assert source._file._before is None, "it is read through the log now"
        async with here.sources() as sources:
            sources[0].head = head_at(contents.events)
            await export(sources, out)
        assert out.getvalue() == archive


async def test_an_export_of_a_journal_that_nobody_has_open_leaves_nothing_beside_it(tmp_path):
    """Nor does a digest, or a backup."""
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(22, length=50))
        folder = names_beside(here.url)
        await here.export()
        await backup(here.url, tmp_path / "copy.db")
        assert names_beside(here.url) == folder
        assert {path.name for path in tmp_path.iterdir()} == {"copy.db"}


def names_beside(url):
    return {path.name for path in Path(url.removeprefix("sqlite:///").partition("?")[0]).parent.iterdir()}


async def test_memory_stays_the_same_however_long_the_journal_is(tmp_path):
    """200,000 events through an export and an import: no more than a few blocks are held at any time."""
    async with place("sqlite") as here, place("sqlite") as there:
        for each in (here, there):
            each.url += "&cache_mib=1"
        async with here.stores() as (store,):
            epoch = await store.claim("host", "x")
            for at in range(0, 1000, 10):
                await store.append([ten_events(number, epoch, at) for number in range(200)])
        archive, held = tmp_path / "many.hfa", [anonymous_bytes()]

        def progress(step, done, total):
            held.append(anonymous_bytes())

        with archive.open("wb") as file:
            async with here.sources() as sources:
                contents = await export(sources, file, progress=progress)
        with archive.open("rb") as file:
            async with there.stores() as stores:
                imported = await import_archive(ArchiveReader(file), stores, progress=progress)
        assert imported.contents == contents
        assert contents.events == 200_000
        assert len(held) > 100
        print("grew by", (max(held) - held[0]) >> 20, "MiB; the archive has", archive.stat().st_size >> 20)
        assert max(held) - held[0] < 64 << 20


def anonymous_bytes():
    """Memory of this process that is not a file's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def ten_events(number, epoch, at):
    events = tuple(
        NewEvent(type="t", payload=bytes(60), command_id=f"{number}-{at + n}", recorded_at=at) for n in range(10)
    )
    stream = StreamId("Many", str(number))
    return Append(stream=stream, owner="host", epoch=epoch, expected_version=at, events=events)
