"""Clients and their callers. A client is a process with a runtime open in it; callers are what runs there.

A caller asks for one thing after another, or for several at once, and notes what it was told. When its client is
killed and comes back, it goes on: a command under an idempotency key it sends again, of any other it will never know.
"""

import asyncio
import random
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, Literal

from checkers import Operation

from holdfast.actors import Rejected
from holdfast.actors.errors import DeadlineExceeded, Overloaded
from holdfast.journal.errors import HoldfastError, JournalBusy, JournalFailed, JournalLocked, JournalUnavailable
from holdfast.runtime import Config, Runtime
from holdfast.runtime.cluster import JournalSpec, PeerGone
from holdfast.runtime.placement import Placements
from holdfast.runtime.resident import journal_over, ways_to

from .aggregates import TYPES, WRITES
from .clock import Process
from .cluster import WALL, Control, SimulatedCluster
from .faults import Faults

__all__ = ["Caller", "Client", "Note", "Work"]

TRIES_MAX = 5
REFUSALS = (Rejected, Overloaded, JournalFailed, JournalBusy, JournalLocked, JournalUnavailable, PeerGone)
"""What a caller may be told of a command that was not done. Anything else is a bug."""


@dataclass(slots=True)
class Note:
    """One call, as it is made and answered. `strong`: its answer must be of the newest state; plain queries, and
    commands without events, may be answered by a host that does not know yet that it was replaced."""

    client: str
    aggregate: str
    kind: Literal["command", "query"]
    method: str
    name: str
    argument: Any
    extra: tuple[Any, ...]
    token: str
    called: float
    keyed: bool = False
    timeout_s: float | None = None
    strong: bool = True
    deadline: float | None = None  # of its last try, if nothing shortened that
    doubt: bool = False  # an earlier try may have been carried out
    returned: float | None = None
    outcome: Literal["done", "refused", "unknown"] = "unknown"
    value: Any = None

    def operation(self) -> Operation:
        """As the judges want it."""
        return Operation(
            client=self.client,
            aggregate=self.aggregate,
            kind=self.kind,
            name=self.name,
            argument=self.argument,
            token=self.token,
            called=self.called,
            returned=self.returned,
            outcome=self.outcome,
            value=self.value,
        )


class Work:
    """What all callers of a run share. `notes`: the history. `together`: calls that were made in one go, in order.
    `inner`: commands that another command sent, by the token of that one. The shares of questions, of commands under
    a key, of commands other than plain ones, and of several calls at once, are the run's own."""

    def __init__(self, chance: random.Random, faults: Faults, aggregates: list[str]) -> None:
        self.chance, self.faults, self.aggregates = chance, faults, aggregates
        self.notes: list[Note] = []
        self.together: list[list[Note]] = []
        self.inner: dict[str, str] = {}
        self.problems: list[str] = []
        self._tokens = 0
        self.questions, self.by_key, self.other_ways, self.at_once = (
            chance.choice((0.1, 0.3, 0.6)),
            chance.choice((0.1, 0.4, 0.9)),
            chance.choice((0.05, 0.25, 0.6)),
            chance.choice((0.0, 0.2, 0.6)),
        )

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens}"

    def any_note(self, client: str, now: float, aggregate: str = "") -> Note:
        """A new call of any sort."""
        chance = self.chance
        aggregate = aggregate or chance.choice(self.aggregates)
        category = aggregate.partition("/")[0]
        if chance.random() < self.questions:
            return self._question(client, now, aggregate, chance)
        write, argument, token = WRITES[category], chance.randrange(100), self.token()
        method, extra = write, ()
        if chance.random() < self.other_ways:
            method, extra = chance.choice(self._ways(category, aggregate, token))
        keyed = chance.random() < self.by_key
        return self._note(Note(client, aggregate, "command", method, write, argument, extra, token, now, keyed=keyed))

    def same_again(self, note: Note, now: float) -> Note:
        """The same command, under the same key."""
        again = replace(note, called=now, returned=None, outcome="unknown", value=None, doubt=False)
        return self._note(again)

    def plain_write(self, client: str, now: float, aggregate: str) -> Note:
        """A new command of the simplest sort."""
        write = WRITES[aggregate.partition("/")[0]]
        argument = self.chance.randrange(100)
        return self._note(Note(client, aggregate, "command", write, write, argument, (), self.token(), now))

    def sure_read(self, client: str, now: float, aggregate: str) -> Note:
        """A query for the newest state."""
        return self._note(Note(client, aggregate, "query", "read", "read", None, (), "", now))

    def _note(self, note: Note) -> Note:
        self.notes.append(note)
        return note

    def _question(self, client: str, now: float, aggregate: str, chance: random.Random) -> Note:
        method = chance.choice(("read", "read", "read", "read", "look", "read_slowly"))
        extra = (chance.uniform(0.0, 0.05),) if method == "read_slowly" else ()
        strong = method != "look" and chance.random() < 0.5
        keyed = method == "look" and chance.random() < 0.5
        note = Note(client, aggregate, "query", method, "read", None, extra, "", now, keyed=keyed, strong=strong)
        return self._note(note)

    def _ways(self, category: str, aggregate: str, token: str) -> list[tuple[str, tuple[Any, ...]]]:
        """The ways in which this type's command can go, other than the plain one."""
        wait_s = self.chance.uniform(0.0, 0.1)
        if category == "register":
            return [("write_slowly", (wait_s,)), ("write_and_refuse", ())]
        if category == "list":
            return [("append_slowly", (wait_s,)), ("append_and_refuse", ())]
        lists = [each for each in self.aggregates if each.startswith("list/")]
        ways: list[tuple[str, tuple[Any, ...]]] = [("add_slowly", (wait_s,)), ("add_and_refuse", (wait_s,))]
        if lists:
            there = self.chance.choice(lists).partition("/")[2]
            ways += [("add_here_and_there", (there, f"{token}/inner"))] * 4
        return ways


class Client:
    """A process with a runtime, which may be killed and started again. `name` is of all its lives."""

    def __init__(self, name: str, control: Control, work: Work, how: tuple[JournalSpec, Placements, Config]) -> None:
        self.name, self.control, self.work = name, control, work
        self._how = how
        self.callers: list[Caller] = []
        self.process: Process | None = None
        self.runtime: Runtime | None = None
        self._lives = 0

    def start(self, step_s: float) -> None:
        """Begin a life."""
        self._lives += 1
        self.process = self.control.clock.process(f"{self.name}:{self._lives}", step_s)
        self.process.call_soon(self._come_up, context=Context())

    def _come_up(self) -> None:
        assert self.process is not None
        spec, placements, config = self._how
        cluster = SimulatedCluster(self.control, self.process)
        journal = journal_over(ways_to(cluster, spec, config), config)
        self.runtime = Runtime(cluster, journal, spec, placements, config, leave=None, clock=WALL)
        for caller in self.callers:
            self.process.create_task(caller.live(), context=Context())

    @property
    def timeout_s(self) -> float:
        """How long its calls may take."""
        return self._how[2].timeout_s

    def reference(self, aggregate: str, **how: Any) -> Any:
        """A reference to an aggregate."""
        assert self.runtime is not None
        category, _, id = aggregate.partition("/")
        return self.runtime.get(TYPES[category], id, **how)


class Caller:
    """Makes so many calls, whatever becomes of its client meanwhile."""

    def __init__(self, name: str, client: Client, calls: int, pause_s: float) -> None:
        self.name, self.client, self.work = name, client, client.work
        self.calls_left, self._pause_s = calls, pause_s
        self._current: list[Note] = []
        self._done_by_key: list[Note] = []
        self.done = False

    async def live(self) -> None:
        """One life of its client, from where the last one ended."""
        for note in self._current:
            note.doubt, note.deadline = True, None if note.outcome == "unknown" else note.deadline
            if note.keyed and note.outcome == "unknown":
                await self.carry_out(note)
        self._current = []
        while self.calls_left > 0:
            await asyncio.sleep(self._pause_s * self.work.chance.random())
            await self._some()
        self.done = True

    async def _some(self) -> None:
        """One call, or several at once to one aggregate."""
        work, now, client = self.work, self._now(), self.client.name
        if work.chance.random() >= work.at_once:
            self.calls_left -= 1
            if self._done_by_key and work.chance.random() < 0.2:
                note = work.same_again(work.chance.choice(self._done_by_key), now)
            else:
                note = work.any_note(client, now)
            self._current = [note]
            await self.carry_out(note)
            if note.keyed and note.kind == "command" and note.outcome == "done":
                self._done_by_key.append(note)
        else:
            aggregate, count = work.chance.choice(work.aggregates), work.chance.randint(2, 6)
            self.calls_left -= count
            self._current = [work.plain_write(client, now, aggregate) for _ in range(count)]
            work.together.append(self._current)
            await asyncio.gather(*map(self.carry_out, self._current))
        self._current = []

    async def carry_out(self, note: Note) -> None:
        """Make a call and note what it came to. One under a key is made again as long as that is unknown."""
        for _ in range(TRIES_MAX if note.keyed else 1):
            unknown = await self._try(note)
            if not unknown:
                return
            note.doubt = True
            await asyncio.sleep(self._pause_s * self.work.chance.random())

    async def _try(self, note: Note) -> bool:
        """Once. Whether it is unknown what became of it."""
        try:
            value = await self._call(note)
        except DeadlineExceeded as error:
            if error.outcome == DeadlineExceeded.UNKNOWN:
                return True
        except TimeoutError:  # its caller would not wait
            return True
        except REFUSALS:
            pass
        except HoldfastError as error:
            self.work.problems.append(f"{self.name}: {note.aggregate}.{note.method} raised {error!r}")
        else:
            note.outcome, note.value, note.returned = "done", value, self._now()
            return False
        note.deadline = None
        note.outcome = "unknown" if note.doubt else "refused"
        note.returned = None if note.doubt else self._now()
        return False

    async def _call(self, note: Note) -> Any:
        how: dict[str, Any] = {}
        if note.keyed:
            how["idempotency_key"] = note.token or f"look {note.called} of {self.name}"
        if note.kind == "query" and note.strong:
            how["linearizable"] = True
        faults, chance = self.work.faults, self.work.chance
        if note.timeout_s is not None:
            how["timeout_s"] = note.timeout_s
        short = faults.hits("short deadline")
        if short:
            how["timeout_s"] = chance.uniform(0.005, 0.3)
        reference = self.client.reference(note.aggregate, **how)
        given = (note.token, note.argument) if note.kind == "command" else ()
        patience_s = chance.uniform(0.001, 0.2) if faults.hits("caller cancelled") else None
        if note.method == "add_here_and_there":
            self.work.inner[note.token] = note.extra[1]
        whole_s = note.timeout_s or self.client.timeout_s
        note.deadline = None if short or patience_s is not None else self._now() + whole_s
        async with asyncio.timeout(patience_s):
            return await getattr(reference, note.method)(*given, *note.extra)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
