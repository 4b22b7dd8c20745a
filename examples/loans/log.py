"""The log: every recorded step of every application, in the order of time.

Read from `../shared/data/bpic2012.csv.gz` beside the project where that is present (BPI Challenge 2012, van Dongen,
doi 10.4121/uuid:3926db30-f712-4394-aebc-75976070e91f); made up by `generator.py` where it is not.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .generator import CASES, Row, generate

__all__ = ["REAL", "Line", "Log", "load"]

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "bpic2012.csv.gz"


@dataclass(frozen=True, slots=True)
class Line:
    """One step as the bank recorded it. `number`: its place in the log, from 0. `clerk`: None if nobody is named."""

    number: int
    case: str
    at: datetime
    activity: str
    lifecycle: str
    clerk: str | None
    amount: int


@dataclass(frozen=True, slots=True)
class Log:
    """All lines, and where they come from."""

    source: str
    lines: list[Line]

    @property
    def cases(self) -> set[str]:
        """The numbers of the applications."""
        return {line.case for line in self.lines}

    @property
    def clerks(self) -> set[str]:
        """The numbers of the clerks who are named."""
        return {line.clerk for line in self.lines if line.clerk is not None}


def load(*, generated: bool = False, cases: int | None = None, seed: int = 1) -> Log:
    """The real log if it is there and nobody wants another one, else the generated one of this seed. `cases`: only
    the first so many applications, whole."""
    if generated or not REAL.exists():
        rows: Iterable[Row] = generate(seed, CASES if cases is None else cases)
        return Log(f"generated, seed {seed}", _numbered(rows, None))
    return Log(f"BPI Challenge 2012, {REAL.name}", _numbered(_real(), cases))


def _real() -> Iterator[Row]:
    with gzip.open(REAL, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Row(
                case=row["case"],
                at=datetime.fromisoformat(row["timestamp"]),
                activity=row["activity"],
                lifecycle=row["lifecycle"],
                clerk=row["resource"] or None,
                amount=int(row["amount_requested"]),
            )


def _numbered(rows: Iterable[Row], cases: int | None) -> list[Line]:
    wanted: set[str] = set()
    lines: list[Line] = []
    for row in rows:
        if row.case not in wanted:
            if cases is not None and len(wanted) >= cases:
                continue
            wanted.add(row.case)
        lines.append(Line(len(lines), *row))
    return lines
