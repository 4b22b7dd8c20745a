"""A session: one client's calls to one host, taken in the order they were sent, answered as they are done.

Calls travel in numbered batches. Ray starts an actor's concurrent methods in any order, so a batch that overtook
another waits for it here; and one that arrives twice is taken once. A client that lost touch opens a new session.

A batch is answered when all its calls are; but a slow call holds its neighbours back for `linger_s` at most. What
is late then goes out with the next answer that the client has open, or with one that it opens just for this.
"""

import asyncio
from typing import Any

from .calls import Answer, Call, Kind

__all__ = ["Batch", "Session"]


class Batch:
    """The calls of one request that are not answered yet, and the request itself while it is open."""

    __slots__ = ("remaining", "session", "waiter")

    def __init__(self, session: "Session", size: int) -> None:
        self.session, self.remaining = session, size
        self.waiter: asyncio.Future[None] | None = None

    def resolve(self, call: Call, kind: Kind, value: Any) -> None:
        """The call is answered: it goes out with the next answer to this client."""
        self.remaining -= 1
        self.session.answered((call.number, int(kind), value), self)


class Session:
    """The host's end of one client's line. Not thread-safe; lives in the host's loop."""

    def __init__(self, linger_s: float) -> None:
        self.unanswered = 0
        self.used_at = asyncio.get_running_loop().time()
        self._linger_s = linger_s
        self._next = 0  # the number of the batch whose turn it is
        self._early: dict[int, asyncio.Future[None]] = {}  # batches that overtook it
        self._ready: list[Answer] = []
        self._waiters: dict[asyncio.Future[None], None] = {}  # open requests, oldest first
        self._linger: asyncio.TimerHandle | None = None

    async def turn(self, number: int) -> bool:
        """Wait until all batches before this one were taken. False: this one was taken already."""
        if number > self._next:
            early = self._early.setdefault(number, asyncio.get_running_loop().create_future())
            await early
        return number == self._next

    def opened(self, size: int) -> Batch:
        """Take the batch whose turn it is. The next one's turn comes when the caller has taken these calls in."""
        self._next += 1
        self.unanswered += size
        early = self._early.pop(self._next, None)
        if early is not None and not early.done():
            early.set_result(None)  # it goes on in a later turn of the loop, after this batch
        return Batch(self, size)

    def answered(self, answer: Answer, batch: Batch) -> None:
        """One call is done. The last of its batch sends the batch's request home, or whichever waits longest."""
        self.unanswered -= 1
        self._ready.append(answer)
        if batch.remaining == 0:
            self._wake(batch.waiter)
        elif self._waiters:
            self._start_lingering()

    async def answers(self, batch: Batch | None = None) -> list[Answer]:
        """All that is ready, once `batch` is complete or something has lingered; without a batch, once anything
        is ready. Empty when nothing is missing any more."""
        self.used_at = asyncio.get_running_loop().time()
        complete = batch.remaining == 0 if batch else self._ready or not self.unanswered
        if not complete:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            if batch is not None:
                batch.waiter = waiter
            if self._ready:
                self._start_lingering()
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)
        self.used_at = asyncio.get_running_loop().time()
        ready, self._ready = self._ready, []
        return ready

    def expired(self, now: float, idle_s: float) -> bool:
        """Nobody has asked for answers for so long that nobody will."""
        return not self._waiters and now - self.used_at > idle_s

    def close(self) -> None:
        """Send every open request home with what is ready, and those that wait for their turn with an error."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for early in self._early.values():
            early.cancel()

    def _start_lingering(self) -> None:
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(self._linger_s, self._wake)

    def _wake(self, waiter: "asyncio.Future[None] | None" = None) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if waiter is None or waiter.done():
            waiter = next((w for w in self._waiters if not w.done()), None)
        if waiter is not None:
            waiter.set_result(None)
