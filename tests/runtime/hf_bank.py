"""The aggregates of the runtime's tests. A module that hosts import by its name: conftest.py puts it on their path."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from holdfast.actors import Aggregate, Rejected, command, event, on, query


async def there_is(path: str) -> None:
    """Wait until a file exists: how a test holds a command in another process."""
    while not os.path.exists(path):  # noqa: ASYNC240
        await asyncio.sleep(0.005)


class Insufficient(Rejected):
    """A domain error with a constructor of its own."""

    def __init__(self, *, wanted: int, has: int) -> None:
        super().__init__(f"wanted {wanted}, has {has}")
        self.wanted, self.has = wanted, has


class Odd(Exception):
    """No Holdfast error, with a constructor that `args` do not fit."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


@event("hf_bank.deposited")
class Deposited:
    amount: int
    note: str = ""


@event("hf_bank.poisoned")
class Poisoned:
    pass


class Account(Aggregate, snapshot_every=20):
    balance: int = 0
    entries: int = 0

    @command
    def deposit(self, amount: int, note: str = "") -> int:
        if amount < 0 and self.balance + amount < 0:
            raise Insufficient(wanted=-amount, has=self.balance)
        self.emit(Deposited(amount, note))
        return self.balance

    @command
    def add(self, note: str) -> int:
        """Replies with the version it makes: what replay must say."""
        self.emit(Deposited(1, note))
        return self.version

    @command
    def many(self, note: str, events: int) -> list[int]:
        first = self.version + 1
        for _ in range(events):
            self.emit(Deposited(1, note))
        return [first, self.version]

    @command
    def fail(self, message: str, emit: bool = False) -> None:
        if emit:
            self.emit(Deposited(1_000_000))
        raise Odd(7, detail=message)

    @command
    def leave(self) -> None:
        raise SystemExit(3)

    @command
    def poison(self) -> None:
        self.emit(Poisoned())

    @command
    def answer_badly(self) -> int:
        self.emit(Deposited(5))
        return object()  # type: ignore[return-value]

    @command
    async def wait_for(self, path: str, note: str = "") -> int:
        """Wait until a file exists."""
        await there_is(path)
        self.emit(Deposited(1, note))
        return self.version

    @query
    def balance_now(self) -> int:
        return self.balance

    @query
    def version_now(self) -> int:
        return self.version

    @query
    def pid(self) -> int:
        return os.getpid()

    @query
    def boom(self) -> Any:
        raise Odd(8, detail="query")

    @query
    def lock(self) -> Any:
        import threading

        return threading.Lock()

    @query
    def stop_process(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount
        self.entries += 1

    @on(Poisoned)
    def _poisoned(self, event: Poisoned) -> None:
        raise RuntimeError("this handler always fails")


@event("hf_bank.transferred")
class Transferred:
    amount: int
    to: str


class Teller(Aggregate):
    """Calls others."""

    done: int = 0

    @command
    async def transfer(self, source: str, to: str, amount: int) -> list[int]:
        left = await self.aggregate(Account, source).deposit(-amount)
        there = await self.aggregate(Account, to).deposit(amount)
        self.emit(Transferred(amount, to))
        return [left, there]

    @command
    async def deposit_then_wait(self, to: str, amount: int, path: str) -> int:
        there = await self.aggregate(Account, to).deposit(amount)
        Path(f"{path}.reached").touch()  # noqa: ASYNC240
        await there_is(path)
        self.emit(Transferred(amount, to))
        return there

    @command
    async def ask(self, other: str, back: str) -> int:
        return await self.aggregate(Teller, other).ask_back(back)

    @command
    async def ask_back(self, back: str) -> int:
        return await self.aggregate(Teller, back).count_now()

    @command
    async def use(self, account: Any, amount: int) -> int:
        """A reference that came as an argument."""
        result: int = await account.deposit(amount)
        return result

    @query
    def count_now(self) -> int:
        return self.done

    @query
    def pid(self) -> int:
        return os.getpid()

    @on(Transferred)
    def _transferred(self, event: Transferred) -> None:
        self.done += 1
