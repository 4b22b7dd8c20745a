"""The front door, without Ray: what a user sees of get, read, state_at, statistics, passivate and close."""

import asyncio
import random
from typing import Any

import pytest
from hf_bank import Account, Insufficient, Odd, Teller
from hf_support import eventually

from holdfast.actors import Aggregate, command
from holdfast.actors.errors import (
    CallCycle,
    DeadlineExceeded,
    HydrationFailed,
    KeyReused,
    NotSerializable,
    Overloaded,
    UnknownCommand,
)
from holdfast.journal.errors import HoldfastError, JournalLocked, JournalUrlError, NotAJournal
from holdfast.runtime import Config, Dedicated, HostLimits, Runtime, RuntimeClosed, Sharded

PLACEMENTS = [Dedicated(), Sharded(2)]


@pytest.fixture(params=PLACEMENTS, ids=["dedicated", "sharded"])
def placement(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_what_was_answered_is_there_after_reopening(tmp_path: Any, placement: Any) -> None:
    """A journal outlives its runtimes."""
    url = f"sqlite:///{tmp_path}/j.db"
    for expected in (5, 10, 15):
        async with Runtime.local(url, placement=placement) as runtime:
            assert await runtime.get(Account, "a").deposit(5) == expected


async def test_reading_goes_forward_backward_by_type_and_over_everything() -> None:
    """From an offset, within a limit, over page boundaries; waking nobody."""
    config = Config(host=HostLimits(page=3))
    async with Runtime.local(config=config, placement=Sharded(2)) as runtime:
        for n in range(1, 8):
            await runtime.get(Account, "a").deposit(n)
            await runtime.get(Account, "b").deposit(n)
        await runtime.get(Teller, "t").transfer("a", "b", 1)

        async def seen(*args: Any, **how: Any) -> list[int]:
            return [e.version if len(args) == 2 else e.position async for e in runtime.read(*args, **how)]

        hydrated = (await runtime.statistics()).hydrations
        assert await seen(Account, "a") == list(range(1, 9))
        assert await seen(Account, "a", after=5) == [6, 7, 8]
        assert await seen(Account, "a", after=2, limit=4) == [3, 4, 5, 6]
        assert await seen(Account, "a", backward=True) == list(range(8, 0, -1))
        assert await seen(Account, "a", backward=True, after=4) == [3, 2, 1]
        assert await seen(Account, "a", backward=True, limit=2) == [8, 7]
        assert await seen(Account, "nobody") == []
        assert await seen() == list(range(1, 18))
        assert await seen(after=15) == [16, 17]
        assert await seen(Teller) == [17]
        assert len(await seen(Account, limit=10)) == 10
        assert (await runtime.statistics()).hydrations == hydrated
        with pytest.raises(ValueError, match="give its id"):
            await seen(Account, backward=True)
        with pytest.raises(ValueError, match="an id needs its type"):
            await seen(None, "a")


async def test_state_at_is_a_copy_as_of_a_version() -> None:
    """Any version from 0 to the newest; commands on it go nowhere."""
    async with Runtime.local() as runtime:
        for n in range(1, 60):
            await runtime.get(Account, "a").deposit(n)
        assert (await runtime.state_at(Account, "a")).balance == sum(range(60))
        for version in (0, 1, 19, 20, 21, 45, 59):
            state = await runtime.state_at(Account, "a", version=version)
            assert (state.version, state.balance, state.id) == (version, sum(range(version + 1)), "a")
        for version in (-1, 60):
            with pytest.raises(ValueError, match="version"):
                await runtime.state_at(Account, "a", version=version)
        assert (await runtime.state_at(Account, "nobody")).version == 0


async def test_statistics_tell_what_is_live_and_what_was_done(placement: Any) -> None:
    """Counts of the journal and of each host."""
    async with Runtime.local(placement=placement) as runtime:
        await asyncio.gather(*(runtime.get(Account, f"a{n}").deposit(1) for n in range(10)))
        await runtime.get(Account, "a1").balance_now()
        seen = await runtime.statistics()
        assert (seen.live, seen.commands, seen.queries, seen.hydrations) == (10, 10, 1, 10)
        assert (seen.journal.events, seen.journal.streams) == (10, 10)
        assert len(seen.hosts) == (10 if isinstance(placement, Dedicated) else 2)


async def test_passivation_writes_a_snapshot_and_the_next_call_wakes_it(placement: Any) -> None:
    """False: it was not in memory."""
    async with Runtime.local(placement=placement) as runtime:
        account = runtime.get(Account, "a")
        assert not await runtime.passivate(Account, "a")
        await account.deposit(5)
        assert await runtime.passivate(Account, "a")
        assert not await runtime.passivate(Account, "a")
        seen = await runtime.statistics()
        assert (seen.live, seen.journal.snapshots) == (0, 1)
        assert await account.deposit(5) == 10
        assert (await runtime.statistics()).live == 1


async def test_idle_aggregates_are_passivated(placement: Any) -> None:
    """After `idle_s` without a call."""
    async with Runtime.local(placement=placement, config=Config(host=HostLimits(idle_s=0.05))) as runtime:
        await runtime.get(Account, "a").deposit(5)

        async def empty() -> bool:
            return (await runtime.statistics()).live == 0

        await eventually(empty)
        assert await runtime.get(Account, "a").deposit(5) == 10


@pytest.mark.parametrize("placement", [Dedicated(live_max=3), Sharded(2, live_max=6)], ids=["dedicated", "sharded"])
async def test_passivation_keeps_live_aggregates_within_the_bound(placement: Any) -> None:
    """Least recently used first, while callers go on; nobody's command is lost."""
    async with Runtime.local(placement=placement) as runtime:
        seen: list[int] = []

        async def use(id: str) -> int:
            reply: int = await runtime.get(Account, id).deposit(1)
            seen.append((await runtime.statistics()).live)
            return reply

        replies = await asyncio.gather(*(use(f"a{n % 12}") for n in range(120)))
        assert max(seen) <= placement.live_max
        assert sorted(replies) == sorted(n for n in range(1, 11) for _ in range(12))


async def test_idempotency_by_key_acts_once_and_answers_the_same(placement: Any, tmp_path: Any) -> None:
    """Again at once, after passivation, after reopening; and the key is not for something else."""
    url = f"sqlite:///{tmp_path}/j.db"
    for _ in range(2):
        async with Runtime.local(url, placement=placement) as runtime:
            account = runtime.get(Account, "a", idempotency_key="k")
            assert await asyncio.gather(*(account.deposit(5) for _ in range(3))) == [5, 5, 5]
            await runtime.passivate(Account, "a")
            assert await account.deposit(5) == 5
            with pytest.raises(KeyReused):
                await account.deposit(6)
            assert await runtime.get(Account, "a").balance_now() == 5


async def test_metadata_correlation_and_cause_are_carried_along() -> None:
    """From the caller's reference through nested commands, into the events."""
    async with Runtime.local() as runtime:
        await runtime.get(Account, "a").deposit(10)
        await runtime.get(Teller, "t", metadata={"user": "eve"}).transfer("a", "b", 3)
        _, *events = [e async for e in runtime.read()]
        assert [e.metadata for e in events] == [{"user": "eve"}] * 3
        outer = next(e for e in events if e.category == "Teller").context
        assert {e.context.correlation_id for e in events} == {outer.command_id}
        assert [e.context.causation_id for e in events if e.category == "Account"] == [outer.command_id] * 2
        assert outer.causation_id == ""


async def test_a_call_cycle_fails_at_once_and_names_the_chain(placement: Any) -> None:
    """A → B → A would wait for itself for ever."""
    async with Runtime.local(placement=placement) as runtime:
        with pytest.raises(CallCycle, match="Teller/a → Teller/b → Teller/a"):
            await runtime.get(Teller, "a").ask("b", "a")
        assert await runtime.get(Teller, "a").ask("b", "c") == 0


async def test_a_reference_may_be_an_argument(placement: Any) -> None:
    """It works in the command that got it."""
    async with Runtime.local(placement=placement) as runtime:
        assert await runtime.get(Teller, "t").use(runtime.get(Account, "a"), 5) == 5


async def test_errors_arrive_as_themselves_and_hurt_nobody_else(placement: Any) -> None:
    """Of commands, queries, handlers and codecs: the next call on the same aggregate is answered."""
    async with Runtime.local(placement=placement) as runtime:
        account = runtime.get(Account, "a")
        await account.deposit(5)
        with pytest.raises(Insufficient) as refused:
            await account.deposit(-50)
        assert (refused.value.wanted, refused.value.has) == (50, 5)
        for call in (lambda: account.fail("x"), lambda: account.fail("x", emit=True), account.boom):
            with pytest.raises(Odd) as raised:
                await call()
            assert raised.value.code in (7, 8)
        for call in (account.answer_badly, account.lock):
            with pytest.raises(NotSerializable):
                await call()
        with pytest.raises(RuntimeError, match="always fails"):
            await account.poison()
        with pytest.raises((HoldfastError, SystemExit)):
            await account.leave()
        assert await asyncio.gather(account.deposit(1), runtime.get(Account, "b").deposit(1)) == [6, 1]
        assert await account.version_now() == 2


async def test_a_query_gets_a_copy_of_the_state_and_a_command_one_of_its_arguments() -> None:
    """As if they were in other processes."""

    class Listing(Aggregate):
        @command
        def swallow(self, items: list[int]) -> int:
            items.clear()
            return 0

    async with Runtime.local() as runtime:
        items = [1, 2]
        await runtime.get(Listing, "a").swallow(items)
        assert items == [1, 2]


async def test_a_stream_that_cannot_be_hydrated_fails_alone() -> None:
    """Its callers hear which event it is; others go on."""
    from holdfast.journal.client import JournalClient
    from holdfast.journal.records import Append, NewEvent, StreamId
    from holdfast.runtime.resident import JournalWay

    async with Runtime.local(placement=Sharded(1)) as runtime:
        journal = JournalClient(JournalWay(runtime._cluster))
        epoch = await journal.claim("x", "y")
        event = NewEvent(type="hf_bank.poisoned", payload=b"\x80", command_id="c", recorded_at=1, reply=b"\xc0")
        stream = StreamId("Account", "a")
        await journal.append(Append(stream=stream, owner="x", epoch=epoch, expected_version=0, events=(event,)))
        with pytest.raises(HydrationFailed, match="Account/a version 1"):
            await runtime.get(Account, "a").deposit(1)
        assert await runtime.get(Account, "b").deposit(1) == 1


async def test_a_deadline_passes_and_the_command_is_known_by_its_key(tmp_path: Any) -> None:
    """Unknown outcome: sent again with the same key it acts once."""
    async with Runtime.local() as runtime:
        door = tmp_path / "door"
        blocker = asyncio.create_task(runtime.get(Account, "a").wait_for(str(door)))
        await eventually(lambda: runtime._dispatcher._links)
        with pytest.raises(DeadlineExceeded) as caught:
            await runtime.get(Account, "a", timeout_s=0.05, idempotency_key="k").deposit(1)
        assert caught.value.outcome == "unknown"
        door.touch()
        await blocker
        assert await runtime.get(Account, "a", idempotency_key="k").deposit(1) == 2
        assert await runtime.get(Account, "a").version_now() == 2


async def test_a_full_line_is_overloaded_and_says_where() -> None:
    """Bounded, named, retryable."""
    async with Runtime.local(config=Config(waiting_max=10)) as runtime:
        account = runtime.get(Account, "a")
        results = await asyncio.gather(*(account.deposit(1) for _ in range(30)), return_exceptions=True)
        full = [r for r in results if isinstance(r, Overloaded)]
        assert len(full) == 20
        assert full[0].retryable
        assert "Account/a" in str(full[0])


async def test_closing_answers_whoever_waits(tmp_path: Any) -> None:
    """Twice is harmless; afterwards every call says that it is closed."""
    runtime = await Runtime.local()
    account = runtime.get(Account, "a")
    waiting = asyncio.create_task(account.wait_for(str(tmp_path / "never")))
    await eventually(lambda: runtime._dispatcher._links)
    await asyncio.sleep(0)
    closing = asyncio.create_task(runtime.close())
    with pytest.raises(RuntimeClosed):
        await waiting
    closing.cancel()
    await runtime.close()
    with pytest.raises(RuntimeClosed):
        await account.deposit(1)
    assert "closed" in repr(runtime)


async def test_a_closed_runtime_leaves_no_task_behind() -> None:
    """No sweeper, no link, no session goes on in the user's loop."""
    before = asyncio.all_tasks()
    for placement in PLACEMENTS:
        async with Runtime.local(placement=placement) as runtime:
            await asyncio.gather(*(runtime.get(Account, f"a{n}").deposit(1) for n in range(5)))
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_closing_leaves_a_snapshot_of_what_was_live(tmp_path: Any) -> None:
    """So the next opening hydrates from it."""
    url = f"sqlite:///{tmp_path}/j.db"
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        await asyncio.gather(*(runtime.get(Account, f"a{n}").deposit(1) for n in range(5)))
    async with Runtime.local(url, placement=Sharded(2)) as runtime:
        assert (await runtime.statistics()).journal.snapshots == 5


async def test_opening_what_is_no_journal_fails_with_its_own_error(tmp_path: Any) -> None:
    """And a second writer is told who the first is."""
    (tmp_path / "text").write_text("no journal" * 100)
    with pytest.raises(NotAJournal):
        await Runtime.local(f"sqlite:///{tmp_path}/text")
    with pytest.raises(JournalUrlError):
        Runtime.local("mysql://x")
    url = f"sqlite:///{tmp_path}/j.db?lock_wait_s=0"
    async with Runtime.local(url):
        with pytest.raises(JournalLocked, match="pid"):
            await Runtime.local(url)


async def test_a_placement_is_a_placement() -> None:
    """Told when the runtime opens, not at the first call."""
    with pytest.raises(TypeError, match="a placement is"):
        await Runtime.local(placement="dedicated")  # type: ignore[arg-type]


async def test_killed_hosts_lose_and_double_nothing_also_without_ray() -> None:
    """The same code as on Ray: random kills under load, hundreds of them in a second."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    told: dict[tuple[str, str], int] = {}
    async with Runtime.local(placement=Sharded(3)) as runtime:
        stopped = False

        async def call(n: int) -> None:
            number = 0
            while not stopped:
                number += 1
                note = f"{n}.{number}"
                told[f"a{n % 10}", note] = await runtime.get(Account, f"a{n % 10}").add(note)

        callers = [asyncio.create_task(call(n)) for n in range(30)]
        cluster: Any = runtime._cluster
        for _ in range(100):
            before = len(told)
            await eventually(lambda before=before: len(told) > before + rng.randrange(30))
            if cluster._hosts:
                await cluster.kill(rng.choice(list(cluster._hosts.values())))
        stopped = True
        await asyncio.wait_for(asyncio.gather(*callers), 20)
        events = [e async for e in runtime.read()]
        assert [e.position for e in events] == list(range(1, len(events) + 1))
        assert {(e.id, e.event["note"]): e.version for e in events} == told
        assert len(events) == len(told)


async def test_a_command_that_the_code_does_not_have_is_unknown() -> None:
    """Told at the reference."""
    async with Runtime.local() as runtime:
        with pytest.raises(UnknownCommand):
            _ = runtime.get(Account, "a").nothing  # type: ignore[attr-defined]
