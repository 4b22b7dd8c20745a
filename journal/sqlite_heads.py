"""What the writer remembers of the file: heads of streams, epochs of owners, the newest numbers in use.

There is no other writer, so what is remembered is the truth; a rollback forgets all of it. Bounded: passive
streams fall out, and one seek brings them back.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

from .records import StreamId
from .rows import name_checksum
from .sqlite_names import MISLED, is_named
from .sqlite_transaction import Transactions

__all__ = ["Head", "Heads", "Newest"]

_REMEMBERED_MAX = 100_000
"""Streams, owners and categories, each. The one remembered longest goes first: should it be a busy one, that is
one seek in a hundred thousand, less than keeping order by use would cost on every append."""

_SELECT_HEAD = (
    "SELECT s.key, s.category, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams AS s"
    " WHERE s.category = (SELECT key FROM categories WHERE name = ?) AND s.id = ?"
)
# The sequence remembers the highest position ever used, even if somebody has removed the row.
_SELECT_NEWEST = (
    "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'events'), (SELECT max(position) FROM events),"
    " (SELECT max(key) FROM streams)"
)

_K = TypeVar("_K", bound=Hashable)


@dataclass(slots=True)
class Head:
    """One stream. `key` 0: nobody has written to it yet. `name`: where its checksums begin."""

    key: int
    category: int
    name: int
    version: int


@dataclass(slots=True)
class Newest:
    """The highest numbers in use, by the file and by the rows that are gathered for it."""

    position: int
    stream: int


class Heads:
    """Answers from memory, or from the file inside the transaction that is open."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._streams = OrderedDict[StreamId, Head]()
        self._epochs = OrderedDict[str, int]()
        self._categories = OrderedDict[str, int]()
        self._newest: Newest | None = None

    def head(self, stream: StreamId) -> Head:
        """The head of a stream; of one that nobody has written to, a new one that is not remembered.

        Raises `sqlite3.IntegrityError` for one that the index of names has lost."""
        head = self._streams.get(stream)
        return self._find_head(stream) if head is None else head

    def _find_head(self, stream: StreamId) -> Head:
        row = self._transactions.connection.execute(_SELECT_HEAD, stream).fetchone()
        if row is None:
            return Head(key=0, category=0, name=name_checksum(stream), version=0)
        head = Head(key=row[0], category=row[1], name=name_checksum(stream), version=row[2] or 0)
        if not head.version and not is_named(self._transactions.connection, head.key, stream):
            raise sqlite3.IntegrityError(MISLED)
        self._streams[stream] = head
        return head

    def create(self, stream: StreamId, head: Head) -> None:
        """Give a stream that is new its key, and remember it. Its row is for the caller to insert."""
        newest = self.newest()
        newest.stream += 1
        head.key, head.category = newest.stream, self._category(stream.category)
        self._streams[stream] = head

    def epoch(self, owner: str) -> int:
        """The current epoch of an owner, 0 if nobody has claimed it."""
        epoch = self._epochs.get(owner)
        if epoch is None:
            select = "SELECT max(epoch) FROM owners WHERE owner = ?"
            (found,) = self._transactions.connection.execute(select, (owner,)).fetchone()
            epoch = self._epochs[owner] = found or 0
        return epoch

    def claimed(self, owner: str, epoch: int) -> None:
        """Remember a claim."""
        self._epochs[owner] = epoch

    def newest(self) -> Newest:
        """The numbers from which the next ones follow. Count them up as rows are gathered."""
        if self._newest is None:
            used, position, stream = self._transactions.connection.execute(_SELECT_NEWEST).fetchone()
            self._newest = Newest(position=max(used or 0, position or 0), stream=stream or 0)
        return self._newest

    def _category(self, name: str) -> int:
        key = self._categories.get(name)
        if key is None:
            connection = self._transactions.connection
            connection.execute("INSERT INTO categories (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (key,) = connection.execute("SELECT key FROM categories WHERE name = ?", (name,)).fetchone()
            self._categories[name] = key
        return key

    def trim(self) -> None:
        """Come back within bounds. Between transactions only: a head may be ahead of rows not yet inserted."""
        _trim(self._streams)
        _trim(self._epochs)
        _trim(self._categories)

    def forget(self) -> None:
        """After a rollback: none of it may be true any more."""
        self._streams.clear()
        self._epochs.clear()
        self._categories.clear()
        self._newest = None


def _trim(memory: OrderedDict[_K, Head] | OrderedDict[_K, int]) -> None:
    while len(memory) > _REMEMBERED_MAX:
        memory.popitem(last=False)
