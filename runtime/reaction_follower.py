"""The follower of a reaction: reads the journal, and has each event reach the instance that it is for.

    await runtime.start(Transfers)
    await runtime.ask(Transfers, "dead_letters")

An event is delivered as a command that carries a key made from the event's place in the journal. The instance remembers
that key with what it did, so a delivery is safe to repeat, and everything here may be: a crash before a delivery, after
it, after its answer, before or after the checkpoint, or the loss of the checkpoint, costs work and changes nothing.

**In order.** Events for one instance are delivered one by one, in the order of positions (of several partitions: in
each). Different instances are served at once (`deliveries.py`).

**Fenced.** A life that was succeeded can still deliver, which does no harm, since its successor's deliveries have the
same keys; its checkpoints and dead letters are refused.

Before this: events are durable. After this: what follows from them is too.
"""

import asyncio
from functools import partial

from holdfast.actors.definition import definition_of
from holdfast.actors.reaction import Reaction
from holdfast.journal.positions import Positions

from .beginning import After, begin_after
from .dead_letters import DeadLetters, Letter
from .deliveries import Deliveries, Pause
from .errors import HostUnavailable
from .follower import Desk, Follower, FollowerPhase, FollowerPlan

__all__ = ["ReactionFollower", "follower_name", "plans_of"]

BEGINS_S = 30.0
"""Seconds for which those wait that ask it before it has begun."""


def follower_name(reaction: type[Reaction]) -> str:
    """What the follower of a reaction is called."""
    return f"reaction/{definition_of(reaction).category}"


def plans_of(reaction: type[Reaction], *, after: After = "beginning") -> tuple[FollowerPlan, ...]:
    """The one process that a reaction asks for. `after`: where it begins, the first time; later it goes on. Raises
    `DefinitionError`, `ValueError`."""
    if not isinstance(after, Positions) and after not in ("beginning", "now"):
        raise ValueError(f'after is "beginning", "now" or Positions, not {after!r}')
    definition = definition_of(reaction)
    make = partial(ReactionFollower, reaction, after)
    return (FollowerPlan(name=follower_name(reaction), code=definition.code, make=make),)


class ReactionFollower(Follower):
    """Delivers events to the instances of a reaction."""

    kind = "reaction"
    methods = frozenset({"dead_letters", "replay"})

    def __init__(self, reaction: type[Reaction], after: After = "beginning", *, pause: Pause = asyncio.sleep) -> None:
        """`after`: where to begin the first time. `pause`: waits so many seconds."""
        self._reaction, self._pause = reaction, pause
        self._after: After = after
        self._name = follower_name(reaction)
        self._deliveries: Deliveries | None = None  # of this life, or, once it has stopped, of the last one
        self._began = asyncio.Event()

    async def run(self, desk: Desk) -> None:
        """Deliver until cancelled. Raises `FollowerStopped` as the reaction's policy says, and `Fenced`."""
        letters = DeadLetters(self._name, desk)
        await letters.load()
        start = await begin_after(desk, self._name, self._after)
        desk.progress.start(start)
        desk.progress.turn(FollowerPhase.CATCHING_UP)
        self._deliveries = Deliveries(self._reaction, self._name, desk, letters, start, self._pause)
        self._began.set()
        await self._deliveries.run()

    async def dead_letters(self) -> list[Letter]:
        """The events that are set aside, oldest first."""
        return list((await self._found()).letters.pending.values())

    async def replay(self, partition: int, position: int) -> None:
        """Deliver an event again that was set aside. Once done, it is no more; what it fails with is raised, and it
        stays. Raises `NoSuchLetter`."""
        await (await self._found()).replay(partition, position)

    async def _found(self) -> Deliveries:
        """What answers, also when it has stopped: that is when letters are looked at."""
        try:
            async with asyncio.timeout(BEGINS_S):
                await self._began.wait()
        except TimeoutError:
            raise HostUnavailable(self._name, f"it has not found its checkpoint within {BEGINS_S:g} s") from None
        assert self._deliveries is not None, "it has begun"
        return self._deliveries
