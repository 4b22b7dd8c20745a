"""The tail: the end of the journal, where followers wait for what comes next.

A follower asks for what comes after a position. If there is something it gets a page of it at once; if not, its
request stays here until a commit has brought something. So there is nothing to poll, and an idle follower costs an
idle request.

**Nothing is skipped or doubled.** Positions are contiguous in the order of commits, and a page is read after the
transactions of its events have ended: what is at or below `reached` was there to be read. What a follower has got it
does not get again, since it names the position that it goes on after.

**Followers cost one read, and mostly none.** Those that stand at the same place, as they all do once they have caught
up, get the very bytes of one page; and that is made of the last few commits, which are remembered while somebody
follows. Nothing is kept for those that are slow: they find in the journal whatever they have not fetched yet. While
one that is behind is busy with a page, the next one is read for it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from .errors import JournalError, JournalUnavailable
from .pages import PAGE_BYTES_MAX, weight
from .records import Append, Appended, Followed, Recorded, recorded
from .store import Store, packed
from .wire import PackedPage, encode

__all__ = ["FOLLOW_MOST_S", "Tail"]

FOLLOW_MOST_S = 60.0
"""Nobody waits longer without an answer, so that a request whose asker has gone does not stay for ever."""
PAGES_KEPT, PAGES_BYTES_MAX = 32, 16 << 20
COMMITS_KEPT, COMMITS_BYTES_MAX = 64, 8 << 20
RECORD_BYTES = 100
"""What an event that is remembered takes beside its payload, metadata and reply."""
FOLLOWED_S = 10.0
"""Commits are remembered while somebody has followed so lately."""

_Place: TypeAlias = tuple[int, int, str | None]


@dataclass(frozen=True, slots=True)
class _Page:
    """As it travels. `ends_at`: the head when it was read, if it reached it; else 0. `reached`: what the next one comes
    after."""

    wire: bytes
    reached: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class _Commit:
    """What one transaction wrote after position `before`, up to `head`, and about how many bytes that is."""

    before: int
    head: int
    batch: Sequence[Append]
    results: Sequence[Appended | JournalError]
    bytes: int

    def events(self) -> list[Recorded]:
        """In order. An append that was recognised as sent again was written by another one."""
        return [
            event
            for append, result in zip(self.batch, self.results, strict=True)
            if type(result) is Appended and result.position > self.before
            for event in _recorded(append, result)
        ]


class Tail:
    """The followers of one store's events, and the pages that they share."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._head = 0  # nobody has heard of anything beyond it
        self._doubts, self._settled = 1, 0  # times that the store has to be asked, and the last one that it was
        self._more: asyncio.Future[None] | None = None  # of all who wait
        self._pages: OrderedDict[_Place, asyncio.Task[_Page]] = OrderedDict()  # the least recently asked for first
        self._sizes: dict[_Place, int] = {}  # of those that have been read
        self._commits: deque[_Commit] = deque()  # the last ones, while somebody follows
        self._commits_bytes = 0
        self._followed_at = -FOLLOWED_S
        self._closed = False
        self.pages_read = 0

    async def follow(self, after: int, limit: int, category: str | None, wait_s: float) -> bytes:
        """A `Followed` as it travels: events after a position, of one category or of all. Empty, with what was
        reached, if `wait_s` seconds brought none, or none of the category."""
        after = max(after, 0)
        self._followed_at = asyncio.get_running_loop().time()
        if await self._known_head() == after and wait_s > 0:  # one that is further than the journal hears so at once
            await self._wait(min(wait_s, FOLLOW_MOST_S))
        head = await self._known_head()
        if head < after:  # somebody else may have written: a successor, of which this process has not heard
            self._doubts += 1
            head = await self._known_head()
        if head <= after:
            return encode(Followed(events=(), reached=after, head=head))
        return await self._page((after, max(limit, 1), category))

    def grew(self, batch: Sequence[Append], results: Sequence[Appended | JournalError]) -> None:
        """A transaction with these appends was committed, with these results."""
        newest = max((r.position for r in results if type(r) is Appended), default=0)
        if self._settled < self._doubts or asyncio.get_running_loop().time() - self._followed_at > FOLLOWED_S:
            self._forget_commits()
        elif newest > self._head:
            self._remember(_Commit(self._head, newest, batch, results, sum(map(_weight, batch))))
        self._saw(newest)

    def lost_touch(self) -> None:
        """A transaction ended in doubt: those who wait look for themselves."""
        self._doubts += 1
        self._forget_commits()
        self._wake()

    def close(self) -> None:
        """Whoever waits gets `JournalUnavailable`."""
        self._closed = True
        self._wake()

    def _saw(self, position: int) -> None:
        """It is committed, whoever tells."""
        if position > self._head:
            self._head = position
            self._wake()

    async def _known_head(self) -> int:
        if self._closed:
            raise JournalUnavailable("it is stopping")
        while self._settled < self._doubts:
            asked = self._doubts
            self._head = max(await self._store.head(), self._head)  # what grew meanwhile counts
            self._settled = max(asked, self._settled)  # and what became doubtful meanwhile is asked for again
        return self._head

    async def _wait(self, wait_s: float) -> None:
        if self._more is None:
            self._more = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._more}, timeout=wait_s)

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.set_result(None)

    async def _page(self, place: _Place) -> bytes:
        """Read once for all who ask for it, and the next one ahead for those who have more to catch up with."""
        page = await asyncio.shield(self._reading(place))
        if not page.ends_at:
            self._reading((page.reached, *place[1:]))
        return page.wire

    def _reading(self, place: _Place) -> "asyncio.Task[_Page]":
        reading = self._pages.get(place)
        if reading is None or self._is_stale(reading):
            reading = asyncio.get_running_loop().create_task(self._read(*place))
            self._forget(place)
            self._pages[place] = reading
            reading.add_done_callback(lambda task: self._keep(place, task))
        else:
            self._pages.move_to_end(place)
        return reading

    def _is_stale(self, reading: "asyncio.Task[_Page]") -> bool:
        """Whether a page that ended at the head would be longer now. A full one stays as it is for ever."""
        if not reading.done():
            return False
        failed = reading.cancelled() or reading.exception() is not None
        return failed or 0 < reading.result().ends_at < self._head

    @property
    def _bytes(self) -> int:
        return sum(self._sizes.values())

    async def _read(self, after: int, limit: int, category: str | None) -> _Page:
        head = await self._known_head()  # before the read: nothing at or below it can be missing from that
        events = self._remembered(after, limit, category)
        if events is None:
            page, last = await self._store.pack_all(after=after, limit=limit, category=category)
            self.pages_read += 1
        else:
            page, last = packed(events)
        reached = last or head
        # Its commit may not have been heard of yet. Whoever has read it is no further than the end all the same.
        self._saw(reached)
        head = self._head
        wire = encode(PackedPage(packed=msgspec.Raw(page), reached=reached, head=head))
        return _Page(wire, reached, head if reached == head else 0)

    def _remembered(self, after: int, limit: int, category: str | None) -> list[Recorded] | None:
        """The page, if the commits are still here that it starts with, and one that a store would give."""
        found: list[Recorded] = []
        size = 0
        for commit in self._commits:
            if commit.head <= after:
                continue
            if commit.before > after and not found:
                return None
            size += commit.bytes
            if size > PAGE_BYTES_MAX:
                return None
            found += [event for event in commit.events() if event.position > after]
            if len(found) >= limit:
                break
        if [event.position for event in found] != list(range(after + 1, after + 1 + len(found))) or not found:
            return None
        if category is not None:
            found = [event for event in found[:limit] if event.stream.category == category]
            return found or None  # how far that reaches, the store tells
        return found[:limit]

    def _remember(self, commit: _Commit) -> None:
        self._commits.append(commit)
        self._commits_bytes += commit.bytes
        while len(self._commits) > COMMITS_KEPT or self._commits_bytes > COMMITS_BYTES_MAX:
            self._commits_bytes -= self._commits.popleft().bytes

    def _forget_commits(self) -> None:
        self._commits.clear()
        self._commits_bytes = 0

    def _keep(self, place: _Place, reading: "asyncio.Task[_Page]") -> None:
        """Forget one that failed, and those that nobody has asked for in a long time."""
        if self._pages.get(place) is not reading:
            return
        if reading.cancelled() or reading.exception() is not None:
            del self._pages[place]
            return
        self._sizes[place] = len(reading.result().wire)
        while len(self._pages) > PAGES_KEPT or self._bytes > PAGES_BYTES_MAX:
            oldest = next((at for at, page in self._pages.items() if page.done()), None)
            if oldest is None:
                return
            self._forget(oldest)

    def _forget(self, place: _Place) -> None:
        self._pages.pop(place, None)
        self._sizes.pop(place, None)


def _recorded(append: Append, result: Appended) -> list[Recorded]:
    """The events of an append, as they stand in the journal."""
    count = len(append.events)
    position, version = result.position - count, result.version - count
    return [
        recorded(event, append.stream, version + place, position + place)
        for place, event in enumerate(append.events, 1)
    ]


def _weight(append: Append) -> int:
    return sum(weight(event) + RECORD_BYTES for event in append.events)
