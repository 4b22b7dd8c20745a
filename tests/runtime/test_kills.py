"""Kill -9 at random moments under load: callers see a delay, and the journal and the callers agree afterwards."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hf_bank import Account
from hf_support import Judge, eventually, is_running, writer_pid

from holdfast.runtime import Config, DeadlineExceeded, Dedicated, Sharded

pytestmark = pytest.mark.ray

CONFIG = Config(timeout_s=60)  # a kill is noticed by itself; nothing here is paused


class Load:
    """Callers who send one command after another, each with a note of its own, and remember what they were told."""

    def __init__(self, runtime: Any, ids: list[str], callers: int, judge: Judge) -> None:
        self.runtime, self.judge, self.stopped = runtime, judge, False
        self.answered = 0
        self.slowest_s = 0.0
        self.tasks = [asyncio.create_task(self._call(n, ids[n % len(ids)])) for n in range(callers)]

    async def _call(self, caller: int, id: str) -> None:
        number = 0
        while not self.stopped:
            number += 1
            note = f"{caller}.{number}"
            key = note if number % 3 == 0 else None
            account = self.runtime.get(Account, id, idempotency_key=key)
            started = time.monotonic()
            try:
                if number % 5 == 0:
                    first, last = await account.many(note, 3)
                    self.judge.told[id, note] = tuple(range(first, last + 1))
                else:
                    self.judge.told[id, note] = (await account.add(note),)
            except DeadlineExceeded:
                self.judge.unknown.add((id, note))
            self.answered += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    async def stop(self) -> None:
        self.stopped = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), 60)


@pytest.mark.parametrize(
    ("placement", "ids", "kills"),
    [(Sharded(2), [f"a{n}" for n in range(40)], 6), (Dedicated(), ["a", "b", "c"], 6)],
    ids=["sharded", "dedicated"],
)
async def test_kills_at_random_moments_lose_and_double_nothing(
    world: Any, kill: Callable[..., None], placement: Any, ids: list[str], kills: int
) -> None:
    """Hosts, the journal, or both: every acknowledged event is there once, in order, as the replies said."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    judge = Judge()
    async with world.open(placement=placement, config=CONFIG) as runtime:
        load = Load(runtime, ids, 40, judge)
        for round in range(kills):
            before = load.answered
            await eventually(lambda before=before: load.answered > before + 40, 60)
            pids = await world.host_pids(runtime, Account, ids)
            after_s = rng.random() * 0.1
            await asyncio.sleep(after_s)  # the moment is what is random here
            target = ("host", "journal", "both")[round % 3]
            if target != "journal":
                kill(rng.choice(pids))
            if target != "host":
                world.kill_journal()
        before = load.answered
        await eventually(lambda: load.answered > before + 40, 60)
        await load.stop()
        versions = {id: await runtime.get(Account, id).version_now() for id in ids}
        balances = {id: await runtime.get(Account, id).balance_now() for id in ids}
        for id in ids:
            state = await runtime.state_at(Account, id)
            assert (state.version, state.balance) == (versions[id], balances[id])
    events = judge.check(world.path)
    assert not judge.unknown, "a kill is a delay, not a deadline"
    print(f"{events} events, slowest answer {load.slowest_s:.2f} s")


async def test_failover_after_a_kill_takes_seconds_at_most(world: Any, kill: Callable[..., None]) -> None:
    """How long a caller waits when the host, or the journal, is killed between two calls."""
    async with world.open(placement=Sharded(1), config=CONFIG) as runtime:
        account = runtime.get(Account, "a")
        for target in ("host", "journal"):
            await account.add(f"before {target}")
            pid = await account.pid() if target == "host" else world.journal_pid()
            kill(pid)
            started = time.monotonic()
            await account.add(f"after {target}")
            took = time.monotonic() - started
            print(f"after a killed {target}: {took:.2f} s")
            assert took < 20
        assert await account.version_now() == 4


async def test_a_kill_in_the_middle_of_a_call_gives_the_reply_of_the_first_execution(
    world: Any, kill: Callable[..., None], tmp_path: Any
) -> None:
    """A long command is lost with its host, run again by the successor, and counted once."""
    door = tmp_path / "door"
    async with world.open(placement=Sharded(1), config=CONFIG) as runtime:
        account = runtime.get(Account, "a")
        pid = await account.pid()
        waiting = asyncio.create_task(account.wait_for(str(door), "once"))
        stats = lambda: runtime.statistics()  # noqa: E731

        async def it_runs() -> bool:
            return any(host.calls for host in (await stats()).hosts)

        await eventually(it_runs)
        kill(pid)
        door.touch()
        assert await asyncio.wait_for(waiting, 30) == 1
        assert await account.version_now() == 1


async def test_a_killed_journal_comes_back_with_everything(world: Any, kill: Callable[..., None]) -> None:
    """It is started again by Ray; reads and writes go on where they were."""
    async with world.open(placement=Sharded(1), config=CONFIG) as runtime:
        account = runtime.get(Account, "a")
        assert await account.deposit(5) == 5
        first = world.journal_pid()
        kill(first)
        assert await account.deposit(6) == 11
        assert [e.event.amount async for e in runtime.read(Account, "a")] == [5, 6]
        await eventually(lambda: writer_pid(world.path) not in (0, first))
        assert not is_running(first)
