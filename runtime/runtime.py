"""The runtime: the front door. Opens a journal, joins or starts a cluster, and hands out references.

    async with Runtime.open("sqlite:///bank.db") as runtime:
        account = runtime.get(Account, "alice")
        print(await account.deposit(100))

Opening takes no aggregate into memory; a call does. Closing a runtime that started Ray ends that Ray, after every
aggregate has left memory with its snapshot; closing one that joined a cluster ends nothing there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.clock import MACHINE, Clock, VirtualClock, micros_of
from holdfast.actors.definition import Definition, definition_of
from holdfast.actors.host import HostStatistics
from holdfast.actors.hydrate import hydrate
from holdfast.journal.errors import HoldfastError, JournalLocked, JournalUnavailable, JournalUrlError
from holdfast.journal.journal import Journal
from holdfast.journal.keys import DataSubject
from holdfast.journal.keys_url import KeysUrl
from holdfast.journal.merge import merged, starting_at
from holdfast.journal.partition import partition_of
from holdfast.journal.positions import Positions
from holdfast.journal.records import StoreStatistics, StreamId
from holdfast.journal.subject import Log, Subject
from holdfast.journal.url import JournalUrl

from ._ray import Leave, RayHome, Stay, put
from .blocking import BlockingRuntime
from .cluster import Cluster, JournalSpec, Peer, PeerGone, PeerSilent
from .config import Config
from .dispatcher import Dispatcher
from .errors import NamespaceConflict
from .feed import Feeds
from .follower import FollowerStatistics
from .followers import Followers
from .forgetting import Forgetting, ForgottenReport
from .kinds import formers_of, is_reaction, names_of, plans_of
from .local import LocalCluster
from .metrics import Put, Sample, Sampler, of_process, summed
from .placement import Dedicated, Placement, Placements
from .projection_follower import RebuildProgress
from .recorded import RecordedEvent, opened
from .ref import Gate, Ref, target
from .reminders import REMINDERS, reminders_plan
from .resident import JournalWay, journal_over, ways_to
from .states import states
from .subscription import Filter, Subscription
from .watch import watched

__all__ = ["Opening", "Runtime", "Statistics"]

A = TypeVar("A", bound=Aggregate)
PlacementChoice = Placement | Mapping[Any, Placement]  # keys are types; a mapping would be invariant in them

log = Log(__name__)

RETIRE_S = 5.0
ASK_AGAIN_S = 0.1
REBUILD_LOOK_S = 0.1


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal holds and the hosts do, at one moment. Hosts that did not answer are not in it."""

    journal: StoreStatistics
    hosts: tuple[HostStatistics, ...]
    spares: int
    """Processes that this runtime has ready to become dedicated hosts (`Config.spare_hosts`)."""
    followers: tuple[FollowerStatistics, ...] = ()

    @property
    def live(self) -> int:
        """Aggregates in memory."""
        return self._sum("live")

    @property
    def commands(self) -> int:
        """Commands done since these hosts started."""
        return self._sum("commands")

    @property
    def queries(self) -> int:
        """Queries answered since these hosts started."""
        return self._sum("queries")

    @property
    def hydrations(self) -> int:
        """Times that an aggregate came into memory."""
        return self._sum("hydrations")

    @property
    def hydration_rows(self) -> int:
        """Snapshot and event rows read for that."""
        return self._sum("hydration_rows")

    @property
    def passivations(self) -> int:
        """Times that an aggregate left memory."""
        return self._sum("passivations")

    def _sum(self, name: str) -> int:
        return sum(getattr(host, name) for host in self.hosts)


class Runtime:
    """An open journal, and the way to every aggregate in it. Made by `Runtime.open`; used in one event loop.

    Any number of runtimes, in any number of processes of a cluster, use the same aggregates at once.
    """

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        spec: JournalSpec,
        placements: Placements,
        config: Config,
        *,
        leave: Leave | None,
        clock: Clock = MACHINE,
        one_clock: bool = True,
        put: Put | None = None,
    ) -> None:
        """Not called by users. `leave`: gives the cluster up, and ends it if it is this process's own. `clock`: what
        reminders go by. `one_clock`: all that goes by it has this very object, and not a copy in another process.
        `put`: takes what this process has counted, every so often."""
        self._cluster, self._journal, self._spec, self._config = cluster, journal, spec, config
        known_to_all = spec.without_url()
        self._dispatcher = Dispatcher(
            cluster, journal, known_to_all, placements, config, leads=True, on_recorded=self._see_to_reminders
        )
        self._gate = Gate(spec.namespace, self._dispatcher, RayHome(known_to_all, placements, config))
        self._gate.open()
        self._followers = Followers(cluster, known_to_all, placements, config)
        self._feeds = Feeds(journal.parts, config.host.page)
        self._leave, self._clock = leave, clock
        self._starting: set[asyncio.Task[None]] = set()  # followers of reminders
        self._one_clock = one_clock
        self._part_from_clock: Callable[[], None] | None = None
        if isinstance(clock, VirtualClock) and not one_clock:
            self._part_from_clock = clock.on_advance(partial(self._bring_reminders_to, settle_s=clock.settle_s))
        self._sampler = Sampler(self._samples, put, config.metrics_every_s) if put and config.metrics else None
        if self._sampler is not None:
            self._sampler.start()
        self._closed = False

    @classmethod
    def open(
        cls,
        url: str,
        *,
        address: str | None = None,
        namespace: str = "default",
        placement: PlacementChoice | None = None,
        config: Config | None = None,
        clock: Clock = MACHINE,
        keys: str | None = None,
    ) -> "Opening":
        """Open the journal at `url` on a Ray cluster. Use it as `async with`, `await`, or, blocking, as `with`.

        `url`: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgres://user@host/database`; with
        `?partitions=n` a journal of several writers.
        `address`: of the Ray cluster to join (`"auto"`: the one on this machine); None uses the Ray that this process
        already has, or starts one that ends with the runtime. `namespace`: keeps several journals in one cluster
        apart. `placement`: of all types, or a mapping from types to placements (`Dedicated()` for those not in it).
        `clock`: what the reminders of this namespace go by. A `VirtualClock` takes those along that run in other
        processes: `advance` returns when all that is due by then has fired there, whatever dies on the way. It moves
        nothing else: hosts, with their timers and `self.context.now`, keep the machine's time, so commands that are
        about another one carry it. A process of reminders that was lost starts where the clock stood when it was
        started first, and comes up to it with the next advance.

        `keys`: the URL of the store for the keys of personal data, a journal's URL or `sqlite:///keys.db?wrap=env:NAME`
        with a master key; the process of the journal opens it. Needed where events have fields marked `Personal`, and
        where subjects are forgotten.

        Raises `JournalUrlError` at once; on entering `JournalOpenError`s, `JournalUnavailable` after
        `journal_patience_s` without an answer, `PlacementConflict`, `NamespaceConflict`,
        `KeyStoreConflict`.
        """
        JournalUrl.parse(url)
        keys = _keys(url, keys)
        placements = _placements(placement)

        async def entered() -> Runtime:
            _begin_tracing(config)
            stay = await _stay(address)
            how = url, namespace, placements, placement, config
            return await _opened(*how, stay.cluster, stay.leave, clock, keys, one_clock=False, put=put)

        return Opening(entered, JournalUrl.parse(url).redacted)

    @classmethod
    def local(
        cls,
        url: str = "memory://",
        *,
        namespace: str = "default",
        placement: PlacementChoice | None = None,
        config: Config | None = None,
        clock: Clock = MACHINE,
        keys: str | None = None,
    ) -> "Opening":
        """The same runtime without Ray: everything lives in the calling process and ends with it. For tests, and
        for programs that want durable aggregates in one process. `clock`: a `VirtualClock` is moved by hand, and with
        it the time of commands, reminders and timers."""
        JournalUrl.parse(url)
        keys = _keys(url, keys)
        placements = _placements(placement)

        async def entered() -> Runtime:
            _begin_tracing(config)
            join = partial(LocalCluster, clock=clock)
            return await _opened(url, namespace, placements, placement, config, join, None, clock, keys)

        return Opening(entered, JournalUrl.parse(url).redacted)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        url = JournalUrl.parse(self._spec.url).redacted
        return f"<runtime of {url} in namespace {self._spec.namespace!r}{', closed' if self._closed else ''}>"

    @property
    def partitions(self) -> int:
        """How many the journal has; 1 where nothing was said of them."""
        return self._spec.partitions

    def get(
        self,
        type: type[A],
        id: str,
        *,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        linearizable: bool = False,
    ) -> A:
        """A reference to one aggregate, typed as the aggregate itself. Starts nothing, and may be pickled.

        `id`: any non-empty printable text of up to 255 bytes. `idempotency_key`: commands sent with it act once,
        however often they are sent, for as long as the journal lives; a second one gets the first one's reply.
        `timeout_s`: for each call; then it raises `DeadlineExceeded`. `metadata`: stored with the events.
        `linearizable`: queries make sure with the journal that nobody has taken over since.

        Calls from one runtime to one aggregate arrive in the order they were made. After a host was lost, those
        without an answer are sent again in that order; one that is durable keeps its place and its reply, one that
        was refused unheard is decided again, on the state that it then finds.

        Raises `InvalidId`, `NotAnAggregate`, `DefinitionError`, `ValueError`.
        """
        how = target(
            type,
            id,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
            metadata=dict(metadata) if metadata else None,
            linearizable=linearizable,
        )
        reference: Any = Ref(how, self._gate)
        return reference  # type: ignore[no-any-return]

    async def register(self, *types: type[Aggregate]) -> None:
        """Have the journal record how these types are placed and which code this runtime brings, now instead of at
        the first call of each. From then on the reminders of a type are fired: a program that starts again registers
        the types whose reminders must not wait for a call. Raises `PlacementConflict`, `CategoryConflict`,
        `DefinitionError`."""
        for each in types:
            await self._dispatcher.register(definition_of(each))

    async def read(
        self,
        type: type[Aggregate] | None = None,
        id: str | None = None,
        *,
        after: int | Positions = 0,
        limit: int | None = None,
        backward: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Events as recorded: of one aggregate, of all of one type, or (without a type) of the whole journal.

        With an `id`, `after` is a version, and `backward` reads from the newest, or from below `after`. Else
        `after` is a position, or `Positions`, which it has to be in a journal of several partitions: there events come
        by the time of their commands, and within a partition always in the order of positions. Memory is bounded by a
        page of each partition, whatever the length. Of an older event that was upcast to several each comes, with its
        `part`; `limit` counts what the journal holds. Reading wakes no aggregate. Raises `ValueError`."""
        if id is None and backward:
            raise ValueError("only one aggregate's events can be read backward: give its id")
        if id is not None and type is None:
            raise ValueError("an id needs its type")
        definition = None if type is None else definition_of(type)
        if definition is not None and id is not None:
            if isinstance(after, Positions):
                raise ValueError(f"one aggregate's events are read after a version, not after positions {after}")
            async for recorded in self._read_one(definition, id, after, limit, backward):
                yield recorded
            return
        parts, category = self._journal.parts, None if definition is None else definition.category
        start, page = starting_at(after, len(parts)), self._config.host.page
        async for partition, event in merged(parts, start, category=category, limit=limit, page=page):
            for each in opened(event, definition, partition):
                yield each

    async def _read_one(
        self, definition: Definition, id: str, after: int, limit: int | None, backward: bool
    ) -> AsyncIterator[RecordedEvent]:
        stream = StreamId(definition.category, id)
        partition = partition_of(stream, self.partitions)
        left, at = limit, after
        while left is None or left > 0:
            size = self._config.host.page if left is None else min(left, self._config.host.page)
            page = await self._journal.read_stream(stream, after=at, limit=size, backward=backward)
            for recorded in page:
                for each in opened(recorded, definition, partition)[:: -1 if backward else 1]:
                    yield each
            if not page or (backward and page[-1].version == 1):  # a short page is not the end: it may be full of bytes
                return
            at = page[-1].version
            left = None if left is None else left - len(page)

    def subscribe(
        self,
        *,
        after: int | Positions = 0,
        categories: Iterable[type[Aggregate] | str] | None = None,
        types: Iterable[type[Any] | str] | None = None,
        stream: tuple[type[Aggregate] | str, str] | None = None,
    ) -> Subscription:
        """The journal's events after a position, and then those that come: each once, in the order of positions (within
        a partition, where there are several), without an end.

        `categories`, `types`: only of these aggregates, only these events; as classes or by name. `stream`: only of
        one aggregate, `(Account, "alice")`. Events come as instances of their classes where these are named here or
        known to this runtime by their aggregates, and as plain mappings otherwise. `after`: a position, `Positions`, or
        what `Subscription.position` was; `await runtime.head()` leaves out what has been.

        Any number of subscriptions of this runtime cost one read of the journal. Iterating raises
        `JournalUnavailable` when the journal is out of reach for too long, `AheadOfJournal`, `RuntimeClosed`. Raises
        `ValueError`, `TypeError`."""
        wanted = Filter(categories, types, stream, known=self._dispatcher.known)
        positions = starting_at(after, self.partitions)
        partitions = range(self.partitions)
        if wanted.stream is not None:
            one = partition_of(wanted.stream, self.partitions)
            partitions = range(one, one + 1)
        return Subscription(self._feeds, positions, wanted, partitions)

    def watch(self, type: type[A], id: str) -> AsyncIterator[A]:
        """The state of an aggregate now, and again whenever it has changed: detached copies, as `state_at` gives them.
        A reader that is slower than the changes gets the newest and not each. Wakes no aggregate. Raises
        `HydrationFailed` for events that cannot be applied."""
        checked = target(type, id)
        return states(definition_of(type), StreamId(checked.category, id), self._journal, self.subscribe)

    async def state_at(self, type: type[A], id: str, *, version: int | None = None) -> A:
        """A detached copy of an aggregate as it was at `version` (None: as the journal has it now). Its fields can
        be read; commands sent to it go nowhere. Wakes no aggregate.

        Raises `ValueError` for a version the stream has not reached, `HydrationFailed`, `CorruptRecord`."""
        if version is not None and version < 0:
            raise ValueError(f"version must be 0 or more, got {version}")
        checked = target(type, id)
        found = await hydrate(definition_of(type), StreamId(checked.category, id), self._journal, version=version)
        if version is not None and found.version < version:
            raise ValueError(f"{checked.category}/{id} is at version {found.version}, it has no {version}")
        return found.instance  # type: ignore[return-value]

    async def passivate(self, type: type[Aggregate], id: str) -> bool:
        """Send one aggregate out of memory when it has nothing to do; its snapshot is written when this returns.
        The next call brings it back. False: it was not in memory."""
        return await self._dispatcher.passivate(target(type, id))

    async def head(self) -> int | Positions:
        """The newest position of the journal: a number, or one for each partition where there are several."""
        return await self._journal.head()

    async def start(self, what: Any, *args: Any, **options: Any) -> None:
        """Have a follower run in this namespace: a `Projection` class with the URL of its read model, a `Reaction`
        class, a `Publisher`. It goes on from its checkpoint, is started again when it dies, and outlives this runtime
        where the cluster does. One that runs already with this very code is left alone; one with other code, and one
        that has stopped by itself, is replaced. Returns when it has started. Raises what its declaration is refused
        with."""
        plans = plans_of(what, *args, **options)
        if is_reaction(what):
            await self._dispatcher.renew(definition_of(what))
        await self._followers.start(plans)
        await self._followers.end_stopped(formers_of(what, await self._cluster.follower_names()))

    async def stop(self, what: Any) -> bool:
        """End a follower, and those of older versions of it, wherever it was started. Its checkpoint stays. False: it
        did not run."""
        formers = formers_of(what, await self._cluster.follower_names())
        return await self._followers.stop([*names_of(what), *formers])

    async def wait_for(
        self, what: Any, position: int | Positions | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Wait until a follower is done with everything up to a position; None: all that is in the journal now, so
        that what was answered before this call is in the read model after it. Raises `DeadlineExceeded` after
        `timeout_s` (None: that of the config), `FollowerStopped`, `NoSuchFollower`, `ValueError`."""

        async def until() -> Positions:
            return starting_at(await self.head() if position is None else position, self.partitions)

        await self._followers.wait_for(
            names_of(what), until, self._config.timeout_s if timeout_s is None else timeout_s
        )

    async def dead_letters(self, what: Any) -> list[Any]:
        """The events that a follower has set aside, as its `on_error` said: where each is in the journal, what went
        wrong, and how often it was tried. Raises `NoSuchFollower`."""
        return [letter for name in names_of(what) for letter in await self._followers.ask(name, "dead_letters")]

    async def replay_dead_letters(self, what: Any, which: Iterable[Any] | None = None) -> list[Any]:
        """Have dead letters handled again, all or these, one after the other; each that succeeds is one no longer. Mind
        that events after them were handled before. Returns those that failed again. Raises `NoSuchFollower`, and what
        may succeed later."""
        places, failed = None if which is None else {letter.place for letter in which}, list[Any]()
        for name in names_of(what):
            left = set[tuple[int, int]]()
            for letter in await self._followers.ask(name, "dead_letters"):
                if places is None or letter.place in places:
                    try:
                        await self._followers.ask(name, "replay", *letter.place)
                    except Exception as error:  # whatever its handler raises
                        if getattr(error, "retryable", False):
                            raise
                        left.add(letter.place)
            failed += [each for each in await self._followers.ask(name, "dead_letters") if each.place in left]
        return failed

    async def rebuild(self, what: Any) -> AsyncIterator[RebuildProgress]:
        """Build the read model of a projection anew from the first event on, beside the one that serves, which goes on
        until the new one takes its place. Yields how far that is until it has; whoever stops looking does not stop it.
        Raises `NoSuchFollower`, and `FollowerStopped` if it was given up."""
        begun = {name: await self._followers.ask(name, "rebuild") for name in names_of(what)}
        while True:
            answers: list[RebuildProgress] = [
                await self._followers.ask(name, "rebuilding", number) for name, number in begun.items()
            ]
            progress = RebuildProgress.of_all(answers)
            yield progress
            if progress.finished:
                return
            await asyncio.sleep(REBUILD_LOOK_S)

    async def forget(self, kind: str, id: str) -> ForgottenReport:
        """Forget a data subject, `forget("customer", "42")`: destroy its key, so that every field marked as its
        personal data reads as blank from now on, and see to it that no process still has the data in memory. After this
        no query answers with it. What is written of the same subject later is kept under a new key.

        Rows of projections, and what was published, were made from the data when it was readable: they hear of it by
        the event `Forgotten`. Doing it twice is harmless, and doing it again is what to do after an error. Raises
        `NoKeyStore`, `JournalUnavailable`, `JournalFailed`, `ValueError`."""
        for what, text in (("kind", kind), ("id", id)):
            if not isinstance(text, str) or not text or not text.isprintable():
                raise ValueError(f"the {what} of a data subject is printable text, not {text!r}")
        forgetting = Forgetting(self._cluster, self._journal, self._config)
        report = await forgetting.forget(DataSubject(kind, id), self._clock.now_us())
        self._feeds.let_go()
        return report

    async def statistics(self) -> Statistics:
        """What the journal holds, and what the hosts and followers of this namespace hold and have done."""
        journal, hosts, followers = await asyncio.gather(
            self._journal.statistics(), self._dispatcher.statistics(), self._followers.statistics()
        )
        return Statistics(
            journal=journal,
            hosts=tuple(sorted(hosts, key=lambda host: host.name)),
            spares=self._cluster.spares,
            followers=tuple(followers),
        )

    async def metrics(self) -> list[Sample]:
        """What this process and the residents of this namespace have counted, as Prometheus would get it (the table is
        in docs/metrics.md). Series of one name and labels are added up; residents that do not answer are not in it."""
        peers: list[Peer | None] = [
            *await self._cluster.journals(),
            *[await self._cluster.find_host(name) for name in await self._cluster.host_names()],
            *[await self._cluster.find_follower(name) for name in await self._cluster.follower_names()],
        ]
        answers = await asyncio.gather(*(self._metrics_of(peer) for peer in peers if peer is not None))
        return summed([*self._samples(), *(sample for answer in answers for sample in answer)])

    async def _metrics_of(self, peer: Peer) -> list[Sample]:
        with contextlib.suppress(TimeoutError, HoldfastError):
            async with asyncio.timeout(self._config.paused_s):
                found: list[Sample] = await peer.ask("metrics")
            return found
        return []

    def _samples(self) -> list[Sample]:
        return of_process(self._dispatcher, self._journal)

    async def close(self) -> None:
        """Let go. If this runtime started Ray: have every aggregate leave memory with its snapshot, then end all
        processes. Whoever still waits for an answer gets `RuntimeClosed`. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._gate.close()
        if self._sampler is not None:
            self._sampler.stop()
        if self._part_from_clock is not None:
            self._part_from_clock()
        for task in self._starting:
            task.cancel()
        async with contextlib.AsyncExitStack() as leaving:  # whatever fails or is cancelled, the cluster is left
            leaving.push_async_callback(self._cluster.close)
            if self._leave is not None:
                leaving.push_async_callback(self._leave, self._retire)
            await self._feeds.close()
            await self._followers.close()
            await self._dispatcher.close()
            await self._cluster.end_spares()

    def _see_to_reminders(self, definition: Definition) -> None:
        """Have the reminders of a type fired, if its code sets any. Calls do not wait for that."""
        if definition.uses_reminders:
            # A process takes its time to start: a clock that is not also that process's waits for it when it moves on.
            starting = self._follow_reminders(definition, self._clock.hold() if self._one_clock else _nothing_held)
            task = asyncio.get_running_loop().create_task(starting, context=Context())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _follow_reminders(self, definition: Definition, release: Callable[[], None]) -> None:
        try:
            while True:
                try:
                    return await self._followers.start((reminders_plan(definition, self._config, self._clock),))
                except HoldfastError as error:
                    log.warning(Subject("reminders", definition.category), "do not start yet: %s", error)
                await asyncio.sleep(ASK_AGAIN_S)
        finally:
            release()

    async def _bring_reminders_to(self, moment: datetime, *, settle_s: float) -> None:
        """Have every process of reminders in this namespace come to a moment, and fire what is due by then. One that
        dies meanwhile is asked again when it is back. Raises `TimeoutError`, `PeerGone`."""
        if self._starting and (await asyncio.wait(self._starting, timeout=self._config.start_s))[1]:
            raise TimeoutError(f"reminders have not started within {self._config.start_s:g} s")
        names = [name for name in await self._cluster.follower_names() if name.startswith(REMINDERS)]
        ask = partial(self._followers.ask, patience_s=settle_s)
        await asyncio.gather(*(ask(name, "advance", micros_of(moment)) for name in names))

    async def _retire(self) -> None:
        """Everything out of memory, everything on disk; within reason."""
        with contextlib.suppress(TimeoutError, HoldfastError):
            async with asyncio.timeout(RETIRE_S):
                await self._followers.stop(await self._cluster.follower_names())
                peers = [await self._cluster.find_host(name) for name in await self._cluster.host_names()]
                retiring = [peer.ask("retire") for peer in peers if peer is not None]
                await asyncio.gather(*retiring, return_exceptions=True)
                if not self._spec.volatile:  # one in memory is empty when it starts again, and somebody may have come
                    stopping = map(self._stop_journal, range(self.partitions))
                    await asyncio.gather(*stopping, return_exceptions=True)

    async def _stop_journal(self, partition: int) -> None:
        await (await self._cluster.journal(partition)).ask("stop")


class Opening:
    """A runtime about to open: `async with` it, `await` it and close it yourself, or use the blocking twin, `with` or
    by `blocking()`."""

    def __init__(self, entered: Callable[[], Coroutine[Any, Any, Runtime]], of: str = "a journal") -> None:
        """Not called by users. `of`: the journal's URL, as it may be shown."""
        self._entered, self._of = entered, of
        self._runtime: Runtime | None = None
        self._blocking: BlockingRuntime | None = None

    def __repr__(self) -> str:
        return f"<runtime of {self._of}, not open yet>"

    def __await__(self) -> Generator[Any, None, Runtime]:
        return self._entered().__await__()

    async def __aenter__(self) -> Runtime:
        self._runtime = await self._entered()
        return self._runtime

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runtime is not None, "entered before"
        await self._runtime.close()

    def blocking(self) -> BlockingRuntime:
        """Open it and give the blocking twin, for where a `with` cannot be: over the cells of a notebook, at a prompt.
        Close it yourself."""
        return BlockingRuntime(self._entered)

    def __enter__(self) -> BlockingRuntime:
        self._blocking = self.blocking()
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._blocking is not None, "entered before"
        self._blocking.close()


async def _opened(
    url: str,
    namespace: str,
    placements: Placements,
    placement: PlacementChoice | None,
    config: Config | None,
    join: Callable[[JournalSpec], Cluster],
    leave: Leave | None,
    clock: Clock = MACHINE,
    keys: str = "",
    *,
    one_clock: bool = True,
    put: Put | None = None,
) -> Runtime:
    """The steps of opening; whatever fails undoes those before it."""
    parsed, config = JournalUrl.parse(url), config or Config()
    spec = JournalSpec(
        namespace=namespace,
        url=parsed.absolute(),
        volatile=parsed.scheme == "memory",
        partitions=parsed.partitions,
        sight=config.sight,
        keys=keys,
    )
    cluster = join(spec)
    runtime: Runtime | None = None
    try:
        ways = ways_to(cluster, spec, config)
        try:
            await _open_journal(cluster, ways, spec, config)
        except HoldfastError:
            for way in ways:  # what cannot open its journal, or not all of it, serves nobody
                if way.partition in cluster.started_journals:
                    await way.end()
            raise
        journal = journal_over(ways, config)
        if keys:
            url_of_keys = KeysUrl.parse(keys)
            await journal.parts[0].ask("check_keys", url_of_keys.redacted, url_of_keys.mark)
        runtime = Runtime(
            cluster, journal, spec, placements, config, leave=leave, clock=clock, one_clock=one_clock, put=put
        )
        await runtime.register(*(placement if isinstance(placement, Mapping) else ()))
    except BaseException:
        if runtime is not None:
            await runtime.close()
            raise
        if leave is not None:
            await leave(None)
        await cluster.close()
        raise
    return runtime


def _begin_tracing(config: Config | None) -> None:
    """In this process, before anything is started."""
    if config is not None:
        config.sight.begin_tracing()


def _keys(journal: str, keys: str | None) -> str:
    """The URL of the key store, absolute; empty for none. Raises `JournalUrlError`."""
    if keys is None:
        return ""
    url = KeysUrl.parse(keys)
    if url.url.scheme == "memory" and JournalUrl.parse(journal).scheme != "memory":
        raise JournalUrlError(keys, "keys in memory are lost before the journal that needs them")
    return url.absolute()


def _nothing_held() -> None:
    """Time may pass."""


async def _open_journal(cluster: Cluster, ways: Sequence[JournalWay], spec: JournalSpec, config: Config) -> None:
    """Have every partition open, the first one before the others, which it creates; the others at once. Nothing is
    started, nor the machine of its file noted, unless all that run are partitions of this journal."""
    first, *others = ways
    await _check_namespace(cluster, spec, config)
    await _open_partition(cluster, first, spec, config)
    await _all_of(_open_partition(cluster, way, spec, config) for way in others)


async def _all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """At once, each to its end; then the first problem is raised."""
    for problem in await asyncio.gather(*works, return_exceptions=True):
        if problem is not None:
            raise problem


async def _check_namespace(cluster: Cluster, spec: JournalSpec, config: Config) -> None:
    """All that runs here, further partitions included, is of this journal. What is just starting again is waited for;
    what does not turn is left to the way to it, which ends it."""

    async def check(peer: Peer) -> None:
        with contextlib.suppress(PeerSilent):
            _check_mark(spec, *await watched(peer, config, "describe"))

    give_up = asyncio.get_running_loop().time() + config.journal_patience_s
    while True:
        try:
            return await _all_of(check(peer) for peer in await cluster.journals())
        except PeerGone as error:
            if asyncio.get_running_loop().time() > give_up:
                raise JournalUnavailable(str(error)) from None
        await asyncio.sleep(ASK_AGAIN_S)


def _check_mark(spec: JournalSpec, mark: str, serves: str) -> None:
    if mark != spec.mark:
        raise NamespaceConflict(spec.namespace, serves, JournalUrl.parse(spec.url).redacted)


async def _open_partition(cluster: Cluster, way: JournalWay, spec: JournalSpec, config: Config) -> None:
    _check_mark(spec, *await _answer(cluster, way, "describe", config.journal_patience_s))
    await _answer(cluster, way, "ping", config.journal_patience_s)


async def _stay(address: str | None) -> Stay:
    """Join a cluster, or start one, in a thread: that takes seconds. Whoever stops waiting leaves nothing behind."""
    loop = asyncio.get_running_loop()
    joining = loop.run_in_executor(None, Stay, address)
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await (await joining).leave()
        raise


async def _answer(cluster: Cluster, way: JournalWay, method: str, patience_s: float) -> Any:
    """What the journal answers, when it does: it may just be starting again, and wait for the lock that its last life
    still has. What keeps one that was started for us from opening is told at once."""
    give_up = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await way.ask(method)
        except (JournalUnavailable, JournalLocked) as error:
            if isinstance(error, JournalLocked) and way.partition in cluster.started_journals:
                raise
            if asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(ASK_AGAIN_S)


def _placements(choice: PlacementChoice | None) -> Placements:
    if choice is None:
        return Placements(Dedicated(), {})
    if isinstance(choice, Mapping):
        own = {definition_of(type).category: placement for type, placement in choice.items()}
        for placement in own.values():
            _check_placement(placement)
        return Placements(Dedicated(), own)
    _check_placement(choice)
    return Placements(choice, {})


def _check_placement(placement: object) -> None:
    if isinstance(placement, type) or not isinstance(placement, Placement):
        raise TypeError(f"a placement is Dedicated(), Sharded(n) or your own, not {placement!r}")
