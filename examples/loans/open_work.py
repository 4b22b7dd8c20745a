"""The projection: what the bank's clerks are at, by clerk and by day, as two tables that anything can read.

    sqlite3 out/loans-read.db "SELECT * FROM open_work WHERE day = '2011-12-05' ORDER BY open DESC LIMIT 5"

`opened`: how often a work item was taken up that day, `closed`: how often one was laid down, `open`: how many were
taken up and not laid down yet when the day was over. A work item is with the clerk who took it up until it is laid
down, by whomever. Days are the bank's; `''` is the clerk whom the log does not name. There is a row where something
happened.

Events of different applications reach the journal in another order than that of their days. So an event counts on its
own day, and in what is open on all days after it.
"""

from holdfast.actors import on
from holdfast.runtime import Projection, RecordedEvent, Table

from .days import day_of
from .domain import WorkCompleted, WorkStarted

__all__ = ["OpenWork"]


class OpenWork(Projection, version=1):
    """`at_work` is what is open now, by application."""

    open_work = Table(
        "day TEXT NOT NULL, clerk TEXT NOT NULL, item TEXT NOT NULL,"
        " opened BIGINT NOT NULL, closed BIGINT NOT NULL, open BIGINT NOT NULL, PRIMARY KEY (clerk, item, day)",
        indexes=["day"],
    )
    work_by_day = Table(
        "day TEXT PRIMARY KEY, opened BIGINT NOT NULL, closed BIGINT NOT NULL, open BIGINT NOT NULL",
    )
    at_work = Table(
        "application TEXT NOT NULL, item TEXT NOT NULL, clerk TEXT NOT NULL, PRIMARY KEY (application, item)"
    )

    @on(WorkStarted)
    def started(self, event: WorkStarted, recorded: RecordedEvent) -> None:
        clerk = event.by or ""
        self.execute(f"INSERT INTO {self.at_work} VALUES (?, ?, ?)", recorded.id, event.item.value, clerk)
        self._count(day_of(event.at).isoformat(), clerk, event.item.value, opened=1, closed=0)

    @on(WorkCompleted)
    def completed(self, event: WorkCompleted, recorded: RecordedEvent) -> None:
        item = event.item.value
        ((clerk,),) = self.fetch(
            f"DELETE FROM {self.at_work} WHERE application = ? AND item = ? RETURNING clerk", recorded.id, item
        )
        self._count(day_of(event.at).isoformat(), clerk, item, opened=0, closed=1)

    def _count(self, day: str, clerk: str, item: str, *, opened: int, closed: int) -> None:
        """First a row for the day, with what was open the day before; then this and what it means for later days."""
        work, days, more = self.open_work, self.work_by_day, opened - closed
        self.execute(
            f"INSERT INTO {work} SELECT ?, ?, ?, 0, 0, COALESCE((SELECT open FROM {work}"
            " WHERE clerk = ? AND item = ? AND day < ? ORDER BY day DESC LIMIT 1), 0) WHERE true"
            " ON CONFLICT DO NOTHING",
            *(day, clerk, item, clerk, item, day),
        )
        self.execute(
            f"UPDATE {work} SET open = open + ?, opened = opened + CASE WHEN day = ? THEN ? ELSE 0 END,"
            " closed = closed + CASE WHEN day = ? THEN ? ELSE 0 END WHERE clerk = ? AND item = ? AND day >= ?",
            *(more, day, opened, day, closed, clerk, item, day),
        )
        self.execute(
            f"INSERT INTO {days} SELECT ?, 0, 0, COALESCE((SELECT open FROM {days} WHERE day < ?"
            " ORDER BY day DESC LIMIT 1), 0) WHERE true ON CONFLICT DO NOTHING",
            *(day, day),
        )
        self.execute(
            f"UPDATE {days} SET open = open + ?, opened = opened + CASE WHEN day = ? THEN ? ELSE 0 END,"
            " closed = closed + CASE WHEN day = ? THEN ? ELSE 0 END WHERE day >= ?",
            *(more, day, opened, day, closed, day),
        )
