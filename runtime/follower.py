"""Followers: what lives from the events of a journal, beside the aggregates that make them.

A projection, a reaction, a publisher, the reminders of a type: each is a supervised resident with a name of its own. It
claims that name at the journal as a host does, so of two lives of one follower only the newer one's checkpoint counts.
It then goes through the journal from its checkpoint on, page by page, each partition by itself.

The life of a follower:

    CLAIMING ──▶ CATCHING_UP ◀──▶ LIVE          at the end of the journal, waiting for more
        ▲             │            │
        └── RETRYING ◀┴────────────┘            something failed: again from the checkpoint, after a while
                      │
                      ▼
                   STOPPED                      by its own policy: it needs somebody to look

A crash anywhere here leaves the checkpoint where it was: what was done after it is done again, or was done in one
transaction with it. Which of the two, each kind says.
"""

import asyncio
import enum
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from holdfast.journal.client import JournalClient
from holdfast.journal.errors import HoldfastError
from holdfast.journal.positions import Positions
from holdfast.journal.subject import Subject
from holdfast.journal.wire import PackedPage

from .ref import Gate
from .together import together

__all__ = [
    "Desk",
    "Follower",
    "FollowerPhase",
    "FollowerPlan",
    "FollowerStatistics",
    "FollowerStopped",
    "PageFollower",
    "Progress",
]

WAIT_S = 5.0
RATE_S = 10.0


class FollowerStopped(HoldfastError):
    """A follower has stopped, as its policy says, and does nothing more until it is started again. Look at the
    problem, mend it, and start it again."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name} has stopped: {self.problem}"


class FollowerPhase(enum.StrEnum):
    """Where a follower is in its life; the module's docstring draws it."""

    CLAIMING = "claiming"
    CATCHING_UP = "catching up"
    LIVE = "live"
    RETRYING = "retrying"
    STOPPED = "stopped"


class FollowerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One follower at one moment. `positions`: it is done with all up to there; `heads`: of the journal, as it last
    heard. `rate`: events a second, lately. `errors`: failures since it started, those that a retry mended included.
    `problem`: the last one, while it retries, has stopped, or is kept from something. `details`: what its kind counts
    beside that."""

    name: str
    kind: str
    phase: FollowerPhase
    epoch: int
    positions: Positions
    heads: Positions
    events: int
    rate: float
    errors: int
    retries: int
    dead_letters: int
    problem: str = ""
    details: dict[str, float] = {}

    @property
    def lag(self) -> int:
        """Events of the journal that it has not been past yet, those that are none of its business included."""
        return sum(max(0, head - done) for head, done in zip(self.heads, self.positions, strict=True))


class Progress:
    """How far a follower is, and whoever waits for it. Written by the follower, read by everybody."""

    def __init__(self, partitions: int, now: Callable[[], float] = time.monotonic) -> None:
        self.phase = FollowerPhase.CLAIMING
        self.positions, self.heads = Positions.start(partitions), Positions.start(partitions)
        self.events = self.errors = self.retries = self.dead_letters = 0
        self.problem = ""
        self.details: dict[str, float] = {}
        self._now = now
        self._heard: set[int] = set()  # partitions of which it knows where they end
        self._held_back = False
        self._marks: list[tuple[float, int]] = []  # when so many events were done, over the last seconds
        self._changed: asyncio.Future[None] | None = None

    def start(self, positions: Positions) -> None:
        """It goes on from here."""
        self.positions, self.heads = positions, Positions(tuple(map(max, self.heads, positions)))
        self._heard.clear()
        self._tell()

    def saw(self, partition: int, head: int) -> None:
        """A page has come, and told where its partition ends."""
        self.heads = self.heads.moved(partition, head)
        self._heard.add(partition)
        self._look()

    def reach(self, partition: int, position: int, events: int = 0) -> None:
        """Everything up to a position is done, and so many events of its own among it."""
        self.events += events
        if events:
            self._mark()
        self.positions = self.positions.moved(partition, position)
        self._look()
        self._tell()

    def turn(self, phase: FollowerPhase, problem: str = "") -> None:
        """It is in another phase of its life."""
        self.phase, self.problem = phase, problem
        self._tell()

    def hold_back(self, held: bool) -> None:
        """Whether those who wait go on waiting, however far it is: nobody can see yet what it makes."""
        self._held_back = held
        self._tell()

    async def wait(self, until: Positions, wait_s: float) -> bool:
        """Wait until everything up to there is done, for all to see: False if that takes longer, or it has stopped."""
        give_up = asyncio.get_running_loop().time() + wait_s
        while self._held_back or not until <= self.positions:
            left_s = give_up - asyncio.get_running_loop().time()
            if left_s <= 0 or self.phase is FollowerPhase.STOPPED:
                return False
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._changed}, timeout=left_s)
        return True

    @property
    def rate(self) -> float:
        """Events a second, over the last `RATE_S` seconds."""
        self._mark()
        (since, before), (now, events) = self._marks[0], self._marks[-1]
        return (events - before) / (now - since) if now > since else 0.0

    def _mark(self) -> None:
        now = self._now()
        if len(self._marks) > 1 and now - self._marks[-2][0] < RATE_S / 20:
            self._marks.pop()
        self._marks.append((now, self.events))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_S:
            self._marks.pop(0)

    def _look(self) -> None:
        if self.phase in (FollowerPhase.CATCHING_UP, FollowerPhase.LIVE):
            live = len(self._heard) == len(self.heads) and self.heads <= self.positions
            self.phase = FollowerPhase.LIVE if live else FollowerPhase.CATCHING_UP

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a follower is given to work with, in the process where it runs, for one claim of its name.

    `owner`, `epoch`: what its checkpoints carry. `parts`: the journal, by partition. `gate`: the way to aggregates
    (`gate.get(type, id)`). `progress`: where it tells how far it is. `page`: events in one go.
    """

    owner: str
    epoch: int
    parts: Sequence[JournalClient]
    gate: Gate
    progress: Progress
    page: int = 1000

    @property
    def subject(self) -> Subject:
        """What the log calls the follower."""
        return Subject("follower", self.owner.removeprefix("follower:"), epoch=self.epoch)


class Follower(ABC):
    """One life of a follower. Made in its process by what its plan holds; used in one event loop.

    `kind`: what sort it is. `methods`: what may be asked of it by name, beside what all are asked (`Followers.ask`).
    `pages_at_once`: how many times `HostLimits.page` it takes in one go, bounded by the bytes of one page.
    """

    kind: ClassVar[str]
    methods: ClassVar[frozenset[str]] = frozenset()
    pages_at_once: ClassVar[int] = 1

    @abstractmethod
    async def run(self, desk: Desk) -> None:
        """Follow until cancelled. What it raises is logged, and it is run again from its checkpoint, later and later;
        `FollowerStopped` ends that, and `Fenced` its process."""

    async def close(self) -> None:  # noqa: B027  most hold nothing
        """Release what it holds. Comes after the last `run`, whether or not that came to its end."""


class PageFollower(Follower):
    """A follower that goes through the journal page by page. `category`: of the events that it wants; None: all."""

    category: str | None = None

    @abstractmethod
    async def begin(self, desk: Desk) -> Positions:
        """Get ready, and say after which position of each partition to go on: the checkpoint."""

    @abstractmethod
    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        """Do all that a page of a partition asks for, and move the checkpoint to `page.reached`. `page.unpacked()` are
        its events. Returns how many it was concerned with. Pages of one partition come one after the other, those of
        several at once."""

    async def run(self, desk: Desk) -> None:
        desk.progress.start(await self.begin(desk))
        desk.progress.turn(FollowerPhase.CATCHING_UP)
        async with together() as group:
            for partition in range(len(desk.parts)):
                group.create_task(self._go_through(desk, partition))

    async def _go_through(self, desk: Desk, partition: int) -> None:
        progress = desk.progress
        ahead: asyncio.Task[PackedPage] | None = None
        wait_s = 0.0  # the first answer comes at once: it says where the journal ends
        try:
            while True:
                after = progress.positions[partition]
                page = await (ahead or self._fetch(desk, partition, after, wait_s))
                ahead, wait_s = None, WAIT_S
                progress.saw(partition, page.head)
                if page.head < after:
                    raise FollowerStopped(desk.owner, _ahead(partition, after, page.head))
                if page.reached > after:
                    if page.reached < page.head:  # while it catches up, the next page comes as this one is done
                        ahead = asyncio.create_task(self._fetch(desk, partition, page.reached, wait_s))
                    progress.reach(partition, page.reached, await self.take(desk, partition, page))
        finally:
            if ahead is not None:
                ahead.add_done_callback(lambda fetched: fetched.cancelled() or fetched.exception())
                ahead.cancel()

    async def _fetch(self, desk: Desk, partition: int, after: int, wait_s: float) -> PackedPage:
        part = desk.parts[partition]
        return await part.follow_packed(after=after, limit=desk.page, category=self.category, wait_s=wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerPlan:
    """A follower that should run: what a cluster needs to start it, in whichever process.

    `name`: one in the namespace, `projection/Balances` say; the owner that claims. `code`: a fingerprint; one that
    runs other code is replaced. `make`: makes it, there; picklable by value.
    """

    name: str
    code: str
    make: Callable[[], Follower]


def statistics_of(name: str, kind: str, epoch: int, progress: Progress) -> FollowerStatistics:
    """What others see of it."""
    names = ("phase", "positions", "heads", "events", "rate", "errors", "retries", "dead_letters", "problem")
    seen: dict[str, Any] = {each: getattr(progress, each) for each in names}
    return FollowerStatistics(name=name, kind=kind, epoch=epoch, details=dict(progress.details), **seen)


def _ahead(partition: int, after: int, head: int) -> str:
    return (
        f"its checkpoint is position {after} of partition {partition}, which the journal ends before, at {head}: the"
        " journal was restored from an older copy, or is another one"
    )
