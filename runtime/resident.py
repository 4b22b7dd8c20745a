"""Residents: what lives under a name in a cluster, seen from inside. A partition of the journal, or a host.

A resident starts when it is first asked, in the event loop that asks, and answers nothing before it has started.
A start that failed (another process still holds the journal's file) is tried again by the next request.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.actors.clock import MACHINE, Clock
from holdfast.actors.definition import definition_of
from holdfast.actors.host import Host
from holdfast.actors.meters import HostMeters
from holdfast.actors.watchdog import Watchdog
from holdfast.journal.client import JournalClient, JournalLink
from holdfast.journal.errors import Fenced, JournalUnavailable
from holdfast.journal.journal import Journal
from holdfast.journal.key_desk import KeyDesk
from holdfast.journal.keys_url import KeysUrl
from holdfast.journal.meters import JournalMeters
from holdfast.journal.opening import OpeningLink
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.sealing import sealing
from holdfast.journal.server import JournalServer
from holdfast.journal.url import JournalUrl, open_store

from .cluster import Cluster, HostSpec, JournalSpec, Peer, PeerGone, PeerSilent, incarnation
from .config import Config
from .dispatcher import Dispatcher
from .metrics import Put, Sample, Sampler, of_host, of_journal, of_process
from .ref import Gate, Home
from .sight import Sight
from .watch import watched

__all__ = ["HostResident", "JournalResident", "JournalWay", "Make", "Resident", "journal_over", "ways_to"]


STREAMS_MORE = 1000
"""Streams beyond those in memory for which a host keeps keys at hand: those that are just coming and going."""


class Resident(ABC):
    """Answers requests by name, once it has started. `starts_itself`: it does not wait to be asked."""

    starts_itself = False
    _starting: asyncio.Task[None] | None = None

    async def handle(self, method: str, args: tuple[Any, ...]) -> Any:
        """Start if need be, then call the method. Raises what either raises."""
        if method not in self.methods:
            raise AttributeError(f"{type(self).__name__} answers no {method!r}")
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self.start())
        try:
            await asyncio.shield(self._starting)
        except Exception:
            self._starting = None
            raise
        return await getattr(self.target, method)(*args)

    methods: frozenset[str]

    @property
    @abstractmethod
    def target(self) -> Any:
        """What answers."""

    @abstractmethod
    async def start(self) -> None:
        """Come up. Raises when that is not possible now."""

    @abstractmethod
    async def stop(self) -> None:
        """Release what it holds."""


Make = Callable[[Callable[[], None]], Resident]
"""Builds a resident in its process, given what ends that."""


class JournalResident(Resident):
    """A journal server, of one partition, under its namespace's name."""

    methods = frozenset({
        "append", "check_keys", "claim", "confirm", "describe", "destroy_keys", "due_reminders", "find_checkpoint",
        "find_keyed_of", "find_keys", "find_replies", "follow", "head", "list_snapshots", "list_streams", "load",
        "metrics", "ping", "prepare_keys", "read_all", "read_stream", "register", "save_checkpoint", "save_snapshots",
        "statistics", "stop",
    })  # fmt: skip

    def __init__(self, spec: JournalSpec, partition: int = 0, *, put: Put | None = None) -> None:
        """`put`: takes what it has counted, every so often."""
        self._spec, self._partition = spec, partition
        self._sampler = _sampler(self._samples, put, spec.sight)
        self._server: JournalServer | None = None

    @property
    def target(self) -> "JournalResident | JournalServer":
        assert self._server is not None, "asked before it started"
        return self._server

    async def handle(self, method: str, args: tuple[Any, ...]) -> Any:
        """Also says which journal it is, before it has opened it, and what it has counted. Stopped, it opens it again
        for the next request: another runtime may have come while the last one left."""
        if method == "metrics":
            return self._samples()
        if method == "describe":
            return self._spec.mark, JournalUrl.parse(self._spec.url).redacted
        try:
            return await super().handle(method, args)
        finally:
            if method == "stop":
                self._starting = None

    async def start(self) -> None:
        meters = JournalMeters() if self._spec.sight.metrics else None
        store, name = open_store(self._spec.url, self._partition), str(self._partition)
        server = JournalServer(store, keys=self._desk(), meters=meters, name=name)
        await server.start()
        self._server = server
        if self._sampler is not None:
            self._sampler.start()

    def _desk(self) -> KeyDesk | None:
        """Keys are served by the first partition, if they are stored anywhere."""
        if not self._spec.keys or self._partition:
            return None
        url = KeysUrl.parse(self._spec.keys)
        return KeyDesk(url.store(), url.mark)

    async def stop(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        if self._server is not None:
            await self._server.stop()

    def _samples(self) -> list[Sample]:
        return [] if self._server is None else of_journal(self._server, self._partition)


class HostResident(Resident):
    """A host under its owner's name, with a way to the journal and to other aggregates."""

    methods = frozenset({
        "collect", "exchange", "forget", "hello", "live", "metrics", "passivate", "ping", "probe", "retire",
        "statistics",
    })  # fmt: skip

    def __init__(
        self,
        spec: HostSpec,
        cluster: Cluster,
        *,
        home: Home | None,
        pack: Callable[[Any], Any],
        on_gone: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] | None = None,
        clock: Clock = MACHINE,
        put: Put | None = None,
    ) -> None:
        """`cluster`: as this process sees it. `home`: what references carry along from here. `on_gone`: ends this
        resident's process. `now`, `wall`, `clock`: see `Host`. `put`: takes what it has counted, every so often."""
        definition = definition_of(spec.type)
        self._journal = journal = journal_over(ways_to(cluster, spec.journal, spec.config), spec.config)
        self._on_gone = on_gone
        self._slow_s = spec.config.slow_command_s
        self._has_time = now is time.monotonic  # a simulated world has no threads, nor seconds that they could count
        self._sampler = _sampler(self._samples, put, spec.config.sight)
        self._dispatcher = Dispatcher(
            cluster, journal, spec.journal, spec.placements, spec.config, leads=False, nested=True
        )
        self._gate = Gate(spec.journal.namespace, self._dispatcher, home)
        self._host = Host(
            spec.owner,
            incarnation(),  # drawn here: two processes made from one spec must not pass for one
            definition,
            sealing(
                journal,
                definition.personal,
                compress_from=spec.config.compress_from,
                streams_max=spec.limits.live_max + STREAMS_MORE,
            ),
            peers=self._gate,
            limits=spec.limits,
            pack=pack,
            now=now,
            wall=wall,
            clock=clock,
            on_gone=self._gone,
            exits_when_empty=spec.dedicated,
            meters=HostMeters(now) if spec.config.metrics else None,
        )

    @property
    def target(self) -> "Host":
        return self._host

    async def handle(self, method: str, args: tuple[Any, ...]) -> Any:
        """Also says which code it runs, once it has started; and nothing, to whom only wants to know whether what
        it sends arrives."""
        if method == "probe":
            return None
        if method == "metrics":
            return self._samples()
        if method == "hello":
            await super().handle("ping", ())
            return self._host.definition.code
        return await super().handle(method, args)

    async def start(self) -> None:
        self._gate.open()
        await self._host.start()
        if self._host.gone:
            return
        if self._has_time:
            Watchdog.watch(self._host, self._slow_s)
        if self._sampler is not None:
            self._sampler.start()

    def _gone(self) -> None:
        Watchdog.unwatch(self._host)
        if self._sampler is not None:
            self._sampler.stop()
        self._on_gone()

    def _samples(self) -> list[Sample]:
        return [*of_host(self._host), *of_process(self._dispatcher, self._journal)]

    async def stop(self) -> None:
        self._host.was_fenced(Fenced(self._host.owner, self._host.epoch, self._host.epoch + 1))
        self._gate.close()
        await self._dispatcher.close()


def _sampler(look: Callable[[], list[Sample]], put: Put | None, sight: Sight) -> Sampler | None:
    """What hands on what it has counted, if anybody wants it."""
    return Sampler(look, put, sight.metrics_every_s) if put is not None and sight.metrics else None


class JournalWay:
    """A `JournalLink` to one partition over a cluster: finds it again after it died, and ends one that stopped
    turning."""

    def __init__(self, cluster: Cluster, config: Config | None = None, partition: int = 0) -> None:
        self.partition = partition
        self._cluster, self._config = cluster, config or Config()
        self._peer: Peer | None = None
        self._finding = asyncio.Lock()

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method of the journal server. `JournalUnavailable` when no answer came."""
        peer: Peer | None = None
        try:
            peer = await self._found()
            return await watched(peer, self._config, method, *args)
        except PeerGone as error:
            if peer is not None and peer is self._peer:
                self._peer = None
                if isinstance(error, PeerSilent):
                    await self._cluster.kill(peer)
            raise JournalUnavailable(str(error)) from None

    async def end(self) -> None:
        """End the journal that was found, for good: it serves nobody."""
        peer, self._peer = self._peer, None
        if peer is not None:
            await self._cluster.kill(peer, for_good=True)

    async def _found(self) -> Peer:
        async with self._finding:
            if self._peer is None:
                self._peer = await self._cluster.journal(self.partition)
            return self._peer


def ways_to(cluster: Cluster, spec: JournalSpec, config: Config) -> list[JournalWay]:
    """The way to each partition."""
    return [JournalWay(cluster, config, partition) for partition in range(spec.partitions)]


def journal_over(ways: Sequence[JournalLink], config: Config) -> Journal:
    """The journal at the end of these ways. Without partitions there is nothing between it and its callers."""
    parts = [JournalClient(OpeningLink(way, ways[0]), patience_s=config.journal_patience_s) for way in ways]
    return parts[0] if len(parts) == 1 else PartitionedJournal(parts)
