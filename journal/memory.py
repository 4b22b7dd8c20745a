"""The journal in memory: the reference that every other store is compared with.

Written to be read, not to be fast: each promise of `store.py` is one plain expression here. Nothing survives
the process, and nothing can rot, so there are no checksums. Good for tests and for notebooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from .errors import CodecError, DuplicateKey, Fenced, JournalError, PlacementConflict, Unstorable, VersionConflict
from .pages import answer_loads, bounded, page_of, weight
from .records import (
    Append,
    Appended,
    Checkpoint,
    Fact,
    KeyedReply,
    Load,
    Loaded,
    NewEvent,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
    recorded,
)
from .reminders import REMINDER_TYPES, Change, change_of
from .store import Store

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Stream:
    events: list[Recorded] = field(default_factory=list[Recorded])  # version v stands at index v - 1
    keys: dict[str, KeyedReply] = field(default_factory=dict[str, KeyedReply])
    snapshots: list[Snapshot] = field(default_factory=list[Snapshot])  # newest first
    reminders: dict[str, int] = field(default_factory=dict[str, int])  # pending: when each name is due

    @property
    def version(self) -> int:
        return len(self.events)


class MemoryStore(Store):
    """A `Store` that lives and dies with the process. Opening and closing it change nothing."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []  # position p stands at index p - 1
        self._streams: dict[StreamId, _Stream] = {}
        self._claims: dict[str, dict[int, str]] = {}  # owner: its incarnations by epoch, the newest last
        self._registrations: dict[str, Registration] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._appends = self._commits = self._rows_read = self._fenced = self._conflicts = 0

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._events)} events>"

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    # Owners and aggregate types

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        assert owner, "an owner has a name: the empty one means a bystander"
        claims = self._claims.setdefault(owner, {})
        newest = next(reversed(claims), 0)
        if epoch and (epoch < newest or claims.get(epoch, incarnation) != incarnation):
            raise Fenced(owner, epoch, newest)
        known = next((e for e in reversed(claims) if claims[e] == incarnation), newest + 1)
        claims[epoch or known] = incarnation
        return epoch or known

    async def confirm(self, owner: str, epoch: int) -> None:
        if fenced := self._check_epoch(owner, epoch):
            raise fenced

    def _check_epoch(self, owner: str, epoch: int) -> Fenced | None:
        current = next(reversed(self._claims.get(owner, {})), 0)
        if current and epoch == current:
            return None
        self._fenced += 1
        return Fenced(owner, epoch, current)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        known = self._registrations.get(category)
        if known is None:
            known = Registration(category=category, placement=placement, code=code, generation=1)
        elif known.placement != placement:
            raise PlacementConflict(category, known.placement, placement)
        elif code and known.code != code:
            known = Registration(category=category, placement=placement, code=code, generation=known.generation + 1)
        self._registrations[category] = known
        return known

    # Writing

    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        written = self._appends
        results = [self._append(append) for append in batch]
        self._commits += self._appends > written
        return results

    def _append(self, append: Append) -> Appended | JournalError:
        if fenced := self._check_epoch(append.owner, append.epoch):
            return fenced
        stream = self._streams.get(append.stream) or _Stream()
        if (before := self._written_before(stream, append)) is not None:
            return before
        if append.expected_version != stream.version:
            self._conflicts += 1
            return VersionConflict(str(append.stream), append.expected_version, stream.version)
        if (key := _duplicate_key(stream, append)) is not None:
            return DuplicateKey(str(append.stream), key)
        if not append.events and not append.keys:
            return Appended(version=stream.version, position=0)
        try:
            changes = [change_of(event.payload) for event in append.events if event.type in REMINDER_TYPES]
        except CodecError as error:
            return Unstorable(str(append.stream), str(error))
        self._appends += 1
        return self._write(self._streams.setdefault(append.stream, stream), append, changes)

    def _written_before(self, stream: _Stream, append: Append) -> Appended | None:
        """The answer this append got the first time, if it is one sent again."""
        first, last = append.expected_version, append.expected_version + len(append.events)
        there = stream.events[first:last] if first >= 0 else []
        same_events = list(map(_content, there)) == list(map(_content, append.events))
        same_keys = all(stream.keys.get(reply.key) == reply for reply in append.keys)
        if not (append.events or append.keys) or not same_events or not same_keys:
            return None
        return Appended(version=last, position=there[-1].position if there else 0)

    def _write(self, stream: _Stream, append: Append, changes: Sequence[Change]) -> Appended:
        for event in append.events:
            position, version = len(self._events) + 1, stream.version + 1
            record = recorded(event, append.stream, version, position)
            self._events.append(record)
            stream.events.append(record)
        stream.keys.update((reply.key, reply) for reply in append.keys)
        for name, due in changes:
            stream.reminders.pop(name, None)
            if due is not None:
                stream.reminders[name] = due
        return Appended(version=stream.version, position=len(self._events) if append.events else 0)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        if fenced := self._check_epoch(checkpoint.owner, checkpoint.epoch):
            raise fenced
        self._checkpoints[checkpoint.name] = checkpoint

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        for snapshot in batch:
            stream = self._streams.get(snapshot.stream)
            if stream is None or snapshot.version > stream.version:
                continue
            if all((old.version, old.schema) != (snapshot.version, snapshot.schema) for old in stream.snapshots):
                # The sort is stable: of two at the same version, the one that was saved last comes first.
                newest_first = sorted([snapshot, *stream.snapshots], key=attrgetter("version"), reverse=True)
                stream.snapshots = newest_first[:keep]

    # Reading

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        return answer_loads(batch, self._load)

    def _load(self, load: Load) -> tuple[Loaded | JournalError, int]:
        if load.owner and (fenced := self._check_epoch(load.owner, load.epoch)):
            return fenced, 0
        stream = self._streams.get(load.stream) or _Stream()
        snapshot = _usable_snapshot(stream, load)
        start = snapshot.version if snapshot else bounded(load.after)
        events = page_of(stream.events[start : start + bounded(load.limit)])
        self._rows_read += len(events) + (snapshot is not None)
        size = sum(map(weight, events)) + (len(snapshot.payload) if snapshot else 0)
        return Loaded(snapshot=snapshot, events=tuple(map(_fact, events)), head=stream.version), size

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        events, after, limit = (self._streams.get(stream) or _Stream()).events, bounded(after), bounded(limit)
        if backward:
            end = min(after - 1, len(events)) if after else len(events)
            return self._count(events[max(end - limit, 0) : end][::-1])
        return self._count(events[after : after + limit])

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        after, limit = bounded(after), bounded(limit)
        if category is None:
            return self._count(self._events[after : after + limit])
        later = islice(self._events, after, None)
        return self._count(list(islice((e for e in later if e.stream.category == category), limit)))

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        events = (self._streams.get(stream) or _Stream()).events
        newest = [event for event in events if event.version > len(events) - window]
        return {
            event.command_id: StoredReply(version=event.version, reply=event.reply)
            for event in newest
            if event.command_id in ids and event.reply is not None
        }

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        known = (self._streams.get(stream) or _Stream()).keys
        return {
            key: StoredReply(version=reply.version, reply=reply.reply, fingerprint=reply.fingerprint)
            for key, reply in known.items()
            if key in keys
        }

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        snapshots = list((self._streams.get(stream) or _Stream()).snapshots)
        self._rows_read += len(snapshots)
        return snapshots

    async def find_checkpoint(self, name: str) -> int:
        checkpoint = self._checkpoints.get(name)
        return checkpoint.position if checkpoint else 0

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        due = [
            Reminder(stream=name, name=reminder, due=due)
            for name, stream in self._streams.items()
            for reminder, due in stream.reminders.items()
            if name.category == category and due <= until
        ]
        later = [reminder for reminder in due if after is None or _order(reminder) > _order(after)]
        return sorted(later, key=_order)[: bounded(limit)]

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        names = [name for name in self._streams if category is None or name.category == category]
        later = sorted(name for name in names if after is None or name > after)
        return [(name, self._streams[name].version) for name in later[: bounded(limit)]]

    async def head(self) -> int:
        return len(self._events)

    def keyed_replies(self) -> list[tuple[StreamId, KeyedReply]]:
        """All of them, for an export: the other stores are read beside their writer."""
        return [(name, reply) for name, stream in self._streams.items() for reply in stream.keys.values()]

    def checkpoints(self) -> list[Checkpoint]:
        """All of them, for an export."""
        return list(self._checkpoints.values())

    async def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            streams=len(self._streams),
            events=len(self._events),
            snapshots=sum(len(stream.snapshots) for stream in self._streams.values()),
            bytes_on_disk=0,
            appends=self._appends,
            commits=self._commits,
            rows_read=self._rows_read,
            fenced=self._fenced,
            conflicts=self._conflicts,
        )

    def _count(self, events: list[Recorded]) -> list[Recorded]:
        page = page_of(events)
        self._rows_read += len(page)
        return page


def _fact(event: Recorded) -> Fact:
    return Fact(position=event.position, version=event.version, type=event.type, payload=event.payload)


def _order(reminder: Reminder) -> tuple[int, StreamId, str]:
    return reminder.due, reminder.stream, reminder.name


def _content(event: NewEvent | Recorded) -> tuple[str, bytes, str, int, bytes, bytes | None]:
    return event.type, event.payload, event.command_id, event.recorded_at, event.metadata, event.reply


def _duplicate_key(stream: _Stream, append: Append) -> str | None:
    seen = set(stream.keys)
    for reply in append.keys:
        if reply.key in seen:
            return reply.key
        seen.add(reply.key)
    return None


def _usable_snapshot(stream: _Stream, load: Load) -> Snapshot | None:
    if not load.schema or load.after:
        return None
    newest = stream.version if load.snapshot_max is None else load.snapshot_max
    return next((s for s in stream.snapshots if s.schema == load.schema and s.version <= newest), None)
