"""Mistakes that type checkers must see: every line marked `# error` and no other. Never run."""

from holdfast.actors import Aggregate, Reaction, apply, command, event, on, query
from holdfast.runtime import Projection, Runtime, Table


@event("account.deposited")
class Deposited:
    amount: int


@event("account.closed")
class Closed:
    reason: str


class Account(Aggregate, category=5):  # error
    balance: int = 0

    @command
    def deposit(self, amount: int) -> int:
        self.emit(Deposited("five"))  # error
        return self.balance

    @query
    def statement(self) -> int:
        return self.balance

    @on(Deposited)  # error
    def _deposited(self, event: Closed) -> None: ...


class Watch(Reaction, on_error="stop"):  # error
    @on(Deposited)  # error
    async def deposited(self, event: Closed) -> None: ...

    @on(Closed, by=lambda event: event.reason)  # error
    def closed(self, event: Closed) -> None: ...

    @apply(Deposited)  # error
    def _deposited(self, event: Closed) -> None: ...


async def main(runtime: Runtime) -> None:
    account = runtime.get(Account, "a")
    await account.deposit("x")  # error
    await account.deposit()  # error
    await account.deposit(1, 2)  # error
    await account.deposti(1)  # error
    balance: str = await account.statement()  # error
    account.statement() + 1  # error
    Deposited(1).amount = 2  # error
    print(balance)


class Balances(Projection, version="two"):  # error
    balances = Table(5)  # error

    @on(Deposited)  # error
    def deposited(self, event: Closed) -> None: ...

    @on(Closed)
    def closed(self, event: Closed) -> None:
        self.execute(5)  # error
        self.balances + 1  # error
