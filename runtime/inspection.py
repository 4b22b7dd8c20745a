"""Inspection: a look at a journal by its URL, beside its writer or without one.

    async with await Inspection.open("sqlite:///bank.db", classes=[Account]) as look:
        for each in await look.streams(category="Account"):
            print(each.stream, each.version)
        print(await look.state(StreamId("Account", "alice"), version=20))

It never writes, creates no file, starts no Ray and holds no writer up: each question is one or more short read
transactions. It needs no class: events come as plain mappings. Of aggregate classes that it is given it also tells the
state at any version, and what each event changed. All partitions of a journal are looked at as one.

It has no keys: personal data stays sealed in events, where `holdfast.journal.sealed.shown` puts it into words, and is
blank in states, as if everybody had been forgotten.

The command line and the console are built on it.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from msgspec.structs import replace

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.clock import micros_of
from holdfast.actors.definition import Definition, definition_of
from holdfast.actors.errors import DefinitionError
from holdfast.actors.hydrate import hydrate
from holdfast.actors.plain import differences, plain_state
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.catalogue import Catalogue, StoreCatalogue
from holdfast.journal.catalogues import open_catalogues
from holdfast.journal.codec import CodecError
from holdfast.journal.compression import expanded
from holdfast.journal.errors import CorruptRecord, JournalError
from holdfast.journal.partition import Membership, Partition, partition_of
from holdfast.journal.positions import Positions
from holdfast.journal.records import Fact, Load, Loaded, Recorded, StreamId
from holdfast.journal.sealed import keyless
from holdfast.journal.store import Store
from holdfast.journal.url import JournalUrl
from holdfast.journal.verify_source import CheckpointRow

from .beginning import is_position
from .inspection_report import (
    CategorySummary,
    Change,
    FollowerView,
    JournalContents,
    JournalHealth,
    PartitionHealth,
    Related,
    StateView,
    StreamSummary,
    time_of,
)

__all__ = ["Inspection"]

REACH = 5000
"""Events before and after one, in each partition, among which its relations are looked for."""

PAGE = 1000

T = TypeVar("T")
E = TypeVar("E", Fact, Recorded)


class Inspection:
    """A journal, looked at. Made by `Inspection.open`; used in one event loop, also by many tasks at once."""

    def __init__(self, parts: Sequence[Catalogue], name: str, classes: Iterable[type] = ()) -> None:
        """Not called by users."""
        self._parts, self.name = tuple(parts), name
        self._definitions = _definitions(classes)

    @classmethod
    async def open(cls, url: str, classes: Iterable[type] = ()) -> Self:
        """Open the journal that a URL names, all its partitions, whether or not it tells how many there are.

        `classes`: aggregate classes, for the states of their streams. Raises `JournalUrlError`, `JournalOpenError`s if
        there is no journal, `JournalUnavailable` where no server answers, `DefinitionError`.
        """
        definitions = list(classes)
        _definitions(definitions)
        return cls(await open_catalogues(url), JournalUrl.parse(url).redacted, definitions)

    @classmethod
    def over(cls, stores: Sequence[Store], classes: Iterable[type] = ()) -> Self:
        """Look at stores that are open in this process: the partitions of one journal, in order. For tests, and for
        journals in memory. Keyed replies, reminders and checkpoints are not seen through these."""
        parts = [
            StoreCatalogue(store, membership=Membership(Partition(number, len(stores))))
            for number, store in enumerate(stores)
        ]
        return cls(parts, type(stores[0]).__name__, classes)

    async def close(self) -> None:
        """Let go. Closing twice is harmless."""
        async with AsyncExitStack() as closing:
            for part in self._parts:
                closing.push_async_callback(part.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<inspection of {self.name}>"

    @property
    def partitions(self) -> int:
        """How many the journal has."""
        return len(self._parts)

    @property
    def known(self) -> frozenset[str]:
        """The categories whose classes it was given: those that it can tell states of."""
        return frozenset(self._definitions)

    @property
    def blanked(self) -> frozenset[str]:
        """Those of them that have personal data, which is blank in their states."""
        return frozenset(category for category, found in self._definitions.items() if found.personal)

    def partition_of(self, stream: StreamId) -> int:
        """The number of the partition that a stream lies in."""
        return partition_of(stream, len(self._parts))

    def _part(self, stream: StreamId) -> Catalogue:
        return self._parts[self.partition_of(stream)]

    # What there is

    async def categories(self) -> list[CategorySummary]:
        """All categories by name, with how many streams and events they have. The first call counts along an index;
        later ones count what is new."""
        tallies = await _all(part.tallies() for part in self._parts)
        return [
            CategorySummary(
                name=name,
                streams=sum(each[name].streams for each in tallies if name in each),
                events=sum(each[name].events for each in tallies if name in each),
            )
            for name in sorted({name for each in tallies for name in each})
        ]

    async def streams(
        self, *, category: str | None = None, contains: str = "", after: StreamId | None = None, limit: int = 100
    ) -> list[StreamSummary]:
        """Streams by category and id, those after a given one first: hand in the last one of a page to get the next.

        `contains`: only those whose id has this text in it. For that every id is looked at until there are `limit`, in
        short transactions; all else takes as long as its answer is long."""
        asked = [
            part.list_streams(category=category, contains=contains, after=after, limit=limit) for part in self._parts
        ]
        pages = [
            [StreamSummary(stream=stream, version=version, partition=number) for stream, version in page]
            for number, page in enumerate(await _all(asked))
        ]
        return list(islice(merge(*pages, key=lambda each: each.stream), max(limit, 0)))

    async def count(self, *, category: str | None = None, contains: str = "") -> int:
        """How many streams `streams` would list, without a limit."""
        return sum(await _all(part.count_streams(category=category, contains=contains) for part in self._parts))

    # One stream

    async def head(self, stream: StreamId) -> int:
        """The version of a stream; 0: there is none of this name, or it has no event."""
        newest = await self._part(stream).read_stream(stream, limit=1, backward=True)
        return newest[0].version if newest else 0

    async def events(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[RecordedEvent]:
        """Up to `limit` events of a stream: versions after `after`, rising; or, backward, those below it (0: from the
        newest on), falling. Fewer come only at the end, and before an event that is damaged: who asks for that one next
        gets `CorruptRecord`, which names its place."""
        partition = self.partition_of(stream)
        part, left, at = self._parts[partition], limit, after
        found: list[RecordedEvent] = []
        while left > 0:
            page = await self._readable(part, stream, at, min(left, PAGE), backward, first=not found)
            found += (RecordedEvent(record, partition) for record in page)
            if not page or (backward and page[-1].version == 1):
                break
            at, left = page[-1].version, left - len(page)
        return found

    async def _readable(
        self, part: Catalogue, stream: StreamId, at: int, limit: int, backward: bool, *, first: bool
    ) -> list[Recorded]:
        """A page; where it holds a damaged event, what comes before that. The first one raises if it begins with it."""
        try:
            return await part.read_stream(stream, after=at, limit=limit, backward=backward)
        except CorruptRecord as error:
            fewer = (at or await self.head(stream) + 1) - error.version - 1 if backward else error.version - at - 1
            if error.version and 0 < fewer < limit:
                return await self._readable(part, stream, at, fewer, backward, first=first)
            if first:
                raise
            return []

    async def version_at(self, stream: StreamId, time: datetime) -> int:
        """The version that a stream had at a time, by the times of its commands; 0: before its first event. A time
        without an offset is UTC."""
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        return await self._part(stream).version_at(stream, micros_of(aware))

    async def state(self, stream: StreamId, version: int | None = None) -> StateView | None:
        """The state at a version (None: now; a later one than there is: now), as plain data; from the newest snapshot
        that fits, else from the first event. None: its class is not at hand. Raises `CorruptRecord`, `HydrationFailed`.
        """
        definition = self._definitions.get(stream.category)
        if definition is None:
            return None
        found = await hydrate(definition, stream, _Loads(self._part(stream), version), version=version, page=PAGE)
        return StateView(
            stream=stream,
            version=found.version,
            fields=plain_state(definition, found.instance),
            snapshot_version=found.snapshot_version,
            rows_read=found.rows_read,
        )

    async def changes(self, stream: StreamId, after: int = 0, limit: int = 1000) -> list[Change]:
        """Each of up to `limit` events after a version, with what it changed of the state; without the class, the
        events alone. Raises `CorruptRecord`, `HydrationFailed`."""
        events = await self.events(stream, after=after, limit=limit)
        definition = self._definitions.get(stream.category)
        if definition is None or not events:
            return [Change(event=event) for event in events]
        found = await hydrate(definition, stream, _Loads(self._part(stream), after), version=after, page=PAGE)
        instance, before = found.instance, plain_state(definition, found.instance)
        changes: list[Change] = []
        for event in events:
            definition.replay(instance, (_keyless(event.record),))
            state = plain_state(definition, instance)
            changes.append(Change(event=event, differences=tuple(differences(before, state))))
            before = state
            await asyncio.sleep(0)  # a large state must not keep the loop from its other tasks
        return changes

    # All of it

    async def positions(self) -> Positions:
        """The newest position of each partition."""
        return Positions(tuple(extents.head for extents in await _all(part.extents() for part in self._parts)))

    async def recent(
        self, *, limit: int = 100, category: str | None = None, before: Positions | None = None
    ) -> list[RecordedEvent]:
        """The newest events of all partitions, the newest first; of one category, or of all. `before`: only those with
        positions below these (0: from the newest on); after `before = before.past(event)` for all that were returned,
        starting from `Positions.start(look.partitions)`, the next page begins there."""
        ends = before or Positions.start(len(self._parts))
        pages = await _all(
            part.read_newest(before=end, limit=limit, category=category)
            for part, end in zip(self._parts, ends, strict=True)
        )
        found = [[RecordedEvent(each, number) for each in page] for number, page in enumerate(pages)]
        return list(islice(merge(*found, key=_recorded_at, reverse=True), max(limit, 0)))

    async def after(
        self, at: Positions, *, limit: int = 1000, category: str | None = None
    ) -> tuple[list[RecordedEvent], Positions]:
        """A page of what came after these positions, by the times of its commands, and where the next one begins. Empty
        where there is nothing new."""
        pages = await _all(
            part.read_all(after=position, limit=limit, category=category)
            for part, position in zip(self._parts, at, strict=True)
        )
        found = [[RecordedEvent(each, number) for each in page] for number, page in enumerate(pages)]
        events = list(islice(merge(*found, key=_recorded_at), limit))
        for event in events:
            at = at.past(event)
        return events, at

    async def event_at(self, partition: int, position: int) -> RecordedEvent | None:
        """The event at a position of a partition; None if there is none. Raises `CorruptRecord`."""
        if not 0 <= partition < len(self._parts) or position < 1:
            return None
        page = await self._parts[partition].read_all(after=position - 1, limit=1)
        return RecordedEvent(page[0], partition) if page and page[0].position == position else None

    async def related(self, event: RecordedEvent, *, reach: int = REACH) -> Related:
        """What caused an event, what it caused, and what else came of the same request: searched among `reach` events
        before and after it in each partition (in others than its own, around the same time)."""
        around = await _all(self._around(number, event, reach) for number in range(len(self._parts)))
        found = list(merge(*(events for events, _ in around), key=_recorded_at))
        context = event.context
        same: list[RecordedEvent] = []
        causes: list[RecordedEvent] = []
        effects: list[RecordedEvent] = []
        correlated: list[RecordedEvent] = []
        for each in found:
            theirs = each.context
            if theirs.correlation_id == context.correlation_id:
                correlated.append(each)
            if theirs.command_id == context.command_id and (each.category, each.id) == (event.category, event.id):
                same.append(each)
            elif theirs.causation_id == context.command_id:
                effects.append(each)
            elif context.causation_id and theirs.command_id == context.causation_id:
                causes.append(each)
        return Related(
            event=event,
            command=tuple(same),
            causes=tuple(causes),
            effects=tuple(effects),
            correlated=tuple(correlated),
            complete=all(whole for _, whole in around),
        )

    async def _around(self, number: int, event: RecordedEvent, reach: int) -> tuple[list[RecordedEvent], bool]:
        """The events of a partition around one that have an id of it in them, and whether these were all there are."""
        part = self._parts[number]
        own = number == event.partition
        middle = event.position if own else await part.position_at(event.record.recorded_at)
        at, upto, head = max(middle - reach - 1, 0), middle + reach, (await part.extents()).head
        whole = at == 0 and upto >= head
        ids = {event.context.command_id, event.context.correlation_id, event.context.causation_id} - {""}
        written = [id.encode() for id in ids]
        found: list[RecordedEvent] = []
        while at < upto and (page := await part.read_all(after=at, limit=min(PAGE, upto - at))):
            near = (e for e in page if e.command_id in ids or any(id in e.metadata for id in written))
            found += [each for each in (RecordedEvent(record, number) for record in near) if _has_context(each)]
            at = page[-1].position
        return found, whole

    # How it is

    async def health(self) -> JournalHealth:
        """How far it goes, how large it is, how far its readers are. Takes some milliseconds, whatever it holds."""
        parts = await _all(self._health_of(number, part) for number, part in enumerate(self._parts))
        checkpoints = await _all(part.checkpoints() for part in self._parts)
        first = self._parts[0]
        return JournalHealth(
            journal=self.name,
            kind=first.kind,
            schema=first.schema,
            journal_id=first.membership.journal_id.hex(),
            partitions=tuple(parts),
            followers=_followers([part.head for part in parts], checkpoints),
            owners=await first.owners(),
        )

    async def _health_of(self, number: int, part: Catalogue) -> PartitionHealth:
        extents = await part.extents()
        size, log = await part.size()
        latest, problem = None, ""
        try:
            newest = await part.read_newest(limit=1)
            latest = time_of(newest[0].recorded_at) if newest else None
        except JournalError as error:
            problem = str(error)
        return PartitionHealth(
            number=number,
            name=part.name,
            head=extents.head,
            streams=extents.streams,
            bytes_on_disk=size,
            log_bytes=log,
            latest=latest,
            problem=problem,
        )

    async def contents(self) -> JournalContents:
        """What lies beside the events. It is counted, which takes a while where there is much of it."""
        each = await _all(part.contents() for part in self._parts)
        snapshots, keyed, reminders = (
            None if None in counts else sum(filter(None, counts)) for counts in zip(*each, strict=True)
        )
        return JournalContents(snapshots=snapshots, keyed_replies=keyed, reminders=reminders)


class _Loads:
    """A catalogue, as hydration reads up to a version: what is damaged beyond that is of no concern. What is compressed
    comes expanded, and what is sealed blank; a sealed snapshot is one that cannot be used."""

    def __init__(self, part: Catalogue, version: int | None) -> None:
        self._part, self._version = part, version

    def load(self, load: Load) -> "asyncio.Future[Loaded]":
        return asyncio.ensure_future(self._load(load))

    async def _load(self, load: Load) -> Loaded:
        loaded = await self._bounded(load)
        snapshot = loaded.snapshot
        if snapshot is not None:
            with suppress(CodecError):
                snapshot = replace(snapshot, payload=expanded(snapshot.payload))
        return replace(loaded, snapshot=snapshot, events=tuple(map(_keyless, loaded.events)))

    async def _bounded(self, load: Load) -> Loaded:
        try:
            return await self._part.load(load)
        except CorruptRecord as error:
            if self._version is None or error.version <= self._version:
                raise
        start = await self._part.load(replace(load, limit=0))
        wanted = self._version - (start.snapshot.version if start.snapshot else load.after)
        return await self._part.load(replace(load, limit=min(load.limit, wanted)))


def _keyless(event: E) -> E:
    """One whose seal or compression is damaged stays as it is: its replay tells, if it comes to that."""
    try:
        return keyless(event)
    except CodecError:
        return event


async def _all(questions: Iterable[Awaitable[T]]) -> list[T]:
    """All at once; what any of them raises is raised."""
    return list(await asyncio.gather(*questions))


def _definitions(classes: Iterable[type]) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for cls in classes:
        if not issubclass(cls, Aggregate):
            raise DefinitionError(cls.__qualname__, "is no aggregate class")
        definition = definition_of(cls)
        other = found.setdefault(definition.category, definition)
        if other.type is not cls:
            problem = f"category {definition.category!r} belongs to {other.type.__module__}.{other.type.__qualname__}"
            raise DefinitionError(f"{cls.__module__}.{cls.__qualname__}", problem)
    return found


def _recorded_at(event: RecordedEvent) -> int:
    return event.record.recorded_at


def _has_context(event: RecordedEvent) -> bool:
    try:
        event.context  # noqa: B018
    except CodecError:
        return False
    return True


def _followers(heads: Sequence[int], checkpoints: Sequence[Sequence[CheckpointRow]]) -> tuple[FollowerView, ...]:
    """`checkpoints`: of each partition."""
    owners = {row.name: row.owner for rows in reversed(checkpoints) for row in rows if is_position(row.name)}
    at = [{row.name: row.position for row in rows} for rows in checkpoints]
    return tuple(
        FollowerView(
            name=name,
            owner=owner,
            positions=tuple(rows.get(name) for rows in at),
            lag=sum(max(head - (rows.get(name) or 0), 0) for head, rows in zip(heads, at, strict=True)),
        )
        for name, owner in sorted(owners.items())
    )
