"""A store that fails on demand, for tests of what stands on top of a journal.

    store = FaultyStore(MemoryStore())
    store.fail("append")                         # the next append raises JournalFailed, nothing is written
    store.reject(VersionConflict("a/1", 0, 1))   # the next append is answered with this error, nothing is written
    store.lose("append")                         # the next append is written, and nobody hears of it
    with store.hold("append") as held:           # appends wait at the door until the block is left
        task = asyncio.create_task(...)
        await held.reached.wait()

Faults are used up one by one, in the order in which they were asked for. Nothing here looks at a clock: a test
that must see something slow holds it, looks, and lets it go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from .errors import JournalError, JournalFailed, JournalUnavailable
from .records import (
    Append,
    Appended,
    Checkpoint,
    Load,
    Loaded,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .store import Store

__all__ = ["FaultyStore", "Held"]

_T = TypeVar("_T")

_METHODS = frozenset(Store.__abstractmethods__)


class Held:
    """A door in front of a method, or behind it. Leave the `with` block, or call `release`, to open it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set when the first call stands at the door."""
        self.waiting = 0
        """How many calls stand there now."""
        self._open = asyncio.Event()

    def release(self) -> None:
        """Let everybody through, now and from now on."""
        self._open.set()

    async def _pass(self) -> None:
        if self._open.is_set():
            return
        self.waiting += 1
        self.reached.set()
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@dataclass(slots=True, kw_only=True)
class _Fault:
    """What is to happen to the next `times` calls of `method` that concern `streams` (None: to any)."""

    method: str
    streams: frozenset[StreamId] | None
    times: int
    before: JournalError | None = None
    after: JournalError | None = None
    answer: JournalError | None = None


@dataclass(slots=True, kw_only=True)
class _Door:
    method: str
    streams: frozenset[StreamId] | None
    held: Held
    after: bool = field(default=False)


class FaultyStore(Store):
    """Passes every call on to another store, except for what a test asked to go wrong.

    `streams` limits a fault to calls that concern one of these streams: for a batch, to a batch in which one of
    them stands. `calls` counts the calls of each method, those that were made to fail included.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._faults: list[_Fault] = []
        self._doors: list[_Door] = []
        self.calls: dict[str, int] = dict.fromkeys(sorted(_METHODS), 0)

    # What goes wrong

    def fail(
        self,
        method: str,
        *,
        times: int = 1,
        streams: Sequence[StreamId] | None = None,
        error: JournalError | None = None,
    ) -> None:
        """The next `times` calls raise `error` (default: `JournalFailed`) and do nothing."""
        self._add(method, streams, times, before=error or JournalFailed("a test said so"))

    def lose(
        self,
        method: str,
        *,
        times: int = 1,
        streams: Sequence[StreamId] | None = None,
        error: JournalError | None = None,
    ) -> None:
        """The next `times` calls do their work, and then raise `error` (default: `JournalUnavailable`)."""
        self._add(method, streams, times, after=error or JournalUnavailable("a test lost the answer"))

    def reject(
        self,
        error: JournalError,
        *,
        method: str = "append",
        times: int = 1,
        streams: Sequence[StreamId] | None = None,
    ) -> None:
        """The next `times` appends (or loads) are answered with `error` in their places and do nothing.

        Counts single appends, not batches: their neighbours in the batch are passed on.
        """
        if method not in ("append", "load"):
            raise ValueError(f"only the answers of append and load hold errors, not those of {method}")
        self._add(method, streams, times, answer=error)

    def hold(self, method: str, *, after: bool = False, streams: Sequence[StreamId] | None = None) -> Held:
        """Calls wait until the door is opened: before their work is done or, with `after`, before its answer."""
        held = Held()
        self._doors.append(_Door(method=_known(method), streams=_set(streams), held=held, after=after))
        return held

    def heal(self) -> None:
        """Forget all faults that are left, and open all doors."""
        self._faults.clear()
        for door in self._doors:
            door.held.release()
        self._doors.clear()

    def _add(
        self,
        method: str,
        streams: Sequence[StreamId] | None,
        times: int,
        *,
        before: JournalError | None = None,
        after: JournalError | None = None,
        answer: JournalError | None = None,
    ) -> None:
        fault = _Fault(
            method=_known(method),
            streams=_set(streams),
            times=times,
            before=before,
            after=after,
            answer=answer,
        )
        self._faults.append(fault)

    async def _call(self, method: str, streams: Sequence[StreamId], work: Callable[[], Awaitable[_T]]) -> _T:
        self.calls[method] += 1
        await self._pass_doors(method, streams, after=False)
        fault = self._next_fault(method, streams, answers=False)
        if fault and fault.before:
            raise fault.before
        result = await work()
        await self._pass_doors(method, streams, after=True)
        if fault and fault.after:
            raise fault.after
        return result

    async def _pass_doors(self, method: str, streams: Sequence[StreamId], *, after: bool) -> None:
        for door in list(self._doors):
            if door.method == method and door.after == after and _concerns(door.streams, streams):
                await door.held._pass()  # pyright: ignore[reportPrivateUsage]

    def _next_fault(self, method: str, streams: Sequence[StreamId], *, answers: bool) -> _Fault | None:
        for fault in self._faults:
            if fault.method == method and (fault.answer is not None) == answers:
                if not _concerns(fault.streams, streams):
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def _rejections(self, method: str, streams: Sequence[StreamId]) -> dict[int, JournalError]:
        """The places in a batch that are answered with an error, and that error."""
        rejected: dict[int, JournalError] = {}
        for place, stream in enumerate(streams):
            fault = self._next_fault(method, [stream], answers=True)
            if fault and fault.answer:
                rejected[place] = fault.answer
        return rejected

    # The store

    async def open(self) -> None:
        await self._call("open", (), self._store.open)

    async def close(self) -> None:
        await self._call("close", (), self._store.close)

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        return await self._call("claim", (), lambda: self._store.claim(owner, incarnation, epoch))

    async def confirm(self, owner: str, epoch: int) -> None:
        await self._call("confirm", (), lambda: self._store.confirm(owner, epoch))

    async def register(self, category: str, placement: str, code: str) -> Registration:
        return await self._call("register", (), lambda: self._store.register(category, placement, code))

    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        streams = [append.stream for append in batch]

        async def work() -> list[Appended | JournalError]:
            rejected = self._rejections("append", streams)
            passed = [append for place, append in enumerate(batch) if place not in rejected]
            return _merge(len(batch), rejected, await self._store.append(passed))

        return await self._call("append", streams, work)

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        streams = [load.stream for load in batch]

        async def work() -> list[Loaded | JournalError]:
            rejected = self._rejections("load", streams)
            passed = [load for place, load in enumerate(batch) if place not in rejected]
            return _merge(len(batch), rejected, await self._store.load(passed))

        return await self._call("load", streams, work)

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        return await self._call(
            "read_stream",
            [stream],
            lambda: self._store.read_stream(stream, after=after, limit=limit, backward=backward),
        )

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._call(
            "read_all", (), lambda: self._store.read_all(after=after, limit=limit, category=category)
        )

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        return await self._call("find_replies", [stream], lambda: self._store.find_replies(stream, ids, window=window))

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        return await self._call("find_keyed", [stream], lambda: self._store.find_keyed(stream, keys))

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        streams = [snapshot.stream for snapshot in batch]
        await self._call("save_snapshots", streams, lambda: self._store.save_snapshots(batch, keep=keep))

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        return await self._call("list_snapshots", [stream], lambda: self._store.list_snapshots(stream))

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        await self._call("save_checkpoint", (), lambda: self._store.save_checkpoint(checkpoint))

    async def find_checkpoint(self, name: str) -> int:
        return await self._call("find_checkpoint", (), lambda: self._store.find_checkpoint(name))

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        return await self._call(
            "due_reminders",
            (),
            lambda: self._store.due_reminders(category=category, until=until, limit=limit, after=after),
        )

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        return await self._call(
            "list_streams", (), lambda: self._store.list_streams(category=category, after=after, limit=limit)
        )

    async def head(self) -> int:
        return await self._call("head", (), self._store.head)

    async def statistics(self) -> StoreStatistics:
        return await self._call("statistics", (), self._store.statistics)


def _known(method: str) -> str:
    if method not in _METHODS:
        raise ValueError(f"a store has no method {method!r}; it has {', '.join(sorted(_METHODS))}")
    return method


def _set(streams: Sequence[StreamId] | None) -> frozenset[StreamId] | None:
    return None if streams is None else frozenset(streams)


def _concerns(wanted: frozenset[StreamId] | None, streams: Sequence[StreamId]) -> bool:
    return wanted is None or any(stream in wanted for stream in streams)


def _merge(
    count: int, rejected: dict[int, JournalError], answers: Sequence[_T | JournalError]
) -> list[_T | JournalError]:
    """The answers of those that were passed on, with the errors of the others in their places."""
    passed = iter(answers)
    return [rejected[place] if place in rejected else next(passed) for place in range(count)]
