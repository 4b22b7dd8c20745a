"""Snapshots: taken beside the hot path, never the truth, and never worth an error.

A snapshot is state at one version, encoded the moment a command has brought the aggregate there, and sent once the
events up to that version are durable. It is kept only if it restores to the same state; what would not (a tuple
in a bare `list`, say) is left to replay, and told once per type.
"""

import asyncio
import logging
from collections.abc import Callable

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import HoldfastError
from holdfast.journal.records import Snapshot, StreamId

from .aggregate import Aggregate
from .definition import Definition

__all__ = ["SnapshotWriter", "take"]

log = logging.getLogger(__name__)


def take(definition: Definition, stream: StreamId, instance: Aggregate, version: int) -> Snapshot | None:
    """The state of `instance`, which is at `version`; None if it would not come back as it is."""
    try:
        payload = definition.encode_state(instance)
        copy = definition.new(stream.id)
        definition.restore(copy, payload, version)
    except Exception as error:  # a snapshot that fails hurts nobody: the events are there
        log.warning("%s@%d: no snapshot, its state does not serialize: %s", stream, version, error)
        return None
    if not definition.same_state(instance, copy):
        log.warning("%s@%d: no snapshot, its state does not survive serialization", stream, version)
        return None
    return Snapshot(stream=stream, version=version, schema=definition.schema, payload=payload)


class SnapshotWriter:
    """Sends snapshots to the journal in the background, one batch at a time, the newest of each stream only."""

    def __init__(self, journal: JournalClient, *, keep: int, bytes_max: int, waiting_max: int = 10_000) -> None:
        """`keep`: snapshots that stay per stream. `bytes_max`: a larger one is not sent. `waiting_max`: streams
        waiting; beyond it new ones are let go, since the next command that is due takes another."""
        self._journal, self._keep = journal, keep
        self._bytes_max, self._waiting_max = bytes_max, waiting_max
        self._waiting: dict[StreamId, Snapshot] = {}
        self._task: asyncio.Task[None] | None = None
        self.written = 0

    def put(self, snapshot: Snapshot, then: Callable[[], None] | None = None) -> None:
        """Queue a snapshot whose version is durable."""
        if len(snapshot.payload) > self._bytes_max:
            log.warning("%s@%d: no snapshot, %d bytes", snapshot.stream, snapshot.version, len(snapshot.payload))
            return
        if len(self._waiting) >= self._waiting_max and snapshot.stream not in self._waiting:
            return
        self._waiting[snapshot.stream] = snapshot
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def drain(self) -> None:
        """Wait until everything queued so far was sent, or given up."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.pop(stream) for stream in list(self._waiting)[:100]]
                try:
                    await self._journal.save_snapshots(batch, keep=self._keep)
                    self.written += len(batch)
                except HoldfastError as error:
                    log.info("%d snapshots were not written: %s", len(batch), error)
        finally:
            self._task = None
