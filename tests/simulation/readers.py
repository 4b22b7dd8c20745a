"""Who lives in a client beside its callers: subscribers, those who start followers, and those who set alarms.

Each is carried on by the next life of its client, from what it had noted in the world outside: a subscriber from its
position, one who sets alarms with the next one.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from checkers import Seen, seen_of

from holdfast.actors.errors import DeadlineExceeded
from holdfast.journal.errors import HoldfastError
from holdfast.journal.positions import Positions
from holdfast.journal.records import Recorded
from holdfast.runtime.errors import AheadOfJournal

from .callers import REFUSALS, Client
from .faults import Faults
from .reacting import Alarm

__all__ = ["AlarmCaller", "Starter", "Subscriber", "Wanted"]

AGAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter: as a subscription is told it, and as the judge checks it."""

    how: Mapping[str, Any]
    has: Callable[[Recorded], bool]


class Subscriber:
    """Subscribes, and notes what it is given. `given`: over all lives; `position`: it goes on after it."""

    done = True  # nobody waits for it to end

    def __init__(self, name: str, client: Client, wanted: Wanted, faults: Faults, chance: random.Random) -> None:
        self.name, self.client, self.wanted = name, client, wanted
        self._faults, self._chance = faults, chance
        self.given: list[Seen] = []
        self.position: int | Positions = 0
        self.problems: list[str] = []
        self._in_batches, self._pause_s = chance.random() < 0.3, chance.choice((0.0, 0.0, 0.01, 0.1))

    async def live(self) -> None:
        """One life of its client."""
        while True:
            try:
                await self._subscribe()
            except AheadOfJournal as error:
                self.problems.append(f"{self.name}: {error!r}")
            except HoldfastError:  # the journal was out of reach for too long
                pass
            await asyncio.sleep(AGAIN_S * self._chance.random())

    async def _subscribe(self) -> None:
        """Until it leaves, to come again."""
        runtime = self.client.runtime
        assert runtime is not None, "its client is up"
        async with runtime.subscribe(after=self.position, **self.wanted.how) as subscription:
            if self._in_batches:
                async for batch in subscription.batches():
                    for recorded in batch.events:
                        self._note(recorded)
                    self.position = batch.position
                    if await self._leaves():
                        return
            else:
                async for recorded in subscription:
                    self._note(recorded)
                    self.position = subscription.position
                    if await self._leaves():
                        return

    def _note(self, recorded: Any) -> None:
        self.given.append(seen_of(recorded.record, recorded.partition))

    async def _leaves(self) -> bool:
        if self._pause_s and not self._faults.healed:
            await asyncio.sleep(self._pause_s * self._chance.random())
        return self._faults.hits("subscriber leaves")


class Starter:
    """Has a follower run, once in each life of its client."""

    done = True

    def __init__(self, name: str, client: Client, what: Any) -> None:
        self.name, self.client, self.what = name, client, what

    async def live(self) -> None:
        """Until it runs."""
        runtime = self.client.runtime
        assert runtime is not None, "its client is up"
        while True:
            try:
                return await runtime.start(self.what)
            except HoldfastError:
                await asyncio.sleep(AGAIN_S)


class AlarmCaller:
    """Sets alarms, sets them anew, and cancels them. `told`: the tokens of those that it was told are done."""

    def __init__(self, name: str, client: Client, alarms: list[str], calls: int, chance: random.Random) -> None:
        self.name, self.client = name, client
        self._alarms, self.calls_left, self._chance = alarms, calls, chance
        self.told: list[str] = []
        self.refused: list[str] = []
        self.problems: list[str] = []
        self.done = False

    async def live(self) -> None:
        """One life of its client. What it had asked for when that ended it will never know."""
        while self.calls_left > 0:
            self.calls_left -= 1
            await asyncio.sleep(self._chance.choice((0.001, 0.1, 0.3)) * self._chance.random())
            await self._one(f"{self.name}.{self.calls_left}")
        self.done = True

    async def _one(self, token: str) -> None:
        chance = self._chance
        id, name = chance.choice(self._alarms), chance.choice("ab")
        what = chance.random()
        after_us = int(1e6 * chance.choice((0.0, 0.01, 0.3, 1.5)) * chance.random())
        if what < 0.6:
            await self.ask(token, id, "wake", name, after_us)
        elif what < 0.75:
            await self.ask(token, id, "wake_again_and_again", name, 1_000_000 + after_us)
        else:
            await self.ask(token, id, "calm", name)

    async def ask(self, token: str, id: str, method: str, *args: Any) -> bool:
        """Send a command. Whether it was done."""
        runtime = self.client.runtime
        assert runtime is not None, "its client is up"
        try:
            await getattr(runtime.get(Alarm, id), method)(token, *args)
        except DeadlineExceeded as error:
            if error.outcome != DeadlineExceeded.UNKNOWN:
                self.refused.append(token)
        except REFUSALS:
            self.refused.append(token)
        except HoldfastError as error:
            self.problems.append(f"{self.name}: {id}.{method} raised {error!r}")
        else:
            self.told.append(token)
            return True
        return False
