"""Hydration: from nothing in memory to the current state of one aggregate.

Reads the newest usable snapshot, then replays the events after it, page by page. A snapshot that cannot be used
(another state schema, torn, undecodable) is passed over, never an error: the events are the truth, a snapshot only
a faster way there.

Before this: the cell holds a permit. After this: the cell accepts commands.
"""

from dataclasses import dataclass

from holdfast.journal.client import JournalClient
from holdfast.journal.records import Load, Loaded, StreamId

from .aggregate import Aggregate
from .definition import Definition

__all__ = ["Hydrated", "hydrate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hydrated:
    """An aggregate at `version`. `snapshot_version`: where it started from (0: the first event).
    `rows_read`: snapshot and event rows that it took."""

    instance: Aggregate
    version: int
    snapshot_version: int
    rows_read: int


async def hydrate(
    definition: Definition,
    stream: StreamId,
    journal: JournalClient,
    *,
    owner: str = "",
    epoch: int = 0,
    version: int | None = None,
    page: int = 1000,
    use_snapshot: bool = True,
) -> Hydrated:
    """Bring one aggregate back as of `version` (None: now), reading as `owner` at `epoch` (empty: as a bystander).

    Memory is bounded by the state plus one page of events. Raises `Fenced`, `CorruptRecord`, `HydrationFailed`,
    `JournalUnavailable`.
    """
    load = Load(
        stream=stream,
        owner=owner,
        epoch=epoch,
        schema=definition.schema if use_snapshot else "",
        snapshot_max=version,
        limit=page,
    )
    loaded = await journal.load(load)
    rows_read, instance, at = 0, definition.new(stream.id), 0
    if loaded.snapshot is not None:
        rows_read += 1
        restored = _restored(definition, loaded)
        if restored is None:  # our schema, yet not our state: start from the first event
            return await hydrate(
                definition, stream, journal, owner=owner, epoch=epoch, version=version, page=page, use_snapshot=False
            )
        instance, at = restored, loaded.snapshot.version
    snapshot_version, events = at, loaded.events
    target = loaded.head if version is None else min(version, loaded.head)
    while at < target:
        wanted = events[: target - at]
        assert wanted and wanted[0].version == at + 1, f"{stream}: a gap after version {at}"
        definition.replay(instance, wanted)
        at += len(wanted)
        rows_read += len(wanted)
        if at < target:
            events = tuple(await journal.read_stream(stream, after=at, limit=page))
    return Hydrated(instance=instance, version=at, snapshot_version=snapshot_version, rows_read=rows_read)


def _restored(definition: Definition, loaded: Loaded) -> Aggregate | None:
    """The state that the snapshot holds; None if this code cannot read it."""
    assert loaded.snapshot is not None
    instance = definition.new(loaded.snapshot.stream.id)
    try:
        definition.restore(instance, loaded.snapshot.payload, loaded.snapshot.version)
    except Exception:  # whatever is wrong with a cache, the truth is one read away
        return None
    return instance
