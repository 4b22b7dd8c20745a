"""A catalogue: what lies in one partition of a journal, for those who look and never write.

A `Store` takes its journal for writing. A catalogue opens the same tables beside the writer, creates nothing, and adds
to the store's ways of reading the ones that people need: which categories and streams there are, the newest events of
all, what lies beside the events. Each question is one short read transaction, or several of bounded length, whatever
the journal holds: a log that a reader has in use cannot be moved into its file, and grows meanwhile.

`StoreCatalogue` looks at any opened `Store` through its contract; it sees less, and is for tests and for journals in
memory.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from .errors import JournalError
from .partition import Membership
from .records import Load, Loaded, Recorded, StreamId
from .store import Store
from .verify_source import CheckpointRow

__all__ = ["INDEXED", "Catalogue", "Contents", "Extents", "StoreCatalogue", "Stored", "Tally", "contents_of"]

EVENTS_AT_ONCE = 500_000
"""Positions that are counted in one transaction: of an index, some hundredths of a second."""

STREAMS_AT_ONCE = 100_000
"""Streams whose rows are counted in one transaction."""

NAMES_AT_ONCE = 50_000
"""Names of streams that one transaction looks through for a text."""


INDEXED = 2
"""The schema from which on there are checkpoints, and an index of reminders."""

RowsOf = Callable[[str, int, int], Awaitable[int]]


class Stored(NamedTuple):
    """What a stream is listed as. `version`: of its newest event."""

    stream: StreamId
    version: int


class Tally(NamedTuple):
    """How much there is of one category."""

    streams: int = 0
    events: int = 0


class Extents(NamedTuple):
    """How far it goes, at one moment. `streams`: the highest number that was given to a stream."""

    head: int
    streams: int


class Contents(NamedTuple):
    """Rows that lie beside the events. None: a catalogue of this kind cannot see them."""

    snapshots: int | None = None
    keyed_replies: int | None = None
    reminders: int | None = None


class Catalogue(ABC):
    """One partition, looked at. Methods may be called concurrently; what they raise are `JournalError`s.

    `name`: for people, without secrets. `schema`: of its tables. `membership`: which partition of which journal.
    """

    name: str = ""
    kind: str = ""
    schema: int = 0
    membership: Membership = Membership()

    def __init__(self) -> None:
        self._counted = Extents(0, 0)
        self._tallies: dict[str, Tally] = {}

    @abstractmethod
    async def close(self) -> None:
        """Let go. Closing twice is harmless."""

    # As a store reads

    @abstractmethod
    async def load(self, load: Load) -> Loaded:
        """One load of `Store.load`: the newest usable snapshot and a page of what follows. Raises what stands there."""

    @abstractmethod
    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        """See `Store.read_stream`."""

    @abstractmethod
    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        """See `Store.read_all`."""

    @abstractmethod
    async def read_newest(self, *, before: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        """A page of events with positions below `before` (0: from the newest on), falling. Empty at the beginning, and
        only there."""

    # What there is

    @abstractmethod
    async def extents(self) -> Extents:
        """How far it goes now."""

    @abstractmethod
    async def categories(self) -> list[str]:
        """Their names, in order."""

    @abstractmethod
    async def streams_of(
        self, category: str, *, contains: str = "", after: str = "", upto: str | None = None, limit: int = 1000
    ) -> list[Stored]:
        """Streams of a category by id, with ids above `after` and up to `upto`, that have `contains` in them."""

    @abstractmethod
    async def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        """How many of the next `size` ids above `after` have this text in them, and the last one of those that were
        looked at; None where the end was reached."""

    @abstractmethod
    async def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        """By category, how many streams and events there are between two extents."""

    @abstractmethod
    async def contents(self) -> Contents:
        """What lies beside the events, counted."""

    @abstractmethod
    async def checkpoints(self) -> list[CheckpointRow]:
        """How far readers of the journal say that they have come, by name."""

    @abstractmethod
    async def owners(self) -> int:
        """How many names have been claimed."""

    @abstractmethod
    async def size(self) -> tuple[int, int]:
        """Bytes that it takes, and of these the bytes of a log that is not in its place yet."""

    # What follows from these

    async def list_streams(
        self, *, category: str | None = None, contains: str = "", after: StreamId | None = None, limit: int = 1000
    ) -> list[Stored]:
        """Streams by category and id, after a given one, whose id has `contains` in it."""
        found: list[Stored] = []
        for name in await self.categories():
            if category not in (None, name) or (after and name < after.category):
                continue
            first = after.id if after and after.category == name else ""
            async for page in self._pages(name, contains, first, limit - len(found)):
                found += page
            if len(found) >= limit:
                break
        return found[:limit]

    async def _pages(self, category: str, contains: str, after: str, limit: int) -> AsyncIterator[list[Stored]]:
        """Up to so many streams of one category. A text is looked for in portions, each a transaction."""
        if not contains:
            if limit > 0:
                yield await self.streams_of(category, after=after, limit=limit)
            return
        at: str | None = after
        while at is not None and limit > 0:
            matches, upto = await self.search(category, contains, at, NAMES_AT_ONCE)
            if matches:
                page = await self.streams_of(category, contains=contains, after=at, upto=upto, limit=limit)
                limit -= len(page)
                yield page
            at = upto

    async def count_streams(self, *, category: str | None = None, contains: str = "") -> int:
        """How many streams there are of a category, or of all, whose id has `contains` in it."""
        if not contains:
            tallies = await self.tallies()
            return sum(tally.streams for name, tally in tallies.items() if category in (None, name))
        count = 0
        for name in await self.categories():
            at: str | None = "" if category in (None, name) else None
            while at is not None:
                matches, at = await self.search(name, contains, at, NAMES_AT_ONCE)
                count += matches
        return count

    async def tallies(self) -> dict[str, Tally]:
        """By category, how many streams and events there are. What was counted once is not counted again: neither
        goes away, and both are numbered as they come."""
        upto = await self.extents()
        if upto.head < self._counted.head or upto.streams < self._counted.streams:  # another, shorter journal
            self._counted, self._tallies = Extents(0, 0), {}
        while self._counted != upto:
            at = self._counted
            following = Extents(
                min(upto.head, at.head + EVENTS_AT_ONCE), min(upto.streams, at.streams + STREAMS_AT_ONCE)
            )
            found = await self.tally(at, following)
            if at == self._counted:  # and not by somebody else meanwhile
                for name, more in found.items():
                    known = self._tallies.get(name, Tally())
                    self._tallies[name] = Tally(known.streams + more.streams, known.events + more.events)
                self._counted = following
            elif self._counted.head >= upto.head and self._counted.streams >= upto.streams:
                break
        return dict(sorted(self._tallies.items()))

    async def version_at(self, stream: StreamId, micros: int) -> int:
        """The version that a stream had at a time, by the times of its commands; 0 before the first. Where the clocks
        of its hosts disagreed, so that times fall, it is one of the versions between which that time lies."""
        newest = await self.read_stream(stream, limit=1, backward=True)
        low, high = 0, newest[0].version if newest else 0
        while low < high:
            middle = (low + high + 1) // 2
            (event, *_) = await self.read_stream(stream, after=middle - 1, limit=1)
            low, high = (middle, high) if event.recorded_at <= micros else (low, middle - 1)
        return low

    async def position_at(self, micros: int) -> int:
        """The same of the whole partition: about so far it was written at a time."""
        low, high = 0, (await self.extents()).head
        while low < high:
            middle = (low + high + 1) // 2
            (event, *_) = await self.read_all(after=middle - 1, limit=1)
            low, high = (middle, high) if event.recorded_at <= micros else (low, middle - 1)
        return low


class StoreCatalogue(Catalogue):
    """Any opened store, seen through its contract. The store stays open: it is its user's."""

    kind = "store"

    def __init__(self, store: Store, name: str = "", membership: Membership | None = None) -> None:
        super().__init__()
        self._store = store
        self.name = name or type(store).__name__
        self.membership = membership or Membership()

    async def close(self) -> None:
        """Nothing of it is ours."""

    async def load(self, load: Load) -> Loaded:
        (answer,) = await self._store.load([load])
        if isinstance(answer, JournalError):
            raise answer
        return answer

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        return await self._store.read_stream(stream, after=after, limit=limit, backward=backward)

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._store.read_all(after=after, limit=limit, category=category)

    async def read_newest(self, *, before: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        """Forward over windows, the newest first: a store reads no other way."""
        end = before or await self._store.head() + 1
        found: list[Recorded] = []
        while end > 1 and len(found) < limit:
            start = max(end - 1 - limit, 0)
            found += reversed(await self._window(start, end, category))
            end = start + 1
        return found[:limit]

    async def _window(self, after: int, before: int, category: str | None) -> list[Recorded]:
        """All events between two positions."""
        found: list[Recorded] = []
        while page := await self._store.read_all(after=after, limit=before - after - 1, category=category):
            found += [event for event in page if event.position < before]
            after = page[-1].position
            if after >= before - 1:
                break
        return found

    async def extents(self) -> Extents:
        statistics = await self._store.statistics()
        return Extents(await self._store.head(), statistics.streams)

    async def categories(self) -> list[str]:
        return sorted({stored.stream.category for stored in await self._all(None)})

    async def _all(self, category: str | None) -> list[Stored]:
        found: list[Stored] = []
        after = None
        while page := await self._store.list_streams(category=category, after=after):
            found += [Stored(*each) for each in page]
            after = page[-1][0]
        return found

    async def streams_of(
        self, category: str, *, contains: str = "", after: str = "", upto: str | None = None, limit: int = 1000
    ) -> list[Stored]:
        return [
            stored
            for stored in await self._all(category)
            if stored.stream.id > after and contains in stored.stream.id and (upto is None or stored.stream.id <= upto)
        ][:limit]

    async def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        return sum(contains in each.stream.id for each in await self._all(category) if each.stream.id > after), None

    async def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        """What is counted anew each time, from nothing, is told as the difference to what was told before."""
        return {
            name: Tally(len(streams) - known.streams, sum(each.version for each in streams) - known.events)
            for name in await self.categories()
            for streams, known in [(await self._all(name), self._tallies.get(name, Tally()))]
        }

    async def contents(self) -> Contents:
        return Contents(snapshots=(await self._store.statistics()).snapshots)

    async def checkpoints(self) -> list[CheckpointRow]:
        return []

    async def owners(self) -> int:
        return 0

    async def size(self) -> tuple[int, int]:
        return (await self._store.statistics()).bytes_on_disk, 0


async def contents_of(schema: int, streams: int, rows_of: RowsOf) -> Contents:
    """What lies beside the events of so many streams. `rows_of`: how many rows of a table belong to streams with keys
    above one number and up to another."""

    async def count(table: str) -> int:
        starts = range(0, streams, STREAMS_AT_ONCE)
        return sum([await rows_of(table, after, after + STREAMS_AT_ONCE) for after in starts])

    reminders = await count("reminders") if schema >= INDEXED else 0
    return Contents(await count("snapshots"), await count("keyed_replies"), reminders)
