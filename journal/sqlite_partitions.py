"""The files of a partitioned SQLite journal: `bank.db`, `bank.db.p1`, `bank.db.p2` …, made by partition 0.

Partition 0 makes the others, one after the other, and itself last. A crash on the way leaves others without anything in
them, and the next start goes on from there, with the id that they have. From then on each file is opened by itself, and
none is ever made again:

- one of the others that is not there, beside a partition 0 that is, has been lost;
- a partition 0 that is not there, beside another one that has been written to, has been lost. (Nothing is written to a
  partition before its owner was claimed at partition 0.)

Either is told, and nothing is made in its place; so is a partition of another journal, by the id that partition 0 gave
to those it made. A file may be a symbolic link to another disk.
"""

import os
import re
import sqlite3
from contextlib import closing
from glob import escape
from pathlib import Path

from .errors import JournalLocked, JournalOpenError, JournalUnavailable, PartitionConflict
from .partition import Partition, new_journal_id
from .sqlite_file import (
    SqliteOptions,
    WriterLock,
    connect_reader,
    connect_writer,
    inspect,
    membership_of,
)

__all__ = ["check_made", "make_others", "partition_path"]

_USED = "SELECT EXISTS (SELECT 1 FROM owners)"


def partition_path(journal: str | os.PathLike[str], partition: Partition) -> Path:
    """The real file of a partition. It stands beside the real file of its journal, so that two names of one journal are
    one journal."""
    first = os.path.realpath(journal)
    return Path(os.path.realpath(f"{first}.{partition.suffix}") if partition.suffix else first)


def check_made(journal: Path, partition: Partition) -> bytes:
    """The id that a partition other than the first must have. Raises `PartitionConflict` if its journal has no such
    partition, `JournalOpenError` if it has been lost, `JournalUnavailable` if the first one has not made it yet."""
    if not partition.number:
        return b""
    if not _is_made(journal):  # looked at first: once it is there, all are
        raise JournalUnavailable(f"{journal}: its partitions have not been made yet")
    first = membership_of(journal)
    if first.partition != Partition(0, partition.count):
        raise PartitionConflict(str(journal), str(first.partition), str(partition))
    path = partition_path(journal, partition)
    if not _is_made(path):
        raise JournalOpenError(str(path), f"{partition} has been lost: partition 0 is there, this file is not")
    return first.journal_id


def make_others(journal: Path, partition: Partition, options: SqliteOptions) -> bytes:
    """For the first partition, whose lock is held: make all others, if it is about to be made. Return the id that it
    must have then; nothing if it may have any."""
    assert not partition.number, "the first one makes the others"
    if _is_made(journal):
        return b""
    _check_unused(journal)
    # Those that are there come first: whatever is wrong with them is found before anything is made.
    others = sorted(partition.others, key=lambda other: not _is_made(partition_path(journal, other)))
    journal_id = _id_of(partition_path(journal, others[0])) if others else b""
    for other in others:
        _make(journal, other, options, journal_id)
    return journal_id


def _id_of(path: Path) -> bytes:
    """What all partitions get: the id of the first one that an interrupted start has made, or a new one."""
    inspect(path)
    return (_is_made(path) and membership_of(path).journal_id) or new_journal_id()


def _check_unused(journal: Path) -> None:
    """Whatever count is asked for now: beside another partition that has been written to, the first one was lost."""
    for found in journal.parent.glob(f"{escape(journal.name)}.p*"):
        path = Path(os.path.realpath(found))
        if not re.fullmatch(r"p[1-9]\d?", found.name.removeprefix(f"{journal.name}.")) or not _is_made(path):
            continue
        try:
            recorded = membership_of(path).partition
        except JournalOpenError:
            continue  # it is no journal that we know: not ours, or for who opens it to tell
        if recorded.number and _is_used(path):
            problem = f"it has been lost: it is not there, and {path}, {recorded}, has been written to"
            raise JournalOpenError(str(journal), problem)


def _is_used(path: Path) -> bool:
    """Whether anybody has claimed an owner there, which comes before everything else; if in doubt, yes."""
    with closing(connect_reader(path, SqliteOptions())) as connection:
        try:
            ((used,),) = connection.execute(_USED).fetchall()
        except sqlite3.Error:
            return True
    return bool(used)


def _make(journal: Path, other: Partition, options: SqliteOptions, journal_id: bytes) -> None:
    path = partition_path(journal, other)
    inspect(path)
    lock = WriterLock.take(path)
    if not isinstance(lock, WriterLock):
        raise JournalLocked(str(path), lock)
    try:
        connection = connect_writer(path, options, other, journal_id)
        ((used,),) = connection.execute(_USED).fetchall()
        connection.close()
    finally:
        lock.release()
    if used:
        raise JournalOpenError(str(journal), f"it has been lost: it is not there, and {path} has been written to")


def _is_made(path: Path) -> bool:
    """Whether the transaction that makes a journal of this file is over. In this order: its pages come after its
    rollback log, and the log goes when they are there."""
    return _size(str(path)) > 0 and _size(f"{path}-journal") == 0


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
