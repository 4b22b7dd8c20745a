"""kill -9 at any moment: everything that was acknowledged is there, and nothing is there in part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reminder_fold import folded, indexed

APPEND = """
import asyncio, sys
import msgspec
from holdfast.journal.records import Append, Appended, NewEvent, StreamId
from holdfast.journal.sqlite import SqliteStore

def append(number, epoch, version):
    ids = [f"{number}.{version}.{n}" for n in range(3)]
    reminder = {"name": "renew", "due": version if version % 2 else None, "more": b"x" * 500}
    payload, types = msgspec.msgpack.encode(reminder), ("t", "holdfast.reminder.set", "t")
    events = tuple(
        NewEvent(type=type, payload=payload, command_id=id, recorded_at=0) for type, id in zip(types, ids, strict=True)
    )
    stream = StreamId("Account", str(number))
    return Append(stream=stream, owner="host", epoch=epoch, expected_version=version, events=events)

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    epoch = await store.claim("host", "crashing")
    version = 0
    while True:
        results = await store.append([append(number, epoch, version) for number in range(10)])
        assert all(type(result) is Appended for result in results), results
        version += 3
        print(version, results[-1].position, flush=True)

asyncio.run(main())
"""


def append_until_killed(path, acknowledged):
    """Kill a writer after so many acknowledged batches; return version and position that it printed last."""
    with subprocess.Popen([sys.executable, "-c", APPEND, path], stdout=subprocess.PIPE, text=True) as writer:
        try:
            lines = [writer.stdout.readline() for _ in range(acknowledged)]
        finally:
            writer.kill()
        lines += writer.stdout.readlines()
    return map(int, [line for line in lines if line.endswith("\n")][-1].split())


@pytest.mark.parametrize("acknowledged", [1, 40, 300])
async def test_everything_acknowledged_survives_kill_9(file, acknowledged):
    """Also across a checkpoint of the log; and each append is there whole or not at all."""
    version, position = append_until_killed(file.path, acknowledged)
    async with file.opened() as store:
        head = await store.head()
        assert head >= position
        assert head % 30 == 0
        listed = await store.list_streams()
        assert {found for _, found in listed} == {head // 10}
        assert head // 10 >= version
        after, seen, events = 0, 0, []
        while page := await store.read_all(after=after):
            for event in page:
                seen += 1
                number, at, n = map(int, event.command_id.split("."))
                assert (event.position, event.version, event.stream.id) == (seen, at + n + 1, str(number))
            after = page[-1].position
            events += page
        assert seen == head
        assert await indexed(store) == folded(events), "the index of reminders parted from the events"
    with file.raw() as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_what_a_killed_writer_left_is_flushed_before_anybody_is_told_of_it(file, monkeypatch):
    """It may have been killed between writing a commit and flushing it: the next writer finds it in the log, and
    whoever asks again is told that it is done."""
    append_until_killed(file.path, 1)
    flushed = []

    def fsync(descriptor, right=os.fsync):
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        right(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with file.opened():
        assert flushed == [f"{file.path}-wal", str(Path(file.path).parent)]
