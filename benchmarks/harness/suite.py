"""All questions, one after the other, each in a process of its own, so that none runs in what another left behind.

A missed target is a result like any other. Only a question that cannot be answered (it crashed, or a command was
lost or doubled) makes the whole fail.
"""

import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console

from .result import Result, read
from .tables import print_summary

__all__ = ["run_all"]


def run_all(names: Sequence[str], *, quick: bool, seed: int | None, console: Console) -> int:
    """Ask each, then print the table of all. The exit status: 0, or 1 if one failed."""
    results = [(name, _asked(name, quick=quick, seed=seed)) for name in names]
    print_summary(results, quick=quick, console=console)
    return int(any(result is None for _, result in results))


def _asked(name: str, *, quick: bool, seed: int | None) -> Result | None:
    before = len(read(name))
    options = (*(["--quick"] if quick else []), *(["--seed", str(seed)] if seed is not None else []))
    ended = subprocess.run((sys.executable, "-m", "benchmarks", name, *options))
    results = read(name)
    return results[-1] if ended.returncode == 0 and len(results) > before else None
