"""The bytes of fixed events, snapshots and replies in a SQLite file are these. A change here is a change of the format:
it needs a migration, a new golden journal, and a way for what was written before."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.actors import event, upcast
from holdfast.actors.context import Context
from holdfast.actors.definition import definition_of
from holdfast.actors.events import event_codec, stored_type
from holdfast.actors.fingerprint import fingerprint
from holdfast.journal.records import Append, KeyedReply, NewEvent, Snapshot, StreamId
from holdfast.journal.sqlite import SqliteStore
from tests.golden.domain import THEN, Account, Colour, Deposited, Line, Opened, Ordered

ALICE = StreamId("Account", "alice / 猫")


@event("golden.versioned", version=2, aliases=("golden.aged",))
class Versioned:
    n: int

    @upcast(from_version=1)
    @staticmethod
    def _same(old: dict[str, Any]) -> dict[str, Any]:
        return old


EVENTS = [
    Opened("Zoë", THEN),
    Deposited(Decimal("-1.50"), "x"),
    Ordered(
        [Line("a", Decimal("0.1"), Colour.BLUE, ["t"])],
        {"k": Line("b", "free")},
        (1, 0.5, True),
        UUID(int=7),
        b"\x00\xff",
        timedelta(seconds=90, microseconds=1),
    ),
    Versioned(-(2**63)),
]


async def written(path: Path) -> sqlite3.Connection:
    """A file with a stream of four events of one keyed command, and a snapshot."""
    store = SqliteStore(path)
    await store.open()
    epoch = await store.claim("host", "life")
    context = Context(
        command_id="command",
        correlation_id="order-1",
        causation_id="cause",
        metadata={"clerk": "eve", "n": 1},
        recorded_at=1_709_209_815_123_456,
        keyed=True,
    )
    events = tuple(
        NewEvent(
            type=stored_type(type(each)),
            payload=event_codec(type(each), {}).encode(each),
            command_id=context.command_id,
            recorded_at=context.recorded_at,
            metadata=context.encoded,
            reply=b"\xc3" if each is EVENTS[-1] else None,
        )
        for each in EVENTS
    )
    key = KeyedReply(key="order-1", fingerprint=fingerprint("open", ["Zoë"], {"n": 1}), version=4, reply=b"\xc3")
    append = Append(stream=ALICE, owner="host", epoch=epoch, expected_version=0, events=events, keys=(key,))
    (answer,) = await store.append([append])
    assert not isinstance(answer, Exception), answer
    definition = definition_of(Account)
    account = definition.new(ALICE.id)
    for each in EVENTS[:2]:
        definition.apply(account, definition.events[type(each)], each)
    state = definition.encode_state(account)
    await store.save_snapshots([Snapshot(stream=ALICE, version=2, schema="0123456789abcdef", payload=state)])
    await store.close()
    return sqlite3.connect(path)


def shown(rows: list[Any]) -> list[str]:
    """A line for each row: blobs in hex, the rest as it is."""
    return [" | ".join(each.hex() if isinstance(each, bytes) else str(each) for each in row) for row in rows]


PINNED: dict[str, list[str]] = {
    "SELECT position, stream, version, category, type, command_id, recorded_at, checksum FROM events": [
        "1 | 1 | 1 | 1 | golden.opened | command | 1709209815123456 | 2009663506",
        "2 | 1 | 2 | 1 | golden.deposited | command | 1709209815123456 | 5947234",
        "3 | 1 | 3 | 1 | golden.ordered | command | 1709209815123456 | 774157190",
        "4 | 1 | 4 | 1 | golden.versioned@2 | command | 1709209815123456 | 3320695977",
    ],
    "SELECT payload FROM events": [
        "83a56f776e6572a45a6fc3aba26174d7ff1d6f280065e078d7a86269727468646179c0",
        "82a6616d6f756e74a52d312e3530a46e6f7465a178",
        (
            "86a56c696e65739184a3736b75a161a5707269636581a824446563696d616ca3302e31a6636f6c6f7572a4424c5545a47461"
            "677391a174a662795f736b7581a16b84a3736b75a162a5707269636581a424737472a466726565a6636f6c6f7572a3524544"
            "a47461677390a573697a65739301cb3fe0000000000000c3a36b6579d92430303030303030302d303030302d303030302d30"
            "3030302d303030303030303030303037a3726177c40200ffa870617469656e6365ac505439302e30303030303153"
        ),
        "81a16ed38000000000000000",
    ],
    "SELECT DISTINCT metadata FROM events": [
        (
            "83ac636175736174696f6e5f6964a56361757365ae636f7272656c6174696f6e5f6964a76f726465722d31a86d6574616461"
            "746182a5636c65726ba3657665a16e01"
        ),
    ],
    "SELECT reply FROM events": [
        "None",
        "None",
        "None",
        "c3",
    ],
    "SELECT * FROM keyed_replies": [
        "1 | order-1 | 4 | c3ba736e3bee36b92f6536af9cd33ddb | c3 | 1865355159",
    ],
    "SELECT stream, version, schema, payload, checksum FROM snapshots": [
        (
            "1 | 2 | 0123456789abcdef | 84a56f776e6572a45a6fc3aba762616c616e6365a52d312e3530a56e6f74657391a178a96"
            "f70656e65645f6174d7ff1d6f280065e078d7 | 4119004747"
        ),
    ],
    "SELECT * FROM streams": [
        "1 | 1 | alice / 猫",
    ],
    "SELECT * FROM categories": [
        "1 | Account",
    ],
    "PRAGMA application_id": [
        "1215261796",
    ],
    "PRAGMA user_version": [
        "2",
    ],
}


@pytest.mark.parametrize("query", PINNED)
async def test_golden_the_stored_bytes_are_these(query: str, tmp_path: Path) -> None:
    """Exactly: payloads, metadata, replies, snapshots, checksums, and what types are called."""
    with closing(await written(tmp_path / "pinned.db")) as raw:
        found = shown(raw.execute(query).fetchall())
    assert found == PINNED[query]


def test_golden_the_columns_of_all_tables_are_these() -> None:
    """By name and order: what `SELECT *` above relies on is in the schema's files."""
    folder = Path(__file__).parents[2] / "journal"
    with closing(sqlite3.connect(":memory:")) as raw:
        for file in sorted(folder.glob("schema*.sql")):
            raw.executescript(file.read_text())
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        columns = {t: [row[1] for row in raw.execute(f"PRAGMA table_info({t})")] for t in tables}
    del columns["sqlite_sequence"]
    assert columns == COLUMNS


COLUMNS: dict[str, list[str]] = {
    "aggregates": ["category", "placement", "code", "generation"],
    "categories": ["key", "name"],
    "checkpoints": ["name", "owner", "epoch", "position"],
    "events": [
        "position",
        "stream",
        "version",
        "category",
        "type",
        "command_id",
        "payload",
        "metadata",
        "reply",
        "recorded_at",
        "checksum",
    ],
    "journal": ["one", "partition", "partitions", "id"],
    "keyed_replies": ["stream", "key", "version", "fingerprint", "reply", "checksum"],
    "owners": ["owner", "epoch", "incarnation"],
    "reminders": ["stream", "name", "due", "category"],
    "snapshots": ["key", "stream", "version", "schema", "payload", "checksum"],
    "streams": ["key", "category", "id"],
}
