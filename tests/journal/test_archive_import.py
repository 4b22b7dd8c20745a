"""Imports: they go on where they were interrupted, and never write over another history."""

import asyncio
import io
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archive_stories import KINDS, chained, event, everything, header, place, story, write

from holdfast.journal import archive_writer
from holdfast.journal.archive_errors import ArchiveDamaged, ArchiveMismatch, ArchiveTorn, ForeignHistory
from holdfast.journal.archive_export import export
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.archive_resume import begun_in, check_begun
from holdfast.journal.archive_target import OWNER
from holdfast.journal.errors import Fenced, JournalLocked, RecordTooLarge, Unstorable
from holdfast.journal.records import Append, Checkpoint, NewEvent, StreamId

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few records, so that a short archive has many."""
    monkeypatch.setattr(archive_writer, "BLOCK_RECORDS", 7)


@each_kind
async def test_an_import_goes_on_after_any_block(kind, small_blocks):
    """Cut off after each block in turn, then whole: every event is there once, and none is written again."""
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(11, length=50))
            held = await everything(stores)
        archive, contents = await here.export(snapshots=True)
    ends = [block.end for block in blocks_of(archive)]
    assert len(ends) > 15
    seed = random.randrange(1 << 32)
    print("seed", seed)
    cuts = ends if kind == "memory" else sorted(random.Random(seed).sample(ends, 5))
    async with place(kind) as there:
        for cut in cuts:
            with pytest.raises(ArchiveTorn):
                await there.take(archive[:cut])
            with pytest.raises(ArchiveTorn):
                await there.take(archive[: cut + 5])
        imported = await there.take(archive)
        assert imported.events_written + imported.events_found == contents.events
        assert imported.positions_kept
        assert (await there.take(archive)).events_written == 0
        async with there.stores() as stores:
            assert await everything(stores) == held
        assert await there.export(snapshots=True) == (archive, contents)


def blocks_of(archive):
    reader = ArchiveReader(io.BytesIO(archive))
    reader.open()
    return list(reader.blocks())


@each_kind
async def test_an_import_into_a_journal_that_has_gone_on_finds_all_of_it_there(kind):
    """Commands that ran since are no other history."""
    async with place("memory") as here, place(kind) as there:
        async with here.stores() as stores:
            await write(stores, story(12))
        archive, contents = await here.export()
        await there.take(archive)
        async with there.stores() as stores:
            epoch = await stores[0].claim("host", "later")
            await append(stores[0], epoch, "Account", "s1", stores)
        imported = await there.take(archive)
        assert (imported.events_written, imported.events_found) == (0, contents.events)


async def append(store, epoch, category, id, stores, **fields):
    stream = StreamId(category, id)
    found = await store.read_stream(stream, limit=1, backward=True)
    new = NewEvent(**{"type": "t", "payload": b"\x80", "command_id": "another", "recorded_at": 5, **fields})
    at = found[0].version if found else 0
    await store.append([Append(stream=stream, owner="host", epoch=epoch, expected_version=at, events=(new,))])


CHANGES = {
    "payload": b"\xc0",
    "type": "another",
    "command_id": "another",
    "recorded_at": 4,
    "metadata": b"\x80",
    "reply": b"\x05",
}


@each_kind
@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("before", [0, 1], ids=["first", "beside another stream"])
async def test_another_history_is_refused_with_the_first_version_that_differs(kind, field, before):
    """Whatever of an event differs, and wherever it stands; and nothing of the block is written."""
    archive = chained([header(), ("events", b"\x93" + event(1, 1) + event(2, 2) + event(3, 1, id="2"))])
    same = {"type": "t", "payload": b"\x80", "command_id": "c", "recorded_at": 0, "metadata": b"", "reply": None}
    async with place(kind) as there:
        async with there.stores() as stores:
            epoch = await stores[0].claim("host", "x")
            for _ in range(before):
                await append(stores[0], epoch, "Z", "1", stores)
            await append(stores[0], epoch, "A", "1", stores, **same)
            await append(stores[0], epoch, "A", "1", stores, **{**same, field: CHANGES[field]})
            held = await everything(stores)
        with pytest.raises(ForeignHistory) as refused:
            await there.take(archive)
        assert (refused.value.stream, refused.value.version) == ("A/1", 2)
        async with there.stores() as stores:
            assert await everything(stores) == held


@each_kind
async def test_another_reply_under_a_key_is_refused(kind):
    """A key says what a command answered: two answers cannot both be true."""
    steps = [(("A", "1"), 1, True, None, False, b"\x01")]
    other = [(("A", "1"), 1, True, None, False, b"\x02")]
    async with place("memory") as here, place(kind) as there:
        async with here.stores() as stores:
            await write(stores, steps)
        async with there.stores() as stores:
            await write(stores, other)
        archive, _ = await here.export()
        with pytest.raises(ForeignHistory, match="another reply under 'key 1'"):
            await there.take(archive)


@each_kind
async def test_keys_that_are_missing_are_added_to_a_stream_that_is_there(kind):
    """As after an import of an archive of its events alone."""
    async with place("memory") as here, place(kind) as there:
        async with here.stores() as stores:
            await write(stores, story(13, length=40))
            held = await everything(stores)
        archive, contents = await here.export()
        async with there.stores() as stores:
            epoch = await stores[0].claim("host", "x")
            async with here.stores() as (source,):
                for each in await source.read_all(limit=10**6):
                    new = NewEvent(
                        type=each.type,
                        payload=each.payload,
                        command_id=each.command_id,
                        recorded_at=each.recorded_at,
                        metadata=each.metadata,
                        reply=each.reply,
                    )
                    at = each.version - 1
                    await stores[0].append(
                        [Append(stream=each.stream, owner="host", epoch=epoch, expected_version=at, events=(new,))]
                    )
        assert (await there.take(archive)).events_written == 0
        async with there.stores() as stores:
            assert await everything(stores) == held
        assert (await there.export())[1] == contents


@each_kind
@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([event(1, 1), event(2, 1)], "version 1 of A/1 comes where 2 should"),
        ([event(1, 1), event(2, 1, id="2"), event(3, 1)], "version 1 of A/1 comes"),
        ([event(1, 2)], "version 2 of A/1 comes where 1 should"),
        ([event(1, 1), event(2, 1, id="2"), event(3, 3)], "version 3 of A/1 comes where 2 should"),
    ],
)
async def test_an_archive_with_a_version_missing_or_doubled_is_refused(kind, events, said):
    """Its digests are right; the store is not made to hold what cannot be."""
    archive = chained([header(), ("events", bytes([0x90 | len(events)]) + b"".join(events))])
    async with place(kind) as there:
        with pytest.raises(ArchiveDamaged, match=said):
            await there.take(archive)


async def test_names_and_times_that_no_journal_takes_are_refused():
    """As a journal's server would refuse them."""
    for bad, error in ((event(1, 1, id="x" * 2000), RecordTooLarge), (event(1, 1, id=""), Unstorable)):
        async with place("memory") as there:
            with pytest.raises(error):
                await there.take(chained([header(), ("events", b"\x91" + bad)]))


@each_kind
async def test_epochs_of_the_target_are_left_alone_and_those_of_the_source_stay_there(kind):
    """A host of the target goes on at its epoch; one of the source has none here."""
    async with place("memory") as here, place(kind) as there:
        async with here.stores() as (source,):
            await write([source], story(14, length=10))
            for number in range(5):
                await source.claim("host", f"again {number}")
        archive, _ = await here.export()
        async with there.stores() as stores:
            assert await stores[0].claim("theirs", "x") == 1
        await there.take(archive)
        await there.take(archive)
        async with there.stores() as stores:
            await stores[0].confirm("theirs", 1)
            with pytest.raises(Fenced):
                await stores[0].confirm("host", 6)
            assert await stores[0].claim(OWNER, "mine") == 3, "once for each run"


@each_kind
async def test_followers_go_on_where_they_were_where_positions_are_kept(kind):
    """And nowhere else; one that the target has stays as it is; and none goes beyond the cut."""
    async with place("memory") as here, place(kind) as there, place(kind) as apart:
        async with here.stores() as (source,):
            await write([source], story(15, length=20))
            epoch = await source.claim("host", "x")
            await source.save_checkpoint(Checkpoint(name="done", owner="host", epoch=epoch, position=10**9))
            head = await source.head()
        archive, _ = await here.export()
        async with there.stores() as stores:
            epoch = await stores[0].claim("host", "x")
            await stores[0].save_checkpoint(Checkpoint(name="mail-0", owner="host", epoch=epoch, position=3))
        imported = await there.take(archive)
        assert (imported.checkpoints, imported.checkpoints_left) == (1, 1)
        async with there.stores() as stores:
            assert await stores[0].find_checkpoint("done") == head
            assert await stores[0].find_checkpoint("mail-0") == 3
        async with apart.stores() as stores:
            epoch = await stores[0].claim("host", "x")
            await append(stores[0], epoch, "Z", "1", stores)
        imported = await apart.take(archive)
        assert (imported.checkpoints, imported.checkpoints_left, imported.positions_kept) == (0, 2, False)
        async with place("memory") as last:
            imported = await last.take(archive, checkpoints=False)
            assert (imported.checkpoints, imported.checkpoints_left, imported.positions_kept) == (0, 2, True)


async def test_a_journal_that_somebody_writes_is_not_imported_into():
    """There is one writer, and it says who."""
    async with place("memory") as here, place("sqlite") as there:
        archive, _ = await here.export()
        async with there.stores():
            with pytest.raises(JournalLocked):
                await there.take(archive)


# Exports that are resumed


async def test_an_export_that_was_cut_anywhere_goes_on_to_the_same_bytes(small_blocks, tmp_path):
    """At any byte, though the journal has grown meanwhile: the cut is the one that stands in the header."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rnd = random.Random(seed)
    async with place("sqlite", 2) as here:
        async with here.stores() as stores:
            heads = await write(stores, story(16, length=60))
        archive, contents = await here.export(compress=True)
        async with here.stores() as stores:
            for number, stream in enumerate(sorted(heads)[:5]):
                epoch = await stores[0].claim("host", f"later {number}")
                await stores[1].claim("host", f"later {number}", epoch)
                for store in stores:
                    if await store.read_stream(stream, limit=1):
                        await append(store, epoch, *stream, stores)
        for cut in [len(archive), *rnd.sample(range(300, len(archive)), 40)]:
            part = tmp_path / "part"
            part.write_bytes(archive[:cut])
            with part.open("r+b") as file:
                begun = begun_in(file, "part")
                assert begun.ended == (cut == len(archive))
                assert begun.size <= cut
                file.seek(begun.size)
                file.truncate()
                async with here.sources() as sources:
                    await check_begun(begun, sources, categories=(), snapshots=False, compress=True, name="part")
                    assert await export(sources, file, begun=begun) == contents
            assert part.read_bytes() == archive, cut


async def test_an_archive_of_another_journal_or_another_way_is_not_gone_on_with(small_blocks):
    """Another history, fewer events, other partitions, other options."""
    async with place("memory") as here, place("memory") as other, place("memory") as shorter, place("memory", 2) as two:
        for where, number in ((here, 1), (other, 2), (two, 1)):
            async with where.stores() as stores:
                await write(stores, story(number))
        async with shorter.stores() as stores:
            await write(stores, story(1, length=3))
        archive, _ = await here.export()
        begun = begun_in(io.BytesIO(archive[:-40]), "part")
        usual = {"categories": (), "snapshots": False, "compress": False, "name": "part"}

        async def check(where, **how):
            async with where.sources() as sources:
                await check_begun(begun, sources, **{**usual, **how})

        await check(here)
        for where, how, said in (
            (other, {}, "another journal|goes up to"),
            (shorter, {}, "goes up to"),
            (two, {}, "goes up to"),
            (here, {"categories": ["Loan"]}, "other options"),
            (here, {"snapshots": True}, "other options"),
            (here, {"compress": True}, "other options"),
        ):
            with pytest.raises(ArchiveMismatch, match=said):
                await check(where, **how)


# kill -9


CHILD = """
import asyncio, sys
from holdfast.journal import archive_import, archive_target, archive_writer
from holdfast.runtime.cli import main
archive_writer.BLOCK_RECORDS = 50

appended = archive_target.ImportTarget.take_events
async def take_events(self, events):
    await appended(self, events)
    print("block", file=sys.stderr, flush=True)
archive_target.ImportTarget.take_events = take_events

written = archive_writer.ArchiveWriter._write_frame
def write_frame(self, *args):
    written(self, *args)
    print("block", file=sys.stderr, flush=True)
archive_writer.ArchiveWriter._write_frame = write_frame
main()
"""


def kill_after(blocks, *args):
    """Run the command line, and kill it when so many blocks are done."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        for _ in range(blocks):
            assert child.stderr.readline() == b"block\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def bytes_of(file):
    return Path(file).read_bytes()


def run(*args):
    return subprocess.run([sys.executable, "-c", CHILD, *args], capture_output=True, check=False)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_kill_9_in_the_middle_of_an_export_and_of_an_import_and_then_again(kind, tmp_path, monkeypatch):
    """Each is killed, run again, and ends as if nothing had happened."""
    monkeypatch.setattr(archive_writer, "BLOCK_RECORDS", 50)
    async with place(kind) as here, place(kind) as there:
        async with here.stores() as stores:
            await write(stores, story(17, length=400, streams=40))
        whole, _ = await here.export()
        file = tmp_path / "bank.hfa"
        kill_after(5, "export", here.url, "-o", str(file))
        assert not file.exists()
        assert whole.startswith(bytes_of(f"{file}.part"))
        done = await asyncio.to_thread(run, "export", here.url, "-o", str(file), "--resume")
        assert done.returncode == 0, done.stderr
        assert bytes_of(file) == whole
        url = there.url.replace("lock_wait_s=0", "lock_wait_s=20")
        await asyncio.to_thread(kill_after, 4, "import", url, "-i", str(file))
        done = await asyncio.to_thread(run, "import", url, "-i", str(file))
        assert done.returncode == 0, done.stderr
        assert b"positions are kept" in done.stdout
        assert await there.export() == await here.export()
