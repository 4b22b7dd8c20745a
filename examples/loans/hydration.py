"""What it costs to bring one application into memory: from its snapshot, and from its first event.

Both ways run in this process, straight on the journal's file, so that they differ in what they read alone.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from holdfast.actors.definition import definition_of
from holdfast.actors.hydrate import hydrate
from holdfast.journal import JournalClient, JournalServer, StreamId, open_store

from .domain import LoanApplication

__all__ = ["Cost", "costs"]

TIMES = 50


@dataclass(frozen=True, slots=True)
class Cost:
    """Rows read and, in the median of many times, milliseconds."""

    rows: int
    ms: float

    def __str__(self) -> str:
        return f"{self.rows:,} row{'s' * (self.rows != 1)}, {self.ms:.2f} ms"


async def costs(url: str, case: str) -> tuple[Cost, Cost]:
    """Of one application: from its snapshot, and from its first event."""
    server = JournalServer(open_store(url))
    await server.start()
    try:
        client = JournalClient(_Direct(server))
        return await _cost(client, case, use_snapshot=True), await _cost(client, case, use_snapshot=False)
    finally:
        await server.stop()


async def _cost(client: JournalClient, case: str, *, use_snapshot: bool) -> Cost:
    definition, rows, took = definition_of(LoanApplication), 0, list[float]()
    for _ in range(TIMES):
        started = time.perf_counter()
        found = await hydrate(definition, StreamId(definition.category, case), client, use_snapshot=use_snapshot)
        took.append(time.perf_counter() - started)
        rows = found.rows_read
    return Cost(rows, statistics.median(took) * 1000)


class _Direct:
    """The way to a journal server in this process."""

    def __init__(self, server: JournalServer) -> None:
        self._server = server

    async def ask(self, method: str, *args: Any) -> Any:
        return await getattr(self._server, method)(*args)
