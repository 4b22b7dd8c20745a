"""The journal's disk, and a store on it. What reached the disk stays, whoever dies; what did not is gone.

The disk is a log of transactions. One that was cut short is in it without its end, and whoever opens the disk next
drops it, as a database does with its write-ahead log. `SimulatedStore` keeps the promises of `Store` by the code of
the store in memory, and takes time for everything: a process that is killed before the moment of commit has written
nothing, and one that is killed after it has written everything, whoever was told.

The disk also looks on. It knows the claims by its own bookkeeping and notes every append that it takes, so that what
a store should have refused is found here, whether or not it did any harm.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from checkers import Durable, Written

from holdfast.journal.errors import JournalError, JournalFailed, JournalFull, JournalLocked, JournalUnavailable
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import (
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
from holdfast.journal.store import Store

from .clock import Process
from .faults import Faults

__all__ = ["Disk", "SimulatedStore"]

READ_MAX = 1_000_000


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@dataclass(slots=True)
class Entry:
    """One transaction of the log: which method of a store with which arguments. `whole`: its end is there too."""

    method: str
    args: tuple[Any, ...]
    how: dict[str, Any] = field(default_factory=dict)
    whole: bool = True


class Disk:
    """What lasts. `problems`: writes that should never have come this far."""

    def __init__(self, faults: Faults, beside: "Disk | None" = None) -> None:
        """`beside`: the disk of the journal's first partition. What is noted of all of them stands together."""
        self.faults = faults
        self.log: list[Entry] = []
        self.image = MemoryStore()
        self.holder: Process | None = None
        self.senders: dict[Append, str] = {}  # who sent which append, as the network saw it
        self.durable: list[Durable] = []
        self.written: list[Written] = []
        self.versions: dict[StreamId, int] = {}
        self.claims: dict[str, dict[int, str]] = {}
        self.problems: list[str] = []
        self.repairs = 0
        if beside is not None:
            self.senders, self.durable, self.written = beside.senders, beside.durable, beside.written
            self.versions, self.problems = beside.versions, beside.problems

    def take(self, process: Process) -> None:
        """Be its writer: the only one as long as that process lives. What was cut short is dropped."""
        holder = self.holder
        if holder is not None and holder is not process and not holder.dead:
            raise JournalLocked("simulated disk", holder.name)
        self.holder = process
        if any(not entry.whole for entry in self.log):
            self.repairs += 1
            self.log = [entry for entry in self.log if entry.whole]
        image = MemoryStore()
        for entry in self.log:
            at_once(getattr(image, entry.method)(*entry.args, **entry.how))
        self.image = image

    def commit(self, now: float, method: str, *args: Any, **how: Any) -> Any:
        """Carry a transaction out: the moment from which on it counts."""
        result = at_once(getattr(self.image, method)(*args, **how))
        self.log.append(Entry(method, args, how))
        if self.holder is not None:
            self.holder.clock.tell("on disk: %s%r: %r", method, args, result)
        if method == "append":
            self._look_at_appends(now, args[0], result)
        elif method == "claim":
            self._look_at_claim(*args, result)
        elif method == "save_checkpoint":
            self._look_at_checkpoint(*args)
        return result

    def tear(self, method: str, *args: Any, **how: Any) -> None:
        """Let a transaction reach the disk in part."""
        if method == "append":
            args = (args[0][: len(args[0]) // 2 + 1],)
        self.log.append(Entry(method, args, how, whole=False))

    def _look_at_appends(self, now: float, batch: Sequence[Append], results: Sequence[Any]) -> None:
        for append, result in zip(batch, results, strict=True):
            before = self.versions.get(append.stream, 0)
            if isinstance(result, Appended) and append.events and result.version > before:
                self._look_at_events(now, append, before, result.version)
        for stream in {append.stream: None for append in batch}:
            said = self.versions.get(stream, 0)
            beyond = at_once(self.image.read_stream(stream, after=said, limit=READ_MAX))
            if beyond:
                self.problems.append(f"{stream}: {len(beyond)} events were written that nobody was told of")

    def _look_at_events(self, now: float, append: Append, before: int, after: int) -> None:
        stream, current = str(append.stream), max(self.claims.get(append.owner, {}), default=0)
        self.versions[append.stream] = after
        self.durable.append(Durable(time=now, stream=stream, version=after))
        sender = self.senders.get(append, "nobody")
        self.written.append(
            Written(stream=stream, version=after, owner=append.owner, epoch=append.epoch, incarnation=sender)
        )
        if append.epoch != current:
            self.problems.append(f"{stream}: epoch {append.epoch} of {append.owner} wrote after claim {current}")
        if append.expected_version != before:
            self.problems.append(f"{stream}: written onto version {before}, meant for {append.expected_version}")

    def _look_at_checkpoint(self, checkpoint: Checkpoint) -> None:
        current = max(self.claims.get(checkpoint.owner, {}), default=0)
        if checkpoint.epoch != current:
            what = f"epoch {checkpoint.epoch} of {checkpoint.owner} moved the checkpoint {checkpoint.name}"
            self.problems.append(f"{what} after claim {current}")

    def _look_at_claim(self, owner: str, incarnation: str, brought: int, epoch: int) -> None:
        claims = self.claims.setdefault(owner, {})
        newest = max(claims, default=0)
        drawn = next((e for e, claimed_by in claims.items() if claimed_by == incarnation), newest + 1)
        if epoch != (brought or drawn):
            self.problems.append(f"{owner}: epoch {epoch} was given to claim {brought or drawn}")
        if brought and (brought < newest or claims.get(brought, incarnation) != incarnation):
            self.problems.append(f"{owner}: epoch {brought} was taken from {incarnation} after {newest}")
        claims[epoch] = incarnation


class SimulatedStore(Store):
    """A store on the disk, as one process opened it."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._faults = disk, disk.faults
        self._writing = asyncio.Lock()  # one writer connection

    @property
    def _image(self) -> MemoryStore:
        return self._disk.image

    async def open(self) -> None:
        await asyncio.sleep(self._faults.disk_open_s())
        self._disk.take(_here())

    async def close(self) -> None:
        if self._disk.holder is _here():
            self._disk.holder = None

    async def _write(self, method: str, *args: Any, **how: Any) -> Any:
        async with self._writing:
            faults = self._faults
            await asyncio.sleep(faults.disk_write_s())
            trouble = faults.disk_trouble()
            if trouble == "disk full":
                raise JournalFull("no room")
            if trouble == "disk fails":
                raise JournalFailed("input/output error")
            if trouble == "disk tears":
                self._disk.tear(method, *args, **how)
                raise JournalFailed("input/output error, half way")
            result = self._disk.commit(_here().clock.now, method, *args, **how)
            faults.committed(_here())
            await asyncio.sleep(faults.disk_write_s() / 2)
            if trouble == "disk commits unheard":
                raise JournalUnavailable("the disk did not say")
            return result

    async def _read(self, read: Callable[[MemoryStore], Coroutine[Any, Any, Any]]) -> Any:
        await asyncio.sleep(self._faults.disk_read_s())
        return at_once(read(self._image))

    # Writing

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        return int(await self._write("claim", owner, incarnation, epoch))

    async def register(self, category: str, placement: str, code: str) -> Registration:
        registration: Registration = await self._write("register", category, placement, code)
        return registration

    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        results: list[Appended | JournalError] = await self._write("append", list(batch))
        return results

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        await self._write("save_snapshots", list(batch), keep=keep)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        await self._write("save_checkpoint", checkpoint)

    # Reading

    async def confirm(self, owner: str, epoch: int) -> None:
        await self._read(lambda image: image.confirm(owner, epoch))

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        loaded: list[Loaded | JournalError] = await self._read(lambda image: image.load(batch))
        return loaded

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        page: list[Recorded] = await self._read(
            lambda image: image.read_stream(stream, after=after, limit=limit, backward=backward)
        )
        return page

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        page: list[Recorded] = await self._read(
            lambda image: image.read_all(after=after, limit=limit, category=category)
        )
        return page

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        found: dict[str, StoredReply] = await self._read(lambda image: image.find_replies(stream, ids, window=window))
        return found

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        found: dict[str, StoredReply] = await self._read(lambda image: image.find_keyed(stream, keys))
        return found

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        found: list[Snapshot] = await self._read(lambda image: image.list_snapshots(stream))
        return found

    async def find_checkpoint(self, name: str) -> int:
        return int(await self._read(lambda image: image.find_checkpoint(name)))

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        found: list[Reminder] = await self._read(
            lambda image: image.due_reminders(category=category, until=until, limit=limit, after=after)
        )
        return found

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        page: list[tuple[StreamId, int]] = await self._read(
            lambda image: image.list_streams(category=category, after=after, limit=limit)
        )
        return page

    async def head(self) -> int:
        return int(await self._read(lambda image: image.head()))

    async def statistics(self) -> StoreStatistics:
        found: StoreStatistics = await self._read(lambda image: image.statistics())
        return found


def _here() -> Process:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Process)
    return loop
