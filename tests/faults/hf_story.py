"""One life of a journal, as an owner with a few streams lives it; and what must hold of the file afterwards.

The owner does what hosts do: after an append that was not acknowledged it forgets what it knew, loads the stream
again and goes on from there. It remembers what it was told, and lets nothing but `JournalError` pass as a failure.
Each command sets a reminder or takes one back, so that the index of those that are pending lives through it all too.
"""

from dataclasses import dataclass, field

import msgspec
from reminder_fold import folded, indexed

from holdfast.journal.errors import JournalError, JournalFailed, VersionConflict
from holdfast.journal.records import Append, Appended, KeyedReply, Load, NewEvent, Snapshot, StreamId
from holdfast.journal.reminders import SET
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions

STREAMS = [StreamId("Account", name) for name in ("alice", "bob", "carol")]


def payload_of(number: int) -> bytes:
    """That of a command's events: it sets a reminder, the next one of the same stream takes it back."""
    return msgspec.msgpack.encode({"name": "renew", "due": number if number % 2 else None, "amount": b"x" * 1280})


@dataclass
class Story:
    """What an owner was told. `told`: command id -> stream and version. `refused`: what certainly was not written."""

    told: dict[str, tuple[StreamId, int]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    errors: list[JournalError] = field(default_factory=list)
    epoch: int = 0
    next: int = 0
    heads: dict[StreamId, int | None] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))

    async def live(self, store, rounds: int, on_told=lambda told: None) -> None:
        """Append to all streams, again and again, with keyed replies and snapshots in between."""
        for number in range(rounds):
            if not self.epoch and not await self.claims(store):
                continue
            await self.hydrate(store)
            await self.append(store, on_told)
            if number % 4 == 3:
                await self.attempt(store.save_snapshots(self.snapshots()))
            if number % 5 == 4:
                await self.attempt(store.read_all(after=number))

    async def attempt(self, doing):
        """The answer, or None and the error kept."""
        try:
            return await doing
        except JournalError as error:
            self.errors.append(error)
            return None

    async def claims(self, store) -> bool:
        self.epoch = await self.attempt(store.claim("host", "incarnation")) or 0
        return bool(self.epoch)

    async def hydrate(self, store) -> None:
        """Learn the versions of the streams that this owner is not sure of."""
        unsure = [stream for stream, head in self.heads.items() if head is None]
        loads = [Load(stream=stream, owner="host", epoch=self.epoch, schema="s") for stream in unsure]
        answers = (await self.attempt(store.load(loads)) if loads else []) or []
        for stream, loaded in zip(unsure, answers, strict=False):
            if isinstance(loaded, JournalError):
                self.errors.append(loaded)
            else:
                self.heads[stream] = loaded.head

    def build(self, stream: StreamId, at: int) -> Append:
        """Two events of one command, every third one by a key of its caller."""
        self.next += 1
        id = f"c{self.next}"
        events = tuple(
            NewEvent(type=type, payload=payload_of(self.next), command_id=id, recorded_at=self.next, reply=b"\x01")
            for type in ("t", SET)
        )
        keys = (KeyedReply(key=id, fingerprint=b"f", version=at + 2, reply=b"\x01"),) if self.next % 3 == 0 else ()
        return Append(stream=stream, owner="host", epoch=self.epoch, expected_version=at, events=events, keys=keys)

    async def append(self, store, on_told) -> None:
        batch = [self.build(stream, head) for stream, head in self.heads.items() if head is not None]
        if not batch:
            return
        try:
            results = await store.append(batch)
        except JournalError as error:
            self.errors.append(error)
            results = [error] * len(batch)
        for append, result in zip(batch, results, strict=True):
            id = append.events[0].command_id
            if isinstance(result, Appended):
                assert result.version == append.expected_version + 2
                self.heads[append.stream] = result.version
                self.told[id] = append.stream, result.version
                on_told([(id, append.stream, result.version)])
                continue
            self.heads[append.stream] = None
            if isinstance(result, JournalFailed | VersionConflict):
                self.refused.add(id)

    def snapshots(self) -> list[Snapshot]:
        return [
            Snapshot(stream=stream, version=head, schema="s", payload=b"\x80")
            for stream, head in self.heads.items()
            if head
        ]


async def recorded(path) -> list:
    """Everything in the journal at `path`, read by a store that has just opened it. Its index of reminders is what
    its events say."""
    store = SqliteStore(path, SqliteOptions(lock_wait_s=0.0, cache_mib=1))
    await store.open()
    try:
        events, page = [], await store.read_all()
        while page:
            events += page
            page = await store.read_all(after=page[-1].position)
        for stream, version in await store.list_streams():
            (loaded,) = await store.load([Load(stream=stream, schema="s")])
            assert loaded.head == version
            assert (loaded.snapshot.version if loaded.snapshot else 0) + len(loaded.events) == version
        assert await indexed(store) == folded(events)
        return events
    finally:
        await store.close()


def check(events, told, refused=()) -> None:
    """Positions and versions are contiguous, each append is there whole, all that was acknowledged is there where it
    was said to be, and nothing is there that was refused, or is there twice."""
    versions: dict[StreamId, int] = {}
    found: dict[str, tuple[StreamId, int]] = {}
    for position, event in enumerate(events, 1):
        assert event.position == position, f"position {event.position} stands where {position} should"
        assert event.version == versions.get(event.stream, 0) + 1, f"{event.stream}: {event.version}"
        versions[event.stream] = event.version
        assert event.payload == payload_of(event.recorded_at)
        if event.version % 2 == 0:
            assert event.command_id not in found, f"{event.command_id} is there twice"
            found[event.command_id] = event.stream, event.version
    assert all(version % 2 == 0 for version in versions.values()), f"an append is there in part: {versions}"
    for id, place in dict(told).items():
        assert found.get(id) == place, f"{id} was acknowledged as {place}, the journal has it at {found.get(id)}"
    assert not found.keys() & set(refused), f"refused, and yet there: {sorted(found.keys() & set(refused))}"
