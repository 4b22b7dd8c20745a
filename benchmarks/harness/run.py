"""A run: one question being answered, from an empty folder to a `Result`.

The data is on a disk: in a new folder under `$TMPDIR`, else under `benchmarks/.cache/`, and never on a tmpfs, whose
flushes cost nothing.
"""

import dataclasses
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .comparison import Comparison
from .machine import commit, filesystem, machine, versions
from .question import Question, QuestionModule, Target
from .result import Result
from .rounds import System, alternate

__all__ = ["CACHE", "Run", "answer"]

CACHE = Path(__file__).parent.parent / ".cache"
IN_MEMORY = ("tmpfs", "ramfs")


class Run:
    """What `measure` works with. `folder`: for its data, on a disk; gone afterwards. `random`: seeded by `seed`."""

    def __init__(self, question: Question, folder: Path, *, quick: bool, seed: int) -> None:
        self.question, self.folder, self.quick, self.seed = question, folder, quick, seed
        self.random = random.Random(seed)
        self.comparisons: list[Comparison] = []
        self.details: dict[str, Any] = {}
        self.notes: list[str] = []

    def compare(
        self,
        figure: str,
        unit: str,
        ours: Sequence[float],
        theirs: Sequence[float] = (),
        *,
        of: str = "",
        compared: str | None = None,
        target: Target | None = None,
        has_target: bool = True,
    ) -> Comparison:
        """Add a figure: samples per round of ours and, if it is a ratio, of what it is compared with. `compared`,
        `target`: if not those of the question. `has_target` False: it is only reported."""
        comparison = Comparison(
            figure=figure,
            unit=unit,
            ours=tuple(ours),
            theirs=tuple(theirs),
            of=of,
            compared=self.question.compared if compared is None else compared,
            target=(target or self.question.target) if has_target else None,
        )
        self.comparisons.append(comparison)
        return comparison

    def note(self, text: str) -> None:
        """Something that a reader must know to read the figures right."""
        self.notes.append(text)

    async def alternate(
        self, what: str, rounds: int, systems: Mapping[str, System], *, warm_up: bool = True
    ) -> dict[str, tuple[float, ...]]:
        """See `rounds.alternate`; with a progress bar."""
        with self.progress(what, rounds * len(systems)) as advance:
            return await alternate(systems, rounds, warm_up=warm_up, after=lambda name, sample: advance(1))

    @contextmanager
    def progress(self, what: str, total: int) -> Generator[Callable[[int], None], None, None]:
        """A bar on stderr, none if that is no terminal. Yields what moves it on."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(f"{self.question.name}: {what}", total=total)
            yield lambda more: bar.advance(task, more)


async def answer(module: QuestionModule, *, quick: bool, seed: int, sizes: Any = None) -> Result:
    """Carry one question out. `sizes`: if not those that it has for `quick`."""
    sizes = sizes or (module.QUICK if quick else module.FULL)
    started = time.monotonic()
    with data_folder() as folder:
        on = machine(folder)  # before the run loads it
        run = Run(module.QUESTION, folder, quick=quick, seed=seed)
        await module.measure(run, sizes)
    return Result(
        question=module.QUESTION,
        quick=quick,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        took_s=time.monotonic() - started,
        seed=seed,
        machine=on,
        versions=versions(),
        commit=commit(),
        settings=dataclasses.asdict(sizes),
        comparisons=tuple(run.comparisons),
        details=run.details,
        notes=tuple(run.notes),
    )


@contextmanager
def data_folder() -> Generator[Path, None, None]:
    """A new folder on a disk, and away with it."""
    CACHE.mkdir(exist_ok=True)
    above = [Path(os.environ["TMPDIR"])] if os.environ.get("TMPDIR") else []
    place = next((p for p in (*above, CACHE) if filesystem(p) not in IN_MEMORY), None)
    if place is None:
        raise SystemExit(f"{', '.join(map(str, (*above, CACHE)))}: no disk, a flush would cost nothing; set TMPDIR")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
