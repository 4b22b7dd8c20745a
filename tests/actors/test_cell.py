"""One activation: the mailbox, the gate, and everything that can go wrong between them."""

import asyncio

import msgspec
import pytest
from hf_host import Again, Bench, Client, Persistent, door, failure, give_up, turns

from holdfast.actors import (
    CallCycle,
    CommandAborted,
    DeadlineExceeded,
    HydrationFailed,
    KeyReused,
    NotSerializable,
    Overloaded,
    Rejected,
    UnknownCommand,
)
from holdfast.actors.calls import Call, Kind, Trace
from holdfast.actors.gate import OutputGate
from holdfast.actors.unit import CALLER
from holdfast.journal.errors import (
    CorruptRecord,
    Fenced,
    JournalBusy,
    JournalFailed,
    JournalUnavailable,
    RecordTooLarge,
    VersionConflict,
)
from holdfast.journal.records import Append, KeyedReply, NewEvent, StreamId

A = StreamId("log", "a")


def put(item, command_id="elsewhere", reply=None):
    payload = msgspec.msgpack.encode({"item": item})
    return NewEvent(type="hf_host.put", payload=payload, command_id=command_id, recorded_at=0, reply=reply)


# -- the gate ----------------------------------------------------------------------------------------------------


async def test_a_reply_is_held_until_its_events_are_durable():
    """While the disk is busy nobody hears of a command; when it is done, everybody does."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            reply = client.start("a", "put", "x")
            await disk.reached.wait()
            await turns()
            assert not reply.done()
            assert await bench.items("a") == []
        assert await reply == 1
        assert await bench.items("a") == ["x"]


async def test_commands_run_ahead_of_the_disk_and_their_events_share_appends():
    """While one append is in flight the next commands run on its state, and travel together."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            replies = [client.start("a", "put", "first")]
            await disk.reached.wait()
            replies += [client.start("a", "put", str(n)) for n in range(50)]
            await turns()
            assert not any(reply.done() for reply in replies)
        assert await asyncio.gather(*replies) == list(range(1, 52))
        assert bench.store.calls["append"] == 2


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "before its acknowledgement"])
async def test_a_query_never_returns_what_a_crash_could_take_back(after):
    """A query that has seen a tentative version waits for it; one before it, or elsewhere, does not."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        await client.call("b", "put", "y")
        with bench.store.hold("append", after=after) as disk:
            write = client.start("a", "put", "z")
            await disk.reached.wait()
            read, elsewhere = client.start("a", "count"), client.start("b", "count")
            assert await elsewhere == 1
            await turns()
            assert not read.done()
        assert (await write, await read) == (2, 2)


async def test_a_query_on_durable_state_does_not_touch_the_journal():
    """It is answered from memory, at once."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        before = dict(bench.store.calls)
        assert await client.call("a", "all") == ["x"]
        assert bench.store.calls == before


async def test_a_query_result_is_what_it_was_when_the_query_ran():
    """What a query returned may be part of the state: it is packed there and then, not when it is told."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            first = client.start("a", "put", "x")
            await disk.reached.wait()
            seen = client.start("a", "all")
            second = client.start("a", "put", "y")
            await turns()
        assert await seen == ["x"]
        assert (await first, await second) == (1, 2)


@pytest.mark.parametrize("method", ["refuse", "put_and_refuse", "look"])
async def test_whatever_saw_tentative_state_waits_for_it(method):
    """A rejection, and a command without events, tell what they saw just as a query does."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            write = client.start("a", "put", "x")
            await disk.reached.wait()
            told = client.start("a", method, *(["y"] if method == "put_and_refuse" else []))
            await turns()
            assert not told.done()
        assert await write == 1
        if method == "look":
            assert await told == 1
        else:
            assert str(await failure(told)) == f"there are {1 + (method == 'put_and_refuse')}"
        assert await client.call("a", "all") == ["x"]


async def test_the_reply_of_a_command_without_events_costs_no_append():
    """On durable state there is nothing to wait for."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        appends = bench.store.calls["append"]
        assert await client.call("a", "look") == 1
        assert bench.store.calls["append"] == appends


async def test_a_linearizable_query_asks_the_journal_whether_it_is_still_the_owner():
    """Sync or async: the epoch is confirmed after the query ran; a host that was fenced answers MOVED."""
    linearizable = Trace(linearizable=True)
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        door("d").open.set()
        assert await client.call("a", "count", trace=linearizable) == 1
        assert await client.call("a", "count_slowly", "d", trace=linearizable) == 1
        assert bench.store.calls["confirm"] == 2
        bench.store.fail("confirm", error=JournalFailed("disk"))
        assert isinstance(await failure(client.start("a", "count", trace=linearizable)), JournalFailed)
        assert await client.call("a", "count", trace=linearizable) == 1
        await bench.journal.claim("host", "another")
        told = await failure(client.start("a", "count_slowly", "d", trace=linearizable))
        assert isinstance(told, Again)
        assert told.moved


async def test_a_linearizable_query_behind_a_pending_append_waits_for_it_too():
    """Confirming the epoch says nothing about what is still on its way to the disk."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            write = client.start("a", "put", "x")
            await disk.reached.wait()
            read = client.start("a", "count", trace=Trace(linearizable=True))
            await turns()
            assert bench.store.calls["confirm"] == 1
            assert not read.done()
        assert (await write, await read) == (1, 1)


# -- one at a time -----------------------------------------------------------------------------------------------


async def test_commands_of_one_aggregate_run_one_at_a_time_in_order():
    """An async command keeps the others waiting, queries included, wherever it awaits; other aggregates go on."""
    async with Bench() as bench:
        client, first, second = Client(await bench.host()), door("first"), door("second")
        calls = client.send(
            client.wire("a", "put_slowly", "1", "first"),
            client.wire("a", "put", "2"),
            client.wire("a", "put_slowly", "3", "second"),
            client.wire("a", "count"),
        )
        await first.reached.wait()
        assert await client.call("b", "put", "elsewhere") == 1
        await turns()
        assert not any(call.done() for call in calls)
        first.open.set()
        await second.reached.wait()
        assert await calls[1] == 3
        assert not calls[3].done()
        second.open.set()
        assert await asyncio.gather(*calls) == [2, 3, 5, 5]
        assert await bench.items("a") == ["1 begun", "1 done", "2", "3 begun", "3 done"]


async def test_calls_that_come_while_it_hydrates_run_in_their_order():
    """Hydration holds the mailbox back, and one load serves all."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("load") as disk:
            calls = [client.start("a", "put", str(n)) for n in range(20)]
            await disk.reached.wait()
            await turns()
        assert await asyncio.gather(*calls) == list(range(1, 21))
        assert await bench.items("a") == [str(n) for n in range(20)]
        assert bench.store.calls["load"] == 1


async def test_an_async_command_knows_its_caller_and_a_sync_one_leaves_no_trace():
    """References used in an async command find its unit in the context; that of others is not disturbed."""
    async with Bench() as bench:
        client, d = Client(await bench.host()), door("d")
        running = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        assert CALLER.get() is None
        d.open.set()
        assert await running == 2
        assert CALLER.get() is None


async def test_a_call_that_comes_back_to_who_waits_for_it_fails_at_once():
    """With the chain, and without waiting; also when the aggregate is not in memory any more."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        error = await failure(client.start("a", "put", "x", trace=Trace(chain=("log/a", "log/b"))))
        assert isinstance(error, CallCycle)
        assert error.chain == ("log/a", "log/b", "log/a")
        assert await host.live() == []
        assert not await host.passivate("a")
        assert await client.call("a", "put", "x", trace=Trace(chain=("log/b",))) == 1


async def test_an_unknown_command_and_wrong_arguments_hurt_their_caller_alone():
    """The call is refused, the aggregate goes on."""
    async with Bench() as bench:
        client = Client(await bench.host())
        unknown, wrong, right = client.send(
            client.wire("a", "explode"), client.wire("a", "put", 1, 2, 3), client.wire("a", "put", "x")
        )
        assert isinstance(await failure(unknown), UnknownCommand)
        assert isinstance(await failure(wrong), TypeError)
        assert await right == 1


# -- commands that fail ------------------------------------------------------------------------------------------

FAILURES = [
    ("refuse", (), Rejected),
    ("put_and_refuse", ("bad",), Rejected),
    ("put_and_exit", ("bad",), CommandAborted),
    ("poison", ("bad",), ZeroDivisionError),
    ("poison", ("exit",), CommandAborted),
    ("poison_quietly", ("bad",), ZeroDivisionError),
    ("put_and_return_nonsense", ("bad",), NotSerializable),
    ("cancel_itself", (), CommandAborted),
]


@pytest.mark.parametrize(("method", "args", "error"), FAILURES)
async def test_state_is_as_before_when_a_command_raises(method, args, error):
    """Before or after it emitted, in a handler, by SystemExit, or with a reply that cannot be stored."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await client.call("a", "put", "x")
        assert type(await failure(client.start("a", method, *args))) is error
        assert await client.call("a", "all") == ["x"]
        assert await client.call("a", "put", "y") == 2
        assert await bench.items("a") == ["x", "y"]
        assert host.counters.failures == 1


@pytest.mark.parametrize(("method", "args", "error"), FAILURES)
async def test_what_earlier_commands_have_pending_survives_one_that_raises(method, args, error):
    """Their events still go to the disk, their callers hear what they did, later ones see exactly that."""
    async with Bench() as bench:
        client = Client(await bench.host())
        with bench.store.hold("append") as disk:
            calls = [client.start("a", "put", "in flight")]
            await disk.reached.wait()
            calls += client.send(
                client.wire("a", "put", "pending"),
                client.wire("a", method, *args),
                client.wire("a", "put", "later"),
                client.wire("a", "count"),
            )
            await turns()
            assert not any(call.done() for call in calls)
        assert type(await failure(calls.pop(2))) is error
        assert await asyncio.gather(*calls) == [1, 2, 3, 3]
        assert await bench.items("a") == ["in flight", "pending", "later"]


async def test_a_handler_that_ends_the_process_while_replaying_hurts_its_callers_alone():
    """SystemExit in a handler, met in an old event: an answer to the callers, not the end of the host."""
    async with Bench() as bench:
        await bench.journal.claim("seed", "seed")
        stuck = NewEvent(
            type="hf_host.poisoned",
            payload=msgspec.msgpack.encode({"by": "exit"}),
            command_id="c",
            recorded_at=0,
        )
        await bench.journal.append(Append(stream=A, owner="seed", epoch=1, expected_version=0, events=(stuck,)))
        client = Client(await bench.host())
        assert isinstance(await failure(client.start("a", "put", "x")), CommandAborted)
        assert await client.call("b", "put", "x") == 1


async def test_a_query_result_that_cannot_be_packed_hurts_its_caller_alone():
    """The state is untouched and nothing is read again."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        assert isinstance(await failure(client.start("a", "unpackable")), ValueError)
        assert await client.call("a", "count") == 1
        assert bench.store.calls["load"] == 1


@pytest.mark.parametrize(
    ("method", "args"), [("put", ["x" * 2000]), ("put_all", [["ok", "x" * 2000]]), ("put_and_return_bytes", [2000])]
)
async def test_what_is_over_a_limit_is_refused_and_leaves_the_state_unchanged(method, args):
    """An event or a reply: `RecordTooLarge`, and nothing of the command is written."""
    async with Bench() as bench:
        client = Client(await bench.host(event_bytes_max=1000, reply_bytes_max=1000))
        await client.call("a", "put", "x")
        error = await failure(client.start("a", method, *args))
        assert isinstance(error, RecordTooLarge)
        assert error.limit == 1000
        assert await client.call("a", "all") == ["x"]
        assert await bench.items("a") == ["x"]


# -- deadlines ---------------------------------------------------------------------------------------------------


async def test_a_call_whose_deadline_passed_before_it_started_is_not_executed():
    """Its caller was told that it did not happen, so it must not; a resent one may have happened before."""
    async with Bench() as bench:
        host = await bench.host()
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d", timeout_s=1000)
        await d.reached.wait()
        late = client.start("a", "put", "late", timeout_s=5)
        resent = client.start("a", "put", "resent", timeout_s=5, maybe=True)
        await turns()
        bench.clock.advance(6)
        d.open.set()
        assert await slow == 2
        assert (await failure(late)).outcome == "not sent"
        assert (await failure(resent)).outcome == "unknown"
        assert await bench.items("a") == ["x begun", "x done"]
        assert host.counters.expired == 2


async def test_an_async_command_over_its_deadline_is_cancelled_and_its_events_discarded():
    """The next one finds the state as if it had never run."""
    async with Bench() as bench:
        client, d = Client(await bench.host()), door("d")
        await client.call("a", "put", "before")
        error = await failure(client.start("a", "put_slowly", "x", "d", timeout_s=0.01))
        assert isinstance(error, DeadlineExceeded)
        assert error.outcome == "unknown"
        await turns(3)
        assert d.cancelled
        assert await client.call("a", "all") == ["before"]
        assert await bench.items("a") == ["before"]


async def test_an_async_command_that_refuses_to_be_cancelled_holds_nobody_back():
    """It goes on with an instance of its own; what it emits goes nowhere, and passivation does not wait for it."""
    async with Bench() as bench:
        host = await bench.host()
        client, d = Client(host), door("d")
        await client.call("a", "put", "before")
        stubborn = client.start("a", "put_stubbornly", "x", "d", timeout_s=0.01)
        behind = client.start("a", "put", "behind")
        assert isinstance(await failure(stubborn), DeadlineExceeded)
        assert await behind == 2
        d.open.set()
        await turns()
        assert await client.call("a", "all") == ["before", "behind"]
        assert await host.passivate("a")
        assert await bench.items("a") == ["before", "behind"]


async def test_a_slow_query_over_its_deadline_lets_the_others_go_on():
    """Async queries are held to their deadlines like commands."""
    async with Bench() as bench:
        client, _ = Client(await bench.host()), door("d")
        slow = client.start("a", "count_slowly", "d", timeout_s=0.01)
        behind = client.start("a", "put", "x")
        assert isinstance(await failure(slow), DeadlineExceeded)
        assert await behind == 1


async def test_a_confirmation_that_outlasts_its_deadline_leaves_the_state_in_memory():
    """Nothing changed, so nothing is read again."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x")
        with bench.store.hold("confirm"):
            told = await failure(client.start("a", "count", timeout_s=0.01, trace=Trace(linearizable=True)))
            assert isinstance(told, DeadlineExceeded)
            assert await client.call("a", "put", "y") == 2
        assert bench.store.calls["load"] == 1


# -- appends that fail -------------------------------------------------------------------------------------------


async def test_a_failed_append_drops_tentative_state_and_fails_the_right_callers():
    """What depended on it is told so, what only looked is asked again, the next command sees the durable state."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "durable")
        bench.store.fail("append", streams=[A])
        with bench.store.hold("append") as disk:
            failing = client.start("a", "put", "lost")
            await disk.reached.wait()
            pending, query, rejection = client.send(
                client.wire("a", "put", "lost too"), client.wire("a", "count"), client.wire("a", "refuse")
            )
            await turns()
        assert isinstance(await failure(failing), JournalFailed)
        assert isinstance(await failure(pending), JournalFailed)
        for looked in (query, rejection):
            again = await failure(looked)
            assert (again.moved, again.maybe) == (False, False)
        assert await client.call("a", "all") == ["durable"]
        assert await client.call("a", "put", "next") == 2
        assert await bench.items("a") == ["durable", "next"]


async def test_a_failed_append_does_not_fail_its_neighbours():
    """One refused append of a batch concerns its own aggregate."""
    async with Bench() as bench:
        client = Client(await bench.host())
        bench.store.reject(JournalFailed("text that is no Unicode"), streams=[A])
        bad, good = client.send(client.wire("a", "put", "x"), client.wire("b", "put", "y"))
        assert isinstance(await failure(bad), JournalFailed)
        assert await good == 1
        assert await client.call("a", "put", "z") == 1


async def test_a_failed_append_under_an_async_command_has_it_tried_again():
    """It ran on state that never was: it is cancelled, and its caller told to send it again."""
    async with Bench() as bench:
        client, d = Client(await bench.host()), door("d")
        bench.store.fail("append")
        with bench.store.hold("append") as disk:
            failing = client.start("a", "put", "lost")
            await disk.reached.wait()
            running = client.start("a", "put_slowly", "x", "d")
            await d.reached.wait()
        assert isinstance(await failure(failing), JournalFailed)
        assert (await failure(running)).maybe
        await turns(3)
        assert d.cancelled
        assert await client.call("a", "all") == []


async def test_a_lost_acknowledgement_is_asked_for_again_and_nothing_is_done_twice():
    """The client of the journal sends the same append again and gets the answer of the first."""
    async with Bench() as bench:
        client = Client(await bench.host())
        bench.store.lose("append", times=3)
        assert await client.call("a", "put", "x") == 1
        assert await client.call("a", "put", "y") == 2
        assert await bench.items("a") == ["x", "y"]


@pytest.mark.parametrize("key", [None, "k"], ids=["generated id", "idempotency key"])
async def test_an_append_of_unknown_outcome_that_was_written_is_not_done_again(key):
    """Nobody answers, so the caller is told AGAIN, maybe executed; the resent command gets the first reply."""
    async with Bench() as bench:
        client = Client(await bench.host(journal=bench.new_client(pause=give_up)))
        bench.store.lose("append")
        how = {"key": key} if key else {"command_id": "c"}
        again = await failure(client.start("a", "put", "x", **how))
        assert (again.moved, again.maybe) == (False, True)
        assert await client.call("a", "put", "x", maybe=True, **how) == 1
        assert await bench.items("a") == ["x"]


async def test_an_append_of_unknown_outcome_that_was_not_written_is_done_when_resent():
    """The journal does not know it: so it is new."""
    async with Bench() as bench:
        client = Client(await bench.host(journal=bench.new_client(pause=give_up)))
        bench.store.fail("append", error=JournalUnavailable("gone"))
        again = await failure(client.start("a", "put", "x", command_id="c"))
        assert again.maybe
        assert await client.call("a", "put", "x", command_id="c", maybe=True) == 1
        assert await bench.items("a") == ["x"]


async def test_an_unexpected_answer_to_an_append_counts_as_unknown():
    """Only an error that says that nothing was written is told to callers as such."""

    class Broken:
        async def ask(self, method, *args):
            if method == "append":
                raise ZeroDivisionError
            return await bench.journal._link.ask(method, *args)

    async with Bench() as bench:
        journal = bench.new_client()
        journal._link = Broken()
        client = Client(await bench.host(journal=journal))
        again = await failure(client.start("a", "put", "x"))
        assert again.maybe


async def test_a_version_conflict_makes_it_hydrate_and_its_callers_ask_again():
    """Somebody else has written: their events are there first, then the command is done once."""
    async with Bench() as bench:
        host = await bench.host()
        await Client(host).call("a", "put", "ours")
        await bench.journal.claim("intruder", "i")
        foreign = Append(stream=A, owner="intruder", epoch=1, expected_version=1, events=(put("theirs"),))
        await bench.journal.append(foreign)
        persistent = Persistent(lambda: host)
        assert await persistent.call("a", "put", "then") == 3
        assert await bench.items("a") == ["ours", "theirs", "then"]
        assert host.counters.recoveries == 1


async def test_a_duplicate_key_is_resolved_by_looking_it_up():
    """Somebody recorded the key after it was looked up: the command counts as done, with their reply."""
    async with Bench() as bench:
        client = Client(await bench.host())
        b = StreamId("log", "b")
        await client.call("a", "put", "x", key="k")
        await client.call("b", "look")
        recorded = (await bench.journal.find_keyed(A, ["k"]))["k"]
        theirs = KeyedReply(key="k", fingerprint=recorded.fingerprint, version=0, reply=recorded.reply)
        with bench.store.hold("find_keyed", after=True) as answer:
            call = client.start("b", "put", "x", key="k")
            await answer.reached.wait()
            await bench.journal.claim("intruder", "i")
            await bench.journal.append(
                Append(stream=b, owner="intruder", epoch=1, expected_version=0, events=(), keys=(theirs,))
            )
        assert (await failure(call)).maybe
        assert await client.call("b", "put", "x", key="k", maybe=True) == 1
        assert await bench.items("b") == []


async def test_a_full_queue_before_the_journal_gives_the_calls_back():
    """It must not leave the cell, and its neighbours, waiting for an append that was never sent."""
    async with Bench() as bench:
        journal = bench.new_client()
        client = Client(await bench.host(journal=journal))
        await asyncio.gather(client.call("a", "look"), client.call("b", "look"))
        refused = []

        def full(append, size, answered, hand_over=journal.hand_over):
            if append.stream == A and not refused:
                refused.append(append)
                raise JournalBusy("append queue", 1)
            hand_over(append, size, answered)

        journal.hand_over = full
        busy, free = client.send(client.wire("a", "put", "x"), client.wire("b", "put", "y"))
        assert (await failure(busy)).maybe
        assert await free == 1
        assert await client.call("a", "put", "x") == 1


# -- hydration that fails ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CorruptRecord("log/a", 1, 1, "bad checksum"), JournalFailed("unreadable")])
async def test_an_aggregate_that_cannot_be_read_hurts_its_callers_alone(error):
    """They get the error, all of them; the host goes on; the next call tries again."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        bench.store.reject(error, method="load", streams=[A])
        with bench.store.hold("load") as disk:
            bad = [client.start("a", "put", str(n)) for n in range(3)]
            await disk.reached.wait()
        for call in bad:
            assert str(await failure(call)) == str(error)
        assert await client.call("b", "put", "y") == 1
        assert await client.call("a", "put", "x") == 1
        assert (await host.statistics()).live == 2


async def test_a_cell_whose_work_is_broken_off_gives_everybody_back():
    """Not by us: what was under way, held or waiting is to be sent again, and the next call starts from nothing."""
    async with Bench() as bench:
        host = await bench.host()
        client, _ = Client(host), door("d")
        with bench.store.hold("append") as disk:
            held = client.start("a", "put", "x", command_id="c")
            await disk.reached.wait()
            look_up, waiting = client.send(client.wire("a", "put", "y", maybe=True), client.wire("a", "put", "z"))
            with bench.store.hold("find_replies") as answer:
                await answer.reached.wait()
                host._cells["a"]._worker.cancel()
                told = [await failure(call) for call in (held, look_up, waiting)]
        assert [(t.moved, t.maybe) for t in told] == [(False, True), (False, True), (False, False)]
        assert await client.call("a", "put", "x", command_id="c", maybe=True) == 1
        assert (await host.statistics()).live == 1


async def test_an_event_that_no_code_applies_hurts_its_callers_alone():
    """`HydrationFailed` names stream, version and position."""
    async with Bench() as bench:
        await bench.journal.claim("seed", "seed")
        events = (put("x"), NewEvent(type="gone", payload=b"\x80", command_id="c", recorded_at=0))
        await bench.journal.append(Append(stream=A, owner="seed", epoch=1, expected_version=0, events=events))
        host = await bench.host()
        client = Client(host)
        error = await failure(client.start("a", "count"))
        assert isinstance(error, HydrationFailed)
        assert (error.stream, error.version, error.position) == ("log/a", 2, 2)
        assert await client.call("b", "put", "y") == 1
        assert await host.live() == ["b"]


@pytest.mark.parametrize("error", [JournalUnavailable("gone"), JournalBusy("load queue", 1)])
async def test_an_unreachable_journal_gives_waiting_calls_back(error):
    """Nothing was executed; the caller's line decides how long to try."""
    async with Bench() as bench:
        client = Client(await bench.host(journal=bench.new_client(pause=give_up)))
        bench.store.fail("load", error=error)
        again = await failure(client.start("a", "put", "x"))
        assert (again.moved, again.maybe) == (False, False)
        assert await client.call("a", "put", "x") == 1


# -- effectively once --------------------------------------------------------------------------------------------


async def test_a_key_gets_the_same_reply_in_the_same_activation():
    """The command runs once, though the state has moved on."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        assert await client.call("a", "put", "x", key="k") == 1
        await client.call("a", "put", "y")
        assert await client.call("a", "put", "x", key="k") == 1
        assert await bench.items("a") == ["x", "y"]
        assert host.counters.replays == 1


async def test_a_key_gets_the_same_reply_after_passivation_and_in_another_host():
    """It is remembered by the journal, as long as the stream is."""
    async with Bench() as bench:
        host = await bench.host()
        assert await Client(host).call("a", "put", "x", key="k") == 1
        await Client(host).call("a", "put", "y")
        assert await host.passivate("a")
        assert await Client(host).call("a", "put", "x", key="k") == 1
        successor = await bench.host()
        assert await Client(successor).call("a", "put", "x", key="k") == 1
        assert await bench.items("a") == ["x", "y"]


async def test_a_keyed_command_without_events_answers_the_same_for_ever():
    """What it said then is what it says now, in the same activation and in the next."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        assert await client.call("a", "look", key="k") == 0
        await client.call("a", "put", "x")
        assert await client.call("a", "look", key="k") == 0
        await host.passivate("a")
        assert await client.call("a", "look", key="k") == 0
        assert await client.call("a", "look") == 1


async def test_copies_of_a_keyed_command_in_one_batch_act_once():
    """The second waits for the durability of the first, and says the same."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        with bench.store.hold("append") as disk:
            calls = client.send(*(client.wire("a", "put", "x", key="k") for _ in range(5)))
            calls.append(client.start("a", "look", key="other"))
            await disk.reached.wait()
            await turns()
            assert not any(call.done() for call in calls)
        assert await asyncio.gather(*calls) == [1, 1, 1, 1, 1, 1]
        assert await bench.items("a") == ["x"]


@pytest.mark.parametrize("how", [{"key": "k"}, {"command_id": "c", "maybe": True}], ids=["key", "generated id"])
async def test_a_copy_that_was_looked_up_before_the_original_was_durable_acts_once(how):
    """Both are unknown to the journal when it is asked; the original is durable, and forgotten by the gate if it
    could be, long before the copy's turn comes."""
    async with Bench() as bench:
        client, first, second = Client(await bench.host()), door("first"), door("second")
        original, *between, copy = client.send(
            client.wire("a", "put", "x", **how),
            client.wire("a", "put_slowly", "1", "first"),
            client.wire("a", "put_slowly", "2", "second"),
            client.wire("a", "put", "x", **how),
        )
        await first.reached.wait()
        assert await original == 1
        first.open.set()
        await second.reached.wait()
        assert await between[0] == 3
        second.open.set()
        assert await between[1] == 5
        assert await copy == 1
        assert await bench.items("a") == ["x", "1 begun", "1 done", "2 begun", "2 done"]


async def test_a_copy_that_comes_while_the_original_is_in_flight_acts_once():
    """The journal, asked then, does not know it yet; the gate does."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        with bench.store.hold("append") as disk:
            original = client.start("a", "put", "x", command_id="c")
            await disk.reached.wait()
            copy = client.start("a", "put", "x", command_id="c", maybe=True)
            await turns()
            assert not copy.done()
        assert (await original, await copy) == (1, 1)
        assert await bench.items("a") == ["x"]


async def test_a_look_up_that_the_original_overtakes_does_not_run_it_twice():
    """The journal was asked before the append was done, and answers after it: what it says is too old."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        with bench.store.hold("append") as disk:
            original = client.start("a", "put", "x", command_id="c")
            await disk.reached.wait()
            with bench.store.hold("find_replies", after=True) as answer:
                copies = client.send(
                    client.wire("a", "put", "other", command_id="d", maybe=True),
                    client.wire("a", "put", "x", command_id="c", maybe=True),
                )
                await answer.reached.wait()
                disk.release()
                assert await original == 1
                await turns()
        assert await asyncio.gather(*copies) == [2, 1]
        assert await bench.items("a") == ["x", "other"]


async def test_a_copy_of_what_failed_is_not_answered_as_done():
    """It waits for the original's append, and shares its fate."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        bench.store.fail("append")
        with bench.store.hold("append") as disk:
            calls = [client.start("a", "put", "x", key="k")]
            await disk.reached.wait()
            calls.append(client.start("a", "put", "x", key="k"))
            await turns()
        for call in calls:
            assert isinstance(await failure(call), JournalFailed)
        assert await client.call("a", "put", "x", key="k") == 1
        assert await bench.items("a") == ["x"]


async def test_a_reply_that_is_durable_already_does_not_wait_for_a_later_append():
    """It depends on nothing that is on its way; a failure there must not be told as its own."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "put", "x", key="k")
        bench.store.fail("append")
        with bench.store.hold("append") as disk:
            failing = client.start("a", "put", "y")
            await disk.reached.wait()
            assert await client.call("a", "put", "x", key="k") == 1
        assert isinstance(await failure(failing), JournalFailed)


async def test_a_key_used_for_something_else_is_refused():
    """Another method or other arguments: `KeyReused`, whether the journal knows the key or it is on its way there."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        first, reused = client.send(client.wire("a", "put", "x", key="k"), client.wire("a", "put", "y", key="k"))
        assert await first == 1
        assert isinstance(await failure(reused), KeyReused)
        await host.passivate("a")
        assert isinstance(await failure(client.start("a", "put", "y", key="k")), KeyReused)
        assert isinstance(await failure(client.start("a", "look", key="k")), KeyReused)
        assert await client.call("a", "put", "x", key="k") == 1
        assert await client.call("b", "put", "y", key="k") == 1


async def test_a_key_means_the_same_however_the_arguments_are_spelled():
    """By position or by name."""
    async with Bench() as bench:
        client = Client(await bench.host())
        assert await client.call("a", "put", "x", key="k") == 1
        assert await client.call("a", "put", item="x", key="k") == 1


async def test_an_argument_that_has_no_fingerprint_is_no_danger():
    """One that contains itself is refused at its caller's expense; the batch goes on."""
    endless: list = []
    endless.append(endless)
    async with Bench() as bench:
        client = Client(await bench.host())
        bad, good = client.send(client.wire("a", "put_all", endless, key="k"), client.wire("a", "put", "x", key="l"))
        await failure(bad)
        assert await good == 1


async def test_a_rejected_keyed_command_may_be_tried_again():
    """Nothing was done, so nothing is remembered."""
    async with Bench() as bench:
        client = Client(await bench.host())
        assert isinstance(await failure(client.start("a", "put_and_refuse", "x", key="k")), Rejected)
        assert isinstance(await failure(client.start("a", "put_and_refuse", "x", key="k")), Rejected)
        assert await bench.items("a") == []


async def test_a_resent_command_is_recognised_within_the_window():
    """After passivation and in another host; beyond the window it is new."""
    async with Bench() as bench:
        host = await bench.host(command_window=5)
        client = Client(host)
        assert await client.call("a", "put", "x", command_id="c") == 1
        for n in range(4):
            await client.call("a", "put", str(n))
        await host.passivate("a")
        assert await client.call("a", "put", "x", command_id="c", maybe=True) == 1
        successor = Client(await bench.host(command_window=5))
        assert await successor.call("a", "put", "x", command_id="c", maybe=True) == 1
        await successor.call("a", "put", "4")
        assert await successor.call("a", "put", "x", command_id="c", maybe=True) == 7


async def test_look_ups_of_waiting_calls_travel_together():
    """A hundred keyed calls cost one request, and queries none."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        calls = client.send(
            client.wire("a", "put", "plain"),
            *(client.wire("a", "put", str(n), key=f"k{n}") for n in range(100)),
            *(client.wire("a", "put", str(n), command_id=f"c{n}", maybe=True) for n in range(100)),
            *(client.wire("a", "count", maybe=True) for _ in range(100)),
        )
        await asyncio.gather(*calls)
        assert (bench.store.calls["find_keyed"], bench.store.calls["find_replies"]) == (1, 1)
        assert len(await bench.items("a")) == 201


async def test_a_resent_query_needs_no_look_up():
    """It changes nothing, however often it runs."""
    async with Bench() as bench:
        client = Client(await bench.host())
        assert await client.call("a", "count", maybe=True) == 0
        assert bench.store.calls["find_replies"] == 0


async def test_a_look_up_that_gets_no_answer_gives_the_calls_back():
    """Whether they were executed is still unknown, so they are not run."""
    async with Bench() as bench:
        client = Client(await bench.host(journal=bench.new_client(pause=give_up)))
        await client.call("a", "look")
        bench.store.fail("find_keyed", error=JournalUnavailable("gone"))
        keyed, plain = client.send(client.wire("a", "put", "x", key="k"), client.wire("a", "put", "y"))
        assert isinstance(await failure(keyed), Again)
        assert isinstance(await failure(plain), Again)
        assert await client.call("a", "put", "x", key="k") == 1
        assert await bench.items("a") == ["x"]


async def test_a_look_up_that_fails_for_good_is_told_to_those_who_need_it():
    """The others go on."""
    async with Bench() as bench:
        client = Client(await bench.host())
        await client.call("a", "look")
        bench.store.fail("find_keyed", error=CorruptRecord("log/a", 0, 0, "bad"))
        keyed, plain = client.send(client.wire("a", "put", "x", key="k"), client.wire("a", "put", "y"))
        assert isinstance(await failure(keyed), CorruptRecord)
        assert await plain == 1


async def test_what_was_looked_up_for_an_earlier_activation_does_not_count():
    """The append that a look-up raced with had an unknown outcome: after it the journal is asked again."""
    async with Bench() as bench:
        client, d = Client(await bench.host(journal=bench.new_client(pause=give_up))), door("d")
        await client.call("a", "look")
        bench.store.lose("append")
        with bench.store.hold("append") as disk:
            first = client.start("a", "put", "x", command_id="c")
            await disk.reached.wait()
            slow, copy = client.send(
                client.wire("a", "put_slowly", "y", "d", command_id="s", maybe=True),
                client.wire("a", "put", "x", command_id="c", maybe=True),
            )
            await d.reached.wait()
        assert (await failure(first)).maybe
        assert (await failure(slow)).maybe
        assert await copy == 1
        assert await bench.items("a") == ["x"]


async def test_replies_are_remembered_no_longer_than_they_must_be():
    """A long life of an activation must not cost memory: the journal remembers."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        for n in range(30):
            await client.call("a", "put", str(n), key=str(n))
        gate = host._cells["a"].gate
        assert (gate._recent, gate.pending, gate.in_flight) == ({}, None, None)


async def test_replies_are_not_piled_up_under_a_load_that_never_ceases():
    """Also while the gate is never clear, what is durable is forgotten."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        ahead: list = [client.start("a", "put", "0")]
        most = 0
        for n in range(1, 200):
            ahead.append(client.start("a", "put", str(n)))
            await turns(3)
            cell = host._cells["a"]
            most = max(most, len(cell.gate._recent))
        await asyncio.gather(*ahead)
        assert most <= 10


# -- bounds ------------------------------------------------------------------------------------------------------


async def test_a_full_mailbox_refuses_and_does_not_execute():
    """`Overloaded` names the aggregate and the limit."""
    async with Bench() as bench:
        client, d = Client(await bench.host(mailbox_max=3)), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        calls = [client.start("a", "put", str(n)) for n in range(5)]
        for refused in calls[3:]:
            error = await failure(refused)
            assert isinstance(error, Overloaded)
            assert (error.what, error.limit) == ("mailbox of log/a", 3)
        d.open.set()
        assert await asyncio.gather(slow, *calls[:3]) == [2, 3, 4, 5]


async def test_each_caller_that_is_refused_raises_an_error_of_its_own():
    """Also where nothing is packed on the way: the traceback of a shared one would grow with every caller."""
    async with Bench() as bench:
        client, d = Client(await bench.host(mailbox_max=1)), door("d")
        calls = [client.start("a", "put_slowly", "x", "d")]
        await d.reached.wait()
        calls.append(client.start("a", "put", "y"))
        refused = [await failure(client.start("a", "put", "z")) for _ in range(5)]
        assert [(type(error), error.what) for error in refused] == [(Overloaded, "mailbox of log/a")] * 5
        assert len(set(map(id, refused))) == 5
        d.open.set()
        assert await asyncio.gather(*calls) == [2, 3]


async def test_an_aggregate_does_not_run_ahead_of_the_disk_without_bound():
    """Beyond the limit of bytes commands wait for the disk, and then go on; replies and keys count as bytes too."""
    async with Bench() as bench:
        host = await bench.host(ahead_bytes_max=5_000)
        client = Client(host)
        with bench.store.hold("append") as disk:
            calls = [client.start("a", "put", "first")]
            await disk.reached.wait()
            calls += client.send(*(client.wire("a", "put", "x" * 1000) for _ in range(10)))
            await turns()
            assert 4 <= len(host._cells["a"].mailbox) <= 6
        assert await asyncio.gather(*calls) == list(range(1, 12))
        with bench.store.hold("append") as disk:
            calls = [client.start("a", "put", "first")]
            await disk.reached.wait()
            calls += client.send(*(client.wire("a", "look", key=f"k{n}") for n in range(1000)))
            await turns()
            assert len(host._cells["a"].mailbox) > 800
        await asyncio.gather(*calls)


# -- fencing -----------------------------------------------------------------------------------------------------


async def test_a_fenced_host_answers_everybody_moved_and_writes_nothing_more():
    """Held, waiting, running, hydrating: all are sent to the successor, marked if they may have been executed."""
    async with Bench() as bench:
        gone = []
        host = await bench.host(on_gone=lambda: gone.append(True))
        client, d = Client(host), door("d")
        await client.call("a", "put", "durable")
        with bench.store.hold("load", streams=[StreamId("log", "c")]), bench.store.hold("append") as disk:
            held = client.start("a", "put", "held")
            await disk.reached.wait()
            looked, rejected, running, waiting = client.send(
                client.wire("a", "count"),
                client.wire("a", "refuse"),
                client.wire("a", "put_slowly", "running", "d"),
                client.wire("a", "put", "waiting"),
            )
            hydrating = client.start("c", "put", "hydrating")
            await d.reached.wait()
            successor = await bench.host()  # the same name: the first is fenced from now on
            disk.release()
            told = [await failure(c) for c in (held, looked, rejected, running, waiting, hydrating)]
        assert all(again.moved for again in told)
        assert [again.maybe for again in told] == [True, False, False, True, False, False]
        assert gone == [True]
        assert (await failure(client.start("a", "put", "late"))).moved
        await turns()
        assert await bench.items("a") == ["durable"]
        assert await bench.items("c") == []
        assert await Client(successor).call("a", "put", "new") == 2


async def test_of_two_hosts_with_one_name_the_paused_one_is_fenced_and_its_calls_are_done_once():
    """It is resumed with appends on their way: the successor has done, or does, each of them once."""
    async with Bench() as bench:
        old = await bench.host()
        hosts = [old]
        persistent = [Persistent(lambda: hosts[-1]) for _ in range(10)]
        await asyncio.gather(*(p.call("a", "put", f"before {n}") for n, p in enumerate(persistent)))
        with bench.store.hold("append") as disk:  # the old host is paused here, in the middle of its appends
            calls = [asyncio.create_task(p.call("a", "put", f"during {n}")) for n, p in enumerate(persistent)]
            await disk.reached.wait()
            hosts.append(await bench.host())
        replies = await asyncio.gather(*calls)
        items = await bench.items("a")
        assert sorted(items) == sorted([f"{w} {n}" for w in ("before", "during") for n in range(10)])
        assert [items[reply - 1] for reply in replies] == [f"during {n}" for n in range(10)]
        assert (await bench.server.statistics()).fenced > 0


async def test_a_host_that_finds_itself_fenced_while_hydrating_leaves_too():
    """Every read as an owner carries the epoch."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await bench.host()
        assert (await failure(client.start("a", "count"))).moved
        assert (await host.exchange("s", 0, [client.wire("a", "count")]))[0][1] == 4
        assert isinstance(await failure(asyncio.ensure_future(bench.journal.confirm("host", 1))), Fenced)


async def test_a_version_conflict_named_by_a_test_is_no_special_case():
    """A refused append of one aggregate is resolved by asking again, whatever its neighbours do."""
    async with Bench() as bench:
        host = await bench.host()
        bench.store.reject(VersionConflict("log/a", 0, 9), streams=[A], times=2)
        calls = [Persistent(lambda: host).call(id, "put", "x") for id in "abab"]
        assert sorted(await asyncio.gather(*calls)) == [1, 1, 2, 2]


def test_a_copy_of_a_command_that_was_in_doubt_is_in_doubt():
    """Should their append fail, neither may be told that nothing was written: an earlier one may still arrive."""
    outcomes = []

    def call(number, *, maybe_executed):
        wire = (number, "a", "put", ("x",), {}, "key", True, maybe_executed, 30.0, None)
        return Call(wire, 0.0, lambda call, kind, value: outcomes.append((call.number, kind)))

    gate, again, copy = OutputGate(), call(1, maybe_executed=True), call(2, maybe_executed=False)
    gate.add(again, [], 0, None, b"reply")
    gate.answer(copy, gate.find(copy), Kind.DONE, b"reply")
    assert copy.maybe_executed
    assert outcomes == []
