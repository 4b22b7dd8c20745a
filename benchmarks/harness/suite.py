"""All questions, one after the other, each in a process of its own, so that none runs in what another left behind. What
all of them import is imported once, in the process that theirs are forked from.

A missed target is a result like any other. Only a question that cannot be answered (it crashed, or a command was
lost or doubled) makes the whole fail.
"""

import multiprocessing
from collections.abc import Sequence

from rich.console import Console

from .asking import ask
from .result import Result, read
from .tables import print_summary

__all__ = ["run_all"]

IMPORTED_ONCE = ["holdfast.runtime", "matplotlib.pyplot", "benchmarks.harness.asking"]


def run_all(names: Sequence[str], *, quick: bool, seed: int | None, console: Console) -> int:
    """Ask each, then print the table of all. The exit status: 0, or 1 if one failed."""
    results = [(name, _asked(name, quick=quick, seed=seed)) for name in names]
    print_summary(results, quick=quick, console=console)
    return int(any(result is None for _, result in results))


def _asked(name: str, *, quick: bool, seed: int | None) -> Result | None:
    before = len(read(name))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    process = context.Process(target=ask, args=(name,), kwargs={"quick": quick, "seed": seed})
    process.start()
    process.join()
    results = read(name)
    return results[-1] if process.exitcode == 0 and len(results) > before else None
