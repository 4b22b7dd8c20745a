"""Far more callers than there is room for, on Ray: each is refused or served, and the journal agrees with what each
was told."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hf_bank import Account
from hf_support import Judge, eventually

from holdfast.actors.limits import HostLimits
from holdfast.runtime import Config, Overloaded, Sharded

pytestmark = pytest.mark.ray

CONFIG = Config(
    waiting_max=60,
    batch_max=20,
    batch_min=5,
    exchanges_max=2,
    host=HostLimits(mailbox_max=10, inbox_max=60),
)
CALLERS = 300  # of each client: five times as many as may wait there
BACK_AFTER_S = 0.01  # how long a caller stays away who was refused


class Crowd:
    """Callers of one client, each with one thing to have done, who come again as often as it takes."""

    def __init__(self, name: str, runtime: Any, judge: Judge) -> None:
        self.name, self.runtime, self.judge = name, runtime, judge
        self.refused: Counter[str] = Counter()
        self.done = 0

    async def caller(self, number: int, id: str) -> None:
        for attempt in range(100_000):
            note = f"{self.name}.{number}.{attempt}"
            try:
                self.judge.told[id, note] = (await self.runtime.get(Account, id).add(note),)
            except Overloaded as error:
                self.judge.refused.add((id, note))
                self.refused[error.what.partition(" ")[0]] += 1
                await asyncio.sleep(BACK_AFTER_S)
            else:
                self.done += 1
                return


async def hold(runtime: Any, until: Path) -> asyncio.Task[Any]:
    """A command that keeps the aggregate `busy` until there is a file; it has reached the host when this returns."""
    holding = asyncio.create_task(runtime.get(Account, "busy").wait_for(str(until), "held"))

    async def has_arrived() -> bool:
        return any(host.calls for host in (await runtime.statistics()).hosts)

    await eventually(has_arrived)
    return holding


async def test_whoever_is_refused_did_nothing_and_whoever_is_served_did_it_once(world: Any, tmp_path: Path) -> None:
    """The clients' lines, the host's inbox and an aggregate's mailbox are full, and say so; when there is room again
    everybody is served."""
    judge, held = Judge(), tmp_path / "go"
    async with (
        world.open(placement=Sharded(1), config=CONFIG) as one,
        world.open(placement=Sharded(1), config=CONFIG) as other,
    ):
        crowds = [Crowd("one", one, judge), Crowd("other", other, judge)]
        holding = await hold(one, held)
        others = [f"a{n}" for n in range(20)]
        callers = [
            asyncio.create_task(crowd.caller(number, "busy" if number % 2 else others[number % len(others)]))
            for crowd in crowds
            for number in range(CALLERS)
        ]
        while not all({"line", "mailbox"} <= set(crowd.refused) for crowd in crowds):
            await asyncio.sleep(BACK_AFTER_S)
        held.touch()
        judge.told["busy", "held"] = (await holding,)
        await asyncio.wait_for(asyncio.gather(*callers), 120)
    assert [crowd.done for crowd in crowds] == [CALLERS, CALLERS]
    assert judge.check(world.path) == 2 * CALLERS + 1


async def test_a_full_inbox_is_named_and_nothing_of_what_it_refuses_is_done(world: Any, tmp_path: Path) -> None:
    """It is shared by all clients of the host: what one of them holds there is missing to the other."""
    judge, held = Judge(), tmp_path / "go"
    config = Config(batch_max=20, batch_min=5, exchanges_max=2, host=HostLimits(inbox_max=30))
    async with (
        world.open(placement=Sharded(1), config=config) as one,
        world.open(placement=Sharded(1), config=config) as other,
    ):
        crowds = [Crowd("one", one, judge), Crowd("other", other, judge)]
        holding = await hold(one, held)
        callers = [asyncio.create_task(crowd.caller(n, "busy")) for crowd in crowds for n in range(CALLERS)]
        while not all("inbox" in crowd.refused for crowd in crowds):
            await asyncio.sleep(BACK_AFTER_S)
        held.touch()
        judge.told["busy", "held"] = (await holding,)
        await asyncio.wait_for(asyncio.gather(*callers), 120)
    assert set(crowds[0].refused) == {"inbox"}
    assert [crowd.done for crowd in crowds] == [CALLERS, CALLERS]
    assert judge.check(world.path) == 2 * CALLERS + 1
