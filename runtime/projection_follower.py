"""The follower of a projection: brings pages from the journal to its thread, and decides about what fails there.

One thread, with the connection to the read model in it; the event loop only hands over pages. A handler may take as
long as it likes, and the process still answers how it does.

    begin: look ──▶ is it this journal's? ──▶ take a seat, claim ──▶ pages ──▶ …
                                                │    ▲
                                                ▼    │ retired: another generation serves now
                                              build beside it, then swap (`projection_generations`)

Before this: the follower's name was claimed at the journal, and its epoch is ours. After this: the tables are what the
events up to the checkpoint make of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from holdfast.actors.policy import DeadLetter, Retry
from holdfast.journal.errors import Fenced
from holdfast.journal.positions import Positions
from holdfast.journal.subject import Log, Subject
from holdfast.journal.wire import PackedPage

from .follower import Desk, Follower, FollowerPhase, FollowerPlan, FollowerStopped, PageFollower, Progress
from .model import Model
from .model_errors import ForeignReadModel, ReadModelAhead, ReadModelUnavailable, ReplayFailed, StatementRefused
from .model_url import ModelUrl
from .projection_books import BUILDING, Books, Checkpoint, Letter, Retired
from .projection_definition import ProjectionDefinition, projection_of
from .projection_generations import Generations, Seat
from .projector import Failure, Projector, mark_of

__all__ = ["ProjectionFollower", "RebuildProgress", "projection_plans"]

T = TypeVar("T")

log = Log(__name__)

LOOK_FIRST_S, LOOK_MOST_S = 0.01, 0.2
LOOK_SERVING_S = 5.0
BLOCKED_MOST_S = 30.0
SEALED_MOST_S = 5.0
BEGIN_WAIT_S = 10.0
AGAIN_FIRST_S, AGAIN_MOST_S = 0.1, 30.0


class RebuildProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild is: `done` events `of` so many, at a `rate` a second. `finished`: it serves. `problem`: what
    keeps it from that, the last time that something did."""

    done: int
    of: int
    rate: float
    finished: bool
    problem: str = ""

    @classmethod
    def of_all(cls, parts: Sequence["RebuildProgress"]) -> "RebuildProgress":
        """Of a projection whose parts are so far."""
        return cls(
            done=sum(part.done for part in parts),
            of=sum(part.of for part in parts),
            rate=sum(part.rate for part in parts),
            finished=all(part.finished for part in parts),
            problem=next((part.problem for part in parts if part.problem), ""),
        )


class _TookOver(Exception):
    """What was being built beside the serving generation serves now."""


class ProjectionFollower(PageFollower):
    """Follows for one part of a projection. `builds`: not what serves, but the generation of this number, in which the
    same is being built anew beside it."""

    kind = "projection"
    methods = frozenset({"dead_letters", "rebuild", "rebuilding", "replay"})
    pages_at_once = 4  # a page is a transaction, and a round of two processes and a thread: 1.1 to 1.25 x as fast

    def __init__(
        self,
        cls: type[Any],
        url: str,
        part: int = 0,
        *,
        builds: int = 0,
        tell: Callable[[str], None] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        connect: Callable[[], Model] | None = None,
    ) -> None:
        """`url`: of the read model. `tell`: whom to tell what keeps it from taking over. `connect`: another way to the
        read model, for tests."""
        self._definition: ProjectionDefinition = projection_of(cls)
        self._again: Callable[[int], ProjectionFollower] = lambda generation: ProjectionFollower(
            cls, url, part, builds=generation, tell=self._tell_of_build, pause=pause, jitter=jitter, connect=connect
        )
        self._tell = tell or self._tell_problem
        self._part, self._builds, self._pause, self._jitter = part, builds, pause, jitter
        self._name = self._definition.owner(part)
        self._connect = connect or ModelUrl.parse(url).open
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._model: Model | None = None
        self._projector: Projector | None = None
        self._desk: Desk | None = None
        self._builder: asyncio.Task[None] | None = None
        self._build_progress: Progress | None = None
        self._build_problem = ""
        self._begun, self._turned = asyncio.Event(), asyncio.Event()

    # -- its life ------------------------------------------------------------------------------------------------

    async def run(self, desk: Desk) -> None:
        self._desk = desk
        try:
            while True:
                self._begun.clear()
                self._turned.clear()
                self._projector = None
                try:
                    await self._run_until_turned(desk)
                except Retired:
                    if self._builds:
                        raise
        finally:
            await _end(self._builder)
            self._builder = None

    async def close(self) -> None:
        await _end(self._builder)
        with suppress(RuntimeError):  # closed twice
            await self._in_thread(self._disconnect)
        self._thread.shutdown(wait=False)

    async def begin(self, desk: Desk) -> Positions:
        await self._verify(desk, await self._in_thread(self._look))
        seat = await self._find_seat(desk)
        desk.progress.hold_back(seat.state == BUILDING)
        projector = self._projector = await self._in_thread(self._claim, seat, desk.owner, desk.epoch)
        desk.progress.details.update(generation=float(seat.generation), building=float(seat.state == BUILDING))
        desk.progress.dead_letters = len(await self._in_thread(projector.letters))
        self._begun.set()
        return Positions(tuple(projector.positions[each] for each in range(len(desk.parts))))

    async def _find_seat(self, desk: Desk) -> Seat:
        """What to work on. One whose successor is about to take over waits for that, which takes a moment, or does not
        happen: then it goes on."""
        loop = asyncio.get_running_loop()
        give_up, pause_s = loop.time() + SEALED_MOST_S, LOOK_FIRST_S
        while True:
            seat = await self._in_thread(self._take_seat, len(desk.parts))
            if seat.rebuilds:
                self._start_builder(desk, seat.rebuilds)
            if not seat.sealed:
                return seat
            if loop.time() >= give_up:
                await self._in_thread(self._unseal)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_MOST_S)

    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        assert self._projector is not None, "it has begun"
        while True:
            taken = await self._in_thread(self._projector.take_packed, partition, page)
            if taken.failure is None:
                return taken.events
            so_far = max(self._projector.positions[partition], desk.progress.positions[partition])
            desk.progress.reach(partition, so_far, taken.events)
            await self._decide(desk.progress, taken.failure)

    async def _run_until_turned(self, desk: Desk) -> None:
        """Until another generation serves, or something fails."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(each) for each in (super().run(desk), self._turned.wait(), self._take_over(desk))
        ]
        pages, turned, _ = tasks
        try:
            waiting = set(tasks)
            while pages in waiting and turned in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                await _end(task)

    async def _take_over(self, desk: Desk) -> None:
        """While this builds: see whether it can take the place of what serves. Then see, from time to time, whether it
        still serves: with no event coming in, it would not hear of its successor."""
        await self._begun.wait()
        assert self._projector is not None, "it has begun"
        projector, pause_s, failures = self._projector, LOOK_FIRST_S, 0
        while projector.state == BUILDING:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_MOST_S)
            try:
                if await self._in_thread(self._try_swap, projector, desk.progress.phase is FollowerPhase.LIVE):
                    log.info(self._subject, "generation %d serves now", projector.generation)
            except (
                ReadModelUnavailable,
                StatementRefused,
            ) as error:  # somebody reads the old tables, or builds on them
                failures += 1
                pause_s = min(LOOK_MOST_S * 2**failures, BLOCKED_MOST_S)
                await self._tell_blocked(desk, error)
        desk.progress.details["building"] = 0.0
        desk.progress.hold_back(False)
        if failures:
            self._tell("")
        if self._builds:
            raise _TookOver(self._name)
        while True:
            await asyncio.sleep(LOOK_SERVING_S)
            rows = await self._in_thread(self._look)
            if not any(row.generation == projector.generation for row in rows):
                raise Retired(f"generation {projector.generation}")

    @property
    def _subject(self) -> Subject:
        return Subject("follower", self._name)

    # -- what fails ----------------------------------------------------------------------------------------------

    async def _tell_blocked(self, desk: Desk, error: Exception) -> None:
        """It has caught up, and cannot take over. What serves goes on meanwhile, and whoever looks is told why."""
        problem = f"what was built anew has caught up, and cannot take over: {error}"
        log.warning(self._subject, "%s", problem)
        desk.progress.errors += 1
        self._tell(problem)
        with suppress(ReadModelUnavailable):  # then it goes on after a while
            await self._in_thread(self._unseal)

    def _tell_of_build(self, problem: str) -> None:
        self._build_problem = problem
        self._tell_problem(problem)

    def _tell_problem(self, problem: str) -> None:
        if self._desk is not None:
            self._desk.progress.turn(self._desk.progress.phase, problem)

    async def _decide(self, progress: Progress, failure: Failure) -> None:
        """What the policy says about an event that failed alone. Nothing is held while it waits."""
        policy = self._definition.options.on_error
        recorded = failure.recorded
        problem = f"{recorded.type} at position {recorded.position} ({recorded.stream}): {failure.problem}"
        progress.errors += 1
        if isinstance(policy, Retry) and failure.attempts <= policy.times:
            log.warning(self._subject, "%s; tried again", problem)
            progress.retries += 1
            progress.turn(FollowerPhase.RETRYING, problem)
            await self._pause(policy.pause_s(failure.attempts) * (0.5 + self._jitter()))
        elif isinstance(policy, DeadLetter) or (isinstance(policy, Retry) and policy.then == "dead letter"):
            log.error(self._subject, "%s; set aside as a dead letter\n%s", problem, failure.traceback)
            assert self._projector is not None, "it has begun"
            await self._in_thread(self._projector.set_aside, failure)
            progress.dead_letters += 1
        else:
            log.error(self._subject, "%s\n%s", problem, failure.traceback)
            raise FollowerStopped(self._name, problem)
        progress.turn(FollowerPhase.CATCHING_UP)

    # -- what it is asked ----------------------------------------------------------------------------------------

    async def dead_letters(self) -> list[Letter]:
        """What this part has set aside, in the order of the journal."""
        return await self._in_thread((await self._seated()).letters)

    async def replay(self, partition: int, position: int) -> None:
        """Have the handler run again for an event that was set aside. When it succeeds that is a dead letter no longer,
        in one transaction with what the handler did. Raises `ReplayFailed`; then it stays."""
        projector, desk = await self._seated(), self._desk
        assert desk is not None, "it has begun"
        letters = {letter.place: letter for letter in await self._in_thread(projector.letters)}
        letter = letters.get((partition, position))
        if letter is None:
            raise ReplayFailed(self._name, partition, position, "no such event is set aside")
        page = await desk.parts[partition].read_all(after=position - 1, limit=1)
        failure = await self._in_thread(projector.replay, partition, page[0], letter.attempts)
        desk.progress.dead_letters = len(await self._in_thread(projector.letters))
        if failure is not None:
            raise ReplayFailed(self._name, partition, position, failure.problem)

    async def rebuild(self) -> int:
        """Begin to build this version anew, beside what serves; or go on with it. The number of the generation."""
        await self._seated()
        desk = self._desk
        assert desk is not None, "it has begun"
        seat = await self._in_thread(self._begin_rebuild, len(desk.parts))
        self._start_builder(desk, seat.generation)
        return seat.generation

    async def rebuilding(self, generation: int) -> RebuildProgress:
        """How far that is. Raises `FollowerStopped` if it was given up."""
        await self._seated()
        desk, progress = self._desk, self._build_progress
        assert desk is not None, "it has begun"
        rows = await self._in_thread(self._look)
        mine = [row for row in rows if (row.generation, row.part) == (generation, self._part)]
        of = sum(desk.progress.heads)
        if any(row.generation >= generation and row.state != BUILDING for row in rows):
            return RebuildProgress(done=of, of=of, rate=0.0, finished=True)
        if not mine:
            raise FollowerStopped(self._name, f"the rebuild was given up: {self._build_problem or 'another one began'}")
        done = sum(row.position for row in mine)
        return RebuildProgress(
            done=done,
            of=max(of, done),
            rate=progress.rate if progress else 0.0,
            finished=False,
            problem=self._build_problem,
        )

    async def _seated(self) -> Projector:
        """Once it has begun: a moment, after it was started, and whenever another generation takes over."""
        stopped = FollowerPhase.STOPPED
        if self._desk is None or self._desk.progress.phase is not stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEGIN_WAIT_S):
                    await self._begun.wait()
        if self._projector is None and self._desk is not None and self._desk.progress.phase is stopped:
            raise FollowerStopped(self._name, self._desk.progress.problem)
        if self._projector is None:
            raise ReadModelUnavailable(self._name, "its projection has not begun yet, or could not")
        return self._projector

    # -- building anew -------------------------------------------------------------------------------------------

    def _start_builder(self, desk: Desk, generation: int) -> "asyncio.Task[None]":
        if self._builder is None or self._builder.done():
            self._build_progress, self._build_problem = Progress(len(desk.parts)), ""
            building = replace(desk, progress=self._build_progress)
            self._builder = asyncio.create_task(self._build(building, self._again(generation)))
        return self._builder

    async def _build(self, desk: Desk, builder: "ProjectionFollower") -> None:
        """Another follower of the same part, on the next generation, until that serves or is given up."""
        pause_s = AGAIN_FIRST_S
        try:
            while True:
                try:
                    return await builder.run(desk)
                except _TookOver:
                    return self._turned.set()
                except FollowerStopped as error:
                    log.error(self._subject, "the rebuild is given up: %s", error)
                    self._build_problem = error.problem
                    return await builder.abandon()
                except (Retired, Fenced) as error:  # given up elsewhere; so is what started it
                    self._build_problem = self._build_problem or str(error)
                    return None
                except Exception as error:
                    log.warning(self._subject, "the rebuild failed, and goes on in a while", exc_info=error)
                    self._build_problem = f"{type(error).__name__}: {error}"
                await self._pause(pause_s * (0.5 + self._jitter()))
                pause_s = min(2 * pause_s, AGAIN_MOST_S)
        finally:
            await builder.close()

    async def abandon(self) -> None:
        """Give up what this builds."""
        await self._in_thread(self._abandon, self._builds)

    # -- the journal ---------------------------------------------------------------------------------------------

    async def _verify(self, desk: Desk, rows: Sequence[Checkpoint]) -> None:
        """At each checkpoint the journal has the event that was there. Raises `ReadModelAhead`, `ForeignReadModel`."""
        for row in rows:
            if row.part != self._part or row.position == 0 or row.partition >= len(desk.parts):
                continue
            part = desk.parts[row.partition]
            place = f"position {row.position} of partition {row.partition}"
            head = await part.head()
            if head < row.position:
                problem = f"its read model is at {place}, and the journal ends at {head}"
                raise ReadModelAhead(self._name, f"{problem}: it was restored from an older copy, or is another one")
            found = await part.read_all(after=row.position - 1, limit=1)
            if not found or found[0].position != row.position or mark_of(found[0]) != row.mark:
                raise ForeignReadModel(
                    self._name, f"its read model was made from a journal with another event at {place}"
                )

    # -- in its thread -------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _connected(self) -> Model:
        if self._model is None or self._model.closed:
            self._disconnect()
            model = self._connect()
            try:
                Books(model, self._definition.name).prepare()
            except BaseException:
                model.close()
                raise
            self._model = model
        return self._model

    def _disconnect(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            model.close()

    def _look(self) -> list[Checkpoint]:
        model = self._connected()
        model.begin()
        try:
            return Books(model, self._definition.name).rows()
        finally:
            model.rollback()

    def _take_seat(self, partitions: int) -> Seat:
        deciding = self._generations(partitions)
        return self._decided(lambda: deciding.join(self._builds) if self._builds else deciding.take_seat())

    def _begin_rebuild(self, partitions: int) -> Seat:
        return self._decided(self._generations(partitions).begin_rebuild)

    def _try_swap(self, projector: Projector, seals: bool) -> bool:
        deciding = self._generations(len(projector.positions))
        model, generation = self._connected(), projector.generation
        model.begin()
        try:
            if not deciding.near(generation, seals=seals):
                return False
        finally:
            model.rollback()
        serves = self._decided(lambda: deciding.try_swap(generation, seals=seals))
        if serves:
            projector.serve()
        return serves

    def _unseal(self) -> None:
        self._decided(self._generations(0).unseal)

    def _abandon(self, generation: int) -> None:
        self._decided(lambda: self._generations(0).abandon(generation))

    def _generations(self, partitions: int) -> Generations:
        return Generations(self._definition, self._connected(), partitions)

    def _decided(self, work: Callable[[], T]) -> T:
        """In one transaction."""
        model = self._connected()
        model.begin()
        try:
            result = work()
            model.commit()
        except BaseException:
            model.rollback()
            raise
        return result

    def _claim(self, seat: Seat, owner: str, epoch: int) -> Projector:
        definition, model = self._definition, self._connected()
        books = Books(model, definition.name)
        claimed = self._decided(lambda: books.claim(seat.generation, self._part, owner, epoch, definition.code))
        return Projector(
            definition,
            model,
            generation=seat.generation,
            state=seat.state,
            part=self._part,
            owner=owner,
            epoch=epoch,
            positions=claimed,
        )


@dataclass(frozen=True, slots=True)
class _Make:
    """Makes the follower of a part, in its process."""

    cls: type[Any]
    url: str = field(repr=False)  # there may be a password in it
    part: int

    def __call__(self) -> Follower:
        return ProjectionFollower(self.cls, self.url, self.part)


def projection_plans(cls: type[Any], url: str) -> list[FollowerPlan]:
    """The followers of a projection class over a read model. Raises `DefinitionError`, `ReadModelUrlError`."""
    definition, model = projection_of(cls), ModelUrl.parse(url)
    return [
        FollowerPlan(
            name=definition.owner(part),
            code=f"{definition.code} {model.url.redacted}",
            make=_Make(cls, model.text, part),
        )
        for part in range(definition.parts)
    ]


async def _end(task: "asyncio.Task[Any] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # told already, or of no interest any more
