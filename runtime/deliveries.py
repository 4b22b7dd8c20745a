"""Deliveries: how the events of a reaction reach its instances. One life of its follower, at work.

    a page of the journal ──▶ lanes, one for each instance ──▶ one delivery at a time in each, `IN_FLIGHT_MAX` in all
                                                                 │
                       checkpoint ◀── frontier: before the first one that is not done ◀┘

An instance that is in trouble holds back nobody else, until the others are `AHEAD_MAX` events further.

Before this: the follower has its checkpoint. After this: the reaction's policy has stopped it, or it was ended.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from holdfast.actors.calls import Trace
from holdfast.actors.definition import definition_of
from holdfast.actors.errors import ReplyForgotten, UnknownCommand
from holdfast.actors.policy import Retry, Stop
from holdfast.actors.reacting import REACT, ReactionSpec, arguments_of, key_of
from holdfast.actors.reaction import Reaction
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.errors import HoldfastError
from holdfast.journal.positions import Positions
from holdfast.journal.records import Checkpoint, Recorded
from holdfast.journal.subject import Log

from .dead_letters import DeadLetters, NoSuchLetter, problem_of
from .errors import HostUnavailable, RuntimeClosed
from .follower import Desk, FollowerStopped
from .frontier import Frontier
from .ref import target
from .together import together

__all__ = ["Deliveries", "Pause"]

log = Log(__name__)

Pause: TypeAlias = Callable[[float], Awaitable[None]]

WAIT_S = 5.0
IN_FLIGHT_MAX = 100
AHEAD_MAX = 10_000
SAVE_EVERY_S = 0.2
PATIENT = Retry(first_s=0.05, most_s=2.0)
"""The pauses after failures that say that the same may succeed later."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event that the reaction reacts to: as it was recorded, or a part of that."""

    spec: ReactionSpec
    event: RecordedEvent

    @property
    def place(self) -> tuple[int, int]:
        """Of the event, which its parts share: partition and position."""
        return self.event.partition, self.event.position

    @property
    def target(self) -> str | None:
        """The instance that it is for. Raises what tells that."""
        return self.spec.goes_to(self.event)


class Deliveries:
    """Made for one run of a follower, in its event loop."""

    def __init__(
        self,
        reaction: type[Reaction],
        name: str,
        desk: Desk,
        letters: DeadLetters,
        start: Positions,
        pause: Pause = asyncio.sleep,
    ) -> None:
        """`name`: of the follower, and of its checkpoint. `start`: where that is. `pause`: waits so many seconds."""
        self.letters = letters
        self._type, self._definition, self._policy = reaction, definition_of(reaction), reaction.__holdfast_on_error__
        self._name, self._desk, self._progress, self._pause = name, desk, desk.progress, pause
        self._frontiers = [Frontier(position, AHEAD_MAX) for position in start]
        self._saved = list(start)
        self._lanes: dict[str, deque[Delivery]] = {}  # by instance: what is under way, and what waits behind it
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._moved = asyncio.Event()
        self._troubled = 0

    async def run(self) -> None:
        """Until cancelled. Raises `FollowerStopped`, `Fenced`, and what keeps the journal from being read."""
        async with together() as group:
            group.create_task(self._keep_checkpoints())
            for partition in range(len(self._desk.parts)):
                group.create_task(self._go_through(partition, group))

    async def replay(self, partition: int, position: int) -> None:
        """Deliver an event that was set aside. Raises what that fails with, and `NoSuchLetter`."""
        letter = self.letters.pending.get((partition, position))
        if letter is None:
            raise NoSuchLetter(self._name, partition, position)
        (recorded,) = await self._desk.parts[partition].read_all(after=position - 1, limit=1)
        deliveries = self._of(recorded, partition)
        if not deliveries:
            raise UnknownCommand(self._definition.category, f"{REACT} of {recorded.type}")
        for delivery in deliveries:
            await self._deliver(delivery)
        await self.letters.replayed(letter)

    # -- reading -------------------------------------------------------------------------------------------------

    async def _go_through(self, partition: int, group: asyncio.TaskGroup) -> None:
        part, frontier, after = self._desk.parts[partition], self._frontiers[partition], self._saved[partition]
        wait_s = 0.0
        while True:
            page = await part.follow(after=after, limit=self._desk.page, wait_s=wait_s)
            wait_s = WAIT_S  # the first answer comes at once: it says where the journal ends
            self._progress.saw(partition, page.head)
            if page.head < after:
                problem = f"its checkpoint is position {after} of partition {partition}, which ends at {page.head}"
                raise FollowerStopped(self._name, problem)
            for recorded in page.events:
                deliveries = self._of(recorded, partition)
                if deliveries:
                    await frontier.begin(recorded.position, len(deliveries))
                for delivery in deliveries:
                    self._enter_lane(delivery, group)
            after = page.reached
            frontier.pass_by(after)
            self._advance(partition)

    def _of(self, recorded: Recorded, partition: int) -> list[Delivery]:
        return [Delivery(*each) for each in self._definition.reactions.of(recorded, partition)]

    def _enter_lane(self, delivery: Delivery, group: asyncio.TaskGroup) -> None:
        try:
            id = delivery.target
        except Exception:  # comes again when it is delivered, and is dealt with there
            id = ""
        if id is None:
            self._end(delivery, 0)
        elif id in self._lanes:
            self._lanes[id].append(delivery)
        else:
            self._lanes[id] = deque([delivery])
            group.create_task(self._serve(id))

    async def _serve(self, id: str) -> None:
        """All that there is for one instance, in order."""
        lane = self._lanes[id]
        while lane:
            await self._settle(lane[0])
            self._end(lane.popleft(), 1)
        del self._lanes[id]

    def _end(self, delivery: Delivery, events: int) -> None:
        partition, position = delivery.place
        self._frontiers[partition].end(position)
        self._advance(partition, events)

    def _advance(self, partition: int, events: int = 0) -> None:
        self._progress.reach(partition, self._frontiers[partition].reached, events)
        self._moved.set()

    # -- one event -----------------------------------------------------------------------------------------------

    async def _settle(self, delivery: Delivery) -> None:
        """Deliver it, until it is done or set aside. One that is set aside stays so, also when it comes again."""
        failures = patience = 0
        try:
            while delivery.place not in self.letters.pending:
                try:
                    async with self._slots:
                        return await self._deliver(delivery)
                except Exception as error:
                    self._note(error, first=failures + patience == 0)
                    if self._may_help(error):
                        patience += 1
                        await self._pause(PATIENT.pause_s(patience))
                    else:
                        failures += 1
                        await self._follow_policy(delivery, error, failures)
        finally:
            if failures + patience:
                self._mark_trouble(-1)

    async def _deliver(self, delivery: Delivery) -> None:
        """Send it to the instance that it is for. Raises what the handler raises."""
        event, id = delivery.event, delivery.target
        if id is None:
            return
        how = replace(
            target(self._type, id),
            idempotency_key=key_of(self._definition.category, *delivery.place, event.part),
            trace=Trace(
                correlation_id=event.context.correlation_id,
                causation_id=event.context.command_id,
                metadata=event.metadata,
            ),
        )
        dispatcher, command = self._desk.gate.dispatcher, self._definition.served[REACT]
        arguments = arguments_of(event.record, event.partition, event.part)
        with suppress(ReplyForgotten):  # it was done
            await dispatcher.call(how, dispatcher.line(how), command, arguments, {})

    async def _follow_policy(self, delivery: Delivery, error: Exception, failures: int) -> None:
        policy = self._policy
        if isinstance(policy, Retry) and failures <= policy.times:
            self._progress.retries += 1
            await self._pause(policy.pause_s(failures))
        elif isinstance(policy, Stop) or (isinstance(policy, Retry) and policy.then == "stop"):
            partition, position = delivery.place
            where = f"{delivery.event.stored_type} at position {position} of partition {partition}"
            raise FollowerStopped(self._name, f"{where}: {problem_of(error)}") from error
        else:
            await self._set_aside(delivery, error, failures)

    async def _set_aside(self, delivery: Delivery, error: Exception, failures: int) -> None:
        event = delivery.event
        letter = self.letters.letter(
            *delivery.place,
            type=event.stored_type,
            category=event.category,
            id=event.id,
            target=self._target_of(delivery),
            problem=problem_of(error),
            attempts=failures,
        )
        log.error(self._desk.subject, "an event is set aside: %s", letter, exc_info=error)
        await self.letters.set_aside(letter)

    def _target_of(self, delivery: Delivery) -> str:
        try:
            return delivery.target or ""
        except Exception:
            return ""

    def _note(self, error: Exception, *, first: bool) -> None:
        log.info(self._desk.subject, "a delivery has failed: %s", problem_of(error))
        self._mark_trouble(int(first))
        self._progress.errors += 1
        self._progress.problem = problem_of(error)

    def _mark_trouble(self, more: int) -> None:
        self._troubled += more
        self._progress.details["troubled"] = self._troubled
        if not self._troubled:
            self._progress.problem = ""

    def _may_help(self, error: Exception) -> bool:
        """Whether to deliver again for as long as it takes. A host that does not know what it is asked runs older
        code: it is going to be replaced."""
        if isinstance(error, UnknownCommand):
            return error.aggregate == self._definition.category and error.command.startswith(REACT)
        if isinstance(error, HostUnavailable | RuntimeClosed):  # the latter: of a host that is leaving
            return True
        return isinstance(error, HoldfastError) and error.retryable

    # -- checkpoints ---------------------------------------------------------------------------------------------

    async def _keep_checkpoints(self) -> None:
        """Save what has moved, every so often: what is lost by a crash in between is delivered again, and is done."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            for partition, frontier in enumerate(self._frontiers):
                if (reached := frontier.reached) > self._saved[partition]:
                    await self._save(partition, reached)
                    self._saved[partition] = reached
            await self._pause(SAVE_EVERY_S)

    async def _save(self, partition: int, position: int) -> None:
        checkpoint = Checkpoint(name=self._name, owner=self._desk.owner, epoch=self._desk.epoch, position=position)
        await self._desk.parts[partition].save_checkpoint(checkpoint)
