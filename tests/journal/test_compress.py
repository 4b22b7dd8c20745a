"""Compression: what is large and worth it is smaller in the journal, reads as it was, and harms nobody."""

import sys

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from holdfast.journal import compression
from holdfast.journal.codec import CodecError, decode_plain
from holdfast.journal.compression import EXPANDED_MAX, compressed, expanded
from holdfast.journal.errors import ExtraMissing
from holdfast.journal.marked import COMPRESSED, is_marked, whole

TEXT = msgspec.msgpack.encode({"text": "to be or not to be, " * 100})


def test_a_large_payload_is_compressed_and_reads_as_it_was():
    """Also by whoever has no class for it."""
    small = compressed(TEXT, 1000)
    assert len(small) < len(TEXT) // 4
    assert is_marked(small, COMPRESSED)
    assert expanded(small) == TEXT
    assert decode_plain(small) == decode_plain(TEXT)
    assert msgspec.msgpack.decode(small).code == 72


@pytest.mark.parametrize(
    ("payload", "from_bytes"),
    [(TEXT, 0), (TEXT, len(TEXT) + 1), (b"\x81\xa1a\x01", 1), (msgspec.msgpack.encode(bytes(range(256))), 1)],
    ids=["turned off", "below the size", "tiny", "nothing to save"],
)
def test_what_is_not_worth_compressing_stays_as_it_is(payload, from_bytes):
    """The very bytes."""
    assert compressed(payload, from_bytes) is payload


def test_what_is_compressed_is_not_compressed_again():
    """Nor is any other marked value."""
    small = compressed(TEXT * 3, 10)
    assert compressed(small, 10) is small


@given(st.binary(max_size=5000), st.integers(1, 200))
def test_any_bytes_survive_being_compressed(value, times):
    """Whether they look like a marked value or not, as long as they are none."""
    value = b"\x81" + value * times
    assert expanded(compressed(value, 1)) == value


@given(st.binary(max_size=200))
def test_damaged_compressed_values_raise_a_codec_error_and_nothing_else(body):
    """Whatever stands after the mark."""
    value = whole(COMPRESSED, body)
    try:
        assert isinstance(expanded(value), bytes)
    except CodecError:
        pass


def test_a_compressed_bomb_is_refused_before_it_goes_off():
    """By what it says of its size, and, where it lies, by what it is; without one it is not believed either."""
    huge = zstandard.ZstdCompressor(level=1).compress(bytes(EXPANDED_MAX + 1))
    assert len(huge) < 100_000
    with pytest.raises(CodecError, match="the limit is"):
        expanded(whole(COMPRESSED, huge))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(CodecError, match="says that it has -1 bytes"):
        expanded(whole(COMPRESSED, unsized))


def test_a_compressed_value_without_the_extra_is_told_as_such(monkeypatch):
    """Writers and readers hear the name of the extra."""
    small = compressed(TEXT, 10)
    forget_the_package()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    try:
        for what in (lambda: expanded(small), lambda: compressed(TEXT, 10), lambda: decode_plain(small)):
            with pytest.raises(ExtraMissing, match=r"pip install 'holdfast\[compression\]'"):
                what()
        assert expanded(TEXT) == TEXT
    finally:
        forget_the_package()


def forget_the_package():
    compression._zstandard.cache_clear()
    compression._tools.cache_clear()
