"""Partitions: a journal of `?partitions=n` is n storages, each with a writer, a group commit and positions of its own.

A stream lies in one partition whole, always the same one, and `partition_of` says which: the CRC-32 of
`category/id`, modulo the count. That is part of the format, as a checksum is. Another function, or another count, would
look for a stream where it is not and find it empty; so both are fixed when a journal is created, each partition records
its number and the count, and opening as anything else raises `PartitionConflict`. It also records the journal's id,
random bytes that all its partitions have in common: one of another journal would hold other streams, and have been
written under other epochs, so it is refused (`ForeignPartition`).

Partition 0 is the journal: it alone creates the others, all of them before itself, and it draws the epochs
(`partitioned.py`). So a partition that is missing beside a partition 0 that is there has been lost, and is never
made again as an empty one.
"""

import os
from dataclasses import dataclass

from .records import StreamId
from .rows import name_checksum

__all__ = ["PARTITIONS_MAX", "WHOLE", "Membership", "Partition", "new_journal_id", "partition_of"]

PARTITIONS_MAX = 64
"""Each is a process on a cluster, a file with two connections or a schema with a few sessions."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Which one of how many. A journal without partitions is partition 0 of 1."""

    number: int = 0
    count: int = 1

    @property
    def suffix(self) -> str:
        """What its number adds to the name of a file or a schema; nothing for the first."""
        return f"p{self.number}" if self.number else ""

    @property
    def others(self) -> "list[Partition]":
        """All of its journal but the first one."""
        return [Partition(number, self.count) for number in range(1, self.count)]

    def __str__(self) -> str:
        return f"partition {self.number} of {self.count}"


WHOLE = Partition()
"""All of a journal that has no partitions."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What a partition records of itself: which one it is, and of which journal. A journal of schema 1 has no id."""

    partition: Partition = WHOLE
    journal_id: bytes = b""


def new_journal_id() -> bytes:
    """Sixteen random bytes."""
    return os.urandom(16)


def partition_of(stream: StreamId, count: int) -> int:
    """The number of the partition that holds a stream, in a journal of `count`. A name that is no Unicode, and that no
    journal can hold, is for the first one to refuse."""
    try:
        return name_checksum(stream) % count
    except UnicodeEncodeError:
        return 0
