"""Backups: a copy that opens as a journal, or an archive of one moment; and nothing is put in place that is neither."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from archive_stories import everything, place, story, write

from holdfast.journal import backup as backups
from holdfast.journal.archive_errors import BackupFailed
from holdfast.journal.archive_export import contents_of, open_archive_sources
from holdfast.journal.backup import backup
from holdfast.journal.errors import ForeignPartition, JournalOpenError, NotAJournal, PartitionConflict
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.url import open_store
from holdfast.journal.verify import open_sources, verify


async def digest_of(url):
    sources = await open_archive_sources(url)
    try:
        return await contents_of(sources)
    finally:
        for source in sources:
            await source.close()


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_backup_of_sqlite_is_the_journal_as_it_was(partitions, tmp_path):
    """Snapshots, epochs and followers with it: it goes on from there, and says which journal it is."""
    options = f"?partitions={partitions}" if partitions > 1 else ""
    async with place("sqlite", partitions) as here:
        async with here.stores() as stores:
            await write(stores, story(31))
            held = await everything(stores)
            made = await backup(here.url, tmp_path / "copy.db")
        names = {"copy.db"} | ({"copy.db.p1", "copy.db.manifest.json"} if partitions > 1 else set())
        assert {path.name for path in tmp_path.iterdir()} == names
        assert await digest_of(f"sqlite:///{tmp_path}/copy.db") == await digest_of(here.url)
    report = await verify(await open_sources(f"sqlite:///{tmp_path}/copy.db"))
    assert report.good, report.problems
    stores = [open_store(f"sqlite:///{tmp_path}/copy.db{options}", number) for number in range(partitions)]
    for store in stores:
        await store.open()
    assert await everything(stores) == held
    assert await stores[0].claim("host", "after") == 2
    assert await stores[0].find_checkpoint("mail-0") == await stores[0].head() // 2
    for store in stores:
        await store.close()
    assert (made.kind, len(made.files), len(made.journal_id)) == ("journal", partitions, 32)


async def test_the_manifest_says_what_belongs_together(tmp_path):
    """Each file with its size, its SHA-256 and its newest position."""
    async with place("sqlite", 3) as here:
        async with here.stores() as stores:
            await write(stores, story(32))
            heads = [await store.head() for store in stores]
        made = await backup(here.url, tmp_path / "copy.db")
    manifest = json.loads((tmp_path / "copy.db.manifest.json").read_text())
    assert manifest == json.loads(msgspec.json.encode(made))
    assert [file["position"] for file in manifest["files"]] == heads
    assert [file["file"] for file in manifest["files"]] == ["copy.db", "copy.db.p1", "copy.db.p2"]
    assert [file["bytes"] for file in manifest["files"]] == [
        (tmp_path / file["file"]).stat().st_size for file in manifest["files"]
    ]


async def test_epochs_of_the_first_partition_are_never_behind_those_of_the_others(tmp_path, monkeypatch):
    """Claims begin there: the copy of it is of the last moment, so that none was drawn twice after a restore."""
    order = []
    begun = backups.SqliteSnapshot.__init__

    def opened(self, path):
        begun(self, path)
        real = self.connection

        class Told:
            def execute(self, statement, *values):
                if statement == "BEGIN":
                    order.append(path.suffix)
                return real.execute(statement, *values)

            def __getattr__(self, name):
                return getattr(real, name)

        self.connection = Told()

    monkeypatch.setattr(backups.SqliteSnapshot, "__init__", opened)
    async with place("sqlite", 3) as here:
        async with here.stores() as stores:
            await write(stores, story(33, length=10))
        await backup(here.url, tmp_path / "copy.db")
    assert order == [".p1", ".p2", ".db"]


async def test_what_is_there_is_not_written_over_without_being_told(tmp_path):
    """Nor is the journal itself, ever, or one that is in use."""
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(34, length=5))
            path = here.url.removeprefix("sqlite:///").partition("?")[0]
            for force in (False, True):
                with pytest.raises(BackupFailed, match="is the journal itself"):
                    await backup(here.url, path, force=force)
        target = tmp_path / "copy.db"
        target.write_bytes(b"mine")
        with pytest.raises(BackupFailed, match="is there already"):
            await backup(here.url, target)
        assert target.read_bytes() == b"mine"
        await backup(here.url, target, force=True)
        assert await digest_of(f"sqlite:///{target}") == await digest_of(here.url)
        store = SqliteStore(target)
        await store.open()
        with pytest.raises(BackupFailed, match="in use"):
            await backup(here.url, target, force=True)
        await store.close()
        with pytest.raises(BackupFailed, match="there is no folder"):
            await backup(here.url, tmp_path / "none" / "copy.db")
    assert {each.name for each in tmp_path.iterdir()} == {"copy.db", "copy.db.writer"}


async def test_a_damaged_journal_makes_no_backup(tmp_path):
    """What SQLite finds wrong with the copy is told, and nothing is left."""
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(35, length=300))
        path = Path(here.url.removeprefix("sqlite:///").partition("?")[0])
        tamper(path)
        with pytest.raises(BackupFailed, match="the copy is damaged"):
            await backup(here.url, tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


def move(path, to):
    Path(path).rename(to)


def tamper(path):
    with closing(sqlite3.connect(path)) as raw:
        (page,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


async def test_partitions_that_do_not_belong_together_make_no_backup(tmp_path):
    """One of another journal, one that is missing, another count, no journal at all."""
    async with place("sqlite", 2) as here, place("sqlite", 2) as other:
        for each in (here, other):
            async with each.stores() as stores:
                await write(stores, story(36, length=5))
        mine, theirs = (each.url.removeprefix("sqlite:///").partition("?")[0] for each in (here, other))
        with pytest.raises(PartitionConflict):
            await backup(f"sqlite:///{mine}?partitions=3", tmp_path / "copy.db")
        move(f"{theirs}.p1", f"{mine}.p1")
        with pytest.raises(ForeignPartition):
            await backup(here.url, tmp_path / "copy.db")
        move(f"{mine}.p1", f"{theirs}.p1")
        with pytest.raises(JournalOpenError, match="no such file"):
            await backup(here.url, tmp_path / "copy.db")
    (tmp_path / "text").write_text("not a journal, but more than a hundred bytes of something else" * 3)
    with pytest.raises(NotAJournal):
        await backup(f"sqlite:///{tmp_path}/text", tmp_path / "copy.db")
    with pytest.raises(BackupFailed, match="in memory"):
        await backup("memory://", tmp_path / "copy.db")
    assert [each.name for each in tmp_path.iterdir()] == ["text"]


async def test_a_backup_that_is_broken_off_leaves_nothing(tmp_path):
    """The thread that copies is told, and takes its files away."""
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(37, length=50))
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        broken = asyncio.Event()

        def progress(step, done, total):
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(broken.wait(), loop).result()

        # One page in each step, so that there is a next one to break off before.
        pages, backups._PAGES = backups._PAGES, 1
        try:
            task = asyncio.create_task(backup(here.url, tmp_path / "copy.db", progress=progress))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            broken.set()
            await loop.shutdown_default_executor()
        finally:
            backups._PAGES = pages
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_backup_of_postgres_is_an_archive_of_one_moment(partitions, tmp_path, monkeypatch):
    """All partitions are read in one snapshot of the database: what is committed after the first page is not in it."""
    late = []
    whole = backups.export

    async def export_later(sources, sink, **how):
        async with here.stores() as stores:
            late.append(await write(stores, [(("Late", "1"), 3, True, None, False, b"")], owner="late"))
        return await whole(sources, sink, **how)

    async with place("postgres", partitions) as here, place("sqlite", partitions) as there:
        async with here.stores() as stores:
            await write(stores, story(38))
        before = await digest_of(here.url)
        monkeypatch.setattr(backups, "export", export_later)
        made = await backup(here.url, tmp_path / "bank.hfa", compress=True, snapshots=True)
        assert late
        assert made.kind == "archive"
        assert made.contents == before
        assert await digest_of(here.url) != before
        imported = await there.take((tmp_path / "bank.hfa").read_bytes())
        assert imported.contents == before
        assert await digest_of(there.url) == before
    assert [each.name for each in tmp_path.iterdir()] == ["bank.hfa"]
