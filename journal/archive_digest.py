"""Digests of what a journal holds: equal for equal contents, whatever store they are in.

**Of the contents**, for each category and in total: the sum, modulo 2**256, of the SHA-256 of each event (without its
position) and of each keyed reply. An event says which version of which stream it is, so the sum knows the order within
each stream; it knows no order between streams. So it is the same however many partitions the journal is spread over.
It finds what was lost, doubled or changed by accident; a sum is no proof against whoever makes up events to fit.

**Of the order**, for each partition: the SHA-256 of its positions and of its events' own, one after the other. Two
journals in which these are equal too have every event at the same place.

Constant memory: a number for each category, a running digest for each partition.
"""

import hashlib
from typing import Any

import msgspec

__all__ = ["CategoryContents", "Contents", "ContentsDigest", "PartitionContents"]

_MASK = (1 << 256) - 1


class CategoryContents(msgspec.Struct, frozen=True, kw_only=True):
    """What is in one category."""

    category: str
    events: int
    keyed_replies: int
    digest: str


class PartitionContents(msgspec.Struct, frozen=True, kw_only=True):
    """What is in one partition. `position`: of its last event."""

    partition: int
    events: int
    position: int
    digest: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal, or an archive, holds."""

    digest: str
    events: int
    keyed_replies: int
    categories: tuple[CategoryContents, ...]
    partitions: tuple[PartitionContents, ...]


class _Category:
    __slots__ = ("events", "keyed_replies", "sum")

    def __init__(self) -> None:
        self.events = self.keyed_replies = self.sum = 0


class _Partition:
    __slots__ = ("events", "order", "position")

    def __init__(self) -> None:
        self.order: Any = hashlib.sha256()
        self.events = self.position = 0


class ContentsDigest:
    """Takes in records one by one. Nothing of them is kept."""

    def __init__(self, partitions: int) -> None:
        self._categories: dict[str, _Category] = {}
        self._partitions = [_Partition() for _ in range(partitions)]
        self.events = self.keyed_replies = 0

    def event(self, category: str, partition: int, position: int, fact: bytes | memoryview) -> None:
        """An event: its encoded `ArchivedFact`, and where it stands."""
        own = hashlib.sha256(fact).digest()
        of = self._categories.get(category) or self._categories.setdefault(category, _Category())
        of.sum += int.from_bytes(own, "big")
        of.events += 1
        part = self._partitions[partition]
        part.order.update(position.to_bytes(8, "big") + own)
        part.events += 1
        part.position = position
        self.events += 1

    def keyed_reply(self, category: str, encoded: bytes) -> None:
        """A keyed reply: its encoded `ArchivedKey`."""
        of = self._categories.get(category) or self._categories.setdefault(category, _Category())
        of.sum += int.from_bytes(hashlib.sha256(b"key" + encoded).digest(), "big")
        of.keyed_replies += 1
        self.keyed_replies += 1

    def position(self, partition: int) -> int:
        """Of the last event of a partition."""
        return self._partitions[partition].position

    def contents(self) -> Contents:
        """What was taken in so far."""
        categories = tuple(
            CategoryContents(
                category=name,
                events=of.events,
                keyed_replies=of.keyed_replies,
                digest=(of.sum & _MASK).to_bytes(32, "big").hex(),
            )
            for name, of in sorted(self._categories.items())
        )
        total = hashlib.sha256()
        for each in categories:
            total.update(msgspec.msgpack.encode(msgspec.structs.astuple(each)))
        return Contents(
            digest=total.hexdigest(),
            events=self.events,
            keyed_replies=self.keyed_replies,
            categories=categories,
            partitions=tuple(
                PartitionContents(
                    partition=number, events=part.events, position=part.position, digest=part.order.hexdigest()
                )
                for number, part in enumerate(self._partitions)
            ),
        )
