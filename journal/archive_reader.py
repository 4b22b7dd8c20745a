"""Reading an archive: frames in their order, each checked before anything of it is believed.

An archive may be anybody's. What is read is bounded: a frame by `BLOCK_BYTES_MAX`, deflated or not, its parts by what
they may be; records are plain data of known types, and nothing in one is ever run. What is wrong is told with the
frame and the byte where it begins.

Before this: bytes of a file or a pipe. After this: records, for an import, a digest, or an export that goes on.
"""

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .admission import NAME_BYTES_MAX
from .archive import (
    CATEGORIES_MAX,
    CHECKPOINTS,
    COMPRESSIONS,
    END,
    EVENTS,
    FORMAT,
    HEADER,
    KEYS,
    OPTIONAL,
    SECTIONS,
    SNAPSHOTS,
    ArchivedCheckpoint,
    ArchivedEvent,
    ArchivedFact,
    ArchivedKey,
    ArchivedSnapshot,
    Header,
    Totals,
    encode_record,
)
from .archive_digest import Contents, ContentsDigest
from .archive_errors import ArchiveDamaged, ArchiveTooNew, ArchiveTorn, NotAnArchive
from .archive_frames import Chain, Frames, InputStream, Meta
from .partition import PARTITIONS_MAX, partition_of
from .records import StreamId
from .wire import UNDECODABLE

__all__ = ["ArchiveReader", "Block", "Placed"]


_decode_headers = msgspec.msgpack.Decoder(tuple[Header]).decode
_decode_totals = msgspec.msgpack.Decoder(tuple[Totals]).decode
_decode_fact = msgspec.msgpack.Decoder(ArchivedFact).decode
_decode_events = msgspec.msgpack.Decoder(list[ArchivedEvent]).decode
_decode_keys = msgspec.msgpack.Decoder(list[ArchivedKey]).decode
_decode_checkpoints = msgspec.msgpack.Decoder(list[ArchivedCheckpoint]).decode
_decode_snapshots = msgspec.msgpack.Decoder(list[ArchivedSnapshot]).decode
_decode_format = msgspec.msgpack.Decoder(tuple[dict[str, Any]]).decode


class Placed(NamedTuple):
    """An event at its place."""

    partition: int
    position: int
    fact: ArchivedFact

    @property
    def stream(self) -> StreamId:
        """Whose it is."""
        return self.fact.stream


class Block(NamedTuple):
    """What one frame held. Of the lists, that of its section is not empty. `end`: the byte after the frame."""

    section: str
    end: int
    keys: list[ArchivedKey]
    events: list[Placed]
    checkpoints: list[ArchivedCheckpoint]
    snapshots: list[ArchivedSnapshot]


class ArchiveReader:
    """One archive. `open` reads the header, `blocks` the rest; then `totals` and `contents` are known, and agree."""

    def __init__(self, stream: InputStream, name: str = "the archive") -> None:
        self.name = name
        self._frames = Frames(stream, name)
        self._last_key: tuple[str, str, str] | None = None
        self._categories: set[str] = set()
        self.header = Header(format=FORMAT, upto=())
        self.digest = ContentsDigest(0)
        self.totals: Totals | None = None
        self.checkpoints = self.snapshots = 0

    @property
    def chain(self) -> Chain:
        """Up to the end of that frame."""
        return self._frames.chain

    @property
    def offset(self) -> int:
        """Bytes that were read, up to the end of a frame."""
        return self._frames.end

    @property
    def contents(self) -> Contents:
        """Of what was read so far."""
        return self.digest.contents()

    # The header

    def open(self) -> Header:
        """Read the header. Raises `NotAnArchive`, `ArchiveTooNew`, `ArchiveTorn`."""
        try:
            meta, data = self._frames.next()
        except ArchiveTorn as error:
            if not self._frames.end:
                raise NotAnArchive(self.name, error.problem) from error
            raise
        except ArchiveDamaged as error:
            raise NotAnArchive(self.name, error.problem) from error
        if meta.section != HEADER:
            raise NotAnArchive(self.name, f"it begins with {meta.section!r}")
        self.header = self._header_of(data)
        self.digest = ContentsDigest(self.header.partitions)
        return self.header

    def _header_of(self, data: bytes) -> Header:
        try:
            (fields,) = _decode_format(data)
            found = fields.get("format")
            if isinstance(found, int) and found > FORMAT:
                raise ArchiveTooNew(self.name, f"format {found}", f"formats up to {FORMAT}")
            (header,) = _decode_headers(data)
        except UNDECODABLE as error:
            raise NotAnArchive(self.name, f"its header cannot be read: {error}") from error
        if header.format < 1 or not 1 <= header.partitions <= PARTITIONS_MAX:
            raise NotAnArchive(self.name, f"format {header.format}, of {header.partitions} partitions")
        if header.compression not in COMPRESSIONS:
            raise ArchiveTooNew(self.name, f"compression {header.compression!r}", "zlib, and none")
        return header

    # The rest

    def blocks(self) -> Iterator[Block]:
        """All frames between the header and the end, those that are for others left out. Raises `ArchiveTorn`,
        `ArchiveDamaged`, `ArchiveTooNew`: what came before was good."""
        at = SECTIONS.index(HEADER)
        while True:
            meta, data = self._frames.next()
            if meta.section not in SECTIONS:
                if meta.section.startswith(OPTIONAL):
                    continue
                raise ArchiveTooNew(self.name, f"a section {meta.section!r}", ", ".join(SECTIONS))
            place = SECTIONS.index(meta.section)
            if place < at or place == 0:
                raise self._frames.damaged(meta.number, f"section {meta.section!r} comes after {SECTIONS[at]!r}")
            at = place
            if meta.section == END:
                self._end(meta, data)
                return
            yield self._block(meta, data)

    def damaged(self, problem: str) -> ArchiveDamaged:
        """What the frame that was read last says cannot be."""
        return self._frames.damaged(self._frames.chain.number - 1, problem)

    def _block(self, meta: Meta, data: bytes) -> Block:
        block = Block(meta.section, self._frames.end, [], [], [], [])
        try:
            plain = self._inflated(meta, data)
            if meta.section == EVENTS:
                block.events.extend(map(self._event, _decode_events(plain)))
            elif meta.section == KEYS:
                block.keys.extend(map(self._key, _decode_keys(plain)))
            elif meta.section == CHECKPOINTS:
                block.checkpoints.extend(map(self._checkpoint, _decode_checkpoints(plain)))
            elif meta.section == SNAPSHOTS:
                block.snapshots.extend(_decode_snapshots(plain))
        except (*UNDECODABLE, zlib.error) as error:
            raise self._frames.damaged(meta.number, str(error)) from error
        found = len(block.keys) + len(block.events) + len(block.checkpoints) + len(block.snapshots)
        if found != meta.records:
            raise self._frames.damaged(meta.number, f"holds {found} records and says {meta.records}")
        self.checkpoints += len(block.checkpoints)
        self.snapshots += len(block.snapshots)
        return block

    def _inflated(self, meta: Meta, data: bytes) -> bytes:
        if self.header.compression:
            inflate = zlib.decompressobj()
            data = inflate.decompress(data, meta.size + 1)  # no more than it says, whatever it would become
            if not inflate.eof or inflate.unused_data:
                raise ValueError(f"what is deflated is not {meta.size} bytes")
        if len(data) != meta.size:
            raise ValueError(f"its records are {len(data)} bytes and not {meta.size}")
        return data

    def _event(self, event: ArchivedEvent) -> Placed:
        fact = _decode_fact(event.fact)
        partition = partition_of(fact.stream, self.header.partitions)
        before, upto = self.digest.position(partition), self.header.upto[partition]
        if not before < event.position <= upto:
            raise ValueError(f"position {event.position} comes after {before}, the last is {upto}")
        if not self.header.categories and event.position != before + 1:
            raise ValueError(f"position {before + 1} is missing")
        self._check_category(fact.category)
        self.digest.event(fact.category, partition, event.position, memoryview(event.fact))
        return Placed(partition, event.position, fact)

    def _key(self, key: ArchivedKey) -> ArchivedKey:
        place = key.category, key.id, key.key
        if self._last_key is not None and place <= self._last_key:
            raise ValueError(f"keyed reply {key.key!r} of {key.category}/{key.id} is out of order, or doubled")
        self._last_key = place
        self._check_category(key.category)
        self.digest.keyed_reply(key.category, encode_record(key))
        return key

    def _checkpoint(self, checkpoint: ArchivedCheckpoint) -> ArchivedCheckpoint:
        number, position = checkpoint.partition, checkpoint.position
        if number >= self.header.partitions or position > self.header.upto[number]:
            raise ValueError(f"a checkpoint at {position} of partition {number}, beyond its end")
        if not checkpoint.name or len(checkpoint.name.encode()) > NAME_BYTES_MAX:
            raise ValueError(f"a checkpoint of no follower: {checkpoint.name[:100]!r}")
        return checkpoint

    def _check_category(self, name: str) -> None:
        if name in self._categories:
            return
        if not name or "/" in name or len(name.encode()) > NAME_BYTES_MAX:
            raise ValueError(f"no category has the name {name[:100]!r}")
        if self.header.categories and name not in self.header.categories:
            raise ValueError(f"a record of {name}, which the header does not name")
        if len(self._categories) >= CATEGORIES_MAX:
            raise ValueError(f"more than {CATEGORIES_MAX} categories")
        self._categories.add(name)

    def _end(self, meta: Meta, data: bytes) -> None:
        try:
            (totals,) = _decode_totals(data)
        except UNDECODABLE as error:
            raise self._frames.damaged(meta.number, f"its totals cannot be read: {error}") from error
        contents = self.contents
        found = Totals(
            keyed_replies=contents.keyed_replies,
            events=contents.events,
            checkpoints=self.checkpoints,
            snapshots=self.snapshots,
            digest=contents.digest,
        )
        if found != totals:
            raise self._frames.damaged(meta.number, f"its totals are {totals}, what came is {found}")
        if not self._frames.is_over:
            raise ArchiveDamaged(self.name, meta.number + 1, self._frames.end, "there are bytes after its end")
        self.totals = totals
