"""A follower under its name in a cluster: claims it, runs it, and runs it again when it failed.

Unlike other residents it does not wait to be asked: whoever starts it again after a crash need not know what it is for.

Before this: a cluster has started the process. After this: the follower's name is free for its successor.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from holdfast.journal.errors import Fenced
from holdfast.journal.positions import Positions
from holdfast.journal.subject import Log, Subject

from .cluster import Cluster, FollowerSpec, incarnation
from .dispatcher import Dispatcher
from .follower import Desk, Follower, FollowerPhase, FollowerStatistics, FollowerStopped, Progress, statistics_of
from .metrics import Put, Sample, Sampler, of_follower, of_process
from .ref import Gate, Home
from .resident import Resident, journal_over, ways_to

__all__ = ["FollowerResident"]

log = Log(__name__)

AGAIN_FIRST_S, AGAIN_MOST_S = 0.1, 30.0


class FollowerResident(Resident):
    """One follower, in a process or an event loop of its own choosing."""

    starts_itself = True
    methods = frozenset({"ask", "hello", "metrics", "ping", "probe", "reached", "retire", "statistics"})

    def __init__(
        self,
        spec: FollowerSpec,
        cluster: Cluster,
        *,
        home: Home | None,
        on_gone: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        put: Put | None = None,
    ) -> None:
        """`on_gone`: ends this resident's process. `now`: its clock, in seconds. `put`: takes what it has counted,
        every so often."""
        sight = spec.config.sight
        self._sampler = None if put is None or not sight.metrics else Sampler(self._samples, put, sight.metrics_every_s)
        self._spec, self._on_gone, self._now, self._jitter = spec, on_gone, now, jitter
        self._journal = journal_over(ways_to(cluster, spec.journal, spec.config), spec.config)
        self._dispatcher = Dispatcher(
            cluster, self._journal, spec.journal, spec.placements, spec.config, leads=False, nested=True
        )
        self._gate = Gate(spec.journal.namespace, self._dispatcher, home)
        self._incarnation = incarnation()
        self._follower: Follower = spec.make()
        self._progress = Progress(spec.journal.partitions, now)
        self._epoch = 0
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<follower {self._spec.name} epoch {self._epoch}, {self._progress.phase}>"

    @property
    def _subject(self) -> Subject:
        return Subject("follower", self._spec.name, epoch=self._epoch, kind=self._follower.kind)

    @property
    def target(self) -> "FollowerResident":
        return self

    async def handle(self, method: str, args: tuple[Any, ...]) -> Any:
        """Says nothing to whom only wants to know whether what it sends arrives."""
        return None if method == "probe" else await super().handle(method, args)

    async def start(self) -> None:
        self._gate.open()
        self._running = asyncio.get_running_loop().create_task(self._live())
        if self._sampler is not None:
            self._sampler.start()

    async def stop(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
            await self._follower.close()
        self._gate.close()
        await self._dispatcher.close()

    # -- what it is asked ----------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Answers if it is there and its loop turns."""

    async def hello(self) -> str:
        """Which code it runs; none any more, if it has stopped by itself."""
        return "" if self._progress.phase is FollowerPhase.STOPPED else self._spec.code

    async def statistics(self) -> FollowerStatistics:
        """How it does."""
        return self._statistics()

    async def metrics(self) -> list[Sample]:
        """What it has counted."""
        return self._samples()

    def _statistics(self) -> FollowerStatistics:
        return statistics_of(self._spec.name, self._follower.kind, self._epoch, self._progress)

    def _samples(self) -> list[Sample]:
        return [*of_follower(self._statistics()), *of_process(self._dispatcher, self._journal)]

    async def reached(self, positions: Positions, wait_s: float) -> bool:
        """Whether it is done with everything up to there, within so long. Raises `FollowerStopped`."""
        done = await self._progress.wait(positions, wait_s)
        if not done and self._progress.phase is FollowerPhase.STOPPED:
            raise FollowerStopped(self._spec.name, self._progress.problem)
        return done

    async def ask(self, method: str, *args: Any) -> Any:
        """Call one of the methods that its kind answers."""
        if method not in self._follower.methods:
            raise AttributeError(f"a {self._follower.kind} answers no {method!r}")
        return await getattr(self._follower, method)(*args)

    async def retire(self) -> None:
        """Stop where it is, and end."""
        await self.stop()
        self._on_gone()

    # -- its life ------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        pause_s = AGAIN_FIRST_S
        while True:
            began = self._now()
            try:
                await self._run()
            except FollowerStopped as error:
                log.error(self._subject, "stopped: %s", error.problem)
                self._progress.turn(FollowerPhase.STOPPED, error.problem)
                return
            except Fenced as error:
                log.warning(self._subject, "fenced: %s", error)
                # It has a successor, so whoever waits is not told that it has stopped, but that this life of it ended.
                self._progress.turn(FollowerPhase.RETRYING, str(error))
                self._on_gone()
                return
            except Exception as error:
                self._failed(error)
            if self._now() - began > AGAIN_MOST_S:
                pause_s = AGAIN_FIRST_S
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(2 * pause_s, AGAIN_MOST_S)

    async def _run(self) -> None:
        """Once, from the claim to whatever ends it."""
        self._progress.turn(FollowerPhase.CLAIMING, self._progress.problem)
        owner = f"follower:{self._spec.name}"
        self._epoch = await self._journal.claim(owner, self._incarnation)
        desk = Desk(
            owner=owner,
            epoch=self._epoch,
            parts=self._journal.parts,
            gate=self._gate,
            progress=self._progress,
            page=self._spec.config.host.page * self._follower.pages_at_once,
        )
        await self._follower.run(desk)
        raise FollowerStopped(self._spec.name, "it has come to its end")

    def _failed(self, error: Exception) -> None:
        self._progress.errors += 1
        self._progress.retries += 1
        problem = f"{type(error).__name__}: {error}"
        log.warning(self._subject, "failed, and is run again from its checkpoint: %s", problem, exc_info=error)
        self._progress.turn(FollowerPhase.RETRYING, problem)
