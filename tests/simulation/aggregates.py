"""What the simulated clients use: a register, a counter and a list, small enough that the judges know them by heart.

Every command answers `[version, result]`, every event carries the token of its command. The ways in which a command
can go are there too: at once, with waits in it, refused after it emitted, and with another aggregate's help.
"""

import asyncio
from typing import Any

from holdfast.actors import Aggregate, Rejected, command, event, on, query

__all__ = ["TYPES", "WRITES", "Counter", "List", "Register"]


@event("simulation.written")
class Written:
    token: str
    value: int


@event("simulation.added")
class Added:
    token: str
    amount: int


@event("simulation.appended")
class Appended:
    token: str
    item: int


class Register(Aggregate, category="register", snapshot_every=3, snapshots_kept=1):
    value: int | None = None

    @command
    def write(self, token: str, value: int) -> list[Any]:
        self.emit(Written(token, value))
        return [self.version, self.value]

    @command
    async def write_slowly(self, token: str, value: int, wait_s: float) -> list[Any]:
        await asyncio.sleep(wait_s)
        self.emit(Written(token, value))
        await asyncio.sleep(wait_s)
        return [self.version, self.value]

    @command
    def write_and_refuse(self, token: str, value: int) -> list[Any]:
        self.emit(Written(token, value))
        raise Rejected("not this one")

    @command
    def look(self) -> list[Any]:
        """A command without events."""
        return [self.version, self.value]

    @query
    def read(self) -> list[Any]:
        return [self.version, self.value]

    @query
    async def read_slowly(self, wait_s: float) -> list[Any]:
        seen = [self.version, self.value]
        await asyncio.sleep(wait_s)
        return seen

    @on(Written)
    def _written(self, event: Written) -> None:
        self.value = event.value


class Counter(Aggregate, category="counter", snapshot_every=5):
    total: int = 0

    @command
    def add(self, token: str, amount: int) -> list[Any]:
        self.emit(Added(token, amount))
        return [self.version, self.total]

    @command
    async def add_slowly(self, token: str, amount: int, wait_s: float) -> list[Any]:
        self.emit(Added(token, amount))
        await asyncio.sleep(wait_s)
        return [self.version, self.total]

    @command
    async def add_and_refuse(self, token: str, amount: int, wait_s: float) -> list[Any]:
        self.emit(Added(token, amount))
        await asyncio.sleep(wait_s)
        raise Rejected("not this one")

    @command
    async def add_here_and_there(self, token: str, amount: int, there: str, inner: str) -> list[Any]:
        """Also in a list, which answers first."""
        self.emit(Added(token, amount))
        await self.aggregate(List, there).append(inner, amount)
        return [self.version, self.total]

    @command
    def look(self) -> list[Any]:
        return [self.version, self.total]

    @query
    def read(self) -> list[Any]:
        return [self.version, self.total]

    @query
    async def read_slowly(self, wait_s: float) -> list[Any]:
        await asyncio.sleep(wait_s)
        return [self.version, self.total]

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.amount


class List(Aggregate, category="list", snapshot_every=2):
    items: list[int] = []

    @command
    def append(self, token: str, item: int) -> list[Any]:
        self.emit(Appended(token, item))
        return [self.version, len(self.items)]

    @command
    async def append_slowly(self, token: str, item: int, wait_s: float) -> list[Any]:
        await asyncio.sleep(wait_s)
        self.emit(Appended(token, item))
        return [self.version, len(self.items)]

    @command
    def append_and_refuse(self, token: str, item: int) -> list[Any]:
        self.emit(Appended(token, item))
        raise Rejected("not this one")

    @command
    def look(self) -> list[Any]:
        return [self.version, self.items]

    @query
    def read(self) -> list[Any]:
        return [self.version, self.items]

    @query
    async def read_slowly(self, wait_s: float) -> list[Any]:
        await asyncio.sleep(wait_s)
        return [self.version, self.items]

    @on(Appended)
    def _appended(self, event: Appended) -> None:
        self.items.append(event.item)


TYPES: dict[str, type[Any]] = {"register": Register, "counter": Counter, "list": List}
WRITES = {"register": "write", "counter": "add", "list": "append"}
"""The command of each type, as the judges' models call it; the others are ways of it."""
