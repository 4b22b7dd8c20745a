"""The journal as its callers see it: batches what they send, and asks again until there is an answer.

A host appends through it, a runtime reads through it. The transport below is a parameter, so the same code talks
to a journal in this process, in another, or in a simulation. Asking again is safe because every request is
idempotent: an append is recognised by its command ids, a claim by its incarnation.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from .batcher import Answered, Batcher
from .errors import (
    CorruptRecord,
    JournalBusy,
    JournalError,
    JournalFailed,
    JournalLocked,
    JournalOpenError,
    JournalUnavailable,
)
from .records import (
    Append,
    Appended,
    Checkpoint,
    Followed,
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
from .wire import (
    PackedPage,
    decode_appended,
    decode_followed,
    decode_loaded,
    decode_packed,
    decode_page,
    encode_fitting,
    in_place,
)

__all__ = ["JournalClient", "JournalLink"]

T = TypeVar("T")

RETRY_FIRST_S, RETRY_MOST_S = 0.02, 0.2  # a journal that starts again is met soon after it is up


class JournalLink(Protocol):
    """The way to a `JournalServer`."""

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the server. Raises what it raises, or `JournalUnavailable` when no answer came."""
        ...


class JournalClient:
    """Talks to one journal. Everything it returns is what the server answered; what stays unanswered for
    `patience_s` seconds raises `JournalUnavailable`, and its outcome is unknown."""

    def __init__(
        self,
        link: JournalLink,
        *,
        patience_s: float = 30.0,
        in_flight_max: int = 2,
        batch_max: int = 2000,
        jitter: Callable[[], float] = random.random,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._link, self._patience_s, self._jitter, self._pause = link, patience_s, jitter, pause
        self.retries = 0  # requests sent again, since nothing had answered or too much waited
        # Two batches in flight keep the disk busy while the next one gathers; more only make them smaller.
        self._appends: Batcher[Append, Appended] = Batcher(
            "append", self._send_appends, in_flight_max=in_flight_max, batch_max=batch_max
        )
        self._loads: Batcher[Load, Loaded] = Batcher(
            "load", self._send_loads, in_flight_max=in_flight_max, batch_max=batch_max
        )
        self._finds: Batcher[tuple[StreamId, list[str]], dict[str, StoredReply]] = Batcher(
            "look-up", self._send_finds, in_flight_max=in_flight_max, batch_max=batch_max
        )

    def __repr__(self) -> str:
        return f"<JournalClient over {self._link!r}>"

    @property
    def parts(self) -> "tuple[JournalClient]":
        """Itself: see `Journal.parts`."""
        return (self,)

    @property
    def appends_sent(self) -> int:
        """Appends handed to the journal, each a cell's batch."""
        return self._appends.items

    @property
    def append_batches(self) -> int:
        """Requests that carried them."""
        return self._appends.batches

    @property
    def waiting(self) -> int:
        """Appends that wait to be sent."""
        return len(self._appends)

    def append(self, append: Append, size: int = 0) -> "asyncio.Future[Appended]":
        """Append, together with whatever else waits. The future raises that append's own `JournalError`."""
        return self._appends.submit(append, size)

    def hand_over(self, append: Append, size: int, answered: Answered[Appended]) -> None:
        """The same for callers that have very many under way: `answered` gets the answer, or the error. Raises
        `JournalBusy` when too much waits."""
        self._appends.put(append, size, answered)

    def load(self, load: Load) -> "asyncio.Future[Loaded]":
        """Hydrate, together with whatever else waits. The future raises that load's own `JournalError`."""
        return self._loads.submit(load)

    def request(self, load: Load, answered: Answered[Loaded]) -> None:
        """The same for callers that have very many under way: see `hand_over`."""
        self._loads.put(load, 0, answered)

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        """See `Store.claim`."""
        return int(await self.ask("claim", owner, incarnation, *([epoch] if epoch else ())))

    async def confirm(self, owner: str, epoch: int) -> None:
        """See `Store.confirm`."""
        await self.ask("confirm", owner, epoch)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        """See `Store.register`."""
        registration: Registration = await self.ask("register", category, placement, code)
        return registration

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        """See `Store.read_stream`."""
        return decode_page(await self.ask("read_stream", stream, after, limit, backward))

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        """See `Store.read_all`."""
        return decode_page(await self.ask("read_all", after, limit, category))

    async def follow(
        self, *, after: int, limit: int = 1000, category: str | None = None, wait_s: float = 0.0
    ) -> Followed:
        """What comes after a position: at once if something is there, else when it comes, or an empty page when
        `wait_s` have passed, or half of `patience_s`: a journal in which nothing happens must not seem to be out of
        reach. See `Tail.follow`."""
        return decode_followed(await self._follow(after, limit, category, wait_s))

    async def follow_packed(
        self, *, after: int, limit: int = 1000, category: str | None = None, wait_s: float = 0.0
    ) -> PackedPage:
        """`follow`, for those who work on events in another thread."""
        return decode_packed(await self._follow(after, limit, category, wait_s))

    async def _follow(self, after: int, limit: int, category: str | None, wait_s: float) -> bytes:
        page: bytes = await self.ask("follow", after, limit, category, min(wait_s, self._patience_s / 2))
        return page

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        found: dict[str, StoredReply] = await self.ask("find_replies", stream, list(ids), window)
        return found

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        return await self._finds.submit((stream, list(keys)))

    def kept(self, snapshot: Snapshot) -> Snapshot | None:
        """As it is: see `Journal.kept`."""
        return snapshot

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int) -> None:
        """See `Store.save_snapshots`. Tried once: a snapshot is a cache, and not worth a queue of retries."""
        await self._link.ask("save_snapshots", list(batch), keep)

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        found: list[Snapshot] = await self.ask("list_snapshots", stream)
        return found

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Store.save_checkpoint`."""
        await self.ask("save_checkpoint", checkpoint)

    async def find_checkpoint(self, name: str) -> int:
        """See `Store.find_checkpoint`."""
        return int(await self.ask("find_checkpoint", name))

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        """See `Store.due_reminders`."""
        found: list[Reminder] = await self.ask("due_reminders", category, until, limit, after)
        return found

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`."""
        page: list[tuple[StreamId, int]] = await self.ask("list_streams", category, after, limit)
        return page

    async def head(self) -> int:
        """See `Store.head`."""
        return int(await self.ask("head"))

    async def statistics(self) -> StoreStatistics:
        """See `Store.statistics`."""
        found: StoreStatistics = await self.ask("statistics")
        return found

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the server, again and again while nothing answers, for at most `patience_s`."""
        answer, _ = await self._patiently(lambda: self._link.ask(method, *args))
        return answer

    async def _send_appends(self, batch: list[Append]) -> list[Appended | JournalError]:
        wire, refused = encode_fitting(batch)
        answer, lost = await self._patiently(lambda: self._link.ask("append", wire))
        results = in_place(len(batch), refused, decode_appended(answer))
        return [_unknown(r) if lost and isinstance(r, JournalFailed | CorruptRecord) else r for r in results]

    async def _send_loads(self, batch: list[Load]) -> list[Loaded | JournalError]:
        """All of them, in as many requests as it takes: the journal puts those off that are too much for one."""
        results: list[Loaded | JournalError] = []
        while len(results) < len(batch):
            wire, refused = encode_fitting(batch[len(results) :])
            some = in_place(len(batch) - len(results), refused, decode_loaded(await self.ask("load", wire)))
            put_off = next((place for place, one in enumerate(some) if place and isinstance(one, JournalBusy)), None)
            results += some[:put_off]
        return results

    async def _send_finds(self, batch: list[tuple[StreamId, list[str]]]) -> list[dict[str, StoredReply] | JournalError]:
        """Look-ups of many keyed commands in one request, as appends and loads go."""
        found: list[dict[str, StoredReply] | JournalError] = await self.ask("find_keyed_of", batch)
        return found

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The answer, and whether an earlier try was lost, so that it may have taken effect unheard."""
        loop = asyncio.get_running_loop()
        give_up, pause_s = loop.time() + self._patience_s, RETRY_FIRST_S
        lost = False
        while True:
            try:
                async with asyncio.timeout_at(give_up):
                    return await request(), lost
            except TimeoutError:
                raise JournalUnavailable(f"no answer within {self._patience_s:g} s") from None
            except (JournalUnavailable, JournalBusy, JournalLocked) as error:
                lost = lost or isinstance(error, JournalUnavailable)
                if loop.time() + pause_s > give_up:
                    raise (_unknown(error) if lost else error) from None
            except (JournalFailed, JournalOpenError) as error:
                # It says that nothing was written; that is true of this try, not of those that were lost.
                raise (_unknown(error) if lost else error) from None
            self.retries += 1
            await self._pause(pause_s * (0.5 + self._jitter()))
            pause_s = min(pause_s * 2, RETRY_MOST_S)


def _unknown(error: JournalError) -> JournalUnavailable:
    return error if isinstance(error, JournalUnavailable) else JournalUnavailable(str(error))
