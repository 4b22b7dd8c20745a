"""The bytes of sealed and compressed values, and the tables of a key store, are these. What was written once must be
opened for ever: a change here makes everybody's personal data unreadable, which is to forget all of them."""

import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.journal.codec import decode_plain
from holdfast.journal.errors import JournalOpenError
from holdfast.journal.keys import STREAM, DataSubject, Destroyed, Key, KeyId, Wanted
from holdfast.journal.keys_sqlite import SqliteKeys
from holdfast.journal.opening import field_place, fingerprint_place, reply_place, snapshot_place
from holdfast.journal.records import StreamId
from holdfast.journal.sealed import blanked, opened, seal, seal_whole, sealed_whole, unparsed
from holdfast.journal.wrap import Wrap

PERSON = StreamId("Person", "42 / 猫")
KEY = Key(kind="customer", id="42", generation=3, secret=bytes(range(32)))
BLANK = b"\xa0"
FIELD = field_place(PERSON, 3, "p.moved@2", "name")
SNAPSHOT = snapshot_place(PERSON, 3, "0123456789abcdef")
REPLY, FINGERPRINT = reply_place(PERSON, "order-1"), fingerprint_place(PERSON, "order-1")

SEALED = [
    (FIELD, BLANK, b"\xa3Ada",
     "c739486866c17396a8637573746f6d6572a2343203c401a0c40c000102030405060708090a0bc414e443b27a913c901935cc681b45839a3a31"
     "d9e216"),
    (SNAPSHOT, b"", b"\x81\xa1a\x01",
     "c738486866c17396a8637573746f6d6572a2343203c400c40c000102030405060708090a0bc414c6a3b71ac111e5f67d9f482b9589cd122db3"
     "564a"),
    (REPLY, b"", b"\xc3",
     "c735486866c17396a8637573746f6d6572a2343203c400c40c000102030405060708090a0bc41184131a3e33f494302351535b8e58a285e2"),
    (FINGERPRINT, b"", bytes(16),
     "c744486866c17396a8637573746f6d6572a2343203c400c40c000102030405060708090a0bc4204702d61bc5e5c21b8d41978bb1e9786d5905"
     "bcd59f433c9e18d075a37583e1e6"),
]  # fmt: skip
"""Where it stands, its blank, its value; and what is stored, under `KEY` with a nonce of 0, 1, 2 …"""

COMPRESSED = bytes.fromhex("c721486866c17a28b52ffd6035009d00006081a474657874da012c616263010026aa2e09")
"""What zstd makes of it differs from release to release; what it reads does not."""

TABLES = """
CREATE TABLE key_store (format BIGINT NOT NULL, proof BLOB NOT NULL);
CREATE TABLE keys (kind TEXT NOT NULL, id TEXT NOT NULL, generation BIGINT NOT NULL, secret BLOB,
 PRIMARY KEY (kind, id, generation));
CREATE TABLE uses (kind TEXT NOT NULL, id TEXT NOT NULL, stream TEXT NOT NULL, PRIMARY KEY (kind, id, stream));
INSERT INTO keys VALUES ('holdfast.stream', 'Person/42', 1, NULL), ('customer', '42', 1, NULL);
INSERT INTO uses VALUES ('author', 'ann', 'Person/42'), ('customer', '42', 'Person/42');
PRAGMA application_id = 1751534419;
"""
"""Of a store in which a customer was forgotten."""

PLAIN = """
INSERT INTO key_store VALUES (1, zeroblob(32));
INSERT INTO keys VALUES ('author', 'ann', 1,
 X'0303030303030303030303030303030303030303030303030303030303030303');
"""
WRAPPED = """
INSERT INTO key_store VALUES (1, X'0101010101010101010101017540C36A7A8978FD62B6E486BB2F7C69BC65EC5B0FE635360FB511B0FF\
EFA7ECA8F4F701D6B9B909A9AAA5F5CDD4B7E5');
INSERT INTO keys VALUES ('author', 'ann', 1, X'0707070707070707070707077BCEAECD6E200624E1B17D5076D3EFF1C78127C52CCF\
65106FB9287E06F2C808D0000A48081038F62C4E85E8A3D3F66D');
"""
"""Under a master key of zeros."""

MASTER = bytes(32)
ANN, FORGOTTEN, UNKNOWN = KeyId("author", "ann", 1), KeyId("customer", "42", 1), KeyId("customer", "42", 2)


@pytest.mark.parametrize(("place", "blank", "value", "stored"), SEALED, ids=["field", "snapshot", "reply", "print"])
def test_a_sealed_value_is_these_bytes_and_these_bytes_are_that_value(
    place: Any, blank: bytes, value: bytes, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways; the nonce is the only thing in it that is left to chance."""
    sealed = sealed_whole(bytes.fromhex(stored))
    assert sealed is not None
    assert (sealed.key, sealed.blank) == (KeyId("customer", "42", 3), blank)
    assert opened(sealed, KEY.secret, place) == value
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(count)))
    written = msgspec.msgpack.encode(seal(KEY, value, place, blank)) if blank else seal_whole(KEY, value, place)
    assert written.hex() == stored


def test_an_event_with_a_sealed_field_is_a_map_that_others_read() -> None:
    """By any reader of MessagePack, with an extension of code 72 in the field's place."""
    payload = unparsed({"name": msgspec.Raw(bytes.fromhex(SEALED[0][3])), "city": "Paris"})
    ext = decode_plain(payload)["name"]
    assert (ext.code, bytes(ext.data[:4])) == (72, b"hf\xc1s")
    assert decode_plain(blanked(payload)) == {"name": "", "city": "Paris"}


def test_a_compressed_payload_is_read_for_ever() -> None:
    """A frame of zstd behind its mark."""
    assert decode_plain(COMPRESSED) == {"text": "abc" * 100}


@pytest.mark.parametrize("master", [None, MASTER], ids=["plain", "wrapped"])
async def test_a_key_store_of_this_format_opens_and_knows_who_was_forgotten(
    tmp_path: Path, master: bytes | None
) -> None:
    """Secrets, which keys were destroyed, and which streams have used them; another master key is refused."""
    file = tmp_path / "keys.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.executescript(TABLES + (WRAPPED if master else PLAIN))
    with pytest.raises(JournalOpenError):
        await SqliteKeys(str(file), Wrap("keys", b"another" * 4 + b"key?")).open()
    store = SqliteKeys(str(file), Wrap("keys", master))
    await store.open()
    secret, destroyed, unknown = await store.find([ANN, FORGOTTEN, UNKNOWN])
    assert secret is not None
    assert (len(secret), destroyed, unknown) == (32, b"", None)
    assert master or secret == b"\x03" * 32
    (keys,) = await store.prepare(
        [Wanted("Person/42", 0, (DataSubject("customer", "42"), DataSubject("author", "ann")))]
    )
    assert keys is not None
    assert [(each.kind, each.id, each.generation) for each in keys] == [
        (STREAM, "Person/42", 2),
        ("customer", "42", 2),
        ("author", "ann", 1),
    ]
    assert keys[2].secret == secret
    assert await store.destroy(DataSubject("author", "ann")) == Destroyed(generation=1, streams=("Person/42",))
    await store.close()


async def test_a_new_key_store_has_these_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statement for statement, so that the next format is noticed before it is released."""
    count = itertools.count(1)
    monkeypatch.setattr(os, "urandom", lambda size: bytes([next(count)]) * size)
    store = SqliteKeys(str(tmp_path / "keys.db"))
    await store.open()
    await store.prepare([Wanted("Person/42", 0, (DataSubject("customer", "42"),))])
    await store.destroy(DataSubject("customer", "42"))
    await store.prepare([Wanted("Person/42", 0, (DataSubject("author", "ann"),))])
    await store.close()
    with closing(sqlite3.connect(tmp_path / "keys.db")) as raw, closing(sqlite3.connect(":memory:")) as pinned:
        pinned.executescript(TABLES + PLAIN)
        tables = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        assert _words(raw.execute(tables)) == _words(pinned.execute(tables))
        assert raw.execute("PRAGMA application_id").fetchone() == pinned.execute("PRAGMA application_id").fetchone()
        uses = "SELECT * FROM uses ORDER BY kind, id"
        assert raw.execute(uses).fetchall() == pinned.execute(uses).fetchall()
        assert raw.execute("SELECT * FROM key_store").fetchall() == [(1, bytes(32))]
        kept = raw.execute("SELECT kind, id, generation, secret IS NULL FROM keys ORDER BY kind, id, generation")
        assert kept.fetchall() == [
            ("author", "ann", 1, 0),
            ("customer", "42", 1, 1),
            (STREAM, "Person/42", 1, 1),
            (STREAM, "Person/42", 2, 0),
        ]


def _words(rows: Any) -> list[tuple[str, list[str]]]:
    return [(name, sql.split()) for name, sql in rows]
