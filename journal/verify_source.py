"""What a verification reads: a journal's rows as they lie there, wrong ones included.

A `Store` hides what is wrong: it raises at the first damaged event, passes over damaged snapshots, and opens a
journal for writing. A `Source` reads beside the writer, changes nothing, and hands out every row with what is wrong
with it alone (`problem`); `verify` finds what is wrong between rows. Pages are bounded by count and bytes.

A store joins by one class. `StoreSource` reads any opened `Store` through its contract, and sees less: no keyed
replies, no owners, nothing that the store itself passes over.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from .errors import CorruptRecord, HoldfastError
from .partition import Membership, Partition
from .records import Recorded, Snapshot, StreamId
from .reminders import Change
from .store import Store
from .verify_report import Problem

__all__ = [
    "CheckpointRow",
    "EventRow",
    "Extent",
    "KeyedRow",
    "OwnerRow",
    "ReminderRow",
    "SnapshotRow",
    "Source",
    "StoreSource",
    "StreamRow",
    "Unreadable",
    "VersionRow",
]


class Unreadable(HoldfastError):
    """Storage cannot read what this step of a verification needs. The other steps may still say something."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class Extent(NamedTuple):
    """How far the journal goes at one moment. `newest`: the highest position that is there; `used`: the highest that
    ever was, as far as storage remembers. `categories`: all there are."""

    newest: int
    used: int
    categories: tuple[str, ...]


class EventRow(NamedTuple):
    """An event. `through`: the problem is that of all positions from this one to that. `key`: of its stream, as in
    `VersionRow`. `reminder`: what it says of one."""

    stream: str
    version: int
    position: int
    problem: str = ""
    through: int = 0
    key: int = 0
    reminder: Change | None = None


class VersionRow(NamedTuple):
    """Where one version of a stream is. `key` orders streams, and names one to `Source.stream_name`."""

    key: int
    version: int
    position: int


class StreamRow(NamedTuple):
    """A stream. `version`: of its newest event. `has_keys`: a keyed command that wrote no event makes a stream too."""

    stream: str
    version: int
    has_keys: bool
    problem: str = ""


class KeyedRow(NamedTuple):
    """A keyed reply. `head`: the version of its stream, now."""

    stream: str
    key: str
    version: int
    head: int
    problem: str = ""


class SnapshotRow(NamedTuple):
    """A snapshot. `key`: of its stream, as in `VersionRow`. `head`: its version, now. None: it cannot be read."""

    key: int
    stream: str
    version: int
    head: int
    snapshot: Snapshot | None
    problem: str = ""


class OwnerRow(NamedTuple):
    """A claim that is remembered."""

    owner: str
    epoch: int
    incarnation: str


class CheckpointRow(NamedTuple):
    """How far a reader says that it has come, and by which claim."""

    name: str
    owner: str
    epoch: int
    position: int


class ReminderRow(NamedTuple):
    """A row of the index of reminders. `key`: of its stream, as in `VersionRow`; `name`: the bytes of its UTF-8."""

    key: int
    stream: str
    name: bytes
    due: int
    problem: str = ""


class Source(ABC):
    """One journal to be verified. Each method reads what is there at that moment, or the moments of its pages;
    `category`: only rows of streams of that category. Raises `Unreadable` for what is damaged, and `JournalError`s
    for what keeps a verification from running at all."""

    name: str
    notes: Sequence[str] = ()
    """What this source cannot see."""
    membership: Membership | None = Membership()
    """Which partition of which journal it says that it is; None where that cannot be read."""
    indexed: bool = True
    """Whether it has checkpoints and an index of reminders that can be seen: not before schema 2."""

    @property
    def partition(self) -> Partition | None:
        """Which one it says that it is; None where that cannot be read."""
        return self.membership.partition if self.membership else None

    @abstractmethod
    async def close(self) -> None:
        """Let go. Raises `JournalUnavailable` if what was read may be no one journal."""

    @abstractmethod
    async def damage(self) -> list[Problem]:
        """What storage itself finds wrong with its files and tables."""

    @abstractmethod
    async def extent(self) -> Extent:
        """How far it goes, at one moment."""

    @abstractmethod
    def events(self, upto: int, category: str | None) -> AsyncIterator[Sequence[EventRow]]:
        """All events up to a position, in the order of positions, each checked by itself."""

    @abstractmethod
    def versions(self, upto: int, category: str | None) -> AsyncIterator[Sequence[VersionRow]]:
        """The same events by stream and version."""

    @abstractmethod
    async def stream_name(self, key: int) -> str:
        """For people: the stream behind the key of a `VersionRow`."""

    @abstractmethod
    def streams(self, category: str | None) -> AsyncIterator[Sequence[StreamRow]]:
        """All streams."""

    @abstractmethod
    def keyed_replies(self, category: str | None) -> AsyncIterator[Sequence[KeyedRow]]:
        """All keyed replies, each checked by itself."""

    @abstractmethod
    def snapshots(self, category: str | None) -> AsyncIterator[Sequence[SnapshotRow]]:
        """All snapshots in the order of stream key and version, each checked by itself."""

    @abstractmethod
    async def owners(self) -> list[OwnerRow]:
        """The claims, by owner and epoch."""

    @abstractmethod
    async def checkpoints(self) -> list[CheckpointRow]:
        """All checkpoints, by name."""

    @abstractmethod
    def reminders(self, category: str | None) -> AsyncIterator[Sequence[ReminderRow]]:
        """The index of reminders in the order of stream key and name."""

    @abstractmethod
    async def index_of(self, key: int) -> tuple[int, list[tuple[bytes, int]]]:
        """Of one stream, at one moment: its version, and each name in the index with its time."""

    @abstractmethod
    def reminder_events(self, key: int, upto: int) -> AsyncIterator[Sequence[tuple[int, int, Change]]]:
        """What the events of one stream, up to a version, say of reminders: version, position, and the change. Raises
        `CorruptRecord` or `CodecError` at one that is damaged."""

    @abstractmethod
    def histories(self, upto: int, category: str) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """The events of a category with the key of their stream, in the order of key and version. A damaged event
        ends its stream: what comes after it cannot be replayed."""


PAGE = 1000


class StoreSource(Source):
    """Any opened `Store`, seen through its contract: the memory store, or one that has no source of its own yet."""

    notes = (
        "keyed replies, owners, checkpoints, the index of reminders and damaged snapshots"
        " are not seen through this kind of store",
    )
    indexed = False

    def __init__(self, store: Store, name: str = "") -> None:
        self._store = store
        self.name = name or type(store).__name__
        self._names: list[StreamId] = []

    async def close(self) -> None:
        """The store stays open: it is its user's."""

    async def damage(self) -> list[Problem]:
        return []

    async def extent(self) -> Extent:
        self._names = [stream async for stream, _ in self._all_streams()]
        head = await self._store.head()
        return Extent(head, head, tuple(sorted({name.category for name in self._names})))

    async def _all_streams(self) -> AsyncIterator[tuple[StreamId, int]]:
        after = None
        while page := await self._store.list_streams(after=after, limit=PAGE):
            for entry in page:
                yield entry
            after = page[-1][0]

    async def events(self, upto: int, category: str | None) -> AsyncIterator[Sequence[EventRow]]:
        after, limit = 0, PAGE
        while after < upto:
            try:
                page = await self._store.read_all(after=after, limit=limit, category=category)
            except CorruptRecord as error:
                if limit > 1:
                    limit //= 2
                    continue
                page, limit = [], PAGE
                yield [EventRow(error.stream, error.version, error.position, error.problem)]
                after = max(error.position, after + 1)
                continue
            if not page:
                return
            yield [EventRow(str(e.stream), e.version, e.position) for e in page if e.position <= upto]
            after = page[-1].position

    async def versions(self, upto: int, category: str | None) -> AsyncIterator[Sequence[VersionRow]]:
        for key, name in enumerate(self._names):
            if category in (None, name.category):
                async for page in self._history(name, upto):
                    yield [VersionRow(key, event.version, event.position) for event in page]

    async def _history(self, name: StreamId, upto: int) -> AsyncIterator[list[Recorded]]:
        after = 0
        try:
            while page := await self._store.read_stream(name, after=after, limit=PAGE):
                yield [event for event in page if event.position <= upto]
                after = page[-1].version
        except CorruptRecord:  # told where it stands in the journal
            return

    async def stream_name(self, key: int) -> str:
        return str(self._names[key])

    async def streams(self, category: str | None) -> AsyncIterator[Sequence[StreamRow]]:
        async for name, version in self._all_streams():
            if category in (None, name.category):
                yield [StreamRow(str(name), version, has_keys=True)]

    async def keyed_replies(self, category: str | None) -> AsyncIterator[Sequence[KeyedRow]]:
        return
        yield

    async def snapshots(self, category: str | None) -> AsyncIterator[Sequence[SnapshotRow]]:
        for key, name in enumerate(self._names):
            if category in (None, name.category):
                found = reversed(await self._store.list_snapshots(name))
                newest = await self._store.read_stream(name, limit=1, backward=True)
                head = newest[0].version if newest else 0
                yield [SnapshotRow(key, str(name), each.version, head, each) for each in found]

    async def owners(self) -> list[OwnerRow]:
        return []

    async def checkpoints(self) -> list[CheckpointRow]:
        return []

    async def reminders(self, category: str | None) -> AsyncIterator[Sequence[ReminderRow]]:
        return
        yield

    async def index_of(self, key: int) -> tuple[int, list[tuple[bytes, int]]]:
        return 0, []

    async def reminder_events(self, key: int, upto: int) -> AsyncIterator[Sequence[tuple[int, int, Change]]]:
        return
        yield

    async def histories(self, upto: int, category: str) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        for key, name in enumerate(self._names):
            if name.category == category:
                async for page in self._history(name, upto):
                    yield [(key, event) for event in page]
