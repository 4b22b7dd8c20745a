"""Asking one question: it is answered, its result kept and drawn, and its table printed."""

import asyncio
import random
import sys

from rich.console import Console

from . import plot, result, tables
from .question import question_module
from .run import answer

__all__ = ["ask", "console"]

PLAIN_WIDTH = 150  # of tables that go into a file or a pipe


def console() -> Console:
    """Where tables go."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def ask(name: str, *, quick: bool, seed: int | None) -> None:
    """Answer it in this process. Raises whatever keeps it from being answered."""
    seed = random.randrange(1 << 31) if seed is None else seed
    found = asyncio.run(answer(question_module(name), quick=quick, seed=seed))
    result.append(found)
    plot.draw(found)
    tables.print_result(found, console())
