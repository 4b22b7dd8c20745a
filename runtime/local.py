"""The seam's twin: a cluster inside one event loop. No Ray, no processes, milliseconds.

It runs the same hosts, cells, links and journal server as a Ray cluster does. What it cannot show is what only
processes can do: crash at any instruction, pause, or import other code.
"""

import asyncio
import contextlib
import copy
from contextvars import Context
from typing import Any

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.calls import CallWire
from holdfast.actors.clock import MACHINE, Clock
from holdfast.actors.errors import NotSerializable

from .cluster import FollowerSpec, HostSpec, JournalSpec, PeerGone, WireError, journal_name
from .config import Config
from .follower_resident import FollowerResident
from .packing import PLAIN
from .resident import HostResident, JournalResident, Resident

__all__ = ["LocalCluster", "LocalPeer"]

RETIRE_S = 5.0


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
        handling = self.resident.handle(method, _sent(method, args))
        task = asyncio.get_running_loop().create_task(handling, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        if task.cancelled() or self._dead:
            raise PeerGone(self.name, self._dead or "the request was cancelled")
        return task.result()

    async def responds(self, within_s: float) -> bool:
        """It shares this loop: if we can ask, it turns."""
        return not self._dead

    @property
    def dead(self) -> bool:
        """It answers nothing any more."""
        return bool(self._dead)

    async def die(self, why: str) -> None:
        """Answer nothing any more."""
        if not self._dead:
            self._dead = why
            for task in list(self._tasks):
                task.cancel()
            await self.resident.stop()


class LocalCluster:
    """Residents by name, in this process."""

    spares = 0

    def __init__(self, spec: JournalSpec, clock: Clock = MACHINE) -> None:
        self._spec, self._clock = spec, clock
        self.started_journals = frozenset(range(spec.partitions))
        self._hosts: dict[str, LocalPeer] = {}
        self._journals: dict[int, LocalPeer] = {}
        self._followers: dict[str, LocalPeer] = {}

    async def journal(self, partition: int = 0) -> LocalPeer:
        """The journal server, or that of a partition, started if none runs."""
        found = self._journals.get(partition)
        if found is None or (found.dead and not self._spec.volatile):
            resident = JournalResident(self._spec, partition)
            found = self._journals[partition] = LocalPeer(journal_name(partition), resident)
        return found

    async def journals(self) -> list[LocalPeer]:
        """The journal servers that run."""
        return [peer for peer in self._journals.values() if not peer.dead]

    async def host(self, spec: HostSpec) -> LocalPeer:
        """The host called `spec.owner`, started if none runs."""
        found = self._hosts.get(spec.owner)
        if found is not None:
            return found
        resident = HostResident(
            spec, self, home=None, pack=_copied, on_gone=lambda: self._gone(peer), clock=self._clock
        )
        peer = self._hosts[spec.owner] = LocalPeer(spec.owner, resident)
        return peer

    async def find_host(self, owner: str) -> LocalPeer | None:
        """The host called `owner`, if one runs."""
        return self._hosts.get(owner)

    async def host_names(self) -> list[str]:
        """The owners that have a host."""
        return list(self._hosts)

    async def follower(self, spec: FollowerSpec) -> LocalPeer:
        """The follower called `spec.name`, started if none runs."""
        found = self._followers.get(spec.name)
        if found is not None:
            return found
        resident = FollowerResident(spec, self, home=None, on_gone=lambda: self._gone(peer))
        peer = self._followers[spec.name] = LocalPeer(spec.name, resident)
        await peer.ask("ping")
        return peer

    async def find_follower(self, name: str) -> LocalPeer | None:
        """The follower called `name`, if one runs."""
        return self._followers.get(name)

    async def follower_names(self) -> list[str]:
        """The followers that run."""
        return list(self._followers)

    def expect(self, type: type[Aggregate], config: Config) -> None:
        """A host here starts in no time: no spares are needed."""

    async def end_spares(self) -> None:
        """There are none."""

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        """End a resident at once."""
        self._gone(peer)
        await peer.die("it was killed")

    async def close(self) -> None:
        """Have every aggregate leave memory with its snapshot, then end everything."""
        hosts = list(self._hosts.values())
        for peer in list(self._followers.values()):
            await peer.die("the cluster was closed")
        self._followers.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                await asyncio.gather(*(peer.ask("retire") for peer in hosts), return_exceptions=True)
        for peer in (*hosts, *self._journals.values()):
            await peer.die("the cluster was closed")
        self._hosts.clear()

    def unpack(self, value: Any) -> Any:
        """Nothing was packed."""
        return value

    def _gone(self, peer: LocalPeer) -> None:
        """It is found no more. A host that has left by itself still answers what it was asked."""
        for peers in (self._hosts, self._followers):
            if peers.get(peer.name) is peer:
                del peers[peer.name]


def _copied(value: Any) -> Any:
    """A query's result may be part of the state, which goes on changing."""
    if type(value) in PLAIN or isinstance(value, BaseException):
        return value
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise NotSerializable(f"result of type {type(value).__qualname__}", str(error)) from None


def _sent(method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """As another process would get it: what a command does to its arguments, its caller does not see."""
    if method != "exchange":
        return args
    session, number, calls = args
    return (
        session,
        number,
        [call if _is_plain(call) else (*call[:3], *_copy_of_arguments(call), *call[5:]) for call in calls],
    )


def _is_plain(call: CallWire) -> bool:
    return not call[4] and all(type(argument) in PLAIN for argument in call[3])


def _copy_of_arguments(call: CallWire) -> tuple[Any, Any]:
    try:
        return copy.deepcopy((call[3], call[4]))
    except Exception as error:
        raise WireError(call[1], f"{type(error).__name__}: {error}") from None
