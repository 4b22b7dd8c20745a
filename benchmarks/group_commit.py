"""How much of SQLite's own speed does the group commit keep, with hundreds of callers waiting for the disk?

A journal server in this process, without Ray. Each caller appends one event to a stream of its own, waits until it is
durable, and appends the next; what waits travels together, encoded as a host sends it. Compared with `executemany` of
the same rows, made beforehand, in one thread: the same schema, triggers and pragmas, a flush after each transaction,
and as many rows in it as the group commit had on average.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.harness import Question, Run, at_least, closed_loop
from benchmarks.subjects.journals import CATEGORY, added_event, counter_stream, fill, filling, served
from holdfast.journal import Append, JournalClient, StreamId
from holdfast.journal.rows import EVENT_COLUMNS, event_row, name_checksum
from holdfast.journal.sqlite_file import SqliteOptions, connect_writer

QUESTION = Question(
    name="group_commit",
    asks="how much of SQLite's own append rate does the group commit keep?",
    compared="raw sqlite3.executemany of the same rows",
    target=at_least(0.7),
)
OWNER = f"{CATEGORY}#0"
INSERT = f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({', '.join('?' * 11)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """`each`: appends of each caller in one round."""

    rounds: int
    callers: int
    each: int


FULL = Sizes(rounds=9, callers=500, each=200)
QUICK = Sizes(rounds=3, callers=500, each=40)


async def measure(run: Run, sizes: Sizes) -> None:
    for name in ("ours.db", "raw.db"):
        await prepare(run.folder / name, sizes.callers)
    raw = RawRows(run.folder / "raw.db", sizes.callers)
    async with served(run.folder / "ours.db") as client:
        epoch = await client.claim(OWNER, "benchmark")
        batches: list[float] = []
        rounds = count()

        async def ours() -> float:
            before, number = await client.statistics(), next(rounds)
            taken = await append_all(client, epoch, sizes, after=1 + number * sizes.each)
            after = await client.statistics()
            batches.append((after.appends - before.appends) / (after.commits - before.commits))
            return sizes.callers * sizes.each / taken

        async def theirs() -> float:
            rows = sizes.callers * sizes.each
            return rows / raw.insert_s(rows, round(batches[-1]))

        samples = await run.alternate("rounds", sizes.rounds, {"ours": ours, "theirs": theirs})
        run.compare("durable appends", "/s", samples["ours"], samples["theirs"])
        run.details["rows in one transaction, by round"] = [round(batch) for batch in batches]
        versions = {version for _, version in await client.list_streams(category=CATEGORY, limit=sizes.callers)}
        assert versions == {1 + (1 + sizes.rounds) * sizes.each}, f"an append was lost or doubled: {versions}"
    assert raw.count() == sizes.callers * (1 + (1 + sizes.rounds) * sizes.each), "a raw row was lost or doubled"


async def prepare(path: Path, streams: int) -> None:
    """Both start with the same streams, of one event each."""
    async with filling(path) as (store, epoch):
        appends = (counter_stream(f"{n}", "fill", epoch, events=1, amount=1) for n in range(streams))
        await fill(store, appends, lambda more: None)


async def append_all(client: JournalClient, epoch: int, sizes: Sizes, *, after: int) -> float:
    """Seconds until every caller has appended all of its events, each after the one before it was durable."""

    async def caller(number: int) -> None:
        stream = StreamId(CATEGORY, f"{number}")
        for version in range(after, after + sizes.each):
            event = added_event(version, 1, version + 1)
            append = Append(stream=stream, owner=OWNER, epoch=epoch, expected_version=version, events=(event,))
            await client.append(append, 150)

    return await closed_loop(caller, sizes.callers)


class RawRows:
    """The same rows, by `executemany`, through a connection that is set up as the journal's own."""

    def __init__(self, path: Path, streams: int) -> None:
        self._connection = connect_writer(path, SqliteOptions())
        keys = self._connection.execute("SELECT key, id FROM streams ORDER BY key").fetchall()
        self._streams = [(key, name_checksum(StreamId(CATEGORY, id.decode()))) for key, id in keys]
        assert len(self._streams) == streams
        (self._category,) = self._connection.execute("SELECT key FROM categories").fetchone()
        self._positions = count(streams + 1)

    def insert_s(self, rows: int, batch: int) -> float:
        """Seconds to have so many on the disk; making the rows is not in it."""
        waiting = list(self._rows(rows))
        started = time.perf_counter()
        for at in range(0, rows, batch):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(INSERT, waiting[at : at + batch])
            self._connection.execute("COMMIT")
        return time.perf_counter() - started

    def count(self) -> int:
        """Of all events in the file."""
        (found,) = self._connection.execute("SELECT count(*) FROM events").fetchone()
        return int(found)

    def _rows(self, rows: int) -> Iterator[tuple]:
        for _ in range(rows):
            position = next(self._positions)
            place = (position - 1) % len(self._streams)
            version = (position - 1) // len(self._streams) + 1
            key, name = self._streams[place]
            yield event_row(added_event(version - 1, 1, version), position, key, version, self._category, name)
