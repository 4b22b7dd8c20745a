"""A bystander: looks at what runs in a namespace of a cluster, and may ask it something, without being a part of it.

A runtime opens a journal, brings the code of its aggregates, has what does not answer replaced. A bystander does
nothing of that: it needs neither URL nor classes, starts nothing, and ends nothing. What does not answer in time is
left out. The command line's `live`, `passivate`, `snapshot` and `projections` are built on it, and the console.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from holdfast.actors.definition import definition_of
from holdfast.actors.host import HostStatistics
from holdfast.actors.hydrate import hydrate
from holdfast.actors.snapshots import take
from holdfast.journal.errors import HoldfastError, JournalUnavailable
from holdfast.journal.records import StreamId

from ._ray import Visit
from .cluster import JOURNAL, Cluster, JournalSpec, Peer, PeerGone
from .config import Config
from .errors import NoCluster, NoSuchFollower, NothingRuns
from .follower import FollowerStatistics
from .projection_follower import RebuildProgress
from .resident import journal_over
from .runtime import Statistics

__all__ = ["Bystander"]

LOOK_S = 0.1
JOIN_S = 60.0
"""After which a cluster that lets nobody join counts as none: one that is just ending keeps Ray asking for ever."""


class Bystander:
    """At one namespace. Made by `Bystander.open`; used in one event loop."""

    def __init__(
        self, cluster: Cluster, journals: Sequence[Peer], config: Config, leave: Callable[[], None] = lambda: None
    ) -> None:
        """Not called by users. `journals`: all partitions of the journal that runs there."""
        self._cluster, self._config, self._leave = cluster, config, leave
        in_order = sorted(journals, key=lambda peer: int(peer.name.removeprefix(JOURNAL).lstrip(":") or 0))
        self._ways = [_Way(peer, config) for peer in in_order]
        self._journal = journal_over(self._ways, config)

    @classmethod
    async def open(cls, *, address: str = "auto", namespace: str = "default", config: Config | None = None) -> Self:
        """Join the Ray cluster at an address (`"auto"`: the one on this machine) and find what runs in a namespace.
        Raises `NoCluster`, `NothingRuns`."""
        visit = await _joined(address)
        try:
            cluster = visit.cluster(JournalSpec(namespace=namespace, url="", volatile=True))
            journals = await cluster.journals()
            if not journals:
                raise NothingRuns(namespace, tuple(await asyncio.to_thread(visit.namespaces)))
        except BaseException:
            await asyncio.to_thread(visit.leave)
            raise
        return cls(cluster, journals, config or Config(), visit.leave)

    async def close(self) -> None:
        """Leave the cluster, if it was joined for this."""
        await asyncio.to_thread(self._leave)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Looking

    async def journal(self) -> str:
        """The URL of the journal that runs there, without a password."""
        _, url = await self._ways[0].ask("describe")
        return str(url)

    async def statistics(self) -> Statistics:
        """As `Runtime.statistics`; of spares a bystander knows nothing. Raises `JournalUnavailable`."""
        journal, hosts, followers = await asyncio.gather(self._journal.statistics(), self._hosts(), self.followers())
        return Statistics(
            journal=journal,
            hosts=tuple(sorted(hosts, key=lambda host: host.name)),
            spares=0,
            followers=tuple(followers),
        )

    async def _hosts(self) -> list[HostStatistics]:
        return await self._answers(await self._cluster.host_names(), self._cluster.find_host, "statistics")

    async def followers(self) -> list[FollowerStatistics]:
        """How each follower does, by name."""
        names = await self._cluster.follower_names()
        found: list[FollowerStatistics] = await self._answers(names, self._cluster.find_follower, "statistics")
        return sorted(found, key=lambda each: each.name)

    async def host_names(self) -> list[str]:
        """The hosts that run, those included that do not answer."""
        return await self._cluster.host_names()

    async def follower_names(self) -> list[str]:
        """The followers that run, those included that do not answer."""
        return await self._cluster.follower_names()

    async def live(self, host: str) -> list[str]:
        """The ids of what a host has in memory, least recently used first; none if it does not answer."""
        found: list[list[str]] = await self._answers([host], self._cluster.find_host, "live")
        return found[0] if found else []

    async def _answers(
        self, names: Sequence[str], find: Callable[[str], Awaitable[Peer | None]], method: str, *args: Any
    ) -> list[Any]:
        """Of those that answer within `paused_s`."""

        async def answer(name: str) -> Any:
            with contextlib.suppress(TimeoutError, HoldfastError):
                peer = await find(name)
                if peer is not None:
                    async with asyncio.timeout(self._config.paused_s):
                        return await peer.ask(method, *args)
            return None

        return [each for each in await asyncio.gather(*map(answer, names)) if each is not None]

    # Aggregates

    async def passivate(self, stream: StreamId) -> bool:
        """Send one aggregate out of memory when it has nothing to do; its snapshot is written when this returns. False:
        it was not in memory, as far as its hosts tell."""
        dedicated, shared = f"{stream.category}/{stream.id}", re.compile(rf"{re.escape(stream.category)}#\d+")
        names = [name for name in await self._cluster.host_names() if name == dedicated or shared.fullmatch(name)]
        found: list[bool] = await self._answers(names, self._cluster.find_host, "passivate", stream.id)
        return any(found)

    async def snapshot(self, cls: type, id: str) -> int:
        """Have the journal keep a snapshot of an aggregate as it is there now; it stays in memory, or out of it. The
        version that it is of; 0: there is no such aggregate. Raises `HydrationFailed`, `ValueError` for a state that
        does not come back as it is."""
        definition = definition_of(cls)
        stream = StreamId(definition.category, id)
        found = await hydrate(definition, stream, self._journal)
        if found.version:
            snapshot = take(definition, stream, found.instance, found.version)
            await self._journal.save_snapshots([snapshot], keep=definition.options.snapshots_kept)
        return found.version

    # Followers

    async def names_of(self, name: str) -> list[str]:
        """The followers that go by this name: one of just that name; or all parts of the newest version of a
        projection; or one of another kind, without its kind. Raises `NoSuchFollower`."""
        running = await self._cluster.follower_names()
        if name in running:
            return [name]
        parts = re.compile(rf"(?:projection/)?{re.escape(name)}@(\d+)(?:#\d+)?")
        versions = {each: int(found[1]) for each in running if (found := parts.fullmatch(each))}
        newest = max(versions.values(), default=0)
        called = [each for each, version in versions.items() if version == newest]
        called = called or [each for each in running if each.partition("/")[2] == name]
        if not called:
            raise NoSuchFollower(name)
        return sorted(called)

    async def dead_letters(self, name: str) -> dict[str, list[Any]]:
        """What has been set aside, by follower, as `Runtime.dead_letters` tells it. Raises `NoSuchFollower`."""
        return {each: await self._ask(each, "dead_letters") for each in await self.names_of(name)}

    async def replay(self, name: str, partition: int, position: int) -> None:
        """Have a dead letter handled again. Raises `NoSuchFollower`, and what its handler raises."""
        letters = await self.dead_letters(name)
        wanted = [each for each, found in letters.items() if any(one.place == (partition, position) for one in found)]
        for each in wanted or letters:  # none has it: the first will say so
            await self._ask(each, "replay", partition, position)
            return

    async def rebuild(self, name: str) -> "RebuildSteps":
        """Have a projection built anew, as `Runtime.rebuild` does. Raises `NoSuchFollower`."""
        begun = {each: await self._ask(each, "rebuild") for each in await self.names_of(name)}
        return RebuildSteps(begun, self._ask)

    async def _ask(self, name: str, method: str, *args: Any) -> Any:
        peer = await self._cluster.find_follower(name)
        if peer is None:
            raise NoSuchFollower(name)
        async with asyncio.timeout(self._config.timeout_s):
            return await peer.ask("ask", method, *args)


class RebuildSteps:
    """How far a rebuild is, again and again until it has taken over: `async for`."""

    def __init__(self, begun: dict[str, int], ask: Callable[..., Awaitable[Any]]) -> None:
        self._begun, self._ask = begun, ask
        self._finished = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RebuildProgress:
        if self._finished:
            raise StopAsyncIteration
        answers = [await self._ask(name, "rebuilding", number) for name, number in self._begun.items()]
        progress = RebuildProgress.of_all(answers)
        self._finished = progress.finished
        if not progress.finished:
            await asyncio.sleep(LOOK_S)
        return progress


async def _joined(address: str) -> Visit:
    """Raises `NoCluster`. In a thread that does not keep the process alive, should Ray never answer."""
    loop = asyncio.get_running_loop()
    joined: asyncio.Future[Visit] = loop.create_future()

    def settle(found: Visit | BaseException) -> None:
        if joined.done():  # nobody waits any more
            return
        if isinstance(found, BaseException):
            joined.set_exception(found)
        else:
            joined.set_result(found)

    def join() -> None:
        found: Visit | BaseException
        try:
            found = Visit(address)
        except BaseException as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=join, name="holdfast-join", daemon=True).start()
    try:
        async with asyncio.timeout(JOIN_S):
            return await joined
    except TimeoutError:
        raise NoCluster(address, f"it has let nobody join within {JOIN_S:g} s") from None


class _Way:
    """To one partition of the journal, as a `JournalLink`: what does not answer is not ended."""

    def __init__(self, peer: Peer, config: Config) -> None:
        self._peer, self._patience_s = peer, config.journal_patience_s

    async def ask(self, method: str, *args: Any) -> Any:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._peer.ask(method, *args)
        except PeerGone as error:
            raise JournalUnavailable(str(error)) from None
        except TimeoutError:
            raise JournalUnavailable(f"no answer within {self._patience_s:g} s") from None
