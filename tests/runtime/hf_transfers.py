"""The reactions of the runtime's tests. A module that hosts and followers import by its name."""

import os
from pathlib import Path
from typing import Any

from hf_bank import there_is

from holdfast.actors import (
    Aggregate,
    Reaction,
    RecordedEvent,
    Rejected,
    Retry,
    Stop,
    apply,
    command,
    event,
    on,
    query,
)

QUICK = Retry(times=2, first_s=0.001, most_s=0.002)


@event("hf_transfers.requested")
class Requested:
    transfer_id: str
    source: str
    to: str
    amount: int
    note: str = ""


@event("hf_transfers.moved")
class Moved:
    amount: int


class Purse(Aggregate):
    """Money that reactions move about. `moves`: every amount, in order."""

    balance: int = 100
    moves: list[int] = []

    @command
    def request(self, transfer_id: str, to: str, amount: int, note: str = "") -> None:
        self.emit(Requested(transfer_id, self.id, to, amount, note))

    @command
    def move(self, amount: int) -> int:
        if self.balance + amount < 0:
            raise Rejected(self.balance)
        self.emit(Moved(amount))
        return self.balance

    @query
    def seen(self) -> tuple[int, list[int]]:
        return self.balance, self.moves

    @on(Requested)
    def _requested(self, event: Requested) -> None: ...

    @on(Moved)
    def _moved(self, event: Moved) -> None:
        self.balance += event.amount
        self.moves.append(event.amount)


@event("hf_transfers.taken")
class Taken:
    source: str
    to: str
    amount: int


@event("hf_transfers.refused")
class Refused:
    why: str


@event("hf_transfers.given")
class Given:
    pass


class Transfers(Reaction, on_error=QUICK):
    """Takes, then gives. The note of a request says what goes wrong."""

    status: str = "new"
    runs: int = 0

    @on(Requested, by="transfer_id")
    async def requested(self, event: Requested) -> None:
        try:
            await self.aggregate(Purse, event.source).move(-event.amount)
        except Rejected as error:
            self.emit(Refused(str(error)))
            return
        if event.note.startswith("hold:"):  # after it has sent, before anything of its own is written
            path = event.note.removeprefix("hold:")
            Path(f"{path}.reached").touch()  # noqa: ASYNC240
            await there_is(path)
        self.emit(Taken(event.source, event.to, event.amount))

    @on(Taken)  # of its own stream
    async def taken(self, event: Taken, recorded: RecordedEvent) -> None:
        assert recorded.id == self.id
        await self.aggregate(Purse, event.to).move(event.amount)
        self.emit(Given())

    @query
    def status_now(self) -> str:
        return self.status

    @query
    def pid(self) -> int:
        return os.getpid()

    @apply(Taken)
    def _taken(self, event: Taken) -> None:
        self.status = "taken"

    @apply(Refused)
    def _refused(self, event: Refused) -> None:
        self.status = "refused"

    @apply(Given)
    def _given(self, event: Given) -> None:
        self.status = "given"


@event("hf_transfers.noted")
class Noted:
    amount: int
    what: Any = None


class Failures:
    """How often handlers are to fail, by the note of what they react to: in this process."""

    left: dict[str, int] = {}


class Ledger(Reaction, on_error=QUICK):
    """One instance for each purse: notes every move of it, unless it is to fail."""

    noted: list[int] = []

    @on(Moved)
    def moved(self, event: Moved) -> None:
        left = Failures.left.get(self.id, 0)
        if left:
            Failures.left[self.id] = left - 1
            raise ZeroDivisionError(f"{self.id} fails {left} times more")
        self.emit(Noted(event.amount))

    @query
    def noted_now(self) -> list[int]:
        return self.noted

    @apply(Noted)
    def _noted(self, event: Noted) -> None:
        self.noted.append(event.amount)


class Strict(Ledger, on_error=Stop()):
    """The same, and stops at the first failure."""
