"""Verification: is this journal what was acknowledged? Read-only, beside the live writer or without one.

It looks at the events as they are at the start, up to the newest position then, and at what has no position as it is
when its turn comes. It takes bounded memory, however long the journal is: each step reads pages in an order in which
what belongs together comes together.

    storage     the file or database itself
    events      in the order of positions: each as it was written, no position missing
    versions    by stream: 1, 2, 3 …, positions rising with them
    streams     none without anything in it, names that can be
    keys        keyed replies as they were written, of versions that exist
    snapshots   as they were written, of versions that exist
    owners      epochs one above the other, one incarnation each
    checkpoints none beyond the newest position, each saved by a claim that was made
    reminders   the index of those that are pending is what the events say
    claims      in a journal of partitions: none has an owner that the first one does not know
    replay      for types whose class is at hand: every stream replays, and every snapshot is what replay says

A journal of partitions is verified one partition after the other; each stream must lie in the one that its name says.

A checksum finds rot, not malice: who can write the file can compute one. How types are registered has none, nor have
the names of incarnations. And a journal cannot tell by itself that it once was longer than its storage remembers: a
backup that is older is right in itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol, TypeVar

from .errors import ForeignPartition, HoldfastError, JournalOpenError, PartitionConflict
from .partition import WHOLE, Partition, partition_of
from .postgres import PostgresStore
from .postgres_verify import PostgresSource
from .progress import Progress, unseen
from .records import Recorded, Snapshot, StreamId
from .sqlite_partitions import partition_path
from .sqlite_verify import SqliteSource
from .store import Store
from .url import JournalUrl
from .verify_reminders import PendingReminders
from .verify_report import Kind, Problem, Report
from .verify_source import CheckpointRow, OwnerRow, SnapshotRow, Source, StoreSource, Unreadable

__all__ = ["Problem", "Replay", "Report", "open_source", "open_sources", "verify"]

PROBLEMS_MAX = 1000
"""Problems that a report holds. Beyond, they are counted."""

CLAIMS_KEPT_MIN = 8
"""Of an owner with more claims, the newest are remembered, so many at least."""

_T = TypeVar("_T")


class Replay(Protocol):
    """One aggregate type that can be replayed here. `holdfast.actors.verify` makes one from a class."""

    category: str

    def start(self, stream: StreamId) -> None:
        """Go to the first event of another stream."""
        ...

    def apply(self, event: Recorded) -> None:
        """Apply the next event. Raises `HoldfastError` if that cannot be done."""
        ...

    def compare(self, snapshot: Snapshot) -> str | None:
        """How the snapshot parts from the state so far ("": it does not). None: it is not for this code."""
        ...


async def open_source(url: str) -> Source:
    """The journal that a URL names, or its first partition, opened for reading only. Raises `JournalUrlError`,
    `JournalOpenError`, and `JournalUnavailable` where no server answers."""
    return await _open(JournalUrl.parse(url), 0)


async def open_sources(url: str) -> list[Source]:
    """All partitions of the journal that a URL names, whether or not it says how many there are. Raises as
    `open_source` does, `PartitionConflict` where one says that it is another, and `ForeignPartition` where one says
    that it is another journal's than the first."""
    parsed = JournalUrl.parse(url)
    async with AsyncExitStack() as opened:
        sources: list[Source] = []
        count = parsed.partitions
        while len(sources) < count:
            source = await _open(parsed, len(sources))
            opened.push_async_callback(source.close)
            if not sources and parsed.partitions == 1 and source.partition is not None:
                count = source.partition.count
            asked = Partition(len(sources), count)
            if source.partition not in (None, asked):
                raise PartitionConflict(source.name, str(source.partition), str(asked))
            sources.append(source)
            _check_journal(source, sources[0])
        opened.pop_all()
    return sources


def _check_journal(source: Source, first: Source) -> None:
    found, wanted = source.membership, first.membership
    if found and wanted and found.journal_id != wanted.journal_id:
        raise ForeignPartition(source.name, found.journal_id.hex(), wanted.journal_id.hex())


async def _open(url: JournalUrl, partition: int) -> Source:
    if url.scheme == "sqlite":
        return await SqliteSource.open(partition_path(url.path, Partition(partition, partition + 1)))
    store = url.store(partition)
    if isinstance(store, PostgresStore):
        return await PostgresSource.open(store.door)
    raise JournalOpenError(url.redacted, f"a journal of kind {url.scheme} cannot be verified by its URL")


async def verify(
    journal: Source | Store | Sequence[Source],
    *,
    category: str | None = None,
    replays: Iterable[Replay] = (),
    progress: Progress = unseen,
    problems_max: int = PROBLEMS_MAX,
) -> Report:
    """Look at everything, and report. `category`: only the streams of one. `replays`: types to replay as well. A
    sequence of sources is the partitions of a journal, in order.

    A source is closed in the end, a store is not. Raises `JournalError` if there was no verifying it: it is not
    there, it is another thing, it changed in a way in which what was read says nothing.
    """
    if isinstance(journal, Store):
        journal = StoreSource(journal)
    sources = [journal] if isinstance(journal, Source) else journal
    runs = [_Verification(source, category, tuple(replays), progress, problems_max) for source in sources]
    async with AsyncExitStack() as opened:
        for source in sources:
            opened.push_async_callback(source.close)
        for run in runs:
            opened.callback(run.close)
        for run in runs:
            await run.run()
        _check_category(runs, category)
        for run in runs[1:]:
            await run.compare_claims(sources[0])
    reports = [run.report for run in runs]
    return reports[0] if len(reports) == 1 else Report.combined(reports, problems_max)


class _Verification:
    """One run. The steps are independent: what one cannot read, the next may."""

    def __init__(
        self, source: Source, category: str | None, replays: Sequence[Replay], progress: Progress, problems_max: int
    ) -> None:
        self._source, self._category, self._replays = source, category, replays
        self._progress, self._problems_max = progress, problems_max
        self._partition = source.partition or WHOLE
        self._claims: dict[str, list[OwnerRow]] = {}
        self._upto = 0
        self._pending = PendingReminders()
        self.categories: Sequence[str] | None = None
        self.report = Report(journal=source.name, category=category, notes=list(source.notes))

    def close(self) -> None:
        """Let go of what was gathered."""
        self._pending.close()

    async def run(self) -> None:
        """All steps, in order."""
        await self._step("storage", self._storage)
        if not await self._step("extent", self._extent):
            return
        await self._step("events", self._events)
        await self._step("versions", self._versions)
        await self._step("streams", self._streams)
        await self._step("keys", self._keyed_replies)
        await self._step("snapshots", self._snapshots)
        await self._step("owners", self._owners)
        if self._source.indexed:
            await self._step("checkpoints", self._checkpoints)
            await self._step("reminders", self._reminders)
        for replay in self._replays:
            await self._step("replay", partial(self._replay, replay))

    async def _step(self, name: str, step: Callable[[], Awaitable[None]]) -> bool:
        self._progress(name, 0, 0)
        try:
            await step()
        except Unreadable as error:
            self._found("storage", f"{name}: {error}")
            return False
        return True

    def _found(self, kind: Kind, problem: str, stream: str = "", version: int = 0, position: int = 0) -> None:
        """What is empty or 0 is not known: no version and no position is."""
        at = position or None
        self._add(Problem(kind=kind, problem=problem, stream=stream or None, version=version or None, position=at))

    def _add(self, problem: Problem) -> None:
        self.report.problem_count += 1
        if len(self.report.problems) < self._problems_max:
            self.report.problems.append(problem)

    async def _counted(self, what: str, pages: AsyncIterator[Sequence[_T]], total: int = 0) -> AsyncIterator[_T]:
        """The rows of all pages, one by one."""
        done = 0
        self.report.counts.setdefault(what, 0)
        async for page in pages:
            for row in page:
                yield row
            done += len(page)
            self.report.counts[what] = done
            self._progress(what.replace("_", " "), done, total)

    # The steps

    async def _storage(self) -> None:
        for problem in await self._source.damage():
            self._add(problem)
        if self._source.partition is None:
            self._found("storage", "it does not say which partition of a journal it is")

    async def _extent(self) -> None:
        extent = await self._source.extent()
        self.report.upto = self._upto = extent.newest
        self.categories = extent.categories
        if extent.used != extent.newest:
            problem = f"the journal has handed out position {extent.used}, and its last event is at {extent.newest}"
            self._found("position", problem, position=extent.newest + 1)

    async def _events(self) -> None:
        upto, whole, last = self._upto, self._category is None, 0
        rows = self._counted("events", self._source.events(upto, self._category), upto if whole else 0)
        async for row in rows:
            if whole and row.position != last + 1:
                self._found("position", _missing(last + 1, row.position - 1), position=last + 1)
            last = row.through or row.position
            if row.problem:
                self._found("event", row.problem, row.stream, row.version, row.position)
            if row.reminder:
                self._pending.apply(row.key, row.reminder)
        if whole and last < upto:
            self._found("position", _missing(last + 1, upto), position=last + 1)

    async def _versions(self) -> None:
        key, version, position = None, 0, 0
        rows = self._counted("versions", self._source.versions(self._upto, self._category), self._upto)
        async for row in rows:
            if row.key != key:
                key, version, position = row.key, 0, 0
            if row.version > version + 1:
                stream = await self._source.stream_name(row.key)
                self._found("version", _missing(version + 1, row.version - 1), stream, version + 1)
            elif row.version <= version:
                stream = await self._source.stream_name(row.key)
                problem = f"version {row.version} stands where {version + 1} should"
                self._found("version", problem, stream, row.version, row.position)
            if row.position <= position:
                stream = await self._source.stream_name(row.key)
                problem = f"stands before version {version}, which is at position {position}"
                self._found("version", problem, stream, row.version, row.position)
            version, position = row.version, row.position
        del self.report.counts["versions"]

    async def _streams(self) -> None:
        async for row in self._counted("streams", self._source.streams(self._category)):
            if row.problem:
                self._found("stream", row.problem, row.stream)
            elif not row.version and not row.has_keys:
                self._found("stream", "there is nothing in it", row.stream)
            elif (wanted := _home(row.stream, self._partition)) != self._partition.number:
                self._found("stream", f"it belongs to partition {wanted}", row.stream)

    async def _keyed_replies(self) -> None:
        async for row in self._counted("keyed_replies", self._source.keyed_replies(self._category)):
            if row.problem:
                self._found("keyed reply", row.problem, row.stream, row.version)
            elif not 0 <= row.version <= row.head:
                problem = f"keyed reply {row.key!r} is of version {row.version}, the stream ends at {row.head}"
                self._found("keyed reply", problem, row.stream, row.version)

    async def _snapshots(self) -> None:
        async for row in self._counted("snapshots", self._source.snapshots(self._category)):
            if row.problem:
                self._found("snapshot", row.problem, row.stream, row.version)
            elif not 1 <= row.version <= row.head:
                problem = f"a snapshot of version {row.version}, the stream ends at {row.head}"
                self._found("snapshot", problem, row.stream, row.version)

    async def _owners(self) -> None:
        self._claims = _by_owner(await self._source.owners())
        self.report.counts["owners"] = len(self._claims)
        for owner, rows in self._claims.items():
            for problem in _claim_problems(rows, skips=self._partition.number > 0):
                self._found("owner", f"owner {owner!r}: {problem}")

    async def _checkpoints(self) -> None:
        """Read before what they are held against: whatever was saved meanwhile lies below that."""
        rows = await self._source.checkpoints()
        epochs = {owner: claims[-1].epoch for owner, claims in _by_owner(await self._source.owners()).items()}
        head = (await self._source.extent()).used
        self.report.counts["checkpoints"] = len(rows)
        for row in rows:
            for problem in _checkpoint_problems(row, epochs.get(row.owner, 0), head):
                self._found("checkpoint", f"checkpoint {row.name!r}: {problem}")

    async def _reminders(self) -> None:
        rows = self._counted("reminders", self._source.reminders(self._category))
        async for found in self._pending.problems(self._source, rows):
            self._found("reminder", *found)

    async def compare_claims(self, first: Source) -> None:
        """Hold the claims that were found here against those of the first partition, where each of them began: read
        after them, it has them all, and newer ones."""

        async def compare() -> None:
            there = _by_owner(await first.owners())
            for owner, rows in self._claims.items():
                for problem in _disagreements(rows, there.get(owner, [])):
                    self._found("owner", f"owner {owner!r}: {problem}")

        await self._step("claims", compare)

    async def _replay(self, replay: Replay) -> None:
        if self._category not in (None, replay.category):
            return
        self.report.counts.setdefault("events_replayed", 0)
        self.report.counts.setdefault("snapshots_replayed", 0)
        snapshots = _Ahead(self._source.snapshots(replay.category))
        key, broken = None, False
        async for page in self._source.histories(self._upto, replay.category):
            for at, event in page:
                if at != key:
                    key, broken = at, False
                    replay.start(event.stream)
                broken = broken or not self._applied(replay, event)
                if not broken:
                    await self._compare(replay, snapshots, at, event)
            self._progress("replay", self.report.counts["events_replayed"], self._upto)

    def _applied(self, replay: Replay, event: Recorded) -> bool:
        try:
            replay.apply(event)
        except HoldfastError as error:
            problem = getattr(error, "problem", str(error))
            self._found("replay", problem, str(event.stream), event.version, event.position)
            return False
        self.report.counts["events_replayed"] += 1
        return True

    async def _compare(self, replay: Replay, snapshots: "_Ahead", key: int, event: Recorded) -> None:
        """Compare the snapshots of this event's version; those before it are of streams that broke, or damaged."""
        while (row := await snapshots.peek()) and (row.key, row.version) <= (key, event.version):
            snapshots.take()
            if (row.key, row.version) != (key, event.version) or row.snapshot is None:
                continue
            difference = replay.compare(row.snapshot)
            self.report.counts["snapshots_replayed"] += difference is not None
            if difference:
                problem = f"is not what its events say: {difference}"
                self._found("snapshot", problem, row.stream, row.version, event.position)


class _Ahead:
    """The rows of pages, with a look at the next one."""

    def __init__(self, pages: AsyncIterator[Sequence[SnapshotRow]]) -> None:
        self._pages, self._page = pages, list[SnapshotRow]()

    async def peek(self) -> SnapshotRow | None:
        while not self._page:
            page = await anext(self._pages, None)
            if page is None:
                return None
            self._page = list(reversed(page))
        return self._page[-1]

    def take(self) -> None:
        self._page.pop()


def _missing(first: int, last: int) -> str:
    """Said of the place of the first."""
    if last < first:
        return f"{last + 1} stands in its place"
    return "is missing" if first == last else f"is missing, and so are all up to {last}"


def _check_category(runs: Sequence[_Verification], category: str | None) -> None:
    """A category may have streams in some partitions only; one that is nowhere was mistyped."""
    if category is None or any(run.categories is None for run in runs):
        return
    there = sorted({name for run in runs for name in run.categories or ()})
    if category not in there:
        raise JournalOpenError(
            runs[0].report.journal, f"has no category {category!r}; there are: {', '.join(there) or 'none'}"
        )


def _home(stream: str, partition: Partition) -> int:
    """The number of the partition that a stream belongs to, by its name."""
    category, _, id = stream.partition("/")
    return partition_of(StreamId(category, id), partition.count)


def _by_owner(rows: Iterable[OwnerRow]) -> dict[str, list[OwnerRow]]:
    claims: dict[str, list[OwnerRow]] = {}
    for row in rows:
        claims.setdefault(row.owner, []).append(row)
    return claims


def _disagreements(rows: Sequence[OwnerRow], first: Sequence[OwnerRow]) -> Iterable[str]:
    """How the claims of one owner part from those that the first partition remembers."""
    known = {row.epoch: row.incarnation for row in first}
    newest = max(known, default=0)
    for row in rows:
        if row.epoch > newest:
            yield f"epoch {row.epoch} is here, the first partition has drawn up to {newest}"
        elif known.get(row.epoch, row.incarnation) != row.incarnation:
            yield f"epoch {row.epoch} is that of {row.incarnation!r} here, of {known[row.epoch]!r} in the first one"


def _checkpoint_problems(row: CheckpointRow, epoch: int, head: int) -> Iterable[str]:
    """`epoch`: the newest of its owner; `head`: the newest position."""
    if not 0 <= row.position <= head:
        yield f"position {row.position}, the journal goes up to {head}"
    if not 1 <= row.epoch <= epoch:
        yield f"saved at epoch {row.epoch} of owner {row.owner!r}, whose newest is {epoch}"


def _claim_problems(rows: Sequence[OwnerRow], *, skips: bool) -> Iterable[str]:
    """`rows`: one owner's, by epoch. They are the newest of 1, 2, 3 …; where `skips`, of some of these."""
    incarnations: dict[str, int] = {}
    for before, row in zip([None, *rows], rows, strict=False):
        if row.epoch < 1:
            yield f"epoch {row.epoch}, the first is 1"
        elif before is not None and (row.epoch <= before.epoch if skips else row.epoch != before.epoch + 1):
            yield f"epoch {row.epoch} follows {before.epoch}"
        other = incarnations.setdefault(row.incarnation, row.epoch)
        if other != row.epoch:
            yield f"incarnation {row.incarnation!r} has epochs {other} and {row.epoch}"
    if rows[0].epoch > 1 and len(rows) < CLAIMS_KEPT_MIN and not skips:
        yield f"{len(rows)} claims are there, up to epoch {rows[-1].epoch}; those before are missing"
