"""The journal server: all that waits is one transaction, and each request gets its own answers."""

import asyncio

import pytest

from holdfast.journal import wire
from holdfast.journal.errors import (
    DuplicateKey,
    Fenced,
    JournalBusy,
    JournalFailed,
    JournalUnavailable,
    VersionConflict,
)
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, Appended, KeyedReply, Load, NewEvent, Snapshot, StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore


def append(id, at=0, epoch=1, **how):
    event = NewEvent(type="t", payload=b"\x80", command_id=f"{id}{at}", recorded_at=0)
    return Append(
        stream=StreamId("Account", id), owner="host", epoch=epoch, expected_version=at, **{"events": (event,), **how}
    )


async def started(**how):
    store = FaultyStore(MemoryStore())
    server = JournalServer(store, **how)
    await server.start()
    await server.claim("host", "first")
    return server, store


async def ask(server, *appends):
    return wire.decode_appended(await server.append(wire.encode(list(appends))))


async def test_requests_that_wait_for_the_disk_become_one_transaction():
    """Group commit: one append to the store for all that came while the one before was under way."""
    server, store = await started()
    with store.hold("append") as disk:
        requests = [asyncio.create_task(ask(server, append("first")))]
        await disk.reached.wait()
        requests += [asyncio.create_task(ask(server, append(f"{n}a"), append(f"{n}b"))) for n in range(20)]
        for _ in range(10):
            await asyncio.sleep(0)
    answers = await asyncio.gather(*requests)
    assert store.calls["append"] == 2
    assert answers[0] == [Appended(version=1, position=1)]
    assert answers[1:] == [
        [Appended(version=1, position=2 + 2 * n), Appended(version=1, position=3 + 2 * n)] for n in range(20)
    ]


async def test_each_request_gets_its_own_answers_and_errors():
    """A refused append fails neither its neighbours in the request nor those in the transaction."""
    server, _ = await started()
    reply = KeyedReply(key="k", fingerprint=b"", version=0, reply=b"\xc0")
    first, second = await asyncio.gather(
        ask(server, append("a"), append("a", at=7), append("b", keys=(reply,))),
        ask(server, append("b", at=1, keys=(reply,), events=()), append("c", epoch=9), append("c")),
    )
    assert [type(r) for r in first] == [Appended, VersionConflict, Appended]
    assert [type(r) for r in second] == [Appended, Fenced, Appended] or type(second[0]) is DuplicateKey
    assert (first[1].stream, first[1].expected, first[1].actual) == ("Account/a", 7, 1)
    assert (second[1].owner, second[1].epoch, second[1].current) == ("host", 9, 1)


async def test_a_failed_transaction_is_told_to_all_who_were_in_it_and_the_next_goes_on():
    """Nothing of it was written."""
    server, store = await started()
    store.fail("append")
    results = await asyncio.gather(*(ask(server, append(id)) for id in "abc"), return_exceptions=True)
    assert [type(r) for r in results] == [JournalFailed] * 3
    assert await server.head() == 0
    assert await ask(server, append("a")) == [Appended(version=1, position=1)]


async def test_a_request_that_breaks_off_is_written_all_the_same():
    """And the others of its transaction get their answers."""
    server, store = await started()
    with store.hold("append") as disk:
        one, other = asyncio.create_task(ask(server, append("a"))), asyncio.create_task(ask(server, append("b")))
        await disk.reached.wait()
        one.cancel()
    assert await other == [Appended(version=1, position=2)]
    assert await server.head() == 2


async def test_a_queue_of_too_many_bytes_refuses():
    """`JournalBusy`, before anything of the request is written."""
    server, store = await started(waiting_bytes_max=10)
    with store.hold("append") as disk:
        requests = [asyncio.create_task(ask(server, append("a")))]
        await disk.reached.wait()
        requests.append(asyncio.create_task(ask(server, append("b"))))
        await asyncio.sleep(0)
        with pytest.raises(JournalBusy):
            await ask(server, append("c"))
    await asyncio.gather(*requests)
    assert await server.head() == 2


async def test_stopping_writes_what_waits_and_takes_no_more():
    """What came before is answered; what comes later is told that nobody knows, and asks a successor."""
    server, store = await started()
    with store.hold("append") as disk:
        request = asyncio.create_task(ask(server, append("a")))
        await disk.reached.wait()
        waiting = asyncio.create_task(ask(server, append("b")))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        with pytest.raises(JournalUnavailable):
            await ask(server, append("c"))
        assert store.calls["close"] == 0
    assert await request == [Appended(version=1, position=1)]
    assert await waiting == [Appended(version=1, position=2)]
    await stopping
    assert store.calls["close"] == 1
    await server.stop()
    await server.start()
    assert await ask(server, append("c")) == [Appended(version=1, position=3)]


async def test_it_answers_for_its_store():
    """Every other method is the store's own."""
    server, _ = await started()
    await ask(server, append("a"), append("a", at=1), append("b"))
    a, b = StreamId("Account", "a"), StreamId("Account", "b")
    loaded = wire.decode_loaded(await server.load(wire.encode([Load(stream=a), Load(stream=a, owner="host", epoch=9)])))
    assert loaded[0].head == 2
    assert isinstance(loaded[1], Fenced)
    assert [e.version for e in wire.decode_page(await server.read_stream(a, 0, 10, True))] == [2, 1]
    assert [e.position for e in wire.decode_page(await server.read_all(1, 10, "Account"))] == [2, 3]
    assert await server.list_streams("Account", None, 10) == [(a, 2), (b, 1)]
    snapshot = Snapshot(stream=a, version=2, schema="s", payload=b"x")
    await server.save_snapshots([snapshot], 2)
    assert await server.list_snapshots(a) == [snapshot]
    assert await server.find_replies(a, ["a0"], 10) == {}
    assert await server.find_keyed(a, ["k"]) == {}
    assert (await server.register("Account", "dedicated", "c")).generation == 1
    await server.confirm("host", 1)
    assert (await server.statistics()).events == 3
    await server.ping()


def test_every_journal_error_crosses_as_itself():
    """With its fields; one that this release does not know counts as no answer."""
    known = [VersionConflict("a", 1, 2), Fenced("h", 1, 2), DuplicateKey("a", "k"), JournalFailed("disk")]
    back = wire.decode_appended(wire.encode_results([*known, Appended(version=1, position=1)]))
    assert [(type(e), e.args) for e in back[:-1]] == [(type(e), e.args) for e in known]
    assert back[-1] == Appended(version=1, position=1)

    class FromTheFuture(JournalFailed):
        pass

    for odd in (FromTheFuture("x"), ZeroDivisionError("y")):
        (told,) = wire.decode_appended(wire.encode_results([odd]))
        assert isinstance(told, JournalUnavailable)
        assert type(odd).__name__ in str(told)
