"""What the writer of a PostgreSQL journal remembers: heads of streams, epochs of owners, the newest numbers in use.

There is no other writer, so what is remembered is the truth; whatever goes wrong forgets all of it. What a batch
needs and is not remembered is fetched in one round trip, so that deciding about the batch asks nobody. Bounded:
passive streams fall out, and the next batch that needs one fetches it again.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from .postgres_session import Session
from .records import StreamId
from .rows import name_checksum

__all__ = ["Head", "Heads"]

_REMEMBERED_MAX = 100_000
"""Streams and owners, each. The one remembered longest goes first."""

_SELECT_HEADS = (
    "SELECT true, a.n, s.key, s.category::bigint, (SELECT max(version) FROM events WHERE stream = s.key)"
    " FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS a (category, id, n), LATERAL"
    " (SELECT key, category FROM streams"
    " WHERE category = (SELECT key FROM categories WHERE name = a.category) AND id = a.id LIMIT 1) AS s"
    " UNION ALL"
    " SELECT false, a.n, (SELECT max(epoch) FROM owners WHERE owner = a.owner), 0, 0"
    " FROM unnest($3::bytea[]) WITH ORDINALITY AS a (owner, n)"
)
_SELECT_NEWEST = (
    "SELECT (SELECT max(position) FROM events), (SELECT max(key) FROM streams), array_agg(key), array_agg(name)"
    " FROM categories"
)

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


@dataclass(slots=True)
class Head:
    """One stream. `key` 0: nobody has written to it yet. `name`: where its checksums begin."""

    key: int
    category: int
    name: int
    version: int


class Heads:
    """Answers from memory what was recalled before."""

    def __init__(self) -> None:
        self.position = 0
        """The newest position, of the journal or of what is gathered for it."""
        self._stream = 0
        self._categories: dict[str, int] = {}
        self._streams = OrderedDict[StreamId, Head]()
        self._epochs = OrderedDict[str, int]()
        self._known = False

    async def recall(self, session: Session, streams: Iterable[StreamId], owners: Iterable[str]) -> None:
        """Fetch what is not remembered of these."""
        if not self._known:
            await self._recall_newest(session)
        missing = [stream for stream in dict.fromkeys(streams) if stream not in self._streams]
        unknown = [owner for owner in dict.fromkeys(owners) if owner not in self._epochs]
        if not missing and not unknown:
            return
        categories, ids = [s.category.encode() for s in missing], [s.id.encode() for s in missing]
        names = [owner.encode() for owner in unknown]
        for is_stream, n, first, category, version in await session.fetch(_SELECT_HEADS, categories, ids, names):
            if is_stream:
                stream = missing[int(n) - 1]
                self._streams[stream] = Head(first, category, name_checksum(stream), version or 0)
            else:
                self._epochs[unknown[int(n) - 1]] = first or 0

    async def _recall_newest(self, session: Session) -> None:
        ((position, stream, keys, names),) = await session.fetch(_SELECT_NEWEST)
        self.position, self._stream = position or 0, stream or 0
        self._categories = {name.decode(): key for key, name in zip(keys or (), names or (), strict=True)}
        self._known = True

    def head(self, stream: StreamId) -> Head:
        """The head of a stream; of one that nobody has written to, a new one that is not remembered."""
        head = self._streams.get(stream)
        return Head(0, 0, name_checksum(stream), 0) if head is None else head

    def epoch(self, owner: str) -> int:
        """The current epoch of an owner, 0 if nobody has claimed it."""
        return self._epochs.get(owner, 0)

    def claimed(self, owner: str, epoch: int) -> None:
        """Remember a claim."""
        self._epochs[owner] = epoch

    def create(self, stream: StreamId, head: Head) -> bool:
        """Give a stream that is new its key, and remember it. Whether its category is new as well."""
        self._stream += 1
        known = len(self._categories)
        category = self._categories.setdefault(stream.category, max(self._categories.values(), default=0) + 1)
        head.key, head.category = self._stream, category
        self._streams[stream] = head
        return len(self._categories) > known

    def trim(self) -> None:
        """Come back within bounds. Between transactions only: a head may be ahead of rows not yet inserted."""
        _trim(self._streams)
        _trim(self._epochs)

    def forget(self) -> None:
        """After a failure, or a new session: none of it may be true any more."""
        self._streams.clear()
        self._epochs.clear()
        self._categories.clear()
        self._known = False


def _trim(memory: OrderedDict[_K, _V]) -> None:
    while len(memory) > _REMEMBERED_MAX:
        memory.popitem(last=False)
