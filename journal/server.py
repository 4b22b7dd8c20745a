"""The journal server: the one writer of one journal, and the group commit in front of its disk.

Everything a host or a client asks of a journal comes in here as a method call, from any number of them at once.
All appends that wait while a transaction is under way become the next transaction: one flush to disk for all.

Before this: a request arrived over the transport. After this: what was reported as appended is durable.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, chain
from typing import Any

from . import tracing
from .admission import check_epoch, check_ids, check_name, check_position, check_request, check_stream, refusal
from .batcher import Batcher
from .codec import CodecError, decode_plain
from .errors import JournalError, JournalUnavailable
from .key_desk import KeyDesk
from .keys import DataSubject, Destroyed, Key, KeyId, Wanted
from .meters import JournalMeters
from .records import (
    Append,
    Appended,
    Checkpoint,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .store import Store
from .tail import Tail
from .wire import decode_appends, decode_loads, encode, encode_results, in_place

__all__ = ["JournalServer"]


class JournalServer:
    """Serves one `Store`. Start it before use; stop it to flush what waits and release the store."""

    def __init__(
        self,
        store: Store,
        *,
        keys: KeyDesk | None = None,
        commit_max: int = 4000,
        waiting_bytes_max: int = 256 << 20,
        meters: JournalMeters | None = None,
        name: str = "0",
    ) -> None:
        """`keys`: what serves the keys of personal data, if this partition does. `commit_max`: requests (each a host's
        batch) in one transaction; `waiting_bytes_max`: bytes of appends waiting for the disk, beyond which requests get
        `JournalBusy`. `meters`: where it notes how long commits take; None: nowhere. `name`: of its partition, in
        traces."""
        self.store, self.meters, self._name = store, meters, name
        self._keys = keys or KeyDesk(None)
        self._stopping = False
        self._tail = Tail(store)
        self._commits: Batcher[list[Append], list[Appended | JournalError]] = Batcher(
            "commit",
            self._commit,
            in_flight_max=1,  # one transaction at a time is what makes positions gapless
            batch_max=commit_max,
            waiting_bytes_max=waiting_bytes_max,
        )

    def __repr__(self) -> str:
        return f"<JournalServer of {self.store!r}>"

    async def start(self) -> None:
        """Open the store. Raises `JournalOpenError`s."""
        await self._keys.open()
        await self.store.open()
        self._tail = Tail(self.store)
        self._stopping = False

    async def stop(self) -> None:
        """Write what waits, then release the store. Appends that come from now on get `JournalUnavailable`."""
        self._stopping = True
        self._tail.close()
        await self._commits.drain()
        await self.store.close()
        await self._keys.close()

    @property
    def waiting(self) -> int:
        """Requests that wait for the disk."""
        return len(self._commits)

    async def ping(self) -> None:
        """Answers if the server is there and its loop turns."""

    async def append(self, wire: bytes) -> bytes:
        """A batch of `Append`s in, a batch of results out, in order; durable when it returns."""
        if self._stopping:
            raise JournalUnavailable("it is stopping")
        check_request(wire)
        appends = decode_appends(wire)
        refused = {place: why for place, append in enumerate(appends) if (why := refusal(append)) is not None}
        if not refused:
            return encode_results(await self._commits.submit(appends, len(wire)))
        admitted = [append for place, append in enumerate(appends) if place not in refused]
        done = await self._commits.submit(admitted, len(wire)) if admitted else []
        return encode_results(in_place(len(appends), refused, done))

    async def load(self, wire: bytes) -> bytes:
        """A batch of `Load`s in, a batch of results out, in order."""
        check_request(wire)
        results = await self.store.load(decode_loads(wire))
        if self.meters is not None:
            self.meters.looked_at(results)
        return encode_results(results)

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        """See `Store.claim`."""
        check_name("owner", owner)
        check_name("incarnation", incarnation)
        check_epoch(owner, epoch)
        return await self.store.claim(owner, incarnation, epoch)

    async def confirm(self, owner: str, epoch: int) -> None:
        """See `Store.confirm`."""
        await self.store.confirm(owner, epoch)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        """See `Store.register`."""
        check_name("aggregate type", category)
        check_name("placement", placement)
        check_name("code", code or "-")
        return await self.store.register(category, placement, code)

    async def read_stream(self, stream: StreamId, after: int = 0, limit: int = 1000, backward: bool = False) -> bytes:
        """See `Store.read_stream`; the page is one bytes object, as it travels."""
        check_stream(stream)
        return encode(await self.store.read_stream(stream, after=after, limit=limit, backward=backward))

    async def read_all(self, after: int = 0, limit: int = 1000, category: str | None = None) -> bytes:
        """See `Store.read_all`; the page is one bytes object, as it travels."""
        check_name("category", category or "-")
        page, _ = await self.store.pack_all(after=after, limit=limit, category=category)
        return page

    async def follow(
        self, after: int = 0, limit: int = 1000, category: str | None = None, wait_s: float = 0.0
    ) -> bytes:
        """What comes after a position, once there is something or `wait_s` has passed: see `Tail.follow`."""
        check_name("category", category or "-")
        return await self._tail.follow(after, limit, category, wait_s)

    async def find_replies(self, stream: StreamId, ids: Sequence[str], window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        check_stream(stream)
        check_ids(ids)
        return await self.store.find_replies(stream, ids, window=window)

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        check_stream(stream)
        check_ids(keys)
        return await self.store.find_keyed(stream, keys)

    async def find_keyed_of(
        self, asked: Sequence[tuple[StreamId, Sequence[str]]]
    ) -> list[dict[str, StoredReply] | JournalError]:
        """`find_keyed` for many streams; what one of them is refused with stands in its place."""
        return [await self._found(stream, keys) for stream, keys in asked]

    async def _found(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply] | JournalError:
        try:
            return await self.find_keyed(stream, keys)
        except JournalUnavailable:
            raise
        except JournalError as error:
            return error

    async def save_snapshots(self, batch: Sequence[Snapshot], keep: int) -> None:
        """See `Store.save_snapshots`."""
        await self.store.save_snapshots(batch, keep=keep)

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        check_stream(stream)
        return await self.store.list_snapshots(stream)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Store.save_checkpoint`."""
        check_name("name of a checkpoint", checkpoint.name)
        check_name("owner of a checkpoint", checkpoint.owner)
        check_epoch(checkpoint.owner, checkpoint.epoch)
        check_position(f"checkpoint {checkpoint.name!r}", checkpoint.position)
        await self.store.save_checkpoint(checkpoint)

    async def find_checkpoint(self, name: str) -> int:
        """See `Store.find_checkpoint`."""
        check_name("name of a checkpoint", name)
        return await self.store.find_checkpoint(name)

    async def due_reminders(
        self, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        """See `Store.due_reminders`."""
        check_name("category", category)
        if after is not None:
            check_stream(after.stream)
            check_name("name of a reminder", after.name)
        return await self.store.due_reminders(category=category, until=until, limit=limit, after=after)

    async def list_streams(
        self, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`."""
        check_name("category", category or "-")
        if after is not None:
            check_name("id of a stream", "".join(after) or "-")
        return await self.store.list_streams(category=category, after=after, limit=limit)

    async def head(self) -> int:
        """See `Store.head`."""
        return await self.store.head()

    async def statistics(self) -> StoreStatistics:
        """See `Store.statistics`."""
        return await self.store.statistics()

    async def check_keys(self, what: str, mark: str = "") -> None:
        """See `KeyDesk.check`."""
        self._keys.check(what, mark)

    async def prepare_keys(self, wanted: Sequence[Wanted]) -> list[tuple[Key, ...] | None]:
        """See `KeyStore.prepare`."""
        return await self._keys.prepare(wanted)

    async def find_keys(self, ids: Sequence[KeyId]) -> list[bytes | None]:
        """See `KeyStore.find`."""
        return await self._keys.find(ids)

    async def destroy_keys(self, kind: str, id: str) -> Destroyed:
        """See `KeyStore.destroy`."""
        return await self._keys.destroy(DataSubject(kind, id))

    async def _commit(self, requests: list[list[Append]]) -> list[list[Appended | JournalError]]:
        """One transaction for all that waits; the results are handed back request by request."""
        batch = list(chain.from_iterable(requests))
        started = time.perf_counter()
        try:
            if tracing.tracer is None:
                results = await self.store.append(batch)
            else:
                with tracing.commit(_metadata_of(batch), len(batch), self._name):
                    results = await self.store.append(batch)
        except BaseException:
            self._tail.lost_touch()  # it may have been written all the same
            raise
        self._tail.grew(batch, results)
        if self.meters is not None:
            self.meters.committed(results, time.perf_counter() - started)
        starts = accumulate(map(len, requests), initial=0)
        return [results[start : start + len(request)] for start, request in zip(starts, requests, strict=False)]


def _metadata_of(batch: Sequence[Append]) -> Iterator[Mapping[str, Any]]:
    """What the caller added to the first command of each append, where that is more than nothing."""
    for append in batch:
        if append.events and append.events[0].metadata:
            with suppress(CodecError):
                yield decode_plain(append.events[0].metadata).get("metadata", {})
