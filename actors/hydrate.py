"""Hydration: from nothing in memory to the current state of one aggregate.

Reads the newest usable snapshot, then replays the events after it, page by page. A snapshot that cannot be used
(another state schema, torn, undecodable) is passed over, never an error: the events are the truth, a snapshot only
a faster way there. The journal reads the next page while this one is applied, in slices, so that the loop turns.

Before this: the cell holds a permit. After this: the cell accepts commands.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from holdfast.journal.records import Fact, Load, Loaded, Snapshot, StreamId

from .aggregate import Aggregate
from .definition import Definition
from .errors import HydrationFailed

__all__ = ["Hydrated", "Loads", "at_once", "hydrate", "rest"]


SLICE = 125
"""Events that are applied in one turn of the event loop: a long stream must not keep its host from its other calls."""


class Loads(Protocol):
    """As much of a `Journal` as hydration needs."""

    def load(self, load: Load) -> "asyncio.Future[Loaded]":
        """See `Journal.load`."""
        ...


class Hydrated(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate at `version`. `snapshot_version`: where it started from (0: the first event).
    `rows_read`: snapshot and event rows that it took."""

    instance: Aggregate
    version: int
    snapshot_version: int
    rows_read: int


async def hydrate(
    definition: Definition,
    stream: StreamId,
    journal: Loads,
    *,
    owner: str = "",
    epoch: int = 0,
    version: int | None = None,
    page: int = 1000,
    use_snapshot: bool = True,
) -> Hydrated:
    """Bring one aggregate back as of `version` (None: now), reading as `owner` at `epoch` (empty: as a bystander).

    Memory is bounded by the state plus two pages of events. Raises `Fenced`, `CorruptRecord`, `HydrationFailed`,
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
    return await rest(definition, journal, load, await journal.load(load), version)


def at_once(definition: Definition, load: Load, loaded: Loaded) -> Hydrated | None:
    """What the first answer makes, if it is all that it takes, and little enough for one turn of the loop. None: that
    is for `rest` to find out. Raises `HydrationFailed`."""
    events, snapshot = loaded.events, loaded.snapshot
    instance = definition.new(load.stream.id) if snapshot is None else _restored(definition, snapshot)
    if instance is None or len(events) > SLICE:
        return None
    at = snapshot_version = instance.__dict__["_version"]
    if events:
        if events[0].version != at + 1:
            return None
        at += len(events)
    if at != loaded.head:
        return None
    definition.replay(instance, events)
    rows_read = len(events) + (snapshot is not None)
    return Hydrated(instance=instance, version=at, snapshot_version=snapshot_version, rows_read=rows_read)


async def rest(
    definition: Definition, journal: Loads, load: Load, loaded: Loaded, version: int | None = None
) -> Hydrated:
    """Go on from the first answer, which is `loaded`, to `version`."""
    stream = load.stream
    instance, rows_read = definition.new(stream.id), 0
    if loaded.snapshot is not None:
        rows_read = 1
        restored = _restored(definition, loaded.snapshot)
        if restored is None:  # our schema, yet not our state: start from the first event
            rows_read += len(loaded.events)
            loaded = await journal.load(replace(load, schema=""))
        else:
            instance = restored
    snapshot_version = at = instance.__dict__["_version"]
    target = loaded.head if version is None else min(version, loaded.head)
    while at < target:
        wanted = loaded.events[: target - at]
        _check_contiguous(stream, at, wanted)
        at += len(wanted)
        rows_read += len(wanted)
        following = journal.load(replace(load, schema="", after=at)) if at < target else None
        try:
            await _apply(definition, instance, wanted)
            loaded = await following if following else loaded
        finally:
            if following:
                following.cancel()  # nobody waits for it when the events before it cannot be applied
    return Hydrated(instance=instance, version=at, snapshot_version=snapshot_version, rows_read=rows_read)


async def _apply(definition: Definition, instance: Aggregate, events: Sequence[Fact]) -> None:
    for start in range(0, len(events), SLICE):
        if start:
            await asyncio.sleep(0)
        definition.replay(instance, events[start : start + SLICE])


def _restored(definition: Definition, snapshot: Snapshot) -> Aggregate | None:
    """The state that the snapshot holds; None if this code cannot read it."""
    instance = definition.new(snapshot.stream.id)
    try:
        definition.restore(instance, snapshot.payload, snapshot.version)
    except Exception:  # whatever is wrong with a cache, the truth is one read away
        return None
    return instance


def _check_contiguous(stream: StreamId, at: int, events: Sequence[Fact]) -> None:
    """The events right after version `at`, or `HydrationFailed`: with one missing, the state would be invented."""
    if not events or events[0].version != at + 1:
        raise HydrationFailed(str(stream), at + 1, 0, "the journal has later versions, and not this one")
    if events[-1].version != at + len(events):
        missing = next(v for v, e in enumerate(events, at + 1) if e.version != v)
        raise HydrationFailed(str(stream), missing, 0, "the journal has later versions, and not this one")
