"""Opening an SQLite journal: what is accepted, what is refused and left as it was, and who may write."""

import asyncio
import errno
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from holdfast.journal import sqlite_file
from holdfast.journal.errors import (
    JournalError,
    JournalFull,
    JournalLocked,
    JournalOpenError,
    JournalReadOnly,
    JournalTooNew,
    NotAJournal,
)
from holdfast.journal.records import Appended
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

SCHEMA = Path(sqlite_file.__file__).with_name("schema.sql")


def contents(folder):
    """Every file in a folder with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


async def refused(path, kind):
    """Open, and return the error; nothing in the folder may have changed."""
    before = contents(path.parent) if path.parent.is_dir() else None
    with pytest.raises(kind) as error:
        await SqliteStore(path, SqliteOptions(lock_wait_s=0)).open()
    assert type(error.value) is kind
    assert (contents(path.parent) if path.parent.is_dir() else None) == before
    return error.value


@contextmanager
def powerless():
    """A world-readable folder in which this process has no more rights than anybody else, root or not."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as name:
        folder, root = Path(name), os.geteuid() == 0
        folder.chmod(0o755)
        try:
            yield folder, (lambda: os.seteuid(65534)) if root else (lambda: None)
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


async def test_a_file_that_is_missing_or_empty_becomes_a_journal(file):
    """Whoever made a temporary file first is not punished for it."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
    os.truncate(file.path, 0)
    async with file.opened() as store:
        assert await store.head() == 0
        assert await store.append([file.append("alice", "a1")]) == [Appended(version=1, position=1)]


async def test_a_journal_is_one_file_when_it_is_closed(file):
    """The log was moved into it; only the lock file stays, empty."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
    assert sorted(contents(file.path.parent)) == ["bank.db", "bank.db.writer"]
    assert contents(file.path.parent)["bank.db.writer"] == b""


async def test_a_folder_is_no_journal(tmp_path):
    """Said by name, not as an I/O error."""
    assert "is a folder" in str(await refused(tmp_path, NotAJournal))


async def test_a_journal_in_no_folder_cannot_be_opened(tmp_path):
    """Folders are not made up: a mistyped path must not start an empty journal somewhere."""
    assert "no folder" in str(await refused(tmp_path / "missing" / "bank.db", JournalOpenError))


@pytest.mark.parametrize("content", [b"x", b"not a journal" * 1000, b"SQLite format 3\0", b"\0" * 4096])
async def test_a_file_that_is_not_sqlite_is_refused(tmp_path, content):
    """And left as it was, with nothing beside it."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert "not an SQLite file" in str(await refused(path, NotAJournal))


@pytest.mark.parametrize("application_id", [0, 0x12345678])
async def test_the_database_of_another_application_is_refused(file, application_id):
    """Even when it has the same tables."""
    with file.raw() as raw:
        raw.executescript(SCHEMA.read_text(encoding="utf-8"))
        raw.execute(f"PRAGMA application_id = {application_id}")
        raw.execute("PRAGMA user_version = 1")
    assert "another application" in str(await refused(file.path, NotAJournal))


async def test_the_database_of_another_application_is_refused_while_it_is_written(file):
    """In WAL mode its header may be older than what it is: nothing is decided by the header alone."""
    with file.raw() as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE theirs (x)")
        with pytest.raises(NotAJournal):
            await SqliteStore(file.path).open()
        assert raw.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


async def test_a_newer_journal_is_refused(file):
    """With the schema it has, and the newest this release reads."""
    async with file.opened():
        pass
    with file.raw() as raw:
        raw.execute("PRAGMA user_version = 7")
    error = await refused(file.path, JournalTooNew)
    assert (error.found, error.supported) == (7, 2)


async def test_a_journal_made_newer_by_a_migration_in_the_log_is_refused(file):
    """The header says 1, the log says 7: SQLite knows, and is asked."""
    async with file.opened() as store:
        with file.raw() as raw:
            raw.execute("PRAGMA user_version = 7")
            await store.append([file.append("alice", "a1")])
            os.unlink(f"{file.path}.writer")  # as if its writer had been killed, and the log had stayed
            with pytest.raises(JournalTooNew):
                await SqliteStore(file.path).open()


@pytest.mark.parametrize(("bits", "on"), [(0o444, "file"), (0o000, "file"), (0o555, "folder")])
async def test_what_cannot_be_written_is_read_only(bits, on):
    """The file, or the folder that must hold its log."""
    with powerless() as (folder, step_down):
        path = folder / "bank.db"
        await make_journal(path)
        for name in os.listdir(folder):
            (folder / name).chmod(bits if on == "file" else 0o666)
        folder.chmod(0o777 if on == "file" else bits)
        before = contents(folder)
        step_down()
        with pytest.raises(JournalReadOnly) as error:
            await SqliteStore(path).open()
        assert on in error.value.problem
    assert before


async def test_a_new_journal_in_a_read_only_folder_is_refused():
    """Before anything is created."""
    with powerless() as (folder, step_down):
        folder.chmod(0o555)
        step_down()
        with pytest.raises(JournalReadOnly, match="folder"):
            await SqliteStore(folder / "new.db").open()
        assert os.listdir(folder) == []


async def test_a_path_that_may_not_be_looked_at_cannot_be_opened():
    """A folder without the right to search it: one of our errors, not a bare `PermissionError`."""
    with powerless() as (folder, step_down):
        (folder / "secret").mkdir(mode=0o700)
        (folder / "secret" / "inner").mkdir()
        folder.joinpath("secret").chmod(0o000)
        step_down()
        with pytest.raises(JournalOpenError, match="denied"):
            await SqliteStore(folder / "secret" / "inner" / "bank.db").open()


async def make_journal(path):
    store = SqliteStore(path)
    await store.open()
    await store.close()


async def test_a_second_writer_in_the_same_process_is_refused(file):
    """The error says who holds the journal; when that one leaves, the next may come."""
    async with file.opened():
        with pytest.raises(JournalLocked) as locked:
            await SqliteStore(file.path, SqliteOptions(lock_wait_s=0)).open()
        assert f"pid {os.getpid()} on host {socket.gethostname()} since 20" in locked.value.holder
    async with file.opened():
        pass


async def test_a_journal_has_one_writer_under_all_its_names(file, tmp_path):
    """A link to it is the same journal."""
    (tmp_path / "alias.db").symlink_to(file.path)
    async with file.opened():
        with pytest.raises(JournalLocked):
            await SqliteStore(tmp_path / "alias.db", SqliteOptions(lock_wait_s=0)).open()


async def test_a_second_writer_waits_for_the_first_to_leave(file):
    """Up to `lock_wait_s`, and without holding up the event loop in which the first one closes."""
    first = SqliteStore(file.path)
    await first.open()
    second = SqliteStore(file.path, SqliteOptions(lock_wait_s=60))
    opening = asyncio.create_task(second.open())
    await asyncio.wait([opening], timeout=0)
    assert not opening.done()
    await first.close()
    await opening
    assert await second.head() == 0
    await second.close()


async def test_who_stops_waiting_for_the_lock_leaves_nothing(file):
    """A cancelled `open` can be followed by another."""
    first = SqliteStore(file.path)
    await first.open()
    second = SqliteStore(file.path, SqliteOptions(lock_wait_s=60))
    opening = asyncio.create_task(second.open())
    await asyncio.wait([opening], timeout=0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await first.close()
    await second.open()
    await second.close()


def start(program, *arguments):
    """Another Python, to talk to."""
    command = [sys.executable, "-c", program, *map(os.fspath, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def run(program, *arguments):
    """Another Python, to its end; returns its exit code."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(os.fspath, arguments)]
    return subprocess.run(command, check=False, timeout=60).returncode


HOLD = """
import asyncio, sys
from holdfast.journal.sqlite import SqliteStore

async def main():
    await SqliteStore(sys.argv[1]).open()
    print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_another_process_is_named_and_killing_it_frees_the_journal(file):
    """The lock goes with the process, whatever became of that."""
    with start(HOLD, file.path) as holder:
        try:
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(JournalLocked) as locked:
                await SqliteStore(file.path, SqliteOptions(lock_wait_s=0)).open()
            assert f"pid {holder.pid} on host" in locked.value.holder
        finally:
            holder.kill()
    async with file.opened() as store:
        assert await store.append([file.append("alice", "a1")]) == [Appended(version=1, position=1)]


async def test_a_process_that_never_closed_its_journal_exits(file):
    """And what it was told is durable is there."""
    forgetful = HOLD.replace('print("open", flush=True)\n    sys.stdin.read()', "pass")
    assert run(forgetful, file.path) == 0
    async with file.opened() as store:
        assert await store.head() == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EROFS, JournalReadOnly), (errno.EACCES, JournalReadOnly), (errno.ENOSPC, JournalOpenError)],
)
async def test_a_lock_that_cannot_be_made_is_one_of_our_errors(file, monkeypatch, code, kind):
    """A read-only or full file system, in its own words; and when it is mended the journal opens."""

    def refuse(*_):
        raise OSError(code, os.strerror(code), "there")

    store = SqliteStore(file.path)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file.os, "pwrite", refuse)
        with pytest.raises(kind, match="there") as error:
            await store.open()
        assert type(error.value) is kind
    await store.open()
    await store.close()


async def test_an_unreadable_note_in_the_lock_is_no_obstacle(file):
    """Who holds it is a courtesy; that it is held is not."""
    async with file.opened():
        file.path.with_name("bank.db.writer").write_bytes(b"\xff{")
        with pytest.raises(JournalLocked, match="not said who"):
            await SqliteStore(file.path, SqliteOptions(lock_wait_s=0)).open()


CRASH = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.executescript("BEGIN IMMEDIATE;" + open(sys.argv[2]).read())
connection.execute(f"PRAGMA application_id = {sys.argv[3]}")
connection.execute("CREATE TABLE filler (x)")
connection.execute("INSERT INTO filler VALUES (zeroblob(1000000))")
os._exit(9)
"""


async def test_a_crash_in_the_middle_of_creation_leaves_a_file_that_opens(file):
    """Killed with the schema half in the file and the rollback log beside it."""
    assert run(CRASH, file.path, SCHEMA, str(sqlite_file.APPLICATION_ID)) == 9
    left = contents(file.path.parent)
    assert len(left["bank.db"]) > 4096
    assert left["bank.db-journal"]
    async with file.opened() as store:
        assert await store.append([file.append("alice", "a1")]) == [Appended(version=1, position=1)]
    with file.raw() as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'filler'").fetchone() == (0,)


async def test_a_crash_before_wal_mode_leaves_a_journal(file):
    """The schema is there, the switch to WAL is not: it is made now."""
    async with file.opened():
        pass
    with file.raw() as raw:
        assert raw.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
    with file.raw() as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_an_older_journal_is_migrated_one_step_at_a_time(file, monkeypatch, tmp_path):
    """Another script takes schema 2 to 3 and keeps what is there; one that fails changes nothing."""
    async with file.opened() as store:
        await store.append([file.append("alice", "a1")])
    script = tmp_path / "three.sql"
    monkeypatch.setattr(sqlite_file, "_MIGRATIONS", (*sqlite_file._MIGRATIONS, os.fspath(script)))

    script.write_text("CREATE TABLE extra (x INTEGER) STRICT; CREATE TABLE extra (x INTEGER) STRICT;")
    with pytest.raises(JournalOpenError, match="already exists"):
        await SqliteStore(file.path).open()
    with file.raw() as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (2,)

    script.write_text("CREATE TABLE extra (x INTEGER) STRICT;")
    async with file.opened() as store:
        assert await store.head() == 1
    with file.raw() as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (3,)
        assert raw.execute("SELECT count(*) FROM extra").fetchone() == (0,)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_READONLY, JournalReadOnly),
        (sqlite3.SQLITE_CANTOPEN, JournalReadOnly),
        (sqlite3.SQLITE_NOTADB, NotAJournal),
        (sqlite3.SQLITE_FULL, JournalFull),
        (sqlite3.SQLITE_BUSY, JournalOpenError),
    ],
)
def test_what_sqlite_says_while_opening_becomes_one_of_our_errors(tmp_path, code, kind):
    """A file system mounted read-only, a disk that is full, a foreign program that holds the file."""
    error = sqlite3.OperationalError("said SQLite")
    error.sqlite_errorcode = code
    ours = sqlite_file._open_error(tmp_path, error)
    assert type(ours) is kind
    assert isinstance(ours, JournalError)
    assert "said SQLite" in str(ours)


async def test_a_failed_open_can_be_tried_again(file):
    """It lets go of the lock and of its threads."""
    with closing(sqlite3.connect(file.path, isolation_level=None)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    store = SqliteStore(file.path)
    for _ in range(2):
        with pytest.raises(NotAJournal):
            await store.open()
    file.path.unlink()
    await store.open()
    assert await store.head() == 0
    await store.close()
