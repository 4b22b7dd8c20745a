"""How much of SQLite's own speed does the group commit keep, with two thousand appends waiting for the disk?

A journal server in this process, without Ray, and the requests of four hosts, two of each under way as a host has them:
batches of appends of one event, each to another stream, as bytes; each request is followed by its next when it is
answered. What waits while a transaction is under way becomes the next one. Compared with `executemany` of the same rows
in one thread: the same schema, triggers and pragmas, a flush after each transaction, and as many rows in it as the
group commit had on average. What comes in is made beforehand on both sides: requests here, rows there.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.harness import Question, Run, at_least, closed_loop
from benchmarks.subjects.journals import CATEGORY, added_event, counter_stream, fill, filling
from holdfast.journal import Append, Appended, StreamId
from holdfast.journal.rows import EVENT_COLUMNS, event_row, name_checksum
from holdfast.journal.server import JournalServer
from holdfast.journal.sqlite import SqliteStore
from holdfast.journal.sqlite_file import SqliteOptions, connect_writer
from holdfast.journal.wire import decode_appended, encode

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
    """`under_way`: requests at once. `appends`: of each. `requests`: one after the other, in one round."""

    rounds: int
    under_way: int
    appends: int
    requests: int

    @property
    def streams(self) -> int:
        """Each append under way is to another one."""
        return self.under_way * self.appends

    @property
    def events(self) -> int:
        """Of one round."""
        return self.streams * self.requests


FULL = Sizes(rounds=9, under_way=8, appends=250, requests=50)
QUICK = Sizes(rounds=3, under_way=8, appends=250, requests=15)


async def measure(run: Run, sizes: Sizes) -> None:
    for name in ("ours.db", "raw.db"):
        await prepare(run.folder / name, sizes.streams)
    raw = RawRows(run.folder / "raw.db", sizes.streams)
    server = JournalServer(SqliteStore(run.folder / "ours.db"))
    await server.start()
    try:
        epoch = await server.claim(OWNER, "benchmark")
        batches: list[float] = []
        rounds = count()

        async def ours() -> float:
            before = await server.statistics()
            requests = made(sizes, epoch, after=1 + next(rounds) * sizes.requests)
            taken = await append_all(server, requests)
            after = await server.statistics()
            batches.append((after.appends - before.appends) / (after.commits - before.commits))
            return sizes.events / taken

        async def theirs() -> float:
            return sizes.events / raw.insert_s(sizes.events, round(batches[-1]))

        samples = await run.alternate("rounds", sizes.rounds, {"ours": ours, "theirs": theirs})
        run.compare("durable appends", "/s", samples["ours"], samples["theirs"])
        run.details["rows in one transaction, by round"] = [round(batch) for batch in batches]
        streams = await server.list_streams(category=CATEGORY, limit=sizes.streams)
        versions = {version for _, version in streams}
        assert versions == {1 + (1 + sizes.rounds) * sizes.requests}, f"an append was lost or doubled: {versions}"
    finally:
        await server.stop()
    assert raw.count() == sizes.streams * (1 + (1 + sizes.rounds) * sizes.requests), "a raw row was lost or doubled"


async def prepare(path: Path, streams: int) -> None:
    """Both start with the same streams, of one event each."""
    async with filling(path) as (store, epoch):
        appends = (counter_stream(f"{n}", "fill", epoch, events=1, amount=1) for n in range(streams))
        await fill(store, appends, lambda more: None)


def made(sizes: Sizes, epoch: int, *, after: int) -> list[list[bytes]]:
    """The requests that follow one another, for each that is under way: each brings its streams one version on."""
    return [
        [
            encode([append(place, version, epoch) for place in range(line, sizes.streams, sizes.under_way)])
            for version in range(after, after + sizes.requests)
        ]
        for line in range(sizes.under_way)
    ]


def append(place: int, version: int, epoch: int) -> Append:
    """The event after `version` of the stream at `place`."""
    event = added_event(version, 1, version + 1)
    return Append(
        stream=StreamId(CATEGORY, f"{place}"), owner=OWNER, epoch=epoch, expected_version=version, events=(event,)
    )


async def append_all(server: JournalServer, requests: list[list[bytes]]) -> float:
    """Seconds until every request is answered. Checks that no answer is a refusal."""
    answers: list[bytes] = []

    async def line(number: int) -> None:
        for request in requests[number]:
            answers.append(await server.append(request))

    taken = await closed_loop(line, len(requests))
    answered = [each for answer in answers for each in decode_appended(answer)]
    refused = [each for each in answered if not isinstance(each, Appended)]
    assert not refused, f"refused, so one before it was lost or doubled: {refused[0]}"
    return taken


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
