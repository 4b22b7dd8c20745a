"""A link: this process's line to one host. Batches calls on the way out, matches answers on the way back, and
sends again what got lost.

Calls that arrive while nothing is under way leave in the same turn of the loop; while requests are under way they
gather. A host that died, left or fell silent is looked up again, and what it had not answered goes to its
successor, in the order it was first sent, marked `maybe_executed`, so that nothing is done twice.

Before this: the caller's signature was checked. After this: the call stands in its host's session.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from holdfast.actors.calls import Answer, CallWire, Kind, Trace
from holdfast.actors.errors import DeadlineExceeded, NotSerializable, Overloaded
from holdfast.journal.errors import HoldfastError

from .cluster import Peer, PeerGone, WireError, incarnation
from .config import Config
from .errors import RuntimeClosed

__all__ = ["Link", "Pending"]

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 0.01, 0.5


class Pending:
    """A call whose caller waits. `future` gives the answer's kind and value."""

    __slots__ = (
        "args",
        "command_id",
        "deadline",
        "future",
        "id",
        "keyed",
        "kwargs",
        "maybe_executed",
        "method",
        "number",
        "retries",
        "sent",
        "timeout_s",
        "timer",
        "trace",
        "trouble",
    )

    def __init__(
        self,
        id: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        command_id: str,
        keyed: bool,
        maybe_executed: bool,
        timeout_s: float,
        trace: Trace | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id, self.method, self.args, self.kwargs = id, method, args, kwargs
        self.command_id, self.keyed, self.maybe_executed = command_id, keyed, maybe_executed
        self.timeout_s, self.trace = timeout_s, trace
        self.future: asyncio.Future[tuple[Kind, Any]] = loop.create_future()
        self.deadline = loop.time() + timeout_s
        self.timer = loop.call_at(self.deadline, self._expire)
        self.number = 0
        self.retries = 0
        self.sent = False
        self.trouble = ""  # the last reason for sending it again

    def wire(self, now: float) -> CallWire:
        """As it travels: deadlines as the seconds left, since clocks differ."""
        return (
            self.number,
            self.id,
            self.method,
            self.args,
            self.kwargs,
            self.command_id,
            self.keyed,
            self.maybe_executed,
            self.deadline - now,
            self.trace,
        )

    def answer(self, kind: Kind, value: Any) -> None:
        """Tell the caller, if it still waits."""
        self.timer.cancel()
        if not self.future.done():
            self.future.set_result((kind, value))

    def fail(self, error: Exception) -> None:
        """Tell the caller that there is no answer."""
        self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)

    def _expire(self) -> None:
        outcome = DeadlineExceeded.UNKNOWN if self.sent else DeadlineExceeded.NOT_SENT
        self.fail(DeadlineExceeded(f"{self.id}.{self.method}", self.timeout_s, outcome, self.trouble))


class Link:
    """The line to the host called `name`. `connect` finds the host, starting it if none runs."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Peer]],
        replace: Callable[[Peer], Awaitable[None]],
        config: Config,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`replace`: ends a host that no longer responds, so that a successor can be started."""
        self.name = name
        self.used_at = asyncio.get_running_loop().time()
        self._connect, self._replace, self._config, self._jitter = connect, replace, config, jitter
        self._waiting: deque[Pending] = deque()
        self._sent: dict[int, Pending] = {}  # by number, so in the order of sending
        self._numbers = 0
        self._peer: Peer | None = None
        self._session, self._batches = "", 0
        self._open = 0  # exchanges under way
        self._collecting = False
        self._scheduled = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0  # connections lost in a row, without an answer in between

    @property
    def idle(self) -> bool:
        """Nobody waits for anything here."""
        return not (self._waiting or self._sent or self._tasks)

    def send(self, pending: Pending) -> None:
        """Take a call; its future is answered exactly once. Raises `Overloaded`, `RuntimeClosed`."""
        if self._closed:
            pending.timer.cancel()
            raise RuntimeClosed(self.name)
        if len(self._waiting) + len(self._sent) >= self._config.waiting_max:
            pending.timer.cancel()
            raise Overloaded(f"line to {self.name}", self._config.waiting_max)
        self._numbers += 1
        pending.number = self._numbers
        self._waiting.append(pending)
        self._schedule()

    def close(self) -> None:
        """Fail whoever still waits, and stop."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for pending in (*self._sent.values(), *self._waiting):
            pending.fail(RuntimeClosed(self.name))
        self._sent.clear()
        self._waiting.clear()

    # -- sending -------------------------------------------------------------------------------------------------

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
            if self._connecting is None:
                self._connecting = self._spawn(self._establish())
            return
        config = self._config
        while self._waiting and self._open < config.exchanges_max:
            if self._open and len(self._waiting) < config.batch_min:
                return
            if batch := self._next_batch():
                self._open += 1
                number, self._batches = self._batches, self._batches + 1
                self._spawn(self._exchange(self._peer, self._session, number, batch))

    def _next_batch(self) -> list[Pending]:
        batch: list[Pending] = []
        while self._waiting and len(batch) < self._config.batch_max:
            pending = self._waiting.popleft()
            if not pending.future.done():  # timed out or cancelled before it left
                pending.sent = True
                self._sent[pending.number] = pending
                batch.append(pending)
        return batch

    async def _exchange(self, peer: Peer, session: str, number: int, batch: list[Pending]) -> None:
        loop = asyncio.get_running_loop()
        self.used_at = loop.time()
        try:
            now = self.used_at
            answers = await self._watched(peer, "exchange", session, number, [p.wire(now) for p in batch])
        except WireError as error:
            self._unpicklable(peer, session, batch, error)
        except PeerGone as error:
            self._lost(session, str(error))
        except HoldfastError as error:
            self._cannot(session, error)
        else:
            self._take(session, answers)
        finally:
            if session == self._session:
                self._open -= 1
        self._pump()
        self._collect_if_needed()

    async def _watched(self, peer: Peer, method: str, *args: Any) -> Any:
        """Ask; and while the answer takes long, see to it that somebody is there who can answer."""
        asking = asyncio.ensure_future(peer.ask(method, *args))
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=self._config.suspect_s)
                if not asking.done() and not await peer.responds(self._config.paused_s):
                    await self._replace(peer)
                    raise PeerGone(peer.name, "it stopped responding")
            return asking.result()
        finally:
            asking.cancel()
            asking.add_done_callback(lambda f: f.cancelled() or f.exception())

    # -- answers -------------------------------------------------------------------------------------------------

    def _take(self, session: str, answers: list[Answer]) -> None:
        if answers:
            self._failures = 0
        again: list[Pending] = []
        moved = False
        for number, kind, value in answers:
            pending = self._sent.pop(number, None)
            if pending is None:
                continue  # answered before, by a copy
            if kind in (Kind.AGAIN, Kind.MOVED):
                moved = moved or kind == Kind.MOVED
                pending.maybe_executed = pending.maybe_executed or bool(value)
                again.append(pending)
            else:
                pending.answer(Kind(kind), value)
        if moved:
            self._lost(session, "the host has left")
        if again:
            self._send_again(again)

    def _collect_if_needed(self) -> None:
        """Late answers need a request to travel with."""
        if self._sent and not self._open and not self._collecting and self._peer is not None and not self._closed:
            self._collecting = True
            self._spawn(self._collect(self._peer, self._session))

    async def _collect(self, peer: Peer, session: str) -> None:
        try:
            answers = await self._watched(peer, "collect", session)
        except HoldfastError as error:
            self._lost(session, str(error))
        else:
            if answers is None:
                self._lost(session, "the host forgot the session")
            else:
                self._take(session, answers)
                if not answers and session == self._session and self._sent and not self._open:
                    self._lost(session, "answers are missing")
        finally:
            self._collecting = False
        self._pump()
        self._collect_if_needed()

    # -- trouble -------------------------------------------------------------------------------------------------

    def _lost(self, session: str, trouble: str) -> None:
        """The session is over. What was sent in it and not answered may have been executed."""
        if session != self._session or self._closed:
            return
        lost = list(self._sent.values())
        self._sent.clear()
        self._peer, self._session, self._open = None, "", 0
        self._failures += 1
        for pending in lost:
            pending.maybe_executed = True
            pending.trouble = trouble
        self._requeue(lost)

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
        merged = sorted((*calls, *self._waiting), key=lambda p: p.number)
        self._waiting = deque(p for p in merged if not p.future.done())
        self._schedule()

    def _pause_s(self, tries: int) -> float:
        return min(RETRY_FIRST_S * 2.0 ** min(tries, 10), RETRY_MOST_S) * (0.5 + self._jitter())

    def _unpicklable(self, peer: Peer, session: str, batch: list[Pending], error: WireError) -> None:
        """Something in the batch cannot travel. It is found by sending each call alone; the host never took this
        batch's number in, so the session ends here."""
        suspects = [p for p in batch if self._sent.pop(p.number, None) is not None]
        if len(batch) == 1:
            for pending in suspects:
                pending.fail(NotSerializable(f"call {pending.id}.{pending.method}", error.problem))
        else:
            self._spawn(self._one_by_one(peer, suspects))
        self._lost(session, str(error))

    async def _one_by_one(self, peer: Peer, calls: list[Pending]) -> None:
        """Each in a session of its own: slow, rare, and nobody pays for another's argument."""
        for pending in calls:
            session = incarnation()
            try:
                wire = [pending.wire(asyncio.get_running_loop().time())]
                answers: list[Answer] | None = await self._watched(peer, "exchange", session, 0, wire)
            except WireError as error:
                pending.fail(NotSerializable(f"call {pending.id}.{pending.method}", error.problem))
            except HoldfastError as error:
                pending.maybe_executed, pending.trouble = True, str(error)
                self._send_again([pending])
            else:
                for _, kind, value in answers or ():
                    if kind in (Kind.AGAIN, Kind.MOVED):
                        pending.maybe_executed = pending.maybe_executed or bool(value)
                        self._send_again([pending])
                    else:
                        pending.answer(Kind(kind), value)

    def _cannot(self, session: str, error: HoldfastError) -> None:
        """The host answers, and what it says holds for everybody: it could not start."""
        if session != self._session:
            return
        calls = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._peer, self._session, self._open = None, "", 0
        for pending in calls:
            pending.fail(error)

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
        except HoldfastError as error:
            self._cannot(self._session, error)
        else:
            self._peer, self._session, self._batches, self._open = peer, incarnation(), 0, 0
        finally:
            self._connecting = None
        self._requeue([])

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a bug in the link", self.name, exc_info=error)
            self._lost(self._session, repr(error))
