"""One partition of a journal that an archive is imported into: what it holds already, and what it gets.

While it holds, position for position, what the archive says, nothing is looked up and nothing written. From the first
event on that it does not, its streams are asked for, before anything of a batch is appended.

Before this: records of one frame that belong here. After this: they are here, at their versions, and nothing else is.
"""

from collections.abc import Sequence
from itertools import groupby

from .admission import refusal
from .archive import ArchivedFact, ArchivedKey, fact_of
from .archive_errors import ForeignHistory
from .archive_reader import Placed
from .errors import DuplicateKey, JournalError, VersionConflict
from .records import Append, Appended, Checkpoint, KeyedReply, Load, Loaded, NewEvent, StreamId
from .store import Store

__all__ = ["OWNER", "Disorder", "ImportTarget"]

OWNER = "holdfast import"
"""Who claims, at the target."""

_PAGE = 2000


class Disorder(Exception):
    """What the archive says cannot be: a version is missing in it, or comes twice."""


class ImportTarget:
    """The store is open, and `OWNER` has claimed it at `epoch`. `held`: its head, then.

    `found`, `written`: events. `in_place`: each of those has the position that the archive gives it."""

    def __init__(self, store: Store, epoch: int, held: int) -> None:
        self.store = store
        self._epoch, self._held = epoch, held
        self._position = held
        self._compared, self._parted = 0, False
        self._page: list[tuple[int, ArchivedFact]] = []  # the next one last
        self.found = self.written = 0
        self.in_place = True

    # Events

    async def take_events(self, events: Sequence[Placed]) -> None:
        """Have these, in their order. Raises `ForeignHistory`, `Disorder`, and what the store raises."""
        count = await self._compare(events)
        self.found += count
        new = events[count:]
        if new and self._compared < self._held:
            new = await self._missing(new)
        if new:
            await self._append(new)

    async def _compare(self, events: Sequence[Placed]) -> int:
        """How many of these are next among those that it held."""
        for count, event in enumerate(events):
            if self._parted or self._compared >= self._held:
                return count
            if not self._page:
                held = await self.store.read_all(after=self._compared, limit=_PAGE)
                self._page = [(each.position, fact_of(each)) for each in reversed(held)]
            position, fact = self._page[-1]
            if fact != event.fact:
                self._parted = True
                self._page.clear()
                return count
            self.in_place &= position == event.position
            self._page.pop()
            self._compared += 1
        return len(events)

    async def _missing(self, events: Sequence[Placed]) -> list[Placed]:
        """Those that are not there, after all others were compared."""
        self.in_place = False
        heads = await self._heads({event.fact.stream for event in events})
        there: dict[StreamId, list[ArchivedFact]] = {}
        for event in events:
            if event.fact.version <= heads[event.fact.stream]:
                there.setdefault(event.fact.stream, []).append(event.fact)
        for stream, facts in there.items():
            await self._compare_stream(stream, facts)
            self.found += len(facts)
        return [event for event in events if event.fact.version > heads[event.fact.stream]]

    async def _heads(self, streams: set[StreamId]) -> dict[StreamId, int]:
        heads: dict[StreamId, int] = {}
        asked = sorted(streams)
        for stream, loaded in zip(
            asked, await self.store.load([Load(stream=stream, limit=0) for stream in asked]), strict=True
        ):
            if not isinstance(loaded, Loaded):
                raise loaded
            heads[stream] = loaded.head
        return heads

    async def _compare_stream(self, stream: StreamId, facts: Sequence[ArchivedFact]) -> None:
        after, at = facts[0].version - 1, 0
        while at < len(facts):
            page = await self.store.read_stream(stream, after=after, limit=len(facts) - at)
            for held, fact in zip(page, facts[at:], strict=False):
                if fact_of(held) != fact:
                    raise ForeignHistory(str(stream), fact.version, "the journal holds another event than the archive")
            if not page:
                raise ForeignHistory(str(stream), after + 1, "the journal holds it no more")
            at, after = at + len(page), page[-1].version

    async def _append(self, events: Sequence[Placed]) -> None:
        batch = [self._append_of(list(run)) for _, run in groupby(events, lambda event: event.fact.stream)]
        for append, result in zip(batch, await self.store.append(batch), strict=True):
            if isinstance(result, VersionConflict):
                raise Disorder(
                    f"version {result.expected + 1} of {append.stream} comes where {result.actual + 1} should"
                )
            if not isinstance(result, Appended):
                raise result
            if result.position != self._position + len(append.events):
                raise Disorder(f"version {result.version} of {append.stream} comes twice")
            self._position = result.position
        self.written += len(events)
        self.in_place &= self._position == events[-1].position

    def _append_of(self, run: Sequence[Placed]) -> Append:
        """Events of one stream that follow one another."""
        first = run[0].fact
        for version, event in enumerate(run, first.version):
            if event.fact.version != version:
                raise Disorder(f"version {event.fact.version} of {first.stream} comes where {version} should")
        append = self._built(first.stream, first.version - 1, events=tuple(_new(event.fact) for event in run))
        if (why := refusal(append)) is not None:
            raise why
        return append

    # Keyed replies

    async def take_keys(self, keys: Sequence[ArchivedKey]) -> None:
        """Have these. Raises `ForeignHistory`, and what the store raises."""
        streams = [(StreamId(*name), list(run)) for name, run in groupby(keys, lambda key: (key.category, key.id))]
        batch = [self._keys_of(stream, run, 0) for stream, run in streams]
        for (stream, run), result in zip(streams, await self.store.append(batch), strict=True):
            if isinstance(result, VersionConflict | DuplicateKey):
                await self._take_keys_of(stream, run)
            elif not isinstance(result, Appended):
                raise result

    async def _take_keys_of(self, stream: StreamId, keys: Sequence[ArchivedKey]) -> None:
        """Of a stream that has events, or some of them."""
        known = await self.store.find_keyed(stream, [key.key for key in keys])
        for key in keys:
            held = known.get(key.key)
            if held and (held.version, held.fingerprint, held.reply) != (key.version, key.fingerprint, key.reply):
                raise ForeignHistory(str(stream), key.version, f"the journal holds another reply under {key.key!r}")
        missing = [key for key in keys if key.key not in known]
        if missing:
            head = (await self._heads({stream}))[stream]
            (result,) = await self.store.append([self._keys_of(stream, missing, head)])
            if isinstance(result, JournalError):
                raise result

    def _keys_of(self, stream: StreamId, keys: Sequence[ArchivedKey], head: int) -> Append:
        append = self._built(stream, head, keys=tuple(map(_reply, keys)))
        if (why := refusal(append)) is not None:
            raise why
        return append

    def _built(
        self, stream: StreamId, at: int, *, events: tuple[NewEvent, ...] = (), keys: tuple[KeyedReply, ...] = ()
    ) -> Append:
        return Append(stream=stream, owner=OWNER, epoch=self._epoch, expected_version=at, events=events, keys=keys)

    # Checkpoints

    async def take_checkpoint(self, name: str, position: int) -> bool:
        """Have a follower go on there. Whether it does: one that it has itself stays as it is."""
        held = await self.store.find_checkpoint(name)
        if not held:
            await self.store.save_checkpoint(Checkpoint(name=name, owner=OWNER, epoch=self._epoch, position=position))
        return held in (0, position)


def _new(fact: ArchivedFact) -> NewEvent:
    return NewEvent(
        type=fact.type,
        payload=fact.payload,
        command_id=fact.command_id,
        recorded_at=fact.recorded_at,
        metadata=fact.metadata,
        reply=fact.reply,
    )


def _reply(key: ArchivedKey) -> KeyedReply:
    return KeyedReply(key=key.key, fingerprint=key.fingerprint, version=key.version, reply=key.reply)
