"""Frames: the pieces of an archive, chained by their digests. The only file that touches msgpack.

    frame = [meta, data, digest]        three byte strings: so each byte of one is digested, or says how long one is

What is read is bounded before anything is made of it: three parts, of bytes alone, none longer than a frame may be.
"""

# msgpack has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgpack  # type: ignore[import-untyped, unused-ignore]
import msgspec

from .admission import REQUEST_BYTES_MAX
from .archive_errors import ArchiveDamaged, ArchiveTorn
from .wire import UNDECODABLE

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_BYTES_MAX",
    "BLOCK_RECORDS",
    "Chain",
    "Frames",
    "InputStream",
    "Meta",
    "array_of",
    "frame_of",
]

BLOCK_RECORDS, BLOCK_BYTES = 4096, 2 << 20
"""A frame is closed with the record that brings it to either. One frame is one transaction of an import."""

BLOCK_BYTES_MAX = REQUEST_BYTES_MAX + BLOCK_BYTES
"""Of the records of one frame, and so of what a reader ever holds: as much as the largest event that a journal takes,
behind as many as were too few to close the frame."""

_READ_BYTES = 256 << 10
_META_BYTES_MAX = 1024
_FRAME_BYTES_MAX = BLOCK_BYTES_MAX + _META_BYTES_MAX + 64
_UNREADABLE = (ValueError, RecursionError, OverflowError, msgpack.UnpackException)

_decode_meta = msgspec.msgpack.Decoder(tuple[str, int, int, int]).decode
_encode_meta = msgspec.msgpack.Encoder().encode


class InputStream(Protocol):
    """Where an archive comes from: a file, a pipe."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        ...


class Meta(NamedTuple):
    """Of a frame: its section and place, the records in it, and their bytes before they were deflated."""

    section: str
    number: int
    records: int
    size: int

    def packed(self) -> bytes:
        """As it stands in the frame."""
        return _encode_meta(tuple(self))


class Chain:
    """The running digest of an archive, and the number of its next frame."""

    def __init__(self, digest: bytes = b"", number: int = 0) -> None:
        self.digest, self.number = digest, number

    def add(self, meta: bytes, data: bytes) -> bytes:
        """The digest of the next frame."""
        digest = hashlib.sha256(self.digest)
        digest.update(meta)
        digest.update(data)
        self.digest, self.number = digest.digest(), self.number + 1
        return self.digest

    def copy(self) -> "Chain":
        """As it is now."""
        return Chain(self.digest, self.number)


def frame_of(meta: bytes, data: bytes, digest: bytes) -> bytes:
    """A frame, as it is written."""
    frame: Any = msgpack.packb((meta, data, digest))
    return bytes(frame)


def array_of(records: Sequence[bytes]) -> bytes:
    """Encoded records as one array."""
    header: Any = msgpack.Packer().pack_array_header(len(records))
    return b"".join((bytes(header), *records))


class Frames:
    """The frames of a stream, one after the other, each the one that was written there. `offset`: where the last one
    begins."""

    def __init__(self, stream: InputStream, name: str) -> None:
        self._stream, self._name = _Counted(stream), name
        self.chain = Chain()
        self.offset = 0
        self._unpacker: Any = msgpack.Unpacker(
            self._stream,
            read_size=_READ_BYTES,
            raw=False,
            max_buffer_size=_FRAME_BYTES_MAX,
            max_array_len=3,
            max_bin_len=_FRAME_BYTES_MAX,
            max_str_len=0,
            max_map_len=0,
            max_ext_len=0,
        )

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return int(self._unpacker.tell())

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after it."""
        return self._stream.count == self.end and not self._stream.read(1)

    def next(self) -> tuple[Meta, bytes]:
        """The next one. Raises `ArchiveTorn`, `ArchiveDamaged`."""
        self.offset, number = self.end, self.chain.number
        try:
            frame = self._unpacker.unpack()
        except msgpack.OutOfData:
            raise self._torn(number) from None
        except _UNREADABLE as error:
            raise self.damaged(number, f"this is no frame of an archive: {type(error).__name__} {error}") from error
        if not isinstance(frame, list) or [type(part) for part in frame] != [bytes, bytes, bytes]:
            raise self.damaged(number, "this is no frame of an archive")
        meta, data, digest = frame
        if len(meta) > _META_BYTES_MAX or self.chain.add(meta, data) != digest:
            raise self.damaged(number, "its digest does not match: it was changed, or is not in its place")
        return self._meta(number, meta), data

    def _meta(self, number: int, packed: bytes) -> Meta:
        try:
            meta = Meta(*_decode_meta(packed))
        except UNDECODABLE as error:
            raise self.damaged(number, f"does not say what it is: {error}") from error
        if meta.number != number or not 0 <= meta.size <= BLOCK_BYTES_MAX or not 0 < meta.records <= BLOCK_RECORDS:
            raise self.damaged(number, f"says that it is {tuple(meta)}")
        return meta

    def _torn(self, number: int) -> ArchiveTorn:
        part = self._stream.count - self.offset
        problem = f"it ends {part} bytes into this block" if part else "it ends before its end record"
        if not number and not part:
            problem = "it is empty"
        return ArchiveTorn(self._name, number, self.offset, problem)

    def damaged(self, number: int, problem: str) -> ArchiveDamaged:
        """The frame that was read last is not what it should be."""
        return ArchiveDamaged(self._name, number, self.offset, problem)


class _Counted:
    """A stream that knows how many bytes came. Of a pipe it takes what is there, and does not wait for more."""

    def __init__(self, stream: InputStream) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self.count += len(data)
        return data
