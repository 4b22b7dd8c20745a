"""Exporting: a journal, as it was at one cut, becomes an archive. Constant memory; writers are never waited for.

1. The head of each partition is asked: the cut. What is written later is not in the archive.
2. Keyed replies, events, checkpoints and, if asked for, snapshots are read page by page and written frame by frame.
3. The totals end it.

A crash leaves the frames that were written. `archive_resume.py` reads them again and says where to go on, with the cut
that stands in the header: the archive becomes, byte for byte, the one that it would have been.
"""

from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack

from .archive import CHECKPOINTS, COMPRESSIONS, EVENTS, FORMAT, KEYS, SNAPSHOTS, ArchivedCheckpoint, Header
from .archive_digest import Contents, ContentsDigest
from .archive_merge import merged
from .archive_postgres import PostgresArchiveSource
from .archive_resume import Begun
from .archive_source import ArchiveSource
from .archive_sqlite import SqliteArchiveSource
from .archive_writer import ArchiveWriter, Sink
from .errors import ForeignPartition, JournalOpenError, PartitionConflict
from .partition import Partition
from .postgres import PostgresStore
from .progress import Progress, unseen
from .records import Recorded
from .sqlite_partitions import partition_path
from .url import JournalUrl

__all__ = ["contents_of", "export", "open_archive_sources"]

_BEFORE_ALL = ("", "", "")


async def open_archive_sources(url: str, *, one_moment: bool = False) -> list[ArchiveSource]:
    """All partitions of the journal that a URL names, whether or not it says how many there are. Raises
    `JournalUrlError`, `JournalOpenError`s, and `JournalUnavailable` where no server answers.

    `one_moment`: of PostgreSQL, in one snapshot of the database."""
    parsed = JournalUrl.parse(url)
    async with AsyncExitStack() as opened:
        sources: list[ArchiveSource] = []
        count = parsed.partitions
        snapshot = ""
        while len(sources) < count:
            source = await _open(parsed, len(sources))
            opened.push_async_callback(source.close)
            if not sources and parsed.partitions == 1:
                count = source.membership.partition.count
            _check(source, Partition(len(sources), count), sources)
            if one_moment and isinstance(source, PostgresArchiveSource):
                snapshot = await source.hold(snapshot)
            sources.append(source)
        opened.pop_all()
    return sources


def _check(source: ArchiveSource, asked: Partition, before: Sequence[ArchiveSource]) -> None:
    found = source.membership
    if found.partition != asked:
        raise PartitionConflict(source.name, str(found.partition), str(asked))
    if before and found.journal_id != before[0].membership.journal_id:
        raise ForeignPartition(source.name, found.journal_id.hex(), before[0].membership.journal_id.hex())


async def _open(url: JournalUrl, partition: int) -> ArchiveSource:
    if url.scheme == "sqlite":
        return await SqliteArchiveSource.open(partition_path(url.path, Partition(partition, partition + 1)))
    store = url.store(partition)
    if isinstance(store, PostgresStore):
        return await PostgresArchiveSource.open(store.door)
    raise JournalOpenError(url.redacted, f"a journal of kind {url.scheme} cannot be read by its URL")


async def export(
    sources: Sequence[ArchiveSource],
    sink: Sink,
    *,
    categories: Collection[str] = (),
    snapshots: bool = False,
    compress: bool = False,
    begun: Begun | None = None,
    progress: Progress = unseen,
) -> Contents:
    """Write the partitions of a journal as an archive, and return what is in it.

    `categories`: only these; all if there are none. `begun`: what of the archive is in the sink already. Raises
    `CorruptRecord` for what is damaged in the journal, and whatever the sink raises; the archive is then torn.
    """
    if begun is None:
        upto = tuple([await source.head() for source in sources])
        header = Header(
            format=FORMAT,
            upto=upto,
            categories=tuple(sorted(set(categories))),
            snapshots=snapshots,
            compression=COMPRESSIONS[compress],
        )
        writer = ArchiveWriter(sink, header, contents=ContentsDigest(len(sources)))
        await writer.begin()
        begun = Begun(header=header)
    else:
        header = begun.header
        assert begun.contents is not None, "it was read"
        writer = ArchiveWriter(sink, header, chain=begun.chain, contents=begun.contents)
    await _Export(sources, header, begun, writer, progress).run()
    return writer.contents.contents()


class _Export:
    """One run."""

    def __init__(
        self,
        sources: Sequence[ArchiveSource],
        header: Header,
        begun: Begun,
        writer: ArchiveWriter,
        progress: Progress,
    ) -> None:
        self._sources, self._header, self._begun = sources, header, begun
        self._writer, self._progress = writer, progress

    async def run(self) -> None:
        """All sections, from where they were left."""
        if not self._begun.has_events:
            await self._keyed_replies()
        await self._events()
        if not self._header.categories:
            await self._checkpoints()
        if self._header.snapshots:
            await self._snapshots()
        await self._writer.end()

    async def _keyed_replies(self) -> None:
        header, after = self._header, self._begun.last_key or _BEFORE_ALL
        await self._writer.section(KEYS)
        parts = [
            source.keyed_replies(upto, header.categories, after)
            for source, upto in zip(self._sources, header.upto, strict=True)
        ]
        async for page in merged(parts, lambda key: (key.category, key.id, key.key)):
            for _, key in page:
                if self._writer.keyed_reply(key):
                    await self._writer.flush()
            self._progress("keyed replies", self._writer.contents.keyed_replies, 0)

    async def _events(self) -> None:
        contents, header, writer = self._writer.contents, self._header, self._writer
        await writer.section(EVENTS)
        total = 0 if header.categories else sum(header.upto)
        parts = [
            source.events(contents.position(number), upto, header.categories)
            for number, (source, upto) in enumerate(zip(self._sources, header.upto, strict=True))
        ]
        async for page in merged(parts, _time_of):
            for number, event in page:
                if writer.event(number, event):
                    await writer.flush()
            self._progress("events", contents.events, total)

    async def _checkpoints(self) -> None:
        """As far as the cut: a follower that is beyond it has done all of the archive."""
        await self._writer.section(CHECKPOINTS)
        for number, source in enumerate(self._sources):
            upto = self._header.upto[number]
            for name, position in await source.checkpoints():
                checkpoint = ArchivedCheckpoint(partition=number, name=name, position=min(position, upto))
                if self._writer.checkpoint(checkpoint):
                    await self._writer.flush()

    async def _snapshots(self) -> None:
        header = self._header
        await self._writer.section(SNAPSHOTS)
        parts = [
            source.snapshots(upto, header.categories) for source, upto in zip(self._sources, header.upto, strict=True)
        ]
        async for page in merged(parts, lambda each: (each.category, each.id, each.version, each.schema)):
            for _, snapshot in page:
                if self._writer.snapshot(snapshot):
                    await self._writer.flush()
            self._progress("snapshots", self._writer.snapshots, 0)


def _time_of(event: Recorded) -> int:
    return event.recorded_at


class _Nowhere:
    """Takes an archive, and keeps nothing of it."""

    def write(self, data: bytes, /) -> object:
        return len(data)


async def contents_of(
    sources: Sequence[ArchiveSource], *, categories: Collection[str] = (), progress: Progress = unseen
) -> Contents:
    """What a journal holds, with digests that are equal for equal contents."""
    return await export(sources, _Nowhere(), categories=categories, progress=progress)
