"""A host: many cells, the bound on those in memory, leaving, and what it tells about itself."""

import asyncio
import gc

import pytest
from hf_host import Again, Bench, Client, Log, Persistent, door, failure, give_up, turns

from holdfast.actors import Overloaded
from holdfast.actors import host as host_module
from holdfast.actors.calls import Kind, Trace
from holdfast.actors.cell import Phase
from holdfast.actors.definition import definition_of
from holdfast.actors.limits import HostLimits
from holdfast.journal.errors import CorruptRecord, Fenced, JournalUnavailable
from holdfast.journal.records import StreamId


class Peers:
    """Other aggregates of the same host, as references with one command: `put`."""

    def __init__(self):
        self.client = None

    def get(self, type, id, caller):
        return _Reference(self.client, id, caller.context.chain)


class _Reference:
    def __init__(self, client, id, chain):
        self.client, self.id, self.chain = client, id, chain

    async def put(self, item):
        return await self.client.call(self.id, "put", item, trace=Trace(chain=self.chain))


async def with_peers(bench, **how):
    peers = Peers()
    host = await bench.host(peers=peers, **how)
    peers.client = Client(host)
    return host


class Watch:
    """Counts instances in memory from their making to their collection, and remembers the most."""

    def __init__(self, host):
        self.host, self.most = host, 0

    def look(self):
        held = [cell for cell in self.host._cells.values() if cell.instance is not None or cell.phase is Phase.LIVE]
        self.most = max(self.most, len(held), self.host._live)


# -- appends of many ---------------------------------------------------------------------------------------------


async def test_events_of_many_aggregates_travel_to_the_journal_together():
    """One turn of the loop is one request, and one transaction."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await asyncio.gather(*(client.call(str(n), "look") for n in range(200)))
        calls = client.send(*(client.wire(str(n), "put", "x") for n in range(200)))
        assert await asyncio.gather(*calls) == [1] * 200
        assert host.journal.append_batches == 1
        assert bench.store.calls["append"] == 1


async def test_a_thousand_callers_of_one_aggregate_are_all_answered():
    """Each gets its own place in the order."""
    async with Bench() as bench:
        client = Client(await bench.host())
        calls = [client.start("a", "put", str(n)) for n in range(1000)]
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 1001))


# -- the bound on aggregates in memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
async def test_a_thousand_callers_of_a_thousand_aggregates_finish_with_fifty_in_memory(rounds):
    """Never more than the bound at any time, and nobody is forgotten at the entrance."""
    async with Bench() as bench:
        host = await bench.host(live_max=50)
        watch, client = Watch(host), Client(host)

        async def caller(n):
            for round in range(1, rounds + 1):
                assert await client.call(str(n), "put", "x") == round
                watch.look()

        async def watching():
            while True:
                watch.look()
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watching())
        await asyncio.gather(*(caller(n) for n in range(1000)))
        watcher.cancel()
        assert watch.most == 50
        seen = await host.statistics()
        assert seen.live <= 50
        assert seen.passivations >= 950
        assert seen.calls == 0
        gc.collect()
        assert sum(isinstance(o, Log) for o in gc.get_objects()) <= 50


async def test_aggregates_that_are_never_idle_make_room_for_others():
    """A busy one has its turn, then leaves; calls that come later go to its successor, in their order."""
    async with Bench() as bench:
        host = await bench.host(live_max=2)
        client = Client(host)
        stop = False

        async def busy(id):
            calls = []
            while not stop:  # one in every turn of the loop: it is never idle
                calls.append(client.start(id, "put", str(len(calls))))
                await asyncio.sleep(0)
            assert await asyncio.gather(*calls) == list(range(1, len(calls) + 1))
            return len(calls)

        hot = [asyncio.create_task(busy(id)) for id in ("hot 1", "hot 2")]
        await turns(20)
        for n in range(10):
            assert await asyncio.wait_for(client.call(f"cold {n}", "put", "x"), 5) == 1
        stop = True
        for id, sent in zip(("hot 1", "hot 2"), await asyncio.gather(*hot), strict=True):
            assert await bench.items(id) == [str(n) for n in range(sent)]
        assert (await host.statistics()).live <= 2


async def test_the_least_recently_used_idle_one_makes_room():
    """Use is a call, not an arrival."""
    async with Bench() as bench:
        host = await bench.host(live_max=3)
        client = Client(host)
        for id in "abc":
            await client.call(id, "look")
        await client.call("a", "look")
        assert await host.live() == ["b", "c", "a"]
        await client.call("d", "look")
        assert await host.live() == ["c", "a", "d"]


async def test_a_busy_one_is_not_the_victim_while_another_is_idle():
    """Even if it was called longer ago."""
    async with Bench() as bench:
        host = await bench.host(live_max=2)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        await client.call("b", "look")
        await client.call("c", "look")
        assert await host.live() == ["a", "c"]
        d.open.set()
        assert await slow == 2
        assert await host.live() == ["c", "a"]


async def test_who_waits_for_a_place_gets_it_when_one_becomes_idle():
    """First come, first served; an idle one never stays while others wait."""
    async with Bench() as bench:
        host = await bench.host(live_max=2)
        client, first, second = Client(host), door("first"), door("second")
        busy = [client.start("a", "put_slowly", "x", "first"), client.start("b", "put_slowly", "x", "second")]
        await first.reached.wait()
        await second.reached.wait()
        waiting = [client.start(id, "put", "x") for id in "cdef"]
        await turns()
        assert not any(call.done() for call in waiting)
        assert sorted(await host.live()) == ["a", "b"]
        second.open.set()
        assert await asyncio.gather(*waiting) == [1, 1, 1, 1]
        assert not busy[0].done()
        first.open.set()
        assert await asyncio.gather(*busy) == [2, 2]
        assert (await host.statistics()).live <= 2


async def test_a_call_that_a_command_waits_for_does_not_wait_for_its_place():
    """All places are taken by commands that call others: waiting for one of them to leave would be for ever."""
    async with Bench() as bench:
        host = await with_peers(bench, live_max=3)
        client = Client(host)
        calls = [client.start(f"from {n}", "relay", f"to {n}", "x") for n in range(10)]
        assert await asyncio.wait_for(asyncio.gather(*calls), 5) == [1] * 10
        assert (await host.statistics()).live <= 3


async def test_those_whose_deadline_passes_at_the_entrance_are_not_loaded():
    """Their callers have gone: reading them would only keep the others waiting."""
    async with Bench() as bench:
        host = await bench.host(live_max=1)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d", timeout_s=1000)
        await d.reached.wait()
        late = [client.start(f"late {n}", "put", "x", timeout_s=5) for n in range(100)]
        patient = client.start("patient", "put", "x", timeout_s=100)
        await turns()
        bench.clock.advance(6)
        d.open.set()
        assert await slow == 2
        assert await patient == 1
        for call in late:
            assert (await failure(call)).outcome == "not sent"
        assert host.counters.hydrations == 2
        assert len(host._cells) == 1


async def test_an_aggregate_that_cannot_be_read_gives_its_place_back():
    """However it leaves memory, the count is right."""
    async with Bench() as bench:
        host = await bench.host(live_max=1)
        client = Client(host)
        for n in range(5):
            bench.store.reject(CorruptRecord(f"log/bad {n}", 1, 1, "rot"), method="load")
            assert isinstance(await failure(client.start(f"bad {n}", "look")), CorruptRecord)
            assert (await host.statistics()).live == 0
        assert await client.call("good", "put", "x") == 1
        assert isinstance(await failure(client.start("good", "put_and_refuse", "y")), Exception)
        assert await client.call("other", "put", "x") == 1
        assert (await host.statistics()).live == 1


async def test_only_so_many_hydrate_at_once():
    """The others wait for a permit."""
    async with Bench() as bench:
        host = await bench.host(hydrations_max=3)
        client = Client(host)
        with bench.store.hold("load") as disk:
            calls = [client.start(str(n), "put", "x") for n in range(10)]
            await disk.reached.wait()
            await turns()
            assert host.permits.locked()
            assert disk.waiting <= 3
        assert await asyncio.gather(*calls) == [1] * 10


# -- leaving memory ----------------------------------------------------------------------------------------------


async def test_idle_ones_leave_memory_and_come_back_as_they_were():
    """After `idle_s` by the clock without a call, and not before."""
    async with Bench() as bench:
        host = await bench.host(idle_s=60)
        client = Client(host)
        await client.call("a", "put", "x")
        bench.clock.advance(40)
        await client.call("b", "put", "y")
        host.sweep()
        assert await host.live() == ["a", "b"]
        bench.clock.advance(20)
        host.sweep()
        assert await host.live() == ["b"]
        assert await client.call("a", "all") == ["x"]


async def test_one_that_was_busy_for_long_does_not_keep_idle_ones_in_memory():
    """Idleness begins when the last call is done, and the sweep goes by that."""
    async with Bench() as bench:
        host = await bench.host(idle_s=60)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d", timeout_s=1000)
        await d.reached.wait()
        await client.call("b", "look")
        bench.clock.advance(100)
        host.sweep()
        assert await host.live() == ["a"]
        d.open.set()
        await slow
        host.sweep()
        assert await host.live() == ["a"]
        bench.clock.advance(60)
        host.sweep()
        assert await host.live() == []


async def test_a_sweep_sends_only_so_many_away_at_once(monkeypatch):
    """The least recently used first, and says whether there may be more: calls have a turn in between."""
    monkeypatch.setattr(host_module, "SWEPT_MAX", 2)
    async with Bench() as bench:
        host = await bench.host(idle_s=60)
        client = Client(host)
        for id in "abcde":
            await client.call(id, "put", "x")
        bench.clock.advance(60)
        assert [host.sweep(), await host.live()] == [True, ["c", "d", "e"]]
        assert [host.sweep(), await host.live()] == [True, ["e"]]
        assert [host.sweep(), await host.live()] == [False, []]


async def test_an_aggregate_is_passivated_when_asked():
    """It leaves at once when idle; one that is not in memory says so."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await client.call("a", "put", "x")
        assert await host.passivate("a")
        assert await host.live() == []
        assert not await host.passivate("a")
        assert await client.call("a", "all") == ["x"]


async def test_passivating_a_busy_one_waits_for_what_it_was_asked_before():
    """Calls that are there are done and durable first; later ones find a successor; none is lost."""
    async with Bench() as bench:
        host = await bench.host()
        client, d = Client(host), door("d")
        with bench.store.hold("append") as disk:
            before = client.send(client.wire("a", "put_slowly", "x", "d"), client.wire("a", "put", "y"))
            await d.reached.wait()
            passivating = [asyncio.create_task(host.passivate("a")) for _ in range(2)]
            await turns()
            after = client.start("a", "put", "z")
            d.open.set()
            await disk.reached.wait()
            await turns()
            assert not any(task.done() for task in passivating)
        assert await asyncio.gather(*before) == [2, 3]
        assert await asyncio.gather(*passivating) == [True, True]
        assert await after == 4
        assert host.counters.hydrations == 2
        assert await host.live() == ["a"]


async def test_passivating_under_a_load_that_never_ceases_comes_to_an_end():
    """It does not wait for an idle moment that never comes."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        stop = False

        async def busy():
            window, sent = [], 0
            while not stop or window:
                while len(window) < 10 and not stop:
                    window.append(client.start("a", "put", str(sent)))
                    sent += 1
                await window.pop(0)
            return sent

        load = asyncio.create_task(busy())
        await turns(10)
        for _ in range(20):
            assert await asyncio.wait_for(host.passivate("a"), 5)
        stop = True
        sent = await load
        assert await bench.items("a") == [str(n) for n in range(sent)]
        assert host.counters.passivations == 20


async def test_one_that_is_to_leave_takes_no_more_calls_than_it_had_when_it_was_told():
    """Though those were given back, and its mailbox is empty: the rest of what comes is for its successor."""
    async with Bench() as bench:
        host = await bench.host(journal=bench.new_client(pause=give_up))
        before, asking, after = Client(host), Client(host), Client(host)
        with bench.store.hold("append") as disk:
            first = before.start("a", "put", "first")
            await disk.reached.wait()
            with bench.store.hold("find_replies") as look:
                bench.store.fail("find_replies", error=JournalUnavailable("away"))
                asked = [asking.start("a", "put", "asked", maybe=True) for _ in range(3)]
                await look.reached.wait()
                leaving = asyncio.create_task(host.passivate("a"))
                await turns()
            for call in asked:
                assert (await failure(call)).maybe
            later = [after.start("a", "put", "later") for _ in range(10)]
            await turns()
            assert host._cells["a"].version == 1 + len(asked)
        assert await first == 1
        assert await leaving
        assert await asyncio.gather(*later) == list(range(2, 12))


async def test_passivating_while_it_hydrates_lets_the_calls_be_done_first():
    """However often it is asked to leave, a call that came before is not sent round in circles."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        with bench.store.hold("load") as disk:
            call = client.start("a", "put", "x")
            await disk.reached.wait()
            passivating = asyncio.create_task(host.passivate("a"))
            await turns()
        assert await call == 1
        assert await passivating
        assert host.counters.hydrations == 1


async def test_passivating_one_that_recovers_or_cannot_be_read_comes_to_an_end():
    """Whatever way it leaves memory by, who waits for that hears of it."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        with bench.store.hold("load") as disk:
            call = client.start("a", "put", "x")
            await disk.reached.wait()
            passivating = asyncio.create_task(host.passivate("a"))
            await turns()
            bench.store.reject(CorruptRecord("log/a", 1, 1, "rot"), method="load")
        assert isinstance(await failure(call), CorruptRecord)
        assert await asyncio.wait_for(passivating, 5)
        bench.store.fail("append")
        with bench.store.hold("append") as disk:
            call = client.start("a", "put", "x")
            await disk.reached.wait()
            passivating = asyncio.create_task(host.passivate("a"))
            await turns()
        await failure(call)
        assert await asyncio.wait_for(passivating, 5)
        assert await host.live() == []


async def test_passivating_one_at_the_entrance_waits_for_its_turn():
    """It has calls to do first."""
    async with Bench() as bench:
        host = await bench.host(live_max=1)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        waiting = client.start("b", "put", "y")
        await turns()
        passivating = asyncio.create_task(host.passivate("b"))
        await turns()
        late = client.start("b", "put", "z")
        await turns()
        assert not passivating.done()
        d.open.set()
        assert await asyncio.gather(slow, waiting, late) == [2, 1, 2]
        assert await passivating


async def test_one_that_is_to_leave_leaves_though_its_callers_have_gone():
    """Calls that it should have done first expired at the entrance, all but one."""
    async with Bench() as bench:
        host = await bench.host(live_max=1)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d", timeout_s=1000)
        await d.reached.wait()
        late = [client.start("b", "put", "late", timeout_s=5) for _ in range(3)]
        patient = client.start("b", "put", "y", timeout_s=1000)
        await turns()
        passivating = asyncio.create_task(host.passivate("b"))
        await turns()
        bench.clock.advance(6)
        d.open.set()
        assert await asyncio.gather(slow, patient) == [2, 1]
        for call in late:
            assert (await failure(call)).outcome == "not sent"
        assert await asyncio.wait_for(passivating, 5)
        assert await host.live() == []


async def test_a_fenced_host_lets_nobody_wait():
    """Who waits for a passivation of it, or its retirement, hears of its end."""
    async with Bench() as bench:
        host = await bench.host()
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        waits = [asyncio.create_task(host.passivate("a")), asyncio.create_task(host.retire())]
        await turns()
        await bench.host()
        assert (await failure(client.start("b", "look"))).moved
        host.was_fenced(Exception("found out otherwise"))
        assert (await failure(slow)).moved
        await asyncio.wait_for(asyncio.gather(*waits), 5)
        assert (await host.statistics()).live == 0


async def test_a_retiring_host_finishes_what_is_under_way_and_sends_the_rest_on():
    """Running commands end and become durable; what has not started is for the successor, unmarked."""
    async with Bench() as bench:
        gone = []
        host = await bench.host(on_gone=lambda: gone.append(True))
        client, d = Client(host), door("d")
        with bench.store.hold("append") as disk:
            held = client.start("c", "put", "held")
            await disk.reached.wait()
            running, waiting = client.send(client.wire("a", "put_slowly", "x", "d"), client.wire("a", "put", "waiting"))
            await d.reached.wait()
            retiring = asyncio.create_task(host.retire())
            await turns()
            told = await failure(waiting)
            assert (told.moved, told.maybe) == (True, False)
            late = await failure(client.start("b", "put", "late", maybe=True))
            assert (late.moved, late.maybe) == (True, True)
            assert not retiring.done()
            d.open.set()
        assert (await held, await running) == (1, 2)
        await retiring
        assert gone == [True]
        successor = Client(await bench.host())
        assert await successor.call("a", "all") == ["x begun", "x done"]


async def test_a_retiring_host_still_serves_what_its_running_commands_wait_for():
    """Or it would wait for them, and they for its successor, until their deadlines."""
    async with Bench() as bench:
        host = await with_peers(bench)
        client, d = Client(host), door("d")
        slow = client.start("to", "put_slowly", "x", "d")
        await d.reached.wait()
        relaying = client.start("from", "relay", "to", "y")
        later = door("later")
        relaying_later = client.start("from later", "relay_later", "to later", "y", "later")
        await turns()
        fresh = client.start("to", "put", "z")
        await turns()
        retiring = asyncio.create_task(host.retire())
        assert (await failure(fresh)).moved
        later.open.set()
        assert await asyncio.wait_for(relaying_later, 5) == 1
        d.open.set()
        assert await asyncio.wait_for(relaying, 5) == 3
        assert await slow == 2
        await asyncio.wait_for(retiring, 5)


async def test_a_retiring_host_answers_those_that_it_looks_up_once():
    """They are sent on at once; that their look-up fails later is told to nobody."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await client.call("a", "put", "x")
        with bench.store.hold("find_replies") as look:
            bench.store.fail("find_replies", error=CorruptRecord("log/a", 1, 1, "bad"))
            asked = client.start("a", "put", "y", maybe=True)
            await look.reached.wait()
            (session,) = host._sessions.values()
            retiring = asyncio.create_task(host.retire())
            told = await failure(asked)
        assert (told.moved, told.maybe) == (True, True)
        await retiring
        await turns()
        assert session.unanswered == 0


async def test_a_retiring_host_looks_up_what_its_running_commands_wait_for_whatever_it_sent_on():
    """The count of those that are looked up already goes down with those that are sent on."""
    async with Bench() as bench:
        host = await bench.host()
        clients, holding, asking = [Client(host) for _ in range(4)], door("holding"), door("asking")
        await clients[0].call("a", "put", "x")
        with bench.store.hold("find_replies") as look:
            slow = clients[0].start("a", "put_slowly", "y", "holding", maybe=True)
            fresh = clients[1].start("a", "put", "z", maybe=True)
            await look.reached.wait()
        await holding.reached.wait()
        other = clients[2].start("b", "count_slowly", "asking")
        await asking.reached.wait()
        awaited = clients[3].start("a", "put", "awaited", maybe=True, trace=Trace(chain=("log/b",)))
        await turns()
        looked_up = bench.store.calls["find_replies"]
        retiring = asyncio.create_task(host.retire())
        assert (await failure(fresh)).moved
        holding.open.set()
        assert (await slow, await awaited) == (3, 4)
        assert bench.store.calls["find_replies"] == looked_up + 1
        asking.open.set()
        assert await other == 0
        await retiring


async def test_a_retiring_host_looks_up_what_its_running_commands_wait_for_whatever_it_sent_on_meanwhile():
    """The same for one that is sent on while the journal is being asked about it."""
    async with Bench() as bench:
        host = await bench.host()
        clients, asking = [Client(host) for _ in range(4)], door("asking")
        await clients[0].call("a", "put", "x")
        other = clients[0].start("b", "count_slowly", "asking")
        await asking.reached.wait()
        of_b = Trace(chain=("log/b",))
        with bench.store.hold("find_replies") as look:
            awaited = [clients[1].start("a", "put", "y", maybe=True, trace=of_b)]
            fresh = clients[2].start("a", "put", "z", maybe=True)
            await look.reached.wait()
            awaited.append(clients[3].start("a", "put", "later", maybe=True, trace=of_b))
            await turns()
            retiring = asyncio.create_task(host.retire())
            assert (await failure(fresh)).moved
        assert await asyncio.gather(*awaited) == [2, 3]
        asking.open.set()
        assert await other == 0
        await retiring


async def test_a_retiring_host_does_not_load_those_at_its_entrance():
    """Their callers go to the successor at once."""
    async with Bench() as bench:
        host = await bench.host(live_max=1)
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        waiting = [client.start(f"b{n}", "put", "y") for n in range(10)]
        await turns()
        retiring = asyncio.create_task(host.retire())
        for call in waiting:
            assert (await failure(call)).moved
        d.open.set()
        assert await slow == 2
        await retiring
        assert host.counters.hydrations == 1


async def test_a_dedicated_host_ends_with_its_aggregate():
    """When that is passivated, by the clock or when asked; not when a command fails or it cannot be read."""
    async with Bench() as bench:
        gone = []
        host = await bench.host(name="log/a", exits_when_empty=True, idle_s=60, on_gone=lambda: gone.append(1))
        client = Client(host)
        bench.store.reject(CorruptRecord("log/a", 1, 1, "rot"), method="load")
        await failure(client.start("a", "look"))
        await failure(client.start("a", "put_and_refuse", "x"))
        await turns()
        assert gone == []
        bench.clock.advance(59)
        assert await client.call("a", "put", "x") == 1
        host.sweep()
        await turns()
        assert gone == []
        bench.clock.advance(60)
        host.sweep()
        await turns()
        assert gone == [1]
        assert (await failure(client.start("a", "look"))).moved


async def test_a_dedicated_host_whose_aggregate_never_came_up_ends_too():
    """Nobody would ever ask it to."""
    async with Bench() as bench:
        gone = []
        host = await bench.host(name="log/a", exits_when_empty=True, idle_s=60, on_gone=lambda: gone.append(1))
        bench.store.reject(CorruptRecord("log/a", 1, 1, "rot"), method="load")
        await failure(Client(host).start("a", "look"))
        bench.clock.advance(60)
        host.sweep()
        await turns()
        assert gone == [1]


async def test_a_dedicated_host_that_is_called_while_it_ends_stays():
    """The call is served by a new activation in the same process."""
    async with Bench() as bench:
        gone = []
        host = await bench.host(name="log/a", exits_when_empty=True, on_gone=lambda: gone.append(1))
        client, d = Client(host), door("d")
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        passivating = asyncio.create_task(host.passivate("a"))
        await turns()
        late = client.start("a", "put", "y")
        await turns()
        d.open.set()
        assert await asyncio.gather(slow, late) == [2, 3]
        assert await passivating
        assert gone == []


# -- sessions and bounds, as the host sees them ------------------------------------------------------------------


async def test_a_full_inbox_refuses_what_is_too_much():
    """Calls that wait or are held count, over all clients; once answered they do not."""
    async with Bench() as bench:
        client, other, d = Client(await bench.host(inbox_max=5)), None, door("d")
        other = Client(client.host)
        slow = client.start("a", "put_slowly", "x", "d")
        await d.reached.wait()
        calls = client.send(*(client.wire("a", "put", str(n)) for n in range(3)))
        more = other.send(*(other.wire("b", "put", str(n)) for n in range(3)))
        for refused in more[1:]:
            error = await failure(refused)
            assert isinstance(error, Overloaded)
            assert (error.what, error.limit) == ("inbox of host", 5)
        d.open.set()
        assert await asyncio.gather(slow, *calls, more[0]) == [2, 3, 4, 5, 1]
        assert await asyncio.gather(*other.send(*(other.wire("b", "look") for _ in range(5)))) == [1] * 5


async def test_batches_are_taken_in_their_order_and_once():
    """One that overtook another waits for it; one that comes twice is executed once."""
    async with Bench() as bench:
        client = Client(await bench.host())
        wires = [client.wire("a", "put", str(n)) for n in range(4)]
        early = [*client.send_as(2, wires[2]), *client.send_as(3, wires[3]), *client.send_as(1, wires[1])]
        again = client.send_as(2, wires[2])
        await turns()
        assert not any(call.done() for call in early)
        first = client.send_as(0, wires[0])
        assert await asyncio.gather(*first, early[2], early[0], early[1], *again) == [1, 2, 3, 4, 3]
        assert await client.host.exchange(client.session, 0, wires[:1]) == []
        assert await bench.items("a") == ["0", "1", "2", "3"]


async def test_a_silent_client_is_forgotten_and_what_it_left_is_done_all_the_same():
    """Its session goes, with replies that nobody claimed; `collect` then says that there is none."""
    async with Bench() as bench:
        host = await bench.host(session_idle_s=100)
        client, d = Client(host), door("d")
        exchange = asyncio.create_task(
            host.exchange("silent", 0, [client.wire("a", "put_slowly", "x", "d", timeout_s=1e4)])
        )
        await d.reached.wait()
        bench.clock.advance(101)
        host.sweep()
        assert (await host.statistics()).sessions == 1  # it has a request open
        exchange.cancel()
        await turns(3)
        host.sweep()
        assert (await host.statistics()).sessions == 0
        assert await host.collect("silent") is None
        d.open.set()
        await turns()
        assert await bench.items("a") == ["x begun", "x done"]


async def test_an_early_batch_of_a_host_that_ends_is_sent_on():
    """It must not wait for ever for one that never comes, nor see its request broken off."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        early = client.send_as(1, client.wire("a", "put", "x"))
        await turns()
        host.was_fenced(Exception("fenced"))
        assert (await failure(early[0])).moved
        assert await bench.items("a") == []


async def test_answers_of_a_host_that_ends_are_not_lost():
    """What was durable before it was fenced is told as done."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        done = client.start("a", "put", "x")
        while not host.counters.commands or not host._cells["a"].gate.clear:
            await asyncio.sleep(0)
        host.was_fenced(Exception("fenced"))
        assert await done == 1


# -- the journal's end -------------------------------------------------------------------------------------------


async def test_a_journal_that_was_away_costs_a_delay_and_nothing_else():
    """Loads, look-ups and appends are asked for again; each command is done once."""
    async with Bench() as bench:
        host = await bench.host()
        for method in ("append", "load", "find_keyed", "find_replies"):
            bench.store.fail(method, times=3, error=JournalUnavailable("away"))
            bench.store.lose(method, times=2)
        persistent = Persistent(lambda: host)
        calls = [persistent.call(str(n % 7), "put", str(n), key=f"k{n}") for n in range(50)]
        await asyncio.gather(*calls)
        items = [item for id in range(7) for item in await bench.items(str(id))]
        assert sorted(items) == sorted(str(n) for n in range(50))


async def test_starting_again_after_a_failed_start_is_the_same_incarnation():
    """The claim is idempotent, and one sweeper is enough."""
    async with Bench() as bench:
        host = await bench.host()
        epoch, sweeper = host.epoch, host._sweeper
        await host.start()
        assert (host.epoch, host._sweeper) == (epoch, sweeper)


async def test_statistics_tell_what_it_holds_and_has_done():
    """Each number counts what its name says."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await client.call("a", "put_all", ["x", "y"])
        await client.call("a", "count")
        await client.call("b", "put", "z", key="k")
        await client.call("b", "put", "z", key="k")
        await failure(client.start("b", "refuse"))
        bench.clock.advance(3)
        seen = await host.statistics()
        assert (seen.name, seen.epoch, seen.live, seen.sessions, seen.calls, seen.idle_s) == ("host", 1, 2, 1, 0, 3)
        assert (seen.commands, seen.events, seen.queries, seen.replays, seen.failures) == (2, 3, 1, 1, 1)
        assert (seen.hydrations, seen.appends, seen.append_batches) == (2, 2, 2)
        await host.ping()


def test_limits_must_be_above_zero():
    """A bound of nothing is a mistake, told at once."""
    for name in HostLimits.__slots__:
        with pytest.raises(ValueError, match=name):
            HostLimits(**{name: 0})


async def test_the_representation_of_host_and_cell_says_what_they_are():
    """The subject of every log line."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        await client.call("alice", "put", "x")
        assert repr(host._cells["alice"]) == "log<alice@1>"
        assert repr(host) == "<host host epoch 1 with 1 live>"
        assert definition_of(Log).category == "log"


async def test_moved_is_told_with_what_the_caller_knew():
    """A call that never started is not marked; one that may have been executed elsewhere stays marked."""
    async with Bench() as bench:
        host = await bench.host()
        client = Client(host)
        host.was_fenced(Exception("fenced"))
        wires = [client.wire("a", "put", "x"), client.wire("a", "put", "y", maybe=True)]
        answers = await host.exchange("s", 0, wires)
        assert [(kind, value) for _, kind, value in answers] == [(Kind.MOVED, False), (Kind.MOVED, True)]
        assert isinstance(Again(Kind.MOVED, False), Exception)
        assert StreamId("log", "a").id == "a"


async def test_a_host_that_is_fenced_while_it_claims_serves_nobody():
    """A newer claim came to a partition before its own did: whoever calls is sent on, and the process ends."""
    gone = []
    async with Bench() as bench:
        bench.store.fail("claim", error=Fenced("host", 1, 2))
        host = await bench.host(on_gone=lambda: gone.append(True))
        assert gone == [True]
        assert isinstance(await failure(Client(host).call("a", "put", 1)), Again)
