"""What the golden journals are about. These classes never change: what older releases wrote must stay readable by them,
and they must be readable by older releases."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from holdfast.actors import Aggregate, Rejected, command, event, on, query

THEN = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    price: Decimal | str
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)


@event("golden.opened")
class Opened:
    owner: str
    at: datetime
    birthday: date | None = None


@event("golden.deposited")
class Deposited:
    amount: Decimal
    note: str | None = None


@event("golden.ordered")
class Ordered:
    lines: list[Line]
    by_sku: dict[str, Line]
    sizes: tuple[int, float, bool]
    key: UUID
    raw: bytes
    patience: timedelta


@event("golden.expired")
class Expired:
    pass


class Account(Aggregate, snapshot_every=3, snapshots_kept=2):
    owner: str = ""
    balance: Decimal = Decimal(0)
    notes: list[str] = []
    opened_at: datetime | None = None

    @command
    def open(self, owner: str) -> None:
        if self.owner:
            raise Rejected("open already")
        self.emit(Opened(owner, THEN, date(2000, 1, 1)))

    @command
    def deposit(self, amount: Decimal, note: str | None = None) -> Decimal:
        self.emit(Deposited(amount, note))
        return self.balance

    @query
    def balance_now(self) -> Decimal:
        return self.balance

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.owner, self.opened_at = event.owner, event.at

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount
        if event.note is not None:
            self.notes.append(event.note)


class Order(Aggregate, category="golden order"):
    lines: list[Line] = []
    skus: set[str] = set()
    seconds: float = 0.0
    expired: bool = False

    @command
    def order(self, *skus: str) -> int:
        lines = [Line(sku, Decimal("1.50"), Colour.BLUE, ["new"]) for sku in skus]
        by_sku = {sku: Line(sku, "free") for sku in skus}
        self.emit(Ordered(lines, by_sku, (1, 0.5, True), UUID(int=7), b"\x00\xff", timedelta(seconds=90)))
        return len(self.lines)

    @command
    def expire_later(self) -> None:
        """Of journals of schema 2 and later: a reminder that is pending."""
        self.remind("expire", at=datetime(2999, 1, 1, tzinfo=UTC), command="expire")

    @command
    def expire(self) -> None:
        self.emit(Expired())

    @on(Ordered)
    def _ordered(self, event: Ordered) -> None:
        self.lines += event.lines
        self.skus |= set(event.by_sku)
        self.seconds += event.patience.total_seconds()

    @on(Expired)
    def _expired(self, event: Expired) -> None:
        self.expired = True
