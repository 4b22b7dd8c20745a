"""The dispatcher: from a reference's call to the link of the right host, and back with the answer.

One per runtime. It knows which placement each aggregate type has and has it recorded in the journal before the
first call goes out, so that no two runtimes ever disagree on who owns what. It sees to it that new code gets new
hosts, and that a dedicated placement stays within its bound.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.calls import Kind, Trace
from holdfast.actors.definition import CommandSpec, Definition, definition_of
from holdfast.actors.derived import derived_id
from holdfast.actors.host import HostStatistics
from holdfast.actors.unit import CALLER, Unit
from holdfast.journal import tracing
from holdfast.journal.errors import HoldfastError
from holdfast.journal.journal import Journal
from holdfast.journal.subject import Log, Subject

from .cluster import Cluster, HostSpec, JournalSpec, Peer, PeerGone, incarnation
from .config import Config
from .errors import CategoryConflict, RuntimeClosed
from .link import Link
from .pending import Pending
from .placement import Placement, Placements
from .watch import watched

__all__ = ["Dispatcher", "Target"]

log = Log(__name__)

POLL_FIRST_S, POLL_MOST_S = 0.02, 0.2


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
    trace: Trace | None = None
    """Where its calls come from, if they are sent on account of an event and not by a command or a client."""


class Dispatcher:
    """Sends calls to hosts. `leads`: this runtime was opened by a user, so its code is what hosts should run; one
    inside a host or a task follows what is recorded instead. `nested`: its callers are commands of a host, which hold
    their places while they wait: they may start dedicated hosts over the bound rather than wait for each other."""

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        spec: JournalSpec,
        placements: Placements,
        config: Config,
        *,
        leads: bool,
        nested: bool = False,
        on_recorded: Callable[[Definition], None] | None = None,
    ) -> None:
        """`on_recorded`: told of each definition that this runtime has had recorded, as a user's own."""
        self.cluster, self.journal, self.placements, self.config = cluster, journal, placements, config
        self._spec, self._leads, self._nested, self._on_recorded = spec, leads, nested, on_recorded
        self._links: dict[tuple[str, str], Link] = {}  # by category and owner
        self._types: dict[str, type[Aggregate]] = {}  # by category: the newest class of its name
        self._seen: WeakSet[type[Aggregate]] = WeakSet()
        self._recorded: dict[str, asyncio.Task[None]] = {}
        self._counting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._may_start = asyncio.Semaphore(config.starting_max)
        self._id_prefix, self._ids = incarnation(), itertools.count(1)
        self._closed = False
        self._retries = 0  # of lines that are forgotten
        self._sweeper: asyncio.Task[None] | None = None

    def line(self, target: Target) -> Link:
        """The line to the host of an aggregate, good until it is `forgotten`. Raises `RuntimeClosed`,
        `CategoryConflict`."""
        if self._closed:
            raise RuntimeClosed(f"{target.category}/{target.id}")
        self._know(target.type)
        category, owner = target.category, self._placement(target).owner(target.category, target.id)
        link = self._links.get((category, owner))
        if link is None:
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), context=Context())
            link = Link(owner, lambda: self._connect(category, owner), self.cluster.kill, self.config)
            self._links[category, owner] = link
        return link

    async def call(
        self, target: Target, line: Link, command: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Send one command or query over the line of its aggregate and return its answer. Raises what it raises,
        `DeadlineExceeded`, `Overloaded`, `RuntimeClosed`, and whatever keeps its host from starting."""
        line.check_room()  # before anything is made for the call: under overload most are refused
        pending = self._pending(target, command, args, kwargs)
        if tracing.tracer is not None:
            return await self._traced(target, line, command, pending)
        return await self._ask(line, command, pending)

    async def _ask(self, line: Link, command: CommandSpec, pending: Pending) -> Any:
        kind, value = await line.call(pending)
        if kind is Kind.DONE:
            return command.reply.decode(value)
        answer = self.cluster.unpack(value)
        if kind is Kind.ERROR:
            raise answer
        return answer

    async def _traced(self, target: Target, line: Link, command: CommandSpec, pending: Pending) -> Any:
        trace = pending.trace or Trace()
        asked = tracing.Asked(target.category, target.id, command.name, trace.metadata)
        pending.trace = trace._replace(metadata=asked.metadata)
        try:
            answer = await self._ask(line, command, pending)
        except BaseException as error:
            asked.done(error)
            raise
        asked.done()
        return answer

    async def register(self, definition: Definition) -> None:
        """Have the type's placement and code recorded, once. Raises `PlacementConflict`, `CategoryConflict`."""
        self._know(definition.type)
        category = definition.category
        task = self._recorded.get(category)
        if task is None:
            task = self._recorded[category] = asyncio.get_running_loop().create_task(self._record(definition))
        try:
            await asyncio.shield(task)  # others wait for it too
        except Exception:
            if self._recorded.get(category) is task:
                del self._recorded[category]
            raise

    async def renew(self, definition: Definition) -> None:
        """Have hosts of this type that run other code replaced now, not at their first use by this runtime: they may be
        used by followers alone, which replace nobody. Raises what `register` does."""
        await self.register(definition)
        category = definition.category
        for owner in await self.cluster.host_names():
            if owner.startswith((f"{category}/", f"{category}#")):
                with suppress(PeerGone):  # its successor starts with the code that is recorded now
                    await self._connect(category, owner)

    async def statistics(self) -> list[HostStatistics]:
        """Of every host of this namespace that answers within `paused_s`."""
        answers = await asyncio.gather(*map(self._statistics_of, await self.cluster.host_names()))
        return [statistics for _, statistics in filter(None, answers)]

    async def passivate(self, target: Target) -> bool:
        """Send one aggregate out of memory. False: it was not in memory."""
        await self.register(definition_of(target.type))
        peer = await self.cluster.find_host(self._placement(target).owner(target.category, target.id))
        try:
            return peer is not None and bool(await watched(peer, self.config, "passivate", target.id))
        except PeerGone:
            return False

    async def close(self) -> None:
        """Stop sending; whoever still waits gets `RuntimeClosed`."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for link in self._links.values():
            link.close()
        for task in self._recorded.values():
            task.cancel()

    @property
    def retries(self) -> int:
        """Calls sent again."""
        return self._retries + sum(link.retries for link in self._links.values())

    @property
    def callers(self) -> int:
        """How many in this process wait for an answer."""
        return sum(link.callers for link in self._links.values())

    def known(self, category: str) -> Definition | None:
        """The definition of a category, if it was used here."""
        type = self._types.get(category)
        return None if type is None else definition_of(type)

    # -- one call ------------------------------------------------------------------------------------------------

    def _know(self, type: type[Aggregate]) -> None:
        """Two classes of one category are a mistake, unless they are one class that was defined twice: by value
        into this process, or anew in a notebook. Of those the newest is what hosts should run."""
        definition = definition_of(type)
        known = self._types.get(definition.category)
        if known is type or type in self._seen:
            return
        if known is not None and (known.__module__, known.__qualname__) != (type.__module__, type.__qualname__):
            raise CategoryConflict(definition.category, known.__qualname__, type.__qualname__)
        self._seen.add(type)
        self._types[definition.category] = type
        if known is not None and definition_of(known).code != definition.code:
            self._recorded.pop(definition.category, None)
            for (category, _), link in self._links.items():
                if category == definition.category:
                    link.renew()

    def _pending(
        self, target: Target, command: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Pending:
        caller, key = CALLER.get(), target.idempotency_key
        keyed = maybe_executed = False
        if key is not None and not command.is_query:
            command_id, keyed = key, True
        elif caller is not None and not command.is_query:
            command_id = derived_id(caller, target.category, target.id, command.name, args, kwargs)
            keyed, maybe_executed = caller.context.keyed, caller.context.maybe_executed
        else:
            command_id = f"{self._id_prefix}-{next(self._ids)}"
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

    async def _sweep(self) -> None:
        """Forget lines that have been silent: a population of dedicated aggregates must not grow this process."""
        while True:
            await asyncio.sleep(self.config.link_idle_s / 2)
            silent_since = asyncio.get_running_loop().time() - self.config.link_idle_s
            for key, link in list(self._links.items()):
                if link.idle and link.used_at < silent_since:
                    link.forget()
                    self._retries += link.retries
                    del self._links[key]

    # -- hosts ---------------------------------------------------------------------------------------------------

    async def _record(self, definition: Definition) -> None:
        placement = self.placements.of(definition.category)
        if definition.personal:
            await self.journal.parts[0].ask("check_keys", f"{definition.category} has personal data")
        await self.journal.register(definition.category, placement.recorded_as, definition.code if self._leads else "")
        if self._leads and placement.hosts_max is not None:
            self.cluster.expect(definition.type, self.config)
        if self._leads and self._on_recorded is not None:
            self._on_recorded(definition)

    async def _connect(self, category: str, owner: str) -> Peer:
        """The host called `owner`, running the code it should. What goes there is recorded first."""
        definition, placement = definition_of(self._types[category]), self.placements.of(category)
        await self.register(definition)
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
        peer, running = await self._running(spec, placement)
        if self._leads and running != definition.code and await self._is_current(definition, placement):
            log.info(Subject("host", owner), "runs other code than this runtime: it is replaced")
            await self._retire(peer)
            peer, running = await self._running(spec, placement)
            if running != definition.code:
                log.warning(Subject("host", owner), "its process imports other code than this one; it is used as it is")
        return peer

    async def _running(self, spec: HostSpec, placement: Placement) -> tuple[Peer, str]:
        """The host, when it has started, and which code it runs."""
        if placement.hosts_max is None:
            peer = await self.cluster.host(spec)
            return peer, await self._hello(peer)
        found = await self.cluster.find_host(spec.owner)
        if found is not None:
            return found, await self._hello(found)
        return await self._start(spec, placement.hosts_max)

    async def _start(self, spec: HostSpec, hosts_max: int) -> tuple[Peer, str]:
        """A dedicated host, within the bound, and only a few at a time: a process that starts takes a core for a
        second, and the successor of a host that died would queue behind all of them."""
        category = definition_of(spec.type).category
        async with self._counting[category]:  # one at a time, so that they are counted right
            await self._make_room(category, spec.owner, hosts_max)
            await self._may_start.acquire()
            try:
                peer = await self.cluster.host(spec)
            except BaseException:
                self._may_start.release()
                raise
        try:
            return peer, await self._hello(peer)
        finally:
            self._may_start.release()

    async def _hello(self, peer: Peer) -> str:
        """Wait until the host has started; which code it runs."""
        try:
            async with asyncio.timeout(self.config.start_s):
                code: str = await watched(peer, self.config, "hello")
        except TimeoutError:
            await self.cluster.kill(peer)
            raise PeerGone(peer.name, f"it has not started within {self.config.start_s:g} s") from None
        except PeerGone:
            await self.cluster.kill(peer)
            raise
        return code

    async def _is_current(self, definition: Definition, placement: Placement) -> bool:
        """Whether nobody has opened with newer code since this runtime recorded its own."""
        recorded = await self.journal.register(definition.category, placement.recorded_as, "")
        return recorded.code == definition.code

    async def _make_room(self, category: str, owner: str, hosts_max: int) -> None:
        """Wait until one more dedicated host of this type may start, sending the longest idle one away."""
        poll_s = POLL_FIRST_S
        while True:
            names = [name for name in await self.cluster.host_names() if name.startswith(f"{category}/")]
            if len(names) < hosts_max or owner in names:
                return
            idlest = await self._longest_idle(names)
            if idlest is None and self._nested:
                return
            if idlest is None:
                await asyncio.sleep(poll_s)  # all are busy; the callers' deadlines run
                poll_s = min(2 * poll_s, POLL_MOST_S)
            else:
                await self._retire(idlest)

    async def _longest_idle(self, names: list[str]) -> Peer | None:
        found = filter(None, await asyncio.gather(*map(self._statistics_of, names)))
        idle = [(statistics.idle_s, peer) for peer, statistics in found if not statistics.calls]
        return max(idle, key=lambda pair: pair[0])[1] if idle else None

    async def _statistics_of(self, owner: str) -> tuple[Peer, HostStatistics] | None:
        peer = await self.cluster.find_host(owner)
        if peer is None:
            return None
        try:
            async with asyncio.timeout(self.config.paused_s):
                return peer, await peer.ask("statistics")
        except TimeoutError:
            if not await peer.responds(self.config.paused_s):
                await self.cluster.kill(peer)  # it holds a place, and would for as long as it is stopped
        except HoldfastError:
            pass
        return None

    async def _retire(self, peer: Peer) -> None:
        """Let a host finish and end, and wait until its name is free."""
        try:
            await watched(peer, self.config, "retire")
        except HoldfastError as error:
            log.info(Subject("host", peer.name), "cannot retire: %s", error)
            await self.cluster.kill(peer)
        give_up = asyncio.get_running_loop().time() + self.config.paused_s
        while await self.cluster.find_host(peer.name) == peer:
            if asyncio.get_running_loop().time() > give_up:
                await self.cluster.kill(peer)
            await asyncio.sleep(POLL_FIRST_S)


def _trace(caller: Unit | None, target: Target) -> Trace | None:
    if caller is None:
        if target.trace is not None:
            return target.trace
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
