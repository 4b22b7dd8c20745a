"""Stays on a Ray: who starts it, who ends it, and that nobody leaves one behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hf_bank import Account, Teller

from holdfast.journal.errors import JournalLocked, PlacementConflict
from holdfast.runtime import Config, Runtime, RuntimeClosed, Sharded
from holdfast.runtime import _ray as seam
from holdfast.runtime._ray import Stay
from holdfast.runtime.dispatcher import Dispatcher
from holdfast.runtime.local import LocalCluster
from holdfast.runtime.placement import Placements
from holdfast.runtime.ref import Gate, target
from holdfast.runtime.runtime import _opened


class Ours:
    """A Ray that is none."""

    def __init__(self) -> None:
        self.ended = 0

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Ours:
    """What the first stay starts."""
    ours = Ours()
    monkeypatch.setattr(Stay, "_guests", 0)
    monkeypatch.setattr(Stay, "_ours", None)
    monkeypatch.setattr(seam, "_join_or_start", lambda address: ours)
    monkeypatch.setattr(seam.ray, "is_initialized", lambda: Stay._guests > 0)
    return ours


async def test_of_two_that_leave_at_once_one_sees_to_the_end(ours: Ours) -> None:
    """Everything leaves memory with its snapshot, before Ray ends, and not after."""
    stays, retired = [Stay(None), Stay(None)], list[int]()

    async def retire() -> None:
        await asyncio.sleep(0)
        retired.append(ours.ended)

    await asyncio.gather(*(stay.leave(retire) for stay in stays))
    assert (retired, ours.ended) == ([0], 1)


async def test_one_that_comes_while_the_last_one_leaves_keeps_what_there_is(ours: Ours) -> None:
    """It has joined; the Ray ends with it."""
    late: list[Stay] = []

    async def retire() -> None:
        late.append(Stay(None))

    await Stay(None).leave(retire)
    assert ours.ended == 0
    await late[0].leave()
    assert ours.ended == 1


async def test_who_stops_waiting_while_it_joins_leaves_nothing_behind(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that starts Ray cannot be stopped: what it brings is given up."""
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def start(address: str | None) -> Any:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return ours

    monkeypatch.setattr(seam, "_join_or_start", start)
    opening = asyncio.ensure_future(Runtime.open("memory://").__aenter__())
    await begun.wait()
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (Stay._guests, ours.ended) == (0, 1)


@pytest.mark.parametrize("placement", ["Sharded", Sharded, {int: Sharded(1)}])
def test_a_wrong_placement_is_refused_before_anything_starts(ours: Ours, placement: Any) -> None:
    """By `open` itself."""
    with pytest.raises(TypeError):
        Runtime.open("memory://", placement=placement)
    assert Stay._guests == 0


@pytest.mark.parametrize("started", [True, False], ids=["its own", "one of others"])
async def test_a_journal_that_does_not_open_is_ended_by_who_started_it(started: bool) -> None:
    """One that others use may only be waiting for the lock that its last life still has: they need it."""
    ended: list[str] = []

    class Locked(LocalCluster):
        def __init__(self, spec: Any) -> None:
            super().__init__(spec)
            self.started_journals = frozenset({0}) if started else frozenset()

        async def journal(self, partition: int = 0) -> Any:
            peer = await super().journal(partition)
            ask = peer.ask

            async def locked(method: str, *args: Any) -> Any:
                if method == "ping":
                    raise JournalLocked("bank.db", "somebody")
                return await ask(method, *args)

            peer.ask = locked  # type: ignore[method-assign]
            return peer

        async def kill(self, peer: Any, *, for_good: bool = False) -> None:
            ended.append(peer.name)
            await super().kill(peer, for_good=for_good)

    config = Config(journal_patience_s=0.2)
    with pytest.raises(JournalLocked):
        await _opened("memory://", "default", Placements(Sharded(1), {}), None, config, Locked, None)
    assert ended == (["journal"] if started else [])


class Leaving:
    """Counts those who have left the cluster."""

    def __init__(self) -> None:
        self.left = 0

    async def __call__(self, before_the_end: Callable[[], Any] | None) -> None:
        self.left += 1


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "is cancelled"])
async def test_a_close_that_does_not_succeed_leaves_the_cluster_all_the_same(fails: bool) -> None:
    """Ray, if it was started for this runtime, would stay behind: closing twice does nothing."""
    reached, leaving, closed = asyncio.Event(), Leaving(), list[Any]()

    class Slow(LocalCluster):
        async def end_spares(self) -> None:
            reached.set()
            if fails:
                raise OSError("no way to them")
            await asyncio.Event().wait()

        async def close(self) -> None:
            closed.append(self)
            await super().close()

    runtime = await _opened("memory://", "default", Placements(Sharded(1), {}), None, None, Slow, leaving)
    closing = asyncio.create_task(runtime.close())
    await reached.wait()
    closing.cancel()
    with pytest.raises(OSError if fails else asyncio.CancelledError):
        await closing
    assert (leaving.left, len(closed)) == (1, 1)


async def test_a_runtime_that_does_not_open_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gate that references which came by pickle would use, no dispatcher that takes calls."""
    url, leaving, dispatchers = f"sqlite:///{tmp_path}/j.db", Leaving(), list[Dispatcher]()
    async with Runtime.local(url, placement={Account: Sharded(2)}):
        pass

    class Seen(Dispatcher):
        def __init__(self, *args: Any, **how: Any) -> None:
            super().__init__(*args, **how)
            dispatchers.append(self)

    monkeypatch.setattr("holdfast.runtime.runtime.Dispatcher", Seen)
    other = {Account: Sharded(3)}
    with pytest.raises(PlacementConflict):
        await _opened(url, "never", Placements(Sharded(1), {"Account": Sharded(3)}), other, None, LocalCluster, leaving)
    assert leaving.left == 1
    with pytest.raises(RuntimeClosed):
        Gate.here("never", None)
    (dispatcher,) = dispatchers
    with pytest.raises(RuntimeClosed):
        dispatcher.line(target(Teller, "t"))
