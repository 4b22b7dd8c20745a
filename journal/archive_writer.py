"""Writing an archive: records become frames, and frames go where they are wanted, one after the other.

It holds the records of one frame. A frame that was handed to the sink is whole; should the process be killed in the
middle of one, that one is torn, and `archive_resume.py` goes on before it.

Before this: an export reads records. After this: the archive ends with its totals.
"""

import asyncio
import zlib
from typing import Protocol

from .archive import (
    CHECKPOINTS,
    END,
    EVENTS,
    HEADER,
    KEYS,
    SNAPSHOTS,
    ArchivedCheckpoint,
    ArchivedKey,
    ArchivedSnapshot,
    Header,
    Totals,
    encode_record,
    fact_of,
)
from .archive_digest import ContentsDigest
from .archive_frames import BLOCK_BYTES, BLOCK_RECORDS, Chain, Meta, array_of, frame_of
from .records import Recorded

__all__ = ["ArchiveWriter", "Sink"]

_DEFLATE_LEVEL = 6


class Sink(Protocol):
    """Where an archive goes: a file, a pipe, anything that takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take them all, or raise."""
        ...


class ArchiveWriter:
    """Takes records in the order of the sections: `section` first, then records; `flush` when one says that the frame
    is full. `chain` and `contents`: where to go on, in an archive that was begun."""

    def __init__(self, sink: Sink, header: Header, *, contents: ContentsDigest, chain: Chain | None = None) -> None:
        self._sink, self._header, self._chain = sink, header, chain or Chain()
        self._section, self._records, self._size = HEADER, list[bytes](), 0
        self.contents = contents
        self.checkpoints = self.snapshots = 0

    async def begin(self) -> None:
        """Write the header."""
        await self._write(HEADER, [encode_record(self._header)], compress=False)

    async def section(self, name: str) -> None:
        """What comes next is of this section."""
        await self.flush()
        self._section = name

    def keyed_reply(self, key: ArchivedKey) -> bool:
        """The next keyed reply. Whether the frame is full."""
        assert self._section == KEYS, self._section
        record = encode_record(key)
        self.contents.keyed_reply(key.category, record)
        return self._add(record)

    def event(self, partition: int, event: Recorded) -> bool:
        """The next event. Whether the frame is full."""
        assert self._section == EVENTS, self._section
        fact = encode_record(fact_of(event))
        self.contents.event(event.stream.category, partition, event.position, fact)
        return self._add(b"\x92" + encode_record(event.position) + fact)

    def checkpoint(self, checkpoint: ArchivedCheckpoint) -> bool:
        """The next checkpoint. Whether the frame is full."""
        assert self._section == CHECKPOINTS, self._section
        self.checkpoints += 1
        return self._add(encode_record(checkpoint))

    def snapshot(self, snapshot: ArchivedSnapshot) -> bool:
        """The next snapshot. Whether the frame is full."""
        assert self._section == SNAPSHOTS, self._section
        self.snapshots += 1
        return self._add(encode_record(snapshot))

    async def end(self) -> None:
        """Write the totals. The archive is whole."""
        await self.flush()
        contents = self.contents.contents()
        totals = Totals(
            keyed_replies=contents.keyed_replies,
            events=contents.events,
            checkpoints=self.checkpoints,
            snapshots=self.snapshots,
            digest=contents.digest,
        )
        await self._write(END, [encode_record(totals)], compress=False)

    def _add(self, record: bytes) -> bool:
        self._records.append(record)
        self._size += len(record)
        return self._size >= BLOCK_BYTES or len(self._records) >= BLOCK_RECORDS

    async def flush(self) -> None:
        """Close the frame, and write it."""
        if self._records:
            records, self._records, self._size = self._records, [], 0
            await self._write(self._section, records, compress=bool(self._header.compression))

    async def _write(self, section: str, records: list[bytes], *, compress: bool) -> None:
        await asyncio.to_thread(self._write_frame, section, records, compress)

    def _write_frame(self, section: str, records: list[bytes], compress: bool) -> None:
        data = array_of(records)
        meta = Meta(section, self._chain.number, len(records), len(data)).packed()
        if compress:
            data = zlib.compress(data, _DEFLATE_LEVEL)
        self._sink.write(frame_of(meta, data, self._chain.add(meta, data)))
