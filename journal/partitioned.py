"""A partitioned journal as its callers see it: one client for each partition, each with its own batches and commits.

Whatever concerns a stream goes to the stream's partition. What concerns owners begins at partition 0, and how aggregate
types are registered stands there and nowhere else.

**Claims.** A claim goes to partition 0 first, which draws an epoch as it would without partitions: one above the last,
the same again for the same incarnation. Then it goes to all others with that epoch. Each takes it if it is the highest
it has seen of that owner, and refuses it with `Fenced` if not. Only an owner whose claim every partition took begins to
serve.

Why no two owners of one name both write one stream, however their claims, losses and repetitions interleave:

1. Partition 0 gives no epoch to two incarnations. So an epoch names one incarnation, everywhere.
2. At one partition the current epoch of an owner only rises, and an append or a load is answered only at the current
   one. So once a partition has taken a claim, nobody with a lower epoch writes or hydrates there, ever again. A stream
   lies in one partition whole: as without partitions, each stream's writers follow one another by rising epochs.
3. An owner hydrates a stream after its claim was taken where the stream lies, at its own epoch. What its predecessor
   wrote there it reads; by 2, the predecessor writes nothing after that.
4. Two claimers that run at once are ordered by the epochs that they drew. The lower one may have been taken at some
   partitions before the higher one came, and is refused at those where the higher one was first; in the end the higher
   one is current everywhere it has been. If it dies half way, the lower one is refused at partition 0 and wherever else
   the higher one got to, and still is the only writer where it did not: nobody else has been taken there. The next
   claim ends that, with an epoch above both.

**Confirming.** Every claim begins at partition 0, so an owner whose epoch is current *there* has not been succeeded
anywhere: what it holds in memory is the newest there is. That one question is enough for a linearizable query.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from heapq import merge
from typing import TypeVar

from .batcher import Answered
from .client import JournalClient
from .partition import partition_of
from .positions import Positions
from .records import (
    Append,
    Appended,
    Load,
    Loaded,
    Recorded,
    Registration,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)

__all__ = ["PartitionedJournal"]

T = TypeVar("T")


class PartitionedJournal:
    """A `Journal` of several partitions. `parts`: the way to each, in order."""

    def __init__(self, parts: Sequence[JournalClient]) -> None:
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        return f"<journal of {len(self.parts)} partitions>"

    def _part(self, stream: StreamId) -> JournalClient:
        return self.parts[partition_of(stream, len(self.parts))]

    # Owners and aggregate types

    async def claim(self, owner: str, incarnation: str) -> int:
        """Claim at partition 0, then at all others with the epoch that it drew. See above."""
        first, *others = self.parts
        epoch = await first.claim(owner, incarnation)
        await _all(other.claim(owner, incarnation, epoch) for other in others)
        return epoch

    async def confirm(self, owner: str, epoch: int) -> None:
        """Ask partition 0, where every claim begins."""
        await self.parts[0].confirm(owner, epoch)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        """At partition 0."""
        return await self.parts[0].register(category, placement, code)

    # Streams

    @property
    def appends_sent(self) -> int:
        """Appends handed to any partition."""
        return sum(part.appends_sent for part in self.parts)

    @property
    def append_batches(self) -> int:
        """Requests that carried them."""
        return sum(part.append_batches for part in self.parts)

    def append(self, append: Append, size: int = 0) -> "asyncio.Future[Appended]":
        """Append, together with whatever else waits for the same partition. `position`: there."""
        return self._part(append.stream).append(append, size)

    def hand_over(self, append: Append, size: int, answered: Answered[Appended]) -> None:
        """Append, and have `answered` called with the answer."""
        self._part(append.stream).hand_over(append, size, answered)

    def load(self, load: Load) -> "asyncio.Future[Loaded]":
        """Hydrate, together with whatever else waits for the same partition."""
        return self._part(load.stream).load(load)

    def request(self, load: Load, answered: Answered[Loaded]) -> None:
        """Hydrate, and have `answered` called with the answer."""
        self._part(load.stream).request(load, answered)

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        """See `Store.read_stream`."""
        return await self._part(stream).read_stream(stream, after=after, limit=limit, backward=backward)

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        return await self._part(stream).find_replies(stream, ids, window=window)

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        return await self._part(stream).find_keyed(stream, keys)

    def kept(self, snapshot: Snapshot) -> Snapshot | None:
        """As it is: see `Journal.kept`."""
        return snapshot

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int) -> None:
        """See `Store.save_snapshots`. Those of one partition may be saved although another one's are not."""
        by_part: dict[JournalClient, list[Snapshot]] = {}
        for snapshot in batch:
            by_part.setdefault(self._part(snapshot.stream), []).append(snapshot)
        await _all(part.save_snapshots(snapshots, keep=keep) for part, snapshots in by_part.items())

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        return await self._part(stream).list_snapshots(stream)

    # All of it

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`: each partition lists as many as are wanted, and the first of all of them are."""
        pages = await _all(part.list_streams(category=category, after=after, limit=limit) for part in self.parts)
        return list(merge(*pages))[: max(limit, 0)]

    async def head(self) -> Positions:
        """The newest position of each partition."""
        return Positions(tuple(await _all(part.head() for part in self.parts)))

    async def statistics(self) -> StoreStatistics:
        """Summed."""
        counts = await _all(part.statistics() for part in self.parts)
        names = StoreStatistics.__struct_fields__
        return StoreStatistics(**{name: sum(getattr(each, name) for each in counts) for name in names})


async def _all(requests: Iterable[Awaitable[T]]) -> list[T]:
    """All answers, when all are there: nothing goes on behind the back of whoever asked. Else the first error."""
    answers = await asyncio.gather(*requests, return_exceptions=True)
    found: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found
