"""The followers of a runtime: what it has started, and how others ask them.

Any runtime may start a follower, and any may ask it; there is one of each name in a namespace. One that has started
some looks after them: what has died is started again, what does not turn any more is ended first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any

from holdfast.actors.errors import DeadlineExceeded
from holdfast.journal.errors import HoldfastError
from holdfast.journal.positions import Positions
from holdfast.journal.subject import Log, Subject

from .cluster import Cluster, FollowerSpec, JournalSpec, Peer, PeerGone
from .config import Config
from .errors import NoSuchFollower
from .follower import FollowerPhase, FollowerPlan, FollowerStatistics
from .placement import Placements
from .watch import watched

__all__ = ["Followers"]

log = Log(__name__)

ASK_AGAIN_S = 0.05
WAIT_S = 5.0


class Followers:
    """Starts, stops and asks the followers of one namespace. Used in one event loop."""

    def __init__(self, cluster: Cluster, spec: JournalSpec, placements: Placements, config: Config) -> None:
        self._cluster, self._spec, self._placements, self._config = cluster, spec, placements, config
        self._started: dict[str, FollowerSpec] = {}
        self._guard: asyncio.Task[None] | None = None

    async def start(self, plans: Iterable[FollowerPlan]) -> None:
        """Have these run, and run this code. Returns when each has started; catching up is another matter. Raises
        `HostUnavailable`, and what a follower's own start raises."""
        for plan in plans:
            spec = FollowerSpec(
                name=plan.name,
                code=plan.code,
                make=plan.make,
                journal=self._spec,
                placements=self._placements,
                config=self._config,
            )
            await self._run(spec)
            self._started[spec.name] = spec
        if self._guard is None and self._started:
            self._guard = asyncio.get_running_loop().create_task(self._look_after(), context=Context())

    async def stop(self, names: Iterable[str]) -> bool:
        """End these, wherever they were started: each stops where it is. False: none of them ran."""
        found = False
        for name in names:
            self._started.pop(name, None)
            peer = await self._cluster.find_follower(name)
            if peer is not None:
                found = True
                await self._retire(peer)
        return found

    async def end_stopped(self, names: Iterable[str]) -> None:
        """End those of these that have stopped by themselves, for good."""
        for found in await self.statistics() if (wanted := set(names)) else ():
            if found.name in wanted and found.phase is FollowerPhase.STOPPED:
                await self.stop([found.name])

    async def ask(self, name: str, method: str, *args: Any, patience_s: float | None = None) -> Any:
        """Ask one what its kind answers; one that is just starting again is waited for. Raises what it raises,
        `NoSuchFollower`, and `PeerGone` after `patience_s` without an answer."""
        return await self._ask(name, "ask", method, *args, patience_s=patience_s)

    async def wait_for(
        self, names: Sequence[str], positions: Callable[[], Awaitable[Positions]], within_s: float
    ) -> None:
        """Wait until all of them are done with everything up to there. Raises `DeadlineExceeded`, `FollowerStopped`,
        `NoSuchFollower`."""
        try:
            async with asyncio.timeout(within_s):
                until = await positions()
                for name in names:
                    while not await self._ask(name, "reached", until, WAIT_S, patience_s=within_s):
                        pass
        except TimeoutError:
            raise DeadlineExceeded(f"waiting for {', '.join(names)}", within_s, DeadlineExceeded.UNKNOWN) from None

    async def statistics(self) -> list[FollowerStatistics]:
        """Of every follower of this namespace that answers within `paused_s`, by name."""
        answers = await asyncio.gather(*map(self._statistics_of, await self._cluster.follower_names()))
        return sorted(filter(None, answers), key=lambda found: found.name)

    async def close(self) -> None:
        """Look after them no longer. They go on, for as long as their cluster does."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.wait({self._guard})

    async def _run(self, spec: FollowerSpec) -> None:
        there = await self._cluster.find_follower(spec.name) is not None
        peer = await self._cluster.follower(spec)
        code = await self._hello(peer)
        if code == spec.code or not (code or there):  # what stops as soon as it has started is there to be looked at
            return
        why = "runs other code than this runtime" if code else "has stopped"
        log.info(Subject("follower", spec.name), "%s: it is replaced", why)
        await self._retire(peer)
        await self._hello(await self._cluster.follower(spec))

    async def _hello(self, peer: Peer) -> str:
        """Which code it runs, as soon as it has started."""
        give_up = asyncio.get_running_loop().time() + self._config.start_s
        while True:
            try:
                code: str = await watched(peer, self._config, "hello")
                return code
            except PeerGone:
                if asyncio.get_running_loop().time() > give_up or not await peer.responds(self._config.paused_s):
                    await self._cluster.kill(peer)
                    raise
            await asyncio.sleep(ASK_AGAIN_S)

    async def _ask(self, name: str, method: str, *args: Any, patience_s: float | None = None) -> Any:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + (self._config.timeout_s if patience_s is None else patience_s)
        while True:
            peer = await self._cluster.find_follower(name)
            if peer is None and name not in self._started:
                raise NoSuchFollower(name)
            try:
                if peer is None:
                    raise PeerGone(name, "it has not been started again yet")
                return await watched(peer, self._config, method, *args)
            except PeerGone:
                if loop.time() > give_up:
                    raise
            await asyncio.sleep(ASK_AGAIN_S)

    async def _statistics_of(self, name: str) -> FollowerStatistics | None:
        with suppress(TimeoutError, HoldfastError):
            peer = await self._cluster.find_follower(name)
            if peer is not None:
                async with asyncio.timeout(self._config.paused_s):
                    found: FollowerStatistics = await peer.ask("statistics")
                return found
        return None

    async def _retire(self, peer: Peer) -> None:
        with suppress(HoldfastError, TimeoutError):
            async with asyncio.timeout(self._config.paused_s):
                await watched(peer, self._config, "retire")
        await self._cluster.kill(peer, for_good=True)
        give_up = asyncio.get_running_loop().time() + self._config.paused_s
        while await self._cluster.find_follower(peer.name) == peer:
            if asyncio.get_running_loop().time() > give_up:
                raise PeerGone(peer.name, f"it was ended, and has not gone within {self._config.paused_s:g} s")
            await asyncio.sleep(ASK_AGAIN_S)

    async def _look_after(self) -> None:
        """See to it that what was started runs. A cluster starts again what it sees die; it does not see what is
        paused, and forgets what was lost with a node for good."""
        while True:
            await asyncio.sleep(self._config.suspect_s)
            for spec in list(self._started.values()):
                try:
                    await self._revive(spec)
                except Exception as error:
                    log.warning(Subject("follower", spec.name), "cannot be looked after: %s", error)

    async def _revive(self, spec: FollowerSpec) -> None:
        peer = await self._cluster.find_follower(spec.name)
        if peer is None:
            if spec.name in self._started:
                await self._cluster.follower(spec)
            return
        try:
            await watched(peer, self._config, "ping")
        except PeerGone as error:
            if not await peer.responds(self._config.paused_s):
                log.warning(Subject("follower", spec.name), "ended, to start again: %s", error)
                await self._cluster.kill(peer)
