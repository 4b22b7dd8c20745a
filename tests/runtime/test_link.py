"""The link: batches, order, retries, deadlines and bounds, against a host that does what the test says."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hf_support import eventually

from holdfast.actors.calls import Kind
from holdfast.actors.errors import DeadlineExceeded, NotSerializable, Overloaded
from holdfast.journal.errors import HoldfastError
from holdfast.runtime.cluster import PeerGone, WireError
from holdfast.runtime.config import Config
from holdfast.runtime.errors import HostUnavailable, RuntimeClosed
from holdfast.runtime.link import Link
from holdfast.runtime.pending import Pending


class Unpicklable:
    pass


class FakeHost:
    """Answers what the test tells it to. `exchanges`: what arrived, batch by batch, by the calls' arguments."""

    def __init__(self, name: str = "host") -> None:
        self.name = name
        self.exchanges: list[list[Any]] = []
        self.wires: list[tuple[str, int, list[Any]]] = []
        self.answer: Callable[[Any], tuple[int, int, Any]] = lambda call: (call[0], Kind.DONE, call[3][0])
        self.door = asyncio.Event()
        self.door.set()
        self.late: list[Any] = []
        self.keeps_late = False
        self.gone = ""
        self.turns = True
        self.probes = 0

    async def ask(self, method: str, *args: Any) -> Any:
        if self.gone:
            raise PeerGone(self.name, self.gone)
        calls = args[-1] if method in ("exchange", "probe") else []
        if any(isinstance(a, Unpicklable) for call in calls for a in call[3]):
            raise WireError(self.name, "cannot pickle")
        if method == "probe":
            self.probes += 1
            return None
        if method == "collect":
            await self.door.wait()
            late, self.late = self.late, []
            return late
        session, number, calls = args
        self.wires.append((session, number, calls))
        self.exchanges.append([call[3][0] for call in calls])
        if self.keeps_late:
            self.late += [self.answer(call) for call in calls]
            return []
        await self.door.wait()
        if self.gone:
            raise PeerGone(self.name, self.gone)
        return [self.answer(call) for call in calls]

    async def responds(self, within_s: float) -> bool:
        return self.turns


def pending(value: Any, timeout_s: float = 5.0) -> Pending:
    return Pending(
        "a",
        "m",
        (value,),
        {},
        command_id=f"c{value}",
        keyed=False,
        maybe_executed=False,
        timeout_s=timeout_s,
        trace=None,
    )


class Line:
    """A link to one fake host after another."""

    def __init__(self, config: Config, *hosts: FakeHost) -> None:
        self.hosts = list(hosts)
        self.connections = 0
        self.ended: list[FakeHost] = []
        self.problem: Exception | None = None
        self.link = Link("host", self._connect, self._end, config, jitter=lambda: 0.0)

    async def _connect(self) -> Any:
        if self.problem is not None:
            raise self.problem
        self.connections += 1
        return next((h for h in self.hosts if not h.gone), self.hosts[-1])

    async def _end(self, peer: Any) -> None:
        peer.gone = peer.gone or "ended"
        self.ended.append(peer)

    def call(self, value: Any, timeout_s: float = 5.0) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.link.call(pending(value, timeout_s)))

    async def is_clean(self) -> None:
        """Nothing of any call is left in the link."""
        link = self.link
        await eventually(lambda: not (link._tasks or link._sent))
        assert not link._callers
        assert not any(not p.future.done() for p in link._waiting)
        assert link.idle


@asynccontextmanager
async def line(*hosts: FakeHost, **config: Any) -> AsyncIterator[Line]:
    made = Line(Config(**config), *(hosts or (FakeHost(),)))
    try:
        yield made
    finally:
        made.link.close()


async def done(*tasks: "asyncio.Task[Any]") -> list[Any]:
    return [value for _, value in await asyncio.wait_for(asyncio.gather(*tasks), 5.0)]


async def test_calls_of_one_turn_travel_together() -> None:
    """One request carries what one turn of the loop has sent."""
    async with line() as it:
        assert await done(*map(it.call, range(10))) == list(range(10))
        assert it.hosts[0].exchanges == [list(range(10))]
        await it.is_clean()


async def test_calls_gather_while_a_request_is_under_way() -> None:
    """Behind an open request fewer than `batch_min` calls wait; that many make another request."""
    async with line(batch_min=3, batch_max=5, exchanges_max=2) as it:
        host = it.hosts[0]
        host.door.clear()
        tasks = [it.call(0)]
        await eventually(lambda: host.exchanges == [[0]])
        tasks += [it.call(1), it.call(2)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert host.exchanges == [[0]]
        tasks += [it.call(n) for n in range(3, 9)]
        await eventually(lambda: len(host.exchanges) == 2)
        assert host.exchanges[1] == [1, 2, 3, 4, 5]
        host.door.set()
        assert await done(*tasks) == list(range(9))


async def test_a_slow_request_holds_no_others_back() -> None:
    """A call that takes long does not delay the next ones until it is answered, however many there are."""
    async with line(exchanges_max=2) as it:
        host = it.hosts[0]
        host.door.clear()
        slow = [it.call(n) for n in range(6)]
        for n in range(6, 12):
            slow.append(it.call(n))
            await eventually(lambda n=n: any(n in batch for batch in host.exchanges))
        host.door.set()
        assert await done(*slow) == list(range(12))
        await it.is_clean()


async def test_calls_in_flight_are_bounded_by_the_window() -> None:
    """A host that is behind is not flooded: at most `exchanges_max * batch_max` calls are at it."""
    async with line(exchanges_max=2, batch_max=3, batch_min=1) as it:
        host = it.hosts[0]
        host.door.clear()
        tasks = [it.call(n) for n in range(30)]
        await eventually(lambda: host.exchanges and not it.link._fresh)
        assert sum(map(len, host.exchanges)) == 6
        host.door.set()
        assert await done(*tasks) == list(range(30))
        assert [n for batch in host.exchanges for n in batch] == list(range(30))


async def test_what_a_dead_host_had_goes_to_its_successor_in_order_and_marked() -> None:
    """Retries keep the order of sending; only what may have been executed is marked."""
    first, second = FakeHost(), FakeHost()
    async with line(first, second, batch_max=2, batch_min=1, exchanges_max=2) as it:
        first.door.clear()
        tasks = [it.call(n) for n in range(6)]
        await eventually(lambda: len(first.exchanges) == 2)
        first.gone = "killed"
        first.door.set()
        assert await done(*tasks) == list(range(6))
        sent = [call for _, _, batch in second.wires for call in batch]
        assert [call[3][0] for call in sent] == list(range(6))
        assert [call[7] for call in sent] == [True] * 4 + [False] * 2
        assert set(it.ended) == {first}
        await it.is_clean()


async def test_a_host_that_does_not_turn_is_ended_and_replaced() -> None:
    """The watchdog ends it first, so that what reaches it late is not done a second time."""
    first, second = FakeHost(), FakeHost()
    async with line(first, second, suspect_s=0.01, paused_s=0.01) as it:
        first.door.clear()
        first.turns = False
        assert await done(it.call(1)) == [1]
        assert it.ended == [first]
        assert second.wires[0][2][0][7] is True


async def test_a_busy_host_is_left_alone() -> None:
    """Silence is no death while the process turns."""
    async with line(suspect_s=0.005, paused_s=0.005) as it:
        host = it.hosts[0]
        host.door.clear()
        task = it.call(1, timeout_s=0.1)
        with pytest.raises(DeadlineExceeded):
            await task
        assert not it.ended
        assert it.connections == 1


async def test_a_host_that_moved_is_asked_no_more_and_its_calls_go_on() -> None:
    """MOVED ends the session; what the host says was not executed is not marked."""
    first, second = FakeHost(), FakeHost()
    first.answer = lambda call: (call[0], Kind.MOVED, call[3][0] == 2)
    async with line(first, second) as it:

        async def connect() -> Any:
            it.connections += 1
            return first if it.connections == 1 else second

        it.link._connect = connect
        assert await done(it.call(1), it.call(2)) == [1, 2]
        assert [call[7] for call in second.wires[0][2]] == [False, True]
        assert not it.ended


async def test_again_is_sent_again_and_holds_no_others_back() -> None:
    """One aggregate's recovery delays its own calls only."""
    async with line() as it:
        host, seen = it.hosts[0], []

        def answer(call: Any) -> tuple[int, int, Any]:
            seen.append((call[3][0], call[7]))
            if call[3][0] == 1 and len([s for s in seen if s[0] == 1]) < 3:
                return call[0], Kind.AGAIN, True
            return call[0], Kind.DONE, call[3][0]

        host.answer = answer
        assert await done(it.call(1), it.call(2)) == [1, 2]
        assert [marked for value, marked in seen if value == 1] == [False, True, True]
        assert it.connections == 1
        await it.is_clean()


async def test_late_answers_are_collected() -> None:
    """What a request came home without, travels with one that is opened for it."""
    async with line() as it:
        it.hosts[0].keeps_late = True
        assert await done(*map(it.call, range(5))) == list(range(5))
        await it.is_clean()


async def test_answers_that_got_lost_are_asked_for_again() -> None:
    """A host that owes nothing, though a caller waits, is sent the call once more, marked."""
    async with line() as it:
        host = it.hosts[0]
        host.keeps_late, lost = True, host.answer
        host.answer = lambda call: lost(call) if call[7] else (-1, Kind.DONE, None)
        task = it.call(1)
        await eventually(lambda: len(host.exchanges) == 2)
        assert await done(task) == [1]
        assert host.wires[1][2][0][7] is True


async def test_an_argument_that_cannot_travel_hurts_its_caller_alone() -> None:
    """It is found by halving; its neighbours are answered in order, by the same session."""
    async with line(batch_max=50) as it:
        tasks = [it.call(Unpicklable() if n in (7, 23) else n) for n in range(40)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        bad = [n for n, result in enumerate(results) if isinstance(result, NotSerializable)]
        assert bad == [7, 23]
        good = [n for n in range(40) if n not in bad]
        assert it.hosts[0].exchanges == [good]
        assert it.connections == 1
        assert it.hosts[0].probes < 25
        await it.is_clean()


async def test_what_cannot_travel_leaves_no_gap_in_the_session() -> None:
    """The number of a batch that lost all its calls is used all the same: the next batch's turn comes."""
    async with line() as it:
        with pytest.raises(NotSerializable):
            await it.call(Unpicklable())
        assert await done(it.call(1)) == [1]
        assert [(number, len(calls)) for _, number, calls in it.hosts[0].wires] == [(0, 0), (1, 1)]
        assert len({session for session, _, _ in it.hosts[0].wires}) == 1


async def test_more_callers_than_the_bound_are_refused() -> None:
    """`Overloaded` names the line and the limit; those who wait are answered."""
    async with line(waiting_max=5) as it:
        host = it.hosts[0]
        host.door.clear()
        tasks = [it.call(n) for n in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="line to host is full at its limit of 5"):
            await it.call(6)
        host.door.set()
        assert await done(*tasks) == list(range(5))
        assert await done(it.call(7)) == [7]


async def test_callers_who_gave_up_make_room() -> None:
    """Only who still waits counts, and the queue does not grow by who does not."""
    async with line(waiting_max=5) as it:
        it.problem = PeerGone("host", "not yet")
        for n in range(3000):
            task = it.call(n)
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        assert len(it.link._waiting) < 1100
        it.problem = None
        assert await done(it.call(1)) == [1]


async def test_a_deadline_says_whether_the_call_was_sent() -> None:
    """Not sent: it did not happen. Unknown: it may have."""
    async with line() as it:
        it.problem = PeerGone("host", "no such host yet")
        with pytest.raises(DeadlineExceeded, match="no such host yet") as caught:
            await it.call(1, timeout_s=0.05)
        assert caught.value.outcome == DeadlineExceeded.NOT_SENT
        it.problem = None
        it.hosts[0].door.clear()
        with pytest.raises(DeadlineExceeded) as caught:
            await it.call(2, timeout_s=0.05)
        assert caught.value.outcome == DeadlineExceeded.UNKNOWN
        assert [2] in it.hosts[0].exchanges
        assert [1] not in it.hosts[0].exchanges


async def test_a_call_that_was_answered_not_executed_counts_as_not_sent() -> None:
    """A host that says it did nothing leaves no doubt."""
    async with line() as it:
        it.hosts[0].answer = lambda call: (call[0], Kind.AGAIN, False)
        with pytest.raises(DeadlineExceeded) as caught:
            await it.call(1, timeout_s=0.05)
        assert caught.value.outcome == DeadlineExceeded.NOT_SENT


async def test_a_host_that_cannot_start_is_told_at_once_to_who_was_not_sent() -> None:
    """And whoever was sent before waits on: an error would say that nothing happened."""
    first = FakeHost()
    async with line(first) as it:
        first.door.clear()
        sent = it.call(1)
        await eventually(lambda: first.exchanges)
        it.problem = HostUnavailable("host", "its code is broken")
        first.gone = "killed"
        first.door.set()
        await eventually(lambda: it.ended)
        with pytest.raises(HostUnavailable, match="its code is broken"):
            await it.call(2)
        it.hosts.append(FakeHost())
        it.problem = None
        assert await done(sent) == [1]


async def test_an_error_while_connecting_reaches_the_callers() -> None:
    """Also one that nobody thought of: it is not retried until the deadline."""
    async with line() as it:
        it.problem = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            await it.call(1)


async def test_answers_of_a_session_that_was_given_up_count_only_when_done() -> None:
    """A rejection or a retry of the old host says nothing about the copy at the new one."""
    async with line() as it:
        link, host = it.link, it.hosts[0]
        host.door.clear()
        task = it.call(1)
        await eventually(lambda: host.exchanges)
        old = link._session
        link.renew()
        await eventually(lambda: len(host.exchanges) == 2)
        number = next(iter(link._sent))
        link._take(old, [(number, Kind.ERROR, "no"), (number, Kind.AGAIN, True)])
        assert not task.done()
        assert number in link._sent
        link._take(old, [(number, Kind.DONE, "done there")])
        assert await done(task) == ["done there"]


async def test_after_a_long_silence_a_new_session_begins() -> None:
    """The host has dropped the old one by then, and would wait for batches that came before."""
    config = Config()
    config = replace(config, host=replace(config.host, session_idle_s=0.001))
    made = Line(config, FakeHost())
    try:
        assert await done(made.call(1)) == [1]
        made.link.used_at -= 10
        assert await done(made.call(2)) == [2]
        (s1, n1, _), (s2, n2, _) = made.hosts[0].wires
        assert s1 != s2
        assert (n1, n2) == (0, 0)
        assert made.connections == 1
    finally:
        made.link.close()


async def test_renewing_keeps_callers_and_marks_what_was_sent() -> None:
    """New code: the host is looked up again."""
    async with line() as it:
        assert await done(it.call(1)) == [1]
        it.link.renew()
        assert await done(it.call(2)) == [2]
        assert it.connections == 2


async def test_closing_tells_everybody() -> None:
    """Also who waits to be sent again; and nothing is left running."""
    async with line() as it:
        host = it.hosts[0]
        host.answer = lambda call: (call[0], Kind.AGAIN, True)
        again = it.call(1)
        await eventually(lambda: host.exchanges)
        host.door.clear()
        sent = it.call(2)
        await eventually(lambda: any(2 in batch for batch in host.exchanges))
        it.link.close()
        for result in await asyncio.gather(again, sent, return_exceptions=True):
            assert isinstance(result, RuntimeClosed)
            assert result.outcome == DeadlineExceeded.UNKNOWN  # it may have been done
        with pytest.raises(RuntimeClosed):
            await it.call(3)
        await it.is_clean()


async def test_a_tenth_of_the_callers_cancelled_or_timed_out_leaks_nothing() -> None:
    """Whatever happens to some, the rest is answered, and the link is as empty as before."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    hosts = [FakeHost(f"host{n}") for n in range(4)]
    async with line(*hosts, batch_min=5, batch_max=20, suspect_s=0.05, paused_s=0.05) as it:
        kinds = [Kind.DONE] * 8 + [Kind.AGAIN, Kind.MOVED]
        for host in hosts:
            host.answer = lambda call: (call[0], rng.choice(kinds), call[3][0])
            host.keeps_late = rng.random() < 0.5
        tasks = []
        for n in range(1000):
            tasks.append(it.call(n, timeout_s=0.0001 if rng.random() < 0.05 else 20.0))
            if rng.random() < 0.05:
                await asyncio.sleep(0)
                tasks[-1].cancel()
            if n in (250, 500, 750):
                hosts[n // 250 - 1].gone = "killed"
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        for n, result in enumerate(results):
            assert isinstance(result, asyncio.CancelledError | DeadlineExceeded) or result == (Kind.DONE, n)
        assert sum(isinstance(result, tuple) for result in results) > 800
        await it.is_clean()
        gc.collect()
        assert not [o for o in gc.get_objects() if isinstance(o, Pending) and not o.future.done()]


async def test_an_error_of_the_host_itself_is_no_answer() -> None:
    """What the request raised is about the request, not about a call: sent calls are sent again."""
    async with line() as it:
        host, ask = it.hosts[0], it.hosts[0].ask
        raised: list[Exception] = [HoldfastError("some trouble"), ZeroDivisionError("a bug")]

        async def failing(method: str, *args: Any) -> Any:
            if method == "exchange" and raised:
                raise raised.pop()
            return await ask(method, *args)

        host.ask = failing  # type: ignore[method-assign]
        assert await done(it.call(1)) == [1]
        assert host.wires[0][2][0][7] is True
