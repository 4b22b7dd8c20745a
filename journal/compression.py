"""Compression: large payloads, replies and snapshots by zstd, where that is worth it.

What is compressed says so (`marked.py`), so that compression can be turned on and off at any time, and a reader
without the extra is told what it lacks. What comes out is bounded before anything is made of it.
"""

import functools
import threading
from typing import Any

from .errors import CodecError, ExtraMissing
from .marked import COMPRESSED, body_of_whole, is_marked, whole

__all__ = ["EXPANDED_MAX", "compressed", "expanded"]

EXPANDED_MAX = 256 << 20
"""Bytes that one compressed value may become: as large as the largest snapshot."""

LEVEL = 3
SAVES_AT_LEAST = 8
"""What saves less than an eighth is left as it is: reading it would cost more than that is worth."""


def compressed(value: bytes, from_bytes: int) -> bytes:
    """The value, compressed if it has at least `from_bytes` (0: never), no mark yet, and comes out smaller by an
    eighth. Raises `ExtraMissing`."""
    if not from_bytes or len(value) < from_bytes or is_marked(value):
        return value
    smaller = whole(COMPRESSED, _tools().compress(value))
    return smaller if len(smaller) <= len(value) - len(value) // SAVES_AT_LEAST else value


def expanded(value: bytes) -> bytes:
    """The value again, if it is a compressed one; any other as it is. Raises `CodecError` for one that is damaged, or
    would be more than `EXPANDED_MAX` bytes, and `ExtraMissing`."""
    if not is_marked(value, COMPRESSED):
        return value
    zstandard, tools, frame = _zstandard(), _tools(), body_of_whole(value)
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= EXPANDED_MAX:
            raise CodecError("a compressed value", f"says that it has {size} bytes, the limit is {EXPANDED_MAX}")
        found = tools.expand(frame)
    except zstandard.ZstdError as error:
        raise CodecError("a compressed value", str(error)) from error
    if len(found) != size:
        raise CodecError("a compressed value", f"says that it has {size} bytes, and has {len(found)}")
    return found


class _Tools(threading.local):
    """A compressor and a decompressor for each thread: they may not be shared, and cost more to make than to use."""

    def __init__(self) -> None:
        zstandard = _zstandard()
        self._compressor: Any = zstandard.ZstdCompressor(level=LEVEL)
        self._decompressor: Any = zstandard.ZstdDecompressor()

    def compress(self, value: bytes) -> bytes:
        return bytes(self._compressor.compress(value))

    def expand(self, frame: bytes) -> bytes:
        return bytes(self._decompressor.decompress(frame, max_output_size=EXPANDED_MAX))


@functools.cache
def _tools() -> _Tools:
    return _Tools()


@functools.cache
def _zstandard() -> Any:
    # Here, and not at the top: it is an extra.
    try:
        import zstandard  # pyright: ignore
    except ImportError as error:
        raise ExtraMissing("a compressed value", "zstandard", "compression") from error
    return zstandard
