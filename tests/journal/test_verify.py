"""Verification: a good journal is found good, whatever is wrong is found and named by its place, nothing is changed."""

import asyncio
import os
import random
import sqlite3
from contextlib import closing
from zlib import crc32

import msgspec
import pytest

from holdfast.actors import Aggregate, command, event, on
from holdfast.actors.definition import definition_of
from holdfast.actors.snapshots import take
from holdfast.actors.verify import ClassReplay
from holdfast.journal import sqlite_verify
from holdfast.journal.codec import encode_plain
from holdfast.journal.errors import JournalOpenError, JournalUnavailable, NotAJournal
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, KeyedReply, NewEvent, Snapshot, StreamId
from holdfast.journal.rows import name_checksum, snapshot_row
from holdfast.journal.verify import open_source, verify

CHOSEN = os.environ.get("HOLDFAST_SEED")
ALICE, BOB = StreamId("Account", "alice"), StreamId("Account", "bob")
AMOUNTS = {ALICE: 1, BOB: 2}
EVENTS = 12  # in each of the two streams, in turns: alice has the odd positions


@event("test_verify.deposited")
class Deposited:
    amount: int


class Account(Aggregate):
    balance: int = 0

    @command
    def deposit(self, amount: int) -> int:
        self.emit(Deposited(amount))
        return self.balance

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount


def state_at(version, stream=ALICE, balance=None):
    """The snapshot that the class itself would take."""
    definition = definition_of(Account)
    instance = definition.new(stream.id)
    expected = version * AMOUNTS[stream]
    instance.__dict__.update(balance=expected if balance is None else balance, _version=version)
    return take(definition, stream, instance, version)


def deposit(stream, version, keys=()):
    new = NewEvent(
        type="test_verify.deposited",
        payload=encode_plain({"amount": AMOUNTS[stream]}),
        command_id=f"{stream.id}-{version}",
        recorded_at=version,
        metadata=encode_plain({"clerk": "eve"}),
        reply=b"\x01",
    )
    return Append(stream=stream, owner="host", epoch=3, expected_version=version - 1, events=(new,), keys=keys)


async def fill(store):
    """Two streams of twelve events, two snapshots of each, a keyed reply in each, and an owner at epoch 3."""
    for incarnation in ("first", "second", "third"):
        await store.claim("host", incarnation)
    await store.register("Account", "Dedicated()", "code")
    for version in range(1, EVENTS + 1):
        for stream in (ALICE, BOB):
            keys = (KeyedReply(key="order", fingerprint=b"f", version=version, reply=b"\x01"),) if version == 5 else ()
            (answer,) = await store.append([deposit(stream, version, keys)])
            assert answer.version == version, answer
    await store.save_snapshots([state_at(4), state_at(8), state_at(4, BOB), state_at(8, BOB)])


async def filled(file):
    async with file.opened() as store:
        await fill(store)


async def checked(file, **how):
    return await verify(await open_source(f"sqlite:///{file.path}"), **how)


async def replayed(file):
    return await checked(file, replays=[ClassReplay(Account)])


def places(report, kind=None):
    """0 and "" stand for what is not known."""
    return [(p.stream or "", p.version or 0, p.position or 0) for p in report.problems if kind in (None, p.kind)]


def tamper(file, *statements):
    """Behind the journal's back, by SQL: the triggers go, the statement runs, the triggers come back."""
    with file.raw() as raw:
        triggers = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        for statement, *values in (s if isinstance(s, tuple) else (s,) for s in statements):
            assert raw.execute(statement, values).rowcount != 0, statement
        for _, sql in triggers:
            raw.execute(sql)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- what is good ----------------------------------------------------------------------------------------------


async def test_a_good_journal_is_found_good_and_all_of_it_was_looked_at(file):
    """Every row is counted, with its class every event is replayed, and every snapshot compared."""
    await filled(file)
    report = await replayed(file)
    assert report.good
    assert not report.problems
    assert report.upto == 2 * EVENTS
    assert report.counts == {
        "events": 24,
        "streams": 2,
        "keyed_replies": 2,
        "snapshots": 4,
        "owners": 1,
        "checkpoints": 0,
        "reminders": 0,
        "events_replayed": 24,
        "snapshots_replayed": 4,
    }


async def test_an_empty_journal_is_good(file):
    """It was opened once, and nobody has written."""
    async with file.opened():
        pass
    assert (await checked(file)).good


async def test_verifying_changes_nothing_and_leaves_nothing_behind(file, tmp_path):
    """Byte for byte, file for file, also in a folder and of a file that cannot be written."""
    await filled(file)
    before = contents(tmp_path)
    os.chmod(file.path, 0o400)
    os.chmod(tmp_path, 0o500)
    try:
        assert (await replayed(file)).good
        assert contents(tmp_path) == before
    finally:
        os.chmod(tmp_path, 0o700)


async def test_a_journal_whose_writer_was_killed_is_read_through_its_log(file, tmp_path):
    """What stands in the log only is verified as well, and the log stays."""
    async with file.opened() as store:
        await fill(store)
        copy = type(file)(tmp_path / "copy" / "bank.db")
        copy.path.parent.mkdir()
        for suffix in ("", "-wal", "-shm"):
            (copy.path.parent / f"bank.db{suffix}").write_bytes((tmp_path / f"bank.db{suffix}").read_bytes())
    before = contents(copy.path.parent)
    report = await replayed(copy)
    assert report.good
    assert report.upto == 2 * EVENTS
    after = contents(copy.path.parent)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in ("bank.db", "bank.db-wal"))


async def test_a_journal_is_found_good_while_it_is_written(file, monkeypatch):
    """Appends, snapshots and keyed replies come between its pages, which are small here."""
    monkeypatch.setattr(sqlite_verify, "PAGE_ROWS_MAX", 2)
    async with file.opened() as store:
        await fill(store)
        written, stop = EVENTS, False

        async def write():
            nonlocal written
            while not stop:
                written += 1
                key = KeyedReply(key=f"order {written}", fingerprint=b"f", version=written, reply=b"\x01")
                await store.append([deposit(ALICE, written, [key])])
                await store.save_snapshots([state_at(written)])

        writing = asyncio.create_task(write())
        uptos = []
        while written < EVENTS + 40:
            report = await replayed(file)
            assert report.good, report.problems
            uptos.append(report.upto)
        stop = True
        await writing
        assert len(set(uptos)) > 1


async def test_a_file_that_is_opened_for_writing_meanwhile_is_not_called_good(file):
    """It was read as one that nobody writes to; what came out may be of no one moment."""
    await filled(file)
    source = await open_source(f"sqlite:///{file.path}")
    async with file.opened():
        with pytest.raises(JournalUnavailable, match="verify it again"):
            await verify(source)


async def test_one_category_can_be_verified_alone(file):
    """The others are not read; one that is not there is said to be missing, with those that are."""
    await filled(file)
    async with file.opened(lock_wait_s=1) as store:
        other = StreamId("Loan", "l1")
        await store.claim("host", "fourth")
        await store.append([msgspec.structs.replace(deposit(ALICE, 1), stream=other, epoch=4)])
    tamper(file, "UPDATE events SET payload = x'80' WHERE position = 3")
    assert (await checked(file, category="Loan")).good
    report = await checked(file, category="Account")
    assert places(report) == [("Account/alice", 2, 3)]
    assert report.counts["events"] == 24
    with pytest.raises(JournalOpenError, match="'Nope'; there are: Account, Loan"):
        await checked(file, category="Nope")


async def test_a_store_is_verified_through_its_contract():
    """The memory store, say: it sees less, and says so."""
    store = MemoryStore()
    await store.open()
    await fill(store)
    report = await verify(store, replays=[ClassReplay(Account)])
    assert report.good
    assert report.counts["events_replayed"] == report.counts["events"] == 24
    assert report.notes


# -- what is wrong ---------------------------------------------------------------------------------------------

FLIPS = {
    "type": "substr(type, 1, length(type) - 1) || 'X'",
    "command_id": "command_id || ' '",
    "payload": "x'81a6616d6f756e7402'",
    "metadata": "x''",
    "reply": "NULL",
    "recorded_at": "recorded_at + 1",
    "checksum": "checksum + 1",
    "category": "category + 1",
    "stream": "3",
    "version": "version + 1000",
    "position": "position + 1000",
}


@pytest.mark.parametrize("column", FLIPS)
async def test_a_changed_column_of_an_event_is_found_at_its_place(file, column):
    """Whichever column it is; in the row itself, and where it leaves a hole."""
    await filled(file)
    with file.raw() as raw:
        columns = {name for _, name, *_ in raw.execute("PRAGMA table_info(events)")}
    assert set(FLIPS) == columns
    tamper(file, f"UPDATE events SET {column} = {FLIPS[column]} WHERE position = 9")
    report = await replayed(file)
    assert not report.good
    position = 1009 if column == "position" else 9
    version = 1005 if column == "version" else 5
    stream = "stream 3" if column == "stream" else "Account/alice"
    assert (stream, version, position) in places(report, "event")


@pytest.mark.parametrize("place", range(1, 2 * EVENTS + 1))
async def test_a_flipped_bit_in_any_event_is_found(file, place):
    """In the file itself, as rot would have it: first, last, or between."""
    await filled(file)
    content = file.path.read_bytes()
    (stream, version) = (ALICE, (place + 1) // 2) if place % 2 else (BOB, place // 2)
    mark = f"{stream.id}-{version}".encode() + encode_plain({"amount": AMOUNTS[stream]})
    assert content.count(mark) == 1
    at = content.index(mark) + len(mark) - 1
    file.path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    assert places(await checked(file)) == [(str(stream), version, place)]


async def test_a_missing_version_is_found(file):
    """An event was removed from the middle: its stream and the journal both have a hole."""
    await filled(file)
    tamper(file, "DELETE FROM events WHERE position = 9")
    report = await replayed(file)
    version, position = (next(p for p in report.problems if p.kind == kind) for kind in ("version", "position"))
    assert str(version) == "Account/alice version 5: is missing"
    assert (version.version, version.position) == (5, None)  # nothing tells where it was
    assert str(position) == "position 9: is missing"
    assert (position.stream, position.version) == (None, None)


async def test_several_missing_versions_are_told_in_one_problem(file):
    """From the first to the last."""
    await filled(file)
    tamper(file, "DELETE FROM events WHERE stream = 1 AND version IN (5, 6, 7)")
    problems = [str(p) for p in (await checked(file)).problems if p.kind == "version"]
    assert problems == ["Account/alice version 5: is missing, and so are all up to 7"]


async def test_a_removed_last_event_is_found(file):
    """SQLite remembers the highest position it gave out."""
    await filled(file)
    tamper(file, f"DELETE FROM events WHERE position = {2 * EVENTS}")
    assert places(await checked(file)) == [("", 0, 2 * EVENTS)]


async def test_a_gap_in_positions_is_found(file):
    """From the first that is missing to the last."""
    await filled(file)
    tamper(file, "UPDATE events SET position = position + 3 WHERE position = 24")
    report = await checked(file)
    assert ("", 0, 24) in places(report, "position")
    assert "position 24: is missing, and so are all up to 26" in map(str, report.problems)


async def test_exchanged_payloads_are_found_in_both_events(file):
    """Each is what some event was, in another one's place."""
    await filled(file)
    await swap(file, "events", "payload", "position = 5", "position = 6")
    assert places(await checked(file)) == [("Account/alice", 3, 5), ("Account/bob", 3, 6)]


async def test_whole_events_that_traded_places_are_found(file):
    """With their own checksums, in another's position, version and stream."""
    await filled(file)
    for column in ("payload", "metadata", "type", "command_id", "reply", "recorded_at", "checksum"):
        await swap(file, "events", column, "position = 5", "position = 6")
    assert places(await checked(file)) == [("Account/alice", 3, 5), ("Account/bob", 3, 6)]


async def swap(file, table, column, one, other):
    with file.raw() as raw:
        (first,) = raw.execute(f"SELECT {column} FROM {table} WHERE {one}").fetchone()
        (second,) = raw.execute(f"SELECT {column} FROM {table} WHERE {other}").fetchone()
    tamper(file, (f"UPDATE {table} SET {column} = ? WHERE {one}", second))
    tamper(file, (f"UPDATE {table} SET {column} = ? WHERE {other}", first))


async def test_exchanged_snapshots_of_two_streams_are_found(file):
    """Both have a right checksum, of the other stream."""
    await filled(file)
    async with file.opened(lock_wait_s=1) as store:
        await store.save_snapshots([state_at(8, BOB, balance=7)], keep=3)
    for column in ("payload", "checksum"):
        await swap(file, "snapshots", column, "stream = 1 AND version = 4", "stream = 2 AND version = 4")
    report = await checked(file)
    assert places(report) == [("Account/alice", 4, 0), ("Account/bob", 4, 0)]
    assert {p.kind for p in report.problems} == {"snapshot"}


async def test_older_content_under_a_newer_version_is_found_without_the_class(file):
    """The checksum covers the version."""
    await filled(file)
    for column in ("payload", "checksum"):
        await swap(file, "snapshots", column, "stream = 1 AND version = 4", "stream = 1 AND version = 8")
    assert places(await checked(file)) == [("Account/alice", 4, 0), ("Account/alice", 8, 0)]


async def test_a_snapshot_with_a_right_checksum_and_wrong_content_is_found_by_replay(file):
    """Only the class can tell; the difference is named."""
    await filled(file)
    wrong = state_at(8, balance=4)
    row = snapshot_row(wrong, 1, name_checksum(ALICE))
    tamper(file, ("UPDATE snapshots SET payload = ?, checksum = ? WHERE stream = 1 AND version = 8", row[3], row[4]))
    assert (await checked(file)).good
    report = await replayed(file)
    assert places(report) == [("Account/alice", 8, 15)]
    assert "balance" in report.problems[0].problem


async def test_a_snapshot_of_another_schema_is_left_alone(file):
    """As hydration does; it is of another release."""
    await filled(file)
    async with file.opened() as store:
        await store.save_snapshots([Snapshot(stream=ALICE, version=12, schema="another", payload=b"\x80")])
    report = await replayed(file)
    assert report.good
    assert report.counts["snapshots"] == 4
    assert report.counts["snapshots_replayed"] == 3


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE snapshots SET version = 13 WHERE stream = 1 AND version = 8", ("Account/alice", 13, 0)),
        ("UPDATE snapshots SET stream = 9 WHERE stream = 1 AND version = 8", ("stream 9", 8, 0)),
        ("UPDATE snapshots SET schema = 'x' WHERE stream = 1 AND version = 8", ("Account/alice", 8, 0)),
        ("UPDATE snapshots SET payload = x'80' WHERE stream = 2 AND version = 4", ("Account/bob", 4, 0)),
        ("UPDATE snapshots SET checksum = 1 WHERE stream = 2 AND version = 4", ("Account/bob", 4, 0)),
        ("UPDATE keyed_replies SET reply = x'02' WHERE stream = 1", ("Account/alice", 5, 0)),
        ("UPDATE keyed_replies SET fingerprint = x'02' WHERE stream = 1", ("Account/alice", 5, 0)),
        ("UPDATE keyed_replies SET key = 'other' WHERE stream = 1", ("Account/alice", 5, 0)),
        ("UPDATE keyed_replies SET version = 50 WHERE stream = 1", ("Account/alice", 50, 0)),
        ("UPDATE keyed_replies SET stream = 9 WHERE stream = 1", ("stream 9", 5, 0)),
        ("UPDATE keyed_replies SET checksum = 1 WHERE stream = 2", ("Account/bob", 5, 0)),
        ("DELETE FROM streams WHERE key = 2", ("stream 2", 1, 2)),
        ("UPDATE streams SET id = 'bab' WHERE key = 2", ("Account/bab", 1, 2)),
        ("UPDATE streams SET category = 7 WHERE key = 2", ("stream 2", 1, 2)),
        ("UPDATE categories SET name = 'Akkount'", ("Akkount/alice", 1, 1)),
        ("INSERT INTO streams (key, category, id) VALUES (9, 1, 'nothing')", ("Account/nothing", 0, 0)),
        ("UPDATE owners SET epoch = 0 WHERE epoch = 3", ("", 0, 0)),
        ("UPDATE owners SET epoch = 7 WHERE epoch = 3", ("", 0, 0)),
        ("DELETE FROM owners WHERE epoch < 3", ("", 0, 0)),
        ("UPDATE owners SET incarnation = 'first' WHERE epoch = 3", ("", 0, 0)),
        ("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'events'", ("", 0, 25)),
        ("DROP TRIGGER events_keep_delete", ("", 0, 0)),
        ("DROP INDEX events_of_category", ("", 0, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_else_was_changed_is_found_at_its_place(file, statement, place):
    """Snapshots, keyed replies, streams, names, owners, and what guards the tables."""
    await filled(file)
    if statement.startswith("DROP"):
        with file.raw() as raw:
            raw.execute(statement)
    else:
        tamper(file, statement)
    report = await replayed(file)
    assert not report.good
    assert place in places(report)


async def test_an_owner_whose_epoch_went_backward_is_named(file):
    """The claim at epoch 3 was taken back."""
    await filled(file)
    tamper(file, "UPDATE owners SET epoch = 0 WHERE epoch = 3")
    assert "owner 'host': epoch 0" in str((await checked(file)).problems)


async def test_a_keyed_reply_with_a_right_checksum_of_a_version_that_never_was_is_found(file):
    """Its own row is as it was written; the stream is shorter."""
    await filled(file)
    tamper(file, "DELETE FROM events WHERE stream = 2 AND version > 4")
    report = await checked(file)
    assert ("Account/bob", 5, 0) in places(report, "keyed reply")
    assert ("Account/bob", 8, 0) in places(report, "snapshot")


@pytest.mark.parametrize("left", [EVENTS - 1, 0])
async def test_a_snapshot_above_the_head_of_its_stream_is_found_without_the_class(file, left):
    """Its last event is gone, or all of them; also where nobody remembers the positions."""
    await filled(file)
    async with file.opened() as store:
        await store.save_snapshots([state_at(EVENTS, BOB)])
    tamper(
        file,
        f"DELETE FROM events WHERE stream = 2 AND version > {left}",
        "UPDATE sqlite_sequence SET seq = (SELECT max(position) FROM events) WHERE name = 'events'",
    )
    found = [p for p in (await checked(file)).problems if p.kind == "snapshot" and p.version == EVENTS]
    assert [str(p) for p in found] == [
        f"Account/bob version {EVENTS}: a snapshot of version {EVENTS}, the stream ends at {left}"
    ]


async def test_an_event_that_its_class_cannot_apply_is_found_by_replay(file):
    """Right bytes, an event that no handler knows: that aggregate will not wake."""
    await filled(file)
    async with file.opened() as store:
        await store.claim("host", "fourth")
        new = NewEvent(type="test_verify.unknown", payload=b"\x80", command_id="x", recorded_at=1)
        await store.append([Append(stream=ALICE, owner="host", epoch=4, expected_version=EVENTS, events=(new,))])
    assert (await checked(file)).good
    assert places(await replayed(file), "replay") == [("Account/alice", 13, 25)]


async def test_a_long_list_of_problems_is_counted_and_not_kept(file):
    """Memory is bounded, whatever is wrong."""
    await filled(file)
    tamper(file, "UPDATE events SET recorded_at = 0")
    report = await checked(file, problems_max=5)
    assert (len(report.problems), report.problem_count) == (5, 24)


# -- what cannot be read ---------------------------------------------------------------------------------------


async def long_journal(file):
    """Four hundred events of about a kilobyte: a hundred pages and more."""
    async with file.opened() as store:
        for first in range(0, 400, 50):
            ids = [f"c{first + n}" for n in range(1, 51)]
            await store.append([file.append("alice", *ids, at=first, payload=encode_plain({"a": b"x" * 900}))])


async def test_a_torn_file_gets_a_report(file):
    """It says that the file was cut short, and how far the events can be read."""
    await long_journal(file)
    content = file.path.read_bytes()
    for length in (len(content) // 2, len(content) // 2 + 17, 4096 * 3, 4096, 1000, 100):
        file.path.write_bytes(content[:length])
        report = await checked(file)
        assert not report.good
        assert "the file is torn" in report.problems[0].problem


async def test_what_comes_behind_a_destroyed_page_is_still_verified(file):
    """The hole has a beginning and an end, and a bad row behind it is found."""
    await long_journal(file)
    tamper(file, "UPDATE events SET recorded_at = 9 WHERE position = 390")
    content = bytearray(file.path.read_bytes())
    at = content.index(b"c200")
    page = at // 4096 * 4096
    content[page : page + 4096] = b"\xff" * 4096
    file.path.write_bytes(bytes(content))
    report = await checked(file)
    holes = [p for p in report.problems if p.kind == "event" and not p.stream]
    assert len(holes) == 1
    assert holes[0].position <= 200
    assert "SQLite cannot read what is stored up to position 2" in holes[0].problem
    assert ("Account/alice", 390, 390) in places(report, "event")
    assert report.counts["events"] > 390


@pytest.mark.parametrize("seed", range(30))
async def test_any_page_of_rubbish_gets_a_report_and_no_crash(file, seed):
    """Whichever page it is, the first one with the schema included; SQLite's own words if there are no better ones."""
    await long_journal(file)
    content = bytearray(file.path.read_bytes())
    page = (seed * 7919) % (len(content) // 4096)
    start = page * 4096 + (100 if page == 0 else 0)
    for at in range(start, (page + 1) * 4096):
        content[at] = crc32(f"{seed} {at}".encode()) & 0xFF
    file.path.write_bytes(bytes(content))
    report = await checked(file)
    assert not report.good
    assert report.problems


CHECKED = ("events", "streams", "categories", "keyed_replies", "snapshots", "sqlite_sequence")


def rows(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as raw:
        raw.text_factory = bytes
        return {table: sorted(map(repr, raw.execute(f"SELECT * FROM {table}"))) for table in CHECKED}


@pytest.mark.parametrize("seed", [int(CHOSEN)] if CHOSEN else [random.randrange(2**32) for _ in range(60)])
async def test_random_flips_are_found_unless_they_hit_what_nobody_reads(file, seed):
    """One bit or several, anywhere: if it is called good, every row that counts is as it was. A run is one seed:
    HOLDFAST_SEED=123 python -m pytest tests/journal/test_verify.py -k random_flips"""
    print(f"HOLDFAST_SEED={seed}")
    chance = random.Random(seed)
    await filled(file)
    content, before = bytearray(file.path.read_bytes()), rows(file.path)
    for _ in range(chance.choice((1, 1, 3, 30))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.path.write_bytes(bytes(content))
    try:
        report = await replayed(file)
    except JournalOpenError:  # the header is not that of a journal any more
        return
    assert not report.good or rows(file.path) == before


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 5000, b"SQLite format 3\0" + b"\0" * 50])
async def test_what_is_no_journal_is_not_verified(file, content):
    """Nor is another application's database, a folder, or nothing."""
    file.path.write_bytes(content)
    with pytest.raises(NotAJournal):
        await checked(file)
    assert file.path.read_bytes() == content


async def test_another_database_a_folder_and_nothing_are_not_verified(tmp_path):
    """Each is told apart."""
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(NotAJournal, match="another application"):
        await open_source(f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(NotAJournal, match="folder"):
        await open_source(f"sqlite:///{tmp_path}")
    with pytest.raises(JournalOpenError, match="no such file"):
        await open_source(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(JournalOpenError, match="memory"):
        await open_source("memory://")
