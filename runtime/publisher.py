"""Publishers: a follower that hands the events of a journal to a broker.

    await runtime.start(Publisher("to-kafka", Kafka("localhost:9092", topic="bank"), categories=[Account]))

**At least once.** What a publisher does with a page, step by step:
  1. It puts the events that it wants into their envelopes, in the journal's order, and hands batches to its sink.
  2. The sink returns when its broker has confirmed all of a batch. A crash before that: it is all sent again.
  3. It saves its checkpoint in the journal, fenced by its epoch. A crash before that: it is all sent again, with the
     same ids, and the broker or the reader drops what it has seen.

**In order, per stream.** One batch is sent after the other, and within a batch the sink keeps the order of each stream
over whatever fails (`Sink.send`). So the first copies of a stream's events arrive in order, with none missing between
them; what arrives again has a `sequence` that was there before.

It waits for its broker and nobody waits for it: writers append to the journal, and it holds a page of that, and the
next one.

**What is given up is set aside**, if its policy says so, as an event of a stream of the publisher's own
(`dead_letters.py`), before the checkpoint moves past it. It stays so, also when its page comes again.

Before this: the events are durable. After this: a broker has confirmed them.
"""

import asyncio
import copy
import functools
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, get_args
from urllib.parse import quote

from holdfast.actors.behaviour import behaviour_of
from holdfast.actors.definition import definition_of
from holdfast.actors.events import event_name
from holdfast.actors.fingerprint import fingerprint
from holdfast.actors.policy import DeadLetter, Policy, Retry, Stop
from holdfast.actors.upcasting import Ancestry, Piece, event_aliases, stored_type
from holdfast.journal.codec import CodecError
from holdfast.journal.event_types import name_and_version
from holdfast.journal.positions import Positions
from holdfast.journal.records import Recorded
from holdfast.journal.reminders import RESERVED_PREFIX
from holdfast.journal.subject import Log, Subject
from holdfast.journal.wire import PackedPage

from .beginning import After, begin_after, save_position
from .cloud_events import CloudEvent, DataFormat, cloud_event
from .dead_letters import DeadLetters, Letter, NoSuchLetter, problem_of
from .errors import EventRefused, HostUnavailable, NotAnAggregate, SinkProblem, SinkUnavailable
from .follower import Desk, FollowerPhase, FollowerPlan, FollowerStopped, PageFollower
from .sink import Sink

__all__ = ["Publisher", "PublisherFollower", "publisher_plan"]

log = Log(__name__)

PATIENCE = Retry(first_s=0.2, most_s=60.0)
"""How a broker that is away is asked again, unless the policy says how."""
BATCH_BYTES_MAX = 1 << 20
BEGINS_S = 30.0
"""Seconds for which those wait that ask it before it has begun."""
TYPES_MAX = 10_000
"""Stored types about which it remembers whether they are wanted."""
UNSAVED_MOST = 10_000
"""Positions that a publisher may be past without saving that, as long as none of them was its own to publish."""


class Publisher:
    """A declaration: which events go where. Picklable, if its sink is.

    `name`: of the publisher, and of its checkpoint; one in a namespace. `categories`: of streams, as types or names;
    `types`: of events, as classes or names; empty: all (of types: all but Holdfast's own, `holdfast.…`). Older events
    of classes that are named, or of aggregates that are, are published as what they are today; others as they are in
    the journal. `source`: of the CloudEvents, a URI reference; empty: `/holdfast/` and the namespace. `data`: how the
    event itself travels, `"json"`, or `"msgpack"` as it is in the journal. `after`: where it begins when it has never
    run; once it has a checkpoint, that counts. `on_error`: what becomes of an event that the sink will never take:
    `Stop()`, unless told otherwise, or `DeadLetter()`, which logs it and goes on. All else is tried again for ever;
    `Retry(…)` says how patiently, how often where it is one event that the sink fails at, and what then. `batch`:
    events handed over at once, at most. Raises `TypeError`, `ValueError`, `NotAnAggregate`.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        categories: Iterable[type[Any] | str] = (),
        types: Iterable[type[Any] | str] = (),
        source: str = "",
        data: DataFormat = "json",
        after: After = "beginning",
        on_error: Policy | None = None,
        batch: int = 500,
    ) -> None:
        if not (isinstance(name, str) and name and name.isprintable()):
            raise ValueError(f"a publisher's name must be printable text, not {name!r}")
        if not isinstance(sink, Sink):
            raise TypeError(f"publisher {name!r}: {sink!r} is no sink: it must have open, send and close")
        if data not in get_args(DataFormat):
            raise ValueError(f"publisher {name!r}: data must be 'json' or 'msgpack', not {data!r}")
        if not (after in ("beginning", "now") or isinstance(after, Positions)):
            raise ValueError(f"publisher {name!r}: after must be 'beginning', 'now' or Positions, not {after!r}")
        if not isinstance(on_error, Retry | DeadLetter | Stop | None):
            raise ValueError(f"publisher {name!r}: on_error is Retry(…), DeadLetter() or Stop(), not {on_error!r}")
        if batch < 1:
            raise ValueError(f"publisher {name!r}: batch must be at least 1, got {batch!r}")
        categories, types = tuple(_several(categories)), tuple(_several(types))
        self.name, self.sink, self.source, self.batch = name, sink, source, batch
        self.after: After = after
        self.data: DataFormat = data
        self.categories = tuple(sorted({_category(each) for each in categories}))
        self.types = tuple(sorted({_type(each) for each in types}))
        self.classes = tuple(each for each in (*categories, *types) if isinstance(each, type))
        self.on_error: Policy = on_error or Stop()

    def __repr__(self) -> str:
        wanted = ", ".join((*self.categories, *self.types)) or "everything"
        return f"<publisher {self.name!r} of {wanted} to {self.sink!r}>"

    def wants(self, event: Recorded) -> bool:
        """Whether an event is to be published, or may be, once it is known what it is today."""
        if self.categories and event.stream.category not in self.categories:
            return False
        verdict = self._verdicts.get(event.type)
        if verdict is None:
            verdict = event.type in self._ancestry.older or self._wants_type(event.type)
            if len(self._verdicts) < TYPES_MAX:
                self._verdicts[event.type] = verdict
        return verdict

    def _wants_type(self, stored: str) -> bool:
        """Whether events of a type are to be published: under any name that they were called when that was told."""
        name, _ = name_and_version(stored)
        if not self.types:
            return not name.startswith(RESERVED_PREFIX)
        cls = self._ancestry.named.get(name)
        names = {name, stored} if cls is None else {event_name(cls), *event_aliases(cls), stored}
        return not names.isdisjoint(self.types)

    def today(self, event: Recorded) -> list[Piece | None]:
        """What an event that it wants is today, part by part; None in the place of what it does not want of that.
        Raises `CodecError`."""
        ancestry = self._ancestry
        if event.type in ancestry.older:
            pieces = ancestry.pieces(event.type, event.payload)
            return [piece if self._wants_type(piece.type) else None for piece in pieces]
        today = ancestry.current.get(event.type)
        return [Piece(event.type if today is None else stored_type(today), event.payload)]

    @functools.cached_property
    def _ancestry(self) -> Ancestry:
        """Made anew wherever it is sent."""
        found: dict[type, None] = {}
        for cls in self.classes:
            found.update(dict.fromkeys([cls] if event_name(cls) is not None else definition_of(cls).events))
        return Ancestry(found)

    @functools.cached_property
    def _verdicts(self) -> dict[str, bool]:
        """By stored type."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @property
    def settings(self) -> dict[str, Any]:
        """All that it was told but its sink; of the classes, how older events of theirs are upcast, if they are."""
        told = self.__getstate__()
        settings = {name: value for name, value in told.items() if name not in ("sink", "classes")}
        evolved = self._ancestry.evolved
        if evolved:
            settings["evolved"] = [behaviour_of(cls, module=cls.__module__) for cls in evolved]
        return settings


def publisher_plan(publisher: Publisher) -> FollowerPlan:
    """What a cluster needs to start it: one process. Changed settings, a secret among them, are another code."""
    kind, held = type(publisher.sink), {n: v for n, v in vars(publisher.sink).items() if not n.startswith("_")}
    code = fingerprint(f"{kind.__module__}.{kind.__qualname__}", [publisher.settings, held], {}).hex()
    return FollowerPlan(name=f"publisher/{publisher.name}", code=code, make=partial(PublisherFollower, publisher))


class PublisherFollower(PageFollower):
    """One life of a publisher."""

    kind: ClassVar[str] = "publisher"
    methods: ClassVar[frozenset[str]] = frozenset({"dead_letters", "replay"})

    def __init__(
        self,
        publisher: Publisher,
        *,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`pause`: how it waits before it tries again. `jitter`: from 0 to 1."""
        self._publisher, self._pause, self._jitter = publisher, pause, jitter
        self.category = publisher.categories[0] if len(publisher.categories) == 1 else None
        self._name = f"publisher/{publisher.name}"
        self._ways: list[_Way] = []
        self._saved: list[int] = []
        self._life: tuple[Desk, DeadLetters] | None = None  # of this one, or, once it has stopped, of the last one
        self._began = asyncio.Event()

    async def begin(self, desk: Desk) -> Positions:
        """Goes on from the checkpoint, or begins where it was told to."""
        await self.close()
        letters = DeadLetters(self._name, desk)
        await letters.load()
        self._life = desk, letters
        self._began.set()
        self._ways = [_Way(self._publisher.sink) for _ in desk.parts]
        beginning = await begin_after(desk, desk.owner, self._publisher.after)
        self._saved = list(beginning)
        return beginning

    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        """Publish what it wants of a page, and save that."""
        _, letters = await self._living()
        wanted = [
            event
            for event in page.unpacked()
            if self._publisher.wants(event) and (partition, event.position) not in letters.pending
        ]
        for last, batch in _batches(wanted, self._publisher.batch):
            await self._publish(desk, partition, batch)
            await self._save(desk, partition, page.reached if last else batch[-1].position)
        if page.reached - self._saved[partition] >= UNSAVED_MOST:
            await self._save(desk, partition, page.reached)
        return len(wanted)

    async def close(self) -> None:
        """Closes its ways to the broker."""
        ways, self._ways = self._ways, []
        for way in ways:
            await way.close()

    # -- what it is asked ----------------------------------------------------------------------------------------

    async def dead_letters(self) -> list[Letter]:
        """The events that are set aside, oldest first."""
        _, letters = await self._living()
        return list(letters.pending.values())

    async def replay(self, partition: int, position: int) -> None:
        """Publish an event that was set aside, after all. Once confirmed, it is no more; what it fails with is raised,
        and it stays. Raises `NoSuchLetter`."""
        desk, letters = await self._living()
        letter = letters.pending.get((partition, position))
        if letter is None:
            raise NoSuchLetter(self._name, partition, position)
        (record,) = await desk.parts[partition].read_all(after=position - 1, limit=1)
        way = _Way(self._publisher.sink)  # the others may be in the middle of a batch
        try:
            await way.send(self._envelopes(desk, record))
        finally:
            await way.close()
        await letters.replayed(letter)

    async def _living(self) -> tuple[Desk, DeadLetters]:
        """Also when it has stopped: that is when letters are looked at."""
        try:
            async with asyncio.timeout(BEGINS_S):
                await self._began.wait()
        except TimeoutError:
            raise HostUnavailable(self._name, f"it has not read its dead letters within {BEGINS_S:g} s") from None
        assert self._life is not None, "it has begun"
        return self._life

    # -- publishing ----------------------------------------------------------------------------------------------

    def _envelopes(self, desk: Desk, record: Recorded) -> list[CloudEvent]:
        """What is published of a record: one event, or what an older one was upcast to. Raises `CodecError`."""
        publisher = self._publisher
        source = publisher.source or f"/holdfast/{quote(desk.gate.namespace, safe='')}"
        return [
            cloud_event(record, source, publisher.data, part=part, today=today)
            for part, today in enumerate(publisher.today(record))
            if today is not None
        ]

    async def _publish(self, desk: Desk, partition: int, records: Sequence[Recorded]) -> None:
        """All of them, in order; one that fits into no envelope is dealt with when its turn comes."""
        ready: dict[str, tuple[CloudEvent, Recorded]] = {}
        for record in records:
            try:
                events = self._envelopes(desk, record)
            except CodecError as error:
                await self._deliver(desk, partition, ready)
                await self._give_up(desk, partition, record, error, 1)
                ready = {}
            else:
                ready.update({event.id: (event, record) for event in events})
        await self._deliver(desk, partition, ready)

    async def _deliver(self, desk: Desk, partition: int, left: dict[str, tuple[CloudEvent, Recorded]]) -> None:
        """Until all of them are confirmed, or given up; by their ids, in order."""
        failures = 0
        while left:
            try:
                await self._ways[partition].send([event for event, _ in left.values()])
                break
            except Exception as error:
                done: tuple[str, ...] = error.done if isinstance(error, SinkProblem) else ()
                failures = 1 if done else failures + 1  # it gets on
                for id in done:
                    left.pop(id, None)
                blamed = self._blamed(error, left, failures)
                if blamed is not None:
                    _, record = left.pop(blamed)
                    await self._give_up(desk, partition, record, error, failures)
                    failures = 0
                elif left:
                    await self._wait(desk, partition, error, failures, len(left))
        if desk.progress.phase is FollowerPhase.RETRYING:
            desk.progress.turn(FollowerPhase.CATCHING_UP)

    def _blamed(self, error: Exception, left: Iterable[str], failures: int) -> str | None:
        """The event, by its id, that is given up after this failure; None: try again."""
        policy = self._publisher.on_error
        if isinstance(error, EventRefused):
            return error.event if error.event in left else next(iter(left), None)
        if isinstance(error, SinkProblem) and isinstance(policy, Retry) and failures > policy.times:
            return error.event if error.event in left else None  # none: the broker is away
        return None

    async def _wait(self, desk: Desk, partition: int, error: Exception, failures: int, left: int) -> None:
        """Before the next try. One that was succeeded meanwhile does not go on for ever: it is fenced here."""
        progress, policy, problem = desk.progress, self._publisher.on_error, _said(error)
        patience = policy if isinstance(policy, Retry) else PATIENCE
        pause_s = patience.pause_s(failures) * (1 - self._jitter() / 2)  # those that failed together come back apart
        if isinstance(error, SinkUnavailable):
            pause_s = max(pause_s, error.after_s)
        progress.errors, progress.retries = progress.errors + 1, progress.retries + 1
        progress.turn(FollowerPhase.RETRYING, problem)
        log.warning(
            desk.subject, "%d events are not confirmed (failure %d), again in %.1f s: %s",
            left, failures, pause_s, problem, exc_info=None if isinstance(error, SinkProblem) else error,
        )  # fmt: skip
        await self._pause(pause_s)
        await desk.parts[partition].confirm(desk.owner, desk.epoch)

    async def _give_up(self, desk: Desk, partition: int, record: Recorded, error: Exception, attempts: int) -> None:
        """Stop at an event, or set it aside, as the policy says."""
        problem = f"{record.stream} version {record.version} cannot be published: {_said(error)}"
        desk.progress.errors += 1
        policy = self._publisher.on_error
        if isinstance(policy, Stop) or (isinstance(policy, Retry) and policy.then == "stop"):
            raise FollowerStopped(desk.owner, problem) from error
        log.error(desk.subject, "dead letter: %s", problem)
        _, letters = await self._living()
        letter = letters.letter(
            partition,
            record.position,
            type=record.type,
            category=record.stream.category,
            id=record.stream.id,
            target="",
            problem=problem_of(error),
            attempts=attempts,
        )
        await letters.set_aside(letter)

    async def _save(self, desk: Desk, partition: int, position: int) -> None:
        await save_position(desk, partition, desk.owner, position)
        self._saved[partition] = position


class _Way:
    """A sink of its own for one partition: opened when there is something to send, and anew after each failure."""

    def __init__(self, sink: Sink) -> None:
        self._sink = copy.copy(sink)
        self._used = self._well = False

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        """Return when all of it is confirmed."""
        if not self._well:
            await self.close()
            self._used = True
            await self._sink.open()
        self._well = False  # until this has gone well, cancelled or not
        await self._sink.send(batch)
        self._well = True

    async def close(self) -> None:
        """What cannot even be closed is left to itself."""
        used, self._used, self._well = self._used, False, False
        if used:
            try:
                await self._sink.close()
            except Exception as error:
                log.warning(Subject("sink", repr(self._sink)), "could not be closed: %s", _said(error))


def _batches(records: Sequence[Recorded], most: int) -> Iterator[tuple[bool, Sequence[Recorded]]]:
    """Parts of a page that are handed over at once, and whether each is the last one."""
    start = size = 0
    for place, record in enumerate(records):
        if place > start and (place - start == most or size + len(record.payload) > BATCH_BYTES_MAX):
            yield False, records[start:place]
            start, size = place, 0
        size += len(record.payload)
    if records:
        yield True, records[start:]


def _several(names: Iterable[type[Any] | str]) -> Iterable[type[Any] | str]:
    if isinstance(names, str | type):
        raise TypeError(f"categories and types are lists, not {names!r} alone")
    return names


def _category(named: type[Any] | str) -> str:
    if isinstance(named, str):
        return named
    try:
        return definition_of(named).category
    except (TypeError, AttributeError) as error:
        raise NotAnAggregate(getattr(named, "__qualname__", repr(named))) from error


def _type(named: type[Any] | str) -> str:
    name = named if isinstance(named, str) else event_name(named)
    if not name:
        raise TypeError(f"{named!r} is no event")
    return name


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, SinkProblem) else f"{type(error).__name__}: {error}"
