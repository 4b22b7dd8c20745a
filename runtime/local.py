"""The seam's twin: a cluster inside one event loop. No Ray, no processes, milliseconds.

It runs the same hosts, cells, links and journal server as a Ray cluster does. What it cannot show is what only
processes can do: crash at any instruction, pause, or import other code.
"""

import asyncio
import copy
from typing import Any

from .cluster import HostSpec, JournalSpec, PeerGone
from .resident import HostResident, JournalResident, Resident

__all__ = ["LocalCluster", "LocalPeer"]


class LocalPeer:
    """A resident in this event loop."""

    def __init__(self, name: str, resident: Resident) -> None:
        self.name, self.resident = name, resident
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dead = ""

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method, as a task of its own: who asks may be cancelled without it."""
        if self._dead:
            raise PeerGone(self.name, self._dead)
        task = asyncio.get_running_loop().create_task(self.resident.handle(method, args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        if task.cancelled() or self._dead:
            raise PeerGone(self.name, self._dead or "the request was cancelled")
        return task.result()

    async def responds(self, within_s: float) -> bool:
        """It shares this loop: if we can ask, it turns."""
        return not self._dead

    async def die(self, why: str) -> None:
        """Answer nothing any more."""
        self._dead = why
        for task in list(self._tasks):
            task.cancel()
        await self.resident.stop()


class LocalCluster:
    """Residents by name, in this process."""

    def __init__(self, spec: JournalSpec) -> None:
        self._spec = spec
        self._hosts: dict[str, LocalPeer] = {}
        self._journal: LocalPeer | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def journal(self) -> LocalPeer:
        """The journal server, started if none runs."""
        if self._journal is None or self._journal._dead and not self._spec.volatile:
            self._journal = LocalPeer("journal", JournalResident(self._spec))
        return self._journal

    async def host(self, spec: HostSpec) -> LocalPeer:
        """The host called `spec.owner`, started if none runs."""
        peer = self._hosts.get(spec.owner)
        if peer is None:
            resident = HostResident(spec, self, home=None, pack=_copied, on_gone=lambda: self._gone(spec.owner))
            peer = self._hosts[spec.owner] = LocalPeer(spec.owner, resident)
        return peer

    async def find_host(self, owner: str) -> LocalPeer | None:
        """The host called `owner`, if one runs."""
        return self._hosts.get(owner)

    async def host_names(self) -> list[str]:
        """The owners that have a host."""
        return list(self._hosts)

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        """End a resident at once."""
        if self._hosts.get(peer.name) is peer:
            del self._hosts[peer.name]
        await peer.die("it was killed")

    async def close(self) -> None:
        """End everything."""
        for peer in list(self._hosts.values()):
            await peer.resident.stop()
        self._hosts.clear()
        if self._journal is not None:
            await self._journal.die("the cluster was closed")

    def unpack(self, value: Any) -> Any:
        """Nothing was packed."""
        return value

    def _gone(self, owner: str) -> None:
        """A host has left by itself: it still answers what it was asked, and is found no more."""
        self._hosts.pop(owner, None)


def _copied(value: Any) -> Any:
    """A query's result may be part of the state, which goes on changing."""
    return value if isinstance(value, BaseException) else copy.deepcopy(value)
