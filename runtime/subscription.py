"""Subscriptions: the events of a journal as they come, from any position on, each once and in order.

    async for recorded in runtime.subscribe(after=at, categories=[Account]):
        ...
        at = recorded.position

It reads what is there, and then waits for what comes; nobody has to know where the one ends and the other begins. It
asks for a page when the one before has been taken, so a slow reader costs no memory and keeps no writer waiting.

Before this: a runtime is open. After this: the reader has seen everything of its filter up to `position`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.definition import Definition, definition_of
from holdfast.actors.events import event_codec, event_name
from holdfast.actors.reading import Reading
from holdfast.actors.upcasting import event_aliases
from holdfast.journal.event_types import name_and_version
from holdfast.journal.positions import Positions
from holdfast.journal.records import Followed, Recorded, StreamId

from .errors import AheadOfJournal, RuntimeClosed
from .feed import Feeds
from .recorded import Decode, RecordedEvent

__all__ = ["Batch", "Filter", "Subscription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events that came together, all of one partition. `position`: with these done, go on after it. `caught_up`: there
    were no others then."""

    events: Sequence[RecordedEvent]
    position: int | Positions
    caught_up: bool


class Filter:
    """Which events a reader wants, and as what they come: instances of the classes that it named, or that its runtime
    knows by their aggregates; plain mappings otherwise."""

    def __init__(
        self,
        categories: Iterable[type[Aggregate] | str] | None = None,
        types: Iterable[type[Any] | str] | None = None,
        stream: tuple[type[Aggregate] | str, str] | None = None,
        *,
        known: Callable[[str], Definition | None] = lambda _: None,
    ) -> None:
        """`known`: the definition behind a category, where there is one. Raises `TypeError` for what names neither."""
        self._definitions: dict[str, Definition | None] = {}
        self._decoders: dict[tuple[str, str], Decode] = {}
        self._unwanted: set[tuple[str, str]] = set()
        self._known = known
        categories = None if categories is None else _several(categories)
        types = None if types is None else _several(types)
        self.stream = None if stream is None else StreamId(self._category(stream[0]), stream[1])
        self.categories = None if categories is None else frozenset(map(self._category, categories))
        self.types = None if types is None else frozenset(map(_name_of, types))
        self._reading = Reading({each: event_codec(each, {}) for each in types or () if isinstance(each, type)})
        self._named = frozenset(each for each in (*(categories or ()), *(types or ())) if isinstance(each, type))

    @property
    def category(self) -> str | None:
        """The one that the journal can pick by itself."""
        if self.stream is not None:
            return self.stream.category
        return next(iter(self.categories)) if self.categories is not None and len(self.categories) == 1 else None

    @property
    def key(self) -> Hashable:
        """Equal for filters of one runtime that give the same of every page."""
        return self.categories, self.types, self._named

    def opened(self, page: Followed, partition: int) -> Sequence[RecordedEvent]:
        """What is wanted of a page, as the reader gets it."""
        decoders, found = self._decoders, list[RecordedEvent]()
        events, categories = page.events, self.categories
        if categories is not None and len(categories) != 1:
            events = tuple(event for event in events if event.stream.category in categories)
        for record in events:
            what = (record.stream.category, record.type)
            decode = decoders.get(what)
            if decode is not None:
                found.append(RecordedEvent(record, partition, decode))
            elif what not in self._unwanted:
                found += self._found(record, partition)
        return found

    def _found(self, record: Recorded, partition: int) -> Sequence[RecordedEvent]:
        """What is wanted of a record of a type that it meets for the first time, or that is not read as it is."""
        what = category, stored = record.stream.category, record.type
        definition = self._definitions.get(category) or self._known(category)
        readings = (self._reading, *(() if definition is None else (definition.reading,)))
        reading = next((each for each in readings if each[stored] is not None), None)
        bare, _ = name_and_version(stored)
        if reading is None:  # not kept: its class may be known later
            wanted = self.types is None or bool({bare, stored} & self.types)
            return [RecordedEvent(record, partition)] if wanted else ()
        opening = reading[stored]
        if opening is not None and opening.decode is not None:
            if not self._wants(opening.name, reading):
                self._unwanted.add(what)
            elif opening.name == bare:
                self._decoders[what] = opening.decode
        return [each for each in reading.opened(record, partition) if self._wants(each.type, reading)]

    def _wants(self, name: str, reading: Reading) -> bool:
        """Whether events of a name are among the types, by whichever name that was told."""
        if self.types is None or name in self.types:
            return True
        cls = reading.ancestry.named.get(name)
        return cls is not None and not self.types.isdisjoint(event_aliases(cls))

    def _category(self, category: Any) -> str:
        if isinstance(category, str):
            return category
        definition = definition_of(category)
        self._definitions[definition.category] = definition
        return definition.category


class Subscription(AsyncIterator[RecordedEvent]):
    """Events as they come. Made by `Runtime.subscribe`; iterate over it, or over its `batches`, not over both.

    It may be left at any time, and needs no closing where its runtime is closed.
    """

    def __init__(self, feeds: Feeds, after: Positions, filter: Filter, partitions: Sequence[int]) -> None:
        """`partitions`: those that hold what the filter wants."""
        self._filter, self._feeds, self._single = filter, feeds, len(after) == 1
        self._sources = {number: _Source(feeds, number, after[number], filter) for number in partitions}
        self._done = list(after)
        self._waiting: deque[RecordedEvent] = deque()  # taken from a page; may be that of others too
        self._asking: dict[asyncio.Task[Followed], int] = {}
        self._last: tuple[int, Followed] | None = None  # what waits is of this page
        self._told = False  # once that it has caught up

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent:
        while not self._waiting:
            self._finish()
            await self._fetch()
        event = self._waiting.popleft()
        following = self._waiting[0] if self._waiting else None
        more = following is not None and following.position == event.position  # all that waits is of one partition
        # Between the parts of one event it is not past that: it comes whole, or again.
        self._done[event.partition] = event.position - 1 if more else event.position
        return event

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The same in the portions in which they come. The first time that it has caught up is told with a batch in any
        case, be it empty."""
        while True:
            events = tuple(self._waiting)
            self._waiting.clear()
            self._finish()
            tell = self.caught_up and not self._told
            if events or tell:
                self._told = self._told or tell
                yield Batch(events=events, position=self.position, caught_up=self.caught_up)
            await self._fetch()

    @property
    def position(self) -> int | Positions:
        """It is past everything up to there; a later subscription goes on `after` it. An event that was upcast to
        several is past with the last of its parts."""
        return self._done[0] if self._single else Positions(tuple(self._done))

    @property
    def caught_up(self) -> bool:
        """Nothing was left of the journal when it was last looked at, and nothing waits here."""
        return not self._waiting and all(source.caught_up for source in self._sources.values())

    async def close(self) -> None:
        """Ask for nothing more."""
        for task in self._asking:
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking)
        self._asking.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<subscription after {self.position}{', caught up' if self.caught_up else ''}>"

    async def _fetch(self) -> None:
        """One more page, of whichever partition has one. Cancelled, it loses nothing: what was asked for is kept."""
        asked = set(self._asking.values())
        for number, source in self._sources.items():
            if number not in asked:
                task = asyncio.get_running_loop().create_task(source.next())
                task.add_done_callback(_heard)  # one that is left asks for no answer
                self._asking[task] = number
        done, _ = await asyncio.wait(self._asking, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        number = self._asking.pop(task)
        page = task.result()
        self._sources[number].took(page)
        self._last = number, page
        self._waiting.extend(self._feeds.opened(page, number, self._filter))

    def _finish(self) -> None:
        """All of the last page has been taken: be past it."""
        if self._last is not None:
            number, page = self._last
            self._done[number], self._last = max(self._done[number], page.reached), None


def _heard(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


class _Source:
    """One partition, read in the journal until it has caught up, and live from then on."""

    def __init__(self, feeds: Feeds, number: int, after: int, filter: Filter) -> None:
        self._feeds, self._number, self._filter = feeds, number, filter
        self._after, self._head, self.caught_up = after, 0, False
        self._version = -1  # of the one stream, if it is one: -1, not known

    async def next(self) -> Followed:
        """The next page, which may hold nothing but how far it reaches."""
        while True:
            feed = self._feeds.live(self._number, self._filter.category, self._after, caught_up=self.caught_up)
            if feed is None:
                return await self._read()
            page = await feed.next(self._after, self._filter.stream)
            if page is not None:
                self._head = feed.head
                return page
            if self._feeds.closed:
                raise RuntimeClosed("a subscription")
            self.caught_up = False

    def took(self, page: Followed) -> None:
        """It has been handed on."""
        self._after, self.caught_up = page.reached, page.reached >= max(page.head, self._head)
        if self._filter.stream is not None and page.events:
            self._version = page.events[-1].version

    async def _read(self) -> Followed:
        part, stream = self._feeds.parts[self._number], self._filter.stream
        if stream is not None:
            return await self._read_stream(stream)
        page = await part.follow(after=self._after, limit=self._feeds.page, category=self._filter.category)
        if page.head < self._after:
            raise AheadOfJournal(self._number, self._after, page.head)
        return page

    async def _read_stream(self, stream: StreamId) -> Followed:
        """The end of the journal first: all of the stream that stands before it is then there to be read."""
        part = self._feeds.parts[self._number]
        head = await part.head()
        if head < self._after:
            raise AheadOfJournal(self._number, self._after, head)
        at = max(self._version, 0)
        while True:
            events = await part.read_stream(stream, after=at, limit=self._feeds.page)
            if not events:
                return Followed(events=(), reached=max(head, self._after), head=head)
            new = tuple(event for event in events if event.position > self._after)
            at = self._version = events[-1].version
            if new:
                reached = new[-1].position
                return Followed(events=new, reached=reached, head=max(head, reached + 1))  # there may be more


def _name_of(type: Any) -> str:
    name = type if isinstance(type, str) else event_name(type)
    if name is None:
        raise TypeError(f'{type!r} is no event; is @event("…") missing?')
    return name


def _several(what: Any) -> tuple[Any, ...]:
    """A lone class or name is no list of them, and a text would be one of its letters."""
    if isinstance(what, str | type):
        return (what,)
    try:
        return tuple(what)
    except TypeError:
        raise TypeError(f"categories and types are lists of classes or names, not {what!r}") from None
