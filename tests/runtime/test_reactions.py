"""Reactions in a runtime without Ray: once over crashes at every step, in order, by policy, fenced."""

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

import hf_transfers
import pytest
from hf_support import eventually
from hf_transfers import (
    QUICK,
    Failures,
    Fickle,
    Ledger,
    Moody,
    Moved,
    Purse,
    Refused,
    Requested,
    Strict,
    Taken,
    Transfers,
)

from holdfast.actors import DeadLetter, Reaction, Retry, Stop, UnknownCommand, on
from holdfast.journal.errors import Fenced
from holdfast.journal.positions import Positions
from holdfast.journal.records import Checkpoint
from holdfast.runtime import Opening, Runtime, Sharded
from holdfast.runtime.beginning import is_position
from holdfast.runtime.cluster import incarnation
from holdfast.runtime.dead_letters import NoSuchLetter
from holdfast.runtime.follower import Desk, FollowerPhase, FollowerStopped, Progress
from holdfast.runtime.frontier import Frontier
from holdfast.runtime.reaction_follower import ReactionFollower, follower_name, plans_of

Hook = Callable[[str], Awaitable[None]]


async def nothing(_: Any) -> None:
    """A hook that does nothing; a pause that takes no time."""
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_failures() -> None:
    Failures.left.clear()
    Failures.error = ZeroDivisionError("on purpose")
    Fickle.amounts[:] = [5, 6, 7, 8, 9]


@pytest.fixture(params=["", "?partitions=2"], ids=["whole", "partitions"])
def opening(request: pytest.FixtureRequest) -> Opening:
    return Runtime.local(f"memory://{request.param}", placement=Sharded(2))


def in_runtime(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Give the test an open runtime."""

    async def run(opening: Opening, **others: Any) -> None:
        async with opening as runtime:
            await test(runtime=runtime, **others)

    signature = inspect.signature(test)
    names = [p.replace(name="opening") if p.name == "runtime" else p for p in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=names)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Part:
    """A partition of the journal, with somebody who looks on when a checkpoint is saved."""

    def __init__(self, part: Any, hook: Hook) -> None:
        self._part, self._hook = part, hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        moves = is_position(checkpoint.name) and checkpoint.position > 0
        await (self._hook("before checkpoint") if moves else nothing(0))
        await self._part.save_checkpoint(checkpoint)
        await (self._hook("after checkpoint") if moves else nothing(0))


class Way:
    """The way to aggregates, with somebody who looks on when an event is delivered."""

    def __init__(self, gate: Any, hook: Hook) -> None:
        self.dispatcher, self._real, self._hook = self, gate.dispatcher, hook

    def line(self, how: Any) -> Any:
        return self._real.line(how)

    async def call(self, *args: Any) -> Any:
        await self._hook("before delivery")
        answer = await self._real.call(*args)
        await self._hook("after delivery")
        return answer


class Life:
    """One life of a reaction's follower, on a desk made by hand."""

    def __init__(self, runtime: Runtime, reaction: type[Reaction], **how: Any) -> None:
        self.runtime, self.name = runtime, follower_name(reaction)
        self.hook: Hook = how.pop("hook", nothing)
        self.follower = ReactionFollower(reaction, **{"pause": nothing, **how})
        self.progress = Progress(runtime.partitions)
        self.running: asyncio.Task[None] | None = None

    async def begin(self) -> "Life":
        journal: Any = self.runtime._journal
        owner = f"follower:{self.name}"
        desk = Desk(
            owner=owner,
            epoch=await journal.claim(owner, incarnation()),
            parts=[Part(part, self.hook) for part in journal.parts],  # type: ignore[misc]
            gate=Way(self.runtime._gate, self.hook),  # type: ignore[arg-type]
            progress=self.progress,
            page=3,
        )
        self.running = asyncio.create_task(self.follower.run(desk))
        return self

    async def settled(self) -> "Life":
        """Until all is done that there is, also what followed from it."""
        await eventually(lambda: self.began or self.running is None or self.running.done())
        while True:
            head = await positions(self.runtime)
            waiting = asyncio.ensure_future(self.progress.wait(head, 30.0))
            assert self.running is not None
            await asyncio.wait({waiting, self.running}, return_when=asyncio.FIRST_COMPLETED)
            if self.running.done():
                waiting.cancel()
                self.running.result()
            assert await waiting, f"not done with {head}: {self.progress.positions}, {self.progress.problem}"
            if await positions(self.runtime) == head:
                return self

    @property
    def began(self) -> bool:
        """It has found its checkpoint."""
        return self.progress.phase is not FollowerPhase.CLAIMING

    async def end(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait({self.running})

    async def __aenter__(self) -> "Life":
        return await self.begin()

    async def __aexit__(self, *_: object) -> None:
        await self.end()


async def positions(runtime: Runtime) -> Positions:
    head = await runtime.head()
    return head if isinstance(head, Positions) else Positions((head,))


async def requests(runtime: Runtime, count: int, note: str = "") -> None:
    for n in range(count):
        await runtime.get(Purse, f"p{n % 3}").request(f"t{n}", f"p{(n + 1) % 3}", 10 + n, note)


async def forget_checkpoint(runtime: Runtime, reaction: type[Reaction]) -> None:
    """As if it had never been saved."""
    journal: Any = runtime._journal
    name = follower_name(reaction)
    owner = f"follower:{name}"
    epoch = await journal.claim(owner, incarnation())
    for part in journal.parts:
        await part.save_checkpoint(Checkpoint(name=name, owner=owner, epoch=epoch, position=0))


async def moves(runtime: Runtime) -> dict[str, list[int]]:
    """What the journal says, read without any of the code under test."""
    found: dict[str, list[int]] = {}
    async for recorded in runtime.read(Purse):
        if isinstance(recorded.event, Moved):
            found.setdefault(recorded.id, []).append(recorded.event.amount)
    return found


async def check_transfers(runtime: Runtime, count: int) -> None:
    """Each transfer has taken and given its amount exactly once, or was refused and did neither."""
    asked = [r.event async for r in runtime.read(Purse) if isinstance(r.event, Requested)]
    assert len(asked) == count
    ended: dict[str, list[str]] = {}
    async for recorded in runtime.read(Transfers):
        ended.setdefault(recorded.id, []).append(type(recorded.event).__name__)
    expected: dict[str, list[int]] = {}
    for request in asked:
        assert ended[request.transfer_id] in (["Taken", "Given"], ["Refused"]), ended
        if ended[request.transfer_id] != ["Refused"]:
            expected.setdefault(request.source, []).append(-request.amount)
            expected.setdefault(request.to, []).append(request.amount)
    found = await moves(runtime)
    assert {id: sorted(amounts) for id, amounts in found.items()} == {i: sorted(a) for i, a in expected.items()}


# -- from end to end ---------------------------------------------------------------------------------------------


@in_runtime
async def test_a_reaction_does_what_follows_from_events_also_from_its_own(runtime: Runtime) -> None:
    """Started before the events or after them; what it emits comes back to it."""
    await requests(runtime, 6)
    await runtime.start(Transfers)
    await requests(runtime, 9)
    await eventually(lambda: done(runtime, Transfers, 9))
    await runtime.wait_for(Transfers)
    assert await runtime.stop(Transfers)
    asked = [r async for r in runtime.read(Purse) if isinstance(r.event, Requested)]
    assert len(asked) == 15
    assert await runtime.get(Transfers, "t8").status_now() in ("given", "refused")


async def done(runtime: Runtime, reaction: type[Any], count: int) -> bool:
    statuses = [await runtime.get(reaction, f"t{n}").status_now() for n in range(count)]
    return all(status in ("given", "refused") for status in statuses)


@in_runtime
async def test_a_reaction_that_is_started_again_goes_on(runtime: Runtime) -> None:
    """Its checkpoint is in the journal."""
    await runtime.start(Ledger)
    await runtime.get(Purse, "a").move(1)
    await runtime.wait_for(Ledger)
    await runtime.stop(Ledger)
    await runtime.get(Purse, "a").move(2)
    await runtime.start(Ledger)
    await runtime.wait_for(Ledger)
    assert await runtime.get(Ledger, "a").noted_now() == [1, 2]


@in_runtime
async def test_chains_can_be_walked(runtime: Runtime) -> None:
    """What follows from an event carries its correlation id and metadata, and its command as the cause."""
    ann = runtime.get(Purse, "ann", idempotency_key="order-1", metadata={"clerk": "eve"})
    await ann.request("t", "bob", 5)
    async with Life(runtime, Transfers) as life:
        await life.settled()
    (taken,) = [r async for r in runtime.read(Transfers) if isinstance(r.event, Taken)]
    (given,) = [r async for r in runtime.read(Transfers) if isinstance(r.event, hf_transfers.Given)]
    (moved,) = [r async for r in runtime.read(Purse, "bob")]
    (asked,) = [r async for r in runtime.read(Purse, "ann") if isinstance(r.event, Requested)]
    assert taken.context.command_id == f"reaction:Transfers:{asked.partition}:{asked.position}"
    assert taken.context.causation_id == asked.context.command_id == "order-1"
    assert given.context.causation_id == taken.context.command_id
    assert moved.context.causation_id == given.context.command_id
    for each in (taken, given, moved):
        assert (each.context.correlation_id, each.metadata) == ("order-1", {"clerk": "eve"})


@in_runtime
async def test_users_have_no_way_to_the_system_command(runtime: Runtime) -> None:
    """A reference knows the commands that the class has, and no other."""
    reference: Any = runtime.get(Transfers, "t")
    with pytest.raises(UnknownCommand):
        await reference.holdfast_react("x", b"", 0, 1, "c", "i", 1, "k", 0, b"")
    assert "holdfast_react" not in dir(reference)


# -- once ----------------------------------------------------------------------------------------------------------

STEPS = ["before delivery", "after delivery", "before checkpoint", "after checkpoint"]


@pytest.mark.parametrize("loses", [False, True], ids=["checkpoint kept", "checkpoint lost"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
@in_runtime
async def test_a_crash_at_any_step_leaves_each_effect_once(runtime: Runtime, step: str, nth: int, loses: bool) -> None:
    """Before a delivery, between its effect and its answer, between the answer and the checkpoint, after that."""
    await requests(runtime, 7)
    count, crashed = 0, asyncio.Event()

    async def crash(where: str) -> None:
        nonlocal count
        count += where == step
        if where == step and count >= nth:
            crashed.set()
            await asyncio.Event().wait()  # it goes no further, until it is ended

    async with Life(runtime, Transfers, hook=crash):
        await asyncio.wait_for(crashed.wait(), 30)
    if loses:
        await forget_checkpoint(runtime, Transfers)
    async with Life(runtime, Transfers) as life:
        await life.settled()
    await check_transfers(runtime, 7)


async def kill_hosts(runtime: Runtime) -> None:
    cluster: Any = runtime._cluster
    for name in await cluster.host_names():
        await cluster.kill(await cluster.find_host(name))


@pytest.mark.parametrize("loses", [False, True], ids=["checkpoint kept", "checkpoint lost"])
@in_runtime
async def test_a_handler_that_died_after_it_had_sent_acts_once(runtime: Runtime, tmp_path: Any, loses: bool) -> None:
    """Its command had its effect, its own events were not written: it is run again, and sends the same command."""
    gate = tmp_path / "go"
    await runtime.get(Purse, "a").request("t", "b", 5, f"hold:{gate}")
    async with Life(runtime, Transfers) as life:
        await eventually((tmp_path / "go.reached").exists)
        assert await moves(runtime) == {"a": [-5]}
        if loses:
            await life.end()
            await forget_checkpoint(runtime, Transfers)
            life = await Life(runtime, Transfers).begin()
        (tmp_path / "go.reached").unlink()
        await kill_hosts(runtime)
        await eventually((tmp_path / "go.reached").exists)  # run again
        gate.touch()
        await life.settled()
        await life.end()
    assert await moves(runtime) == {"a": [-5], "b": [5]}


@in_runtime
async def test_a_handler_that_sends_something_else_when_run_again_is_refused(runtime: Runtime, tmp_path: Any) -> None:
    """What it sent first stays the only one; the event is set aside, to be looked at."""
    gate = tmp_path / "go"
    await runtime.get(Purse, "a").request("t", "b", 5, f"hold:{gate}")
    async with Life(runtime, Fickle) as life:
        await eventually((tmp_path / "go.reached").exists)
        await kill_hosts(runtime)
        gate.touch()
        await life.settled()
        (letter,) = await life.follower.dead_letters()
        assert letter.problem.startswith("KeyReused")
    assert await moves(runtime) == {"a": [5]}


@in_runtime
async def test_an_event_that_is_delivered_twice_at_once_acts_once(runtime: Runtime) -> None:
    """Two lives side by side, the older one fenced: both deliver everything."""
    await requests(runtime, 7)
    async with Life(runtime, Transfers) as old, Life(runtime, Transfers) as new:
        await new.settled()
        with contextlib.suppress(Fenced):
            await old.settled()
    await check_transfers(runtime, 7)


@in_runtime
async def test_random_crashes_of_everything_leave_each_effect_once(runtime: Runtime) -> None:
    """Hosts die, lives end at any step, checkpoints are lost, in any order."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def crash(where: str) -> None:
        await asyncio.sleep(0)
        if chance.random() < 0.05:
            raise asyncio.CancelledError if chance.random() < 0.5 else Fenced("x", 1, 2)

    async def trouble() -> None:
        while True:
            await asyncio.sleep(chance.random() * 0.01)
            await kill_hosts(runtime)

    await requests(runtime, 10)
    troubles = asyncio.create_task(trouble())
    for _ in range(20):
        life = await Life(runtime, Transfers, hook=crash).begin()
        assert life.running is not None
        await asyncio.wait({life.running}, timeout=0.05)
        await life.end()
        if chance.random() < 0.3:
            await forget_checkpoint(runtime, Transfers)
    troubles.cancel()
    async with Life(runtime, Transfers) as life:
        await life.settled()
    await check_transfers(runtime, 10)


# -- order ---------------------------------------------------------------------------------------------------------


@in_runtime
async def test_events_for_one_instance_come_in_the_order_of_positions(runtime: Runtime) -> None:
    """Also when handlers fail on the way, and however many instances are served at once."""
    names = [f"a{n}" for n in range(30)]
    for amount in range(1, 6):
        await asyncio.gather(*(runtime.get(Purse, name).move(amount) for name in names))
    Failures.left.update({name: n % 3 for n, name in enumerate(names)})
    async with Life(runtime, Ledger) as life:
        await life.settled()
        assert life.progress.errors == 30
    for name in names:
        assert await runtime.get(Ledger, name).noted_now() == [1, 2, 3, 4, 5]


@in_runtime
async def test_an_instance_in_trouble_holds_back_the_checkpoint_and_nobody_else(runtime: Runtime) -> None:
    """Those that are done stay done; after a crash it goes on before the one that was not."""
    await runtime.get(Purse, "bad").move(1)
    for n in range(30):
        await runtime.get(Purse, f"good{n}").move(1)
    Failures.left["bad"] = 1
    mended = asyncio.Event()

    async def pause(seconds: float) -> None:
        await (mended.wait() if seconds in (QUICK.first_s, QUICK.most_s) else asyncio.sleep(0))

    async with Life(runtime, Ledger, pause=pause) as life:
        await eventually(lambda: noted_by_all(runtime))
        (bad,) = [r async for r in runtime.read(Purse, "bad")]
        assert life.progress.positions[bad.partition] == bad.position - 1
        journal: Any = runtime._journal
        assert await journal.parts[bad.partition].find_checkpoint(life.name) < bad.position
        assert life.progress.details["troubled"] == 1
        assert "on purpose" in life.progress.problem
        mended.set()
        await life.settled()
        assert (life.progress.details["troubled"], life.progress.problem) == (0, "")
    assert await runtime.get(Ledger, "bad").noted_now() == [1]


async def noted_by_all(runtime: Runtime) -> bool:
    return all([await runtime.get(Ledger, f"good{n}").noted_now() == [1] for n in range(30)])


async def test_a_frontier_is_before_the_first_that_has_not_ended() -> None:
    """Against a model of one line, for positions that end in any order."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    frontier, open_ones, seen = Frontier(0, 1000), set[int](), 0
    for _ in range(2000):
        if open_ones and chance.random() < 0.5:
            position = chance.choice(sorted(open_ones))
            frontier.end(position)
            open_ones.remove(position)
        elif chance.random() < 0.3:
            seen += chance.randrange(3)
            frontier.pass_by(seen)
        else:
            seen += 1 + chance.randrange(3)
            await frontier.begin(seen)
            open_ones.add(seen)
            continue  # what is before it may not be seen yet: the frontier moves when something ends or is passed
        assert frontier.reached == (min(open_ones) - 1 if open_ones else seen)


async def test_a_frontier_lets_only_so_many_begin_beyond_it() -> None:
    """One that never ends must not make it remember for ever."""
    frontier = Frontier(0, 3)
    for position in (1, 2, 3):
        await frontier.begin(position)
    frontier.end(2)
    frontier.end(3)
    waiting = asyncio.create_task(frontier.begin(4))
    await asyncio.sleep(0)
    assert not waiting.done()
    frontier.end(1)
    await waiting
    assert frontier.reached == 3


# -- policies ------------------------------------------------------------------------------------------------------


@in_runtime
async def test_a_handler_that_fails_for_a_while_is_tried_again(runtime: Runtime) -> None:
    """So often as the policy says, with pauses that grow."""
    await runtime.get(Purse, "a").move(1)
    Failures.left["a"] = QUICK.times
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with Life(runtime, Ledger, pause=pause) as life:
        await life.settled()
        assert await life.follower.dead_letters() == []
        assert (life.progress.retries, life.progress.dead_letters) == (QUICK.times, 0)
    assert [p for p in pauses if p < 0.1] == [0.001, 0.002]
    assert await runtime.get(Ledger, "a").noted_now() == [1]


@in_runtime
async def test_what_keeps_failing_is_set_aside_and_can_be_replayed(runtime: Runtime) -> None:
    """Those after it go on; what is set aside outlives the follower, stays so when it comes again, and is done once."""
    for amount in (1, 2):
        await runtime.get(Purse, "a").move(amount)
    first, _ = [r async for r in runtime.read(Purse, "a")]
    Failures.left["a"] = QUICK.times + 1
    async with Life(runtime, Ledger) as life:
        await life.settled()
    assert await runtime.get(Ledger, "a").noted_now() == [2]
    await forget_checkpoint(runtime, Ledger)
    async with Life(runtime, Ledger) as life:
        await life.settled()
        (letter,) = await life.follower.dead_letters()
        assert letter.place == (first.partition, first.position)
        assert (letter.type, letter.category, letter.id, letter.target) == ("hf_transfers.moved", "Purse", "a", "a")
        assert letter.attempts == QUICK.times + 1
        assert letter.problem == "ZeroDivisionError: on purpose"
        assert life.progress.dead_letters == 1
        assert await runtime.get(Ledger, "a").noted_now() == [2]  # it stays set aside

        Failures.left["a"] = 1
        with pytest.raises(ZeroDivisionError):
            await life.follower.replay(*letter.place)
        assert await life.follower.dead_letters() == [letter]
        await life.follower.replay(*letter.place)
        assert await life.follower.dead_letters() == []
        with pytest.raises(NoSuchLetter):
            await life.follower.replay(*letter.place)
    await forget_checkpoint(runtime, Ledger)
    async with Life(runtime, Ledger) as life:
        await life.settled()
        assert await life.follower.dead_letters() == []
    assert await runtime.get(Ledger, "a").noted_now() == [2, 1]


@in_runtime
async def test_a_policy_may_stop_everything(runtime: Runtime) -> None:
    """The checkpoint stays before the event; mended and started again, it goes on there."""
    for amount in (1, 2):
        await runtime.get(Purse, "a").move(amount)
    Failures.left["a"] = 1
    life = await Life(runtime, Strict).begin()
    with pytest.raises(FollowerStopped, match=r"hf_transfers.moved at position .*: ZeroDivisionError: on purpose"):
        await life.settled()
    async with Life(runtime, Strict) as life:
        await life.settled()
    assert await runtime.get(Strict, "a").noted_now() == [1, 2]


@pytest.mark.parametrize(
    ("policy", "failures", "ends"),
    [
        (DeadLetter(), 1, "set aside"),
        (Stop(), 1, "stopped"),
        (Retry(times=1, first_s=0.001), 1, "done"),
        (Retry(times=1, first_s=0.001), 2, "set aside"),
        (Retry(times=1, first_s=0.001, then="stop"), 2, "stopped"),
    ],
    ids=str,
)
@in_runtime
async def test_policies(
    runtime: Runtime, policy: Any, failures: int, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each does with so many failures."""
    monkeypatch.setattr(Ledger, "__holdfast_on_error__", policy)
    await runtime.get(Purse, "a").move(1)
    Failures.left["a"] = failures
    async with Life(runtime, Ledger) as life:
        if ends == "stopped":
            with pytest.raises(FollowerStopped):
                await life.settled()
            return
        await life.settled()
        assert len(await life.follower.dead_letters()) == (ends == "set aside")


@in_runtime
async def test_failures_that_pass_by_themselves_are_no_business_of_the_policy(runtime: Runtime) -> None:
    """What says that it may succeed later is tried for as long as it takes."""
    await runtime.get(Purse, "a").move(1)
    Failures.left["a"] = 25
    Failures.error = hf_transfers.overloaded()
    async with Life(runtime, Strict) as life:
        await life.settled()
        assert (life.progress.errors, life.progress.retries) == (25, 0)
    assert await runtime.get(Strict, "a").noted_now() == [1]


@in_runtime
async def test_an_event_for_nobody_in_particular_is_dealt_with_by_policy(runtime: Runtime) -> None:
    """`by` raises, answers what is no text, or an id that none can have: set aside; None: not for any."""
    for n, transfer_id in enumerate(("raise", "number", "long", "none", "x")):
        await runtime.get(Purse, f"p{n}").request(transfer_id, "b", 1)
    async with Life(runtime, Moody) as life:
        await life.settled()
        letters = {letter.id: letter for letter in await life.follower.dead_letters()}
        assert {id: letter.problem.partition(":")[0] for id, letter in letters.items()} == {
            "p0": "ZeroDivisionError",
            "p1": "TypeError",
            "p2": "InvalidId",
        }
        assert (letters["p0"].target, letters["p1"].target, len(letters["p2"].target)) == ("", "", 300)
    assert [r.id async for r in runtime.read(Moody)] == ["x"]


@in_runtime
async def test_an_event_that_does_not_decode_is_set_aside(runtime: Runtime) -> None:
    """Its name is the same, its fields are not: a mistake of the authors, and no reason to stop everything."""

    class Odd(Reaction, on_error=QUICK):
        @on(hf_transfers.OtherMoved)
        def moved(self, event: Any) -> None: ...

    await runtime.get(Purse, "a").move(1)
    async with Life(runtime, Odd) as life:
        await life.settled()
        (letter,) = await life.follower.dead_letters()
        assert letter.problem.startswith("CodecError")


@in_runtime
async def test_a_rejection_that_leaves_the_handler_is_a_failure_and_one_that_does_not_is_none(
    runtime: Runtime,
) -> None:
    """Where it is caught, the handler compensates."""
    await runtime.get(Purse, "a").request("t", "b", 1000)
    async with Life(runtime, Transfers) as life:
        await life.settled()
        assert life.progress.errors == 0
    assert [type(r.event) async for r in runtime.read(Transfers)] == [Refused]


# -- fencing -------------------------------------------------------------------------------------------------------


@in_runtime
async def test_a_life_that_was_succeeded_moves_no_checkpoint_and_sets_nothing_aside(runtime: Runtime) -> None:
    """Its deliveries do no harm; what it would record is refused, and ends it."""
    await runtime.get(Purse, "a").move(1)
    Failures.left["a"] = QUICK.times + 1
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(where: str) -> None:
        if where == "before delivery" and not go.is_set():
            reached.set()
            await go.wait()

    old = await Life(runtime, Ledger, hook=wait).begin()
    await reached.wait()
    journal: Any = runtime._journal
    await journal.claim(f"follower:{old.name}", incarnation())
    go.set()
    with pytest.raises(Fenced):
        await old.settled()
    async with Life(runtime, Ledger) as new:
        await new.settled()
        assert await new.follower.dead_letters() == []
    assert await runtime.get(Ledger, "a").noted_now() == [1]


@in_runtime
async def test_a_stale_checkpoint_is_refused(runtime: Runtime) -> None:
    """What the newer life has saved stands."""
    await runtime.get(Purse, "a").move(1)
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(where: str) -> None:
        if where == "before checkpoint":
            reached.set()
            await go.wait()

    old = await Life(runtime, Ledger, hook=wait).begin()
    await reached.wait()
    async with Life(runtime, Ledger) as new:
        await new.settled()
        go.set()
        with pytest.raises(Fenced):
            await asyncio.wait_for(asyncio.shield(old.running), 30)  # type: ignore[arg-type]


# -- where it begins -----------------------------------------------------------------------------------------------


@in_runtime
async def test_a_reaction_begins_where_it_is_told_the_first_time(runtime: Runtime) -> None:
    """From the first event on, from now on, or after positions; later it goes on, whatever it is told."""
    await runtime.get(Purse, "a").move(1)
    middle = await positions(runtime)
    await runtime.get(Purse, "a").move(2)

    async def noted(reaction: type[Any], after: Any) -> list[int]:
        async with Life(runtime, reaction, after=after) as life:
            await life.settled()
        found: list[int] = await runtime.get(reaction, "a").noted_now()
        return found

    class Later(Ledger): ...

    class Now(Ledger): ...

    assert await noted(Ledger, "beginning") == [1, 2]
    assert await noted(Later, middle) == [2]
    assert await noted(Now, "now") == []
    await runtime.get(Purse, "a").move(3)
    assert await noted(Ledger, "now") == [1, 2, 3]
    assert await noted(Later, "now") == [2, 3]
    assert await noted(Now, "beginning") == [3]


@in_runtime
async def test_now_stays_when_it_was_also_in_an_empty_journal(runtime: Runtime) -> None:
    """A checkpoint of 0 alone would not tell a decision from none."""
    async with Life(runtime, Ledger, after="now") as life:
        await life.settled()
    await runtime.get(Purse, "a").move(1)
    async with Life(runtime, Ledger, after="now") as life:
        await life.settled()
    assert await runtime.get(Ledger, "a").noted_now() == [1]


@in_runtime
async def test_positions_of_another_number_of_partitions_are_refused(runtime: Runtime) -> None:
    """Before anything is delivered."""
    life = await Life(runtime, Ledger, after=Positions((1, 2, 3))).begin()
    with pytest.raises(FollowerStopped, match="partitions"):
        await life.settled()
    with pytest.raises(ValueError, match="beginning"):
        plans_of(Ledger, after="end")  # type: ignore[arg-type]


@in_runtime
async def test_a_checkpoint_beyond_the_journal_stops_it(runtime: Runtime) -> None:
    """The journal was restored from an older copy: nothing is skipped in silence."""
    async with Life(runtime, Ledger) as life:
        await life.settled()
    journal: Any = runtime._journal
    owner = f"follower:{life.name}"
    epoch = await journal.claim(owner, incarnation())
    await journal.parts[0].save_checkpoint(Checkpoint(name=life.name, owner=owner, epoch=epoch, position=1000))
    life = await Life(runtime, Ledger).begin()
    await runtime.get(Purse, "a").move(1)
    with pytest.raises(FollowerStopped, match="checkpoint is position 1000"):
        await asyncio.wait_for(life.running, 30)  # type: ignore[arg-type]
