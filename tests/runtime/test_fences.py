"""Two owners: a host that was paused while its successor took over, and stale writers at the journal actor."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hf_bank import Account
from hf_support import Judge, eventually, is_running

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import Fenced, VersionConflict
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.runtime import Config, Sharded
from holdfast.runtime.resident import JournalWay

pytestmark = pytest.mark.ray

FAST = Config(suspect_s=0.3, paused_s=0.3)


def journal_of(runtime: Any) -> JournalClient:
    return JournalClient(JournalWay(runtime._cluster))


def deposit(stream: StreamId, owner: str, epoch: int, version: int, notes: list[str]) -> Append:
    from holdfast.journal.codec import encode_plain

    events = tuple(
        NewEvent(
            type="hf_bank.deposited",
            payload=encode_plain({"amount": 1, "note": note}),
            command_id=note,
            recorded_at=1,
            reply=encode_plain({}) if note == notes[-1] else None,
        )
        for note in notes
    )
    return Append(stream=stream, owner=owner, epoch=epoch, expected_version=version, events=events)


async def test_a_paused_host_is_fenced_and_its_callers_are_answered_by_the_successor(
    world: Any, kill: Callable[..., None]
) -> None:
    """SIGSTOP under load, a successor takes over, SIGCONT: everything happened once."""
    judge = Judge()
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        ids = [f"a{n}" for n in range(5)]

        async def send(n: int) -> None:
            id, note = ids[n % 5], str(n)
            judge.told[id, note] = (await runtime.get(Account, id).add(note),)

        await asyncio.gather(*map(send, range(50)))
        paused = (await world.host_pids(runtime, Account, ids))[0]
        calls = [asyncio.create_task(send(n)) for n in range(50, 150)]
        await asyncio.sleep(0)
        kill(paused, signal.SIGSTOP)
        calls += [asyncio.create_task(send(n)) for n in range(150, 250)]
        await asyncio.wait_for(asyncio.gather(*calls), 60)
        kill(paused, signal.SIGCONT)
        await asyncio.gather(*map(send, range(250, 300)))
        assert await world.host_pids(runtime, Account, ids) != [paused]
        await eventually(lambda: not is_running(paused))
    assert judge.check(world.path) == 300


async def test_a_stale_host_is_fenced_by_a_newer_claim_and_ends(world: Any) -> None:
    """Another incarnation claims the name behind its back: its append is refused, its callers are served anew."""
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        account = runtime.get(Account, "a")
        assert await account.add("first") == 1
        stale = await account.pid()
        journal = journal_of(runtime)
        epoch = await journal.claim("Account#0", "a newer incarnation")
        assert await asyncio.wait_for(account.add("second"), 30) == 2
        assert await account.pid() != stale
        await eventually(lambda: not is_running(stale))
        statistics = await runtime.statistics()
        assert statistics.journal.fenced >= 1
        assert [host.epoch for host in statistics.hosts] == [epoch + 1]


async def test_a_resumed_host_cannot_write_after_its_name_was_claimed(world: Any, kill: Callable[..., None]) -> None:
    """Paused with a command inside, resumed after the claim: the command is done once, by the successor."""
    slow = Config(suspect_s=60, paused_s=60)  # nobody takes the host for dead: it is the journal that refuses it
    async with world.open(placement=Sharded(1), config=slow) as runtime:
        account = runtime.get(Account, "a")
        assert await account.add("first") == 1
        pid = await account.pid()
        kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(account.add("second"))
        epoch = await journal_of(runtime).claim("Account#0", "a newer incarnation")
        kill(pid, signal.SIGCONT)
        assert await asyncio.wait_for(call, 30) == 2
        await eventually(lambda: not is_running(pid))
        notes = [e.event.note async for e in runtime.read(Account, "a")]
        assert notes == ["first", "second"]
        assert [host.epoch for host in (await runtime.statistics()).hosts] == [epoch + 1]


async def test_of_conflicting_writers_exactly_one_wins_at_the_fence_of_versions(world: Any) -> None:
    """The essay's case: two append events 2 and 3 each to version 1, a third appends 4."""
    async with world.open(placement=Sharded(1)) as runtime:
        journal, stream = journal_of(runtime), StreamId("Account", "essay")
        owner = "a writer of its own"
        epoch = await journal.claim(owner, "one")
        await journal.append(deposit(stream, owner, epoch, 0, ["1"]))
        writers = [deposit(stream, owner, epoch, 1, [f"{name}2", f"{name}3"]) for name in "ab"]
        results = await asyncio.gather(*map(journal.append, writers), return_exceptions=True)
        assert sorted(isinstance(result, VersionConflict) for result in results) == [False, True]
        await journal.append(deposit(stream, owner, epoch, 3, ["4"]))
        with pytest.raises(VersionConflict):
            await journal.append(deposit(stream, owner, epoch, 3, ["another 4"]))
        notes = [e.event.note async for e in runtime.read(Account, "essay")]
        winner = "a" if not isinstance(results[0], Exception) else "b"
        assert notes == ["1", f"{winner}2", f"{winner}3", "4"]
        await journal.claim(owner, "two")
        with pytest.raises(Fenced):
            await journal.append(deposit(stream, owner, epoch, 4, ["5"]))


async def test_a_paused_journal_is_replaced_and_loses_nothing(world: Any, kill: Callable[..., None]) -> None:
    """Nobody waits for a process that does not turn; its file's lock goes with it."""
    async with world.open(placement=Sharded(1), config=FAST) as runtime:
        account = runtime.get(Account, "a", timeout_s=60)
        assert await account.add("first") == 1
        kill(world.journal_pid(), signal.SIGSTOP)
        assert await account.add("second") == 2
        assert [e.event.note async for e in runtime.read(Account, "a")] == ["first", "second"]
