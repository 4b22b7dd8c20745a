"""What a verification found: each problem by its place, and how much was looked at."""

from collections.abc import Sequence
from typing import Literal, Self

import msgspec

__all__ = ["COUNTED_LATER", "Kind", "Problem", "Report"]

Kind = Literal[
    "storage",
    "event",
    "position",
    "version",
    "stream",
    "keyed reply",
    "snapshot",
    "owner",
    "checkpoint",
    "reminder",
    "replay",
]
"""`storage`: below our rows, as SQLite or the system tells it. `event`: a row that is not what was written.
`position`, `version`: a gap, or one that falls. `stream`, `keyed reply`, `snapshot`, `owner`, `checkpoint`: such a row.
`reminder`: a row of their index that is there and should not be, or the other way round.
`replay`: events that the aggregate's class cannot apply."""

COUNTED_LATER = ("streams", "keyed_replies", "snapshots", "owners", "checkpoints", "reminders")
"""Rows that have no position, so that none is beyond the last one."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and where. What does not apply, or is not known, is None. `partition`: its number, in a
    journal of several."""

    kind: Kind
    problem: str
    stream: str | None = None
    version: int | None = None
    position: int | None = None
    partition: int | None = None

    @property
    def place(self) -> str:
        """For people: `Account/alice version 3 (position 17)`, after `partition 1, ` where there are several."""
        parts = [self.stream or "", f"version {self.version}" if self.version else ""]
        position = f"position {self.position}" if self.position else ""
        where = " ".join(filter(None, parts))
        where = f"{where} ({position})" if where and position else where or position
        return where if self.partition is None else ", ".join(filter(None, (f"partition {self.partition}", where)))

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


class Report(msgspec.Struct, kw_only=True):
    """All of it. `problems`: the first of them; `problem_count`: how many there are. `upto`: the newest position when
    it began, of each partition where there are several; later events were not looked at. `counts`: rows looked at, by
    what they are; those in `COUNTED_LATER` as they were when their turn came, so that beside a writer there may be
    newer ones among them. `notes`: what was left out, and why."""

    journal: str
    category: str | None = None
    partitions: int = 1
    upto: int | list[int] = 0
    problem_count: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list[Problem])
    counts: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    notes: list[str] = msgspec.field(default_factory=list[str])

    @classmethod
    def combined(cls, reports: Sequence[Self], problems_max: int) -> Self:
        """One of all partitions of a journal, given theirs in order."""
        counts: dict[str, int] = {}
        for report in reports:
            for what, count in report.counts.items():
                counts[what] = counts.get(what, 0) + count
        return cls(
            journal=reports[0].journal,
            category=reports[0].category,
            partitions=len(reports),
            upto=[upto for report in reports if isinstance(upto := report.upto, int)],
            problem_count=sum(report.problem_count for report in reports),
            problems=[
                msgspec.structs.replace(problem, partition=number)
                for number, report in enumerate(reports)
                for problem in report.problems
            ][:problems_max],
            counts=counts,
            notes=list(dict.fromkeys(note for report in reports for note in report.notes)),
        )

    @property
    def good(self) -> bool:
        """Nothing is wrong with what was looked at."""
        return not self.problem_count
