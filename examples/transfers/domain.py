"""Accounts, orders to transfer, and the reaction that carries them out.

    ordered ──▶ Begun ──▶ withdraw ──▶ Taken ──▶ deciding ──▶ Giving ──▶ deposit ──▶ Done
                             │                      │                       │
                             ▼                      ▼ too late              ▼ the account is closed
                          Failed               Returning ◀─────────────  Returning ──▶ put back ──▶ Failed

Each decision is an event of the transfer's own, and each command to an account is what the handler of one such event
sends. So it follows from what has been recorded, not from the moment at which it is sent: a handler that is run again,
after any crash, finds the same decision, whatever has come in between.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from holdfast.actors import Aggregate, Reaction, Rejected, Retry, apply, command, event, on, query

__all__ = ["Account", "Branch", "Stage", "Transfers"]

PATIENCE = timedelta(seconds=1.5)


class Refused(Rejected):
    """An account says no: it has too little, or is closed."""


# -- accounts ------------------------------------------------------------------------------------------------------


@event("transfers.opened")
class Opened:
    balance: int


@event("transfers.withdrawn")
class Withdrawn:
    transfer: str
    amount: int


@event("transfers.deposited")
class Deposited:
    transfer: str
    amount: int


@event("transfers.closed")
class Closed:
    """Nothing can be deposited any more."""


class Account(Aggregate, category="transfers.Account"):
    """Knows nothing of transfers but the name that its entries carry. What it does once for each command that reaches
    it, it does as often as it is asked: that a transfer asks once is not its concern."""

    balance: int = 0
    closed: bool = False

    @command
    def open(self, balance: int) -> None:
        self.emit(Opened(balance))

    @command
    def withdraw(self, transfer: str, amount: int) -> None:
        if amount > self.balance:
            raise Refused(f"{self.id} has too little")
        self.emit(Withdrawn(transfer, amount))

    @command
    def deposit(self, transfer: str, amount: int) -> None:
        if self.closed:
            raise Refused(f"{self.id} is closed")
        self.emit(Deposited(transfer, amount))

    @command
    def put_back(self, transfer: str, amount: int) -> None:
        """What was taken comes back, also to an account that is closed: it is its own money."""
        self.emit(Deposited(transfer, amount))

    @command
    def close(self) -> None:
        self.emit(Closed())

    @query
    def balance_now(self) -> int:
        return self.balance

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.balance = event.balance

    @on(Withdrawn)
    def _withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount

    @on(Closed)
    def _closed(self, event: Closed) -> None:
        self.closed = True


# -- orders --------------------------------------------------------------------------------------------------------


@event("transfers.ordered")
class Ordered:
    transfer: str
    source: str
    to: str
    amount: int


class Branch(Aggregate, category="transfers.Branch"):
    """Where customers order transfers."""

    orders: int = 0

    @command
    def order(self, transfer: str, source: str, to: str, amount: int) -> None:
        if amount <= 0:
            raise Rejected("an amount is above 0")
        self.emit(Ordered(transfer, source, to, amount))

    @on(Ordered)
    def _ordered(self, event: Ordered) -> None:
        self.orders += 1


# -- transfers -----------------------------------------------------------------------------------------------------


class Stage(StrEnum):
    """How far a transfer is."""

    NEW = "new"
    BEGUN = "begun"
    TAKEN = "taken"
    GIVING = "giving"
    RETURNING = "returning"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Terms:
    """What a transfer is about."""

    source: str = ""
    to: str = ""
    amount: int = 0


@event("transfers.begun")
class Begun:
    terms: Terms


@event("transfers.taken")
class Taken:
    """The source has paid."""


@event("transfers.giving")
class Giving:
    """Decided: the money goes on. From here on no time-out counts."""


@event("transfers.returning")
class Returning:
    """Decided: the money goes back."""

    why: str


@event("transfers.done")
class Done:
    pass


@event("transfers.failed")
class Failed:
    why: str


@event("transfers.expired")
class Expired:
    """It took too long; whether that still matters is for the next decision."""


class Transfers(Reaction, category="transfers.Transfer", on_error=Retry(times=20, most_s=1.0, then="stop")):
    """One transfer: takes from one account, gives to another, and puts back what could not be given in time."""

    stage: Stage = Stage.NEW
    terms: Terms = Terms()
    late: bool = False

    @on(Ordered, by="transfer")
    def ordered(self, event: Ordered) -> None:
        self.emit(Begun(Terms(event.source, event.to, event.amount)))
        self.remind("expire", after=PATIENCE, command=Transfers.expire)

    @on(Begun)
    async def begun(self, event: Begun) -> None:
        """The source is asked in any case, late or not: once asked, only its answer tells whether it has paid."""
        try:
            await self.aggregate(Account, event.terms.source).withdraw(self.id, event.terms.amount)
        except Refused as error:
            self.emit(Failed(str(error)))
            self.cancel_reminder("expire")
        else:
            self.emit(Taken())

    @on(Taken)
    def taken(self, event: Taken) -> None:
        """Nothing is sent here: what is decided is sent by the handler of the decision."""
        self.emit(Returning(f"{self.id} was late") if self.late else Giving())
        self.cancel_reminder("expire")

    @on(Giving)
    async def giving(self, event: Giving) -> None:
        try:
            await self.aggregate(Account, self.terms.to).deposit(self.id, self.terms.amount)
        except Refused as error:
            self.emit(Returning(str(error)))
        else:
            self.emit(Done())

    @on(Returning)
    async def returning(self, event: Returning) -> None:
        await self.aggregate(Account, self.terms.source).put_back(self.id, self.terms.amount)
        self.emit(Failed(event.why))

    @command
    def expire(self) -> None:
        self.emit(Expired())

    @query
    def stage_now(self) -> str:
        return self.stage

    @apply(Begun)
    def _begun(self, event: Begun) -> None:
        self.stage, self.terms = Stage.BEGUN, event.terms

    @apply(Taken)
    def _taken(self, event: Taken) -> None:
        self.stage = Stage.TAKEN

    @apply(Giving)
    def _giving(self, event: Giving) -> None:
        self.stage = Stage.GIVING

    @apply(Returning)
    def _returning(self, event: Returning) -> None:
        self.stage = Stage.RETURNING

    @apply(Done)
    def _done(self, event: Done) -> None:
        self.stage = Stage.DONE

    @apply(Failed)
    def _failed(self, event: Failed) -> None:
        self.stage = Stage.FAILED

    @apply(Expired)
    def _expired(self, event: Expired) -> None:
        self.late = True
