"""The cluster: who has which name, who is started, who is ended, and who only is believed to be.

It behaves as Ray does, at its worst. A name has one holder, and is free the moment its holder is ended; that one may
be slow to die, and do what it was asked, unheard, while its successor works. A host may also lose its name without
being told, and go on with the clients that have it: two hosts then live under one name. The journal's actor starts
again by itself, with the same handle, on the disk that the one before it may not have let go of yet. So does a
follower, and may find that the life before it still works; one that lost its name does not come again.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.clock import MachineClock
from holdfast.journal.errors import HoldfastError
from holdfast.runtime.cluster import FollowerSpec, HostSpec, JournalSpec, PeerGone, journal_name
from holdfast.runtime.config import Config
from holdfast.runtime.follower_resident import FollowerResident
from holdfast.runtime.resident import HostResident, JournalResident, Resident

from .clock import Clock, Process
from .faults import Faults
from .network import PACKER, Actor, Life, Network

__all__ = ["BEGINNING_NS", "WALL", "Control", "SimulatedCluster", "SimulatedPeer", "WallClock"]

BEGINNING_NS = 1_700_000_000 * 10**9  # when the world began, by its wall clocks


class WallClock(MachineClock):
    """What reminders go by: the world's time, in whichever process asks."""

    def now_us(self) -> int:
        return BEGINNING_NS // 1000 + int(_here().time() * 1e6)


WALL = WallClock()


class Control:
    """The part of the cluster that there is one of: the table of names, and the power over processes."""

    def __init__(self, clock: Clock, network: Network, faults: Faults, spec: JournalSpec, step_s: float) -> None:
        self.clock, self.network, self.faults, self._step_s = clock, network, faults, step_s
        self.hosts: dict[str, Actor] = {}
        self.followers: dict[str, Actor] = {}
        self.lives: list[Life] = []  # of hosts, those without a name included
        self.following: list[Life] = []  # of followers, likewise
        self.condemned: list[Life] = []  # ended, and slow to die
        self._births = 0
        self.journals = [
            Actor(journal_name(partition), again=partial(_journal, spec, partition))
            for partition in range(spec.partitions)
        ]
        for actor in self.journals:
            self._boot(actor, _made_again(actor))

    def host(self, spec: HostSpec) -> Actor:
        """The holder of a name, which is free or not."""
        found = self.hosts.get(spec.owner)
        if found is not None:
            return found
        actor = self.hosts[spec.owner] = Actor(spec.owner)

        def make(process: Process) -> Resident:
            return HostResident(
                spec,
                SimulatedCluster(self, process),
                home=None,
                pack=PACKER.pack,
                on_gone=lambda: process.call_later(self.faults.chance.uniform(0.0, 0.1), self.end, actor) and None,
                now=process.time,
                wall=lambda: BEGINNING_NS + int(process.time() * 1e9),
                clock=WALL,
            )

        self.clock.after(self.faults.chance.choice((0.001, 0.05, 0.3)), self._boot, actor, make)
        return actor

    def follower(self, spec: FollowerSpec) -> Actor:
        """The holder of a name, which is free or not. It comes again when it dies."""
        found = self.followers.get(spec.name)
        if found is not None:
            return found

        def make(process: Process) -> Resident:
            # Not by way of the cluster: under this name a successor may live already, which that would end.
            return FollowerResident(
                spec,
                SimulatedCluster(self, process),
                home=None,
                on_gone=lambda: process.call_later(self.faults.chance.uniform(0.0, 0.1), process.kill) and None,
                now=process.time,
            )

        actor = self.followers[spec.name] = Actor(spec.name, again=make)
        self.clock.after(self.faults.chance.choice((0.001, 0.05, 0.3)), self._boot, actor, make)
        return actor

    def end(self, actor: Actor, *, for_good: bool = False) -> None:
        """End an actor. A host's name is free from now on; the journal and followers start again, unless `for_good`."""
        if for_good:
            actor.again = None
        self._free(actor)
        life = actor.life
        if actor.forgotten and self.faults.chance.random() < 0.8:
            return  # the cluster does not know where it is
        if life is None:
            if actor.again is None:  # others are on their way up
                self._bury(actor)
        elif life.process.dead:
            return
        elif self.faults.hits("late death"):
            life.condemned = True
            self.condemned.append(life)
            self.network.lost_touch(life)
            self.clock.after(self.faults.chance.uniform(0.0, 2.0), life.process.kill)
            self._bury(actor)
        else:
            life.process.kill()

    def forget(self, actor: Actor) -> None:
        """Believe that a host or a follower is gone, though it is not. Those who are told so turn to its successor, the
        others stay with it."""
        actor.forgotten, actor.again = True, None
        self._free(actor)

    def _free(self, actor: Actor) -> None:
        if actor.again is not None:
            return  # it keeps its name over all its lives
        for names in (self.hosts, self.followers):
            if names.get(actor.name) is actor:
                del names[actor.name]

    def _boot(self, actor: Actor, make: Callable[[Process], Resident]) -> None:
        if not actor.dead:
            self._births += 1
            process = self.clock.process(f"{actor.name}:{self._births}", self._step_s)
            process.call_soon(self._come_up, actor, process, make, context=Context())

    def _come_up(self, actor: Actor, process: Process, make: Callable[[Process], Resident]) -> None:
        if actor.dead:
            process.kill()
            return
        life = actor.life = Life(process, make(process))
        process.on_death.append(lambda: self._died(actor, life))
        if isinstance(life.resident, FollowerResident):
            self.following.append(life)
        elif actor not in self.journals:
            self.lives.append(life)
        if life.resident.starts_itself:
            process.create_task(_start(life.resident), context=Context())
        waiting, actor.waiting = actor.waiting, []
        for request in waiting:
            self.network.deliver(request, life)

    def _died(self, actor: Actor, life: Life) -> None:
        self.network.lost_touch(life)
        for lives in (self.lives, self.following):
            if life in lives:
                lives.remove(life)
        if not life.condemned:
            self._bury(actor)
            self.clock.after(self.faults.notice_s(), self._free, actor)

    def _bury(self, actor: Actor) -> None:
        """It has no life any more: a host for good, the others until they are up again."""
        if actor.again is not None:
            actor.life = None
            self.clock.after(self.faults.chance.choice((0.005, 0.1, 0.5)), self._boot, actor, actor.again)
            return
        actor.dead = True
        waiting, actor.waiting = actor.waiting, []
        for request in waiting:
            self.network._refuse(request, "it has died")


class SimulatedPeer:
    """A resident, as one process sees it."""

    def __init__(self, control: Control, actor: Actor) -> None:
        self._control, self.actor, self.name = control, actor, actor.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimulatedPeer) and self.actor is other.actor

    def __hash__(self) -> int:
        return object.__hash__(self.actor)

    async def ask(self, method: str, *args: Any) -> Any:
        """One message there and one back, if both arrive."""
        return await self._control.network.ask(_here(), self.actor, method, args)

    async def responds(self, within_s: float) -> bool:
        """Whether its process turns. One that starts, or is known to be dead, counts as responding."""
        here, give_up = _here(), _here().time() + within_s
        while True:
            await asyncio.sleep(self._control.faults.travel_s())
            life = self.actor.life
            if self.actor.dead or life is None or life.condemned:
                return True
            if not life.process.stopped and not self._control.network.is_cut(here, life.process):
                return True
            if here.time() > give_up:
                return False
            await asyncio.sleep(within_s / 4)


class SimulatedCluster:
    """A `Cluster`, as one process sees it."""

    spares = 0

    def __init__(self, control: Control, process: Process) -> None:
        self._control, self._process = control, process

    async def journal(self, partition: int = 0) -> SimulatedPeer:
        """The journal server, or that of a partition."""
        actor = self._control.journals[partition]
        await self._trip(actor.name)
        return SimulatedPeer(self._control, actor)

    async def journals(self) -> list[SimulatedPeer]:
        """All journal servers."""
        return [await self.journal(partition) for partition in range(len(self._control.journals))]

    async def host(self, spec: HostSpec) -> SimulatedPeer:
        """The host called `spec.owner`, started if none runs."""
        await self._trip(spec.owner)
        actor = self._control.host(spec)
        await asyncio.sleep(self._control.faults.travel_s())
        return SimulatedPeer(self._control, actor)

    async def find_host(self, owner: str) -> SimulatedPeer | None:
        """The host called `owner`, if one runs."""
        await self._trip(owner)
        actor = self._control.hosts.get(owner)
        return None if actor is None else SimulatedPeer(self._control, actor)

    async def host_names(self) -> list[str]:
        """The owners that have a host running."""
        await self._trip("the cluster")
        return list(self._control.hosts)

    async def follower(self, spec: FollowerSpec) -> SimulatedPeer:
        """The follower called `spec.name`, started if none runs."""
        await self._trip(spec.name)
        actor = self._control.follower(spec)
        await asyncio.sleep(self._control.faults.travel_s())
        return SimulatedPeer(self._control, actor)

    async def find_follower(self, name: str) -> SimulatedPeer | None:
        """The follower called `name`, if one runs."""
        await self._trip(name)
        actor = self._control.followers.get(name)
        return None if actor is None else SimulatedPeer(self._control, actor)

    async def follower_names(self) -> list[str]:
        """The followers that run."""
        await self._trip("the cluster")
        return list(self._control.followers)

    def expect(self, type: type[Aggregate], config: Config) -> None:
        """There are no spares in this world."""

    async def end_spares(self) -> None:
        """There are none."""

    async def kill(self, peer: Any, *, for_good: bool = False) -> None:
        """End a resident."""
        await asyncio.sleep(self._control.faults.travel_s())
        self._control.end(peer.actor, for_good=for_good)
        await asyncio.sleep(self._control.faults.travel_s())

    def unpack(self, value: Any) -> Any:
        """What a resident packed."""
        return PACKER.unpack(value)

    async def close(self) -> None:
        """Residents are detached."""

    async def _trip(self, name: str) -> None:
        await asyncio.sleep(self._control.faults.travel_s())
        if self._control.faults.hits("cluster trouble"):
            raise PeerGone(name, "the cluster does not answer")


def _journal(spec: JournalSpec, partition: int, process: Process) -> Resident:
    return JournalResident(spec, partition)


def _made_again(actor: Actor) -> Callable[[Process], Resident]:
    assert actor.again is not None, "it comes again"
    return actor.again


async def _start(resident: Resident) -> None:
    with suppress(HoldfastError):
        await resident.handle("ping", ())


def _here() -> Process:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Process)
    return loop
