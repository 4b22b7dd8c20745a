"""The dispatcher: from a reference's call to the link of the right host, and back with the answer.

One per runtime. It knows which placement each aggregate type has and has it recorded in the journal before the
first call goes out, so that no two runtimes ever disagree on who owns what. It sees to it that new code gets new
hosts, and that a dedicated placement stays within its bound.
"""

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.calls import CALLER, Kind, Trace
from holdfast.actors.definition import CommandSpec, Definition, definition_of
from holdfast.actors.fingerprint import fingerprint
from holdfast.actors.host import HostStatistics
from holdfast.actors.unit import Unit
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import HoldfastError

from .cluster import Cluster, HostSpec, JournalSpec, Peer, PeerGone, incarnation
from .config import Config
from .errors import CategoryConflict, RuntimeClosed
from .link import Link, Pending
from .placement import Placement, Placements

__all__ = ["Dispatcher", "Target"]

log = logging.getLogger(__name__)

POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which aggregate a reference names, and how it wants its calls sent."""

    type: type[Aggregate]
    category: str
    id: str
    idempotency_key: str | None = None
    timeout_s: float | None = None
    metadata: Mapping[str, Any] | None = None
    linearizable: bool = False


class Dispatcher:
    """Sends calls to hosts. `leads`: this runtime was opened by a user, so its code is what hosts should run; one
    inside a host or a task follows what is recorded instead."""

    def __init__(
        self,
        cluster: Cluster,
        journal: JournalClient,
        spec: JournalSpec,
        placements: Placements,
        config: Config,
        *,
        leads: bool,
    ) -> None:
        self.cluster, self.journal, self.placements, self.config = cluster, journal, placements, config
        self._spec, self._leads = spec, leads
        self._links: dict[str, Link] = {}
        self._registered: dict[str, asyncio.Task[None]] = {}
        self._types: dict[str, type[Aggregate]] = {}
        self._starting = asyncio.Lock()  # so that the bound on dedicated hosts is counted by one at a time
        self._id_prefix, self._ids = incarnation(), itertools.count(1)
        self._closed = False
        self._sweeper: asyncio.Task[None] | None = None

    async def call(self, target: Target, command: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Send one command or query and return its answer. Raises what it raises, `DeadlineExceeded`,
        `Overloaded`, and whatever keeps its host from starting."""
        if self._closed:
            raise RuntimeClosed(f"{target.category}/{target.id}")
        definition = definition_of(target.type)
        await self.register(definition)
        pending = self._pending(target, command, args, kwargs)
        try:
            self._link(target, definition).send(pending)
            kind, value = await pending.future
        finally:
            pending.timer.cancel()
        if kind is Kind.DONE:
            return command.reply.decode(value)
        answer = self.cluster.unpack(value)
        if kind is Kind.ERROR:
            raise answer
        return answer

    async def register(self, definition: Definition) -> None:
        """Have the type's placement and code recorded, once. Raises `PlacementConflict`, `CategoryConflict`."""
        category, type = definition.category, definition.type
        known = self._types.setdefault(category, type)
        if known is not type and (known.__module__, known.__qualname__) != (type.__module__, type.__qualname__):
            raise CategoryConflict(category, known.__qualname__, type.__qualname__)
        task = self._registered.get(category)
        if task is None or known is not type:
            self._types[category] = type
            task = self._registered[category] = asyncio.get_running_loop().create_task(self._record(definition))
        elif task.done() and not task.cancelled() and task.exception() is None:
            return
        try:
            await asyncio.shield(task)
        except Exception:
            if self._registered.get(category) is task:
                del self._registered[category]
            raise

    async def statistics(self) -> list[HostStatistics]:
        """Of every host of this namespace that answers."""
        peers = [await self.cluster.find_host(name) for name in await self.cluster.host_names()]
        answers = await asyncio.gather(
            *(peer.ask("statistics") for peer in peers if peer is not None), return_exceptions=True
        )
        return [a for a in answers if isinstance(a, HostStatistics)]

    async def passivate(self, target: Target) -> bool:
        """Send one aggregate out of memory. False: it was not in memory."""
        await self.register(definition_of(target.type))
        peer = await self.cluster.find_host(self._placement(target).owner(target.category, target.id))
        try:
            return peer is not None and bool(await peer.ask("passivate", target.id))
        except PeerGone:
            return False

    async def close(self) -> None:
        """Stop sending; whoever still waits gets `RuntimeClosed`."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for link in self._links.values():
            link.close()
        for task in self._registered.values():
            task.cancel()

    # -- one call ------------------------------------------------------------------------------------------------

    def _pending(
        self, target: Target, command: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Pending:
        caller = CALLER.get()
        keyed = target.idempotency_key is not None and not command.is_query
        command_id, maybe_executed = f"{self._id_prefix}-{next(self._ids)}", False
        if keyed:
            assert target.idempotency_key is not None
            command_id = target.idempotency_key
        elif caller is not None and not command.is_query:
            command_id = _derived_id(caller, target, command.name, args, kwargs)
            keyed, maybe_executed = caller.context.keyed, caller.context.maybe_executed
        return Pending(
            target.id,
            command.name,
            args,
            kwargs,
            command_id=command_id,
            keyed=keyed,
            maybe_executed=maybe_executed,
            timeout_s=self.config.timeout_s if target.timeout_s is None else target.timeout_s,
            trace=_trace(caller, target),
        )

    def _placement(self, target: Target) -> Placement:
        return self.placements.of(target.category)

    def _link(self, target: Target, definition: Definition) -> Link:
        placement = self._placement(target)
        owner = placement.owner(target.category, target.id)
        link = self._links.get(owner)
        if link is None:
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
            link = self._links[owner] = Link(
                owner, lambda: self._connect(owner, definition, placement), self.cluster.kill, self.config
            )
        return link

    async def _sweep(self) -> None:
        """Forget lines that have been silent: a population of dedicated aggregates must not grow this process."""
        while True:
            await asyncio.sleep(self.config.link_idle_s / 2)
            silent_since = asyncio.get_running_loop().time() - self.config.link_idle_s
            for owner, link in list(self._links.items()):
                if link.idle and link.used_at < silent_since:
                    del self._links[owner]

    # -- hosts ---------------------------------------------------------------------------------------------------

    async def _record(self, definition: Definition) -> None:
        placement = self.placements.of(definition.category).recorded_as
        await self.journal.register(definition.category, placement, definition.code if self._leads else "")

    async def _connect(self, owner: str, definition: Definition, placement: Placement) -> Peer:
        """The host called `owner`, running the code it should."""
        spec = HostSpec(
            owner=owner,
            type=definition.type,
            journal=self._spec,
            placements=self.placements,
            config=self.config,
            limits=replace(
                self.config.host,
                live_max=placement.live_max_per_host(),
                idle_s=placement.idle_s or self.config.host.idle_s,
            ),
            dedicated=placement.hosts_max is not None,
        )
        peer = await self._start(spec, placement)
        running = await peer.ask("hello")
        if self._leads and running != definition.code and await self._is_current(definition, placement):
            log.info("%s runs other code than this runtime: it is replaced", owner)
            await self._retire(peer)
            peer = await self._start(spec, placement)
            if await peer.ask("hello") != definition.code:
                log.warning("%s: its process imports other code than this one; it is used as it is", owner)
        return peer

    async def _is_current(self, definition: Definition, placement: Placement) -> bool:
        """Whether nobody has opened with newer code since this runtime recorded its own."""
        recorded = await self.journal.register(definition.category, placement.recorded_as, "")
        return recorded.code == definition.code

    async def _start(self, spec: HostSpec, placement: Placement) -> Peer:
        if placement.hosts_max is None:
            return await self.cluster.host(spec)
        async with self._starting:
            peer = await self.cluster.find_host(spec.owner)
            if peer is None:
                await self._make_room(spec.type, placement.hosts_max)
                peer = await self.cluster.host(spec)
            return peer

    async def _make_room(self, type: type[Aggregate], hosts_max: int) -> None:
        """Wait until one more dedicated host of this type may start, sending the longest idle one away."""
        prefix = f"{definition_of(type).category}/"
        while True:
            names = [name for name in await self.cluster.host_names() if name.startswith(prefix)]
            if len(names) < hosts_max:
                return
            idlest = await self._longest_idle(names)
            if idlest is None:
                await asyncio.sleep(POLL_S)  # all are busy; the callers' deadlines run
            else:
                await self._retire(idlest)

    async def _longest_idle(self, names: list[str]) -> Peer | None:
        async def look(name: str) -> tuple[float, Peer] | None:
            peer = await self.cluster.find_host(name)
            if peer is None:
                return None
            try:
                seen: HostStatistics = await peer.ask("statistics")
            except HoldfastError:
                return None
            return None if seen.calls else (seen.idle_s, peer)

        idle = [found for found in await asyncio.gather(*map(look, names)) if found is not None]
        return max(idle, key=lambda found: found[0])[1] if idle else None

    async def _retire(self, peer: Peer) -> None:
        """Let a host finish and end, and wait until its name is free."""
        try:
            await peer.ask("retire")
        except HoldfastError as error:
            log.info("%s ended while it was asked to: %s", peer.name, error)
        while peer.name in await self.cluster.host_names():
            await asyncio.sleep(POLL_S)


def _trace(caller: Unit | None, target: Target) -> Trace | None:
    if caller is None:
        if target.metadata is None and not target.linearizable:
            return None
        return Trace(metadata=target.metadata or {}, linearizable=target.linearizable)
    context = caller.context
    return Trace(
        correlation_id=context.correlation_id,
        causation_id=context.command_id,
        chain=context.chain,
        metadata=dict(context.metadata) | dict(target.metadata or {}),
        linearizable=target.linearizable,
    )


def _derived_id(
    caller: Unit, target: Target, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The id of a command that a command sends: the same when that one runs again, so it acts once.

    It depends on what is sent, and on how many times the same was sent before, not on the order of different
    ones: an async command may send several at once.
    """
    what = fingerprint(f"{target.category}/{target.id}.{method}", args, kwargs).hex()
    nth = caller.sent[what] = caller.sent.get(what, 0) + 1
    return fingerprint(caller.context.command_id, (*caller.context.chain, what, nth), {}).hex()
