"""What users write, as type checkers see it: checked by tests/test_types.py, never run."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

from holdfast.actors import Aggregate, Reaction, Upcast, apply, command, event, on, query, upcast
from holdfast.actors.testing import given, stored
from holdfast.runtime import (
    BlockingRuntime,
    Dedicated,
    Positions,
    Projection,
    RecordedEvent,
    Retry,
    Runtime,
    Sharded,
    Statistics,
    Table,
)


@event("account.deposited")
class Deposited:
    amount: int
    note: str = ""


@event("account.closed")
class Closed:
    reason: str


@event("account.fee_charged", version=4, aliases=["account.fee"], split_from=[Deposited])
class FeeCharged:
    cents: int
    why: str = ""

    @upcast(from_version=1)
    @staticmethod
    def _in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"cents": old["amount"] * 100}

    @upcast(from_version=2)
    @staticmethod
    def _apart(old: dict[str, Any]) -> list[dict[str, Any] | tuple[str, dict[str, Any]]]:
        return [old, ("account.closed", {"reason": "fee"})]

    @upcast(from_version=3)
    @staticmethod
    def _as_told(old: dict[str, Any]) -> Upcast:
        return old if old["cents"] else []


assert_type(FeeCharged(1).why, str)
assert_type(given(Aggregate, stored("account.fee", 1, {"amount": 1})).version, int)


class Account(Aggregate, category="account", snapshot_every=10, snapshot_version=2):
    balance: int = 0

    @command
    def deposit(self, amount: int, *, note: str = "") -> int:
        self.emit(Deposited(amount, note=note))
        assert_type(Account.statement(self), str)
        return self.balance

    @command
    async def transfer(self, to: str, amount: int) -> str:
        balance = await self.aggregate(Account, to).deposit(amount)
        assert_type(balance, int)
        assert_type(await Account.transfer(self, to, 1), str)
        return to

    @query
    def statement(self) -> str:
        return f"{self.id}: {self.balance} at {self.version}, {self.context.now}"

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        assert_type(event.amount, int)
        self.balance += event.amount

    @on(Closed, Deposited)
    def _noted(self, event: Closed | Deposited) -> None: ...


class Watch(Reaction, on_error=Retry(times=3, then="stop")):
    seen: int = 0

    @on(Deposited, by="note")
    async def deposited(self, event: Deposited) -> None:
        assert_type(event.amount, int)
        assert_type(await self.aggregate(Account, "a").deposit(event.amount), int)
        self.emit(Closed("x"))

    @on(Closed, by=lambda event, recorded: event.reason or recorded.id)
    def closed(self, event: Closed, recorded: RecordedEvent) -> None:
        assert_type(recorded.position, int)

    @query
    def seen_now(self) -> int:
        return self.seen

    @apply(Closed)
    def _closed(self, event: Closed) -> None:
        self.seen += 1


async def reactions(runtime: Runtime) -> None:
    await runtime.start(Watch, after="now")
    assert_type(await runtime.get(Watch, "a").seen_now(), int)
    assert_type(given(Watch, id="x").when_event(Deposited(1, "x")).state, Watch)


async def main(runtime: Runtime) -> None:
    account = runtime.get(Account, "a")
    assert_type(account, Account)
    assert_type(await account.deposit(1), int)
    assert_type(await account.deposit(amount=1, note="x"), int)
    assert_type(await account.transfer("b", 2), str)
    assert_type(await account.statement(), str)
    assert_type(given(Account, Deposited(5)).when.deposit(5).state, Account)
    later: Callable[[str, int], Awaitable[str]] = account.transfer
    await later("b", 2)
    assert_type(Deposited(1, "x").note, str)


async def front_door() -> None:
    placement = {Account: Sharded(2)}
    async with Runtime.open("sqlite:///bank.db", placement=placement) as runtime:
        assert_type(runtime, Runtime)
        assert_type(await runtime.get(Account, "a", idempotency_key="k", timeout_s=1.5).deposit(1), int)
        assert_type((await runtime.state_at(Account, "a", version=3)).balance, int)
        assert_type(await runtime.passivate(Account, "a"), bool)
        assert_type(await runtime.statistics(), Statistics)
        async for recorded in runtime.read(Account, "a", after=3):
            assert_type(recorded, RecordedEvent)
        at = Positions.start(runtime.partitions)
        async for recorded in runtime.read(after=at):
            assert_type(at.past(recorded), Positions)
    opened = await Runtime.local()
    assert_type(opened, Runtime)
    await opened.close()


def blocking() -> None:
    assert_type(Runtime.local().blocking(), BlockingRuntime)
    with Runtime.open("sqlite:///bank.db", placement=Dedicated()) as runtime:
        assert_type(runtime, BlockingRuntime)
        print(runtime.get(Account, "a").deposit(1))
        assert_type(runtime.wait(counted()), int)
        assert_type(runtime.state_at(Account, "a").balance, int)
        assert_type(runtime.statistics(), Statistics)
        for recorded in runtime.read(Account, "a"):
            assert_type(recorded, RecordedEvent)
        for account in runtime.watch(Account, "a"):
            assert_type(account, Account)


async def counted() -> int:
    return 1


class Balances(Projection, version=2, on_error=Retry(times=3, then="dead letter")):
    balances = Table("id TEXT PRIMARY KEY, balance BIGINT NOT NULL", indexes=["balance DESC"])

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        assert_type(self.balances, str)
        self.execute(f"INSERT INTO {self.balances} VALUES (?, ?)", recorded.id, event.amount)

    @on(Closed)
    def closed(self, event: Closed) -> None:
        print(self.fetch_one(f"SELECT balance FROM {self.balances}"))


async def projections(runtime: Runtime) -> None:
    await runtime.start(Balances, "sqlite:///read.db")
    await runtime.wait_for(Balances, 5, timeout_s=1.5)
    async for progress in runtime.rebuild(Balances):
        assert_type(progress.done, int)
    assert_type(Balances.balances, Table)
