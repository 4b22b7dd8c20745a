"""A host without Ray: a real `Host` over a real `JournalServer` over a store that fails on demand, and a client.

    async with Bench() as bench:
        host = await bench.host(Log)
        client = Client(host)
        assert await client.call("a", "put", "x") == 1

Nothing here sleeps: `turns()` lets the event loop run everything that is ready, doors hold commands, the store's
doors hold the disk, and `bench.clock` is moved by hand.
"""

import asyncio
import itertools
import selectors
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.actors.calls import Kind, Trace
from holdfast.actors.definition import definition_of
from holdfast.actors.host import Host
from holdfast.actors.limits import HostLimits
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalUnavailable
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import StreamId
from holdfast.journal.server import JournalServer
from holdfast.journal.testing import FaultyStore

# -- an aggregate ------------------------------------------------------------------------------------------------


class Door:
    """Holds async commands: `reached` when one stands there, `open` to let it go."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def pass_through(self) -> None:
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


doors: dict[str, Door] = {}


def door(name: str) -> Door:
    """A new door, by the name that commands know it by."""
    doors[name] = Door()
    return doors[name]


@event("hf_host.put")
class Put:
    item: str


@event("hf_host.poisoned")
class Poisoned:
    by: str


class Log(Aggregate, category="log", snapshot_every=1_000_000, snapshot_on_passivate=False):
    """A list of texts. Every way in which a command can go wrong has a command."""

    items: list[str] = []

    @command
    def put(self, item: str) -> int:
        self.emit(Put(item))
        return len(self.items)

    @command
    def put_all(self, items: list[str]) -> int:
        for item in items:
            self.emit(Put(item))
        return len(self.items)

    @command
    def put_once(self, item: str) -> bool:
        """Without an event if it is there already."""
        if item in self.items:
            return False
        self.emit(Put(item))
        return True

    @command
    def look(self) -> int:
        """A command without events."""
        return len(self.items)

    @command
    def refuse(self) -> None:
        raise Rejected(f"there are {len(self.items)}")

    @command
    def put_and_refuse(self, item: str) -> None:
        self.emit(Put(item))
        raise Rejected(f"there are {len(self.items)}")

    @command
    def put_and_exit(self, item: str) -> None:
        self.emit(Put(item))
        raise SystemExit(3)

    @command
    def poison(self, by: str) -> None:
        self.emit(Poisoned(by))

    @command
    def poison_quietly(self, by: str) -> int:
        try:
            self.emit(Poisoned(by))
        except ZeroDivisionError:
            pass
        return len(self.items)

    @command
    def put_and_return_nonsense(self, item: str) -> int:
        self.emit(Put(item))
        return object()  # type: ignore[return-value]

    @command
    def put_and_return_bytes(self, size: int) -> bytes:
        self.emit(Put("small"))
        return b"x" * size

    @command
    async def put_slowly(self, item: str, door: str) -> int:
        self.emit(Put(f"{item} begun"))
        await doors[door].pass_through()
        self.emit(Put(f"{item} done"))
        return len(self.items)

    @command
    async def put_stubbornly(self, item: str, door: str) -> int:
        """Does not let itself be cancelled."""
        self.emit(Put(item))
        while not doors[door].open.is_set():
            try:
                await doors[door].pass_through()
            except asyncio.CancelledError:
                continue
        self.emit(Put(f"{item} in spite"))
        return len(self.items)

    @command
    async def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    @command
    async def relay(self, to: str, item: str) -> int:
        return await self.aggregate(Log, to).put(item)

    @command
    async def relay_later(self, to: str, item: str, door: str) -> int:
        await doors[door].pass_through()
        return await self.aggregate(Log, to).put(item)

    @query
    def count(self) -> int:
        return len(self.items)

    @query
    def all(self) -> list[str]:
        return self.items

    @query
    async def count_slowly(self, door: str) -> int:
        await doors[door].pass_through()
        return len(self.items)

    @query
    def unpackable(self) -> Any:
        return Unpackable()

    @on(Put)
    def _put(self, event: Put) -> None:
        self.items.append(event.item)

    @on(Poisoned)
    def _poisoned(self, event: Poisoned) -> None:
        self.items.append(event.by)
        if event.by == "exit":
            raise SystemExit(4)
        raise ZeroDivisionError


class Unpackable:
    """`pack` refuses it."""


def pack(value: Any) -> Any:
    """What leaves the host is what it was then."""
    if isinstance(value, Unpackable):
        raise ValueError("cannot be packed")
    return list(value) if isinstance(value, list) else value


# -- the bench ---------------------------------------------------------------------------------------------------


class Clock:
    """A clock that is moved by hand, in seconds."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class DirectLink:
    """A `JournalLink` in the same process."""

    def __init__(self, server: JournalServer) -> None:
        self.server = server

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self.server, method)(*args)


async def no_pause(_: float) -> None:
    """What clients of the journal wait between two tries, here: one turn of the loop."""
    await asyncio.sleep(0)


async def give_up(_: float) -> None:
    """Instead of a pause: for a client of the journal that asks once."""
    raise JournalUnavailable("it was asked once")


async def turns(count: int = 200) -> None:
    """Let everything happen that can happen without anything new from outside."""
    for _ in range(count):
        await asyncio.sleep(0)


TURN_S = 2e-5  # what a turn of the loop takes, so that timers also run out while there is something to do


class _NoWaiting(selectors.DefaultSelector):
    """Looks at once, and puts the loop's clock forward by what it would have waited."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everything waits for something that will never come"
        self.waited_s += max(timeout, TURN_S)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own: waiting costs nothing, and a run can be repeated."""

    def __init__(self) -> None:
        self._waits = _NoWaiting()
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.waited_s


def simulate(main: Coroutine[Any, Any, None]) -> None:
    """Run this in a loop of simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main)


class Bench:
    """A journal in memory, and hosts over it that end with the `async with` block."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.server = JournalServer(self.store)
        self.journal = self.new_client()
        self.clock = Clock()
        self.hosts: list[Host] = []
        self._lives = itertools.count(1)

    def new_client(self, **how: Any) -> JournalClient:
        return JournalClient(DirectLink(self.server), **{"pause": no_pause, "patience_s": 5.0, **how})

    async def __aenter__(self) -> "Bench":
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store.heal()
        for each in doors.values():
            each.open.set()
        for host in self.hosts:
            host._leave()
        await turns(20)

    async def host(
        self, type: type[Aggregate] = Log, name: str = "host", *, journal: JournalClient | None = None, **how: Any
    ) -> Host:
        """A started host. `how`: its constructor's keywords, or fields of its limits."""
        own = {k: how.pop(k) for k in list(how) if k in ("peers", "on_gone", "exits_when_empty", "wall", "clock")}
        host = Host(
            name,
            f"life {next(self._lives)}",
            definition_of(type),
            journal or self.new_client(),
            limits=HostLimits(**{"linger_s": 0.0001, **how}),
            pack=pack,
            now=self.clock,
            **own,
        )
        await host.start()
        self.hosts.append(host)
        return host

    async def events(self, id: str, type: type[Aggregate] = Log) -> list[Any]:
        """What the journal holds of one aggregate, as plain maps."""
        stream = StreamId(definition_of(type).category, id)
        recorded = await self.store.read_stream(stream, limit=1_000_000)
        return [msgspec.msgpack.decode(event.payload) for event in recorded]

    async def items(self, id: str) -> list[str]:
        """The items of a `Log`, as the journal holds them."""
        return [event["item"] for event in await self.events(id)]


class Again(Exception):
    """The host says: send it again. `moved`: elsewhere; `maybe`: it may have been executed."""

    def __init__(self, kind: Kind, maybe: bool) -> None:
        super().__init__(kind, maybe)
        self.moved, self.maybe = kind is Kind.MOVED, maybe


class Client:
    """One client's line to one host: a session, without batching, retries or deadlines of its own."""

    _sessions = itertools.count(1)
    _ids = itertools.count(1)

    def __init__(self, host: Host) -> None:
        self.host = host
        self.session = f"session {next(self._sessions)}"
        self._batches, self._numbers = itertools.count(), itertools.count(1)
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wire(
        self,
        id: str,
        method: str,
        *args: Any,
        key: str | None = None,
        command_id: str | None = None,
        maybe: bool = False,
        timeout_s: float = 30.0,
        trace: Trace | None = None,
        **kwargs: Any,
    ) -> Any:
        """A call as it travels."""
        number = next(self._numbers)
        given = key or command_id or f"generated-{next(self._ids)}"
        return (number, id, method, args, kwargs, given, key is not None, maybe, timeout_s, trace)

    def send(self, *wires: Any) -> list["asyncio.Future[Any]"]:
        """Send these together, and collect what comes late. The futures give values, or raise."""
        return self.send_as(next(self._batches), *wires)

    def send_as(self, number: int, *wires: Any) -> list["asyncio.Future[Any]"]:
        """The same, as the batch of that number."""
        for wire in wires:
            self._futures.setdefault(wire[0], asyncio.get_running_loop().create_future())
        task = asyncio.get_running_loop().create_task(self._exchange(number, wires))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return [self._futures[wire[0]] for wire in wires]

    def start(self, id: str, method: str, *args: Any, **how: Any) -> "asyncio.Future[Any]":
        """Send one call, alone."""
        return self.send(self.wire(id, method, *args, **how))[0]

    async def call(self, id: str, method: str, *args: Any, **how: Any) -> Any:
        """Send one call and wait for its answer. Raises what the host says, or `Again`."""
        return await self.start(id, method, *args, **how)

    async def _exchange(self, number: int, wires: Sequence[Any]) -> None:
        self._take(await self.host.exchange(self.session, number, list(wires)))
        while any(not self._futures[wire[0]].done() for wire in wires):
            answers = await self.host.collect(self.session)
            if not answers:
                return  # whoever still waits is answered with another batch, or never
            self._take(answers)

    def _take(self, answers: Sequence[Any]) -> None:
        for number, kind, value in answers:
            future = self._futures[number]
            assert not future.done() or future.cancelled(), f"call {number} was answered twice"
            if future.cancelled():
                continue
            if kind == Kind.DONE:
                future.set_result(msgspec.msgpack.decode(value))
            elif kind == Kind.ANSWER:
                future.set_result(value)
            elif kind == Kind.ERROR:
                future.set_exception(value)
            else:
                future.set_exception(Again(Kind(kind), bool(value)))


class Persistent:
    """A client that sends again what it is told to, to whichever host `find` gives then. As a runtime does."""

    def __init__(self, find: Any) -> None:
        self._find = find
        self._clients: dict[int, Client] = {}

    async def call(self, id: str, method: str, *args: Any, **how: Any) -> Any:
        how.setdefault("command_id", f"persistent-{next(Client._ids)}") if "key" not in how else None
        maybe = how.pop("maybe", False)
        while True:
            host = self._find()
            client = self._clients.get(builtin_id(host))
            if client is None:
                client = self._clients[builtin_id(host)] = Client(host)
            try:
                return await client.call(id, method, *args, maybe=maybe, **how)
            except Again as again:
                maybe = maybe or again.maybe
                await asyncio.sleep(0)


builtin_id = id


async def failure(future: "asyncio.Future[Any]") -> BaseException:
    """What a call raises."""
    try:
        result = await future
    except Exception as error:
        return error
    raise AssertionError(f"it answered {result!r}")
