"""What of a journal's text and values reaches a page, and as what."""

import random
import re
import unicodedata
from html.parser import HTMLParser

import msgspec
import pytest
from hf_shop import HOSTILE_FIELDS, HOSTILE_IDS

from holdfast.actors.plain import Difference
from holdfast.journal.records import StreamId
from holdfast.runtime.console import addresses, shown

ALLOWED = {"bdi", "span", "time"}


class Reader(HTMLParser):
    """The tags of a piece, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.content = set[str](), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.content += data


def read(piece) -> Reader:
    reader = Reader()
    reader.feed(str(piece))
    return reader


@pytest.mark.parametrize("content", [*HOSTILE_IDS, *(str(each) for each in HOSTILE_FIELDS.values())])
def test_no_text_brings_markup_along(content):
    """Whatever a text is, a page gets the tags that the console itself writes, and no others."""
    for piece in (shown.text(content), shown.inline(content), shown.value(content)):
        assert read(piece).tags <= ALLOWED


def test_text_that_prints_is_shown_as_it_is():
    """Escaping takes nothing away: a reader sees the very text."""
    for content in ("<b>&amp;</b>", "naïve 客户 עברית", "a b", "'\"`"):
        assert read(shown.text(content)).content == content


def test_random_text_never_obeys_and_never_vanishes():
    """No character that does not print is in the page, and each has left its name there."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(500):
        content = "".join(
            chr(chance.choice((*range(0x300), 0x200B, 0x202E, 0x2066, 0xFEFF, 0xE000))) for _ in range(30)
        )
        found = read(shown.text(content))
        assert found.tags <= ALLOWED
        assert all(char.isprintable() for char in found.content)
        assert sum(not char.isprintable() for char in content) == str(shown.text(content)).count('class="unprinted"')


def test_a_turning_mark_is_named():
    """A mark that would turn the text after it around is shown by its code, with its name for who asks."""
    piece = str(shown.text("evil\u202etxt.exe"))
    assert "U+202E" in piece
    assert unicodedata.name("\u202e").lower() in piece
    assert "\u202e" not in piece


def test_a_huge_text_is_cut_and_says_by_how_much():
    """A page stays small whatever a field holds."""
    piece = str(shown.text("x" * 1_000_000))
    assert len(piece) < 3000
    assert "998,000 more characters" in piece


def test_bytes_are_shown_as_hex_with_their_number():
    """Binary content is neither decoded nor left out."""
    assert read(shown.value(b"\x00\xff<")).content == "00 ff 3c 3 bytes"
    assert "1,000 bytes" in read(shown.value(bytes(1000))).content


def test_values_of_each_kind_are_told_apart():
    """None, an empty text, a text and a number do not look the same."""
    pieces = [str(shown.value(each)) for each in (None, "", "1", 1, True, "true", [], {})]
    assert len(set(pieces)) == len(pieces) - 1  # an empty list and an empty map are both "empty"


def test_an_outline_is_bounded_in_lines_and_depth():
    """However much a value holds, so many lines are shown, and the last one says that there are more."""
    deep = None
    for _ in range(500):
        deep = {"x": deep}
    assert len(shown.rows_of({"deep": deep})) < 20
    rows = shown.rows_of({str(number): number for number in range(5000)})
    assert len(rows) == shown.ROWS_MAX + 1
    assert "left out" in rows[-1].value


def test_an_outline_marks_what_has_changed_by_its_path():
    """The paths of an outline are those that differences have, also where keys are no names."""
    state = {"balance": 2, "lines": [{"a b": 1}, {"a b": 2}]}
    changes = [
        Difference(path="balance", before=1, after=2),
        Difference(path="lines[1]['a b']", before=msgspec.UNSET, after=2),
    ]
    rows = shown.rows_of(state, changes)
    assert [(row.path, row.change) for row in rows if row.change] == [(each.path, each) for each in changes]


def test_sizes_have_the_unit_that_suits_them():
    """Bytes up to a KiB, then one digit after the point; nothing for what nobody knows."""
    assert [shown.size(n) for n in (0, 1023, 1024, 10 * 2**20, 2**50)] == [
        "0 bytes",
        "1,023 bytes",
        "1.0 KiB",
        "10.0 MiB",
        "1,024.0 TiB",
    ]
    assert shown.size(None) == "-"


def test_times_are_in_utc_with_their_day():
    """From the journal's microseconds to what a person, and a program, reads."""
    piece = str(shown.moment(1_767_960_000_123_000))
    assert read(piece).content == "2026-01-09 12:00:00.123"
    assert 'datetime="2026-01-09T12:00:00.123Z"' in piece


def test_a_time_that_no_calendar_has_is_told_as_a_number():
    """A journal may hold any 64 bits as a time."""
    assert re.search(r"9,?223", read(shown.moment(2**63 - 1)).content)


@pytest.mark.parametrize("id", HOSTILE_IDS)
def test_addresses_bring_every_id_back(id):
    """What an address was made from is what is read from it, by the rules of query strings."""
    from urllib.parse import parse_qs, urlsplit

    stream = StreamId("Hostile", id)
    address = addresses.stream_at(stream, 3)
    assert re.fullmatch(r"[!-~]+", address)
    query = parse_qs(urlsplit(address).query, strict_parsing=True)
    assert urlsplit(address).path == "/stream"
    assert addresses.stream_of(query["of"][0]) == stream
    assert query["version"] == ["3"]


@pytest.mark.parametrize("text", ["", "Account", "/x", "Account/"])
def test_what_is_no_stream_is_refused(text):
    """An address that the console has not made is no stream of any name."""
    with pytest.raises(addresses.BadAddress):
        addresses.stream_of(text)


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:b", "-1:2", "1:2:3", "\u0661:\u0662", f"0:{'9' * 30}"])
def test_what_is_no_place_is_refused(text):
    """Only ASCII digits, and not too many."""
    with pytest.raises(addresses.BadAddress):
        addresses.place_of(text)
