"""The journal's file is deleted, moved or replaced under the process that writes it: nobody is told that something is
safe which nobody will find again."""

import os
import shutil

import pytest
from hf_story import STREAMS, Story, check, recorded

from holdfast.actors import Aggregate, command, event, on
from holdfast.journal.errors import JournalFailed, JournalLost, JournalUnavailable
from holdfast.journal.records import Load
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions
from holdfast.runtime import Runtime

OPTIONS = SqliteOptions(lock_wait_s=0.0)


@event("tally.counted")
class Counted:
    pass


class Tally(Aggregate):
    count: int = 0

    @command
    def add(self) -> int:
        self.emit(Counted())
        return self.count

    @on(Counted)
    def _counted(self, event: Counted) -> None:
        self.count += 1


def delete(path):
    os.unlink(path)


def move(path):
    os.rename(path, f"{path}.moved")


def replace(path):
    shutil.copy(path, f"{path}.copy")
    os.replace(f"{path}.copy", path)


@pytest.mark.parametrize("change", [delete, move, replace])
@pytest.mark.parametrize("suffix", ["", "-wal", ".writer"])
async def test_nothing_is_acknowledged_into_a_file_that_is_not_there(tmp_path, change, suffix):
    """The file, its log, or the lock that keeps a second writer out: `JournalLost`, which is not retryable, for
    whatever is asked; also when it happened with a transaction under way."""
    path, story = tmp_path / "bank.db", Story()
    store = SqliteStore(path, OPTIONS)
    await store.open()
    await story.live(store, 3)
    told = dict(story.told)
    change(f"{path}{suffix}")
    await story.live(store, 2)
    assert story.told == told
    assert {type(error) for error in story.errors} == {JournalLost}
    assert not story.errors[0].retryable
    assert str(path) in str(story.errors[0])
    for ask in (
        lambda: store.head(),
        lambda: store.load([Load(stream=STREAMS[0])]),
        lambda: store.read_stream(STREAMS[0]),
        lambda: store.claim("another", "one"),
        lambda: store.confirm("host", 1),
        lambda: store.find_keyed(STREAMS[0], ["c3"]),
    ):
        with pytest.raises(JournalLost):
            await ask()
    await store.close()


async def test_what_was_put_back_goes_on(tmp_path):
    """The very same file under its name again: appends are written to it, and found by the next process."""
    path, story = tmp_path / "bank.db", Story()
    store = SqliteStore(path, OPTIONS)
    await store.open()
    await story.live(store, 3)
    os.rename(path, tmp_path / "elsewhere")
    await story.live(store, 1)
    assert story.errors
    os.rename(tmp_path / "elsewhere", path)
    story.errors.clear()
    await story.live(store, 3)
    assert not story.errors
    await store.close()
    check(await recorded(path), story.told, story.refused)


async def test_a_connection_that_is_lost_is_not_opened_on_another_file(tmp_path, disk):
    """The file goes, and then the connection: no empty journal appears in its place."""
    path, story = tmp_path / "bank.db", Story()
    store = SqliteStore(path, OPTIONS)
    await store.open()
    await story.live(store, 2)
    disk.fail_at(1, lasting=True)
    await story.live(store, 1)
    assert {type(error) for error in story.errors} <= {JournalFailed, JournalUnavailable}
    os.unlink(path)
    disk.heal()
    story.errors.clear()
    await story.live(store, 2)
    assert {type(error) for error in story.errors} == {JournalLost}
    with pytest.raises(JournalLost):
        await store.claim("another", "one")
    assert not path.exists()
    await store.close()
    assert not path.exists()


async def test_callers_of_a_program_are_told(tmp_path):
    """`JournalLost` reaches whoever calls an aggregate, whether it is in memory or not."""
    path = tmp_path / "tally.db"
    async with Runtime.local(f"sqlite:///{path}") as runtime:
        assert await runtime.get(Tally, "a").add() == 1
        os.unlink(path)
        for id in ("a", "a", "b"):
            with pytest.raises(JournalLost):
                await runtime.get(Tally, id, timeout_s=20).add()
