"""A bookshop: what the tests of the console look at, and the pictures of its documents show.

Orders reserve stock and settle invoices, so commands cause commands; a reaction packs parcels, and sets one aside.
Beside them lie streams with names and contents that nobody would wish for, one of 100,000 events, and a damaged one.
"""

import asyncio
import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from holdfast.actors import Aggregate, DeadLetter, Reaction, Rejected, command, event, on, query
from holdfast.journal.codec import encode_plain
from holdfast.journal.records import Append, NewEvent, StreamId
from holdfast.journal.url import open_store
from holdfast.runtime import Projection, Runtime, Sharded, Table

NOON = 1_767_960_000_000_000  # 2026-01-09 12:00 UTC, in µs


@dataclass(frozen=True)
class Line:
    """So many copies of a book, at a price each."""

    title: str
    copies: int
    price: Decimal


@event("order.placed")
class Placed:
    customer: str
    lines: list[Line]


@event("order.stock_reserved")
class StockReserved:
    titles: list[str]


@event("order.address_changed")
class AddressChanged:
    street: str
    city: str


@event("order.paid")
class Paid:
    amount: Decimal
    invoice: str


@event("order.shipped")
class Shipped:
    parcel: str


@event("stock.received")
class Received:
    copies: int


@event("stock.reserved")
class Reserved:
    order: str
    copies: int


@event("invoice.issued")
class Issued:
    order: str
    amount: Decimal


@event("invoice.settled")
class Settled:
    amount: Decimal


@event("parcel.packed")
class Packed:
    order: str


class Stock(Aggregate):
    """Copies of one book."""

    on_hand: int = 0
    reserved: dict[str, int] = {}

    @command
    def receive(self, copies: int) -> int:
        self.emit(Received(copies))
        return self.on_hand

    @command
    def reserve(self, order: str, copies: int) -> None:
        if copies > self.on_hand:
            raise Rejected(f"only {self.on_hand} copies of {self.id} are left")
        self.emit(Reserved(order, copies))

    @on(Received)
    def _received(self, event: Received) -> None:
        self.on_hand += event.copies

    @on(Reserved)
    def _reserved(self, event: Reserved) -> None:
        self.on_hand -= event.copies
        self.reserved[event.order] = event.copies


class Invoice(Aggregate):
    """What a customer owes for one order."""

    order: str = ""
    due: Decimal = Decimal(0)

    @command
    def issue(self, order: str, amount: Decimal) -> None:
        self.emit(Issued(order, amount))

    @command
    def settle(self, amount: Decimal) -> None:
        self.emit(Settled(amount))

    @on(Issued)
    def _issued(self, event: Issued) -> None:
        self.order, self.due = event.order, event.amount

    @on(Settled)
    def _settled(self, event: Settled) -> None:
        self.due -= event.amount


class Parcel(Aggregate):
    """What leaves the shop."""

    order: str = ""

    @command
    async def pack(self, order: str) -> None:
        if order.endswith("-3"):
            raise Rejected(f"nobody knows where {order} goes: its address has no street")
        self.emit(Packed(order))
        await self.aggregate(Order, order).ship(self.id)

    @on(Packed)
    def _packed(self, event: Packed) -> None:
        self.order = event.order


class Order(Aggregate):
    """What a customer wants, and what has become of it."""

    customer: str = ""
    status: str = "new"
    lines: list[Line] = []
    address: dict[str, str] = {}
    paid: Decimal = Decimal(0)
    parcel: str | None = None

    @command
    async def place(self, customer: str, lines: list[Line]) -> None:
        self.emit(Placed(customer, lines))
        for line in lines:
            await self.aggregate(Stock, line.title).reserve(self.id, line.copies)
        await self.aggregate(Invoice, f"I-{self.id}").issue(self.id, self.total())
        self.emit(StockReserved([line.title for line in lines]))

    @command
    def move(self, street: str, city: str) -> None:
        self.emit(AddressChanged(street, city))

    @command
    async def pay(self, amount: Decimal) -> None:
        await self.aggregate(Invoice, f"I-{self.id}").settle(amount)
        self.emit(Paid(amount, f"I-{self.id}"))

    @command
    def ship(self, parcel: str) -> None:
        self.emit(Shipped(parcel))

    @query
    def total(self) -> Decimal:
        return sum((line.price * line.copies for line in self.lines), Decimal(0))

    @on(Placed)
    def _placed(self, event: Placed) -> None:
        self.customer, self.lines, self.status = event.customer, event.lines, "placed"

    @on(StockReserved)
    def _reserved(self, event: StockReserved) -> None:
        self.status = "reserved"

    @on(AddressChanged)
    def _moved(self, event: AddressChanged) -> None:
        self.address = {"street": event.street, "city": event.city}

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self.paid += event.amount
        self.status = "paid"

    @on(Shipped)
    def _shipped(self, event: Shipped) -> None:
        self.parcel, self.status = event.parcel, "shipped"


class Shipping(Reaction, on_error=DeadLetter()):
    """Packs a parcel for what is paid."""

    @on(Paid, by="invoice")
    async def paid(self, event: Paid) -> None:
        order = event.invoice.removeprefix("I-")
        await self.aggregate(Parcel, f"P-{order}").pack(order)


class Sales(Projection):
    """What was paid, by order."""

    sales = Table("id TEXT PRIMARY KEY, paid BIGINT NOT NULL")

    @on(Paid)
    def paid(self, event: Paid, recorded: Any) -> None:
        self.execute(f"INSERT INTO {self.sales} VALUES (?, ?)", recorded.id, int(event.amount * 100))


CLASSES = (Order, Stock, Invoice, Parcel)
BOOKS = {
    "The Left Hand of Darkness": Decimal("12.90"),
    "Invisible Cities": Decimal("10.50"),
    "The Summer Book": Decimal("9.99"),
    "Solaris": Decimal("11.00"),
    "Pale Fire": Decimal("13.40"),
}
CUSTOMERS = ("ann@example.org", "bo@example.org", "cleo@example.org", "dee@example.org")
CITIES = ("Turku", "Łódź", "Zürich", "Århus")

SCRIPT = "<script>window.hacked = true; alert(1)</script>"
IMAGE = '<img src=x onerror="window.hacked = true; alert(2)">'
QUOTES = "\"'`><b>${7*7}{{7*7}}</b>"
HOSTILE_IDS = (
    SCRIPT,
    IMAGE,
    QUOTES,
    "..",
    ".",
    "../../etc/passwd",
    "a/b//c",
    "100%",
    "%2e%2e%2f",
    "a?b=c&d#e",
    "+ +",
    "naïve 客户 עברית العربية",
    "evil\u202etxt.exe",
    "bell\u0007 and \u200b nothing",
    "x" * 255,
)
HOSTILE_FIELDS: dict[str, Any] = {
    "script": SCRIPT,
    IMAGE: IMAGE,
    "quotes": QUOTES,
    "turned": "invoice\u202egnp.exe and \u2066more",
    "controls": "a\x00b\x1b[31mred\r\nnext\ttab",
    "long": "long " * 20_000,
    "bytes": bytes(range(256)),
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": [1, [2, [3, {"h": SCRIPT}]]]}}}}}}},
    "many": list(range(3000)),
    "nothing": None,
    "empty": {"text": "", "list": [], "map": {}},
    "": "the key is empty",
    "large": 2**63,
    "fraction": 0.1,
    "yes": True,
}
LONG = StreamId("Meter", "hall")
DAMAGED = StreamId("Ledger", "torn")
DAMAGED_VERSION = 5
LONG_EVENTS = 100_000


@dataclass(frozen=True)
class Shop:
    """Where its journal is."""

    url: str
    folder: Path


async def make(folder: Path, *, long_events: int = LONG_EVENTS) -> Shop:
    """Make the journal, with everything in it."""
    url = f"sqlite:///{folder}/shop.db"
    quick = f"{url}?synchronous=normal"
    async with Runtime.local(quick, placement=Sharded(2)) as runtime:
        await trade(runtime, orders=24)
        await runtime.start(Shipping)
        await runtime.wait_for(Shipping)
    store = open_store(quick)
    await store.open()
    try:
        epoch = await store.claim("tests", "one")
        for number, id in enumerate(HOSTILE_IDS):
            fields = HOSTILE_FIELDS if number == 0 else {"id": id}
            await _append(store, epoch, StreamId("Hostile", id), [_event(number, f"hostile.{id[:60]}", fields)])
        for start in range(0, long_events, 5000):
            page = [_event(at, "meter.read", {"kwh": at}) for at in range(start, min(start + 5000, long_events))]
            await _append(store, epoch, LONG, page, expected=start)
        await _append(store, epoch, DAMAGED, [_event(n, "ledger.booked", {"cents": n * 100}) for n in range(9)])
    finally:
        await store.close()
    _tear(folder / "shop.db")
    return Shop(url, folder)


async def trade(runtime: Runtime, *, orders: int) -> None:
    """Books arrive, are ordered, paid for and sent."""
    titles = list(BOOKS)
    for title in titles:
        await runtime.get(Stock, title).receive(200)
    for number in range(1, orders + 1):
        order = runtime.get(Order, f"2026-{number}", metadata={"channel": "web" if number % 2 else "shop"})
        picked = [titles[(number + step) % len(titles)] for step in range(1 + number % 3)]
        lines = [Line(title, 1 + (number + at) % 3, BOOKS[title]) for at, title in enumerate(picked)]
        await order.place(CUSTOMERS[number % len(CUSTOMERS)], lines)
        await order.move(f"Canal Street {number}", CITIES[number % len(CITIES)])
        if number % 4:
            await order.pay(await order.total())


def _event(number: int, type: str, fields: dict[str, Any]) -> NewEvent:
    return NewEvent(
        type=type,
        payload=encode_plain(fields),
        command_id=f"made-{type[:20]}-{number}",
        recorded_at=NOON + number * 60_000_000,
    )


async def _append(store: Any, epoch: int, stream: StreamId, events: list[NewEvent], expected: int = 0) -> None:
    append = Append(stream=stream, owner="tests", epoch=epoch, expected_version=expected, events=tuple(events))
    (result,) = await store.append([append])
    if isinstance(result, Exception):
        raise result


def _tear(path: Path) -> None:
    """Flip bytes of one event of the damaged stream, past the triggers that would refuse it."""
    with sqlite3.connect(path) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        changed = database.execute(
            "UPDATE events SET payload = zeroblob(8) WHERE version = ? AND stream ="
            " (SELECT s.key FROM streams s JOIN categories c ON c.key = s.category WHERE c.name = ? AND s.id = ?)",
            (DAMAGED_VERSION, *DAMAGED),
        )
        assert changed.rowcount == 1
    database.close()


if __name__ == "__main__":
    import sys

    print(asyncio.run(make(Path(sys.argv[1]))).url)
