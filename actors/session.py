"""A session: one client's calls to one host, taken in the order they were sent, answered as they are done.

Calls travel in numbered batches. Ray starts an actor's concurrent methods in any order, so a batch that overtook
another waits for it here; and one that arrives twice is taken once. A client that lost touch opens a new session.

A batch is answered when all its calls are; but a slow call holds its neighbours back for `linger_s` at most. What
is late then goes out with the next answer that the client has open, or with one that it opens just for this.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from .calls import Answer, Call, Kind

__all__ = ["Batch", "Session"]

Waiter = asyncio.Future[None]


class Batch:
    """The calls of one request that are not answered yet, and the request itself: `is_open` until it is answered,
    with a `waiter` while it waits for that."""

    __slots__ = ("is_open", "remaining", "session", "waiter")

    def __init__(self, session: "Session", size: int) -> None:
        self.session, self.remaining = session, size
        self.is_open = True
        self.waiter: Waiter | None = None

    def resolve(self, call: Call, kind: Kind, value: Any) -> None:
        """The call is answered: it goes out with the next answer to this client."""
        self.remaining -= 1
        self.session.answered((call.number, int(kind), value), self)


class Session:
    """The host's end of one client's line. Not thread-safe; lives in the host's loop."""

    def __init__(self, linger_s: float, now: Callable[[], float]) -> None:
        """`now`: the host's clock, in seconds."""
        self.unanswered = 0
        self.used_at = now()
        self._linger_s, self._now = linger_s, now
        self._next = 0  # the number of the batch whose turn it is
        self._early: dict[int, asyncio.Event] = {}  # batches that overtook it
        self._ready: list[Answer] = []
        self._waiters: dict[Waiter, None] = {}  # open requests that wait, oldest first
        self._linger: asyncio.TimerHandle | None = None
        self._closed = False

    async def turn(self, number: int) -> bool:
        """Wait until all batches before this one were taken. False: this one was taken already, or none is any
        more."""
        if number > self._next and not self._closed:
            await self._early.setdefault(number, asyncio.Event()).wait()
        return number == self._next and not self._closed

    def has_taken(self, number: int) -> bool:
        """Whether this batch was taken: one that arrives now is a second copy."""
        return number < self._next

    def opened(self, size: int) -> Batch:
        """Take the batch whose turn it is. The next one's turn comes when the caller has taken these calls in."""
        self._next += 1
        self.unanswered += size
        early = self._early.pop(self._next, None)
        if early is not None:
            early.set()  # it goes on in a later turn of the loop, after this batch
        return Batch(self, size)

    def answered(self, answer: Answer, batch: Batch) -> None:
        """One call is done. The last of its batch sends the batch's request home; what is late goes home with
        whichever request has waited longest."""
        self.unanswered -= 1
        self._ready.append(answer)
        if batch.remaining == 0 and batch.waiter is not None:
            self._wake(batch.waiter)
        elif batch.remaining == 0 and not batch.is_open:
            self._wake_oldest()
        elif self._waiters:
            self._start_lingering()

    async def answers(self, batch: Batch | None = None) -> list[Answer]:
        """All that is ready, once `batch` is complete or something has lingered; without a batch, once anything
        is ready. Empty when nothing is missing any more."""
        self.used_at = self._now()
        try:
            while not self._may_answer(batch):
                await self._wait(batch)
                if self._ready:
                    break  # else others took it with them
        finally:
            if batch is not None:
                batch.is_open = False
        self.used_at = self._now()
        self._stop_lingering()
        ready, self._ready = self._ready, []
        if not self.unanswered:
            self._send_all_home()  # who collects need not wait: should this answer get lost, that is how it shows
        return ready

    async def _wait(self, batch: Batch | None) -> None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        if batch is not None:
            batch.waiter = waiter
        if self._ready:
            self._start_lingering()
        try:
            await waiter
        finally:
            del self._waiters[waiter]
            if batch is not None:
                batch.waiter = None

    def expired(self, idle_s: float) -> bool:
        """Nobody has asked for answers for so long that nobody will."""
        return not self._waiters and self._now() - self.used_at > idle_s

    def close(self) -> None:
        """Send every open request home with what is ready; take no more batches in."""
        self._closed = True
        self._send_all_home()
        for early in self._early.values():
            early.set()
        self._early.clear()

    def _may_answer(self, batch: Batch | None) -> bool:
        if self._closed:
            return True
        return batch.remaining == 0 if batch else bool(self._ready) or self.unanswered == 0

    def _start_lingering(self) -> None:
        if self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(self._linger_s, self._wake_oldest)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _wake_oldest(self) -> None:
        oldest = next((waiter for waiter in self._waiters if not waiter.done()), None)
        if oldest is not None:
            self._wake(oldest)

    def _send_all_home(self) -> None:
        for waiter in list(self._waiters):
            self._wake(waiter)

    def _wake(self, waiter: Waiter) -> None:
        """It takes all that is ready, so nothing lingers any more."""
        self._stop_lingering()
        if not waiter.done():
            waiter.set_result(None)
