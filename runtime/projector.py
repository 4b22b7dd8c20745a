"""The projector: one page of events after the other into the tables, with the checkpoint, all in one thread.

    begin ──▶ checkpoint moves ──▶ handlers, in the order of the events ──▶ commit
                 │                      │                                     │
              fenced, retired        one raises                            in doubt
                 ▼                      ▼                                     ▼
              nothing was written    nothing was written: the page is      the checkpoint tells, when it is
                                     taken apart, until the event that     claimed again
                                     fails stands alone

A crash anywhere leaves the tables as they were at the checkpoint. What fails alone is handed to whoever knows the
policy; the events before it have been committed, those after it have not been looked at.

Before this: the follower got a page. After this: the page is in the tables, or up to the event that fails.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from holdfast.actors.reading import Reading
from holdfast.actors.recorded import RecordedEvent
from holdfast.actors.upcasting import stored_type
from holdfast.journal.codec import digest
from holdfast.journal.errors import Fenced
from holdfast.journal.event_types import name_and_version
from holdfast.journal.records import Recorded
from holdfast.journal.rows import name_checksum
from holdfast.journal.wire import PackedPage

from .model import Model
from .model_errors import ReadModelUnavailable, StatementRefused
from .projection_books import SERVING, Books, Letter, Retired, letter_of
from .projection_definition import EventHandler, ProjectionDefinition

__all__ = ["Failure", "Projector", "Taken", "mark_of"]

UNWRITTEN_MAX = 10_000
"""Events that are none of its business, and for which alone its checkpoint is not moved: as many are read again."""
TRACEBACK_MAX = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An event whose handler failed, alone in its transaction. `attempts`: how often that was by now."""

    partition: int
    recorded: Recorded
    problem: str
    traceback: str
    attempts: int
    cause: BaseException = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a page: so many events are committed; all, unless one failed."""

    events: int
    failure: Failure | None = None


class OlderHandler:
    """In the place of an `EventHandler`, in the same shape: for a type that is not read as it is. `codec` leaves the
    payload alone, and `function` has the handlers take what it is today."""

    takes_record = True

    def __init__(self, reading: Reading, handlers: Mapping[str, EventHandler], stored: str) -> None:
        self.codec, self._reading = _Unopened(), reading
        self.function: Callable[..., Any] = self._take
        self._handlers = {name_and_version(handler.name)[0]: handler for handler in handlers.values()}
        self._is_older = stored in reading.ancestry.older

    def _take(self, projection: Any, payload: bytes, recorded: RecordedEvent) -> None:
        """Raises `CodecError`, and what the handlers raise."""
        record, partition = recorded.record, recorded.partition
        reading = self._reading
        for event in reading.parts(record, partition) if self._is_older else reading.opened(record, partition):
            handler = self._handlers.get(event.type)
            if handler is not None:
                handler.function(projection, event.event, *((event,) if handler.takes_record else ()))


class _Unopened:
    def decode(self, payload: bytes) -> bytes:
        """The payload itself."""
        return payload


class _HandlerFailed(Exception):
    """A handler raised, at this place of the events of its transaction. None: the commit was refused."""

    def __init__(self, at: int | None, error: BaseException) -> None:
        super().__init__(at, error)
        self.at, self.error = at, error


class Projector:
    """Writes one generation of a projection's tables, for one part of it, as one owner. Used by one thread."""

    def __init__(
        self,
        definition: ProjectionDefinition,
        model: Model,
        *,
        generation: int,
        state: str,
        part: int,
        owner: str,
        epoch: int,
        positions: dict[int, int],
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """`positions`: of its checkpoints, which it has claimed, by partition. `wall`: ns since 1970 UTC."""
        self.generation, self.state, self.positions = generation, state, positions
        self._definition, self._model, self._books = definition, model, Books(model, definition.name)
        self._part, self._owner, self._epoch, self._wall = part, owner, epoch, wall
        self._reading = definition.reading
        self._handlers: dict[str, EventHandler | OlderHandler] = {**definition.handlers}
        self._others: set[str] = set()  # types that are none of its business
        self._failing: dict[int, tuple[int, int]] = {}  # by partition: the event that failed last, and how often
        self._unpacked: tuple[PackedPage, Sequence[Recorded]] | None = None  # of which an event failed
        self._projection: Any = object.__new__(definition.type)
        self._projection.__dict__["_model"] = model
        self._turn(state)

    def take_packed(self, partition: int, page: PackedPage) -> Taken:
        """`take`, which see, of a page that is unpacked here, in the thread that works on it."""
        if self._unpacked is None or self._unpacked[0] is not page:
            self._unpacked = page, page.unpacked()
        taken = self.take(partition, self._unpacked[1], page.reached)
        if taken.failure is None:
            self._unpacked = None
        return taken

    def take(self, partition: int, events: Sequence[Recorded], reached: int) -> Taken:
        """Take in a page that ends at `reached`; what is done already is passed over. Raises `Fenced`, `Retired`,
        `ReadModelUnavailable`."""
        after = self.positions[partition]
        mine = self._mine(events, after)
        if not mine and self.state == SERVING and reached - after < UNWRITTEN_MAX:
            return Taken(events=0)
        mark = mark_of(events[-1]) if events else ""
        waiting = _pieces(mine, reached, mark, self._suspect(partition, mine))
        done = 0
        while waiting:
            some, to, mark = waiting.pop()
            failed = self._try(partition, some, to, mark)
            if failed is None:
                done += len(some)
            elif not some:
                raise failed.error from None
            elif len(some) == 1:
                return Taken(events=done, failure=self._failure(partition, some[0], failed.error))
            else:
                waiting += _pieces(some, to, mark, _culprit(some, failed))
        return Taken(events=done)

    def serve(self) -> None:
        """Its generation has taken over."""
        self._turn(SERVING)

    def set_aside(self, failure: Failure) -> None:
        """Keep the event that failed as a dead letter, and be past it, in one transaction."""
        letter = self._letter(failure)

        def keep() -> None:
            self._books.set_aside(self.generation, self._part, letter)

        self._transact(failure.partition, letter.position, mark_of(failure.recorded), keep)

    def letters(self) -> list[Letter]:
        """What was set aside."""
        return self._read(lambda: self._books.letters(self.generation, self._part))

    def replay(self, partition: int, recorded: Recorded, attempts: int) -> Failure | None:
        """Have the handler run for an event that was set aside, and strike out its letter, in one transaction. What
        fails stays set aside, with the newer error."""
        try:
            self._stand(partition, lambda: self._deliver(partition, recorded), recorded)
        except _HandlerFailed as failed:
            failure = self._described(partition, recorded, failed.error, attempts + 1)
            letter = self._letter(failure)
            self._stand(partition, lambda: self._books.set_aside(self.generation, self._part, letter))
            return failure
        return None

    # -- transactions --------------------------------------------------------------------------------------------

    def _try(self, partition: int, events: Sequence[Recorded], to: int, mark: str) -> _HandlerFailed | None:
        """Where a statement is refused that had waited for others, once more with none waiting: that tells whose it
        was."""
        for at_once in (len(events) == 1, True):
            self._model.at_once = at_once
            try:
                self._run(partition, events, to, mark)
                return None
            except _HandlerFailed as failed:
                late = not at_once and isinstance(failed.error, StatementRefused)
                if not late:
                    return failed
            finally:
                self._model.at_once = False
        raise AssertionError("with none waiting, none is late")

    def _run(self, partition: int, events: Sequence[Recorded], to: int, mark: str) -> None:
        """The hot path: these events and the checkpoint, or nothing."""
        at: int | None = None
        self._begin_at(partition, to, mark)
        try:
            handlers, projection, silent = self._handlers, self._projection, self._model.must_not_be_silent
            for at, recorded in enumerate(events):  # noqa: B007  where it was when it failed
                if silent:
                    self._model.keep_alive()
                handler = handlers[recorded.type]
                decode = handler.codec.decode
                event = decode(recorded.payload)
                if handler.takes_record:
                    handler.function(projection, event, RecordedEvent(recorded, partition, decode, event))
                else:
                    handler.function(projection, event)
            at = None
            self._model.commit()
        except ReadModelUnavailable:
            self._model.rollback()
            raise
        except BaseException as error:  # also SystemExit: a handler does not end the process, it fails
            self._model.rollback()
            raise _HandlerFailed(at, error) from error
        self.positions[partition] = to

    def _transact(self, partition: int, to: int, mark: str, work: Callable[[], None]) -> None:
        """A transaction that moves the checkpoint, for work of our own."""
        self._begin_at(partition, to, mark)
        try:
            work()
            self._model.commit()
        except BaseException:
            self._model.rollback()
            raise
        self.positions[partition] = to

    def _stand(self, partition: int, work: Callable[[], None], replayed: Recorded | None = None) -> None:
        """A transaction that leaves the checkpoint where it is. `replayed`: whose letter it strikes out."""
        self._model.begin()
        try:
            self._turn(self._books.stand(self.generation, self._part, partition, self._owner, self._epoch))
            if replayed is not None:
                self._books.take_back(self.generation, partition, replayed.position)
            work()
            self._model.commit()
        except (ReadModelUnavailable, Fenced, Retired):
            self._model.rollback()
            raise
        except BaseException as error:
            self._model.rollback()
            raise _HandlerFailed(0, error) from error

    def _begin_at(self, partition: int, to: int, mark: str) -> None:
        """A transaction whose checkpoint has moved already: from here on nobody else moves it."""
        self._model.begin()
        try:
            after = self.positions[partition]
            state = self._books.advance(
                self.generation, self._part, partition, self._owner, self._epoch, after, to, mark
            )
        except BaseException:
            self._model.rollback()
            raise
        if state != self.state:
            self._turn(state)

    def _read(self, query: Callable[[], list[Letter]]) -> list[Letter]:
        self._model.begin()
        try:
            return query()
        finally:
            self._model.rollback()

    # -- events --------------------------------------------------------------------------------------------------

    def _turn(self, state: str) -> None:
        """Be in this state: the tables are called otherwise while they are being built."""
        self.state = state
        names = self._definition.names(self.generation, serving=state == SERVING)
        for attribute, name in self._definition.attributes.items():
            self._projection.__dict__[attribute] = names[name]

    def _mine(self, events: Sequence[Recorded], after: int) -> list[Recorded]:
        handlers, others, parts = self._handlers, self._others, self._definition.parts
        for stored in {recorded.type for recorded in events}.difference(handlers, others):
            self._meet(stored)
        mine = [recorded for recorded in events if recorded.type in handlers]
        if parts > 1:
            mine = [recorded for recorded in mine if name_checksum(recorded.stream) % parts == self._part]
        if mine and mine[0].position <= after:  # of a page whose first part is committed
            mine = [recorded for recorded in mine if recorded.position > after]
        return mine

    def _meet(self, stored: str) -> None:
        """A type that is new to it: none of its business, an alias, an older one, or one that is too new."""
        declared, today = self._definition.handlers, self._reading.ancestry.current.get(stored)
        if self._reading[stored] is None:
            self._others.add(stored)
        elif today is not None and not declared[stored_type(today)].takes_record:  # an alias, and nobody asks which
            self._handlers[stored] = declared[stored_type(today)]
        else:
            self._handlers[stored] = OlderHandler(self._reading, declared, stored)

    def _deliver(self, partition: int, recorded: Recorded) -> None:
        if recorded.type not in self._handlers:
            self._meet(recorded.type)
        handler = self._handlers.get(recorded.type)
        if handler is not None:  # else it was declared when it failed, and is not any more
            record = RecordedEvent(recorded, partition, handler.codec.decode)
            handler.function(self._projection, record.event, *([record] if handler.takes_record else []))

    # -- what fails ----------------------------------------------------------------------------------------------

    def _suspect(self, partition: int, events: Sequence[Recorded]) -> list[int]:
        """Where to cut, so that the event that failed last time is tried alone again before the others."""
        position, _ = self._failing.get(partition, (0, 0))
        return [1] if events and events[0].position == position else []

    def _failure(self, partition: int, recorded: Recorded, error: BaseException) -> Failure:
        position, attempts = self._failing.get(partition, (0, 0))
        attempts = attempts + 1 if position == recorded.position else 1
        self._failing[partition] = (recorded.position, attempts)
        return self._described(partition, recorded, error, attempts)

    def _described(self, partition: int, recorded: Recorded, error: BaseException, attempts: int) -> Failure:
        shown = "".join(traceback.format_exception(error))
        return Failure(
            partition=partition,
            recorded=recorded,
            problem=f"{type(error).__name__}: {error}"[:TRACEBACK_MAX],
            traceback=shown[-TRACEBACK_MAX:],
            attempts=attempts,
            cause=error,
        )

    def _letter(self, failure: Failure) -> Letter:
        return letter_of(
            failure.recorded,
            failure.partition,
            failure.problem,
            failure.traceback,
            failure.attempts,
            self._wall() // 1000,
        )


def mark_of(recorded: Recorded) -> str:
    """By which an event is known again: another journal has another one in its place."""
    named = f"{recorded.stream}\0{recorded.version}\0{recorded.command_id}\0{recorded.recorded_at}"
    return digest(named.encode("utf-8", "surrogatepass"))


def _culprit(events: Sequence[Recorded], failed: _HandlerFailed) -> list[int]:
    """Where to cut events of which one failed: around it, or in the middle where only the commit was refused."""
    return [len(events) // 2] if failed.at is None else [failed.at, failed.at + 1]


def _pieces(events: list[Recorded], to: int, mark: str, cuts: Sequence[int]) -> list[tuple[list[Recorded], int, str]]:
    """The events cut into transactions, each with the checkpoint that it moves to; the one to be done first is last."""
    if not events:
        return [(events, to, mark)]
    bounds = sorted({0, *cuts, len(events)})
    pieces: list[tuple[list[Recorded], int, str]] = []
    for start, end in pairwise(bounds):
        last = events[end - 1]
        upto = (to, mark) if end == len(events) else (last.position, mark_of(last))
        pieces.append((events[start:end], *upto))
    return pieces[::-1]
