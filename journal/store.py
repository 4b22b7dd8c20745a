"""The contract of a journal's storage. `memory`, `sqlite` and what comes later keep every promise below;
`tests/conformance/` holds each of them to it.

**Atomic.** An `Append` is written whole or not at all. A batch is one transaction and one flush to disk; an
append that fails its check fails alone, its neighbours are written.

**Durable.** When `append` returns, what it reports as `Appended` survives the loss of the process and, where
the store is on disk, of the machine's power.

**Ordered.** Versions of a stream are contiguous from 1. Positions are contiguous from 1 over the whole journal (over
each partition of one that has several: each has a store of its own, and knows of no other), assigned in commit order
by the one writer: who sees position p has seen, or can read, all before it.

**Fenced.** `claim` gives each owner's new incarnation a higher epoch. From then on appends and loads that carry
an older epoch get `Fenced`, whatever version they expect. The newest claim wins. A claim may also bring an epoch that
partition 0 of the same journal has drawn (`partitioned.py`): it counts here as if it had been drawn here, unless a
newer one has been here before it. Epochs of an owner then rise, but not by one.

**Idempotent.** The same `Append` sent again (same stream, expected version, events and keyed replies, byte for
byte) returns the same `Appended` and writes nothing, also after later appends. One that carries the same commands
with other events is another append, and conflicts: its owner must read what was decided the first time. The same
`claim` by the same incarnation returns the same epoch: one that arrives a second time, late, gets an epoch that is
fenced by now, and fences nobody.

**Indexed.** Pending reminders are what a fold over the events says (`reminders.py`), at every moment that anybody can
see: they change in the transaction of the append that holds the events, with it or not at all. An append that is
refused, or recognised as one sent again, changes nothing.

**Immutable.** Events and keyed replies are never updated or deleted. Snapshots are a cache and may go.

**Bounded.** A page of events ends at its `limit`, or before the event that would take it over `PAGE_BYTES_MAX`
(`pages.py`), whichever is first; one event goes whatever its size. So **a short page is not the end**: go on after its
last event until a page is empty. A `Loaded` holds such a page too, at least one event while there are any; its `head`
tells how many there are. Loads beyond `LOADS_BYTES_MAX` of one batch get `JournalBusy`, in their places, and are asked
again; the first of a batch is always answered. `after` and `limit` below 0 count as 0.

**Checked.** An event that does not match its checksum raises `CorruptRecord`; a snapshot that does not is passed
over for an older one, or none.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .errors import JournalError
from .histogram import Histogram
from .records import (
    Append,
    Appended,
    Checkpoint,
    Load,
    Loaded,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .wire import encode

__all__ = ["Store", "packed"]


class Store(ABC):
    """Where one journal keeps its events. Used by one event loop; methods may be called concurrently."""

    @property
    def flushes(self) -> Histogram | None:
        """How many seconds its flushes to the disk took; None where they are not its own to make."""
        return None

    @abstractmethod
    async def open(self) -> None:
        """Take the journal for writing; create or migrate it when needed. Raises `JournalOpenError`s."""

    @abstractmethod
    async def close(self) -> None:
        """Release it. What was acknowledged stays. Closing twice is harmless."""

    @abstractmethod
    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        """Make `incarnation` the owner called `owner` and return its epoch: one above the last (from 1), or `epoch`
        where that is not 0. Raises `Fenced` if `epoch` is below the current one, or another incarnation has it."""

    @abstractmethod
    async def confirm(self, owner: str, epoch: int) -> None:
        """Return if `epoch` is the current one of `owner`; raise `Fenced` if it is not (0: never claimed)."""

    @abstractmethod
    async def register(self, category: str, placement: str, code: str) -> Registration:
        """Record how an aggregate type is placed, and which code it was opened with.

        First use records `placement`; later use with another raises `PlacementConflict`. A `code` other than the
        recorded one replaces it and raises `generation` by one; an empty one asks, and leaves what is recorded.
        """

    @abstractmethod
    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        """Write a batch in one transaction; the results stand in the order of the batch.

        Each is `Appended`, or the error of that append alone: `Fenced`, `VersionConflict`, `DuplicateKey`.
        Checks run in that order, and see the appends that stand before them in the batch. What storage cannot
        hold (text that is no Unicode, a time beyond 64 bits, an event of a reminder whose payload does not say which,
        or when) gets `Unstorable` in its place, a stream that is damaged
        where it must be written `CorruptRecord`. If the transaction itself fails, nothing was written and
        `JournalFailed` is raised (`JournalFull` when room is all that is missing); if storage cannot even say that
        for certain, `JournalUnavailable` is, and `JournalLost` when its file is not there any more.
        """

    @abstractmethod
    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        """Hydrate many at once; the results stand in the order of the batch, errors (`Fenced`, `CorruptRecord`,
        `JournalBusy` for those that the bytes of one batch do not reach) in their places. A stream nobody has
        written loads as `Loaded(None, (), 0)`."""

    @abstractmethod
    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        """A page of up to `limit` events of one stream; empty at its end, and only there. Forward: versions
        `after + 1 …` rising. Backward: versions below `after`, falling; `after=0` then starts at the newest. An
        unknown stream is empty. A version that should be there and is not raises `CorruptRecord`."""

    @abstractmethod
    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        """A page of up to `limit` events with positions above `after`, rising; of one category, or of all. Empty at
        the end, and only there."""

    async def pack_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> tuple[bytes, int]:
        """The page that `read_all` gives, as it travels (`wire.encode`), and the position of its last event; 0 for an
        empty one. A store that reads in a thread packs there: see `wire.PackedPage`."""
        return packed(await self.read_all(after=after, limit=limit, category=category))

    @abstractmethod
    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        """Which of these generated command ids are done, and what they answered. Looks back over the newest
        `window` versions of the stream."""

    @abstractmethod
    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Which of these idempotency keys are recorded in the stream, and what they answered."""

    @abstractmethod
    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        """Keep these, and of each stream the newest `keep`. One whose version the stream has not reached, or
        whose version and schema are already there intact, is passed over silently."""

    @abstractmethod
    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """The intact snapshots of a stream, newest first."""

    @abstractmethod
    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember how far the reader called `checkpoint.name` has come, in place of what was remembered of it: durable
        when this returns. Raises `Fenced` unless `epoch` is the current one of `owner`, which is checked in the same
        transaction: who has been succeeded moves nothing.

        Any position is taken, one that is further back too: that is how a reader begins anew. A save whose answer was
        lost may be carried out late, after a newer one of the same epoch. Who goes on from a checkpoint may therefore
        meet events again, and must claim anew before it sets one back: then no older save can bring it forward.
        """

    @abstractmethod
    async def find_checkpoint(self, name: str) -> int:
        """The position that was saved last under this name; 0 if none was: its reader begins at the beginning."""

    @abstractmethod
    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        """Up to `limit` pending reminders of a category that are due at `until` or before, in the order of `due`;
        those of one moment in an order of the store's own, which stays the same. `until`: µs since 1970 UTC.

        `after`: only those that come after this one in that order, whether or not it is still there: the way past
        reminders that cannot be fired now. Takes as long as its answer is long, however many are pending.
        """

    @abstractmethod
    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        """Streams with their versions, ordered by category and id, after a given one."""

    @abstractmethod
    async def head(self) -> int:
        """The newest position (0: the journal is empty)."""

    @abstractmethod
    async def statistics(self) -> StoreStatistics:
        """What is stored, and what was done since opening."""


def packed(page: Sequence[Recorded]) -> tuple[bytes, int]:
    """A page as `Store.pack_all` gives it."""
    return encode(page), page[-1].position if page else 0
