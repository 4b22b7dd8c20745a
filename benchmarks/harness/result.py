"""Results: each run of a question is one line of JSON at the end of `benchmarks/results/<name>.jsonl`.

`results/record/` holds the lines that benchmarks/README.md was made of, and is kept in git; the rest is not.
"""

from pathlib import Path
from typing import Any

import msgspec

from .comparison import Comparison
from .machine import Machine
from .question import Question

__all__ = ["RECORD", "RESULTS", "Result", "append", "newest", "read"]

RESULTS = Path(__file__).parent.parent / "results"
RECORD = RESULTS / "record"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`at`: when it ended, ISO 8601 in UTC. `took_s`: all of it, preparations included. `settings`: the sizes.
    `details`: whatever else was measured. `notes`: what a reader must know to read it right."""

    question: Question
    quick: bool
    at: str
    took_s: float
    seed: int
    machine: Machine
    versions: dict[str, str]
    commit: str
    settings: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    details: dict[str, Any] = {}
    notes: tuple[str, ...] = ()

    def line(self) -> bytes:
        """One line of JSON, with everything that follows from the samples."""
        whole = msgspec.to_builtins(self)
        whole["comparisons"] = [comparison.in_full() for comparison in self.comparisons]
        return msgspec.json.encode(whole) + b"\n"


def append(result: Result, folder: Path = RESULTS) -> Path:
    """Add a result to those of its question."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.question.name}.jsonl"
    with path.open("ab") as file:
        file.write(result.line())
    return path


def read(name: str, folder: Path = RESULTS) -> list[Result]:
    """All results of a question, the oldest first."""
    path = folder / f"{name}.jsonl"
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in path.read_bytes().splitlines()]


def newest(name: str, folder: Path = RESULTS) -> Result | None:
    """The newest result in full size; if there is none, the newest quick one."""
    results = read(name, folder)
    return next((r for r in reversed(results) if not r.quick), results[-1] if results else None)
