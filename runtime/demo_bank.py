"""The bank of the built-in demo: accounts that can be paid into. What looks at its journal can be given this module."""

from holdfast.actors import Aggregate, Rejected, command, event, on

__all__ = ["Account", "Deposited"]


@event("demo.deposited")
class Deposited:
    """An amount was paid in."""

    amount: int


class Account(Aggregate):
    """An account with a balance, and how many deposits made it."""

    balance: int = 0
    deposits: int = 0

    @command
    def deposit(self, amount: int) -> int:
        """Pay in; the new balance."""
        if amount <= 0:
            raise Rejected("an amount is above 0")
        self.emit(Deposited(amount))
        return self.balance

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount
        self.deposits += 1
