"""The disk fills up in the middle of an import or a backup: it is told, and run again it goes on, or starts clean."""

import io

import pytest
from archive_stories import everything, place, story, write

from holdfast.journal import archive_writer
from holdfast.journal.archive_errors import BackupFailed
from holdfast.journal.archive_import import import_archive, opened_stores
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.backup import backup
from holdfast.journal.errors import JournalFull


async def test_an_import_goes_on_when_there_is_room_again(tmp_path, disk, monkeypatch):
    """`JournalFull`; what was written before it is found there."""
    monkeypatch.setattr(archive_writer, "BLOCK_RECORDS", 50)
    url = f"sqlite:///{tmp_path}/bank.db?lock_wait_s=0&cache_mib=1"
    async with place("memory") as here:
        async with here.stores() as stores:
            await write(stores, story(51, length=1000))
            held = await everything(stores)
        archive, contents = await here.export()
    async with opened_stores(url) as stores:
        disk.room = disk.used + 150_000
        with pytest.raises(JournalFull):
            await import_archive(ArchiveReader(io.BytesIO(archive)), stores)
        disk.heal()
    async with opened_stores(url) as stores:
        imported = await import_archive(ArchiveReader(io.BytesIO(archive)), stores)
        assert imported.events_found > 0
        assert imported.events_found + imported.events_written == contents.events
        assert await everything(stores) == held


async def test_a_backup_that_finds_no_room_leaves_nothing(tmp_path, disk):
    """`BackupFailed`; with room it is made."""
    async with place("sqlite") as here:
        async with here.stores() as stores:
            await write(stores, story(52, length=300))
        disk.room = disk.used + 20_000
        with pytest.raises(BackupFailed, match="full"):
            await backup(here.url, tmp_path / "copy.db")
        assert not list(tmp_path.iterdir())
        disk.heal()
        await backup(here.url, tmp_path / "copy.db")
        assert [each.name for each in tmp_path.iterdir()] == ["copy.db"]
