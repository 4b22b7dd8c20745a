"""Events that were otherwise once, and what lives from them. A module that hosts and followers import by its name."""

from typing import Any

from holdfast.actors import Aggregate, DeadLetter, Reaction, RecordedEvent, apply, command, event, on, query, upcast
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.runtime import Projection, Table


@event("hf_upcast.deposited", version=2, aliases=("hf_upcast.deposit_made",))
class Deposited:
    cents: int

    @upcast(from_version=1)
    @staticmethod
    def _fee_apart(old: dict[str, Any]) -> list[Any]:
        deposited = [] if old.get("void") else [{"cents": old["amount"] * 100}]
        return [*deposited, ("hf_upcast.fee_charged", {"cents": old["fee"]})] if "fee" in old else deposited


@event("hf_upcast.fee_charged", split_from=(Deposited,))
class FeeCharged:
    cents: int


class Account(Aggregate, category="OldAccount", snapshot_every=3):
    cents: int = 0
    fees: int = 0

    @command
    def deposit(self, cents: int) -> int:
        self.emit(Deposited(cents))
        return self.cents

    @query
    def both(self) -> tuple[int, int]:
        return self.cents, self.fees

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.cents += event.cents

    @on(FeeCharged)
    def _fee_charged(self, event: FeeCharged) -> None:
        self.fees += event.cents


class Sums(Projection):
    """What each account has paid in, and in fees; and each part that was seen."""

    sums = Table("id TEXT PRIMARY KEY, cents BIGINT NOT NULL, fees BIGINT NOT NULL")

    @on(Deposited)
    def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        self.add(recorded.id, event.cents, 0)

    @on(FeeCharged)
    def fee_charged(self, event: FeeCharged, recorded: RecordedEvent) -> None:
        self.add(recorded.id, 0, event.cents)

    def add(self, id: str, cents: int, fees: int) -> None:
        self.execute(
            f"INSERT INTO {self.sums} VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            f" cents = {self.sums}.cents + excluded.cents, fees = {self.sums}.fees + excluded.fees",
            id,
            cents,
            fees,
        )


class FeesOnly(Projection, on_error=DeadLetter()):
    """Knows nothing of deposits."""

    fees = Table("place TEXT PRIMARY KEY, cents BIGINT NOT NULL")

    @on(FeeCharged)
    def fee_charged(self, event: FeeCharged, recorded: RecordedEvent) -> None:
        place = f"{recorded.position}.{recorded.part} {recorded.type}"
        self.execute(f"INSERT INTO {self.fees} VALUES (?, ?)", place, event.cents)


@event("hf_upcast.noted")
class Noted:
    what: str


class Notes(Reaction, on_error=DeadLetter()):
    """An instance for all deposits and one for all fees, and a deposit into the till for each."""

    noted: list[str] = []

    @on(Deposited, by=lambda event, recorded: None if recorded.id == "till" else "deposits")
    async def deposited(self, event: Deposited, recorded: RecordedEvent) -> None:
        await self.aggregate(Account, "till").deposit(event.cents)
        self.emit(Noted(f"{recorded.position}.{recorded.part} {event.cents}"))

    @on(FeeCharged, by=lambda event, recorded: "fees")
    async def fee_charged(self, event: FeeCharged, recorded: RecordedEvent) -> None:
        await self.aggregate(Account, "till").deposit(event.cents)
        self.emit(Noted(f"{recorded.position}.{recorded.part} {event.cents}"))

    @query
    def seen(self) -> list[str]:
        return self.noted

    @apply(Noted)
    def _noted(self, event: Noted) -> None:
        self.noted.append(event.what)


async def write_old(runtime: Any, id: str, *events: Any, after: int = 0) -> None:
    """Append what older code would have, to an account whose version is `after`."""
    stream = StreamId("OldAccount", id)
    epoch = await runtime._journal.claim("older code", f"older code {id}")
    made = tuple(
        NewEvent(type=each.type, payload=each.payload, command_id=f"{id}-{n}", recorded_at=1_700_000_000_000_000)
        for n, each in enumerate(events, after + 1)
    )
    append = Append(stream=stream, owner="older code", epoch=epoch, expected_version=after, events=made)
    await runtime._journal.append(append)
