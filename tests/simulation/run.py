"""One run: a world made of a seed, what happens in it, and the verdict.

    outcome = simulate(4711)        raises Failure, which says how to replay it

Whatever production code would draw from the machine it runs on (names of incarnations, jitter, clocks, the journal's
file) is drawn from the seed for as long as the run takes.
"""

import asyncio
import hashlib
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import msgspec
from checkers import Operation, by_aggregate, in_order_of_time, judge_history, merged, replies_are_replay
from checkers.models import MODELS
from checkers.stream import numbered

from holdfast.actors.calls import Kind
from holdfast.actors.definition import definition_of
from holdfast.actors.limits import HostLimits
from holdfast.journal.errors import HoldfastError
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Recorded, StreamId
from holdfast.journal.wire import decode_appends
from holdfast.runtime import Config, Dedicated, Sharded
from holdfast.runtime import cluster as cluster_module
from holdfast.runtime import resident as resident_module
from holdfast.runtime.cluster import JournalSpec
from holdfast.runtime.placement import Placements

from .aggregates import TYPES
from .callers import Caller, Client, Note, Work
from .clock import Clock, Process, Stuck
from .cluster import Control
from .disk import READ_MAX, Disk, SimulatedStore, at_once
from .faults import AT_TIMES, READ_AT_TIMES, Faults
from .network import PACKER, Actor, Life, Network
from .read_side import TUNED, ReadSide, parts_of

__all__ = ["Failure", "Outcome", "attempt", "simulate"]

UNTIL_S, STEPS_MAX = 300.0, 400_000
SETTLED_S = 15.0
"""How long after the end of all trouble its last consequences may be felt."""
RESTED_S, LINGER_S = 120.0, 0.5
"""How long followers may take to be done when nothing more comes; and how long they are looked at when they are."""
LAST_TIMEOUT_S = 30.0
"""How long after the end of all trouble an aggregate may take to answer. (It waits for what still waits for others.)"""


class Failure(AssertionError):
    """A run that went wrong, and how to see it again."""

    def __init__(
        self,
        seed: int,
        problem: str,
        focus: tuple[str, ...] = (),
        partitions: int = 1,
        parts: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(seed, problem, focus, partitions, parts)
        self.seed, self.problem, self.focus, self.partitions, self.parts = seed, problem, focus, partitions, parts

    def __str__(self) -> str:
        how = "".join(f" --focus '{kind}'" for kind in self.focus)
        how += f" --partitions {self.partitions}" if self.partitions > 1 else ""
        how += "" if self.parts is None else "".join(f" --part {part}" for part in self.parts or ("none",))
        return f"seed {self.seed}: {self.problem}\nreplay: python -m tests.simulation --seed {self.seed}{how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run that went right. `digest`: of everything that happened in it."""

    seed: int
    digest: str
    commands: int
    queries: int
    done: int
    events: int
    seconds: float
    steps: int
    messages: int
    faults: Counter[str]
    judged: Counter[str]
    """What each part of the read side was judged by: events given, rows, effects, reminders."""


def simulate(
    seed: int,
    tell: Callable[[str], None] | None = None,
    focus: Sequence[str] = (),
    partitions: int = 1,
    parts: Sequence[str] | None = None,
) -> Outcome:
    """Make the world, let it run, judge it. Raises `Failure`. `tell`: hears everything that happens. `focus`: the
    kinds of faults that it has, instead of those that the seed would choose. `partitions`: of its journal. `parts`: of
    the read side that it has, likewise."""
    with drawn_from(seed) as problems:
        world = World(seed, problems, focus, partitions, parts_of(seed) if parts is None else parts)
        world.clock.listener = tell
        try:
            world.play()
            world.judge()
            return world.outcome()
        except AssertionError as error:
            problem, of = f"{type(error).__name__}: {error}", None if parts is None else tuple(parts)
            raise Failure(seed, problem, tuple(focus), partitions, of) from error
        finally:
            world.clock.end()
            world.read_side.close()


def attempt(
    seed: int, focus: tuple[str, ...] = (), partitions: int = 1, parts: tuple[str, ...] | None = None
) -> Outcome | Failure:
    """The same, as something that other processes can be sent."""
    try:
        return simulate(seed, None, focus, partitions, parts)
    except Failure as failure:
        return Failure(*failure.args)  # without its traceback


class World:
    """All of one run."""

    def __init__(
        self,
        seed: int,
        problems: list[str],
        focus: Sequence[str] = (),
        partitions: int = 1,
        parts: Sequence[str] = (),
    ) -> None:
        chance = self.chance = random.Random(seed)
        self.seed = seed
        self.clock = Clock(chance)
        self.clock.problems = problems
        self.faults = Faults(chance, focus)
        self.disk = Disk(self.faults)
        self.disks = [self.disk, *(Disk(self.faults, self.disk) for _ in range(1, partitions))]
        self.network = Network(self.clock, self.faults)
        self.network.saw, self.network.watch = self._note_request, self._check_answer
        self._asked: dict[tuple[str, int], StreamId] = {}
        resident_module.open_store = lambda url, partition: SimulatedStore(self.disks[partition])
        self.step_s = chance.choice((0.00001, 0.00001, 0.0001))
        spec = JournalSpec(namespace="simulation", url="sqlite:////simulated.db", volatile=False, partitions=partitions)
        self.control = Control(self.clock, self.network, self.faults, spec, self.step_s)
        self.how = spec, Placements(self._placement(), {"list": self._placement()}), self._config()
        aggregates = [f"{chance.choice(list(TYPES))}/{n}" for n in range(chance.choice((1, 1, 2, 3, 5)))]
        self.work = Work(chance, self.faults, aggregates)
        self.clients = [self._client(f"client {n}") for n in range(chance.choice((1, 2, 2, 3)))]
        self.healed_at = 0.0
        self.heals_at = chance.choice((1.0, 2.0, 4.0))
        self.read_side = ReadSide(seed, parts, self.clients, aggregates, self.faults, spread=not focus)
        self.judged: Counter[str] = Counter()

    def _client(self, name: str) -> Client:
        client, chance = Client(name, self.control, self.work, self.how), self.chance
        for n in range(chance.randint(1, 3)):
            pause_s = chance.choice((0.001, 0.05, 0.4))
            client.callers.append(Caller(f"{name}.{n}", client, chance.randint(3, 15), pause_s))
        return client

    def _placement(self) -> Any:
        chance = self.chance
        live_max, idle_s = chance.choice((1, 2, 100)), chance.choice((None, 0.05, 0.5))
        if chance.random() < 0.35:
            return Dedicated(live_max=live_max, idle_s=idle_s)
        return Sharded(chance.randint(1, 2), live_max=live_max, idle_s=idle_s)

    def _config(self) -> Config:
        pick = self.chance.choice
        return Config(
            timeout_s=pick((1.0, 4.0, 30.0)),
            batch_max=pick((1, 2, 500)),
            batch_min=pick((1, 2, 100)),
            exchanges_max=pick((1, 2, 4)),
            suspect_s=pick((0.05, 0.3, 1.0)),
            paused_s=pick((0.05, 0.3)),
            journal_patience_s=pick((0.1, 0.3, 1.5, 4.0)),
            link_idle_s=pick((0.2, 60.0)),
            host=HostLimits(
                idle_s=pick((0.05, 0.5, 300.0)),
                mailbox_max=pick((2, 10_000, 10_000)),
                inbox_max=pick((3, 100_000, 100_000)),
                ahead_bytes_max=pick((1, 200, 8 << 20)),
                hydrations_max=pick((1, 256)),
                page=pick((1, 3, 1000)),
                linger_s=pick((0.0001, 0.002, 0.02)),
                session_idle_s=pick((2.0, 120.0)),
            ),
        )

    # -- what happens --------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Clients call while things go wrong; then nothing goes wrong any more, and everybody must be answered."""
        for client in self.clients:
            client.start(self.step_s)
        for kind in (*AT_TIMES, *READ_AT_TIMES):
            if kind in self.faults.rates:
                self._strike_later(kind)
        self.clock.at(self.heals_at, self._heal)
        callers = [caller for client in self.clients for caller in client.callers]
        try:
            self.clock.run_until(lambda: all(caller.done for caller in callers), UNTIL_S, STEPS_MAX)
            self._heal()
            self._read_everything()
            self._come_to_rest()
        except Stuck as stuck:
            waiting = [f"{n.aggregate}.{n.method} {n.token}" for n in self.work.notes if n.returned is None]
            raise Stuck(f"{stuck}; without an answer: {waiting[:8]}; {self.clock.problems[:3]}") from None

    def _heal(self) -> None:
        if not self.faults.healed:
            self.healed_at = self.clock.now
        self.faults.heal()
        for life in self.control.condemned:
            life.process.kill()
        for process in self.clock.processes:
            process.spare()
            if process.stopped and not process.dead:
                process.go_on()

    def _read_everything(self) -> None:
        """Every aggregate still takes a command, and shows it."""
        newcomer = Client("newcomer", self.control, self.work, self.how)
        newcomer.callers.append(Caller("newcomer.0", newcomer, 0, 0.01))
        newcomer.start(self.step_s)
        self.clock.run_until(lambda: newcomer.callers[0].done, UNTIL_S, STEPS_MAX)

        async def all_of_it(caller: Caller) -> None:
            for aggregate in self.work.aggregates:
                for make in (self.work.plain_write, self.work.sure_read):
                    note = await self._answered(caller, aggregate, make)
                    if note.outcome != "done":
                        self.work.problems.append(f"{aggregate} is not to be had, though nothing is wrong: {note}")

        for client in (newcomer, *self.clients):
            if client.process is not None and not client.process.dead:
                task = client.process.create_task(all_of_it(client.callers[0]), context=Context())
                self.clock.run_until(task.done, UNTIL_S, STEPS_MAX)

    def _come_to_rest(self) -> None:
        """Whoever lives from events has time to be done with them, and then to do something too much."""
        if self.read_side.parts:
            process = self.clients[0].process
            assert process is not None, "all have started"
            task = process.create_task(self.read_side.come_to_rest(), context=Context())
            self.clock.run_until(task.done, UNTIL_S, STEPS_MAX)
            task.result()
            give_up, pause_s = self.clock.now + RESTED_S, 0.1
            while not self._is_at_rest() and self.clock.now < give_up:
                self._pass(pause_s)
                pause_s = min(2 * pause_s, 5.0)
            self._pass(LINGER_S)

    def _is_at_rest(self) -> bool:
        try:
            self.read_side.judge(self.disks)
        except AssertionError:
            return False
        return True

    def _pass(self, seconds: float) -> None:
        over: list[None] = []
        self.clock.after(seconds, over.append, None)
        self.clock.run_until(lambda: bool(over), UNTIL_S + RESTED_S, STEPS_MAX)

    async def _answered(self, caller: Caller, aggregate: str, make: Callable[[str, float, str], Note]) -> Note:
        """Refused it may be for a while, as long as something is full or on its way up."""
        give_up = self.clock.now + SETTLED_S
        while True:
            note = make(caller.client.name, self.clock.now, aggregate)
            note.timeout_s = LAST_TIMEOUT_S
            await caller.carry_out(note)
            if note.outcome != "refused" or self.clock.now > give_up:
                return note
            await asyncio.sleep(0.2)

    # -- faults that come now and then ---------------------------------------------------------------------------

    def _strike_later(self, kind: str) -> None:
        self.clock.after(self.chance.expovariate(self.faults.rates[kind]), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if not self.faults.healed:
            if self._did(kind):
                self.faults.counted[kind] += 1
                self.clock.tell(kind)
            self._strike_later(kind)

    def _did(self, kind: str) -> bool:
        what, _, how = kind.rpartition(" ")
        if what == "follower":
            lives = [life for life in self.control.following if not life.process.dead]
            return bool(lives) and self._strike_named(self.control.followers, self.chance.choice(lives), how)
        if what == "host":
            lives = [life for life in self.control.lives if not life.process.dead]
            return bool(lives) and self._strike_named(self.control.hosts, self.chance.choice(lives), how)
        if what == "journal":
            journals = self.control.journals
            life = (self.chance.choice(journals) if len(journals) > 1 else journals[0]).life
            return life is not None and self._strike_process(life.process, how)
        if what == "client":
            return self._strike_client(self.chance.choice(self.clients), how)
        if kind == "aggregate sent away":
            return self._send_away()
        if kind == "partition":
            return self._partition()
        self.faults.disk_mode = kind
        self.clock.after(self.chance.uniform(0.05, 0.8), self._mend_disk)
        return True

    def _mend_disk(self) -> None:
        self.faults.disk_mode = ""

    def _strike_named(self, named: Mapping[str, Actor], life: Life, how: str) -> bool:
        """A host or a follower, which has a name to lose."""
        if how in ("killed", "stopped"):
            return self._strike_process(life.process, how)
        actor = next((a for a in named.values() if a.life is life), None)
        if actor is None:
            return False
        if how == "replaced":
            self.control.forget(actor)
        else:
            self._tell(life, "retire")
        return True

    def _strike_process(self, process: Process, how: str) -> bool:
        if process.dead or process.stopped:
            return False
        if how == "stopped":
            process.stop_process()
            self.clock.after(self.chance.choice((0.1, 1.0, 3.0)) * self.chance.random(), process.go_on)
        elif self.chance.random() < 0.5:
            process.kill()
        else:
            process.kill_after(self.chance.randint(1, 60))
        return True

    def _strike_client(self, client: Client, how: str) -> bool:
        process = client.process
        if process is None or all(caller.done for caller in client.callers) or process.dead:
            return False
        if how == "killed" and not process.on_death:
            process.on_death.append(lambda: self.clock.after(self.chance.uniform(0.0, 0.5), client.start, self.step_s))
        return self._strike_process(process, how)

    def _send_away(self) -> bool:
        aggregate = self.chance.choice(self.work.aggregates)
        category, _, id = aggregate.partition("/")
        owner = self.how[1].of(category).owner(category, id)
        actor = self.control.hosts.get(owner)
        if actor is None or actor.life is None or actor.life.process.dead:
            return False
        self._tell(actor.life, "passivate", id)
        return True

    def _tell(self, life: Life, method: str, *args: Any) -> None:
        """Have a resident do something that nobody waits for."""

        async def handled() -> None:
            with suppress(HoldfastError):
                await life.resident.handle(method, args)

        life.process.create_task(handled(), context=Context())

    def _partition(self) -> bool:
        alive = [process for process in self.clock.processes if not process.dead]
        if len(alive) < 2:
            return False
        one, other = self.chance.sample(alive, 2)
        self.network.cut(one, other, self.chance.uniform(0.05, 2.0))
        return True

    # -- what is looked at while it happens ----------------------------------------------------------------------

    def _note_request(self, asker: Process, method: str, args: tuple[Any, ...]) -> None:
        if method == "exchange":
            session, _, calls = args
            for call in calls:
                self._asked[session, call[0]] = call[1]
        elif method == "append":
            for append in decode_appends(args[0]):
                self.disk.senders.setdefault(append, asker.name)

    def _check_answer(self, life: Life, method: str, args: tuple[Any, ...], value: Any) -> None:
        """Nothing leaves a host that is not on disk."""
        if method in ("exchange", "collect") and value:
            category = life.resident.target.definition.category
            if category not in TYPES:  # whose answers tell no version
                return
            for number, kind, answer in value:
                if kind == Kind.DONE:
                    version = msgspec.msgpack.decode(answer)[0]
                elif kind == Kind.ANSWER:
                    version = PACKER.unpack(answer)[0]
                else:
                    continue
                stream = StreamId(category, self._asked.get((args[0], number), ""))
                durable = self.disk.versions.get(stream, 0)
                if version > durable:
                    problem = f"{stream}: {Kind(kind).name} of version {version} left its host, durable was {durable}"
                    self.disk.problems.append(problem)

    # -- the verdict ---------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Raise AssertionError unless all was right."""
        problems = [*self.disk.problems, *self.work.problems, *self.clock.problems, *self.read_side.problems]
        assert not problems, f"{len(problems)} problems: " + "; ".join(problems[:3])
        recorded = self._recorded()
        notes = [*self.work.notes, *self._inner_notes()]
        history = [note.operation() for note in notes if note.strong]
        judge_history(history, recorded, durable=self.disk.durable, written=self.disk.written, load=self._load_twice)
        self._judge_weak(notes, recorded)
        self._judge_order(recorded)
        self._judge_inner(recorded)
        self._judge_liveness()
        self.judged = self.read_side.judge(self.disks)

    def _recorded(self) -> list[Recorded]:
        """All events of the clients' aggregates. Each partition's positions are judged here, and then made such that
        they run over all of them."""
        recorded: list[Recorded] = []
        for disk in self.disks:
            part: list[Recorded] = at_once(disk.image.read_all(limit=READ_MAX))
            numbered(part)
            recorded += [each for each in part if each.stream.category in TYPES]
        return [msgspec.structs.replace(each, position=at) for at, each in enumerate(recorded, 1)]

    def _disk_of(self, stream: StreamId) -> Disk:
        return self.disks[partition_of(stream, len(self.disks))]

    def _judge_weak(self, notes: list[Note], recorded: list[Recorded]) -> None:
        """Plain queries may be late, but they show what was, and to one client never less than before."""
        operations = merged([note.operation() for note in notes])
        streams = _tokens_by_stream(recorded)
        for aggregate, mine in by_aggregate(operations).items():
            tokens = streams.get(aggregate, [])
            replies_are_replay(mine, tokens, MODELS[aggregate.partition("/")[0]])
            versions = {token: version for version, token in enumerate(tokens, 1)}
            clients: dict[str, list[Operation]] = defaultdict(list)
            for each in mine:
                clients[each.client].append(each)
            for theirs in clients.values():
                in_order_of_time(theirs, versions)

    def _judge_order(self, recorded: list[Recorded]) -> None:
        """Where nothing failed, calls that one client made at once were carried out in their order. (A full queue
        fails some of them, and so does a host that gives up on the journal: those come later than their neighbours.)"""
        config = self.how[2]
        is_tight = min(config.host.inbox_max, config.host.mailbox_max) < 99 or config.journal_patience_s < 1.0
        if is_tight or self.faults.counted.keys() - {"message slow", "disk slow"}:
            return
        at = {_token(event): event.version for event in recorded}
        for notes in self.work.together:
            versions = [at[note.token] for note in notes if note.token in at]
            assert versions == sorted(versions), f"{notes[0].aggregate}: sent in order, done in this one: {versions}"

    def _judge_inner(self, recorded: list[Recorded]) -> None:
        """What a command sends to another aggregate is done when the command is."""
        there = {_token(event) for event in recorded}
        for note in self.work.notes:
            if note.token in self.work.inner and note.outcome == "done":
                assert self.work.inner[note.token] in there, f"{note.token} is done, what it sent is not"

    def _judge_liveness(self) -> None:
        """A call with time left when all trouble was over for long is answered."""
        for note in self.work.notes:
            late = note.returned is None and note.deadline is not None and note.deadline - self.healed_at > SETTLED_S
            assert not late, f"no answer, though nothing was wrong for the last {SETTLED_S} s: {note}"

    def _inner_notes(self) -> Iterator[Note]:
        for note in list(self.work.notes):
            if note.token in self.work.inner:
                there, token = f"list/{note.extra[0]}", note.extra[1]
                yield Note(note.client, there, "command", "append", "append", note.argument, (), token, note.called)

    def _load_twice(self, stream: str) -> tuple[Any, Any]:
        """State by the newest snapshot and what came after it, and by all events."""
        category, _, id = stream.partition("/")
        definition = definition_of(TYPES[category])
        name = StreamId(category, id)
        image = self._disk_of(name).image
        events = at_once(image.read_stream(name, limit=READ_MAX))
        full = definition.new(id)
        states: dict[int, Any] = {}
        snapshots = {s.version: s for s in at_once(image.list_snapshots(name))}
        for event in events:
            definition.replay(full, [event])
            if event.version in snapshots:
                states[event.version] = _state(definition, full)
        kept = {}
        for version, snapshot in snapshots.items():
            copy = definition.new(id)
            definition.restore(copy, snapshot.payload, version)
            kept[version] = _state(definition, copy)
        return kept, states

    def outcome(self) -> Outcome:
        """What happened, counted."""
        notes = self.work.notes
        return Outcome(
            seed=self.seed,
            digest=self._digest(),
            commands=sum(note.kind == "command" for note in notes),
            queries=sum(note.kind == "query" for note in notes),
            done=sum(note.outcome == "done" for note in notes),
            events=sum(at_once(disk.image.head()) for disk in self.disks),
            seconds=self.clock.now,
            steps=self.clock.steps,
            messages=self.network.messages,
            faults=self.faults.counted,
            judged=self.judged,
        )

    def _digest(self) -> str:
        told = hashlib.blake2b(digest_size=12)
        for note in self.work.notes:
            told.update(repr(note).encode())
        for entry in (entry for disk in self.disks for entry in disk.log):
            told.update(repr(entry).encode())
        for each in self.read_side.told():
            told.update(repr(each).encode())
        told.update(repr((self.clock.now, self.clock.steps, self.network.messages)).encode())
        return told.hexdigest()


def _state(definition: Any, instance: Any) -> Any:
    return definition.encode_state(instance)


def _token(event: Recorded) -> str:
    return str(msgspec.msgpack.decode(event.payload)["token"])


def _tokens_by_stream(recorded: list[Recorded]) -> dict[str, list[str]]:
    streams: dict[str, list[str]] = defaultdict(list)
    for event in recorded:
        streams[str(event.stream)].append(_token(event))
    return streams


# -- the machine, drawn from the seed -----------------------------------------------------------------------------


class _Names:
    """In place of `secrets`: incarnations are numbered."""

    def __init__(self) -> None:
        self._count = 0

    def token_hex(self, size: int) -> str:
        self._count += 1
        return f"{self._count:0{2 * size}x}"


class _Bugs(logging.Handler):
    """What production code logs as an error is a bug that it has caught."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._problems.append(f"{record.getMessage()}: {error!r}")


@contextmanager
def drawn_from(seed: int) -> Iterator[list[str]]:
    """Nothing of the machine reaches a run. Gives the list in which bugs that production code logs appear."""
    problems: list[str] = []
    before = cluster_module.secrets, resident_module.open_store, random.getstate()
    tuned = [(module, name, getattr(module, name)) for module, name, _ in TUNED]
    log, bugs = logging.getLogger("holdfast"), _Bugs(problems)
    level, propagate = log.level, log.propagate
    random.seed(seed)  # the jitter of links and journal clients
    cluster_module.secrets = _Names()  # type: ignore[assignment]
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(bugs)
    try:
        yield problems
    finally:
        log.removeHandler(bugs)
        log.setLevel(level)
        log.propagate = propagate
        cluster_module.secrets, resident_module.open_store = before[0], before[1]
        for module, name, value in tuned:
            setattr(module, name, value)
        random.setstate(before[2])
