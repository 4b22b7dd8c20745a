"""Feeds: the live end of the journal in one process, read once for all subscriptions there.

A feed waits at the tail of a partition, of one category or of all, and keeps the last few pages that came. A
subscription that has caught up takes its next events from there. One that is slow finds that its place has gone from
there, and reads in the journal until it has caught up again: so what a feed keeps has a bound, and nobody waits for
anybody.

Places are positions, in the journal as in a feed, and nothing else is remembered of a subscription here. So the switch
from one to the other has no gap and no repeat: whoever asks for what comes after a position gets just that.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Protocol

from holdfast.journal.client import JournalClient
from holdfast.journal.records import Followed, Recorded, StreamId

from .errors import AheadOfJournal, RuntimeClosed
from .recorded import RecordedEvent

__all__ = ["Feed", "Feeds"]

PAGES_KEPT, EVENTS_KEPT, BYTES_KEPT = 256, 20_000, 16 << 20
OPENED_KEPT = 8
WAIT_S = 5.0
BUSY_EVENTS, BUSY_PAUSE_S = 100, 0.02
"""After a page of so many events, which is not full, the next one is given a moment to fill: with many writers at work
a page for each commit would cost them more than its events do. In quiet times nothing is held back."""
LINGER_S = 5.0
"""A feed that nobody has asked for so long ends; who asks again starts another."""


class _Page:
    """A page that came after position `after`, and what it holds of each stream, once somebody asks for one."""

    __slots__ = ("_by_stream", "after", "bytes", "page")

    def __init__(self, after: int, page: Followed) -> None:
        self.after, self.page = after, page
        self.bytes = sum(len(event.payload) + len(event.metadata) for event in page.events)
        self._by_stream: dict[StreamId, list[Recorded]] | None = None

    @property
    def by_stream(self) -> dict[StreamId, list[Recorded]]:
        found = self._by_stream
        if found is None:
            found = self._by_stream = {}
            for event in self.page.events:
                found.setdefault(event.stream, []).append(event)
        return found

    def beyond(self, after: int, stream: StreamId | None) -> Sequence[Recorded]:
        events = self.page.events if stream is None else self.by_stream.get(stream, ())
        if after <= self.after or not events:
            return events
        return [event for event in events if event.position > after]


class Feed:
    """The live events of one partition, from `after` on, for whoever asks in time."""

    def __init__(self, part: JournalClient, number: int, after: int, category: str | None, limit: int) -> None:
        """`number`: of the partition."""
        self._part, self._number, self._category, self._limit = part, number, category, limit
        self._pages: deque[_Page] = deque()  # contiguous
        self._events = self._bytes = 0
        self.reached, self.head = after, after
        self._start = after  # what comes after this has not been forgotten
        self._waiting: list[asyncio.Future[int]] = []
        self._waiting_for: dict[StreamId, list[asyncio.Future[int]]] = {}
        self._problem: Exception | None = None
        self._used_at = asyncio.get_running_loop().time()
        self._reading = asyncio.get_running_loop().create_task(self._read(), context=Context())

    @property
    def over(self) -> bool:
        """It has ended: with nobody there to ask, or since the journal was out of reach for too long."""
        return self._reading.done()

    def covers(self, after: int) -> bool:
        """Whether it still has all that came after a position, or will have."""
        return not self.over and self._start <= after

    async def next(self, after: int, stream: StreamId | None = None) -> Followed | None:
        """What came after a position (of one stream, or all), as soon as something did. None: no longer to be had here.
        Raises what reading the journal raised."""
        while True:
            self._used_at = asyncio.get_running_loop().time()
            if not self.covers(after):
                if self._problem is not None:
                    raise self._problem
                return None
            found = self._kept(after, stream)
            if found is not None:
                return found
            # Whatever came until it is woken had nothing for it: it need not be there any more.
            after = max(after, await self._more(stream))

    def let_go(self) -> None:
        """Keep nothing of what came so far: whoever has not taken it yet reads it in the journal."""
        self._pages.clear()
        self._events = self._bytes = 0
        self._start = self.reached

    async def close(self) -> None:
        """End it."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self._wake(None)  # it may not have begun

    def _kept(self, after: int, stream: StreamId | None) -> Followed | None:
        """The first page with something in it. One that has nothing of a stream says no more than that it was past."""
        for kept in self._pages:
            if kept.page.reached > after and (events := kept.beyond(after, stream)):
                if events is kept.page.events:
                    return kept.page  # the same for all who have caught up
                return Followed(events=tuple(events), reached=kept.page.reached, head=self.head)
        if stream is None and self.reached > after:
            return Followed(events=(), reached=self.reached, head=self.head)
        return None

    async def _more(self, stream: StreamId | None) -> int:
        """Wait for the next page with something of a stream, or of any. Returns what that page came after."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = self._waiting if stream is None else self._waiting_for.setdefault(stream, [])
        waiting.append(future)
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                with suppress(ValueError):
                    waiting.remove(future)
                if stream is not None and not waiting and self._waiting_for.get(stream) is waiting:
                    del self._waiting_for[stream]

    async def _read(self) -> None:
        try:
            while self._is_wanted():
                after = self.reached
                page = await self._part.follow(after=after, limit=self._limit, category=self._category, wait_s=WAIT_S)
                self.head = page.head
                if page.head < after:
                    raise AheadOfJournal(self._number, after, page.head)
                if page.reached > after:
                    self._keep(_Page(after, page))
                if BUSY_EVENTS <= len(page.events) < self._limit:
                    await asyncio.sleep(BUSY_PAUSE_S)
        except Exception as error:
            self._problem = error
        finally:
            self._pages.clear()  # nobody takes them from a feed that is over
            self._wake(None)

    def _is_wanted(self) -> bool:
        asked = self._waiting or self._waiting_for
        return bool(asked) or asyncio.get_running_loop().time() - self._used_at < LINGER_S

    def _keep(self, page: _Page) -> None:
        self._pages.append(page)
        self._events += len(page.page.events)
        self._bytes += page.bytes
        self.reached = page.page.reached
        while len(self._pages) > 1 and (
            len(self._pages) > PAGES_KEPT or self._events > EVENTS_KEPT or self._bytes > BYTES_KEPT
        ):
            oldest = self._pages.popleft()
            self._events -= len(oldest.page.events)
            self._bytes -= oldest.bytes
            self._start = oldest.page.reached
        self._wake(page)

    def _wake(self, page: _Page | None) -> None:
        """Whoever waits for what a page brings; without one, everybody."""
        waiting, self._waiting = self._waiting, []
        if self._waiting_for:
            streams = list(self._waiting_for) if page is None else self._waiting_for.keys() & page.by_stream.keys()
            for stream in streams:
                waiting += self._waiting_for.pop(stream)
        for future in waiting:
            if not future.done():
                future.set_result(0 if page is None else page.after)


class Opener(Protocol):
    """What makes of a page what its readers get."""

    @property
    def key(self) -> Hashable:
        """Equal for those that make the same of every page."""
        ...

    def opened(self, page: Followed, partition: int) -> Sequence[RecordedEvent]:
        """The events of a page that are wanted, in order."""
        ...


class Feeds:
    """The feeds of one runtime, started when somebody has caught up."""

    def __init__(self, parts: Sequence[JournalClient], page: int) -> None:
        self.parts, self.page, self.closed = parts, page, False
        self._opened: OrderedDict[tuple[int, Hashable], tuple[Followed, Sequence[RecordedEvent]]] = OrderedDict()
        self._feeds: dict[tuple[int, str | None], Feed] = {}

    def live(self, partition: int, category: str | None, after: int, *, caught_up: bool) -> Feed | None:
        """The feed that has what comes after a position. `caught_up`: there is nothing in the journal yet, so that one
        may start there. None: read in the journal first."""
        if self.closed:
            raise RuntimeClosed("a subscription")
        feed = self._feeds.get((partition, category))
        if feed is not None and feed.covers(after):
            return feed
        if not caught_up or (feed is not None and not feed.over):
            return None
        feed = self._feeds[partition, category] = Feed(self.parts[partition], partition, after, category, self.page)
        return feed

    def opened(self, page: Followed, partition: int, opener: Opener) -> Sequence[RecordedEvent]:
        """What is wanted of a page: made once for all who get this very page and want the same of it."""
        place = id(page), opener.key
        page_and_events = self._opened.get(place)
        if page_and_events is None:
            while len(self._opened) >= OPENED_KEPT:
                self._opened.popitem(last=False)
            # The page is kept with them: no other has its identity meanwhile.
            page_and_events = self._opened[place] = page, opener.opened(page, partition)
        return page_and_events[1]

    def let_go(self) -> None:
        """Keep no events that came so far, nor what was made of them: something in them was forgotten."""
        self._opened.clear()
        for feed in self._feeds.values():
            feed.let_go()

    async def close(self) -> None:
        """End them all; whoever waits there is told that nothing more comes."""
        self.closed = True
        for feed in self._feeds.values():
            await feed.close()
