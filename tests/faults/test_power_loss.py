"""kill -9, and the loss of power, at every moment of a journal's life: its files as they were left, opened again.

A life is lived once on a disk that remembers every write and every flush. From its log come the files of each moment:
as a crash of the process leaves them (everything written is there), and as a loss of power does (of what no flush has
covered each write is there, is not, or is torn).
"""

import random
import re
import shutil
import struct

import pytest
from hf_disk import acknowledged, image
from hf_story import Story, check, payload_of, recorded

from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

ROUNDS = 9
SEED = random.randrange(1 << 32)


async def lived(path, disk):
    """The log of a life without faults, with what was told in its place."""
    store, story = SqliteStore(path, SqliteOptions(lock_wait_s=0.0, cache_mib=1)), Story()
    await store.open()
    await story.live(store, ROUNDS, lambda told: disk.told([(id, (stream, version)) for id, stream, version in told]))
    await store.close()
    assert not story.errors
    return list(disk.log)


async def check_image(log, folder, chance=None):
    """The files that `log` leaves behind are a journal that holds all that was told."""
    folder.mkdir()
    image(log, folder, chance=chance)
    check(await recorded(folder / "bank.db"), acknowledged(log))
    shutil.rmtree(folder)


async def test_a_crash_at_any_moment_leaves_a_journal_with_all_that_was_told(tmp_path, disk):
    """After every single operation that changes a file, the creation of the journal and its closing included."""
    log = await lived(tmp_path / "bank.db", disk)
    for length in range(len(log) + 1):
        await check_image(log[:length], tmp_path / "crashed")
        disk.log.clear()


async def test_a_loss_of_power_at_any_moment_leaves_a_journal_with_all_that_was_told(tmp_path, disk):
    """What was not flushed is there, or not, or in part, as chance has it."""
    print(f"seed {SEED}")
    log, chance = await lived(tmp_path / "bank.db", disk), random.Random(SEED)
    for length in range(len(log) + 1):
        await check_image(log[:length], tmp_path / "dark", chance)
        disk.log.clear()


def moved(log):
    """Whether the log that is in force has been moved into the file: a tear in it would take back what is there."""
    begun = max(
        (at for at, d in enumerate(log) if d.kind == "write" and d.path.endswith("-wal") and not d.offset), default=0
    )
    return any(done.kind == "write" and done.path.endswith("bank.db") for done in log[begun:])


async def crashed(tmp_path, disk):
    """The files after a life that was cut off before its log was moved into the file, and what had been told."""
    log = await lived(tmp_path / "bank.db", disk)
    end = max(place for place, done in enumerate(log) if done.kind == "told" and not moved(log[:place])) + 1
    folder = tmp_path / "crashed"
    folder.mkdir()
    image(log[:end], folder)
    return folder, dict(acknowledged(log[:end]))


def frames(wal):
    """Where each frame of the log that still counts begins, and whether it ends a commit."""
    page_size, salts = struct.unpack(">8xI", wal[:12])[0], wal[16:24]
    starts = range(32, len(wal) - 23, 24 + page_size)
    return [(at, struct.unpack(">I", wal[at + 4 : at + 8])[0] != 0) for at in starts if wal[at + 8 : at + 16] == salts]


async def check_log(folder, told, wal, lost):
    """With this log the file is a journal; only the commits of `lost` frames may have gone with it."""
    target = folder / "again"
    shutil.copytree(folder, target, ignore=lambda *_: ["again"])
    (target / "bank.db-wal").write_bytes(wal)
    events = await recorded(target / "bank.db")
    there = {event.command_id for event in events}
    check(events, {id: place for id, place in told.items() if id in there})
    gone = [int(id[1:]) for id in told if id not in there]
    assert gone == list(range(len(told) - len(gone) + 1, len(told) + 1)), "what went is not the newest"
    assert len(gone) <= 3 * lost, f"{len(gone)} commands went with {lost} commits"
    shutil.rmtree(target)


async def test_a_torn_log_loses_the_commits_that_were_torn_and_nothing_else(tmp_path, disk):
    """Cut at the edge of each frame and inside each; its last sector zeroed, or garbage. What the disk lost after it
    said that it was safe cannot be had again; everything before it is there, and whole."""
    folder, told = await crashed(tmp_path, disk)
    wal = (folder / "bank.db-wal").read_bytes()
    places = frames(wal)
    assert len(places) >= 5
    garbage = random.Random(7).randbytes(512)
    for at, _ in places:
        lost = sum(ends for start, ends in places if start >= at)
        await check_log(folder, told, wal[:at], lost)
        await check_log(folder, told, wal[: at + 24 + 1000], lost)
        end = at + 24 + 4096
        for sector in (bytes(512), garbage):
            await check_log(folder, told, wal[: end - 512] + sector + wal[end:], lost)


async def test_a_log_of_garbage_is_no_log(tmp_path, disk):
    """A header that is torn, or bytes from elsewhere: the file is as it was at the last checkpoint, and whole."""
    folder, told = await crashed(tmp_path, disk)
    wal = (folder / "bank.db-wal").read_bytes()
    commits = sum(ends for _, ends in frames(wal))
    for broken in (b"", wal[:20], bytes(len(wal)), random.Random(7).randbytes(len(wal))):
        await check_log(folder, told, broken, commits)


def test_the_tears_of_these_tests_fall_inside_what_an_event_is():
    """An event fills more than a sector and less than a page: a torn page is a torn event."""
    for number in (1, 2):
        assert 512 < len(payload_of(number)) < 4096
        assert re.fullmatch(rb"\x83.*x+", payload_of(number), re.DOTALL)


@pytest.mark.parametrize("pages", [1, 3])
async def test_pages_that_were_never_flushed_are_still_in_the_log(tmp_path, disk, pages):
    """The newest pages of the file itself go missing while its log is whole: the log brings back what it holds."""
    log = await lived(tmp_path / "bank.db", disk)
    end = max(place for place, done in enumerate(log) if done.kind == "told") + 1
    unsafe = [place for place, done in enumerate(log[:end]) if done.kind == "write" and done.path.endswith("bank.db")]
    flushed = max(p for p, done in enumerate(log[:end]) if done.kind == "sync" and done.path.endswith("bank.db"))
    assert all(place < flushed for place in unsafe), "the file is only written by checkpoints, which flush it"
    checkpoint = unsafe[-pages]
    await check_image(log[:checkpoint] + [d for d in log[checkpoint:end] if d.path.endswith("-wal")], tmp_path / "dark")
