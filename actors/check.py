"""Checking, before a deployment: would this code read what a journal holds?

For each type of each category that is stored: how many events there are, and whether whoever reads them can. That is
the aggregate of the category, and the projections and reactions that name the event, each by its own classes and
upcasters. It reads as `verify` does: beside a writer, changing nothing, in bounded memory.

Some events of each type are really opened, the first and the last among them; all, if it is told so. There are no keys
here, so what is sealed counts as forgotten. What is damaged is passed over: that is for `verify` to tell.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from holdfast.journal.errors import HoldfastError
from holdfast.journal.event_types import name_and_version
from holdfast.journal.progress import Progress, unseen
from holdfast.journal.records import Recorded
from holdfast.journal.reminders import RESERVED_PREFIX
from holdfast.journal.sealed import keyless
from holdfast.journal.verify_source import Extent, SnapshotRow

from .aggregate import Aggregate
from .check_report import CheckReport, Place, SnapshotsFound, TypeFound
from .definition import Definition, definition_of
from .errors import DefinitionError
from .reading import Reading

__all__ = ["CheckReport", "CheckSource", "EventReader", "FollowingReader", "check", "readers_of"]

SAMPLES = 20
"""Events of each type that are opened, beside the first and the last."""


class CheckSource(Protocol):
    """What a check reads of a journal, or of one partition of it. `holdfast.journal.verify_source.Source` is one."""

    name: str

    async def extent(self) -> Extent:
        """How far it goes, and which categories there are."""
        ...

    def histories(self, upto: int, category: str) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """The events of a category up to a position."""
        ...

    def snapshots(self, category: str | None) -> AsyncIterator[Sequence[SnapshotRow]]:
        """The snapshots of a category."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class EventReader(Protocol):
    """Somebody who reads events, as far as it matters here. `name`: for people. `category`: of the streams that it
    reads all of; None: it reads what it `wants`, wherever that is."""

    name: str
    category: str | None

    def wants(self, stored: str) -> bool:
        """Whether events of a type are its business."""
        ...

    def problem(self, record: Recorded) -> str:
        """Why it cannot read an event; empty if it can."""
        ...


class AggregateReader:
    """An aggregate reads all of its category."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name: str = definition.type.__qualname__
        self.category: str | None = definition.category

    def wants(self, stored: str) -> bool:
        """All."""
        return True

    def problem(self, record: Recorded) -> str:
        """In the words of a hydration that fails there."""
        spec = self.definition.events_by_name.get(record.type)
        if spec is None:
            newer = self.definition.reading.too_new(record.type)
            return newer.problem if newer else f"no method of {self.name} applies {record.type!r}"
        try:
            spec.codec.decode(keyless(record).payload)
        except HoldfastError as error:
            return str(error)
        return ""


class FollowingReader:
    """A projection or a reaction reads what it has handlers for, wherever it is."""

    def __init__(self, name: str, reading: Reading) -> None:
        self.name, self._reading = name, reading
        self.category: str | None = None

    def wants(self, stored: str) -> bool:
        """What its classes stand for, at newer versions too."""
        return self._reading[stored] is not None

    def problem(self, record: Recorded) -> str:
        """Of the event, or of one that it was upcast to."""
        try:
            for event in self._reading.opened(keyless(record), 0):
                _ = event.event
        except HoldfastError as error:
            return str(error)
        return ""


def readers_of(classes: Iterable[type[Aggregate]]) -> list[EventReader]:
    """The readers that aggregate and reaction classes are. Raises `DefinitionError`, for two of one category too."""
    readers: list[EventReader] = []
    taken: dict[str, type] = {}
    for cls in classes:
        definition = definition_of(cls)
        if taken.setdefault(definition.category, cls) is not cls:
            other = taken[definition.category]
            raise DefinitionError(cls.__qualname__, f"category {definition.category!r} belongs to {other.__qualname__}")
        readers.append(AggregateReader(definition))
        if definition.reactions:
            readers.append(FollowingReader(definition.type.__qualname__, definition.reactions.reading))
    return readers


async def check(
    sources: Sequence[CheckSource],
    readers: Sequence[EventReader],
    *,
    category: str | None = None,
    samples: int | None = SAMPLES,
    progress: Progress = unseen,
) -> CheckReport:
    """Compare what a journal holds with who reads it. `sources`: its partitions, in order; they are closed in the end.
    `category`: only that one. `samples`: None: open every event. Raises `JournalError`s for what keeps it from running.
    """
    async with AsyncExitStack() as opened:
        for source in sources:
            opened.push_async_callback(source.close)
        run = _Check(readers, samples, progress)
        for partition, source in enumerate(sources):
            await run.read(partition, source, category)
    return run.report(sources[0].name, category)


class _Check:
    """One run."""

    def __init__(self, readers: Sequence[EventReader], samples: int | None, progress: Progress) -> None:
        self._readers, self._samples, self._progress = readers, samples, progress
        self._found: dict[tuple[str, str], _Gathered] = {}
        self._snapshots: dict[str, tuple[int, int]] = {}
        self._own = {reader.category: reader for reader in readers if reader.category is not None}
        self._upto: list[int] = []

    async def read(self, partition: int, source: CheckSource, only: str | None) -> None:
        """One partition."""
        extent = await source.extent()
        self._upto.append(extent.newest)
        done = 0
        for category in extent.categories if only is None else (only,):
            if category.startswith(RESERVED_PREFIX):
                continue  # our own
            async for page in source.histories(extent.newest, category):
                for _, record in page:
                    self._take(partition, record)
                done += len(page)
                self._progress("events", done, extent.newest)
            await self._count_snapshots(source, category)

    def _take(self, partition: int, record: Recorded) -> None:
        kind = record.stream.category, record.type
        found = self._found.get(kind)
        if found is None:
            readers = [each for each in self._readers if self._is_asked(each, *kind)]
            found = self._found[kind] = _Gathered(readers, self._samples)
        found.take(partition, record)

    def _is_asked(self, reader: EventReader, category: str, stored: str) -> bool:
        return reader.wants(stored) and reader.category in (None, category)

    async def _count_snapshots(self, source: CheckSource, category: str) -> None:
        reader = self._own.get(category)
        if not isinstance(reader, AggregateReader):
            return
        schema = reader.definition.schema
        count, ignored = self._snapshots.get(category, (0, 0))
        async for page in source.snapshots(category):
            snapshots = [row.snapshot for row in page if row.snapshot is not None]
            count += len(snapshots)
            ignored += sum(each.schema != schema for each in snapshots)
        self._snapshots[category] = count, ignored

    def report(self, journal: str, only: str | None) -> CheckReport:
        """What was found."""
        categories = sorted({category for category, _ in self._found})
        return CheckReport(
            journal=journal,
            upto=tuple(self._upto),
            types=tuple(self._found[kind].result(*kind) for kind in sorted(self._found)),
            snapshots=tuple(
                SnapshotsFound(category=category, count=count, ignored=ignored)
                for category, (count, ignored) in sorted(self._snapshots.items())
                if count
            ),
            unseen=tuple(self._unseen(only)),
            unclaimed=tuple(each for each in categories if each not in self._own),
        )

    def _unseen(self, only: str | None) -> list[str]:
        unseen: list[str] = []
        for category, reader in sorted(self._own.items()):
            if isinstance(reader, AggregateReader) and only in (None, category):
                names = {name_and_version(stored)[0] for of, stored in self._found if of == category}
                ancestry, events = reader.definition.ancestry, reader.definition.events
                missing = events.keys() - {ancestry.named.get(name) for name in names}
                unseen += sorted(f"{category} {name_and_version(events[cls].name)[0]}" for cls in missing)
        return unseen


class _Gathered:
    """What has been seen of one type, and those that are going to be opened: the first, the last, and some between,
    evenly, however many come."""

    def __init__(self, readers: Sequence[EventReader], samples: int | None) -> None:
        self._readers, self._samples_max = readers, samples
        self._count = self._opened = self._failed = 0
        self._kept: list[tuple[Place, Recorded]] = []
        self._stride = 1
        self._ends: list[tuple[Place, Recorded]] = []
        self._problem, self._reader = "", ""  # the first one, and whose it is
        self._place: Place | None = None

    def take(self, partition: int, record: Recorded) -> None:
        """One more."""
        place = Place(position=record.position, partition=partition, stream=str(record.stream), version=record.version)
        seen = place, record
        if not self._ends:
            self._ends = [seen, seen]
        elif place < self._ends[0][0]:
            self._ends[0] = seen
        elif place > self._ends[1][0]:
            self._ends[1] = seen
        if self._samples_max is None:
            self._open(*seen)
        elif self._count % self._stride == 0:
            self._kept.append(seen)
            if len(self._kept) > self._samples_max:
                self._kept, self._stride = self._kept[::2], 2 * self._stride
        self._count += 1

    def _open(self, place: Place, record: Recorded) -> None:
        self._opened += 1
        problems = [(problem, reader.name) for reader in self._readers if (problem := reader.problem(record))]
        if problems:
            self._failed += 1
            if self._place is None or place < self._place:
                (self._problem, self._reader), self._place = problems[0], place

    def result(self, category: str, stored: str) -> TypeFound:
        """Opens what was kept for that."""
        if self._samples_max is not None and self._readers:
            for place, record in dict([*self._ends, *self._kept]).items():
                self._open(place, record)
        name, version = name_and_version(stored)
        return TypeFound(
            category=category,
            type=stored,
            name=name,
            version=version,
            count=self._count,
            first=self._ends[0][0],
            last=self._ends[1][0],
            opened=self._opened,
            failed=self._failed,
            readers=tuple(dict.fromkeys(reader.name for reader in self._readers)),
            problem=self._problem,
            reader=self._reader,
            place=self._place,
        )
