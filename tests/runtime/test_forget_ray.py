"""Forgetting a person on Ray: hosts and followers in processes of their own, killed and paused ones among them."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hf_people import SECRET, Greeter, People, Person
from hf_support import eventually, is_running
from test_forget import holds_secret, rows

from holdfast.actors import ReplyForgotten
from holdfast.runtime import Config, Sharded

pytestmark = pytest.mark.ray

FAST = Config(suspect_s=0.3, paused_s=0.3, compress_from=500)


async def test_forget_reaches_every_process_of_a_cluster(world: Any, kill: Callable[..., None], tmp_path: Any) -> None:
    """Two hosts and a projection and a reaction with hosts of its own; the journal killed before, a host after."""
    keys = f"sqlite:///{tmp_path / 'keys.db'}"
    async with world.open(placement=Sharded(2), keys=keys, config=FAST) as runtime:
        ids = [str(n) for n in range(12)]
        await runtime.start(People, f"sqlite:///{tmp_path / 'read.db'}")
        await runtime.start(Greeter)
        await asyncio.gather(*(runtime.get(Person, id).register(SECRET) for id in ids))
        await asyncio.gather(*(runtime.get(Person, id).note("ann", SECRET) for id in ids))
        keyed = runtime.get(Person, "0", idempotency_key="k")
        assert await keyed.register(SECRET) == f"welcome {SECRET}"
        await runtime.wait_for(People)
        await runtime.wait_for(Greeter)
        assert len(await world.host_pids(runtime, Person, ids)) == 2
        assert not holds_secret(tmp_path / "none")
        world.kill_journal()

        report = await runtime.forget("author", "ann")
        assert report.streams == tuple(sorted(f"Person/{id}" for id in ids))
        assert (report.passivated, report.unreached) == (12, ())
        assert {tuple(notes) for _, notes in [await runtime.get(Person, id).look() for id in ids]} == {("(removed)",)}

        report = await runtime.forget("customer", "0")
        assert report.streams == ("Greeter/0", "Person/0")
        assert await runtime.get(Person, "0").look() == ("", ["(removed)"])
        assert set(await runtime.get(Greeter, "0").look()) == {""}
        with pytest.raises(ReplyForgotten) as told:
            await keyed.register(SECRET)
        assert told.value.args == ("Person/0", "k")
        await runtime.wait_for(People)
        assert rows(tmp_path) == {id: SECRET if id != "0" else "" for id in ids}

        for pid in await world.host_pids(runtime, Person, ids):
            kill(pid)
        looks = await asyncio.gather(*(runtime.get(Person, id).look() for id in ids))
        assert looks == [(SECRET if id != "0" else "", ["(removed)"]) for id in ids]
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.glob("*keys.db*"))
    assert not any(SECRET.encode() in path.read_bytes() for path in world.path.parent.glob(f"{world.path.name}*"))


async def test_a_paused_host_does_not_show_what_was_forgotten_when_it_goes_on(
    world: Any, kill: Callable[..., None], tmp_path: Any
) -> None:
    """It cannot hear of it, so it is ended; its callers are answered by the successor."""
    async with world.open(placement=Sharded(1), keys=f"sqlite:///{tmp_path / 'keys.db'}", config=FAST) as runtime:
        person = runtime.get(Person, "0")
        await person.register(SECRET)
        paused = await person.pid()
        kill(paused, signal.SIGSTOP)
        report = await runtime.forget("customer", "0")
        assert len(report.unreached) == 1
        kill(paused, signal.SIGCONT)
        assert (await person.look())[0] == ""
        assert await person.pid() != paused
        await eventually(lambda: not is_running(paused))
