"""The dispatcher: who owns what, which code runs, how many run, and the ids of what commands send."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from hf_bank import Account, Teller
from hf_support import eventually

from holdfast.actors import Aggregate, command, event, on
from holdfast.journal.errors import PlacementConflict
from holdfast.runtime import CategoryConflict, Config, DeadlineExceeded, Dedicated, Runtime, Sharded
from holdfast.runtime.cluster import JournalSpec
from holdfast.runtime.local import LocalCluster
from holdfast.runtime.placement import Placements
from holdfast.runtime.runtime import Runtime as Made

SPEC = JournalSpec(namespace="default", url="memory://", volatile=True)


async def runtime_on(cluster: LocalCluster, placement: Any = None, config: Config | None = None) -> Any:
    """A further runtime on a cluster that others use too."""
    from holdfast.journal.client import JournalClient
    from holdfast.runtime.resident import JournalWay

    placements = Placements(placement or Dedicated(), {})
    return Made(cluster, JournalClient(JournalWay(cluster)), SPEC, placements, config or Config(), leave=None)


def counter(step: int, name: str = "Counter") -> Any:
    """A class as a notebook makes it: each run of the cell gives another one of the same name."""
    scope: dict[str, Any] = {"Aggregate": Aggregate, "command": command, "on": on, "event": event, "__name__": "cell"}
    source = f"""
@event("counter.counted")
class Counted:
    by: int

class {name}(Aggregate, category="Counter"):
    total: int = 0

    @command
    def count(self) -> int:
        self.emit(Counted({step}))
        return self.total

    @on(Counted)
    def _counted(self, event: Counted) -> None:
        self.total += event.by
"""
    exec(source, scope)
    return scope[name]


async def test_another_placement_is_refused_and_both_are_named(tmp_path: Any) -> None:
    """Two placements would be two owners."""
    url = f"sqlite:///{tmp_path}/j.db"
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        await runtime.get(Account, "a").deposit(1)
    async with Runtime.local(url, placement=Sharded(3)) as runtime:
        with pytest.raises(PlacementConflict, match=r"sharded\(2\).*sharded\(3\)"):
            await runtime.get(Account, "a").deposit(1)
        assert await runtime.get(Teller, "t").ask_back("u") == 0
    with pytest.raises(PlacementConflict):
        await Runtime.local(url, placement={Account: Dedicated()})
    async with Runtime.local(url, placement={Account: Sharded(2, live_max=5)}) as runtime:
        assert await runtime.get(Account, "a").deposit(1) == 2


async def test_two_classes_of_one_category_are_a_conflict() -> None:
    """Their events would share streams."""
    async with Runtime.local() as runtime:
        await runtime.get(counter(1), "a").count()
        with pytest.raises(CategoryConflict, match="'Counter' belongs to Counter; Other needs another one"):
            await runtime.get(counter(1, "Other"), "a").count()


@pytest.mark.parametrize("placement", [Dedicated(), Sharded(1)], ids=["dedicated", "sharded"])
async def test_a_class_that_is_defined_anew_runs_at_once(placement: Any) -> None:
    """As a notebook does it; the old reference still works, and gets the new code."""
    async with Runtime.local(placement=placement) as runtime:
        old, new = runtime.get(counter(1), "a"), runtime.get(counter(10), "a")
        assert await old.count() == 1
        assert await new.count() == 11
        assert await old.count() == 21
        assert await new.count() == 31


async def test_the_same_class_by_value_twice_starts_nothing_anew() -> None:
    """Copies of one class take turns without rolling any host."""
    async with Runtime.local() as runtime:
        one, other = runtime.get(counter(1), "a"), runtime.get(counter(1), "a")
        for expected in range(1, 10, 2):
            assert await one.count() == expected
            assert await other.count() == expected + 1
        (host,) = (await runtime.statistics()).hosts
        assert (host.epoch, host.hydrations) == (1, 1)


async def test_new_code_retires_hosts_and_old_runtimes_do_not_roll_back() -> None:
    """The runtime that opened last decides; the one before goes on with it."""
    cluster = LocalCluster(SPEC)
    before, after = await runtime_on(cluster), await runtime_on(cluster)
    old, new = before.get(counter(1), "a"), after.get(counter(10), "a")
    assert await old.count() == 1
    assert await new.count() == 11
    assert await old.count() == 21
    (host,) = (await after.statistics()).hosts
    assert host.epoch == 2
    assert await asyncio.gather(old.count(), new.count()) == [31, 41]
    await before.close()
    await after.close()


async def test_what_a_command_sends_has_the_same_id_when_it_runs_again(tmp_path: Any) -> None:
    """Killed in the middle and run again, it does not do the first half twice."""
    async with Runtime.local(placement=Sharded(1)) as runtime:
        door = tmp_path / "door"
        call = asyncio.create_task(runtime.get(Teller, "t").deposit_then_wait("a", 5, str(door)))
        await eventually((tmp_path / "door.reached").exists)
        cluster: Any = runtime._cluster
        await cluster.kill(cluster._hosts["Teller#0"])
        (tmp_path / "door.reached").unlink()
        door.touch()
        assert await call == 5
        assert (tmp_path / "door.reached").exists()
        assert await runtime.get(Account, "a").balance_now() == 5


async def test_the_same_command_sent_twice_by_a_command_happens_twice() -> None:
    """Ids count how often the same was sent."""

    class Twice(Aggregate):
        @command
        async def deposit(self, to: str) -> list[int]:
            account = self.aggregate(Account, to)
            return list(await asyncio.gather(account.deposit(5), account.deposit(5)))

    async with Runtime.local() as runtime:
        assert sorted(await runtime.get(Twice, "t").deposit("a")) == [5, 10]
        keyed = runtime.get(Twice, "t", idempotency_key="k")
        first = await keyed.deposit("a")
        assert await keyed.deposit("a") == first
        assert await runtime.get(Account, "a").balance_now() == 20


async def test_a_nested_call_by_key_acts_once_though_its_caller_failed() -> None:
    """The caller's key covers what it sent: with the same key again, the first half is not done twice."""

    class Half(Aggregate):
        @command
        async def deposit(self, to: str) -> int:
            done = await self.aggregate(Account, to).deposit(5)
            if failing:
                raise RuntimeError("half way")
            return done

    async with Runtime.local() as runtime:
        half, failing = runtime.get(Half, "h", idempotency_key="k"), True
        with pytest.raises(RuntimeError, match="half way"):
            await half.deposit("a")
        failing = False
        assert await half.deposit("a") == 5
        assert await runtime.get(Account, "a").balance_now() == 5


async def test_dedicated_hosts_stay_within_their_bound_while_others_start_freely(tmp_path: Any) -> None:
    """A type whose places are all busy keeps no other type waiting."""
    placement = {Account: Dedicated(live_max=2), Teller: Dedicated(live_max=2)}
    async with Runtime.local(placement=placement) as runtime:
        door = tmp_path / "door"
        busy = [asyncio.create_task(runtime.get(Account, f"a{n}").wait_for(str(door))) for n in range(2)]

        async def both_run() -> bool:
            return sum(host.calls for host in (await runtime.statistics()).hosts) == 2

        await eventually(both_run)
        with pytest.raises(DeadlineExceeded) as caught:
            await runtime.get(Account, "b", timeout_s=0.1).deposit(1)
        assert caught.value.outcome == "not sent"
        waiting = asyncio.create_task(runtime.get(Account, "c").deposit(1))
        assert await runtime.get(Teller, "t").ask_back("u") == 0
        door.touch()
        assert await asyncio.gather(*busy) == [1, 1]
        assert await waiting == 1
        assert len((await runtime.statistics()).hosts) == 4


async def test_nested_calls_go_over_the_bound_rather_than_wait_for_each_other() -> None:
    """Each of them holds a place while it waits for the next."""
    async with Runtime.local(placement=Dedicated(live_max=1)) as runtime:
        assert await runtime.get(Teller, "t").ask("u", "v") == 0


async def test_few_dedicated_hosts_start_at_once() -> None:
    """The successor of a host that died would queue behind all of them."""
    opened, starting, most = asyncio.Event(), set[str](), 0

    class Slow(LocalCluster):
        async def host(self, spec: Any) -> Any:
            nonlocal most
            peer = await super().host(spec)
            ask = peer.ask

            async def held(method: str, *args: Any) -> Any:
                if method == "hello":
                    await opened.wait()
                    starting.discard(spec.owner)
                return await ask(method, *args)

            peer.ask = held  # type: ignore[method-assign]
            starting.add(spec.owner)
            most = max(most, len(starting))
            return peer

    runtime = await runtime_on(Slow(SPEC), Dedicated(live_max=50), Config(starting_max=3))
    calls = [asyncio.create_task(runtime.get(Account, f"a{n}").deposit(1)) for n in range(10)]
    await eventually(lambda: len(starting) == 3)
    opened.set()
    assert await asyncio.gather(*calls) == [1] * 10
    assert most == 3
    await runtime.close()


class Stuck(LocalCluster):
    """The first host that it starts never answers `method`."""

    def __init__(self, method: str) -> None:
        super().__init__(SPEC)
        self.method = method
        self.killed: list[str] = []

    async def host(self, spec: Any) -> Any:
        is_first = not self._hosts and not self.killed
        peer = await super().host(spec)
        if is_first:
            ask = peer.ask

            async def stuck(method: str, *args: Any) -> Any:
                if method == self.method:
                    await asyncio.Event().wait()
                return await ask(method, *args)

            async def responds(within_s: float) -> bool:
                return False

            peer.ask, peer.responds = stuck, responds  # type: ignore[method-assign]
        return peer

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        self.killed.append(peer.name)
        await super().kill(peer, for_good=for_good)


async def test_a_stopped_host_does_not_hold_its_place_for_ever() -> None:
    """Nobody can ask it to leave, so it is ended."""
    cluster = Stuck("statistics")
    runtime = await runtime_on(cluster, Dedicated(live_max=1), Config(paused_s=0.05))
    assert await runtime.get(Account, "a").deposit(1) == 1
    assert await runtime.get(Account, "b").deposit(1) == 1
    assert cluster.killed == ["Account/a"]
    await runtime.close()


async def test_a_host_that_does_not_start_is_given_up_and_started_again() -> None:
    """A cluster may keep an actor pending without end."""
    cluster = Stuck("hello")
    runtime = await runtime_on(cluster, Dedicated(), Config(start_s=0.05))
    assert await runtime.get(Account, "a").deposit(1) == 1
    assert cluster.killed == ["Account/a"]
    await runtime.close()


async def test_lines_that_were_silent_are_forgotten() -> None:
    """What this process holds does not grow with the aggregates it has ever called."""
    async with Runtime.local(config=Config(link_idle_s=0.05), placement=Dedicated(live_max=50)) as runtime:
        await asyncio.gather(*(runtime.get(Account, f"a{n}").deposit(1) for n in range(20)))
        await eventually(lambda: not runtime._dispatcher._links)
        assert await runtime.get(Account, "a1").deposit(1) == 2


async def test_a_journal_that_cannot_be_reached_is_covered_by_the_deadline() -> None:
    """The first call of a type asks the journal; it does not wait longer than its caller."""
    async with Runtime.local(config=Config(timeout_s=0.1)) as runtime:
        journal: Any = await runtime._cluster.journal()
        await journal.die("a test said so")
        with pytest.raises(DeadlineExceeded) as caught:
            await runtime.get(Account, "a").deposit(1)
        assert caught.value.outcome == "not sent"


async def test_a_line_that_was_forgotten_holds_nothing_though_references_hold_it() -> None:
    """Else every aggregate that a reference was used for once would keep its host, after both have gone."""
    runtime = await runtime_on(cluster := LocalCluster(SPEC), Dedicated(), Config(link_idle_s=0.01))
    account = runtime.get(Account, "a")
    assert await account.deposit(1) == 1
    host = weakref.ref(cluster._hosts["Account/a"])
    assert await runtime.passivate(Account, "a")
    await eventually(lambda: not runtime._dispatcher._links)
    gc.collect()
    assert host() is None
    assert await account.deposit(1) == 2
    await runtime.close()
