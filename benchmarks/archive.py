"""How fast is a journal exported and imported, against reading and writing the same rows with nothing else?

The journal is one SQLite file of small events in 1,000 streams. Exporting it (checked rows, digests, a file) is
compared with one raw `sqlite3` SELECT of the same columns; importing it (checked blocks, appends, checksums, one
flushed transaction for each block) with raw `executemany` of the same rows in transactions of the same size.
"""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Question, Run, at_least
from benchmarks.subjects.journals import counter_stream, fill, filling
from holdfast.journal.archive_export import export, open_archive_sources
from holdfast.journal.archive_frames import BLOCK_RECORDS
from holdfast.journal.archive_import import import_archive, opened_stores
from holdfast.journal.archive_reader import ArchiveReader
from holdfast.journal.rows import EVENT_COLUMNS
from holdfast.journal.sqlite_file import schema_script

QUESTION = Question(
    name="archive",
    asks="how fast is a journal exported, and imported?",
    compared="raw sqlite3 over the same rows: one SELECT; executemany",
    target=at_least(0.25),
    in_quick=False,
)
STREAMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int
    events: int


FULL = Sizes(rounds=5, events=500_000)
QUICK = Sizes(rounds=3, events=50_000)


async def measure(run: Run, sizes: Sizes) -> None:
    path, file = run.folder / "bank.db", run.folder / "bank.hfa"
    async with filling(path) as (store, epoch):
        with run.progress("filling", sizes.events) as advance:
            for number in range(STREAMS):
                append = counter_stream(f"s{number}", "fill", epoch, events=sizes.events // STREAMS, amount=1, after=0)
                await fill(store, [append], lambda _: advance(sizes.events // STREAMS))
    turn = iter(range(1_000_000))

    async def exporting() -> float:
        sources = await open_archive_sources(f"sqlite:///{path}")
        started = time.perf_counter()
        with file.open("wb") as sink:
            contents = await export(sources, sink)
        taken = time.perf_counter() - started
        for source in sources:
            await source.close()
        assert contents.events == sizes.events, "an event is missing"
        return sizes.events / taken

    async def selecting() -> float:
        started = time.perf_counter()
        assert len(rows_of(path)) == sizes.events
        return sizes.events / (time.perf_counter() - started)

    async def importing() -> float:
        with file.open("rb") as archive:
            async with opened_stores(f"sqlite:///{run.folder}/copy-{next(turn)}.db") as stores:
                started = time.perf_counter()
                imported = await import_archive(ArchiveReader(archive), stores)
                taken = time.perf_counter() - started
        assert imported.events_written == sizes.events, "an event is missing"
        return sizes.events / taken

    async def inserting() -> float:
        return sizes.events / raw_insert_s(run.folder / f"raw-{next(turn)}.db", rows_of(path))

    reads = await run.alternate("export", sizes.rounds, {"ours": exporting, "theirs": selecting})
    run.compare("events exported", "/s", reads["ours"], reads["theirs"])
    writes = await run.alternate("import", sizes.rounds, {"ours": importing, "theirs": inserting})
    run.compare("events imported", "/s", writes["ours"], writes["theirs"])


def rows_of(path: Path) -> list[tuple[object, ...]]:
    """All rows of the table, in the order of their positions."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY position").fetchall()
    finally:
        connection.close()


def raw_insert_s(path: Path, rows: list[tuple[object, ...]]) -> float:
    """Seconds to write them, in flushed transactions of one block each."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(schema_script(2))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    marks = ", ".join("?" * len(EVENT_COLUMNS.split(", ")))
    started = time.perf_counter()
    for start in range(0, len(rows), BLOCK_RECORDS):
        connection.execute("BEGIN IMMEDIATE")
        some = rows[start : start + BLOCK_RECORDS]
        connection.executemany(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({marks})", some)
        connection.execute("COMMIT")
    taken = time.perf_counter() - started
    connection.close()
    return taken
