"""Journals: in this process without Ray, and filled beforehand.

Filling goes through the store like everything else: its checks, rows, checksums and triggers are those of a journal
that a host wrote. Only the commands are left out, and the flush after each transaction.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.subjects.counter import Added, Counter
from holdfast.actors.definition import definition_of
from holdfast.journal import Append, Appended, JournalClient, JournalServer, NewEvent, SqliteStore, StreamId
from holdfast.journal.codec import Codec
from holdfast.journal.rows import EVENT_COLUMNS, event_row, name_checksum
from holdfast.journal.sqlite_file import SqliteOptions, connect_writer

__all__ = ["CATEGORY", "added_event", "counter_stream", "fill", "fill_new_streams", "filling", "served"]

CATEGORY = definition_of(Counter).category
FILL_BATCH, FILL_CACHE_MIB = 10_000, 2048
RECORDED_AT = 1_700_000_000_000_000

_encode_added = definition_of(Counter).events[Added].codec.encode
_encode_reply = Codec(int, "reply").encode


class _Direct:
    """The way to a server in the same event loop."""

    def __init__(self, server: JournalServer) -> None:
        self._server = server

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self._server, method)(*args)


@asynccontextmanager
async def served(path: Path) -> AsyncGenerator[JournalClient, None]:
    """A client that sends, in the wire's encoding, to a journal server over the file, both with their defaults."""
    server = JournalServer(SqliteStore(path))
    await server.start()
    try:
        yield JournalClient(_Direct(server))
    finally:
        await server.stop()


def added_event(number: int, amount: int, total: int) -> NewEvent:
    """The event of the `number`th command of a runtime, as a host would hand it in."""
    return NewEvent(
        type="counter.added",
        payload=_encode_added(Added(amount)),
        command_id=f"b0a7c3d1e5f20948-{number}",
        recorded_at=RECORDED_AT + number,
        reply=_encode_reply(total),
    )


def counter_stream(id: str, owner: str, epoch: int, *, events: int, amount: int, after: int = 0) -> Append:
    """`events` additions of `amount` to one counter, after version `after`."""
    return Append(
        stream=StreamId(CATEGORY, id),
        owner=owner,
        epoch=epoch,
        expected_version=after,
        events=tuple(added_event(v, amount, v * amount) for v in range(after + 1, after + events + 1)),
    )


@asynccontextmanager
async def filling(path: Path) -> AsyncGenerator[tuple[SqliteStore, int], None]:
    """The store of a file to be filled, and the epoch of the owner `fill`. It is flushed when it is closed, and not
    before."""
    store = SqliteStore(path, SqliteOptions(synchronous="normal", cache_mib=FILL_CACHE_MIB))
    await store.open()
    try:
        yield store, await store.claim("fill", "fill")
    finally:
        await store.close()


async def fill(store: SqliteStore, appends: Iterable[Append], advance: Callable[[int], None]) -> None:
    """Append all of these, in large transactions."""
    waiting: Iterator[Append] = iter(appends)
    while batch := list(islice(waiting, FILL_BATCH)):
        for result in await store.append(batch):
            assert isinstance(result, Appended), f"the journal refused it: {result!r}"
        advance(len(batch))


def fill_new_streams(path: Path, first: int, ids: Sequence[str], advance: Callable[[int], None]) -> None:
    """Streams number `first` (from 1) and following, each with one event, which adds 1, at the end of a journal that
    has only such: row by row what the store would write, through its connection, under its constraints and triggers,
    without asking it for each stream. In one transaction: names in no order touch pages everywhere, and so each page is
    written once."""
    with closing(connect_writer(path, SqliteOptions(synchronous="normal", cache_mib=FILL_CACHE_MIB))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO categories (name) VALUES (?) ON CONFLICT DO NOTHING", (CATEGORY,))
        (category,) = connection.execute("SELECT key FROM categories WHERE name = ?", (CATEGORY,)).fetchone()
        for at in range(0, len(ids), FILL_BATCH):
            numbered = list(enumerate(ids[at : at + FILL_BATCH], first + at))
            connection.executemany(_INSERT_STREAM, [(key, category, id) for key, id in numbered])
            connection.executemany(_INSERT_EVENT, [_first_row(key, category, id) for key, id in numbered])
            advance(len(numbered))
        connection.execute("COMMIT")


_INSERT_STREAM = "INSERT INTO streams (key, category, id) VALUES (?, ?, ?)"
_INSERT_EVENT = f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({', '.join('?' * 11)})"


def _first_row(key: int, category: int, id: str) -> tuple[Any, ...]:
    return event_row(added_event(key, 1, 1), key, key, 1, category, name_checksum(StreamId(CATEGORY, id)))
