"""The SQLite file of a journal: taking it for writing, telling whose it is, creating and migrating it.

A fresh start writes in this order; each crash leaves what the next start accepts:

1. `<file>.writer`, the lock: the system drops it with the process that held it, whatever became of that.
2. The schema with application_id and user_version, and which partition of which journal it is, in one transaction in
   SQLite's rollback mode. A crash leaves an empty file, or one that SQLite rolls back to empty: it is created again.
3. WAL mode, which the file itself remembers. A crash before it leaves a journal that is switched now.

The header of a file is looked at before SQLite, or a lock, comes near it: what is not ours stays as it was.
"""

import fcntl
import json
import os
import socket
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from .errors import (
    ForeignPartition,
    JournalFull,
    JournalOpenError,
    JournalReadOnly,
    JournalTooNew,
    NotAJournal,
    PartitionConflict,
)
from .partition import WHOLE, Membership, Partition, new_journal_id

__all__ = [
    "APPLICATION_ID",
    "SqliteOptions",
    "WriterLock",
    "connect_reader",
    "connect_writer",
    "inspect",
    "inspect_header",
    "membership_of",
    "recorded_membership",
    "schema_script",
]

APPLICATION_ID = 0x486F6C64
"""The four bytes "Hold", at offset 68 of every journal."""

_MIGRATIONS = ("schema.sql", "schema_2.sql")
"""The script at index n takes a journal from schema n to n + 1. Append to it; never edit one that was released."""

_PARTITIONED = 2
"""The schema from which on a journal records which partition of which journal it is."""

_WAL_PAGES = 4000
"""Pages in the WAL before a commit moves them into the file. Four times SQLite's own: fewer, larger stalls."""

_BUSY_MS = 5000
"""How long to wait for a foreign program that locks the file, say an `sqlite3` shell in a transaction."""

_MMAP_BYTES = 2 << 30
"""How much of the file is read in place, without a call to the system and a copy for each page: as much as SQLite will
map, as it is mostly built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """How one journal file is driven.

    `synchronous`: "full" flushes every commit to the disk; "normal" survives the loss of the process, but the
    loss of power can take the newest commits with it. `cache_mib`: page cache of each of the two connections.
    `lock_wait_s`: how long `open` waits for another writer to leave.
    """

    synchronous: str = "full"
    cache_mib: int = 64
    lock_wait_s: float = 10.0


class WriterLock:
    """The right to write one journal, held by one open file description of `<file>.writer`.

    The file stays behind when the lock is gone: removing it would let two writers hold two files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Self | str:
        """Take the lock without waiting; if somebody has it, return who that is."""
        descriptor = os.open(f"{path}.writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except BlockingIOError:
            with os.fdopen(descriptor, "rb") as held:
                return _holder(held.read())
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let the next writer in."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _holder(note: bytes) -> str:
    try:
        holder = json.loads(note)
        return f"pid {holder['pid']} on host {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not said who it is yet"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def inspect(path: Path) -> None:
    """Refuse what cannot be, or become, a journal. Opens nothing but the first 100 bytes, and changes nothing."""
    if path.is_dir():
        raise NotAJournal(str(path), "is a folder")
    if not path.parent.is_dir():
        raise JournalOpenError(str(path), f"there is no folder {path.parent}")
    if path.exists():
        inspect_header(path)
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise JournalReadOnly(str(path), "the file cannot be written")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise JournalReadOnly(str(path), f"the folder {path.parent}, which must hold its log, cannot be written")


def inspect_header(path: Path) -> None:
    """Refuse a file that is no journal, from its first 100 bytes; an empty one passes, and one that was cut short."""
    if not path.is_file():
        raise NotAJournal(str(path), "is no regular file")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except PermissionError as error:
        raise JournalReadOnly(str(path), "the file cannot be read") from error
    if not header or _interrupted(path):
        return  # An empty file becomes a journal; a half-written one is for SQLite to roll back first.
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise NotAJournal(str(path), "is not an SQLite file")
    _check_identity(path, int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))


def schema_script(schema: int) -> str:
    """What makes a new file of a schema: every migration up to it."""
    folder = Path(__file__).parent
    return "\n".join((folder / script).read_text(encoding="utf-8") for script in _MIGRATIONS[:schema])


def _interrupted(path: Path) -> bool:
    """Whether a rollback log stands beside the file: its transaction was cut short, its header means nothing."""
    log = Path(f"{path}-journal")
    return log.exists() and log.stat().st_size > 0


def _check_identity(path: Path, application_id: int, schema: int) -> None:
    if application_id != APPLICATION_ID:
        raise NotAJournal(str(path), f"is an SQLite file of another application (id {application_id:#x})")
    if schema > len(_MIGRATIONS):
        raise JournalTooNew(str(path), schema, len(_MIGRATIONS))


def flush_log(path: Path) -> None:
    """Flush what a writer that was killed may have left in the log without a flush: whoever finds a commit there takes
    it for durable. Before the first connection: to close a file that SQLite has open would drop its locks."""
    log = Path(f"{path}-wal")
    if log.exists():
        for name in (log, path.parent):
            file = os.open(name, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def connect_writer(
    path: Path, options: SqliteOptions, partition: Partition = WHOLE, journal_id: bytes = b""
) -> sqlite3.Connection:
    """Open the one connection that writes, after creating or migrating the file. The lock is held. `journal_id`: which
    journal it must be of; without one the file's own counts, and a new file draws one."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
    except sqlite3.OperationalError as error:
        raise JournalOpenError(str(path), str(error)) from error
    try:
        _prepare(connection, options)
        connection.execute("PRAGMA auto_vacuum = NONE")
        _migrate(connection, path, Membership(partition, journal_id))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        # This build of SQLite may be set to overwrite what is deleted; only snapshots are, and they are no secret.
        connection.execute("PRAGMA secure_delete = OFF")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            raise _open_error(path, error) from error
        raise
    return connection


def connect_reader(path: Path, options: SqliteOptions, *, immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that cannot write. Reads through it never wait for the writer, nor the writer for them.
    `immutable`: nobody writes, and SQLite leaves nothing beside the file."""
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_MS / 1000)
    except sqlite3.OperationalError as error:
        raise JournalOpenError(str(path), str(error)) from error
    try:
        _prepare(connection, options)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise _open_error(path, error) from error
    return connection


def _prepare(connection: sqlite3.Connection, options: SqliteOptions) -> None:
    connection.text_factory = bytes
    connection.execute(f"PRAGMA cache_size = {-options.cache_mib * 1024}")
    connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
    connection.execute("PRAGMA recursive_triggers = ON")


def _migrate(connection: sqlite3.Connection, path: Path, wanted: Membership) -> None:
    """Bring the file to the newest schema: a new one in one transaction, an older one in one for each step."""
    if _pragma(connection, "application_id") or _pragma(connection, "schema_version"):
        _check_identity(path, _pragma(connection, "application_id"), _pragma(connection, "user_version"))
    found = _pragma(connection, "user_version")
    recorded = recorded_membership(connection, path) if found else wanted
    if recorded.partition != wanted.partition:
        raise PartitionConflict(str(path), str(recorded.partition), str(wanted.partition))
    if wanted.journal_id and recorded.journal_id != wanted.journal_id:
        raise ForeignPartition(str(path), recorded.journal_id.hex(), wanted.journal_id.hex())
    steps = [_step(schema, recorded) for schema in range(found + 1, len(_MIGRATIONS) + 1)]
    for statements in steps if found else ["".join(steps)]:
        connection.executescript(f"BEGIN IMMEDIATE;\n{statements}COMMIT;")


def _step(schema: int, membership: Membership) -> str:
    """What takes a file to this schema from the one before."""
    statements = (Path(__file__).parent / _MIGRATIONS[schema - 1]).read_text(encoding="utf-8")
    if schema == _PARTITIONED:
        partition, id = membership.partition, membership.journal_id or new_journal_id()
        statements += f"\nINSERT INTO journal VALUES (1, {partition.number}, {partition.count}, x'{id.hex()}');"
    return f"{statements}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {schema};\n"


def membership_of(path: Path) -> Membership:
    """What a file records that is a journal. Raises `JournalOpenError`s. Read through SQLite alone: this process may
    have it open, and to close it otherwise would drop its locks."""
    connection = connect_reader(path, SqliteOptions())
    try:
        _check_identity(path, _pragma(connection, "application_id"), _pragma(connection, "user_version"))
        return recorded_membership(connection, path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _open_error(path, error) from error
    finally:
        connection.close()


def recorded_membership(connection: sqlite3.Connection, path: Path) -> Membership:
    """Which partition a file is that is a journal, and of which. Raises `JournalOpenError` if it does not say."""
    if _pragma(connection, "user_version") < _PARTITIONED:
        return Membership()
    rows = connection.execute("SELECT partition, partitions, id FROM journal").fetchall()
    if len(rows) != 1 or [type(value) for value in rows[0]] != [int, int, bytes]:
        raise JournalOpenError(str(path), "it does not say which partition of a journal it is")
    return Membership(Partition(*rows[0][:2]), rows[0][2])


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _open_error(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return JournalReadOnly(str(path), str(error))
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or isinstance(error, UnicodeDecodeError):
        return NotAJournal(str(path), str(error))
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(str(error))
    return JournalOpenError(str(path), str(error))
