"""Backing up: a copy of a journal that opens as one, made while it is written.

**SQLite** copies its own files. A read transaction is begun on each partition, so each copy is of one moment; writers
go on, and their log grows until the copies are done. The steps, and what a crash leaves:

1. The moments are taken: partition 0 last, since it draws the epochs, and must know each that another one has.
2. Each file is copied to `<name>.part`, checked by SQLite (`quick_check`), read whole for its SHA-256, and flushed.
   A crash leaves files named `.part`; the next backup writes over them.
3. They get their names, partition 0 last. A crash leaves partitions without their first one, which do not open as a
   journal and say so.

**PostgreSQL** is read in one snapshot of the database, the same for all partitions, into an archive: what brings it
back is an import. For a large database that must be back in minutes, use what the server has (pg_dump, base backups
with a write-ahead log): `docs/backup.md` says when.

A backup is behind the journal that it was made of. Followers and read models that have gone on since are found when
they start (`ReadModelAhead`); whoever restores one stops every runtime of the old journal first.
"""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Collection
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from .archive_digest import Contents
from .archive_errors import BackupFailed
from .archive_export import export, open_archive_sources
from .archive_sqlite import SqliteSnapshot
from .errors import ForeignPartition, JournalUnavailable, PartitionConflict
from .partition import WHOLE, Membership, Partition
from .progress import Progress, unseen
from .sqlite_file import SqliteOptions, connect_reader, recorded_membership
from .sqlite_partitions import partition_path
from .url import JournalUrl

__all__ = ["Backup", "BackupFile", "backup", "written_whole"]

_PAGES = 2048
"""Pages in one step of a copy: after each, its progress is told, and it can be broken off."""

_READ_BYTES = 1 << 20
_AGAIN_MAX = 3


class BackupFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `position`: of its newest event."""

    file: str
    partition: int
    position: int
    bytes: int
    sha256: str


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. `kind`: "journal", which opens as it is, or "archive", to be imported. `contents`: of an
    archive."""

    kind: str
    files: tuple[BackupFile, ...]
    journal_id: str
    contents: Contents | None = None


async def backup(
    url: str,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    snapshots: bool = False,
    compress: bool = False,
    progress: Progress = unseen,
) -> Backup:
    """Make a backup of the journal that a URL names at `path`; of one in partitions, beside it too.

    `force`: in place of what is there. `snapshots`, `compress`: of an archive. Raises `BackupFailed`, and
    `JournalOpenError`s where there is no journal to be read."""
    parsed, path = JournalUrl.parse(url), Path(os.path.abspath(path))  # noqa: ASYNC240 - it looks at no file
    if parsed.scheme == "sqlite":
        stop = _Stop()
        try:
            return await asyncio.to_thread(_back_up, parsed, path, force, progress, stop)
        except asyncio.CancelledError:
            stop.asked = True
            raise
    if parsed.scheme == "postgres":
        return await _archived(url, path, force, snapshots, compress, progress)
    raise BackupFailed(parsed.redacted, "a journal in memory has nothing that could be copied")


class _Stop:
    """Whether the thread that copies is to break off."""

    asked = False


class _Stopped(Exception):
    """It did."""


# SQLite


def _back_up(url: JournalUrl, path: Path, force: bool, progress: Progress, stop: _Stop) -> Backup:
    for left in reversed(range(_AGAIN_MAX)):
        try:
            return _copied(url, path, force, progress, stop)
        except JournalUnavailable:  # a file that nobody wrote has got a writer
            if not left:
                raise
    raise AssertionError("the last one returns, or raises")


def _copied(url: JournalUrl, path: Path, force: bool, progress: Progress, stop: _Stop) -> Backup:
    first = partition_path(url.path, WHOLE)
    with ExitStack() as opened:
        moments = _moments(url, first, opened)
        count = len(moments)
        targets = [_target(path, Partition(number, count)) for number in range(count)]
        for target in targets:
            _check_target(target, force, {moment.path for moment in moments})
        journal_id = recorded_membership(moments[0].connection, first).journal_id.hex()
        try:
            files = [
                _copy(moment, target, Partition(number, count), progress, stop)
                for number, (moment, target) in enumerate(zip(moments, targets, strict=True))
            ]
            made = Backup(kind="journal", files=tuple(files), journal_id=journal_id)
            if count > 1:
                _write_manifest(path, made)
        except BaseException as error:
            for target in targets:
                _remove(_part(target))
            if isinstance(error, sqlite3.Error | OSError):
                raise BackupFailed(str(path), str(error)) from error
            raise
    for target in reversed(targets):
        os.replace(_part(target), target)
    _flush_folder(path)
    return made


def _moments(url: JournalUrl, first: Path, opened: ExitStack) -> list[SqliteSnapshot]:
    """The files of all partitions, each in a read transaction, in their order; the first one's was begun last."""

    def reading(path: Path) -> SqliteSnapshot:
        moment = SqliteSnapshot(path)
        opened.callback(moment.close)
        return moment

    whole = reading(first)
    recorded = recorded_membership(whole.connection, first)
    count = recorded.partition.count
    if url.partitions not in (1, count) or recorded.partition.number:
        raise PartitionConflict(str(first), str(recorded.partition), str(Partition(0, url.partitions)))
    moments = [reading(partition_path(first, Partition(number, count))) for number in range(1, count)]
    for number, moment in enumerate(moments, 1):
        _check(moment, Membership(Partition(number, count), recorded.journal_id))
    for moment in (*moments, whole):
        moment.connection.execute("BEGIN")
        moment.connection.execute("SELECT 1 FROM categories LIMIT 1").fetchall()  # from here on it is one moment
    return [whole, *moments]


def _check(moment: SqliteSnapshot, wanted: Membership) -> None:
    found = recorded_membership(moment.connection, moment.path)
    if found.partition != wanted.partition:
        raise PartitionConflict(str(moment.path), str(found.partition), str(wanted.partition))
    if found.journal_id != wanted.journal_id:
        raise ForeignPartition(str(moment.path), found.journal_id.hex(), wanted.journal_id.hex())


def _target(path: Path, partition: Partition) -> Path:
    return path.with_name(f"{path.name}.{partition.suffix}") if partition.suffix else path


def _check_target(target: Path, force: bool, sources: Collection[Path]) -> None:
    if Path(os.path.realpath(target)) in sources:
        raise BackupFailed(str(target), "is the journal itself")
    if not target.parent.is_dir():
        raise BackupFailed(str(target), f"there is no folder {target.parent}")
    if target.exists() and not force:
        raise BackupFailed(str(target), "is there already; name another file, or write over it with --force")
    for beside in (f"{target}-wal", f"{target}-shm", f"{target}-journal"):
        if os.path.exists(beside):
            raise BackupFailed(str(target), f"{beside} stands beside it: a journal there is in use, or was left open")


def _copy(moment: SqliteSnapshot, target: Path, partition: Partition, progress: Progress, stop: _Stop) -> BackupFile:
    part = _part(target)
    _remove(part)
    step = f"copying {partition}" if partition.count > 1 else "copying"

    def told(status: int, remaining: int, total: int) -> None:
        if stop.asked:
            raise _Stopped
        progress(step, total - remaining, total)

    with closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is flushed as a whole
        moment.connection.backup(copy, pages=_PAGES, progress=told, sleep=0.01)
    moment.check()
    position = _checked(part, partition)
    with part.open("rb") as file:
        os.fsync(file.fileno())
        return BackupFile(
            file=target.name,
            partition=partition.number,
            position=position,
            bytes=os.fstat(file.fileno()).st_size,
            sha256=hashlib.file_digest(file, "sha256").hexdigest(),
        )


def _checked(part: Path, partition: Partition) -> int:
    """Whether SQLite finds the copy whole, and it says that it is what it should be. The position of its newest
    event."""
    with closing(connect_reader(part, SqliteOptions(), immutable=True)) as connection:
        found: list[tuple[Any, ...]] = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [(b"ok",)]:
            raise BackupFailed(str(part), f"the copy is damaged, as the journal may be: {found[0][0]!r}")
        recorded = recorded_membership(connection, part).partition
        if recorded != partition:
            raise PartitionConflict(str(part), str(recorded), str(partition))
        return int(connection.execute("SELECT max(position) FROM events").fetchone()[0] or 0)


def _write_manifest(path: Path, made: Backup) -> None:
    """What belongs together. It comes before the files have their names: they are what it says, or not there."""
    manifest = path.with_name(f"{path.name}.manifest.json")
    written = _part(manifest)
    with written.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(written, manifest)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-journal")):
        with suppress(FileNotFoundError):
            name.unlink()


def _flush_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# PostgreSQL


async def _archived(url: str, path: Path, force: bool, snapshots: bool, compress: bool, progress: Progress) -> Backup:
    _check_target(path, force, ())
    part = _part(path)
    sources = await open_archive_sources(url, one_moment=True)
    try:
        with part.open("wb") as file:
            contents = await export(sources, file, snapshots=snapshots, compress=compress, progress=progress)
        made = await asyncio.to_thread(_archive_file, part, path, contents)
    except OSError as error:
        _remove(part)
        raise BackupFailed(str(path), str(error)) from error
    except BaseException:
        _remove(part)
        raise
    finally:
        for source in sources:
            await source.close()
    return Backup(kind="archive", files=(made,), journal_id=sources[0].membership.journal_id.hex(), contents=contents)


def _archive_file(part: Path, path: Path, contents: Contents) -> BackupFile:
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    written_whole(part, path)
    position = contents.partitions[0].position if len(contents.partitions) == 1 else 0
    return BackupFile(file=path.name, partition=0, position=position, bytes=size, sha256=digest)


def written_whole(part: Path, path: Path) -> None:
    """Give a file that is finished its name, and have both on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    _flush_folder(path)
