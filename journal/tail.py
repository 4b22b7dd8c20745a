"""The tail: the end of the journal, where followers wait for what comes next.

A follower asks for what comes after a position. If there is something it gets a page of it at once; if not, its
request stays here until a commit has brought something. So there is nothing to poll, and an idle follower costs an
idle request.

**Nothing is skipped or doubled.** Positions are contiguous in the order of commits, and a page is read after the
transactions of its events have ended: what is at or below `reached` was there to be read. What a follower has got it
does not get again, since it names the position that it goes on after.

**Followers cost one read.** Those that stand at the same place, as they all do once they have caught up, get the very
bytes of one page. Nothing is kept for those that are slow: they find in the journal whatever they have not fetched yet.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from .errors import JournalError, JournalUnavailable
from .records import Appended, Followed
from .store import Store
from .wire import encode

__all__ = ["FOLLOW_MOST_S", "Tail"]

FOLLOW_MOST_S = 60.0
"""Nobody waits longer without an answer, so that a request whose asker has gone does not stay for ever."""
PAGES_KEPT, PAGES_BYTES_MAX = 32, 16 << 20

_Place: TypeAlias = tuple[int, int, str | None]


@dataclass(frozen=True, slots=True)
class _Page:
    """As it travels. `ends_at`: the head when it was read, if it reached it; else 0."""

    wire: bytes
    ends_at: int


class Tail:
    """The followers of one store's events, and the pages that they share."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._head = 0  # nobody has heard of anything beyond it
        self._doubts, self._settled = 1, 0  # times that the store has to be asked, and the last one that it was
        self._more: asyncio.Future[None] | None = None  # of all who wait
        self._pages: OrderedDict[_Place, asyncio.Task[_Page]] = OrderedDict()  # the least recently asked for first
        self._sizes: dict[_Place, int] = {}  # of those that have been read
        self._closed = False
        self.pages_read = 0

    async def follow(self, after: int, limit: int, category: str | None, wait_s: float) -> bytes:
        """A `Followed` as it travels: events after a position, of one category or of all. Empty, with what was
        reached, if `wait_s` seconds brought none, or none of the category."""
        after = max(after, 0)
        if await self._known_head() == after and wait_s > 0:  # one that is further than the journal hears so at once
            await self._wait(min(wait_s, FOLLOW_MOST_S))
        head = await self._known_head()
        if head <= after:
            return encode(Followed(events=(), reached=after, head=head))
        return await self._page((after, max(limit, 1), category))

    def grew(self, results: Sequence[Appended | JournalError]) -> None:
        """A transaction was committed, with these results."""
        newest = max((r.position for r in results if type(r) is Appended), default=0)
        if newest:
            self._head = max(self._head, newest)
            self._wake()

    def lost_touch(self) -> None:
        """A transaction ended in doubt: those who wait look for themselves."""
        self._doubts += 1
        self._wake()

    def close(self) -> None:
        """Whoever waits gets `JournalUnavailable`."""
        self._closed = True
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
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._more), wait_s)

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.set_result(None)

    async def _page(self, place: _Place) -> bytes:
        """Read once for all who ask for it."""
        reading = self._pages.get(place)
        if reading is None or self._is_stale(reading):
            reading = asyncio.get_running_loop().create_task(self._read(*place))
            self._forget(place)
            self._pages[place] = reading
            reading.add_done_callback(lambda task: self._keep(place, task))
        else:
            self._pages.move_to_end(place)
        return (await asyncio.shield(reading)).wire

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
        events = await self._store.read_all(after=after, limit=limit, category=category)
        self.pages_read += 1
        reached = events[-1].position if events else head
        # A commit can be read before its writer is heard of. Whoever gets it here must not be told, when it goes on
        # after it, that the journal ends before.
        self._head = head = max(head, self._head, reached)
        wire = encode(Followed(events=tuple(events), reached=reached, head=head))
        return _Page(wire, head if reached == head else 0)

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
