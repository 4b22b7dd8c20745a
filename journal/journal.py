"""The journal as its callers see it: cells, hosts and runtimes know this and not how many partitions there are.

`JournalClient` is one partition, which is all of a journal that has no others; `PartitionedJournal` is several of them.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from .batcher import Answered
from .client import JournalClient
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

__all__ = ["Journal"]


class Journal(Protocol):
    """What can be asked of a journal. What each method promises stands in `JournalClient` and `Store`."""

    @property
    def parts(self) -> Sequence[JournalClient]:
        """Its partitions, in order: positions are a matter of each."""
        ...

    @property
    def appends_sent(self) -> int:
        """Appends handed to it, each a cell's batch."""
        ...

    @property
    def append_batches(self) -> int:
        """Requests that carried them."""
        ...

    def append(self, append: Append, size: int = 0) -> "asyncio.Future[Appended]":
        """Append, together with whatever else waits for the same partition."""
        ...

    def hand_over(self, append: Append, size: int, answered: Answered[Appended]) -> None:
        """The same for callers that have very many under way."""
        ...

    def load(self, load: Load) -> "asyncio.Future[Loaded]":
        """Hydrate, together with whatever else waits for the same partition."""
        ...

    def request(self, load: Load, answered: Answered[Loaded]) -> None:
        """The same for callers that have very many under way."""
        ...

    async def claim(self, owner: str, incarnation: str) -> int:
        """Make `incarnation` the owner, everywhere. Raises `Fenced` if a newer one came in between."""
        ...

    async def confirm(self, owner: str, epoch: int) -> None:
        """Return if nobody has begun to take over from this owner."""
        ...

    async def register(self, category: str, placement: str, code: str) -> Registration:
        """See `Store.register`."""
        ...

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        """See `Store.read_stream`."""
        ...

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        ...

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        ...

    def kept(self, snapshot: Snapshot) -> Snapshot | None:
        """A snapshot of a state that is in memory now, as it may be kept: sealed, where it has to be. None: it may
        not."""
        ...

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int) -> None:
        """See `Store.save_snapshots`. Tried once."""
        ...

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        ...

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`: of all partitions, in one order."""
        ...

    async def head(self) -> int | Positions:
        """The newest position: a number where there is one partition, else one for each."""
        ...

    async def statistics(self) -> StoreStatistics:
        """See `Store.statistics`: summed over partitions."""
        ...
