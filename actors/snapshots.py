"""Snapshots: taken beside the hot path, never the truth, and never worth an error.

A snapshot is state at one version, encoded the moment a command has brought the aggregate there, and sent once the
events up to that version are durable. It is kept only if it restores to the same state; what would not (a tuple
in a bare `list`, say) is left to replay, and told once per type.
"""

import asyncio
from itertools import islice

from holdfast.journal.journal import Journal
from holdfast.journal.records import Snapshot, StreamId
from holdfast.journal.subject import Log, Subject

from .aggregate import Aggregate
from .definition import Definition

__all__ = ["SnapshotWriter", "take"]

log = Log(__name__)

BATCH_MAX, BATCH_BYTES_MAX = 100, 8 << 20


def take(definition: Definition, stream: StreamId, instance: Aggregate, version: int) -> Snapshot:
    """The state of `instance`, which is at `version`. Raises `ValueError`, or whatever the fields raise, if it would
    not come back as it is."""
    payload = definition.encode_state(instance)
    copy = definition.new(stream.id)
    definition.restore(copy, payload, version)
    if problem := definition.state_difference(instance, copy):
        raise ValueError(f"it does not come back as it is: {problem}")
    return Snapshot(stream=stream, version=version, schema=definition.schema, payload=payload)


class SnapshotWriter:
    """Sends snapshots to the journal in the background, one batch at a time, the newest of each stream only.

    `written`: how many were sent. What does not get through is let go: the next command that is due takes another.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        keep: int,
        bytes_max: int,
        waiting_max: int = 10_000,
        waiting_bytes_max: int = 256 << 20,
    ) -> None:
        """`keep`: snapshots that stay per stream. `bytes_max`: a larger one is not sent. `waiting_max`,
        `waiting_bytes_max`: streams, and bytes, that wait; beyond either new ones are let go."""
        self._journal, self._keep, self._bytes_max = journal, keep, bytes_max
        self._waiting_max, self._waiting_bytes_max = waiting_max, waiting_bytes_max
        self._waiting: dict[StreamId, Snapshot] = {}  # in the order of coming
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._put = self._over = 0  # entries that came, and that are over: sent, or given up
        self._progress = asyncio.Event()
        self._warned = False
        self.written = 0

    def take(self, definition: Definition, stream: StreamId, instance: Aggregate, version: int) -> Snapshot | None:
        """A snapshot of `instance`, which is at `version`; None if there can be none: it hurts nobody."""
        try:
            return take(definition, stream, instance, version)
        except Exception as error:
            tell = log.debug if self._warned else log.warning
            tell(Subject(*stream, version=version), "no snapshot, here and wherever the same holds: %s", error)
            self._warned = True
            return None

    def put(self, snapshot: Snapshot) -> None:
        """Queue a snapshot whose version is durable."""
        kept = self._journal.kept(snapshot)
        if kept is None:
            return
        snapshot = kept
        size, older = len(snapshot.payload), self._waiting.get(snapshot.stream)
        if size > self._bytes_max:
            subject = Subject(*snapshot.stream, version=snapshot.version)
            log.warning(subject, "no snapshot, its %d bytes are too many", size)
            return
        if older is not None:
            size -= len(older.payload)
        elif len(self._waiting) >= self._waiting_max:
            return
        if self._waiting_bytes + size > self._waiting_bytes_max:
            return
        self._put += older is None
        self._waiting[snapshot.stream] = snapshot
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def drain(self) -> None:
        """Wait until everything queued so far was sent, or given up."""
        target = self._put
        while self._over < target:
            self._progress.clear()
            await self._progress.wait()

    def close(self) -> None:
        """Let go of everything that was not sent yet."""
        self._over += len(self._waiting)
        self._waiting, self._waiting_bytes = {}, 0
        self._progress.set()

    async def _write(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            try:
                await self._journal.save_snapshots(batch, keep=self._keep)
                self.written += len(batch)
            except Exception as error:
                log.info(Subject(batch[0].stream.category), "%d snapshots were not written: %s", len(batch), error)
            finally:
                self._over += len(batch)
                self._progress.set()
        self._task = None

    def _next_batch(self) -> list[Snapshot]:
        """The oldest ones; over the limit of bytes only if it is a single one."""
        batch: list[Snapshot] = []
        size = 0
        for snapshot in islice(self._waiting.values(), BATCH_MAX):
            size += len(snapshot.payload)
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append(snapshot)
        for snapshot in batch:
            del self._waiting[snapshot.stream]
            self._waiting_bytes -= len(snapshot.payload)
        return batch
