"""Spares: processes that wait to become the host of a dedicated aggregate, seen from both ends.

A process takes most of a second of CPU to start and to import what a host needs; one that has done so before it is
wanted answers its aggregate's first call in the time of a few requests. A runtime that was opened keeps `spare_hosts`
of them once it knows that it will want dedicated hosts, and replaces each that was adopted or died.

None stays behind. A spare lives on a lease: its keeper always has a request open at it, so the keeper hears at once
when it dies, and a spare that has had no such request for `LEASE_S` ends itself.

Before this: the runtime learned of a dedicated type. After this: the cluster adopts the spare for an owner, and it is
a host as any other.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.definition import definition_of
from holdfast.journal.subject import Log, Subject

from .cluster import Peer, PeerGone, WireError
from .config import Config
from .resident import Make, Resident
from .watch import watched

__all__ = ["Spare", "Spares"]

log = Log(__name__)

WAIT_S = 2.0  # the keeper's request stays open at a spare; below `suspect_s`, or the watch would look at each one
LEASE_S = 10.0  # without such a request, after which a spare ends itself
REFILL_PAUSE_S = 0.2  # the aggregate that has just adopted one goes first: a process that starts takes a core
AGAIN_FIRST_S, AGAIN_MOST_S = 1.0, 60.0  # before the next try, where none comes up


class Spare(Resident):
    """What runs in a spare's process: nothing yet, then the host that it was made."""

    methods = frozenset({"adopt", "prepare", "wait"})

    def __init__(
        self,
        end: Callable[[], None],
        *,
        warm_up: Callable[[], Awaitable[object]],
        expire: Callable[[], None],
        lease_s: float,
    ) -> None:
        """`end`: ends this process from its event loop, `expire` from any thread. `warm_up`: does once what a host
        would do first."""
        self._end, self._warm_up, self._expire, self._lease_s = end, warm_up, expire, lease_s
        self._host: Resident | None = None
        self._adopted = asyncio.Event()
        self._lease = self._new_lease()  # from the start: its keeper may die before the first request

    @property
    def target(self) -> Any:
        return self._host

    async def handle(self, method: str, args: tuple[Any, ...]) -> Any:
        """As the host would. A request for the host that comes early waits for it: the directory names this process
        a moment before it is one."""
        if method in self.methods:
            return await getattr(self, method)(*args)
        if self._host is None:
            await self._adopted.wait()
            assert self._host is not None
        return await self._host.handle(method, args)

    async def prepare(self, type: type[Aggregate] | None = None) -> None:
        """Do what a host of this type would do first. To unpickle it has imported it."""
        if type is not None:
            definition_of(type)
        await self._warm_up()

    async def adopt(self, make: Make) -> None:
        """Become a host, for good. A request that comes twice changes nothing."""
        if self._host is None:
            self._host = make(self._end)
            self._lease.cancel()
            self._adopted.set()

    async def wait(self, within_s: float) -> bool:
        """Whether it has been adopted: now, or within that time. Renews the lease."""
        self._lease.cancel()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._adopted.wait()
        finally:
            self._lease.cancel()
            if self._host is None:
                self._lease = self._new_lease()
        return self._host is not None

    async def start(self) -> None:
        """Nothing to do: the host starts when it is first asked."""

    async def stop(self) -> None:
        """End the lease, and the host if it is one."""
        self._lease.cancel()
        if self._host is not None:
            await self._host.stop()

    def _new_lease(self) -> threading.Timer:
        lease = threading.Timer(self._lease_s, self._expire)
        lease.daemon = True
        lease.start()
        return lease


class Spares:
    """Keeps `config.spare_hosts` spares ready. Lives in one event loop."""

    def __init__(
        self,
        start: Callable[[float], Awaitable[Peer]],
        end: Callable[[Peer], Coroutine[Any, Any, None]],
        config: Config,
    ) -> None:
        """`start`: starts one with a lease of so many seconds. `end`: sees to it that one answers nothing any more."""
        self._start, self._end, self._config = start, end, config
        self._types: dict[str, type[Aggregate]] = {}  # by category: the newest class of its name
        self._ready: dict[Peer, None] = {}  # oldest first
        self._kept: set[Peer] = set()  # not adopted
        self._places: list[asyncio.Task[None]] = []
        self._preparing: set[asyncio.Task[None]] = set()

    def expect(self, type: type[Aggregate]) -> None:
        """Hosts of this type will be wanted. The first such type starts the spares; a newer class of one that is known
        has them replaced: they may have imported the older one's module."""
        category = definition_of(type).category
        known, self._types[category] = self._types.get(category), type
        if known is type:
            return
        if not self._places:
            self._places = [_spawn(self._keep()) for _ in range(self._config.spare_hosts)]
        for spare in self._ready:
            task = _spawn(self._prepare(spare, type) if known is None else self._end(spare))  # the latter is noticed
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)
        if known is not None:
            self._ready.clear()

    def take(self) -> Peer | None:
        """One that is ready, if there is. It is the caller's to adopt or to end; another one is started."""
        spare = next(iter(self._ready), None)
        if spare is not None:
            del self._ready[spare]
            self._kept.discard(spare)
        return spare

    @property
    def ready(self) -> int:
        """How many could be taken now."""
        return len(self._ready)

    async def close(self) -> None:
        """End those that nobody has taken. One that is just starting ends with its lease."""
        tasks = [*self._places, *self._preparing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ready.clear()
        await asyncio.gather(*map(self._end, self._kept))
        self._kept.clear()

    async def _keep(self) -> None:
        """One place for a spare: start it, hold it, and then the next."""
        pause_s = AGAIN_FIRST_S
        while True:
            try:
                spare = await self._start(LEASE_S)
            except Exception as error:
                log.warning(Subject("spares"), "none could be started: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MOST_S)
                continue
            self._kept.add(spare)
            try:
                await self._prepare_for_all(spare)
                self._ready[spare] = None
                pause_s = AGAIN_FIRST_S
                while not await watched(spare, self._config, "wait", WAIT_S):
                    pass
                await asyncio.sleep(REFILL_PAUSE_S)
            except Exception as error:
                log.info(Subject("spares"), "one is replaced: %s", error)
                self._ready.pop(spare, None)
                if spare in self._kept:
                    self._kept.discard(spare)
                    await self._end(spare)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MOST_S)

    async def _prepare_for_all(self, spare: Peer) -> None:
        """For every type that is expected, those included that come meanwhile. `PeerGone`: one was defined anew."""
        known: dict[str, type[Aggregate]] = {}
        await self._prepare(spare, None)
        while known != self._types:
            if any(self._types[category] is not type for category, type in known.items()):
                raise PeerGone(spare.name, "it may have imported an older class")
            new = {category: type for category, type in self._types.items() if category not in known}
            await self._prepare(spare, *new.values())
            known |= new

    async def _prepare(self, spare: Peer, *types: type[Aggregate] | None) -> None:
        """Have a spare import these. One that it cannot import is told when a host of it is wanted."""
        for type in types:
            try:
                await watched(spare, self._config, "prepare", type)
            except WireError as error:
                log.info(Subject("spares"), "one cannot be prepared: %s", error)


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    # In a context of its own: what happens to be the caller's would live on here.
    task = asyncio.get_running_loop().create_task(work, context=Context())
    task.add_done_callback(lambda t: t.cancelled() or t.exception())
    return task
