"""The whole path on Ray: idempotency, passivation, crowds, cancelled callers, errors and what opening refuses."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import ray
from hf_bank import Account, Insufficient, Odd, Teller
from hf_support import Judge, eventually, is_running

from holdfast.actors.errors import CallCycle, DeadlineExceeded, KeyReused, NotSerializable
from holdfast.journal.errors import HoldfastError, JournalLocked, NotAJournal, PlacementConflict
from holdfast.runtime import Config, Dedicated, NamespaceConflict, Sharded

pytestmark = pytest.mark.ray


async def test_idempotency_holds_across_a_crash_and_passivation(world: Any, kill: Callable[..., None]) -> None:
    """One key, one execution, one answer; and the key is not for something else."""
    async with world.open(placement=Sharded(1)) as runtime:
        plain, keyed = runtime.get(Account, "a"), runtime.get(Account, "a", idempotency_key="k")
        assert await keyed.deposit(5) == 5
        assert await plain.deposit(1) == 6
        kill(await plain.pid())
        assert await keyed.deposit(5) == 5
        assert await runtime.passivate(Account, "a")
        assert await keyed.deposit(5) == 5
        world.kill_journal()
        assert await asyncio.gather(*(keyed.deposit(5) for _ in range(10))) == [5] * 10
        with pytest.raises(KeyReused):
            await keyed.deposit(6)
        assert await plain.balance_now() == 6


async def test_passivation_of_a_dedicated_aggregate_ends_its_process(world: Any) -> None:
    """Explicit and idle; the next call wakes it in another one."""
    placement = {Account: Dedicated(), Teller: Dedicated(idle_s=0.2)}
    async with world.open(placement=placement) as runtime:
        account, teller = runtime.get(Account, "a"), runtime.get(Teller, "t")
        pids = [await account.pid(), await teller.pid()]
        assert await account.deposit(5) == 5
        assert await runtime.passivate(Account, "a")
        assert not await runtime.passivate(Account, "a")
        await eventually(lambda: not any(map(is_running, pids)))
        assert (await runtime.statistics()).journal.snapshots == 1
        assert world.actors() == ["journal"]
        assert await account.deposit(5) == 10
        assert await account.pid() not in pids


async def test_passivation_in_shards_is_idle_explicit_and_by_the_bound(world: Any) -> None:
    """The host stays; aggregates come and go within the bound."""
    async with world.open(placement=Sharded(2, live_max=10, idle_s=0.5)) as runtime:
        assert await asyncio.gather(*(runtime.get(Account, f"a{n}").deposit(1) for n in range(100))) == [1] * 100
        seen = await runtime.statistics()
        assert seen.live <= 10
        assert seen.passivations >= 90
        await runtime.get(Account, "a1").deposit(1)
        assert await runtime.passivate(Account, "a1")

        async def nobody_lives() -> bool:
            return (await runtime.statistics()).live == 0

        await eventually(nobody_lives)
        assert len(world.actors()) == 3
        assert await runtime.get(Account, "a1").deposit(1) == 3


@pytest.mark.parametrize(
    ("placement", "aggregates"),
    [
        (Sharded(2, live_max=100), 1),
        (Sharded(2, live_max=100), 1000),
        (Dedicated(live_max=4), 1),
        (Dedicated(live_max=4), 12),
    ],
    ids=["sharded-one", "sharded-many", "dedicated-one", "dedicated-many"],
)
async def test_a_thousand_callers_are_answered_within_the_bound(world: Any, placement: Any, aggregates: int) -> None:
    """On one aggregate and on many; passivation makes room as they go."""
    judge = Judge()
    async with world.open(placement=placement, config=Config(timeout_s=90)) as runtime:

        async def send(n: int) -> None:
            id = f"a{n % aggregates}"
            judge.told[id, str(n)] = (await runtime.get(Account, id).add(str(n)),)

        calls = asyncio.gather(*map(send, range(1000)))
        live = 0
        while not calls.done():
            await asyncio.wait([calls], timeout=0.3)
            live = max(live, (await runtime.statistics()).live)
        await calls
        assert live <= placement.live_max
    assert judge.check(world.path) == 1000


async def test_a_tenth_of_the_callers_cancelled_or_timed_out_hurts_nobody_else(world: Any) -> None:
    """Nothing hangs, nothing leaks, the rest is answered, and what was acknowledged is there."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    judge = Judge()
    async with world.open(placement=Sharded(2)) as runtime:
        await asyncio.gather(*(runtime.get(Account, f"a{n}").add("warm up") for n in range(50)))
        judge.told.update({(f"a{n}", "warm up"): (1,) for n in range(50)})

        async def send(n: int) -> None:
            id, note = f"a{n % 50}", str(n)
            timeout_s = rng.choice([0.0001, 0.005, 0.02]) if rng.random() < 0.05 else None
            try:
                judge.told[id, note] = (await runtime.get(Account, id, timeout_s=timeout_s).add(note),)
            except DeadlineExceeded as error:
                (judge.unknown if error.outcome == "unknown" else judge.refused).add((id, note))
            except asyncio.CancelledError:
                judge.unknown.add((id, note))
                raise

        calls = [asyncio.create_task(send(n)) for n in range(1000)]
        for call in rng.sample(calls, 50):
            asyncio.get_running_loop().call_later(rng.random() * 0.1, call.cancel)
        await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert sum(not (c.cancelled() or c.exception()) for c in calls) >= 950
        links = list(runtime._dispatcher._links.values())
        await eventually(lambda: all(link.idle for link in links))
        assert not any(link._waiting or link._sent or link._tasks or link._callers for link in links)

        async def no_calls_are_left() -> bool:
            return not sum(host.calls for host in (await runtime.statistics()).hosts)

        await eventually(no_calls_are_left)
    judge.check(world.path)


@pytest.mark.parametrize("placement", [Dedicated(), Sharded(1)], ids=["dedicated", "sharded"])
async def test_errors_cross_as_themselves_and_hurt_nobody_else(world: Any, placement: Any) -> None:
    """Of commands, queries, handlers and codecs; the host goes on in the same process."""
    async with world.open(placement=placement) as runtime:
        account = runtime.get(Account, "a")
        await account.deposit(5)
        pid = await account.pid()
        with pytest.raises(Insufficient) as refused:
            await account.deposit(-50)
        assert (refused.value.wanted, refused.value.has) == (50, 5)
        for call in (lambda: account.fail("x"), lambda: account.fail("x", emit=True), account.boom):
            with pytest.raises(Odd) as raised:
                await call()
            assert "hf_bank.py" in raised.value.__notes__[0]
        for call in (account.answer_badly, account.lock):
            with pytest.raises(NotSerializable):
                await call()
        with pytest.raises(RuntimeError, match="always fails"):
            await account.poison()
        with pytest.raises((HoldfastError, SystemExit)):
            await account.leave()
        import threading

        with pytest.raises(NotSerializable, match=r"a\.deposit"):
            await account.deposit(threading.Lock())
        neighbours = [account.deposit(1), account.deposit(threading.Lock()), account.deposit(1)]
        results = await asyncio.gather(*neighbours, return_exceptions=True)
        assert (results[0], results[2]) == (6, 7)
        assert isinstance(results[1], NotSerializable)
        assert await account.pid() == pid


async def test_commands_call_aggregates_on_other_hosts_and_cycles_are_found(world: Any) -> None:
    """With their correlation; A → B → A is told at once, across processes."""
    async with world.open(placement={Account: Sharded(1), Teller: Dedicated()}) as runtime:
        await runtime.get(Account, "a").deposit(10)
        assert await runtime.get(Teller, "t", metadata={"user": "eve"}).transfer("a", "b", 3) == [7, 3]
        with pytest.raises(Insufficient):
            await runtime.get(Teller, "t").transfer("a", "b", 100)
        with pytest.raises(CallCycle, match="Teller/t → Teller/u → Teller/t"):
            await runtime.get(Teller, "t").ask("u", "t")
        assert await runtime.get(Teller, "t").use(runtime.get(Account, "a"), 1) == 8
        events = [e async for e in runtime.read(after=1, limit=3)]
        assert [e.metadata for e in events] == [{"user": "eve"}] * 3
        assert len({e.context.correlation_id for e in events}) == 1


async def test_a_nested_effect_happens_once_though_the_outer_host_is_killed(
    world: Any, kill: Callable[..., None], tmp_path: Any
) -> None:
    """Killed after the inner command was done, before the outer one was: run again, it gets the inner reply."""
    door, reached = tmp_path / "door", tmp_path / "door.reached"
    async with world.open(placement=Sharded(1)) as runtime:
        teller, account = runtime.get(Teller, "t"), runtime.get(Account, "a")
        pid = await teller.pid()
        call = asyncio.create_task(teller.deposit_then_wait("a", 5, str(door)))
        await eventually(reached.exists)
        assert await account.balance_now() == 5
        kill(pid)
        door.touch()
        assert await asyncio.wait_for(call, 30) == 5
        assert await account.version_now() == 1
        assert await teller.pid() != pid


async def test_opening_what_cannot_be_opened_leaves_no_actor(world: Any, tmp_path: Any) -> None:
    """Errors cross with their types and fields; nobody is left serving nothing."""
    world.path.write_text("this is no journal" * 100)
    with pytest.raises(NotAJournal, match="is not an SQLite file"):
        await world.open()
    await eventually(lambda: not world.actors())
    world.path.unlink()
    async with world.open(placement=Sharded(2)) as runtime:
        await runtime.get(Account, "a").deposit(1)
        mine, world.url = world.url, f"sqlite:///{tmp_path}/other.db"
        with pytest.raises(NamespaceConflict, match=r"other\.db"):
            await world.open()
        world.url = mine
        with pytest.raises(PlacementConflict, match=r"sharded\(2\).*dedicated"):
            await world.open(placement={Account: Dedicated()})
        assert await runtime.get(Account, "a").deposit(1) == 2
        actors = sorted(world.actors())
        world.namespace += "-second"
        world.url += "?lock_wait_s=0"
        with pytest.raises(JournalLocked) as locked:
            await world.open()
        assert f"pid {world.journal_pid()}" in locked.value.holder
        await eventually(lambda: not world.actors())
        world.namespace = world.namespace.removesuffix("-second")
        assert sorted(world.actors()) == actors


async def test_a_memory_journal_that_died_says_so_and_is_not_restarted_empty(world: Any) -> None:
    """Nobody is told that there never was anything."""
    world.url = "memory://"
    async with world.open(placement=Sharded(1), config=Config(timeout_s=60, journal_patience_s=0.5)) as runtime:
        assert await runtime.get(Account, "a").deposit(5) == 5
        ray.kill(world.handle("journal"))
        with pytest.raises(HoldfastError):
            await runtime.get(Account, "a", timeout_s=1.5).deposit(5)
        with pytest.raises(HoldfastError):
            [e async for e in runtime.read(Account, "a")]
        assert "journal" not in world.actors()


async def test_a_journal_file_that_is_read_by_others_goes_on(world: Any, tmp_path: Any) -> None:
    """A copy made with readers present holds what was acknowledged."""
    async with world.open(placement=Sharded(1)) as runtime:
        await asyncio.gather(*(runtime.get(Account, "a").add(str(n)) for n in range(50)))
        judge = Judge()
        judge.unknown = {("a", str(n)) for n in range(50)}
        assert judge.check(world.path) == 50
