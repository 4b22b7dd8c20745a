"""Messages between processes: pickled on the way, slow, overtaking each other, doubled, lost; and answers likewise.

Whoever waits for an answer that will not come hears so after a while, as a call on Ray does. What was lost may have
been carried out: the answer was lost, or the request was only believed to be lost, and arrives late.
"""

import asyncio
import pickle
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from holdfast.runtime.cluster import PeerGone, WireError
from holdfast.runtime.packing import Packer
from holdfast.runtime.resident import Resident

from .clock import Clock, Process
from .faults import Faults

__all__ = ["PACKER", "Actor", "Life", "Network", "Request"]

PACKER = Packer(pickle.dumps, pickle.loads)


@dataclass(eq=False, slots=True)
class Life:
    """One process's life as an actor. `condemned`: the cluster has ended it, so nobody hears what it still says."""

    process: Process
    resident: Resident
    condemned: bool = False
    outstanding: dict["Request", None] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Actor:
    """A named resident, as the cluster knows it. A host has one life, journal and followers one after the other.

    `again`: makes the next life of one that comes again. `waiting`: requests that came while it had none. `dead`: it
    will have none any more. `forgotten`: the cluster believes so, and has told some: `told` says whom, by the name of
    the process."""

    name: str
    again: Callable[[Process], Resident] | None = None
    life: Life | None = None
    dead: bool = False
    forgotten: bool = False
    told: dict[str, bool] = field(default_factory=dict)
    waiting: list["Request"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Request:
    """A question under way. `answer`: where the asker waits for it."""

    asker: Process
    actor: Actor
    method: str
    wire: bytes
    answer: "asyncio.Future[Any]"
    doubled: bool = False
    unheard: bool = False  # the second copy of an append: what its answer says is not of the first


class Network:
    """Carries requests and answers. `watch` sees what residents answer, before it leaves; `saw` what reaches them."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        self.clock, self.faults = clock, faults
        self.messages = 0
        self.saw: Callable[[Process, str, tuple[Any, ...]], None] = lambda *_: None
        self.watch: Callable[[Life, str, tuple[Any, ...], Any], None] = lambda *_: None
        self._cut: dict[frozenset[str], int] = {}  # pairs that do not reach each other

    def cut(self, one: Process, other: Process, seconds: float) -> None:
        """For a while these two do not reach each other."""
        pair = frozenset((one.name, other.name))
        self._cut[pair] = self._cut.get(pair, 0) + 1
        self.clock.after(seconds, self._join, pair)

    def is_cut(self, one: Process, other: Process) -> bool:
        """Whether they do not reach each other now."""
        return bool(self._cut) and not self.faults.healed and self._cut.get(frozenset((one.name, other.name)), 0) > 0

    def _join(self, pair: frozenset[str]) -> None:
        self._cut[pair] -= 1

    # -- there ---------------------------------------------------------------------------------------------------

    async def ask(self, asker: Process, actor: Actor, method: str, args: tuple[Any, ...]) -> Any:
        """A request and its answer. Raises what the other side raises, `PeerGone`, `WireError`."""
        try:
            wire = pickle.dumps((method, args))
        except Exception as error:
            raise WireError(actor.name, f"{type(error).__name__}: {error}") from None
        request = Request(asker, actor, method, wire, asker.create_future())
        self._send(request)
        ok, answer = await request.answer
        if not ok:
            raise PACKER.unpack(pickle.loads(answer))
        return pickle.loads(answer)

    def _send(self, request: Request) -> None:
        faults, clock = self.faults, self.clock
        self.messages += 1
        if faults.hits("request lost"):
            self._give_up(request, "the request was lost")
            return
        travel_s = faults.travel_s()
        if faults.hits("request late"):
            self._give_up(request, "the request seemed to be lost")
            travel_s += faults.chance.uniform(0.0, 1.5)
        clock.after(travel_s, self._arrive, request)
        if faults.hits("request doubled"):
            # A second copy of an append that failed might be carried out: it only comes after one that did not.
            if request.method == "append":
                request.doubled = True
            else:
                clock.after(travel_s + faults.again_s(), self._arrive, request)

    def _arrive(self, request: Request) -> None:
        actor = request.actor
        life = actor.life
        if actor.dead or (life is not None and life.condemned) or self.believes_dead(request.asker, actor):
            self._refuse(request, "it has died")
        elif life is None:
            actor.waiting.append(request)
        elif self.is_cut(request.asker, life.process):
            self._give_up(request, "it cannot be reached")
        else:
            self.deliver(request, life)

    def deliver(self, request: Request, life: Life) -> None:
        """Hand it to the process, which takes it up in its own time."""
        life.outstanding[request] = None
        life.process.call_soon(self._take_up, request, life, context=Context())

    def _take_up(self, request: Request, life: Life) -> None:
        life.process.create_task(self._handle(request, life), context=Context())

    async def _handle(self, request: Request, life: Life) -> None:
        method, args = pickle.loads(request.wire)
        self.saw(request.asker, method, args)
        self.clock.tell("%s takes up %s%r from %s", life.process.name, method, args, request.asker.name)
        try:
            value = await life.resident.handle(method, args)
            answer = True, pickle.dumps(value)
        except asyncio.CancelledError:
            answer = False, pickle.dumps(PACKER.pack(PeerGone(request.actor.name, "the request was cancelled")))
        except Exception as error:
            self.clock.tell("%s answers %s%r: %r", life.process.name, method, args, error)
            answer = False, pickle.dumps(PACKER.pack(error))
        else:
            if not life.process.dead:
                self.clock.tell("%s answers %s%r: %r", life.process.name, method, args, value)
                self.watch(life, method, args, value)
        self._answer(request, life, answer)

    # -- and back ------------------------------------------------------------------------------------------------

    def _answer(self, request: Request, life: Life, answer: tuple[bool, bytes]) -> None:
        if life.process.dead or life.condemned or life.outstanding.pop(request, 0) == 0:
            return
        if request.unheard:
            return
        if self.believes_dead(request.asker, request.actor):
            self._refuse(request, "it has died")
            return
        self.messages += 1
        if request.doubled and answer[0]:
            second = Request(request.asker, request.actor, request.method, request.wire, request.answer, unheard=True)
            self.clock.after(self.faults.again_s(), self._arrive, second)
        if self.faults.hits("answer lost") or self.is_cut(request.asker, life.process):
            self._give_up(request, "the answer was lost")
        else:
            self.clock.after(self.faults.travel_s(), self._land, request, answer)

    def _land(self, request: Request, answer: tuple[bool, bytes]) -> None:
        if request.unheard:
            return
        request.asker.call_soon(_settle, request.answer, answer, context=Context())

    def believes_dead(self, asker: Process, actor: Actor) -> bool:
        """Whether the cluster has told this process that a living host has died."""
        if not actor.forgotten:
            return False
        return actor.told.setdefault(asker.name, self.faults.chance.random() < 0.5)

    def lost_touch(self, life: Life) -> None:
        """It answers nothing any more: all who wait for it hear so."""
        outstanding, life.outstanding = life.outstanding, {}
        for request in outstanding:
            self._refuse(request, "it has died")

    def _refuse(self, request: Request, why: str) -> None:
        self.clock.after(self.faults.notice_s(), self._land, request, _gone(request, why))

    def _give_up(self, request: Request, why: str) -> None:
        self.clock.tell("%s to %s: %s", request.method, request.actor.name, why)
        self.clock.after(self.faults.chance.uniform(0.02, 1.0), self._land, request, _gone(request, why))


def _gone(request: Request, why: str) -> tuple[bool, bytes]:
    return False, pickle.dumps(PACKER.pack(PeerGone(request.actor.name, why)))


def _settle(future: "asyncio.Future[Any]", answer: tuple[bool, bytes]) -> None:
    if not future.done():
        future.set_result(answer)
