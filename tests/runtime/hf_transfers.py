"""The reactions of the runtime's tests. A module that hosts and followers import by its name."""

import os
from pathlib import Path
from typing import Any, ClassVar

from hf_bank import there_is

from holdfast.actors import (
    Aggregate,
    DeadLetter,
    Overloaded,
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
    """How often a ledger is to fail, by its id, and with what: in this process."""

    left: dict[str, int] = {}
    error: Exception = ZeroDivisionError("on purpose")


def overloaded() -> Exception:
    return Overloaded("something", 5)


class Ledger(Reaction, on_error=QUICK):
    """One instance for each purse: notes every move of it, unless it is to fail."""

    noted: list[int] = []

    @on(Moved)
    def moved(self, event: Moved) -> None:
        left = Failures.left.get(self.id, 0)
        if left:
            Failures.left[self.id] = left - 1
            raise Failures.error
        self.emit(Noted(event.amount))

    @query
    def noted_now(self) -> list[int]:
        return self.noted

    @apply(Noted)
    def _noted(self, event: Noted) -> None:
        self.noted.append(event.amount)


class Strict(Ledger, on_error=Stop()):
    """The same, and stops at the first failure."""


class Fickle(Reaction, on_error=QUICK):
    """Sends another amount each time it is run."""

    amounts: ClassVar[list[int]] = [5, 6, 7, 8, 9]

    @on(Requested, by="transfer_id")
    async def requested(self, event: Requested) -> None:
        await self.aggregate(Purse, event.source).move(self.amounts.pop(0))
        path = event.note.removeprefix("hold:")
        Path(f"{path}.reached").touch()  # noqa: ASYNC240
        await there_is(path)


def moody(event: Requested, recorded: RecordedEvent) -> Any:
    answers = {"number": 5, "long": "x" * 300, "none": None}
    if event.transfer_id == "raise":
        raise ZeroDivisionError
    return answers.get(event.transfer_id, event.transfer_id)


class Moody(Reaction, on_error=QUICK):
    """Knows for some requests only whom they are for."""

    @on(Requested, by=moody)
    def requested(self, event: Requested) -> None:
        self.emit(Noted(1))

    @apply(Noted)
    def _noted(self, event: Noted) -> None: ...


def _other_moved() -> type[Any]:
    @event("hf_transfers.moved")
    class OtherMoved:
        amount: str

    return OtherMoved


OtherMoved = _other_moved()


class Doubtful(Reaction, on_error=DeadLetter()):
    """Takes nothing while the file is there that the request names."""

    @on(Requested, by="transfer_id")
    async def requested(self, event: Requested) -> None:
        if os.path.exists(event.note):  # noqa: ASYNC240
            raise FileExistsError(event.note)
        await self.aggregate(Purse, event.source).move(-event.amount)
