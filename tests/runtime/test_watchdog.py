"""The watchdog: what runs longer than its limit is told once, with its stack; and nothing else is."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hf_sight import Patient, Shop
from hf_support import eventually

from holdfast.actors.watchdog import Watchdog
from holdfast.runtime import Config, Runtime, Sharded

SLOW = Config(slow_command_s=0.05)


def local(**how: Any) -> Any:
    return Runtime.local(placement=Sharded(1), config=Config(**how) if how else SLOW)


def reports(caplog: Any) -> list[Any]:
    return [record for record in caplog.records if record.name == "holdfast.actors.watchdog"]


def opens(gate: Path, caplog: Any, count: int = 1) -> threading.Thread:
    """Open a gate when the watchdog has barked so often: the loop itself may be blocked."""

    def wait() -> None:
        tick = threading.Event()
        while len(reports(caplog)) < count:
            tick.wait(0.005)
        gate.touch()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("method", "line"), [("block_for", "_block(gate)"), ("await_and_block", "_block(gate)")])
async def test_the_watchdog_tells_of_a_command_that_blocks_its_thread(
    method: str, line: str, caplog: Any, tmp_path: Path
) -> None:
    """While it blocks: which, how long, and the frames of the thread, those of the command only."""
    async with local() as runtime:
        shop = runtime.get(Shop, "a")
        await shop.add(5)
        opens(tmp_path / "gate", caplog)
        await getattr(shop, method)(f"{tmp_path}/gate")
        (host,) = (await runtime.statistics()).hosts
    (report,) = reports(caplog)
    first, _, stack = report.getMessage().partition("\n")
    assert first.startswith(f"Shop<a@1>: {method} has been running for ")
    assert first.endswith("its limit is 0.05 s")
    assert line in stack
    assert "waits.wait" in stack
    assert "unit.py" not in stack
    assert "cell.py" not in stack
    fields = report.holdfast
    assert (fields["category"], fields["id"], fields["version"], fields["method"]) == ("Shop", "a", 1, method)
    assert fields["seconds"] >= fields["limit_s"] == 0.05
    assert report.levelno == logging.WARNING
    assert host.slow_commands == 1


async def test_the_watchdog_tells_where_a_command_awaits(caplog: Any, tmp_path: Path) -> None:
    """By its coroutines, down to the innermost; once, however long it goes on."""
    async with local() as runtime:
        waiting = asyncio.create_task(runtime.get(Shop, "a").wait_for(f"{tmp_path}/gate"))
        other = asyncio.create_task(runtime.get(Shop, "b").wait_for(f"{tmp_path}/gate"))
        await eventually(lambda: len(reports(caplog)) == 2)
        with pytest.raises(AssertionError):
            await eventually(lambda: len(reports(caplog)) > 2, within_s=0.3)
        (tmp_path / "gate").touch()
        await asyncio.gather(waiting, other)
    for report in reports(caplog):
        where = report.holdfast["stack"]
        assert "in wait_for" in where
        assert where.index("in wait_for") < where.index("in _opened")
        assert "cell.py" not in where
    assert {report.holdfast["id"] for report in reports(caplog)} == {"a", "b"}


async def test_the_watchdog_says_nothing_of_many_short_commands(caplog: Any) -> None:
    """A host that is busy for much longer than the limit, with commands that each take little."""
    async with local() as runtime:
        shop, loop = runtime.get(Shop, "a"), asyncio.get_running_loop()
        until = loop.time() + 0.5
        while loop.time() < until:
            await asyncio.gather(*(shop.add(1) for _ in range(200)))
        assert (await runtime.statistics()).hosts[0].slow_commands == 0
    assert reports(caplog) == []


async def test_the_watchdog_goes_by_the_limit_of_the_class_first(caplog: Any, tmp_path: Path) -> None:
    """One that may take an hour is not reported; its neighbour is."""
    async with local() as runtime:
        patient = asyncio.create_task(runtime.get(Patient, "a").wait_for(f"{tmp_path}/gate"))
        other = asyncio.create_task(runtime.get(Shop, "a").wait_for(f"{tmp_path}/gate"))
        await eventually(lambda: reports(caplog))
        with pytest.raises(AssertionError):
            await eventually(lambda: len(reports(caplog)) > 1, within_s=0.3)
        (tmp_path / "gate").touch()
        await asyncio.gather(patient, other)
    assert [report.holdfast["category"] for report in reports(caplog)] == ["Shop"]


async def test_there_is_no_watchdog_where_none_is_wanted_and_it_ends_with_its_hosts(tmp_path: Path) -> None:
    """One thread for all hosts of a loop; none is left behind."""

    def dogs() -> int:
        return sum(isinstance(thread, Watchdog) for thread in threading.enumerate())

    before = dogs()
    async with local(slow_command_s=None) as runtime:
        await runtime.get(Shop, "a").add(1)
        assert dogs() == before
    async with Runtime.local(config=SLOW) as runtime:
        await asyncio.gather(*(runtime.get(Shop, f"{n}").add(1) for n in range(5)))
        assert dogs() == before + 1
    await eventually(lambda: dogs() == before)


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_a_limit_of_the_watchdog_is_above_zero(wrong: float) -> None:
    """As all seconds are."""
    with pytest.raises(ValueError, match="slow_command_s"):
        Config(slow_command_s=wrong)


@pytest.mark.ray
async def test_the_watchdog_of_a_host_on_ray_counts_what_it_has_reported(world: Any, tmp_path: Path) -> None:
    """In the host's own process, whose loop a blocking command holds."""
    async with world.open(placement=Sharded(1), config=SLOW) as runtime:
        shop = runtime.get(Shop, "a")
        await shop.add(1)
        awaits = asyncio.create_task(shop.wait_for(f"{tmp_path}/gate"))

        async def told() -> bool:
            return (await runtime.statistics()).hosts[0].slow_commands == 1

        await eventually(told)
        (tmp_path / "gate").touch()
        await awaits
