"""Verification of a journal in PostgreSQL: the same checks over the same tables, by a session that cannot write."""

import asyncio
import re

import postgres_server
import pytest

from holdfast.actors import Aggregate, command, event, on
from holdfast.actors.verify import ClassReplay
from holdfast.journal import postgres_verify
from holdfast.journal.codec import encode_plain
from holdfast.journal.errors import JournalOpenError, JournalUnavailable, NotAJournal
from holdfast.journal.records import KeyedReply, Snapshot, StreamId
from holdfast.journal.verify import open_source, verify

ALICE = StreamId("Account", "alice")


@event("test_verify_postgres.noted")
class Noted:
    amount: int


class Account(Aggregate):
    lines: int = 0

    @command
    def note(self, amount: int) -> int:
        self.emit(Noted(amount))
        return self.lines

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        self.lines += 1


@pytest.fixture
def journal():
    return postgres_server.Journal(postgres_server.server())


def append(journal, id, *command_ids, **how):
    how = {"type": "test_verify_postgres.noted", "payload": encode_plain({"amount": 7}), **how}
    return journal.append(id, *command_ids, **how)


def order(version, key="order"):
    return KeyedReply(key=key, fingerprint=b"f", version=version, reply=b"\x01")


async def fill(store, journal):
    """Alice has positions 1-3 and 6-8, bob 4, 5 and 9; each a keyed reply, alice two snapshots; epochs 1 to 3."""
    await store.append([append(journal, "alice", "a1", "a2", "a3", keys=[order(2)])])
    await store.append([append(journal, "bob", "b1", "b2", keys=[order(1)])])
    await store.append([append(journal, "alice", "a4", "a5", "a6", at=3), append(journal, "bob", "b3", at=2)])
    for version in (2, 5):
        await store.save_snapshots([Snapshot(stream=ALICE, version=version, schema="s", payload=b"\x80")])
    await store.claim("host", "second")
    await store.claim("host", "third")


async def filled(journal):
    async with journal.opened() as store:
        await fill(store, journal)


async def checked(journal, **how):
    return await verify(await open_source(journal.server.url(journal.schema)), **how)


async def tamper(journal, statement):
    """Behind its back: with the triggers off while it runs."""
    await journal.tamper(statement)
    async with journal.raw() as raw:
        for table in ("events", "keyed_replies", "streams", "categories"):
            await raw.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_stay")


def places(report, kind=None):
    """0 and "" stand for what is not known."""
    return [(p.stream or "", p.version or 0, p.position or 0) for p in report.problems if kind in (None, p.kind)]


@pytest.mark.parametrize("rows", [1, 2, 2000])
async def test_a_good_journal_is_found_good_and_stays_as_it_is(journal, monkeypatch, rows):
    """Whatever its pages hold, every row is looked at once; the session cannot write."""
    for name, statement in vars(postgres_verify).items():
        if isinstance(statement, str) and "LIMIT" in statement:
            monkeypatch.setattr(postgres_verify, name, re.sub(r"LIMIT \d+", f"LIMIT {rows}", statement))
    await filled(journal)
    report = await checked(journal, replays=[ClassReplay(Account)])
    assert report.good, report.problems
    assert report.counts == {
        "events": 9,
        "streams": 2,
        "keyed_replies": 2,
        "snapshots": 2,
        "owners": 1,
        "checkpoints": 0,
        "reminders": 0,
        "events_replayed": 9,
        "snapshots_replayed": 0,  # they are of another schema
    }
    assert "s3cr" not in report.journal


async def test_a_page_ends_at_its_bytes(journal, monkeypatch):
    """Large events, keyed replies and snapshots come in pages of one."""
    monkeypatch.setattr(postgres_verify, "_EVENTS", postgres_verify._EVENTS.replace("8388608", "1000"))
    monkeypatch.setattr(postgres_verify, "_SNAPSHOTS_FIT", postgres_verify._SNAPSHOTS_FIT.replace("8388608", "10"))
    async with journal.opened() as store:
        ids = [f"a{n}" for n in range(20)]
        await store.append([append(journal, "alice", *ids, payload=encode_plain({"amount": 1, "x": b"x" * 900}))])
        for version in (3, 7):
            await store.save_snapshots([Snapshot(stream=ALICE, version=version, schema="s", payload=b"\x80" * 50)])
    pages = []
    report = await checked(journal, progress=lambda step, done, total: pages.append((step, done)))
    assert report.counts["events"] == 20
    assert report.counts["snapshots"] == 2
    assert len([done for step, done in pages if step == "events"]) > 10
    assert ("snapshots", 1) in pages


async def test_it_is_found_good_while_it_is_written(journal):
    """Positions beyond the beginning are left for the next time."""
    async with journal.opened() as store:
        await fill(store, journal)
        written, stop, uptos = 6, False, set()

        async def write():
            nonlocal written
            while not stop:
                written += 1
                new = append(
                    journal, "alice", f"n{written}", at=written - 1, epoch=3, keys=[order(written, str(written))]
                )
                await store.append([new])
                await store.save_snapshots([Snapshot(stream=ALICE, version=written, schema="s", payload=b"\x80")])

        writing = asyncio.create_task(write())
        while written < 60:
            report = await checked(journal)
            assert report.good, report.problems
            uptos.add(report.upto)
        stop = True
        await writing
        assert len(uptos) > 1


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE events SET type = 'x' WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET payload = '\\x80' WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET metadata = '\\x80' WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET reply = NULL WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET command_id = '' WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET recorded_at = 8 WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET checksum = 1 WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET category = 2 WHERE position = 4", ("Account/bob", 1, 4)),
        ("UPDATE events SET stream = 7 WHERE position = 4", ("stream 7", 1, 4)),
        ("UPDATE events SET version = 11 WHERE position = 9", ("Account/bob", 11, 9)),
        ("UPDATE events SET position = 19 WHERE position = 4", ("", 0, 4)),
        ("DELETE FROM events WHERE position = 2", ("Account/alice", 2, 0)),
        ("DELETE FROM events WHERE position = 2", ("", 0, 2)),
        ("UPDATE snapshots SET version = 4 WHERE version = 5", ("Account/alice", 4, 0)),
        ("UPDATE snapshots SET version = 44 WHERE version = 5", ("Account/alice", 44, 0)),
        ("UPDATE snapshots SET stream = 2 WHERE version = 2", ("Account/bob", 2, 0)),
        ("UPDATE snapshots SET stream = 9 WHERE version = 2", ("stream 9", 2, 0)),
        ("UPDATE keyed_replies SET reply = '\\x02' WHERE stream = 1", ("Account/alice", 2, 0)),
        ("UPDATE keyed_replies SET version = 9 WHERE stream = 1", ("Account/alice", 9, 0)),
        ("DELETE FROM streams WHERE key = 2", ("stream 2", 1, 4)),
        ("UPDATE streams SET id = 'bab' WHERE key = 2", ("Account/bab", 1, 4)),
        ("UPDATE categories SET name = 'Akkount'", ("Akkount/alice", 1, 1)),
        ("UPDATE owners SET epoch = 0 WHERE epoch = 3", ("", 0, 0)),
        ("DELETE FROM owners WHERE epoch < 3", ("", 0, 0)),
        ("DELETE FROM events WHERE stream = 1 AND version > 4", ("Account/alice", 5, 0)),
    ],
)
async def test_whatever_was_changed_is_found_at_its_place(journal, statement, place):
    """As in a file of SQLite."""
    await filled(journal)
    await tamper(journal, statement)
    report = await checked(journal)
    assert not report.good
    assert place in places(report)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE events DISABLE TRIGGER USER", "events_stay is switched off"),
        ("ALTER TABLE events ENABLE REPLICA TRIGGER events_stay", "events_stay is switched off"),
        ("ALTER TABLE events ENABLE TRIGGER events_stay", "events_stay can be switched off"),
        ("DROP TRIGGER streams_stay ON streams", "streams_stay is missing"),
        ("DROP TABLE snapshots", "snapshots: the server cannot read it"),
    ],
)
async def test_what_guards_the_tables_and_the_tables_are_looked_at(journal, statement, said):
    """The other steps go on."""
    await filled(journal)
    async with journal.raw() as raw:
        await raw.execute(statement)
    report = await checked(journal)
    assert said in str(report.problems)
    assert report.counts["events"] == 9


async def test_one_category_alone(journal):
    """The others are not read."""
    await filled(journal)
    assert (await checked(journal, category="Account")).counts["events"] == 9
    with pytest.raises(JournalOpenError, match="'Nope'; there are: Account"):
        await checked(journal, category="Nope")


async def test_an_event_that_its_class_cannot_apply_is_found_by_replay(journal):
    """In the order of streams, which is another than that of positions."""
    await filled(journal)
    async with journal.opened() as store:
        await store.claim("host", "fourth")
        await store.append([journal.append("alice", "x", at=6, epoch=4)])
    assert places(await checked(journal, replays=[ClassReplay(Account)])) == [("Account/alice", 7, 10)]


async def test_what_is_no_journal_is_not_verified(journal):
    """An empty schema, another application's, a server that is not there."""
    with pytest.raises(JournalOpenError, match="there is no journal"):
        await checked(journal)
    async with journal.raw() as raw:
        await raw.execute(f"CREATE SCHEMA {journal.schema}")
        await raw.execute(f"CREATE TABLE {journal.schema}.journal AS SELECT 'other'::text AS application")
    with pytest.raises(NotAJournal):
        await checked(journal)
    with pytest.raises(JournalUnavailable):
        await open_source(journal.server.url(port=postgres_server.free_port()))
