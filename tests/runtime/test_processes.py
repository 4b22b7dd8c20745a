"""Several runtimes, in several processes and inside Ray tasks and actors, use the same aggregates at once."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from hf_bank import Account
from hf_support import Judge, eventually

from holdfast.runtime import Runtime, Sharded

pytestmark = pytest.mark.ray

DRIVER = """
import asyncio, logging, sys
import ray
from hf_bank import Account
from holdfast.runtime import Runtime, Sharded

async def main(address, url, namespace, name, count):
    async with Runtime.open(url, address=address, namespace=namespace, placement=Sharded(2)) as runtime:
        async def send(n):
            print(f"a{n % 5}", f"{name}{n}", await runtime.get(Account, f"a{n % 5}").add(f"{name}{n}"))
        await asyncio.gather(*map(send, range(int(count))))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_drivers_in_several_processes_use_the_same_aggregates(world: Any, tmp_path: Path) -> None:
    """Each sees what the others did; closing one ends nothing of the others."""
    judge = Judge()
    address = ray.get_runtime_context().gcs_address
    async with world.open(placement=Sharded(2)) as runtime:
        arguments = [sys.executable, "-c", DRIVER, address, world.url, world.namespace]
        drivers = [
            subprocess.Popen(  # noqa: ASYNC220
                [*arguments, name, "50"],
                stdout=(tmp_path / f"{name}.out").open("w"),
                stderr=(tmp_path / f"{name}.err").open("w"),
            )
            for name in ("x", "y")
        ]

        async def send(n: int) -> None:
            judge.told[f"a{n % 5}", f"z{n}"] = (await runtime.get(Account, f"a{n % 5}").add(f"z{n}"),)

        try:
            n = 0
            give_up = time.monotonic() + 240
            while any(driver.poll() is None for driver in drivers):
                assert time.monotonic() < give_up, "the drivers do not get on"
                await asyncio.gather(*(send(n + i) for i in range(10)))
                n += 10
        finally:
            for driver in drivers:
                driver.kill()
        for name, driver in zip(("x", "y"), drivers, strict=True):
            assert driver.wait() == 0, (tmp_path / f"{name}.err").read_text()[-3000:]
            for line in (tmp_path / f"{name}.out").read_text().splitlines():
                if line.startswith("a"):
                    id, note, version = line.split()
                    judge.told[id, note] = (int(version),)
        assert await runtime.get(Account, "a0").add("after") > 0
        judge.unknown.add(("a0", "after"))
    assert len(judge.told) >= 100
    judge.check(world.path)


async def test_references_work_in_ray_tasks_and_actors(world: Any) -> None:
    """Asynchronous and blocking ones, sent as arguments; nothing is opened there by hand."""

    @ray.remote(num_cpus=0)
    def blocking(account: Any) -> int:
        return int(account.deposit(5))

    @ray.remote(num_cpus=0)
    def asynchronous(account: Any) -> list[int]:
        async def twice() -> list[int]:
            return list(await asyncio.gather(account.deposit(5), account.deposit(5)))

        return [*asyncio.run(twice()), *asyncio.run(twice())]

    @ray.remote(num_cpus=0)
    class Holder:
        def __init__(self, account: Any) -> None:
            self.account = account

        async def use(self) -> int:
            return int(await self.account.deposit(5))

    async with world.open(placement=Sharded(1)) as runtime:
        account: Any = runtime.get(Account, "a")
        replies = list(await asynchronous.remote(account))
        holder = Holder.remote(account)
        replies += await asyncio.gather(*(holder.use.remote() for _ in range(5)))
        twin = Runtime.open(world.url, namespace=world.namespace, placement=Sharded(1))

        def with_blocking() -> list[int]:
            with twin as opened:
                ref = opened.get(Account, "a")
                return ray.get([blocking.remote(ref) for _ in range(3)])

        replies += await asyncio.to_thread(with_blocking)
        assert sorted(replies) == list(range(5, 5 * (len(replies) + 1), 5))
        assert len(replies) == 12
        ray.kill(holder)


async def test_a_task_of_a_closed_runtime_goes_on_with_the_cluster(world: Any) -> None:
    """What was opened on a cluster that others started stays there until that ends."""

    @ray.remote(num_cpus=0)
    def later(account: Any) -> int:
        return int(asyncio.run(account.deposit(5)))

    async with world.open(placement=Sharded(1)) as runtime:
        account = runtime.get(Account, "a")
        assert await account.deposit(5) == 5
    assert await later.remote(account) == 10
    async with world.open(placement=Sharded(1)) as runtime:
        assert await runtime.get(Account, "a").deposit(5) == 15


async def test_classes_of_a_notebook_work_on_ray_and_run_anew_when_redefined(world: Any) -> None:
    """Made by `exec`, as a notebook does it: by value to the host, and rolled when the cell runs again."""

    def cell(step: int) -> Any:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(
            f"""
from holdfast.actors import Aggregate, command, event, on, query
import os

@event("notebook.counted")
class Counted:
    by: int

class Oops(Exception):
    def __init__(self, *, code):
        self.code = code

class Counter(Aggregate):
    total: int = 0

    @command
    def count(self) -> int:
        self.emit(Counted({step}))
        return self.total

    @command
    def fail(self) -> None:
        raise Oops(code={step})

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Counted)
    def _counted(self, event: Counted) -> None:
        self.total += event.by
""",
            scope,
        )
        return scope

    async with world.open(placement=Sharded(1)) as runtime:
        first = cell(1)
        counter = runtime.get(first["Counter"], "a")
        assert await counter.count() == 1
        with pytest.raises(first["Oops"]) as raised:
            await counter.fail()
        assert raised.value.code == 1
        pid = await counter.pid()
        again = runtime.get(cell(1)["Counter"], "a")
        assert [await again.count(), await again.pid()] == [2, pid]
        changed = runtime.get(cell(10)["Counter"], "a")
        assert await changed.count() == 12
        assert await changed.pid() != pid
        assert await counter.count() == 22

        async def one_host() -> bool:
            return len((await runtime.statistics()).hosts) == 1

        await eventually(one_host)
