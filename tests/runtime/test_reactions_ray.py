"""Reactions on a Ray cluster: hosts and followers that are killed, and dead letters that cross processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hf_support import eventually
from hf_transfers import Doubtful, Moved, Purse, Transfers

from holdfast.actors.policy import Stop
from holdfast.journal.records import Checkpoint
from holdfast.runtime import Config, Sharded
from holdfast.runtime.cluster import incarnation

pytestmark = pytest.mark.ray

FAST = Config(suspect_s=0.3, paused_s=1.0)
FOLLOWER = "follower:reaction/Transfers"


async def moves(runtime: Any) -> list[tuple[str, int]]:
    return [(r.id, r.event.amount) async for r in runtime.read(Purse) if isinstance(r.event, Moved)]


async def test_a_handler_whose_process_dies_acts_once_in_another_also_without_the_checkpoint(
    world: Any, tmp_path: Path, kill: Callable[..., None]
) -> None:
    """kill -9 after it has sent and before its own events are written, and to the follower; the checkpoint is lost."""
    gate, reached = tmp_path / "go", tmp_path / "go.reached"
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        await runtime.start(Transfers)
        await runtime.get(Purse, "a").request("t", "b", 5, f"hold:{gate}")
        await eventually(reached.exists)
        assert await moves(runtime) == [("a", -5)]

        await runtime.stop(Transfers)
        owner = "follower:reaction/Transfers"
        epoch = await runtime._journal.claim(owner, incarnation())
        lost = Checkpoint(name="reaction/Transfers", owner=owner, epoch=epoch, position=0)
        await runtime._journal.parts[0].save_checkpoint(lost)
        reached.unlink()
        kill(world.pid_of("host:Transfers#0"))

        await runtime.start(Transfers)
        await eventually(reached.exists)  # run again, in another process
        kill(world.pid_of(FOLLOWER))
        gate.touch()
        await eventually(lambda: given(runtime))
        await runtime.wait_for(Transfers)
        assert await moves(runtime) == [("a", -5), ("b", 5)]


async def given(runtime: Any) -> bool:
    return bool(await runtime.get(Transfers, "t").status_now() == "given")


async def test_what_is_set_aside_is_told_and_replayed_from_another_process(
    world: Any, tmp_path: Path, kill: Callable[..., None]
) -> None:
    """It outlives the follower's process; what the handler raises crosses as itself."""
    blocks = tmp_path / "blocks"
    blocks.touch()
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        await runtime.start(Doubtful)
        await runtime.get(Purse, "a").request("t", "b", 5, str(blocks))
        await runtime.wait_for(Doubtful)
        kill(world.pid_of("follower:reaction/Doubtful"))
        ask = runtime._followers.ask
        (letter,) = await ask("reaction/Doubtful", "dead_letters")
        assert (letter.category, letter.id, letter.target) == ("Purse", "a", "t")
        assert letter.problem.startswith("FileExistsError")
        with pytest.raises(FileExistsError):
            await ask("reaction/Doubtful", "replay", *letter.place)
        blocks.unlink()
        await ask("reaction/Doubtful", "replay", *letter.place)
        assert await ask("reaction/Doubtful", "dead_letters") == []
        assert await moves(runtime) == [("a", -5)]


async def test_new_code_of_a_reaction_reaches_its_hosts_when_it_is_started(world: Any) -> None:
    """Only its follower calls them, which replaces nobody: starting it does."""
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        await runtime.start(defined(1))
        await runtime.get(Purse, "a").request("t", "b", 5)
        await runtime.wait_for(defined(1))
        await runtime.start(defined(2))
        await runtime.get(Purse, "a").request("t", "b", 5)
        await runtime.wait_for(defined(2))
        assert await moves(runtime) == [("a", 1), ("a", 2)]


def defined(amount: int) -> Any:
    """A reaction as it is after an edit: the same name, other code."""
    from hf_transfers import Requested

    from holdfast.actors import Reaction, on

    class Edited(Reaction, on_error=Stop()):
        @on(Requested, by="transfer_id")
        async def requested(self, event: Requested) -> None:
            await self.aggregate(Purse, event.source).move(amount)

    return Edited
