"""What an export reads: one partition of a journal up to its cut, beside whoever writes it.

A `Store` is opened by its one writer; an `ArchiveSource` reads beside it. It waits for nobody and nobody waits for it:
each page is a short read transaction of its own (or, of PostgreSQL, all pages are of one snapshot, if that is asked
for). Pages are bounded by count and bytes. Every record is checked on its way out: a damaged one raises
`CorruptRecord`, and the archive is not finished.

**The cut.** `head` is asked first, and everything is read up to it: positions are contiguous and only grow, so those
events are the same whenever they are read. A keyed reply or a snapshot has no position; it has the version of its
stream that it was written at, and is on this side of the cut if that version is. A reply without an event of its own
that is recorded later, at the stream's version at the cut, may be in it or not: it says nothing that is not true there.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from .archive import ArchivedKey, ArchivedSnapshot, key_of, snapshot_of
from .errors import CorruptRecord
from .memory import MemoryStore
from .partition import WHOLE, Membership
from .records import KeyedReply, Recorded, StreamId
from .rows import name_checksum, read_keyed, read_snapshot

__all__ = ["PAGE", "ArchiveSource", "MemoryArchiveSource", "key_of_row", "snapshot_of_row"]

PAGE = 2000
"""Records in one page, at most."""


class ArchiveSource(ABC):
    """One partition. `category` in a set of them; an empty set: all. Raises `CorruptRecord` for what is damaged, and
    `JournalUnavailable` where nobody answers."""

    name: str
    membership: Membership

    @abstractmethod
    async def close(self) -> None:
        """Let go."""

    @abstractmethod
    async def head(self) -> int:
        """The newest position, now."""

    @abstractmethod
    def keyed_replies(
        self, upto: int, categories: Collection[str], after: tuple[str, str, str]
    ) -> AsyncIterator[Sequence[ArchivedKey]]:
        """Keyed replies up to a cut, in the order of category, id and key, after one of those."""

    @abstractmethod
    def events(self, after: int, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[Recorded]]:
        """Events after a position and up to a cut, in their order."""

    @abstractmethod
    async def checkpoints(self) -> list[tuple[str, int]]:
        """Names and positions of all checkpoints, by name."""

    @abstractmethod
    def snapshots(self, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[ArchivedSnapshot]]:
        """Intact snapshots up to a cut, in the order of category, id, version and schema."""


def key_of_row(category: str, row: Sequence[Any], upto: int) -> ArchivedKey | None:
    """A keyed reply; None if it is beyond the cut. `row`: `KEYED_COLUMNS`, the id of its stream, and the position of
    the event at its version."""
    *values, id, position = row
    stream = StreamId(category, id.decode())
    key, reply = read_keyed(stream, name_checksum(stream), tuple(values))
    if reply.version and position is None:
        raise CorruptRecord(str(stream), reply.version, 0, f"keyed reply {key!r} was recorded at it, and it is missing")
    if reply.version and position > upto:
        return None
    return key_of(stream, KeyedReply(key=key, fingerprint=reply.fingerprint, version=reply.version, reply=reply.reply))


def snapshot_of_row(category: str, row: Sequence[Any], upto: int) -> ArchivedSnapshot | None:
    """A snapshot; None if it is beyond the cut, or not intact: it is only a cache. `row`: as above."""
    *values, id, position = row
    stream = StreamId(category, id.decode())
    snapshot = read_snapshot(stream, name_checksum(stream), tuple(values))
    return snapshot_of(snapshot) if snapshot and position and position <= upto else None


class MemoryArchiveSource(ArchiveSource):
    """A store in memory: read while nothing else runs in its event loop."""

    def __init__(self, store: MemoryStore, membership: Membership | None = None) -> None:
        self.name, self.membership = "memory://", membership or Membership(WHOLE)
        self._store = store

    async def close(self) -> None:
        """It is its user's."""

    async def head(self) -> int:
        return await self._store.head()

    async def keyed_replies(
        self, upto: int, categories: Collection[str], after: tuple[str, str, str]
    ) -> AsyncIterator[Sequence[ArchivedKey]]:
        found = [
            key_of(stream, reply)
            for stream, reply in self._store.keyed_replies()
            if (not categories or stream.category in categories) and (*stream, reply.key) > after
        ]
        heads = {stream: await self._version(stream, upto) for stream, _ in self._store.keyed_replies()}
        known = [each for each in found if each.version <= heads[each.stream]]
        yield sorted(known, key=lambda each: (each.category, each.id, each.key))

    async def _version(self, stream: StreamId, upto: int) -> int:
        """Of a stream, at the cut."""
        events = [event for event in await self._store.read_all(limit=upto) if event.stream == stream]
        return len(events)

    async def events(self, after: int, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[Recorded]]:
        while after < upto and (page := await self._store.read_all(after=after, limit=min(PAGE, upto - after))):
            yield [event for event in page if not categories or event.stream.category in categories]
            after = page[-1].position

    async def checkpoints(self) -> list[tuple[str, int]]:
        return sorted((each.name, each.position) for each in self._store.checkpoints())

    async def snapshots(self, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[ArchivedSnapshot]]:
        found: list[ArchivedSnapshot] = []
        for stream, _ in await self._store.list_streams(limit=1 << 62):
            if not categories or stream.category in categories:
                version = await self._version(stream, upto)
                kept = await self._store.list_snapshots(stream)
                found += [snapshot_of(each) for each in kept if each.version <= version]
        yield sorted(found, key=lambda each: (each.category, each.id, each.version, each.schema))
