"""The read side of a run: the parts that it has, what they are to be left with, and the verdict on them.

A run has few of the parts, drawn from its seed by a chance of their own: so a run without them is what it would be if
there were none. Whatever bounds a part has (pages that a feed keeps, deliveries at once) are small in some runs, since
what is slow and what is full is met there.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from checkers import Effect, effects_once, equals_fold, every_event_once, fired_once, nothing_forgotten, seen_of
from checkers.projection import Rows

from holdfast.actors.context import Context
from holdfast.actors.reacting import key_of
from holdfast.journal.pages import LATEST
from holdfast.journal.records import Recorded
from holdfast.runtime import deliveries as deliveries_module
from holdfast.runtime import feed as feed_module
from holdfast.runtime import projector as projector_module
from holdfast.runtime.follower import FollowerPlan
from holdfast.runtime.projection_follower import ProjectionFollower

from .aggregates import TYPES
from .callers import Client
from .clock import Process
from .cluster import BEGINNING_NS
from .disk import READ_MAX, Disk, at_once
from .faults import Faults
from .reacting import ASKED, ENTERED, MIRRORED, RANG, Mirror, Totals, is_mirrored
from .read_model import ReadModel
from .readers import AlarmCaller, Starter, Subscriber, Wanted

__all__ = ["PARTS", "TUNED", "ReadSide", "parts_of"]

PARTS = ("subscription", "projection", "reaction", "reminder")

TUNED: Sequence[tuple[Any, str, Sequence[Any]]] = (
    (feed_module, "PAGES_KEPT", (1, 2, 256)),
    (feed_module, "EVENTS_KEPT", (1, 20_000)),
    (feed_module, "LINGER_S", (0.05, 5.0)),
    (deliveries_module, "IN_FLIGHT_MAX", (1, 3, 100)),
    (deliveries_module, "AHEAD_MAX", (2, 10_000)),
    (deliveries_module, "SAVE_EVERY_S", (0.01, 0.2)),
    (projector_module, "UNWRITTEN_MAX", (1, 10_000)),
)
"""What a run sets for itself, and is set back after it."""

ADDED = "simulation.added"
NUMBERS = {"simulation.written": "value", ADDED: "amount", "simulation.appended": "item"}


def parts_of(seed: int) -> tuple[str, ...]:
    """Which parts of the read side a run has: mostly none or one, since each costs about as much as all the rest."""
    chance = random.Random(f"parts of {seed}")
    return tuple(sorted(chance.sample(PARTS, chance.choice((0, 0, 0, 0, 1, 1, 1, 1, 1, 2)))))


class ReadSide:
    """Of one world. Adds itself to the clients before they start."""

    def __init__(
        self,
        seed: int,
        parts: Sequence[str],
        clients: Sequence[Client],
        aggregates: Sequence[str],
        faults: Faults,
        *,
        spread: bool,
    ) -> None:
        """`aggregates`: those of the callers. `spread`: whether it has faults of its own."""
        self.parts, self._clients, self._aggregates, self._faults = parts, clients, aggregates, faults
        self._chance = random.Random(f"read side of {seed}")
        self.model: ReadModel | None = None
        self.subscribers: list[Subscriber] = []
        self.alarm_callers: list[AlarmCaller] = []
        self.alarms: list[str] = []
        if parts and spread:
            faults.spread_to_readers(self._chance)
        if parts:
            for module, name, values in TUNED:
                setattr(module, name, self._chance.choice(values))
        for part in parts:
            getattr(self, f"_add_{part}")()

    # -- what there is -------------------------------------------------------------------------------------------

    def _add_subscription(self) -> None:
        filters = self._filters()
        for number in range(self._chance.choice((1, 2, 3))):
            client, wanted = self._chance.choice(self._clients), self._chance.choice(filters)
            subscriber = Subscriber(f"subscriber {number}", client, wanted, self._faults, self._chance)
            self.subscribers.append(subscriber)
            client.callers.append(subscriber)

    def _filters(self) -> list[Wanted]:
        category, _, id = self._chance.choice(self._aggregates).partition("/")
        other = self._chance.choice([each for each in TYPES if each != category])
        type, types = TYPES[category], {"simulation.added", "simulation.written"}
        return [
            Wanted(how={}, has=lambda _: True),
            Wanted(how={"categories": type}, has=lambda event: event.stream.category == category),
            Wanted(
                how={"categories": [category, TYPES[other]]},
                has=lambda event: event.stream.category in (category, other),
            ),
            Wanted(how={"types": sorted(types)}, has=lambda event: event.type in types),
            Wanted(how={"stream": (type, id)}, has=lambda event: event.stream == (category, id)),
        ]

    def _add_projection(self) -> None:
        model = self.model = ReadModel(self._faults)

        def make() -> ProjectionFollower:
            process = _here()
            return ProjectionFollower(Totals, "sqlite:////simulated", connect=lambda: model.connect(process))

        self._start(FollowerPlan(name="projection/Totals", code="1", make=make))

    def _add_reaction(self) -> None:
        self._start(Mirror)

    def _add_reminder(self) -> None:
        self.alarms = [f"{number}" for number in range(self._chance.choice((1, 2)))]
        for client in self._clients[:2]:
            caller = AlarmCaller(f"{client.name}.alarms", client, self.alarms, 6, self._chance)
            self.alarm_callers.append(caller)
            client.callers.append(caller)

    def _start(self, what: Any) -> None:
        for client in self._clients[:2]:
            client.callers.append(Starter(f"{client.name}.starter", client, what))

    # -- its end -------------------------------------------------------------------------------------------------

    async def come_to_rest(self) -> None:
        """Nothing repeats any more."""
        for id in self.alarms:
            caller, tries = self.alarm_callers[0], 0
            while not await caller.ask(f"rest {id}.{tries}", id, "calm_what_repeats"):
                tries += 1

    def close(self) -> None:
        """The world is over."""
        if self.model is not None:
            self.model.close()

    # -- the verdict ---------------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """What they were told and should not have been."""
        return [problem for each in (*self.subscribers, *self.alarm_callers) for problem in each.problems]

    def judge(self, disks: Sequence[Disk]) -> Counter[str]:
        """Raise AssertionError unless everybody has all that is due to them. How much that was, of each part."""
        events = [
            (partition, event)
            for partition, disk in enumerate(disks)
            for event in at_once(disk.image.read_all(limit=READ_MAX))
        ]
        return Counter({part: getattr(self, f"_judge_{part}")(disks, events) for part in self.parts})

    def _judge_subscription(self, disks: Sequence[Disk], events: list[tuple[int, Recorded]]) -> int:
        return sum(
            every_event_once(
                f"{each.name} ({', '.join(each.wanted.how) or 'everything'})",
                each.given,
                [seen_of(event, partition) for partition, event in events if each.wanted.has(event)],
            )
            for each in self.subscribers
        )

    def _judge_projection(self, disks: Sequence[Disk], events: list[tuple[int, Recorded]]) -> int:
        assert self.model is not None, "it has one"
        found: Rows = {}
        if self.model.has_table("totals"):
            found = {id: tuple(row) for id, *row in self.model.rows("SELECT id, total, events, told FROM totals")}
        return equals_fold("totals", found, (event for _, event in events), _total)

    def _judge_reaction(self, disks: Sequence[Disk], events: list[tuple[int, Recorded]]) -> int:
        wanted: dict[Effect, int] = defaultdict(int)
        found: list[Effect] = []
        for partition, event in events:
            key = key_of("mirror", partition, event.position)
            if event.type == ADDED and is_mirrored(msgspec.msgpack.decode(event.payload)["amount"]):
                wanted[key, f"book/{event.stream.id}", ENTERED] += 2
                wanted[key, f"mirror/{event.stream.id}", MIRRORED] += 1
            elif event.type == MIRRORED:
                wanted[key, "book/all", ENTERED] += 1
                found.append((event.command_id, str(event.stream), MIRRORED))
            elif event.type == ENTERED:
                context = Context.decode(event.command_id, event.recorded_at, event.metadata)
                found.append((context.causation_id, str(event.stream), ENTERED))
        return effects_once("mirror", wanted, found)

    def _judge_reminder(self, disks: Sequence[Disk], events: list[tuple[int, Recorded]]) -> int:
        streams: dict[str, list[Recorded]] = defaultdict(list)
        for _, event in events:
            if event.stream.category == "alarm":
                streams[str(event.stream)].append(event)
        told = fired_once(streams, asked=ASKED, rang=RANG, on_disk=_times_on_disk(disks[0]))
        index = {
            (str(each.stream), each.name): each.due
            for disk in disks
            for each in at_once(disk.image.due_reminders(category="alarm", until=LATEST, limit=READ_MAX))
        }
        nothing_forgotten(told, index, LATEST)  # nothing repeats any more, so nothing may be left
        self._judge_alarms(streams)
        return told.set + told.fired + told.cancelled

    def _judge_alarms(self, streams: dict[str, list[Recorded]]) -> None:
        payloads = [msgspec.msgpack.decode(event.payload) for events in streams.values() for event in events]
        tokens = [payload["token"] for payload in payloads if "token" in payload]
        assert len(tokens) == len(set(tokens)), f"alarms were set more than once: {sorted(tokens)}"
        for caller in self.alarm_callers:
            lost = set(caller.told) - set(tokens)
            assert not lost, f"{caller.name} was told that these are done, and they are not in the journal: {lost}"
            kept = set(caller.refused) & set(tokens)
            assert not kept, f"{caller.name} was told that these are not done, and they are: {kept}"

    def told(self) -> Iterator[Any]:
        """All of it, for the digest of a run."""
        for subscriber in self.subscribers:
            yield subscriber.name, subscriber.given, subscriber.position
        for caller in self.alarm_callers:
            yield caller.name, caller.told, caller.refused
        if self.model is not None and self.model.has_table("totals"):
            yield self.model.rows("SELECT * FROM totals ORDER BY id")


def _total(rows: dict[Any, Any], event: Recorded) -> None:
    """What `Totals` does."""
    field = NUMBERS.get(event.type)
    if field is not None:
        number = msgspec.msgpack.decode(event.payload)[field]
        total, events, told = rows.get(str(event.stream), (0, 0, ""))
        rows[str(event.stream)] = total + number, events + 1, f"{told},{number}" if events else str(number)


def _times_on_disk(disk: Disk) -> Callable[[str, int], int]:
    """When an event was on disk, by stream and version. What is noted of all disks stands together."""
    times: dict[tuple[str, int], int] = {}
    last: dict[str, int] = defaultdict(int)
    for each in disk.durable:  # an append at a time, with its last version
        for version in range(last[each.stream] + 1, each.version + 1):
            times[each.stream, version] = BEGINNING_NS // 1000 + int(each.time * 1e6)
        last[each.stream] = each.version
    return lambda stream, version: times[stream, version]


def _here() -> Process:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Process)
    return loop
