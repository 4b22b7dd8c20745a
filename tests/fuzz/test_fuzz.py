"""The readers of bytes, fed by Hypothesis for a moment, and with everything that ever broke one of them."""

import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from targets import CODECS, TARGETS

CORPUS = Path(__file__).parent / "corpus"
FOUND = sorted(path for path in CORPUS.glob("*/*") if path.is_file())

NAMES = [
    "tree",
    "value",
    "at",
    "$str",
    "$Decimal",
    "$UUID",
    "amount",
    "currency",
    "children",
    "by_colour",
    "money",
    "name",
    "due",
]
TEXTS = ["EUR", "RED", "DEEP", "1.5", "NaN", "sNaN", "1e999999", "P1D", "0001-01-01T00:00:00+23:59", "24:00:00"]
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8) | st.binary(max_size=8) | st.sampled_from(TEXTS)
plain = st.recursive(
    leaves,
    lambda inside: (
        st.lists(inside, max_size=5)
        | st.dictionaries(st.sampled_from(NAMES), inside, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inside, max_size=3)
    ),
    max_leaves=12,
)
packed = plain.map(msgspec.msgpack.encode)
inputs = (
    st.binary(max_size=200) | packed | st.builds(lambda first, rest: bytes([first]) + rest, st.integers(0, 255), packed)
)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=80, deadline=None)
@given(data=inputs)
@example(data=b"")
def test_nothing_but_the_promised_errors_comes_out_of_any_bytes(name, data):
    """Random bytes, and MessagePack of the words that our types know."""
    TARGETS[name](data)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_a_reader_does_not_any_more(path):
    """The corpus: each file was found by a fuzzer, or written by hand for a bug."""
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_regressions_of_its_own_name():
    """A folder of the corpus that no target reads would be forgotten."""
    assert {path.parent.name for path in FOUND} <= TARGETS.keys()
    assert FOUND


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(CODECS) - 1), plain)
def test_what_a_codec_takes_it_gives_back(number, value):
    """Values of any kind, offered to a codec of any type: `CodecError`, or the same value again."""
    TARGETS["codec"](bytes([number]) + msgspec.msgpack.encode(value))
