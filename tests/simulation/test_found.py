"""What the simulation found, each as a test of its own: the shortest story in which it went wrong."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hf_host import Again, Bench, Client, DirectLink, Log, door, failure, give_up, turns
from hf_offers import HOUR, NOON, Offer

from holdfast.actors.calls import Kind, Trace
from holdfast.actors.clock import VirtualClock, micros_of
from holdfast.actors.firing import FIRE
from holdfast.actors.session import Session
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalFailed, JournalUnavailable
from holdfast.journal.wire import decode_followed


class LateLink(DirectLink):
    """A way to the journal on which appends seem to be lost, and arrive when the test says so."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.loses_appends = True
        self.late: list[Callable[[], Any]] = []

    async def ask(self, method: str, *args: Any) -> Any:
        if method == "append" and self.loses_appends:
            self.late.append(lambda: self.server.append(*args))
            raise JournalUnavailable("no answer came")
        return await super().ask(method, *args)


@pytest.mark.parametrize("bound", ["inbox_max", "mailbox_max"])
async def test_a_full_host_does_not_call_undone_what_may_be_done(bound: str) -> None:
    """A command that comes again meets a full queue: it was carried out before, so it is to come once more."""
    async with Bench() as bench:
        host = await bench.host(Log, **{bound: 1})
        client, held = Client(host), door("full")
        assert await client.call("a", "put", "x", command_id="c1") == 1
        slow = client.start("a", "put_slowly", "y", "full")
        await held.reached.wait()
        waiting = client.start("a", "put", "z") if bound == "mailbox_max" else None
        again = await failure(Client(host).start("a", "put", "x", command_id="c1", maybe=True))
        assert isinstance(again, Again)
        assert again.maybe
        held.open.set()
        await asyncio.gather(*filter(None, (slow, waiting)))
        assert await Client(host).call("a", "put", "x", command_id="c1", maybe=True) == 1


async def test_a_host_that_leaves_does_not_send_on_what_it_carries_out() -> None:
    """A second copy of a batch finds the host leaving, and the first copy still running there."""
    async with Bench() as bench:
        host = await bench.host(Log)
        client, held = Client(host), door("leaving")
        wire = client.wire("a", "put_slowly", "x", "leaving")
        first = client.send_as(0, wire)[0]
        await held.reached.wait()
        retiring = asyncio.ensure_future(host.retire())
        await turns()
        assert await host.exchange(client.session, 0, [wire]) == []
        held.open.set()
        assert await first == 2
        await retiring
        assert await host.exchange(client.session, 0, [wire]) == []
        other = client.wire("a", "put", "y")
        assert await host.exchange(client.session, 1, [other]) == [(other[0], Kind.MOVED, False)]


async def test_memory_does_not_stay_behind_what_a_look_up_tells() -> None:
    """An append without an answer is written after its aggregate was read again. Its command is looked up and found
    done; from then on nobody may be shown the state without it."""
    async with Bench() as bench:
        link = LateLink(bench.server)
        host = await bench.host(Log, journal=JournalClient(link, pause=give_up))
        client = Client(host)
        assert isinstance(await failure(client.start("a", "put", "x", command_id="c1")), Again)
        link.loses_appends = False
        assert await client.call("a", "count") == 0  # hydrated: the append is still under way
        await link.late.pop()()
        assert await client.call("a", "put", "x", command_id="c1", maybe=True) == 1
        assert await client.call("a", "all") == ["x"]
        assert await bench.items("a") == ["x"]


async def test_a_failed_append_does_not_speak_for_an_earlier_one_of_the_same_command() -> None:
    """The first append of a command has no answer, the second is refused by the disk: the first may still arrive."""
    async with Bench() as bench:
        link = LateLink(bench.server)
        host = await bench.host(Log, journal=JournalClient(link, pause=give_up))
        client = Client(host)
        assert isinstance(await failure(client.start("a", "put", "x", command_id="c1")), Again)
        link.loses_appends = False
        bench.store.fail("append", times=2)
        again = await failure(client.start("a", "put", "x", command_id="c1", maybe=True))
        assert isinstance(again, Again)
        assert again.maybe
        assert isinstance(await failure(client.start("b", "put", "y")), JournalFailed)  # the only append of that one
        await link.late.pop()()
        assert await client.call("a", "put", "x", command_id="c1", maybe=True) == 1
        assert await bench.items("a") == ["x"]


async def test_who_collects_hears_when_nothing_is_left_to_collect() -> None:
    """The last answers went out with another request; if they get lost, the client learns it by this."""
    session = Session(0.001, lambda: 0.0)
    assert await session.turn(0)
    batch = session.opened(1)
    collecting = asyncio.ensure_future(session.answers())
    exchange = asyncio.ensure_future(session.answers(batch))
    await turns()
    batch.resolve(SimpleNamespace(number=1), Kind.DONE, b"x")  # type: ignore[arg-type]
    assert await asyncio.wait_for(exchange, 5.0) == [(1, Kind.DONE, b"x")]
    assert await asyncio.wait_for(collecting, 5.0) == []


async def test_a_follower_does_not_stop_at_an_event_whose_writer_was_not_told_yet() -> None:
    """Seed 5120: it reads an event that is committed before the journal's server hears of the commit, and asks for what
    comes after it. The answer said that the journal ends before; so the follower took it for another one, and stopped.
    """
    async with Bench() as bench:
        host = await bench.host(Log)
        assert await Client(host).call("a", "put", "x") == 1
        assert decode_followed(await bench.server.follow(0, 10, None, 0.0)).head == 1
        held = bench.store.hold("append", after=True)
        putting = Client(host).start("a", "put", "y")
        await held.reached.wait()
        page = decode_followed(await bench.server.follow(0, 9, None, 0.0))
        assert page.reached == 2
        assert decode_followed(await bench.server.follow(page.reached, 9, None, 0.0)).head == 2
        held.release()
        assert await putting == 2


async def test_a_host_that_was_replaced_does_not_say_that_a_reminder_is_gone() -> None:
    """Seed 20073: whoever fires reminders still has the line to a host whose successor has set one. The command that
    fires it finds nothing pending there, so nothing is appended that would be refused; and it was asked again for ever.
    """
    async with Bench() as bench:
        clock = VirtualClock(NOON)
        stale = Client(await bench.host(Offer, clock=clock))
        assert await stale.call("a", "pending") == {}
        successor = Client(await bench.host(Offer, clock=clock))
        await successor.call("a", "set", "x", after=HOUR)
        due, sure = micros_of(NOON + HOUR), Trace(linearizable=True)
        told = await failure(stale.start("a", FIRE, "x", due, trace=sure))
        assert isinstance(told, Again)
        assert told.moved
        assert await successor.call("a", FIRE, "x", due, trace=sure) == "fired"
        assert await successor.call("a", FIRE, "x", due, trace=sure) == "gone"
