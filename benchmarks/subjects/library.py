"""The same counter with the library `eventsourcing` and SQLite, as fast as its settings make it.

Aggregates stay in its cache, are not read again before a command (`FASTFORWARD` off, right where there is one process)
and are not copied out of the cache. It brings one transcoder, JSON. It switches the file to WAL by itself and leaves
`synchronous` as SQLite has it: that this is FULL, and that each save is flushed, is checked.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

__all__ = ["Counters", "LibraryCounter", "commands_per_s", "opened"]

FULL = 2  # in SQLite's PRAGMA synchronous


class LibraryCounter(Aggregate):
    @event("Started")
    def __init__(self) -> None:
        self.total = 0

    @event("Added")
    def add(self, amount: int) -> None:
        self.total += amount


class Counters(Application[UUID]):
    def start(self, count: int, *, events: int = 0, amount: int = 1, batch: int = 500) -> list[UUID]:
        """New counters, each with so many additions, saved in batches: this is preparation."""
        ids: list[UUID] = []
        while len(ids) < count:
            counters = [LibraryCounter() for _ in range(min(batch, count - len(ids)))]
            for counter in counters:
                for _ in range(events):
                    counter.add(amount)
            self.save(*counters)
            ids += [counter.id for counter in counters]
        return ids

    def add(self, id: UUID, amount: int) -> int:
        counter: LibraryCounter = self.repository.get(id)
        counter.add(amount)
        self.save(counter)
        return counter.total

    def value(self, id: UUID) -> int:
        counter: LibraryCounter = self.repository.get(id)
        return counter.total


def opened(path: Path, *, cached: bool) -> Counters:
    """An application over the file."""
    env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path)}
    if cached:
        env |= {"AGGREGATE_CACHE_MAXSIZE": "100000", "AGGREGATE_CACHE_FASTFORWARD": "n"}
        env |= {"DEEPCOPY_FROM_AGGREGATE_CACHE": "n"}
    counters = Counters(env)
    with counters.factory.datastore.transaction(commit=True) as cursor:  # type: ignore[attr-defined]
        found = [_pragma(cursor, name) for name in ("journal_mode", "synchronous")]
    assert found == ["wal", FULL], f"it does not flush each save: {found}"
    return counters


def commands_per_s(counters: Counters, ids: Sequence[UUID], each: int, *, threads: int = 1) -> float:
    """Commands a second: `each` for every id, the ids divided among threads."""

    def work(own: Sequence[UUID]) -> None:
        for _ in range(each):
            for id in own:
                counters.add(id, 1)

    workers = [threading.Thread(target=work, args=(ids[number::threads],)) for number in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(ids) * each / (time.perf_counter() - started)


def _pragma(cursor: object, name: str) -> object:
    cursor.execute(f"PRAGMA {name}")  # type: ignore[attr-defined]
    return cursor.fetchone()[0]  # type: ignore[attr-defined]
