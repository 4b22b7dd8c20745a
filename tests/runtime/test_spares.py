"""Spares and the directory of those that were adopted: what they promise, without processes and on Ray."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ray
from hf_bank import Account
from hf_support import Notes, eventually, is_running

from holdfast.runtime import Config, Dedicated, HostLimits, Runtime, Sharded
from holdfast.runtime import _ray as seam
from holdfast.runtime._ray import RayCluster, RayPeer
from holdfast.runtime.cluster import HostSpec, JournalSpec, PeerGone, WireError
from holdfast.runtime.directory import Directory
from holdfast.runtime.placement import Placements
from holdfast.runtime.resident import Resident
from holdfast.runtime.spares import Spare, Spares

# -- the directory ---------------------------------------------------------------------------------------------------


def test_of_two_that_enter_one_owner_at_once_one_has_the_place() -> None:
    """The other is told so, and finds the first."""
    directory = Directory(Notes(), lambda _: True)
    assert directory.enter("Account/a", "spare:1")
    assert not directory.enter("Account/a", "spare:2")
    assert directory.actor_of("Account/a") == "spare:1"
    directory.leave("Account/a", "spare:2")
    assert directory.actor_of("Account/a") == "spare:1"
    assert directory.enter("Account/b", "spare:2")


def test_the_note_of_an_actor_that_died_is_void() -> None:
    """It is struck out by whoever looks for it, and its place can be had."""
    dead = {"spare:1"}
    notes = Notes({"Account/a": "spare:1", "Account/b": "spare:1"})
    directory = Directory(notes, lambda actor: actor not in dead)
    assert directory.actor_of("Account/a") is None
    assert directory.enter("Account/b", "spare:2")
    assert notes == {"Account/b": "spare:2"}
    assert directory.owners() == ["Account/b"]


# -- one spare -------------------------------------------------------------------------------------------------------


class Echo(Resident):
    """Answers what it is asked."""

    methods = frozenset({"say"})

    @property
    def target(self) -> "Echo":
        return self

    async def say(self, what: str) -> str:
        return what

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def nothing() -> None: ...


def spare_of(**how: Any) -> Spare:
    return Spare(lambda: None, warm_up=nothing, **{"expire": lambda: None, "lease_s": 3600} | how)


async def test_a_spare_that_nobody_holds_ends_itself() -> None:
    """Its keeper died without a word: the lease ends, also if the keeper never said anything."""
    expired = threading.Event()
    spare_of(expire=expired.set, lease_s=0.01)
    assert await asyncio.to_thread(expired.wait, 30)
    expired.clear()
    assert not await spare_of(expire=expired.set, lease_s=0.05).wait(0.001)
    assert await asyncio.to_thread(expired.wait, 30)


async def test_a_spare_that_was_adopted_has_no_lease_and_answers_as_the_host() -> None:
    """Requests that found it before it was one wait for it; it is adopted once."""
    expired = threading.Event()
    spare = spare_of(expire=expired.set)
    early = asyncio.create_task(spare.handle("say", ("early",)))
    waiting = asyncio.create_task(spare.handle("wait", (3600,)))
    await asyncio.sleep(0)
    first = Echo()
    await spare.handle("adopt", (lambda end: first,))
    await spare.handle("adopt", (lambda end: Echo(),))
    assert await early == "early"
    assert await waiting
    assert await spare.handle("say", ("late",)) == "late"
    assert spare.target is first
    await eventually(lambda: not any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))


# -- keeping them ----------------------------------------------------------------------------------------------------


class Waiting:
    """A spare as its keeper sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem: Exception | None = None  # that comes of preparing it, once
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.prepared: list[Any] = []
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ask(self, method: str, *args: Any) -> Any:
        if method == "prepare":
            self.prepared.append(*args)
            await self.may_prepare.wait()
            if self.problem is not None:
                raise self.problem
            return None
        assert method == "wait"
        return await asyncio.shield(self.over)

    async def responds(self, within_s: float) -> bool:
        return True

    def adopt(self) -> None:
        self.over.set_result(True)

    def die(self) -> None:
        self.over.set_exception(PeerGone(self.name, "killed"))
        self.over.exception()  # seen, also if nobody asks


class Pool:
    """Spares, with all that were started and ended."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("holdfast.runtime.spares.REFILL_PAUSE_S", 0.0)
        monkeypatch.setattr("holdfast.runtime.spares.AGAIN_FIRST_S", 0.0)
        self.started: list[Waiting] = []
        self.ended: list[Any] = []
        self.failing = 0
        self.problem: Exception = PeerGone("a spare", "no room")
        self.is_slow = False  # those that start cannot be prepared yet
        self.spares = Spares(self._start, self._end, Config(spare_hosts=count))

    async def _start(self, lease_s: float) -> Any:
        if self.failing:
            self.failing -= 1
            raise self.problem
        spare = Waiting(f"spare {len(self.started)}")
        if self.is_slow:
            spare.may_prepare.clear()
        self.started.append(spare)
        return spare

    async def _end(self, spare: Any) -> None:
        self.ended.append(spare)
        if not spare.over.done():
            spare.die()

    async def full(self, count: int) -> None:
        await eventually(lambda: self.spares.ready == count)


async def test_the_pool_is_bounded_and_refills_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """None before a type is expected, never more than wanted, one more for each that was adopted."""
    pool = Pool(2, monkeypatch)
    assert pool.spares.take() is None
    assert not pool.started
    pool.spares.expect(Account)
    pool.spares.expect(Account)
    await pool.full(2)
    assert pool.started[0].prepared == [None, Account]
    taken: Any = pool.spares.take()
    assert taken is pool.started[0]
    assert (pool.spares.ready, len(pool.started)) == (1, 2)  # the next starts when this one has been adopted
    taken.adopt()
    await pool.full(2)
    assert len(pool.started) == 3
    await pool.spares.close()
    assert set(pool.ended) == set(pool.started[1:])
    assert pool.spares.take() is None


async def test_a_spare_that_died_is_not_given_out_but_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the next ones do not come up at first."""
    pool = Pool(1, monkeypatch)
    pool.spares.expect(Account)
    await pool.full(1)
    pool.failing = 3
    pool.started[0].die()
    await eventually(lambda: len(pool.started) == 2 and pool.spares.ready == 1)
    assert pool.spares.take() is pool.started[1]
    assert pool.ended == [pool.started[0]]
    await pool.spares.close()


async def test_a_spare_learns_of_types_that_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports them before it is wanted."""

    class Later(Account):
        pass

    pool = Pool(1, monkeypatch)
    pool.spares.expect(Account)
    await pool.full(1)
    pool.spares.expect(Later)
    await eventually(lambda: pool.started[0].prepared == [None, Account, Later])
    await pool.spares.close()


async def test_spares_that_have_imported_old_code_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class was defined anew: none that knows the old one is given out any more."""
    pool = Pool(1, monkeypatch)
    pool.spares.expect(Account)
    await pool.full(1)
    newer: Any = type("Account", (Account,), {}, category="Account")
    pool.spares.expect(newer)
    assert pool.spares.take() is None
    await pool.full(1)
    assert pool.started[0] in pool.ended
    assert pool.started[1].prepared == [None, newer]
    await pool.spares.close()


async def test_a_place_survives_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of starting a spare or of preparing it: a module that cannot be imported raises what it likes."""
    pool = Pool(1, monkeypatch)
    pool.failing, pool.problem, pool.is_slow = 1, RuntimeError("no room"), True
    pool.spares.expect(Account)
    await eventually(lambda: pool.started)
    pool.is_slow = False
    pool.started[0].problem = RuntimeError("a module that does this once")
    pool.started[0].may_prepare.set()
    await pool.full(1)
    assert pool.ended == pool.started[:1]
    assert pool.spares.take() is pool.started[1]
    await pool.spares.close()


async def test_a_type_that_comes_while_a_spare_is_prepared_is_prepared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is defined anew meanwhile has the spare replaced."""

    class Later(Account):
        pass

    pool = Pool(1, monkeypatch)
    pool.is_slow = True
    pool.spares.expect(Account)
    await eventually(lambda: pool.started and pool.started[0].prepared)
    pool.spares.expect(Later)
    pool.started[0].may_prepare.set()
    await pool.full(1)
    assert pool.started[0].prepared == [None, Account, Later]

    pool.started[0].die()
    await eventually(lambda: len(pool.started) == 2 and pool.started[1].prepared)
    second, newer = pool.started[1], type("Account", (Account,), {}, category="Account")
    first_step, second.may_prepare = second.may_prepare, asyncio.Event()
    first_step.set()
    await eventually(lambda: second.prepared == [None, Account])
    pool.is_slow = False
    pool.spares.expect(newer)  # type: ignore[arg-type]
    second.may_prepare.set()
    await pool.full(1)
    assert pool.ended == pool.started[:2]
    assert set(pool.started[2].prepared) == {None, newer, Later}
    await pool.spares.close()


async def test_no_spares_are_kept_unless_asked_for_and_none_for_shards() -> None:
    """Zero is the default; negative is no count."""
    assert Config().spare_hosts == 0
    with pytest.raises(ValueError, match="spare_hosts must be 0 or more, got -1"):
        Config(spare_hosts=-1)
    async with Runtime.local(placement=Sharded(1)) as runtime:
        assert (await runtime.statistics()).spares == 0


# -- adopting them ---------------------------------------------------------------------------------------------------


class Handle:
    """An actor of nothing."""


class Adopting:
    """A cluster whose directory is in memory and whose actors are none. `ended`: those of them that it killed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any]) -> None:
        """`ask`: answers every request."""
        self.notes, self.ended = Notes(), list[Any]()
        journal = JournalSpec(namespace="default", url="memory://", volatile=True)
        self.cluster = RayCluster(journal, may_start_journal=False)
        self.cluster._directory = Directory(self.notes, lambda _: True)
        self.spec = HostSpec(
            owner="Account/a",
            type=Account,
            journal=journal,
            placements=Placements(Dedicated(), {}),
            config=Config(),
            limits=HostLimits(),
            dedicated=True,
        )
        monkeypatch.setattr(seam, "_check_joined", lambda: None)
        monkeypatch.setattr(seam, "watched", ask)
        monkeypatch.setattr(seam.ray, "kill", lambda handle, no_restart: self.ended.append(handle))


def spare_peer() -> RayPeer:
    return RayPeer("spare:1", Handle(), "spare:1", restarts=False)


@pytest.mark.parametrize(
    "how", ["it is cancelled", RuntimeError("boom"), PeerGone("a", "b"), WireError("a", "b")], ids=str
)
async def test_a_spare_that_does_not_become_the_host_is_ended_and_not_noted(
    how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keeper would renew its lease for ever, and callers of the owner would find a host that is none."""
    asked = asyncio.Event()

    async def ask(*args: Any) -> Any:
        asked.set()
        if isinstance(how, Exception):
            raise how
        await asyncio.Event().wait()

    it, spare = Adopting(monkeypatch, ask), spare_peer()
    adopting = asyncio.create_task(it.cluster._adopted(spare, it.spec))
    await asked.wait()
    assert it.notes == {"Account/a": "spare:1"}
    if not isinstance(how, Exception):
        adopting.cancel()
    await asyncio.gather(adopting, return_exceptions=True)
    assert (it.notes, it.ended) == ({}, [spare.handle])


async def test_an_owner_whose_host_runs_adopts_no_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without spares may have started it: a second one would only be fenced."""

    async def ask(*args: Any) -> Any:
        return None

    it, host = Adopting(monkeypatch, ask), RayPeer("Account/a", Handle(), "host:Account/a", restarts=False)
    pool = Pool(1, monkeypatch)
    pool.spares.expect(Account)
    await pool.full(1)
    it.cluster._spares = pool.spares

    async def find(name: str, called: str = "") -> RayPeer | None:
        return host if name == host.actor else None

    monkeypatch.setattr(it.cluster, "_find", find)
    assert await it.cluster.host(it.spec) is host
    assert (pool.spares.ready, it.notes) == (1, {})
    await pool.spares.close()


# -- on Ray ----------------------------------------------------------------------------------------------------------

SPARE = Config(spare_hosts=1)


def spares_of(world: Any) -> list[str]:
    return [name for name in world.actors() if name.startswith("spare:")]


async def ready(runtime: Any, count: int = 1) -> None:
    async def are_ready() -> bool:
        return (await runtime.statistics()).spares == count

    await eventually(are_ready)


@pytest.mark.ray
async def test_a_spare_becomes_the_host_and_another_takes_its_place(world: Any) -> None:
    """The aggregate lives in the process that waited; others find it there; nothing is left after passivation and
    close."""
    async with world.open(placement=Dedicated(), config=SPARE) as runtime:
        await runtime.register(Account)
        await ready(runtime)
        (waiting,) = spares_of(world)
        account = runtime.get(Account, "a")
        assert await account.deposit(5) == 5
        await ready(runtime)
        assert waiting in spares_of(world)
        assert len(spares_of(world)) == 2
        assert "host:Account/a" not in world.actors()
        pid = await account.pid()
        async with world.open(placement=Dedicated()) as other:
            assert await other.get(Account, "a").deposit(1) == 6
            assert await other.get(Account, "a").pid() == pid
            assert [host.name for host in (await other.statistics()).hosts] == ["Account/a"]
            assert await other.passivate(Account, "a")
        await eventually(lambda: not is_running(pid))
        assert await account.deposit(1) == 7
        assert await account.pid() != pid
        assert await runtime.passivate(Account, "a")
    await eventually(lambda: world.actors() == ["journal"])


@pytest.mark.ray
async def test_an_adopted_host_that_is_killed_has_a_successor(world: Any, kill: Callable[..., None]) -> None:
    """As one that was started for its owner; also when no spare is ready, and when the spare was killed too."""
    async with world.open(placement=Dedicated(), config=SPARE) as runtime:
        await runtime.register(Account)
        await ready(runtime)
        account = runtime.get(Account, "a")
        for expected in (1, 2, 3):
            assert await account.deposit(1) == expected
            pid = await account.pid()
            await ready(runtime)
            if expected == 2:
                for name in spares_of(world):
                    kill(world.pid_of(name))
            kill(pid)
        assert await account.deposit(1) == 4
        assert await account.pid() != pid


@pytest.mark.ray
async def test_two_runtimes_that_adopt_for_one_owner_at_once_end_up_with_one_host(world: Any) -> None:
    """Every command is done once, whichever has the place."""
    async with (
        world.open(placement=Dedicated(), config=SPARE) as one,
        world.open(placement=Dedicated(), config=SPARE) as other,
    ):
        for runtime in (one, other):
            await runtime.register(Account)
            await ready(runtime)
        for round in range(3):
            accounts = [runtime.get(Account, f"a{round}") for runtime in (one, other)]
            done = await asyncio.gather(*(account.deposit(1) for account in accounts for _ in range(10)))
            assert sorted(done) == list(range(1, 21))
            assert len({await account.pid() for account in accounts}) == 1
            await ready(one)
            await ready(other)


KEEPER = """
import asyncio, sys
from hf_bank import Account
from holdfast.runtime import Config, Runtime, spares

async def main(address, url, namespace):
    runtime = await Runtime.open(url, address=address, namespace=namespace, config=Config(spare_hosts=2))
    await runtime.register(Account)
    while (await runtime.statistics()).spares < 2:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()

spares.LEASE_S = 1.0
spares.WAIT_S = 0.5
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.ray
async def test_spares_end_when_their_keeper_was_killed(world: Any, kill: Callable[..., None]) -> None:
    """It could not say goodbye; what it kept ready is of no use to anybody."""
    address = ray.get_runtime_context().gcs_address
    keeper = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", KEEPER, address, world.url, world.namespace], stdout=subprocess.PIPE, text=True
    )
    try:
        assert keeper.stdout is not None
        assert await asyncio.to_thread(keeper.stdout.readline) == "ready\n"
        pids = [world.pid_of(name) for name in spares_of(world)]
        assert len(pids) == 2
        assert all(map(is_running, pids))
    finally:
        keeper.kill()
        keeper.communicate()
    await eventually(lambda: not any(map(is_running, pids)))
    assert spares_of(world) == []
