"""The queue shape that turns load into batches: send at once when idle, collect while a batch is in flight.

It stands three times on a command's way: from client to host (its variant with sessions), from host to journal,
and in front of the disk, where it is the group commit. Nothing ever waits for a timer: a lone request goes out
in the same turn of the event loop, and a crowd gathers exactly as long as the one before it takes.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from .errors import JournalBusy, JournalUnavailable

__all__ = ["Answered", "Batcher"]

T = TypeVar("T")
R = TypeVar("R")

Answered: TypeAlias = Callable[[R | Exception], None]
"""Gets the result of an item, or its error."""

_Waiting: TypeAlias = tuple[T, int, Answered[R]]


class Batcher(Generic[T, R]):
    """Hands items to `send` in batches; whoever waits for an item gets its own result, or its own error.

    `send` receives the items in order of arrival and answers in that order; an exception among the results is
    raised to that item alone, one raised by `send` to the whole batch. At most `in_flight_max` batches are under
    way, each of at most `batch_max` items and about `batch_bytes_max` bytes. Beyond `waiting_max` items or
    `waiting_bytes_max` bytes, `submit` and `put` raise `JournalBusy`.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        *,
        in_flight_max: int = 1,
        batch_max: int = 1000,
        batch_bytes_max: int = 8 << 20,
        waiting_max: int = 100_000,
        waiting_bytes_max: int = 256 << 20,
    ) -> None:
        self.name = name
        self.batches = 0
        self.items = 0
        self._send = send
        self._in_flight_max, self._batch_max, self._batch_bytes_max = in_flight_max, batch_max, batch_bytes_max
        self._waiting_max, self._waiting_bytes_max = waiting_max, waiting_bytes_max
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._waiting_bytes = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, item: T, size: int = 0) -> "asyncio.Future[R]":
        """Queue one item of about `size` bytes. The future may be cancelled; the item is sent all the same. Raises
        `JournalBusy`."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.put(item, size, partial(_tell, future))
        return future

    def put(self, item: T, size: int, answered: "Answered[R]") -> None:
        """Queue one item, and have `answered` called once, with its result or its error; never from within this call.
        Raises `JournalBusy`; `answered` is not called then. A tenth of the price of a future, for callers that have
        thousands under way."""
        if len(self._waiting) >= self._waiting_max:
            raise JournalBusy(f"{self.name} queue (items)", self._waiting_max)
        if self._waiting_bytes > self._waiting_bytes_max:
            raise JournalBusy(f"{self.name} queue (bytes)", self._waiting_bytes_max)
        self._waiting.append((item, size, answered))
        self._waiting_bytes += size
        if not self._scheduled and len(self._in_flight) < self._in_flight_max:
            self._scheduled = True
            # At the end of this turn, so that one turn's items go together.
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight."""
        while self._waiting or self._in_flight:
            if self._in_flight:
                await asyncio.wait(set(self._in_flight))
            else:
                await asyncio.sleep(0)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._in_flight) < self._in_flight_max:
            task = asyncio.get_running_loop().create_task(self._carry(self._take()))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _take(self) -> "list[_Waiting[T, R]]":
        """The next batch: never empty, and over its byte limit only if a single item is."""
        batch = [self._waiting.popleft()]
        size = batch[0][1]
        while self._waiting and len(batch) < self._batch_max:
            if size + self._waiting[0][1] > self._batch_bytes_max:
                break
            batch.append(self._waiting.popleft())
            size += batch[-1][1]
        self._waiting_bytes -= size
        return batch

    async def _carry(self, batch: "list[_Waiting[T, R]]") -> None:
        self.batches += 1
        self.items += len(batch)
        try:
            results = await self._send([item for item, _, _ in batch])
            assert len(results) == len(batch), f"{self.name}: {len(batch)} sent, {len(results)} answered"
        except Exception as error:
            results = [_own(error) for _ in batch]
        except BaseException:  # the loop is ending: whoever waits must not wait for ever
            given_up, self._waiting, self._waiting_bytes = (*batch, *self._waiting), deque(), 0
            for _, _, answered in given_up:
                self._answer(answered, JournalUnavailable("the request was cancelled"))
            raise
        for (_, _, answered), result in zip(batch, results, strict=True):
            self._answer(answered, result)

    def _answer(self, answered: "Answered[R]", result: R | Exception) -> None:
        try:
            answered(result)
        except Exception as error:  # a bug of whoever asked; the others get their answers all the same
            context = {"message": f"{self.name}: a bug in what was told an answer", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self._in_flight.discard(task)
        if task.cancelled():
            return
        self._flush()


def _tell(future: "asyncio.Future[R]", result: R | Exception) -> None:
    if future.done():  # its waiter was cancelled
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _own(error: Exception) -> Exception:
    """Each waiter raises one of its own: a traceback, and notes, grow wherever an exception is raised."""
    try:
        own = copy.copy(error)
    except Exception:  # its constructor wants something else than its arguments
        return error
    own.__cause__ = error.__cause__
    return own
