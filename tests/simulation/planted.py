"""Production code broken on purpose, one defect at a time: the simulation is worth something if it notices each.

Every defect is one that somebody could write, at the place where it would be written. `within`: among so many seeds it
must be found, those from `first` on: near the one that found it last, so that nobody waits for those before.
"""

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from holdfast.actors.calls import Kind
from holdfast.actors.cell import Cell, Phase
from holdfast.actors.errors import Overloaded
from holdfast.actors.gate import OutputGate
from holdfast.actors.host import Host
from holdfast.actors.session import Session
from holdfast.actors.snapshots import SnapshotWriter
from holdfast.journal.client import JournalClient
from holdfast.journal.errors import JournalFailed, JournalUnavailable, VersionConflict
from holdfast.journal.memory import MemoryStore
from holdfast.journal.partitioned import PartitionedJournal
from holdfast.journal.records import Append, Appended, Loaded
from holdfast.journal.server import JournalServer
from holdfast.runtime import dispatcher as dispatcher_module
from holdfast.runtime.link import Link
from holdfast.runtime.pending import Pending

__all__ = ["DEFECTS", "Defect", "planted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """What is wrong, in which attributes of what, and how soon it must be found: among how many seeds, from which one
    on, with which faults (none: those that each seed chooses). `partitions`: of the journal. `parts`: of the read side
    that the runs have. `broken` makes the attributes from the right ones."""

    name: str
    places: tuple[tuple[Any, str], ...]
    broken: Callable[..., Any]
    within: int
    first: int
    focus: tuple[str, ...]
    partitions: int
    parts: tuple[str, ...]


@contextmanager
def planted(defect: Defect) -> Iterator[None]:
    """Have the defect for a while."""
    rights = [inspect.getattr_static(where, attribute) for where, attribute in defect.places]
    broken = defect.broken(*rights)
    for (where, attribute), wrong in zip(defect.places, broken if len(rights) > 1 else [broken], strict=True):
        setattr(where, attribute, wrong)
    try:
        yield
    finally:
        for (where, attribute), right in zip(defect.places, rights, strict=True):
            setattr(where, attribute, right)


DEFECTS: list[Defect] = []


def defect(
    *places: Any,
    within: int = 100,
    first: int = 0,
    focus: tuple[str, ...] = (),
    partitions: int = 1,
    parts: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add one: its name is that of the function which breaks it. `places`: owner, attribute, owner, attribute …"""

    def add(broken: Callable[..., Any]) -> Callable[..., Any]:
        pairs = tuple(zip(places[::2], places[1::2], strict=True))
        DEFECTS.append(
            Defect(
                name=broken.__name__,
                places=pairs,
                broken=broken,
                within=within,
                first=first,
                focus=focus,
                partitions=partitions,
                parts=parts,
            )
        )
        return broken

    return add


# -- the store ---------------------------------------------------------------------------------------------------


@defect(MemoryStore, "_check_epoch")
def the_fence_is_skipped(right: Any) -> Any:
    """A stale owner may write."""
    return lambda self, owner, epoch: None


@defect(MemoryStore, "claim")
def two_incarnations_get_one_epoch(right: Any) -> Any:
    """The second claim of a name gets the epoch of the first."""

    async def claim(self: Any, owner: str, incarnation: str, epoch: int = 0) -> int:
        self._claims.setdefault(owner, {1: incarnation})
        return 1

    return claim


@defect(MemoryStore, "claim")
def a_claim_that_comes_again_fences_its_own_host(right: Any) -> Any:
    """The epoch is counted up for every request, not for every incarnation."""

    async def claim(self: Any, owner: str, incarnation: str, epoch: int = 0) -> int:
        claims = self._claims.setdefault(owner, {})
        claims[len(claims) + 1] = incarnation
        return len(claims)

    return claim


@defect(MemoryStore, "claim", partitions=2, within=300, focus=("host replaced", "message slow"), first=30)
def a_late_claim_takes_a_partition_back(right: Any) -> Any:
    """The epoch that a claim brings is the current one, whatever was there before."""

    async def claim(self: Any, owner: str, incarnation: str, epoch: int = 0) -> int:
        if not epoch:
            return int(await right(self, owner, incarnation))
        claims = self._claims.setdefault(owner, {})
        claims.pop(epoch, None)
        claims[epoch] = incarnation
        return epoch

    return claim


@defect(PartitionedJournal, "claim", partitions=2, first=20)
def every_partition_draws_epochs_of_its_own(right: Any) -> Any:
    """As long as nothing goes wrong they are equal."""

    async def claim(self: Any, owner: str, incarnation: str) -> int:
        return max(await asyncio.gather(*(part.claim(owner, incarnation) for part in self.parts)))

    return claim


@defect(MemoryStore, "_append", within=200, first=70)
def the_version_check_is_skipped(right: Any) -> Any:
    """Whatever version the append was decided on, it is written."""

    def append(self: Any, append: Append) -> Any:
        result = right(self, append)
        if isinstance(result, VersionConflict):
            return self._write(self._streams[append.stream], append, ())
        return result

    return append


@defect(MemoryStore, "_written_before", within=200, focus=("journal stopped",), first=120)
def an_append_is_recognised_by_its_version_alone(right: Any) -> Any:
    """Whatever stands at those versions is taken for what was sent."""

    def written_before(self: Any, stream: Any, append: Append) -> Any:
        last = append.expected_version + len(append.events)
        if append.events and last <= stream.version:
            return Appended(version=last, position=stream.events[last - 1].position)
        return right(self, stream, append)

    return written_before


@defect(MemoryStore, "_append", within=200)
def an_append_sent_again_is_written_again(right: Any) -> Any:
    """A second copy is not recognised, and the version is not looked at either."""

    def append(self: Any, append: Append) -> Any:
        stream = self._streams.get(append.stream)
        if stream is not None and self._written_before(stream, append) and append.events:
            return self._write(stream, append, ())
        return right(self, append)

    return append


@defect(MemoryStore, "find_keyed", first=10)
def keys_are_forgotten_when_others_follow(right: Any) -> Any:
    """Only the newest keyed reply of a stream is found again."""

    async def find_keyed(self: Any, stream: Any, keys: Sequence[str]) -> Any:
        known = self._streams[stream].keys if stream in self._streams else {}
        return {key: reply for key, reply in (await right(self, stream, keys)).items() if key == next(reversed(known))}

    return find_keyed


# -- the journal's server and client -----------------------------------------------------------------------------


@defect(JournalServer, "_commit")
def the_journal_acknowledges_before_the_commit(right: Any) -> Any:
    """It answers what the commit will say if all goes well, and commits later."""

    async def commit(self: Any, requests: list[list[Append]]) -> Any:
        self.later = asyncio.get_running_loop().create_task(right(self, requests))
        self.later.add_done_callback(lambda task: task.cancelled() or task.exception())
        return [
            [Appended(version=each.expected_version + len(each.events), position=0) for each in request]
            for request in requests
        ]

    return commit


@defect(JournalClient, "_send_appends", first=30)
def an_append_without_an_answer_counts_as_done(right: Any) -> Any:
    """The journal did not answer in time, so it will have been busy writing."""

    async def send_appends(self: Any, batch: list[Append]) -> Any:
        try:
            return await right(self, batch)
        except JournalUnavailable:
            return [Appended(version=each.expected_version + len(each.events), position=0) for each in batch]

    return send_appends


@defect(JournalClient, "_send_appends", within=300)
def an_append_without_an_answer_counts_as_not_done(right: Any) -> Any:
    """The journal did not answer in time, so nothing was written."""

    async def send_appends(self: Any, batch: list[Append]) -> Any:
        try:
            return await right(self, batch)
        except JournalUnavailable as error:
            raise JournalFailed(str(error)) from None

    return send_appends


@defect(JournalClient, "_send_loads", within=200)
def the_tail_is_lost_at_hydration(right: Any) -> Any:
    """What is newer than the snapshot is left out."""

    async def send_loads(self: Any, batch: Any) -> Any:
        return [
            Loaded(snapshot=each.snapshot, events=(), head=each.snapshot.version)
            if isinstance(each, Loaded) and each.snapshot is not None
            else each
            for each in await right(self, batch)
        ]

    return send_loads


# -- the gate and the cell ---------------------------------------------------------------------------------------


@defect(OutputGate, "hold", within=20)
def replies_go_out_before_they_are_durable(right: Any) -> Any:
    """A command is answered when it has run."""
    return lambda self, call, kind, value: (
        call.resolve(call, kind, value) if kind is Kind.DONE else right(self, call, kind, value)
    )


@defect(OutputGate, "hold")
def queries_show_what_is_not_durable(right: Any) -> Any:
    """A query is answered when it has run."""
    return lambda self, call, kind, value: (
        call.resolve(call, kind, value) if kind is Kind.ANSWER else right(self, call, kind, value)
    )


@defect(Cell, "_is_new")
def command_ids_are_not_looked_up(right: Any) -> Any:
    """A command that comes again runs again."""
    return lambda self, call, command: True


@defect(Cell, "_keyed_reply", within=200)
def keyed_replies_are_not_stored(right: Any) -> Any:
    """A key is good for nothing once its command is done."""
    return lambda self, call, reply: None


@defect(Cell, "_drop")
def state_is_kept_when_its_append_has_failed(right: Any) -> Any:
    """Those who wait hear of the failure, and what they did stays in memory."""

    def drop(self: Any, error: BaseException) -> None:
        for call, _ in self.gate.drop():
            call.resolve(call, Kind.AGAIN, True)

    return drop


@defect(Cell, "_failed")
def what_a_failed_command_emitted_stays_in_memory(right: Any) -> Any:
    """A command raised after it had emitted, and nobody reads the journal again."""

    def failed(self: Any, call: Any, unit: Any, error: BaseException) -> None:
        unit.emitted.clear()
        right(self, call, unit, error)

    return failed


@defect(Cell, "_confirm", within=300, focus=("host replaced",), first=150)
def linearizable_queries_do_not_ask(right: Any) -> Any:
    """Whoever has the state is taken for its owner."""

    async def confirm(self: Any, call: Any) -> None:
        return None

    return confirm


@defect(Cell, "_look_up", within=150, focus=("disk slow", "host killed"), first=100)
def a_look_up_that_knows_more_than_memory_is_believed(right: Any) -> Any:
    """The journal tells of a command that was written after the state in memory was read; that state is kept."""

    async def look_up(self: Any) -> None:
        version, self.version = self.version, 1 << 60
        try:
            await right(self)
        finally:
            self.version = version

    return look_up


@defect(Host, "refuse_overload", within=200)
def a_full_host_says_that_nothing_was_done(right: Any) -> Any:
    """It has no room to find out whether something was."""

    def refuse_overload(self: Any, call: Any, what: str, limit: int) -> None:
        call.resolve(call, Kind.ERROR, self.pack(Overloaded(what, limit)))

    return refuse_overload


@defect(Host, "was_fenced")
def a_fenced_host_stays(right: Any) -> Any:
    """It goes on as if it had not been told."""
    return lambda self, error: None


@defect(Cell, "_send_snapshot", within=300, first=80)
def snapshots_are_taken_of_what_is_not_durable(right: Any) -> Any:
    """A snapshot is sent as soon as it was taken."""

    def send_snapshot(self: Any) -> None:
        if self.phase is Phase.LIVE and self.version > self._snapshot_version:
            self._snapshot_version = self.version
            snapshot = self.host.snapshots.take(self.host.definition, self.stream, self.instance, self.version)
            if snapshot is not None:
                self.host.snapshots.put(snapshot)

    return send_snapshot


@defect(SnapshotWriter, "take", within=50)
def snapshots_say_a_later_version(right: Any) -> Any:
    """A snapshot is one event older than it says."""

    def taken(self: Any, definition: Any, stream: Any, instance: Any, version: int) -> Any:
        return right(self, definition, stream, instance, version + 1)

    return taken


# -- sessions and links ------------------------------------------------------------------------------------------


@defect(Session, "turn", within=200, focus=("message slow",), first=110)
def batches_are_taken_in_any_order(right: Any) -> Any:
    """A batch that overtook another is taken at once."""

    async def turn(self: Any, number: int) -> bool:
        seen: set[int] = self.__dict__.setdefault("seen", set())
        if number in seen:
            return False
        seen.add(number)
        return not self._closed

    return turn


@defect(Session, "turn", Session, "has_taken")
def a_batch_that_comes_twice_is_taken_twice(turn: Any, has_taken: Any) -> Any:
    """Only those that come too early are told from those whose turn it is."""

    async def any_turn(self: Any, number: int) -> bool:
        return await turn(self, number) or (number < self._next and not self._closed)

    return any_turn, lambda self, number: False


@defect(Session, "has_taken", within=200, focus=("host retired", "request doubled"))
def a_second_copy_is_sent_on_by_a_host_that_leaves(right: Any) -> Any:
    """It says of a batch that it is carrying out that it never was here."""
    return lambda self, number: False


@defect(Pending, "again")
def what_is_sent_again_is_not_marked(right: Any) -> Any:
    """A call that may have been executed goes to the next host as if it were new."""

    def again(self: Any, *, maybe_executed: bool, trouble: str) -> None:
        self.sent, self.trouble = True, trouble

    return again


@defect(Link, "_requeue_after", first=20)
def calls_that_should_come_again_do_not(right: Any) -> Any:
    """A host asked for a call once more, and nobody sends it."""

    async def requeue_after(self: Any, pause_s: float, calls: Any) -> None:
        return None

    return requeue_after


@defect(Link, "_take", within=300)
def a_call_without_an_answer_is_called_done(right: Any) -> Any:
    """A command that may have been executed is reported as done, with the reply that it would have had."""

    def told(number: int, kind: int, value: Any) -> Any:
        return (number, Kind.DONE, b"\x92\x01\x01") if kind == Kind.AGAIN and value else (number, kind, value)

    return lambda self, session, answers: right(self, session, [told(*answer) for answer in answers])


@defect(dispatcher_module, "derived_id", within=150, focus=("host killed", "journal dies at commit"), first=80)
def what_a_command_sends_gets_new_ids_each_time(right: Any) -> Any:
    """A command that runs again sends its commands again."""
    numbers = itertools.count()
    return lambda *args: f"new {next(numbers)}"
