"""The disk fails at the first operation, then at the second, and so on, until a whole life of the journal goes well.

With the real SQLite, under every write, flush, read, truncation, opening and deletion that it does. Wherever it fails,
callers see typed errors, what they were told is in the file, and what they were refused is not.
"""

import itertools
import sqlite3

import pytest
from hf_story import Story, check, recorded

from holdfast.journal.errors import JournalError
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

ROUNDS = 7


async def live(path, disk, story):
    """Open, live, close; an opening that fails is tried once more when the disk is well."""
    store = SqliteStore(path, SqliteOptions(lock_wait_s=0.0, cache_mib=1))
    for _ in range(2):
        try:
            await store.open()
            break
        except JournalError as error:
            story.errors.append(error)
            disk.heal()
    await story.live(store, ROUNDS)
    await store.close()


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
async def test_a_disk_that_fails_at_any_operation_loses_nothing(tmp_path, disk, lasting):
    """One life for each operation of a life without faults; then the file is read by a new process's store."""
    seen = set()
    for number in itertools.count(1):
        path = tmp_path / f"{number}.db"
        story = Story()
        disk.fail_at(number, lasting=lasting)
        await live(path, disk, story)
        happened = set(disk.failed)
        disk.heal()
        disk.failed.clear()
        disk.log.clear()
        seen |= happened
        check(await recorded(path), story.told, story.refused)
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)], number
        raw.close()
        if not happened:
            break
        for file in tmp_path.iterdir():
            file.unlink()
    assert len(story.told) == 3 * ROUNDS
    assert not story.errors
    assert seen == {"read", "write", "sync", "truncate", "delete", "open"}
    assert number > 100, "a life is more operations than this"
