"""The disk fills up in the middle: callers are told what to do, reads go on, and so do appends when there is room.

Three full disks under the real SQLite: one of tests, which says "no room" to any write that needs more; a small file
system of its own, where one can be mounted; and the limit that the system sets on a file's size.
"""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hf_story import STREAMS, Story, check, recorded

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalFailed, JournalFull
from holdfast.journal.records import Append, Load, NewEvent, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions
from holdfast.runtime import Runtime, Sharded

OPTIONS = SqliteOptions(lock_wait_s=0.0, cache_mib=1)


@event("book.noted")
class Noted:
    text: str


class Book(Aggregate):
    notes: list[str] = []

    @command
    def note(self, text: str) -> int:
        if not text:
            raise Rejected("nothing to note")
        self.emit(Noted(text))
        return len(self.notes)

    @query
    def read(self) -> list[str]:
        return self.notes

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.notes.append(event.text)


async def test_a_store_goes_on_when_there_is_room_again(tmp_path, disk):
    """`JournalFull`, again and again; then the owner goes on, and nothing that it was told is lost."""
    path, story = tmp_path / "bank.db", Story()
    store = SqliteStore(path, OPTIONS)
    await store.open()
    await story.live(store, 4)
    for _ in range(3):
        disk.room = disk.used + 5000
        before = len(story.told)
        for _ in range(20):  # there may be room in the log, which is written over from its start now and then
            await story.live(store, 3)
            if story.errors:
                break
        assert {type(error) for error in story.errors} == {JournalFull}
        assert all(error.retryable and "make room" in str(error) for error in story.errors)
        disk.room = 0  # a file system that needs room even to write over what is there
        with pytest.raises(JournalFull):
            await store.claim("other", "one")
        with pytest.raises(JournalFull):
            await store.register("Account", "dedicated", f"code {before}")
        read = {stream: len(await store.read_stream(stream)) for stream in STREAMS}
        assert sum(read.values()) == 2 * len(story.told) == await store.head()
        (loaded,) = await store.load([Load(stream=STREAMS[0], owner="host", epoch=1, schema="s")])
        assert loaded.head == read[STREAMS[0]]
        story.errors.clear()
        disk.heal()
        await story.live(store, 3)
        assert not story.errors
        assert len(story.told) > before
    await store.close()
    check(await recorded(path), story.told, story.refused)


class Way:
    """A `JournalLink` in this process."""

    def __init__(self, server):
        self.server = server

    async def ask(self, method, *args):
        return await getattr(self.server, method)(*args)


def note(stream, at, id):
    event = NewEvent(type="t", payload=b"\x80" + b"x" * 3000, command_id=id, recorded_at=0)
    return Append(stream=stream, owner="host", epoch=1, expected_version=at, events=(event,))


async def test_everybody_behind_the_server_is_told_and_may_send_the_same_again(tmp_path, disk):
    """Fifty callers at once: each hears `JournalFull` for itself, nothing was written, and the same appends, sent
    again when there is room, are written."""
    server = JournalServer(SqliteStore(tmp_path / "bank.db", OPTIONS))
    await server.start()
    client = JournalClient(Way(server))
    await client.claim("host", "incarnation")
    await client.append(note(StreamId("Account", "first"), 0, "first"))
    disk.room = disk.used + 20_000
    appends = [note(StreamId("Account", f"a{n}"), 0, f"c{n}") for n in range(50)]
    answers = await asyncio.gather(*map(client.append, appends), return_exceptions=True)
    assert {type(answer) for answer in answers} == {JournalFull}
    assert await client.head() == 1
    assert [event.command_id for event in await client.read_all()] == ["first"]
    disk.heal()
    answers = await asyncio.gather(*map(client.append, appends))
    assert sorted(answer.position for answer in answers) == list(range(2, 52))
    await server.stop()


async def test_a_program_goes_on_when_there_is_room_again(tmp_path, disk):
    """Callers of `Runtime.local` hear `JournalFull` and may try again; queries go on; what was answered is there when
    the journal is opened anew, in the order of the answers."""
    url = f"sqlite:///{tmp_path / 'books.db'}?cache_mib=1"
    told = {name: list[str]() for name in "abc"}

    async def write(runtime, name, text):
        assert await runtime.get(Book, name).note(text) == len(told[name]) + 1
        told[name].append(text)

    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        for name in told:
            await write(runtime, name, "first")
        disk.room = disk.used + 30_000
        refused = []
        for number in itertools.count():
            try:
                await write(runtime, "abc"[number % 3], f"{number}" + "x" * 2000)
            except JournalFailed as error:
                refused.append(error)
            if len(refused) == 6:
                break
        assert {type(error) for error in refused} == {JournalFull}
        for name in told:
            assert await runtime.get(Book, name).read() == told[name]
        with pytest.raises(Rejected):
            await runtime.get(Book, "a").note("")
        disk.heal()
        for name in told:
            await write(runtime, name, "last")
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        for name in told:
            assert await runtime.get(Book, name).read() == told[name]


CHILD = """
import asyncio, os, resource, subprocess, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from hf_story import Story, check, recorded
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

kind, folder = sys.argv[2], Path(sys.argv[3])
if kind == "tmpfs":
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
    (folder / "ballast").write_bytes(bytes(1 << 20))
    make_room = (folder / "ballast").unlink
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    make_room = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

async def main():
    store, story = SqliteStore(folder / "bank.db", SqliteOptions(lock_wait_s=0.0)), Story()
    await store.open()
    while len(story.errors) < 20:
        await story.live(store, 5)
    assert all(error.retryable for error in story.errors), story.errors
    full, told = len(story.errors), len(story.told)
    assert await store.head() == 2 * told
    make_room()
    await story.live(store, 20)
    assert len(story.errors) == full, story.errors[full:]
    assert len(story.told) > told
    await store.close()
    check(await recorded(folder / "bank.db"), story.told, story.refused)
    print("kinds", *sorted({type(error).__name__ for error in story.errors}))

asyncio.run(main())
"""
MOUNTING = [["unshare", "--mount", "--map-root-user"], ["unshare", "--mount"]]


def child(kind, folder, *before):
    command = [*before, sys.executable, "-c", CHILD, str(Path(__file__).parent), kind, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def mounting():
    """What to put before a command so that it may mount, in a namespace of its own that ends with it."""
    for before in MOUNTING:
        try:
            if subprocess.run([*before, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0:
                return before
        except FileNotFoundError:
            continue
    return None


def test_a_file_system_that_is_full(tmp_path):
    """A real one, of three megabytes: `JournalFull`, and it goes on when a file beside the journal is deleted."""
    before = mounting()
    if before is None:
        pytest.skip("this user may not mount a file system; the limit on a file's size, below, stands in for it")
    done = child("tmpfs", tmp_path / "small", *before)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "kinds JournalFull\n"


def test_a_file_that_may_not_grow(tmp_path):
    """The system's limit on the size of a file, met in the middle of a write, until it is lifted. SQLite calls it an
    I/O error; where nothing at all can be written to settle what became of a commit, the outcome is unknown."""
    done = child("limit", tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"kinds", "JournalFailed", "JournalUnavailable"}
