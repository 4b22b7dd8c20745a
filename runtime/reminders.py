"""Reminders, seen from the runtime: what is due is found in the journal's index, and its aggregate is told.

One scheduler for each type that uses reminders. It keeps nothing of what is pending: a million reminders are a million
rows of the journal, and here the page that is being worked on. It may send what has fired already, after a crash or
because an answer was lost, and two of them may run for a while: the aggregate knows what it has pending, and lets the
rest go (`actors/reminders.py`).

Before this: `due` of a pending reminder has come. After this: its aggregate was woken, and has fired it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.clock import MACHINE, Clock, VirtualClock, moment_of
from holdfast.actors.definition import SYSTEM_COMMANDS, Definition, definition_of
from holdfast.actors.firing import FIRE, GAVE_UP
from holdfast.journal import tracing
from holdfast.journal.codec import decode_plain
from holdfast.journal.errors import HoldfastError
from holdfast.journal.pages import LATEST
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Reminder, StreamId
from holdfast.journal.reminders import FIRED, SET
from holdfast.journal.subject import Log, Subject

from .config import Config
from .follower import Desk, Follower, FollowerPhase, FollowerPlan

__all__ = ["REMINDERS", "RemindersFollower", "RemindersScheduler", "SchedulerCounters", "reminders_plan"]

log = Log(__name__)

REMINDERS = "reminders/"
"""What the names of these followers begin with."""

PAGE = 100
AGAIN_FIRST_S, AGAIN_MOST_S = 0.2, 60.0
CAUSE_AMONG = 50
PUT_OFF_MAX = 10_000
"""Reminders whose next try waits for its time. Of more than these nobody remembers when: they are tried at once."""

Fire: TypeAlias = Callable[[StreamId, str, int], Awaitable[str]]
GiveUp: TypeAlias = Callable[[StreamId, str, int, str], Awaitable[str]]
Key: TypeAlias = tuple[StreamId, str, int]


class DuePart(Protocol):
    """A partition of the journal, as far as this needs it."""

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        """See `Store.due_reminders`."""
        ...


@dataclass(slots=True, kw_only=True)
class SchedulerCounters:
    """What a scheduler has done. `fired`: by its hand. `gone`: there was nothing to fire any more. `failed`: the
    command failed for good, or was rejected. `retries`: tries that failed in a way that another may mend.
    `late_max_s`: the longest that anything was fired after it was due."""

    fired: int = 0
    gone: int = 0
    failed: int = 0
    retries: int = 0
    late_max_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _PutOff:
    """To be tried again at `at_us`. `pause_s`: how long it was put off the last time."""

    at_us: int
    pause_s: float


class _Source:
    """The pending reminders of one partition, in order of due, page by page."""

    def __init__(self, part: DuePart, category: str) -> None:
        self._part, self._category = part, category
        self._page: deque[Reminder] = deque()
        self._last: Reminder | None = None
        self._limit = 1  # mostly nothing is due, and the first one tells until when

    async def peek(self) -> Reminder | None:
        """The next one, due or not."""
        if not self._page:
            found = await self._part.due_reminders(
                category=self._category, until=LATEST, limit=self._limit, after=self._last
            )
            self._page.extend(found)
            self._limit = PAGE
        return self._page[0] if self._page else None

    def take(self) -> None:
        """Be past the next one."""
        self._last = self._page.popleft()


class RemindersScheduler:
    """Fires what is due of one category, in order of due. `run` it; it lives until it is cancelled.

    `fire(stream, name, due)` has the aggregate fire, and answers what it says. `give_up(stream, name, due, problem)`
    has it record that it would fail for good. Both may be called more than once for one occurrence.
    """

    def __init__(
        self,
        category: str,
        parts: Sequence[DuePart],
        fire: Fire,
        give_up: GiveUp,
        clock: Clock = MACHINE,
        *,
        rate_max: int = 2000,
        in_flight_max: int = 200,
        poll_s: float = 0.5,
        tell: Callable[[SchedulerCounters], None] = lambda counters: None,
    ) -> None:
        """`rate_max`: fires in any one second. `in_flight_max`: fires at once. `poll_s`: how long a reminder that was
        just set, and is due before all others, may go unseen. `tell`: gets the counters when they have changed."""
        assert rate_max > 0, "it would never fire"
        assert in_flight_max > 0, "it would never fire"
        self.counters = SchedulerCounters()
        self._category, self._parts, self._clock = category, parts, clock
        self._fire, self._give_up, self._tell = fire, give_up, tell
        self._rate_max, self._poll_s = rate_max, poll_s
        self._places = asyncio.Semaphore(in_flight_max)
        self._in_flight: dict[Key, asyncio.Task[None]] = {}
        self._put_off: dict[Key, _PutOff] = {}
        self._recent: deque[int] = deque(maxlen=rate_max)  # when the last ones were fired, in µs
        self._wake = asyncio.Event()
        self._starting = clock.hold()  # until it has looked for the first time

    def __repr__(self) -> str:
        return f"<reminders of {self._category}, {len(self._in_flight)} being fired>"

    async def run(self) -> None:
        """Fire what is due, for ever. Raises what asking the journal raises."""
        try:
            try:
                upcoming = await self._round()
            finally:
                self._starting()
            while True:
                await self._clock.pause(upcoming, self._poll_s, self._wake)
                upcoming = await self._round()
        finally:
            await self._end()

    async def has_due(self, until_us: int) -> bool:
        """Whether anything is pending that was due by then. Raises what asking the journal raises."""
        for part in self._parts:
            if await part.due_reminders(category=self._category, until=until_us, limit=1):
                return True
        return False

    def hurry(self) -> None:
        """Try again at once what waits for its next try, or for others to be fired first."""
        self._put_off.clear()
        self._recent.clear()
        self._wake.set()

    async def _round(self) -> int | None:
        """Start firing all that is due now. Returns when, in µs, there will be more, as far as that is known."""
        self._wake.clear()
        self._forget_mended()
        sources = [_Source(part, self._category) for part in self._parts]
        waits: list[int] = []
        while True:
            heads = [(head.due, index, head) for index, each in enumerate(sources) if (head := await each.peek())]
            if not heads:
                break
            due, index, reminder = min(heads)
            if due > self._clock.now_us():
                waits.append(due)
                break
            sources[index].take()
            key = reminder.stream, reminder.name, reminder.due
            put_off = self._put_off.get(key)
            if key in self._in_flight:
                continue
            if put_off is not None and put_off.at_us > self._clock.now_us():
                waits.append(put_off.at_us)
                continue
            await self._room()
            self._start(key)
        return min(waits, default=None)

    async def _room(self) -> None:
        """Wait until one more may be fired, for their number and for their rate."""
        await self._places.acquire()
        while len(self._recent) == self._rate_max and self._recent[0] + 1_000_000 > self._clock.now_us():
            self._wake.clear()
            await self._clock.pause(self._recent[0] + 1_000_000, 1.0, self._wake)

    def _start(self, key: Key) -> None:
        self._recent.append(self._clock.now_us())
        task = asyncio.get_running_loop().create_task(self._carry_out(key))
        self._in_flight[key] = task
        task.add_done_callback(partial(self._ended, key, self._clock.hold()))

    def _ended(self, key: Key, release: Callable[[], None], task: "asyncio.Task[None]") -> None:
        del self._in_flight[key]
        self._places.release()
        self._tell(self.counters)
        release()
        self._wake.set()  # what it fired may be due again already
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(Subject("reminders", self._category), "a bug", exc_info=error)

    async def _carry_out(self, key: Key) -> None:
        stream, name, due = key
        counters = self.counters
        counters.late_max_s = max(counters.late_max_s, (self._clock.now_us() - due) / 1e6)
        try:
            answer = await self._fire(stream, name, due)
        except Exception as error:
            if isinstance(error, HoldfastError) and error.retryable:
                counters.retries += 1
                self._again(key, error)
            else:
                await self._record(key, error)
            return
        if answer == "fired":
            counters.fired += 1
            self._put_off.pop(key, None)
        else:
            counters.gone += 1
            self._again(key, None)  # the index will not have it any more; if it had, this must not go round and round

    async def _record(self, key: Key, error: Exception) -> None:
        """Its command says no, or fails and always would: that was its turn."""
        stream, name, due = key
        problem = f"{type(error).__name__}: {error}"
        log.warning(Subject(*stream), "reminder %r failed: %s", name, problem)
        try:
            await self._give_up(stream, name, due, problem)
        except Exception as trouble:  # the aggregate itself cannot be brought back, say
            self._again(key, trouble)
        else:
            self.counters.failed += 1
            self._put_off.pop(key, None)

    def _again(self, key: Key, error: Exception | None) -> None:
        """Not before a while has passed, which is longer each time."""
        before = self._put_off.pop(key, None)
        pause_s = AGAIN_FIRST_S if before is None else min(2 * before.pause_s, AGAIN_MOST_S)
        if error is not None:
            log.info(Subject(*key[0]), "reminder %r is fired again in %g s: %s", key[1], pause_s, error)
        if len(self._put_off) < PUT_OFF_MAX:
            self._put_off[key] = _PutOff(self._clock.now_us() + int(pause_s * 1e6), pause_s)

    def _forget_mended(self) -> None:
        """Those that were not met again although their time has come are pending no more."""
        long_ago = self._clock.now_us() - int(2 * AGAIN_MOST_S * 1e6)
        for key in [key for key, each in self._put_off.items() if each.at_us < long_ago]:
            del self._put_off[key]

    async def _end(self) -> None:
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class RemindersFollower(Follower):
    """The scheduler of one type, as the cluster runs it: one in a namespace. It reads no events, so it has no place in
    the journal that could be waited for."""

    kind: ClassVar[str] = "reminders"
    methods: ClassVar[frozenset[str]] = frozenset({"advance"})

    def __init__(
        self, type: type[Aggregate], clock: Clock = MACHINE, *, rate_max: int = 2000, in_flight_max: int = 200
    ) -> None:
        """`rate_max`, `in_flight_max`: see `RemindersScheduler`."""
        self._type, self._clock = type, clock
        self._rate_max, self._in_flight_max = rate_max, in_flight_max
        self._starting: Callable[[], None] | None = clock.hold()
        self._scheduler: RemindersScheduler | None = None
        self._advancing = asyncio.Lock()

    async def run(self, desk: Desk) -> None:
        async def send(command: str, stream: StreamId, *args: Any) -> str:
            # A host that was replaced, and has not noticed, would say for ever that nothing is pending.
            aggregate = desk.gate.get(self._type, stream.id, linearizable=True)
            cause: Mapping[str, Any] = {}
            if tracing.tracer is not None:
                cause = await _cause_of(desk, stream, *args[:1])
            with tracing.within(cause):
                answer: str = await aggregate.holdfast_send(SYSTEM_COMMANDS[command], args, {})
            return answer

        def tell(counters: SchedulerCounters) -> None:
            desk.progress.details = asdict(counters)

        category = definition_of(self._type).category
        scheduler = RemindersScheduler(
            category,
            desk.parts,
            partial(send, FIRE),
            partial(send, GAVE_UP),
            self._clock,
            rate_max=self._rate_max,
            in_flight_max=self._in_flight_max,
            tell=tell,
        )
        self._scheduler = scheduler
        await self.close()  # from now on the scheduler says when it is busy
        desk.progress.turn(FollowerPhase.LIVE)
        await scheduler.run()

    async def advance(self, until_us: int) -> None:
        """Have its virtual clock come to a moment, in µs since 1970 UTC; it may be past it. Returns when nothing is
        pending any more that was due by then. What fails in a way that another try may mend is tried again meanwhile,
        in the machine's time. Raises `TimeoutError` after the `settle_s` of the clock, `TypeError` without one.

        It may be asked again, here or in the next life: what has fired is not pending any more."""
        clock = self._clock
        if not isinstance(clock, VirtualClock):
            raise TypeError(f"the reminders of {self._type.__name__} go by the machine's clock, which nobody moves")
        async with self._advancing, asyncio.timeout(clock.settle_s):
            while True:
                if await self._has_come_to(clock, until_us):
                    return
                await asyncio.sleep(AGAIN_FIRST_S)

    async def _has_come_to(self, clock: VirtualClock, until_us: int) -> bool:
        await clock.advance_to(moment_of(max(until_us, clock.now_us())))
        scheduler = self._scheduler
        try:
            if scheduler is None or await scheduler.has_due(until_us):
                if scheduler is not None:
                    scheduler.hurry()
                return False
        except HoldfastError as error:  # the journal is away, and the scheduler is going to be run again
            if not error.retryable:
                raise
            return False
        return True

    async def close(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            starting()


async def _cause_of(desk: Desk, stream: StreamId, name: str) -> Mapping[str, Any]:
    """The metadata of the command that has this reminder pending, if it is among the newest events of its aggregate:
    what fires continues its trace. Looked for only where there are traces."""
    with suppress(HoldfastError):
        part = desk.parts[partition_of(stream, len(desk.parts))]
        for event in await part.read_stream(stream, after=0, limit=CAUSE_AMONG, backward=True):
            if event.type in (SET, FIRED) and decode_plain(event.payload).get("name") == name:
                kept: Mapping[str, Any] = decode_plain(event.metadata).get("metadata", {})
                return kept
    return {}


def reminders_plan(definition: Definition, config: Config, clock: Clock = MACHINE) -> FollowerPlan:
    """The follower that fires the reminders of a type. One that goes by another sort of clock is not the same code."""
    virtual = isinstance(clock, VirtualClock)
    return FollowerPlan(
        name=f"{REMINDERS}{definition.category}",
        code=f"{definition.code}, by a virtual clock" if virtual else definition.code,
        make=partial(
            RemindersFollower,
            definition.type,
            clock,
            rate_max=config.reminders_rate_max,
            in_flight_max=config.reminders_in_flight_max,
        ),
    )
