"""Stays on a Ray: who starts it, who ends it, and that nobody leaves one behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hf_bank import Account, Teller

from holdfast.journal.errors import JournalLocked, PlacementConflict
from holdfast.runtime import Config, NamespaceConflict, Runtime, RuntimeClosed, Sharded
from holdfast.runtime import _ray as seam
from holdfast.runtime._ray import Stay
from holdfast.runtime.cluster import JournalSpec, PeerGone
from holdfast.runtime.dispatcher import Dispatcher
from holdfast.runtime.local import LocalCluster, LocalPeer
from holdfast.runtime.placement import Placements
from holdfast.runtime.ref import Gate, target
from holdfast.runtime.resident import JournalResident
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


class Shared(LocalCluster):
    """A cluster on which others may serve partitions of their own: those of `others`, as they describe themselves."""

    def __init__(self, spec: JournalSpec, others: dict[int, LocalPeer]) -> None:
        super().__init__(spec)
        self.others, self.started_journals = others, frozenset()
        self.started: list[str] = []
        self.ended: list[str] = []

    async def journals(self) -> list[LocalPeer]:
        return [*self.others.values(), *await super().journals()]

    async def journal(self, partition: int = 0) -> LocalPeer:
        peer = self.others.get(partition) or self._journals.get(partition)
        if peer is None:
            peer = await super().journal(partition)
            self.started.append(peer.name)
            self.started_journals |= {partition}
        return peer

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        self.ended.append(peer.name)
        await super().kill(peer, for_good=for_good)


OF_TWO = JournalSpec(namespace="default", url="sqlite:////data/other.db?partitions=2", volatile=False, partitions=2)


@pytest.mark.parametrize("other", [0, 1, 5])
async def test_a_namespace_of_another_journal_is_refused_before_anything_starts(other: int) -> None:
    """Whichever partition is found to be served, one that this journal does not have included: none of this journal's
    is started beside it."""
    clusters: list[Shared] = []

    def join(spec: JournalSpec) -> Shared:
        clusters.append(Shared(spec, {other: LocalPeer(f"journal:{other}", JournalResident(OF_TWO, other))}))
        return clusters[0]

    with pytest.raises(NamespaceConflict, match=r"other\.db"):
        await _opened("memory://?partitions=3", "default", Placements(Sharded(1), {}), None, None, join, None)
    assert (clusters[0].started, clusters[0].ended) == ([], [])


async def test_a_journal_that_is_just_starting_again_is_waited_for_before_others_start() -> None:
    """It may be another one."""
    clusters: list[Shared] = []

    class Restarting(LocalPeer):
        asked = 0

        async def ask(self, method: str, *args: Any) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise PeerGone(self.name, "it is starting again")
            return await super().ask(method, *args)

    def join(spec: JournalSpec) -> Shared:
        clusters.append(Shared(spec, {1: Restarting("journal:1", JournalResident(OF_TWO, 1))}))
        return clusters[0]

    with pytest.raises(NamespaceConflict, match=r"other\.db"):
        await _opened("memory://?partitions=3", "default", Placements(Sharded(1), {}), None, None, join, None)
    assert clusters[0].started == []


async def test_a_partition_that_turns_out_late_to_be_another_journal_s_ends_what_was_started() -> None:
    """Somebody opened it at the same time, so nobody had seen it; what this runtime started serves nobody."""
    clusters: list[Shared] = []

    class Late(Shared):
        async def journals(self) -> list[LocalPeer]:
            return []

    def join(spec: JournalSpec) -> Shared:
        clusters.append(Late(spec, {1: LocalPeer("journal:1", JournalResident(OF_TWO, 1))}))
        return clusters[0]

    with pytest.raises(NamespaceConflict, match=r"other\.db"):
        await _opened("memory://?partitions=2", "default", Placements(Sharded(1), {}), None, None, join, None)
    assert (clusters[0].started, clusters[0].ended) == (["journal"], ["journal"])


async def test_a_journal_that_cannot_be_stopped_keeps_no_other_from_it(tmp_path: Path) -> None:
    """Ray ends right after: what is stopped by then has left its file as it should."""
    stopped: set[int] = set()

    class Stopping(LocalCluster):
        async def journal(self, partition: int = 0) -> Any:
            peer = await super().journal(partition)
            ask = peer.ask

            async def asked(method: str, *args: Any) -> Any:
                if method == "stop" and partition == 0:
                    raise PeerGone(peer.name, "killed")
                answer = await ask(method, *args)
                if method == "stop":
                    stopped.add(partition)
                return answer

            peer.ask = asked  # type: ignore[method-assign]
            return peer

    async def leave(before_the_end: Callable[[], Any] | None) -> None:
        assert before_the_end is not None
        await before_the_end()
        assert stopped == {1}

    url = f"sqlite:///{tmp_path}/j.db?partitions=2"
    runtime = await _opened(url, "default", Placements(Sharded(1), {}), None, None, Stopping, leave)
    await runtime.close()
    assert stopped == {1}
