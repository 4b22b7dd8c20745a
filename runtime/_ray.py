# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false
# Ray's own annotations are partial.
"""The seam: the only file that touches Ray.

A resident is a named, detached Ray actor that needs no CPU of its own. Each answers one method, `invoke`, with bytes
in and bytes out: a whole batch of calls is one object on the way. A second method, in a thread of its own, tells
whether the process turns while its event loop is busy.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import ray.cloudpickle as cloudpickle
import ray.exceptions
import ray.experimental.internal_kv as internal_kv
import ray.util
import ray.util.metrics
from ray._private.services import canonicalize_bootstrap_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from holdfast.actors.aggregate import Aggregate
from holdfast.journal.errors import HoldfastError
from holdfast.journal.subject import Log, Subject

from .answers import Answers
from .cluster import JOURNAL, FollowerSpec, HostSpec, JournalSpec, PeerGone, WireError, incarnation, journal_name
from .collector import Collector
from .config import Config
from .directory import Directory
from .dispatcher import Dispatcher
from .errors import HostUnavailable, NoCluster, RuntimeClosed
from .follower_resident import FollowerResident
from .metric_table import METRICS
from .metrics import Sample, summed
from .packing import Packer
from .placement import Placements
from .ref import Gate
from .resident import HostResident, JournalResident, Make, Resident, journal_over, ways_to
from .spares import Spare, Spares
from .watch import watched
from .whereabouts import Node, Start, Whereabouts

__all__ = ["Leave", "RayCluster", "RayHome", "RayPeer", "Stay", "Visit", "put"]

log = Log(__name__)

HOST = "host:"
FOLLOWER = "follower:"
SPARE = "spare:"
OURS = "holdfast-"  # of Ray's namespaces
ANSWERS_S = 5.0
KV_NAMESPACE = "holdfast"  # of Ray's own key-value store, which lives as long as the cluster
CALLS_MAX = 10_000  # requests under way in one resident; a long one, of slow calls, does not keep others out
END_AFTER_S = 0.05
OBJECT_STORE_BYTES = 128 << 20  # batches are small and short-lived; the default takes a third of the memory

_ALIVE, _RESTARTING = 2, 3  # in Ray's gcs.proto: ActorTableData.ActorState
_ANSWER, _ERROR, _UNREADABLE = range(3)
_dumps: Callable[[Any], bytes] = cloudpickle.dumps
_loads: Callable[[bytes], Any] = cloudpickle.loads
_packer = Packer(_dumps, _loads)


class _Resident:
    """What runs in an actor's process."""

    def __init__(self, make: bytes) -> None:
        """`make`: the function that builds the resident, by cloudpickle, given what ends this process."""
        self._resident: Resident | None = None
        self._problem = ""
        try:
            self._resident = resident = _loads(make)(self._end)
            if resident.starts_itself:  # whoever started this actor again does not know what it is for
                ray.get_runtime_context().current_actor.invoke.remote(_dumps(("ping", ())))
        except Exception as error:  # told to whoever asks: an actor that dies in its constructor explains nothing
            self._problem = f"{type(error).__name__}: {error}"

    async def invoke(self, request: bytes) -> bytes:
        """Answer one request; what it raises is part of the answer."""
        if self._resident is None:
            self._end()
            name = _plain(ray.get_runtime_context().get_actor_name() or "")
            return _wire(_ERROR, _packer.pack(HostUnavailable(name, self._problem)))
        try:
            method, args = _loads(request)
        except Exception as error:
            return _wire(_UNREADABLE, f"{type(error).__name__}: {error}")
        try:
            return _wire(_ANSWER, await self._resident.handle(method, args))
        except Exception as error:
            return _wire(_ERROR, _packer.pack(error))

    @ray.method(concurrency_group="health")
    async def alive(self) -> bool:
        """In an event loop of its own: answers while the other one is busy, not while the process is paused."""
        return True

    def _end(self) -> None:
        """End this process, once the answers under way have had a moment to leave."""
        me = ray.get_runtime_context().current_actor
        asyncio.get_running_loop().call_later(END_AFTER_S, ray.kill, me)


_remote: Any = ray.remote
_Actor = _remote(concurrency_groups={"health": 1})(_Resident)


def _create(make: bytes, options: dict[str, Any]) -> Any:
    """A resident's actor. Ray keeps the class for as long as it thinks that this process's job goes on, or has actors;
    it thinks so no more when this process has outlived its raylet. So the class is sent along each time: else none
    would ever start from here again, each failing in its new process to find its class."""
    _Actor.__ray_metadata__.last_export_cluster_and_job = None
    return _Actor.options(**options).remote(make)


def _wire(kind: int, value: Any) -> bytes:
    return _dumps((kind, value))


class RayPeer:
    """A resident in some process of the cluster. `restarts`: Ray starts it again when it dies, as a journal."""

    def __init__(self, name: str, handle: Any, actor: str, *, restarts: bool) -> None:
        """`actor`: its name as Ray knows it."""
        self.name, self.handle, self.actor, self.restarts = name, handle, actor, restarts
        self._answers = Answers(name, partial(_is_up, handle))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RayPeer) and bool(self.handle == other.handle)

    def __hash__(self) -> int:
        return hash(self.handle)

    async def ask(self, method: str, *args: Any) -> Any:
        """One Ray call. `PeerGone`: the actor died, or the way to it broke. `WireError`: see there."""
        try:
            request = _dumps((method, args))
        except Exception as error:
            raise WireError(self.name, f"{type(error).__name__}: {error}") from None
        if self.handle._get_local_state() == _RESTARTING:  # what is sent to it now fails, and late
            raise PeerGone(self.name, "it is starting again")
        try:
            kind, value = _loads(await self._answers.wait(_awaitable(self.handle.invoke.remote(request))))
        except ray.exceptions.RayError as error:
            raise PeerGone(self.name, _first_line(error)) from None
        if kind == _ANSWER:
            return value
        if kind == _ERROR:
            raise _packer.unpack(value)
        raise WireError(self.name, value)

    async def responds(self, within_s: float) -> bool:
        """Whether its process turns. One that Ray knows to be starting, or dead, counts as responding: requests wait
        for the first, and fail at once at the second. So does one that died, or was started again, meanwhile."""
        with contextlib.suppress(ray.exceptions.RayError):
            if _is_up(self.handle):
                try:
                    async with asyncio.timeout(within_s):
                        await _awaitable(self.handle.alive.remote())
                except TimeoutError:
                    return not _is_up(self.handle)
        return True


class RayCluster:
    """The residents of one namespace of the Ray cluster that this process has joined."""

    def __init__(self, spec: JournalSpec, *, may_start_journal: bool) -> None:
        """`may_start_journal`: only a runtime that was opened says where the journal is, if nobody has yet."""
        self._spec = spec
        self._namespace = f"{OURS}{spec.namespace}"
        self._directory = Directory(_owners(self._namespace), self._is_there)
        self._whereabouts = Whereabouts(
            spec,
            notes=_Notes(KV_NAMESPACE),
            key=self._namespace,
            machine=socket.gethostname(),
            nodes=_live_nodes,
            may_start=may_start_journal,
        )
        self._spares: Spares | None = None
        self.started_journals: set[int] = set()

    async def journal(self, partition: int = 0) -> RayPeer:
        """The journal server, or that of a partition, started if none runs: if it is a file, on the machine that has
        it."""
        found = await self._find(journal_name(partition))
        if found is not None:
            self.started_journals.discard(partition)
            return found
        self.started_journals.add(partition)
        start = await self._whereabouts.start_of(partition)
        spec, options = start.spec, _options(start)
        try:
            return await self._start(journal_name(partition), _journal_maker(spec, partition), options)
        except HoldfastError:
            self._whereabouts.failed(partition)
            raise

    async def journals(self) -> list[RayPeer]:
        """All journal servers that run in this namespace, of whatever journal they are partitions."""
        names = [name for name in await asyncio.to_thread(self._names) if name.partition(":")[0] == JOURNAL]
        return [peer for name in names if (peer := await self._find(name)) is not None]

    async def host(self, spec: HostSpec) -> RayPeer:
        """The host called `spec.owner`, started if none runs; a dedicated one in a spare, if one is ready."""
        while spec.dedicated and self._spares is not None and self._spares.ready:
            # One without spares may have started it since it was looked for, which may be long ago.
            if (found := await self.find_host(spec.owner)) is not None:
                return found
            spare: Any = self._spares.take()
            if spare is not None and (found := await self._adopted(spare, spec)) is not None:
                return found
        return await self._start(HOST + spec.owner, self._host_maker(spec), {"max_restarts": 0})

    def _host_maker(self, spec: HostSpec, actor: str = "") -> Make:
        """`actor`: the one that it will live in, if that is not called after it."""
        namespace = self._namespace

        def make(end: Callable[[], None]) -> Resident:
            cluster = RayCluster(spec.journal, may_start_journal=False)
            home = RayHome(spec.journal, spec.placements, spec.config)
            Collector().start()
            spec.config.sight.begin()
            gone = partial(_leave_and_end, namespace, spec.owner, actor, end) if actor else end
            return HostResident(spec, cluster, home=home, pack=_packer.pack, on_gone=gone, put=put)

        return make

    async def _adopted(self, spare: RayPeer, spec: HostSpec) -> RayPeer | None:
        """The host of `spec.owner`: this spare, or one that somebody else had started meanwhile. None: it is no use.

        1. It is noted for the owner. Should this process die now, the spare ends with its lease, and the note is void.
        2. It becomes the host. Whoever found it before is answered from now on."""
        peer = _peer(spare.actor, spare.handle, spec.owner)
        try:
            if not await asyncio.to_thread(self._directory.enter, spec.owner, spare.actor):
                await self.kill(spare)
                return await self.find_host(spec.owner)
            await watched(peer, spec.config, "adopt", self._host_maker(spec, spare.actor))
        except WireError as error:
            await self.kill(peer)
            raise HostUnavailable(spec.owner, f"it cannot be sent there: {error.problem}") from None
        except (PeerGone, ray.exceptions.RayError) as error:
            log.info(Subject("spare", spare.name), "could not be adopted: %s", error)
            await self.kill(peer)
            return None
        except BaseException:  # noted, and no host: its keeper would renew its lease for ever
            await asyncio.shield(self.kill(peer))
            raise
        return peer

    def expect(self, type: type[Aggregate], config: Config) -> None:
        """Dedicated hosts of this type will be wanted: have spares ready, as many as `config` says. Does not wait."""
        if self._spares is None:
            self._spares = Spares(self._start_spare, self.kill, config)
        self._spares.expect(type)

    @property
    def spares(self) -> int:
        """How many processes are ready to become dedicated hosts."""
        return 0 if self._spares is None else self._spares.ready

    async def end_spares(self) -> None:
        """Keep none ready any more."""
        if self._spares is not None:
            await self._spares.close()
            self._spares = None

    async def _start_spare(self, lease_s: float) -> RayPeer:
        spec, name = self._spec.without_url(), SPARE + incarnation()

        def make(end: Callable[[], None]) -> Resident:
            cluster = RayCluster(spec, may_start_journal=False)
            expire = partial(ray.kill, ray.get_runtime_context().current_actor)
            return Spare(end, warm_up=partial(_find_the_way, cluster), expire=expire, lease_s=lease_s)

        return await self._start(name, make, {"max_restarts": 0})

    async def find_host(self, owner: str) -> RayPeer | None:
        """The host called `owner`, if one runs."""
        _check_joined()
        try:
            actor = await asyncio.to_thread(self._directory.actor_of, owner)
        except ray.exceptions.RayError as error:
            raise PeerGone(owner, _first_line(error)) from None
        found = None if actor is None else await self._find(actor, owner)
        return found or await self._find(HOST + owner)

    async def host_names(self) -> list[str]:
        """The owners that have a host running, or had one in a spare that died and that nobody has missed yet."""
        try:
            names, noted = await asyncio.to_thread(lambda: (self._names(), self._directory.owners()))
        except ray.exceptions.RayError as error:
            raise PeerGone("the cluster", _first_line(error)) from None
        return list({name.removeprefix(HOST) for name in names if name.startswith(HOST)} | set(noted))

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        """End a resident at once. The journal's actor starts again unless `for_good`; a host's name is free."""
        log.info(Subject("resident", peer.name), "ended")
        with contextlib.suppress(PeerGone, ray.exceptions.RayError, ValueError):
            _check_joined()
            await asyncio.to_thread(ray.kill, peer.handle, no_restart=for_good or not peer.restarts)
            if not peer.restarts:
                await asyncio.to_thread(self._directory.leave, peer.name, peer.actor)

    def unpack(self, value: Any) -> Any:
        """What a resident packed."""
        return _packer.unpack(value)

    async def close(self) -> None:
        """Let go of the spares; nothing else here is ours: residents are detached."""
        await self.end_spares()

    async def follower(self, spec: FollowerSpec) -> RayPeer:
        """The follower called `spec.name`, started if none runs. Ray starts it again when it dies."""
        journal = self._spec.without_url()

        def make(end: Callable[[], None]) -> Resident:
            cluster = RayCluster(journal, may_start_journal=False)
            home = RayHome(journal, spec.placements, spec.config)
            Collector().start()
            spec.config.sight.begin()
            # Not by way of Ray: under this name a successor may live already, which that would end.
            return FollowerResident(spec, cluster, home=home, on_gone=partial(_end_process, END_AFTER_S), put=put)

        return await self._start(FOLLOWER + spec.name, make, {"max_restarts": -1})

    async def find_follower(self, name: str) -> RayPeer | None:
        """The follower called `name`, if one runs."""
        return await self._find(FOLLOWER + name, name)

    async def follower_names(self) -> list[str]:
        """The followers that run, those included that are just starting again."""
        names = await asyncio.to_thread(self._names)
        return [name.removeprefix(FOLLOWER) for name in names if name.startswith(FOLLOWER)]

    def _names(self) -> list[str]:
        """Of this namespace's actors, those included that are starting again. Blocks."""
        _check_joined()
        try:
            named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
        except ray.exceptions.RayError as error:
            raise PeerGone("the cluster", _first_line(error)) from None
        return [actor["name"] for actor in named if actor["namespace"] == self._namespace]

    def _is_there(self, actor: str) -> bool:
        try:
            ray.get_actor(actor, self._namespace)
        except ValueError:  # Ray's way of saying that there is none
            return False
        return True

    async def _find(self, name: str, called: str = "") -> RayPeer | None:
        """`called`: as it is known here, if it does not bear its own name."""
        _check_joined()
        try:
            return _peer(name, await asyncio.to_thread(ray.get_actor, name, self._namespace), called)
        except ValueError:  # Ray's way of saying that there is none
            return None
        except ray.exceptions.RayError as error:
            raise PeerGone(_plain(name), _first_line(error)) from None

    async def _start(self, name: str, make: Make, options: dict[str, Any]) -> RayPeer:
        try:
            blob = _dumps(make)
        except Exception as error:
            raise HostUnavailable(_plain(name), f"it cannot be sent there: {error}") from None
        options = {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": 0,
            "max_concurrency": CALLS_MAX,
            "enable_task_events": False,
            **options,
        }
        _check_joined()
        try:
            return _peer(name, await asyncio.to_thread(_create, blob, options))
        except (ray.exceptions.RayError, ValueError) as error:
            raise PeerGone(_plain(name), _first_line(error)) from None


def _journal_maker(spec: JournalSpec, partition: int) -> Make:
    def make(end: Callable[[], None]) -> Resident:
        Collector().start()
        spec.sight.begin()
        return JournalResident(spec, partition, put=put)

    return make


class _Series:
    """What this process has handed to Ray, by name. Ray adds the labels that tell processes apart.

    A histogram goes as what Prometheus makes of one, `_bucket`, `_sum` and `_count`: values that only grow. Ray's own
    would have to be told each single observation."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._counted: dict[Sample, float] = {}
        self._lock = threading.Lock()

    def put(self, samples: Sequence[Sample]) -> None:
        """Hand on what is new."""
        with self._lock:
            for sample in summed(samples):
                self._put(sample)

    def _put(self, sample: Sample) -> None:
        counts, tags = METRICS[sample.metric].sort == "counter", dict(sample.labels)
        metric = self._metrics.get(sample.name)
        if metric is None:
            make: Any = ray.util.metrics.Counter if counts else ray.util.metrics.Gauge
            metric = self._metrics[sample.name] = make(sample.name, METRICS[sample.metric].says, tuple(tags))
        if not counts:
            metric.set(sample.value, tags)
            return
        series = sample._replace(value=0)
        before = self._counted.get(series)
        if before is None:
            metric._record(0, tags)  # `inc` takes no 0, and of what was never there, nobody sees the first increase
        more = sample.value - (before or 0)
        self._counted[series] = sample.value
        if more:
            metric.inc(more if more > 0 else sample.value, tags)  # below: what counts has begun anew


_series = _Series()


def put(samples: Sequence[Sample]) -> None:
    """Hand samples to Ray, which hands them to Prometheus. Nothing where this process has left its cluster."""
    if ray.is_initialized():
        _series.put(samples)


class _Notes:
    """A namespace of Ray's own key-value store."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def get(self, key: str) -> str | None:
        _check_joined()
        note: Any = internal_kv._internal_kv_get(key, namespace=self._namespace)
        return None if note is None else str(note.decode())

    def add(self, key: str, value: str) -> bool:
        return not internal_kv._internal_kv_put(key, value, overwrite=False, namespace=self._namespace)

    def put(self, key: str, value: str) -> None:
        internal_kv._internal_kv_put(key, value, overwrite=True, namespace=self._namespace)

    def remove(self, key: str) -> None:
        internal_kv._internal_kv_del(key, namespace=self._namespace)

    def keys(self) -> list[str]:
        found: list[Any] = internal_kv._internal_kv_list("", namespace=self._namespace)
        return [key.decode() for key in found]


def _owners(namespace: str) -> _Notes:
    """Where the directory of a namespace is kept."""
    return _Notes(f"{KV_NAMESPACE}-{namespace}")


def _options(start: Start) -> dict[str, Any]:
    """A journal's actor. Ray starts it again when it dies, but not one that is bound to a node when that is lost:
    whoever misses it first does so then, on another node of the machine that has the file."""
    options: dict[str, Any] = {"max_restarts": -1 if start.restarts else 0}
    if start.node:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(start.node, soft=False)
    return options


def _live_nodes() -> list[Node]:
    """This process's own first."""
    mine: str = ray.get_runtime_context().get_node_id()
    table: Callable[[], list[Any]] = ray.nodes
    live = [Node(n["NodeID"], n["NodeManagerHostname"]) for n in table() if n["Alive"]]
    return sorted(live, key=lambda node: node.id != mine)


def _leave_and_end(namespace: str, owner: str, actor: str, end: Callable[[], None]) -> None:
    """A host that lives in a spare ends: it is found no more."""
    directory = Directory(_owners(namespace), lambda _: True)
    asyncio.get_running_loop().run_in_executor(None, directory.leave, owner, actor)
    end()


def _end_process(after_s: float) -> None:
    """Once the answers under way have had a moment to leave."""
    asyncio.get_running_loop().call_later(after_s, os._exit, 0)


async def _find_the_way(cluster: RayCluster) -> None:
    """To the journal: what takes longest when it is asked for the first time."""
    with contextlib.suppress(HoldfastError):
        await (await cluster.journal()).ask("ping")


Leave = Callable[[Callable[[], Awaitable[None]] | None], Awaitable[None]]
"""Give a cluster up; before it ends, if it does, do what is given."""


class Stay:
    """One runtime's stay on a Ray cluster. Made in a thread: joining and starting block.

    An address joins that cluster (`"auto"`: the one on this machine). None uses the Ray that this process has, or the
    one that `RAY_ADDRESS` names, and else starts one on this machine. That one ends with the last of the
    stays in this process. It listens where Ray does: on every interface.
    """

    _lock = threading.Lock()
    _guests = 0
    _ours: "_OurRay | None" = None  # started by the first of this process's stays

    def __init__(self, address: str | None) -> None:
        with Stay._lock:
            if not ray.is_initialized():
                Stay._guests, Stay._ours = 0, _join_or_start(address)
            Stay._guests += 1

    def cluster(self, spec: JournalSpec) -> RayCluster:
        """The cluster, as a runtime that opens a journal sees it."""
        return RayCluster(spec, may_start_journal=True)

    async def leave(self, before_the_end: Callable[[], Awaitable[None]] | None = None) -> None:
        """Give it up; the last one ends a Ray that was started for us, with every process in it."""
        loop = asyncio.get_running_loop()
        last = await asyncio.shield(loop.run_in_executor(None, self._go))
        try:
            if last and before_the_end is not None:
                await before_the_end()
        finally:
            if last:
                await asyncio.shield(loop.run_in_executor(None, self._end_unless_taken))

    def _go(self) -> bool:
        """Whether what was started for us ends, since nobody else is left. Of two that leave at once, one hears so."""
        with Stay._lock:
            Stay._guests -= 1
            return Stay._ours is not None and Stay._guests == 0

    def _end_unless_taken(self) -> None:
        """Another stay may have begun meanwhile: it keeps this Ray. One that begins now waits, and starts its own."""
        with Stay._lock:
            if Stay._ours is not None and Stay._guests == 0:
                Stay._ours.end()
                Stay._ours = None


class _OurRay(threading.Thread):
    """A Ray that this process starts, in a thread that lasts as long: Ray's processes are bound to the thread that
    started them, and the kernel ends them with it."""

    def __init__(self) -> None:
        super().__init__(name="holdfast-ray", daemon=True)
        self._up, self._over = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self.start()
        self._up.wait()
        if self._problem is not None:
            raise self._problem

    def run(self) -> None:
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        except BaseException as problem:
            self._problem = problem
        self._up.set()
        if self._problem is None:
            self._over.wait()

    def end(self) -> None:
        """End it, with every process in it."""
        ray.shutdown()
        self._over.set()
        self.join()


def _join_or_start(address: str | None) -> _OurRay | None:
    """Ours, if one was started."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        return _OurRay()
    ray.init(address=address, logging_level=logging.ERROR)
    return None


class Visit:
    """At a Ray that runs already, by somebody who only looks: nothing is started, and nothing of it ends with this.
    Made in a thread: joining blocks."""

    def __init__(self, address: str) -> None:
        """`address`: `"auto"`, the one on this machine, or that of a cluster. Raises `NoCluster`."""
        self._joined = not ray.is_initialized()
        if self._joined:
            _check_answers(address)
            try:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            except Exception as error:  # as many kinds as there are ways not to be there
                raise NoCluster(address, _first_line(error)) from None

    def cluster(self, spec: JournalSpec) -> RayCluster:
        """The residents of a namespace. Its journal is not started from here."""
        return RayCluster(spec, may_start_journal=False)

    def namespaces(self) -> list[str]:
        """Those in which anything of ours runs. Blocks."""
        named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
        ours = (actor["namespace"] for actor in named if actor["namespace"].startswith(OURS))
        return sorted({name.removeprefix(OURS) for name in ours})

    def leave(self) -> None:
        """Let go. Blocks."""
        if self._joined:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Somebody listens there: Ray itself waits for minutes, and then may end this process."""
    if "://" in address:
        return
    try:
        place = canonicalize_bootstrap_address(address)
        if place is None:
            raise NoCluster(address, "it names none that could run already")
        host, _, port = place.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_S).close()
    except (OSError, ValueError) as error:
        raise NoCluster(address, _first_line(error)) from None


def _check_joined() -> None:
    """Most of Ray's functions start a Ray of their own if there is none."""
    if not ray.is_initialized():
        raise PeerGone("the cluster", "this process has left it")


@dataclass(frozen=True, slots=True)
class RayHome:
    """What a process needs to find its way in: one that got a reference by pickle, a Ray task say, and has no runtime
    open. To unpickle it is to import this file."""

    spec: JournalSpec
    placements: Placements
    config: Config

    def gate(self) -> Gate:
        """A way out of this process. Raises `RuntimeClosed` if it has joined no cluster."""
        if not ray.is_initialized():
            raise RuntimeClosed("this process has joined no cluster (ray.init does that)")
        cluster = RayCluster(self.spec, may_start_journal=False)
        journal = journal_over(ways_to(cluster, self.spec, self.config), self.config)
        dispatcher = Dispatcher(cluster, journal, self.spec, self.placements, self.config, leads=False)
        return Gate(self.spec.namespace, dispatcher, self)


def _is_up(handle: Any) -> bool:
    """As far as this process has been told."""
    return bool(handle._get_local_state() == _ALIVE)


def _awaitable(ref: Any) -> "asyncio.Future[Any]":
    return asyncio.wrap_future(ref.future())


def _peer(actor: str, handle: Any, called: str = "") -> RayPeer:
    return RayPeer(called or _plain(actor), handle, actor, restarts=not actor.startswith((HOST, SPARE)))


def _plain(name: str) -> str:
    return name.removeprefix(HOST).removeprefix(FOLLOWER)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
