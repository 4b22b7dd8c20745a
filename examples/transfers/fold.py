"""An independent judge: from the rows of the journal's file to balances, without any of the code that made them.

It knows names of events and of their fields, and adds up. What the accounts hold at the end must be what they opened
with, no transfer may have moved its amount more than once to either side, and each must have come to an end.
"""

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

__all__ = ["Books", "fold"]

ENDS = {"transfers.done": "done", "transfers.failed": "failed"}


@dataclass
class Books:
    """What the journal says. `problems`: whatever must not be; empty if all is well."""

    opened: int = 0
    held: int = 0
    ordered: int = 0
    outcomes: "Counter[str]" = field(default_factory=Counter)
    reasons: "Counter[str]" = field(default_factory=Counter)
    expired: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)


def fold(path: Path) -> Books:
    """Add up a journal file."""
    books, balances = Books(), defaultdict[str, int](int)
    orders: dict[str, Any] = {}
    ends: defaultdict[str, list[str]] = defaultdict(list)
    entries: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)  # by transfer: account and amount
    for id, type, payload in _rows(path):
        books.events += 1
        fields: dict[str, Any] = msgpack.unpackb(payload)
        if type == "transfers.opened":
            books.opened += fields["balance"]
            balances[id] += fields["balance"]
        elif type in ("transfers.withdrawn", "transfers.deposited"):
            amount = -fields["amount"] if type == "transfers.withdrawn" else fields["amount"]
            balances[id] += amount
            entries[fields["transfer"]].append((id, amount))
        elif type == "transfers.ordered":
            orders[fields["transfer"]] = fields
        elif type in ENDS:
            ends[id].append(ENDS[type])
            if type == "transfers.failed":
                books.reasons[fields["why"].partition(" ")[2]] += 1  # "… was late", "… is closed", "… has too little"
        elif type == "transfers.expired":
            books.expired += 1
    books.held, books.ordered = sum(balances.values()), len(orders)
    if books.held != books.opened:
        books.problems.append(f"the accounts opened with {books.opened} and hold {books.held}")
    books.problems += [f"{id} holds {balance}" for id, balance in balances.items() if balance < 0]
    for transfer, order in orders.items():
        _judge(books, order, ends[transfer], entries[transfer])
    books.problems += [f"{transfer} was never ordered" for transfer in {*ends, *entries} - orders.keys()]
    return books


def _judge(books: Books, order: dict[str, Any], ends: list[str], entries: list[tuple[str, int]]) -> None:
    source, to, amount = order["source"], order["to"], order["amount"]
    right = {
        "done": [[(source, -amount), (to, amount)]],
        "failed": [[], [(source, -amount), (source, amount)]],  # never taken, or put back
    }
    if len(ends) != 1:
        books.problems.append(f"{order['transfer']} has ended {len(ends)} times: {ends}")
    elif entries not in right[ends[0]]:
        books.problems.append(f"{order['transfer']} is {ends[0]}, and its entries are {entries}")
    else:
        put_back = ends[0] == "failed" and entries
        books.outcomes["compensated" if put_back else ends[0]] += 1


def _rows(path: Path) -> list[tuple[str, str, bytes]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(
            "SELECT s.id, e.type, e.payload FROM events e JOIN streams s ON s.key = e.stream ORDER BY e.position"
        ).fetchall()
    finally:
        connection.close()
