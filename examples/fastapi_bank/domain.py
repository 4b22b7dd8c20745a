"""The aggregate: an account that pays in and out, and says no to what it has not."""

from holdfast.actors import Aggregate, Rejected, command, event, on, query

__all__ = ["Account", "InsufficientFunds", "PaidIn", "PaidOut"]


class InsufficientFunds(Rejected):
    """There is less in the account than is asked for."""

    def __init__(self, balance: int, amount: int) -> None:
        super().__init__(balance, amount)
        self.balance, self.amount = balance, amount

    def __str__(self) -> str:
        return f"there are {self.balance}, {self.amount} were asked for"


@event("account.paid_in")
class PaidIn:
    amount: int


@event("account.paid_out")
class PaidOut:
    amount: int


class Account(Aggregate):
    balance: int = 0

    @command
    def pay_in(self, amount: int) -> int:
        self.emit(PaidIn(amount))
        return self.balance

    @command
    def pay_out(self, amount: int) -> int:
        if amount > self.balance:
            raise InsufficientFunds(self.balance, amount)
        self.emit(PaidOut(amount))
        return self.balance

    @query
    def statement(self) -> int:
        return self.balance

    @on(PaidIn)
    def _paid_in(self, event: PaidIn) -> None:
        self.balance += event.amount

    @on(PaidOut)
    def _paid_out(self, event: PaidOut) -> None:
        self.balance -= event.amount
