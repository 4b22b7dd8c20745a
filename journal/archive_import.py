"""Importing: an archive becomes a journal, through the appends that every store has.

Each frame is one transaction of a few thousand records. An append keeps what an event is made of (type, payload,
metadata, command id, reply, time), works out checksums anew, keeps the index of reminders, and gives the next position:
the archived one, where the target holds nothing else and has as many partitions. Elsewhere events keep their order, in
each stream and as the archive has them, and their positions are new.

**Interrupted, it goes on.** What is there is compared with the archive, which is read again from its beginning:

- As long as a partition holds, position for position, what the archive says, there is nothing to write. That is where
  an interrupted import stands, and costs reading.
- From the first event on that it does not, streams are looked up one by one: of each, what is there must be what the
  archive has at those versions (`ForeignHistory` names the first that differs), and what is not there is appended.

The import claims an owner of its own, once for each run: nobody else's epoch is touched, and one that another import
took over from is fenced. A runtime must not be at work on the target: a store has one writer, and it is refused.

Before this: an archive, of which each frame is checked. After this: the target holds it, besides what it held.
"""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import msgspec

from .archive import ArchivedCheckpoint, ArchivedSnapshot
from .archive_digest import Contents
from .archive_reader import ArchiveReader, Block
from .archive_target import OWNER, Disorder, ImportTarget
from .partition import partition_of
from .progress import Progress, unseen
from .records import Snapshot, StreamId
from .store import Store
from .url import JournalUrl

__all__ = ["Imported", "import_archive", "opened_stores"]

_KEEP_ALL = 1 << 31
"""Snapshots of one stream: as many as were in the archive."""


class _OfStream(Protocol):
    @property
    def stream(self) -> StreamId: ...


R = TypeVar("R", bound=_OfStream)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an import. `contents`: of the archive; the target holds that, besides what it held.

    `events_found`: of the archive, and there already. `positions_kept`: every event has the archived position.
    `checkpoints_left`: that were not taken over, since positions are new, or since the follower has one already."""

    contents: Contents
    events_written: int
    events_found: int
    snapshots: int
    checkpoints: int
    checkpoints_left: int
    positions_kept: bool


@asynccontextmanager
async def opened_stores(url: str) -> AsyncGenerator[list[Store], None]:
    """The partitions of a journal, open for writing; made, if there is none. Raises `JournalOpenError`s."""
    parsed = JournalUrl.parse(url)
    async with AsyncExitStack() as opened:
        stores = [parsed.store(number) for number in range(parsed.partitions)]
        for store in stores:
            await store.open()
            opened.push_async_callback(store.close)
        yield stores


async def import_archive(
    reader: ArchiveReader, stores: Sequence[Store], *, checkpoints: bool = True, progress: Progress = unseen
) -> Imported:
    """Take an archive, of which the header may have been read, into a journal of these partitions, all open.
    `checkpoints`: whether followers go on where they were. Raises `ArchiveDamaged`, `ForeignHistory`, and what a store
    raises; run again, it goes on."""
    if not reader.header.partitions:
        reader.open()
    incarnation = str(uuid.uuid4())
    epoch = await stores[0].claim(OWNER, incarnation)
    for other in stores[1:]:
        await other.claim(OWNER, incarnation, epoch)
    targets = [ImportTarget(store, epoch, await store.head()) for store in stores]
    run = _Import(reader, targets, checkpoints)
    header = reader.header
    total = 0 if header.categories else sum(header.upto)
    for block in reader.blocks():
        try:
            await run.take(block)
        except Disorder as disorder:
            raise reader.damaged(str(disorder)) from disorder
        progress("events", reader.digest.events, total)
    return run.report()


class _Import:
    """One run."""

    def __init__(self, reader: ArchiveReader, targets: Sequence[ImportTarget], checkpoints: bool) -> None:
        self._reader, self._targets, self._wanted = reader, targets, checkpoints
        self._same = len(targets) == reader.header.partitions and not reader.header.categories
        self._snapshots = self._checkpoints = self._left = 0

    @property
    def _positions_kept(self) -> bool:
        return self._same and all(target.in_place for target in self._targets)

    def report(self) -> Imported:
        """What came of it."""
        return Imported(
            contents=self._reader.contents,
            events_written=sum(target.written for target in self._targets),
            events_found=sum(target.found for target in self._targets),
            snapshots=self._snapshots,
            checkpoints=self._checkpoints,
            checkpoints_left=self._left,
            positions_kept=self._positions_kept,
        )

    async def take(self, block: Block) -> None:
        """One frame."""
        for target, keys in self._routed(block.keys):
            await target.take_keys(keys)
        for target, events in self._routed(block.events):
            await target.take_events(events)
        for checkpoint in block.checkpoints:
            await self._take_checkpoint(checkpoint)
        for target, snapshots in self._routed(block.snapshots):
            await target.store.save_snapshots(list(map(_snapshot, snapshots)), keep=_KEEP_ALL)
            self._snapshots += len(snapshots)

    def _routed(self, records: Sequence[R]) -> list[tuple[ImportTarget, list[R]]]:
        """Records by the partition that their stream lies in."""
        if len(self._targets) == 1:
            return [(self._targets[0], list(records))] if records else []
        parts: dict[int, list[R]] = {}
        for record in records:
            parts.setdefault(partition_of(record.stream, len(self._targets)), []).append(record)
        return [(self._targets[number], part) for number, part in sorted(parts.items())]

    async def _take_checkpoint(self, checkpoint: ArchivedCheckpoint) -> None:
        """A place in an order of events means nothing in another order."""
        taken = self._wanted and self._positions_kept
        if taken:
            target = self._targets[checkpoint.partition]
            taken = await target.take_checkpoint(checkpoint.name, checkpoint.position)
        self._checkpoints += taken
        self._left += not taken


def _snapshot(snapshot: ArchivedSnapshot) -> Snapshot:
    return Snapshot(stream=snapshot.stream, version=snapshot.version, schema=snapshot.schema, payload=snapshot.payload)
