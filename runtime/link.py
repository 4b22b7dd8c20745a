"""A link: this process's line to one host. Batches calls on the way out, matches answers on the way back, and
sends again what got lost.

Calls that arrive while nothing is under way leave in the same turn of the loop; while requests are under way they
gather. A request that stays open for long, because of a slow call in it, holds no others back. A host that died,
left or fell silent is looked up again, and what it had not answered goes to its successor, in the order it was first
sent, marked `maybe_executed`, so that nothing is done twice.

A session is given up only when no request of it can still reach a host that would carry it out: the host has died,
has been ended for certain, or has left. Else a late request would be a second execution that nobody marked.

Before this: a call is pending. After this: it stands in its host's session.
"""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from holdfast.actors.calls import Answer, CallWire, Kind
from holdfast.actors.errors import DeadlineExceeded, NotSerializable, Overloaded
from holdfast.journal.errors import HoldfastError
from holdfast.journal.subject import Log, Subject

from .cluster import Peer, PeerGone, WireError, incarnation
from .config import Config
from .errors import RuntimeClosed
from .pending import Deadlines, Pending
from .watch import watched

__all__ = ["Link"]

log = Log(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 0.01, 0.5
SLOW_S = 0.025  # a request open for longer is slow: the next one does not wait for it
BATCH_BYTES_MAX = 8 << 20  # about: arguments count by what they hold directly
KINDS = tuple(Kind)  # by number: quicker than `Kind(number)`
ANSWERED_MAX = 1000  # calls whose callers have gone that the queue may hold before it is swept


class Link:
    """The line to the host called `name`. `connect` finds the host, starting it if none runs."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Peer]],
        end: Callable[[Peer], Awaitable[None]],
        config: Config,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`end`: makes sure that a host that no longer answers never will, so that a successor can be started."""
        self.name = name
        self.forgotten = False  # by whoever gives lines out: another one will be given out in its place
        self.used_at = asyncio.get_running_loop().time()
        self._connect, self._end, self._config, self._jitter = connect, end, config, jitter
        self._callers: dict[Pending, None] = {}  # whoever waits for an answer
        self._deadlines = Deadlines(self._callers)
        self._waiting: deque[Pending] = deque()  # to be sent
        self._sent: dict[int, Pending] = {}  # and not answered; by number, so in the order of sending
        self._numbers = 0
        self._peer: Peer | None = None
        self._session, self._batches = "", 0
        self._open: set[int] = set()  # requests under way, by the number of their batch
        self._fresh: set[int] = set()  # those of them that are not slow (yet)
        self._collecting = ""  # the session that late answers are being collected from
        self._fruitless = 0  # collections in a row that brought nothing
        self._scheduled = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting = False
        self._failures = 0  # connections lost in a row, without an answer in between
        self.retries = 0  # calls sent again

    @property
    def idle(self) -> bool:
        """Nobody waits for anything here."""
        return not (self._callers or self._sent or self._tasks)

    @property
    def callers(self) -> int:
        """How many wait for an answer here."""
        return len(self._callers)

    async def call(self, pending: Pending) -> tuple[Kind, Any]:
        """Send a call and wait for its answer: kind and value. Raises `Overloaded`, `RuntimeClosed`,
        `DeadlineExceeded`, `NotSerializable`, and what keeps the host from starting. May be cancelled: a call that
        has not left then never does."""
        try:
            self._accept(pending)
            return await pending.future
        finally:
            self._callers.pop(pending, None)

    def check_room(self) -> None:
        """Raise what `call` would raise at once: `Overloaded`, `RuntimeClosed`."""
        if self._closed:
            raise RuntimeClosed(self.name)
        if len(self._callers) >= self._config.waiting_max:
            raise Overloaded(f"line to {self.name}", self._config.waiting_max)

    def renew(self) -> None:
        """Have the host looked up again before the next call: it may run other code by then, or be another one.

        For a change of code only: the host is asked to leave, so it carries out nothing that reaches it late."""
        if self._peer is not None:
            self._lost(self._session, "the aggregate's code has changed")
            self._failures = 0

    def forget(self) -> None:
        """Another line will be given out in its place. References hold on to this one until they are used again, so it
        lets go of what it holds. Only when it is `idle`."""
        self.forgotten = True
        self._deadlines.stop()
        self._waiting.clear()  # callers who have gone
        self._peer, self._session, self._batches = None, "", 0

    def close(self) -> None:
        """Fail whoever still waits, and stop."""
        self._closed = True
        self._deadlines.stop()
        for task in list(self._tasks):
            task.cancel()
        for pending in self._callers:
            outcome = DeadlineExceeded.UNKNOWN if pending.sent else DeadlineExceeded.NOT_SENT
            pending.fail(RuntimeClosed(f"{pending.id}.{pending.method}", outcome))
        self._sent.clear()
        self._waiting.clear()

    # -- sending -------------------------------------------------------------------------------------------------

    def _accept(self, pending: Pending) -> None:
        self.check_room()
        self._callers[pending] = None
        self._deadlines.watch(pending)
        self._numbers += 1
        pending.number = self._numbers
        self._waiting.append(pending)
        if len(self._waiting) > len(self._callers) + ANSWERED_MAX:  # most of them have given up
            self._waiting = deque(p for p in self._waiting if not p.future.done())
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)  # this turn's calls go together

    def _pump(self) -> None:
        """Send what is worth sending now: at once when nothing is under way, else when enough has gathered."""
        self._scheduled = False
        if self._closed or not self._waiting:
            return
        if self._peer is None:
            if not self._connecting:
                self._connecting = True
                self._spawn(self._establish())
            return
        config = self._config
        self._start_over_after_silence()
        window = config.exchanges_max * config.batch_max
        while self._waiting and len(self._fresh) < config.exchanges_max and len(self._sent) < window:
            if self._fresh and len(self._waiting) < config.batch_min:
                return
            if batch := self._next_batch():
                number, self._batches = self._batches, self._batches + 1
                self._open.add(number)
                self._fresh.add(number)
                self._spawn(self._exchange(self._peer, self._session, number, batch))

    def _start_over_after_silence(self) -> None:
        """A host drops the session of a client that has been silent for long."""
        silent_s = asyncio.get_running_loop().time() - self.used_at
        if silent_s > self._config.host.session_idle_s / 2 and not (self._open or self._sent):
            self._session, self._batches = incarnation(), 0

    def _next_batch(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self._waiting and len(batch) < self._config.batch_max and size < BATCH_BYTES_MAX:
            pending = self._waiting.popleft()
            if not pending.future.done():  # timed out or cancelled before it left
                pending.sent = True
                self._sent[pending.number] = pending
                batch.append(pending)
                size += pending.size
        return batch

    async def _exchange(self, peer: Peer, session: str, number: int, batch: list[Pending]) -> None:
        loop = asyncio.get_running_loop()
        self.used_at = loop.time()
        slow = loop.call_later(SLOW_S, self._goes_slowly, session, number)
        try:
            answers = await self._deliver(peer, session, number, batch)
        except PeerGone as error:
            await self._end(peer)
            self._lost(session, str(error))
        except HoldfastError as error:
            self._cannot(session, error)
        else:
            self._take(session, answers)
        finally:
            slow.cancel()
            if session == self._session:
                self._open.discard(number)
                self._fresh.discard(number)
        self._go_on()

    def _goes_slowly(self, session: str, number: int) -> None:
        if session == self._session:
            self._fresh.discard(number)
            self._pump()

    async def _deliver(self, peer: Peer, session: str, number: int, batch: list[Pending]) -> list[Answer]:
        """One request. If something in it cannot travel, its caller hears so and the others go without it."""
        config = self._config
        try:
            answers: list[Answer] = await watched(peer, config, "exchange", session, number, _wires(batch))
        except WireError as error:  # the host has not seen it; what comes after it waits there for its number
            fitting = await self._fitting(peer, batch, error)
            answers = await watched(peer, config, "exchange", session, number, _wires(fitting))
        return answers

    async def _fitting(self, peer: Peer, calls: list[Pending], problem: WireError) -> list[Pending]:
        """Which calls can travel, found by halving. `problem`: what all of them together met with."""
        if len(calls) <= 1:
            for pending in calls:
                self._sent.pop(pending.number, None)
                pending.fail(NotSerializable(f"call {pending.id}.{pending.method}", problem.problem))
            return []
        fitting: list[Pending] = []
        for half in (calls[: len(calls) // 2], calls[len(calls) // 2 :]):
            try:
                await watched(peer, self._config, "probe", _wires(half))
                fitting += half
            except WireError as error:
                fitting += await self._fitting(peer, half, error)
        return fitting

    # -- answers -------------------------------------------------------------------------------------------------

    def _take(self, session: str, answers: list[Answer]) -> None:
        again: list[Pending] = []
        moved = False
        for number, kind, value in answers:
            if session != self._session and kind != Kind.DONE:
                continue  # it was sent again since: only what is done stays done
            pending = self._sent.pop(number, None)
            if pending is None:
                continue  # answered before, by a copy
            if kind in (Kind.AGAIN, Kind.MOVED):
                moved = moved or kind == Kind.MOVED
                pending.again(maybe_executed=bool(value), trouble="its aggregate could not be reached")
                again.append(pending)
            else:
                self._failures = 0
                pending.answer(KINDS[kind], value)
        if moved:
            self._lost(session, "the host has left")
            self._requeue(again)
        else:
            self._send_again(again)

    def _go_on(self) -> None:
        """Send what waits. Late answers need a request to travel with: open one, if none is."""
        self._pump()
        if self._sent and not self._open and self._peer is not None and self._collecting != self._session:
            self._collecting = self._session
            self._spawn(self._collect(self._peer, self._session))

    async def _collect(self, peer: Peer, session: str) -> None:
        self.used_at = asyncio.get_running_loop().time()
        try:
            answers: list[Answer] | None = await watched(peer, self._config, "collect", session)
        except PeerGone as error:
            await self._end(peer)
            self._lost(session, str(error))
        else:
            if answers is None:
                self._lost(session, "the host forgot the session")
            else:
                self._take(session, answers)
                self._look_for_missing(session, answers)
        finally:
            if self._collecting == session:
                self._collecting = ""
        self._go_on()

    def _look_for_missing(self, session: str, answers: list[Answer]) -> None:
        """A host that twice has nothing for us, though we wait for something, sent it with an answer that got
        lost. (Once may be a call that it had not taken in.)"""
        missing = not answers and session == self._session and self._sent and not self._open
        self._fruitless = self._fruitless + 1 if missing else 0
        if self._fruitless > 1:
            self._fruitless = 0
            self._lost(session, "answers are missing")

    # -- trouble -------------------------------------------------------------------------------------------------

    def _lost(self, session: str, trouble: str) -> None:
        """The session is over. What was sent in it and not answered may have been executed."""
        if session != self._session or self._closed:
            return
        lost = list(self._sent.values())
        self._disconnect()
        for pending in lost:
            pending.again(maybe_executed=True, trouble=trouble)
        self._requeue(lost)

    def _cannot(self, session: str, error: Exception) -> None:
        """There is no such host to be had. Whoever was not sent hears why; the others' outcome is unknown, so they
        wait for a host that can tell, until their deadlines."""
        if session != self._session or self._closed:
            return
        calls = [*self._sent.values(), *self._waiting]
        self._disconnect()
        self._waiting.clear()
        for pending in calls:
            if pending.sent:
                pending.again(maybe_executed=True, trouble=str(error))
            else:
                pending.fail(error)
        self._requeue(calls)
        if not self._waiting:
            self._failures = 0  # nobody is kept waiting, so the next caller need not wait either

    def _disconnect(self) -> None:
        self._sent.clear()
        self._peer, self._session, self._batches = None, "", 0
        self._open, self._fresh = set(), set()
        self._failures += 1

    def _send_again(self, calls: list[Pending]) -> None:
        """One aggregate's trouble: these wait a little, longer each time; the others go on."""
        calls = [p for p in calls if not p.future.done()]
        if calls:
            for pending in calls:
                pending.retries += 1
            self._spawn(self._requeue_after(self._pause_s(calls[0].retries), calls))

    async def _requeue_after(self, pause_s: float, calls: list[Pending]) -> None:
        await asyncio.sleep(pause_s)
        self._requeue(calls)

    def _requeue(self, calls: list[Pending]) -> None:
        """Back into the queue, in the order in which they were first sent."""
        self.retries += len(calls)
        merged = sorted((*calls, *self._waiting), key=lambda p: p.number)
        self._waiting = deque(p for p in merged if not p.future.done())
        self._schedule()

    def _pause_s(self, tries: int) -> float:
        return min(RETRY_FIRST_S * 2.0 ** min(tries, 10), RETRY_MOST_S) * (0.5 + self._jitter())

    # -- connecting ----------------------------------------------------------------------------------------------

    async def _establish(self) -> None:
        try:
            if self._failures:
                await asyncio.sleep(self._pause_s(self._failures))
            peer = await self._connect()
        except PeerGone as error:
            self._failures += 1
            for pending in self._waiting:
                pending.trouble = str(error)
        except Exception as error:
            self._cannot(self._session, error)
        else:
            self._peer, self._session = peer, incarnation()
            self.used_at = asyncio.get_running_loop().time()
        finally:
            self._connecting = False
        self._requeue([])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # In a context of its own: what happens to be the caller's would live on here.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(Subject("line", self.name), "a bug in the link", exc_info=error)
            self._lost(self._session, repr(error))


def _wires(calls: list[Pending]) -> list[CallWire]:
    now = asyncio.get_running_loop().time()
    return [pending.wire(now) for pending in calls]
