"""The read side broken on purpose, as `planted` does it to the rest: gaps and repeats, effects that come twice or not
at all, reminders that are forgotten or fire twice.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from holdfast.actors import firing as firing_module
from holdfast.actors import reminders as reminders_module
from holdfast.actors.cell import Cell
from holdfast.actors.fingerprint import fingerprint
from holdfast.journal.client import JournalClient
from holdfast.journal.memory import MemoryStore
from holdfast.journal.records import Append, Appended, Followed
from holdfast.journal.reminders import FIRED, SET
from holdfast.journal.tail import Tail
from holdfast.journal.wire import decode_followed, encode
from holdfast.runtime import deliveries as deliveries_module
from holdfast.runtime import dispatcher as dispatcher_module
from holdfast.runtime import projection_books as books_module
from holdfast.runtime.deliveries import Deliveries
from holdfast.runtime.feed import Feed, _Page
from holdfast.runtime.frontier import Frontier
from holdfast.runtime.projector import Projector
from holdfast.runtime.reminders import RemindersScheduler
from holdfast.runtime.subscription import Subscription, _Source

from .planted import DEFECTS, defect

__all__ = ["READ_DEFECTS"]

_before = len(DEFECTS)

subscription = partial(defect, parts=("subscription",))
projection = partial(defect, parts=("projection",))
reaction = partial(defect, parts=("reaction",))
reminder = partial(defect, parts=("reminder",))


# -- subscriptions -----------------------------------------------------------------------------------------------


@subscription(Feed, "_read")
def a_feed_begins_at_the_end_of_the_journal(right: Any) -> Any:
    """And not where the reader is for whom it begins: what came in between is in neither."""

    async def read(self: Any) -> None:
        self.reached = self.head = self._start = await self._part.head()
        await right(self)

    return read


@subscription(_Page, "beyond", within=200, first=70)
def a_feed_gives_pages_whole(right: Any) -> Any:
    """Also to a reader who has had the first half of one from the journal."""
    return lambda self, after, stream: self.page.events if stream is None else self.by_stream.get(stream, ())


@subscription(_Source, "took", within=200)
def a_source_that_switches_reads_the_last_page_again(right: Any) -> Any:
    """It is past the page when the next one comes, and not when it has been handed on."""

    def took(self: Any, page: Followed) -> None:
        before, was_live = self._after, self.caught_up
        right(self, page)
        if self.caught_up and not was_live:
            self._after = before

    return took


@subscription(Subscription, "position", within=200, focus=("subscriber leaves", "client killed"))
def a_subscription_is_past_what_it_has_fetched(right: Any) -> Any:
    """And not only past what was taken from it."""

    def position(self: Any) -> Any:
        if self._last is not None:
            number, page = self._last
            self._done[number] = max(self._done[number], page.reached)
        return right.fget(self)

    return property(position)


@subscription(Tail, "_read", within=200)
def a_page_that_is_full_reaches_the_end(right: Any) -> Any:
    """It says so, whether or not there was more."""

    async def read(self: Any, after: int, limit: int, category: str | None) -> Any:
        page = await right(self, after, limit, category)
        followed = decode_followed(page.wire)
        wire = encode(Followed(events=followed.events, reached=followed.head, head=followed.head))
        return dataclasses.replace(page, wire=wire)

    return read


# -- projections -------------------------------------------------------------------------------------------------


@projection(Projector, "_run", within=200, focus=("follower dies at commit",))
def a_checkpoint_moves_before_the_rows_are_written(right: Any) -> Any:
    """In a transaction of its own."""

    def run(self: Any, partition: int, events: Sequence[Any], to: int, mark: str) -> None:
        self._transact(partition, to, mark, lambda: None)
        self._model.begin()
        _handle(self, partition, events)
        self._model.commit()

    return run


@projection(Projector, "_run", within=200, focus=("follower dies at commit",))
def a_checkpoint_moves_after_the_rows_are_written(right: Any) -> Any:
    """In a transaction of its own."""

    def run(self: Any, partition: int, events: Sequence[Any], to: int, mark: str) -> None:
        self._model.begin()
        _handle(self, partition, events)
        self._model.commit()
        self._transact(partition, to, mark, lambda: None)

    return run


def _handle(projector: Any, partition: int, events: Sequence[Any]) -> None:
    try:
        for recorded in events:
            projector._deliver(partition, recorded)
    except BaseException:
        projector._model.rollback()
        raise


@projection(books_module, "_ADVANCE", within=300, focus=("follower replaced", "follower stopped"))
def a_stale_life_moves_the_checkpoint(right: Any) -> Any:
    """Nobody looks at whose epoch it is, and where the checkpoint was left."""
    return right.replace("AND epoch <= ? AND position = ?", "AND (epoch <= ? OR TRUE) AND (position = ? OR TRUE)")


@projection(Projector, "_mine", within=50)
def a_page_is_taken_in_from_its_second_event_on(right: Any) -> Any:
    """The first one after the checkpoint counts as done."""
    return lambda self, events, after: [each for each in right(self, events, after) if each.position > after + 1]


# -- reactions ---------------------------------------------------------------------------------------------------


@reaction(dispatcher_module, "derived_id")
def commands_of_a_handler_are_keyed_without_an_index(right: Any) -> Any:
    """Two that say the same to the same aggregate are one."""

    def derived_id(caller: Any, category: str, id: str, method: str, args: Any, kwargs: Mapping[str, Any]) -> str:
        what = fingerprint(f"{category}/{id}.{method}", args, kwargs).hex()
        return fingerprint(caller.context.command_id, (*caller.context.chain, what), {}).hex()

    return derived_id


@reaction(deliveries_module, "key_of")
def deliveries_are_keyed_without_the_position(right: Any) -> Any:
    """All events of a reaction are one."""
    return lambda reaction, partition, position: right(reaction, partition, 0)


@reaction(deliveries_module, "key_of", within=200)
def deliveries_get_new_keys_each_time(right: Any) -> Any:
    """An event that is delivered again is another one."""
    numbers = itertools.count()
    return lambda reaction, partition, position: f"{right(reaction, partition, position)}:{next(numbers)}"


@reaction(deliveries_module, "key_of", partitions=2)
def deliveries_are_keyed_without_the_partition(right: Any) -> Any:
    """Two events at one position of two partitions are one."""
    return lambda reaction, partition, position: right(reaction, 0, position)


@reaction(Frontier, "_advance", within=300, focus=("follower killed", "disk slow"))
def a_checkpoint_is_past_what_has_only_begun(right: Any) -> Any:
    """The frontier stands behind the last event that was read."""

    def advance(self: Any) -> None:
        right(self)
        self.reached = self._seen

    return advance


@reaction(Deliveries, "_settle", within=300, focus=("host killed", "answer lost"), first=10)
def a_delivery_that_failed_counts_as_done(right: Any) -> Any:
    """Whatever it was."""

    async def settle(self: Any, delivery: Any) -> None:
        try:
            await self._deliver(delivery)
        except Exception:
            return

    return settle


@reaction(MemoryStore, "save_checkpoint", within=300, focus=("follower replaced", "follower stopped"))
def a_checkpoint_is_saved_without_fencing(right: Any) -> Any:
    """A life that was succeeded moves it."""

    async def save_checkpoint(self: Any, checkpoint: Any) -> None:
        self._checkpoints[checkpoint.name] = checkpoint

    return save_checkpoint


# -- reminders ---------------------------------------------------------------------------------------------------


def _in_appends_of_its_own(right: Any, type: str) -> Any:
    """Appends that are cut before and after events of a type; the parts are sent one after the other."""

    async def send_appends(self: Any, batch: list[Append]) -> Any:
        results: list[Any] = []
        for append in batch:
            result: Any = None
            for part in _cut(append, type):
                (result,) = await right(self, [part])
                if not isinstance(result, Appended):
                    break
            results.append(result)
        return results

    return send_appends


def _cut(append: Append, type: str) -> list[Append]:
    parts: list[Append] = []
    version = append.expected_version
    for _, group in groupby(append.events, lambda event: event.type == type):
        events = tuple(group)
        parts.append(msgspec.structs.replace(append, expected_version=version, events=events, keys=()))
        version += len(events)
    if not parts:
        return [append]
    parts[-1] = msgspec.structs.replace(parts[-1], keys=append.keys)
    return parts


@reminder(JournalClient, "_send_appends", within=300, focus=("journal dies at commit", "host killed"))
def a_reminder_is_set_outside_of_its_command(right: Any) -> Any:
    """In an append of its own, before the command's other events."""
    return _in_appends_of_its_own(right, SET)


@reminder(JournalClient, "_send_appends", within=300, focus=("journal dies at commit", "host killed"), first=30)
def a_reminder_has_fired_before_its_command_is_written(right: Any) -> Any:
    """In an append of its own."""
    return _in_appends_of_its_own(right, FIRED)


@reminder(MemoryStore, "_write")
def the_index_is_written_in_the_next_transaction(right: Any) -> Any:
    """What an append did to the reminders is in the table when the one after it is committed."""

    def write(self: Any, stream: Any, append: Append, changes: Sequence[Any]) -> Any:
        for earlier, change in self.__dict__.pop("later", ()):
            right(self, earlier, msgspec.structs.replace(append, events=(), keys=()), change)
        self.__dict__["later"] = [(stream, changes)]
        return right(self, stream, append, ())

    return write


@reminder(firing_module, "pending_in", reminders_module, "_forget", within=200)
def what_is_not_pending_is_fired(pending_in: Any, forget: Any) -> Any:
    """As it was when it was pending last."""
    known: dict[str, dict[str, Any]] = {}

    def pending(aggregate: Any) -> Any:
        found = pending_in(aggregate)
        mine = known.setdefault(str(aggregate.__dict__["_id"]), {})
        mine.update(found)
        return {**mine, **found}

    def forgotten(state: Any, name: str) -> None:
        if name in state.get("_reminders", {}):
            forget(state, name)

    return pending, forgotten


@reminder(Cell, "_confirm", within=200, focus=("host replaced",))
def what_a_host_that_was_replaced_knows_is_believed(right: Any) -> Any:
    """It says that nothing is pending, and is asked again and again."""

    async def confirm(self: Any, call: Any) -> None:
        return None

    return confirm


@reminder(RemindersScheduler, "_carry_out", within=200)
def a_reminder_is_given_up_at_the_first_failure(right: Any) -> Any:
    """Though another try might do."""

    async def carry_out(self: Any, key: Any) -> None:
        try:
            await self._fire(*key)
        except Exception as error:
            await self._record(key, error)

    return carry_out


@reminder(RemindersScheduler, "_round", within=50)
def what_is_due_soon_is_fired_at_once(right: Any) -> Any:
    """It saves waking up again."""

    class _Ahead:
        def __init__(self, clock: Any) -> None:
            self._clock = clock

        def now_us(self) -> int:
            return int(self._clock.now_us()) + 500_000

        def __getattr__(self, name: str) -> Any:
            return getattr(self._clock, name)

    async def round(self: Any) -> Any:
        if not isinstance(self._clock, _Ahead):
            self._clock = _Ahead(self._clock)
        return await right(self)

    return round


READ_DEFECTS = DEFECTS[_before:]
del DEFECTS[_before:]
