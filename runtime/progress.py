"""A progress bar over a rebuild, for programs with somebody in front of them.

    await draw(runtime.rebuild(Balances))                 # to its end

    async for step in drawn(runtime.rebuild(Balances)):   # and look at each step
        ...

It is drawn on stderr, and only on a terminal; elsewhere the steps go by in silence.
"""

import sys
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .projection_follower import RebuildProgress

__all__ = ["draw", "drawn"]


async def draw(steps: "AsyncIterable[RebuildProgress]", what: str = "rebuild") -> "RebuildProgress | None":
    """Draw a rebuild until it is finished. Its last step; None if there was none. Raises what the steps raise."""
    last = None
    async for step in drawn(steps, what):
        last = step
    return last


async def drawn(steps: "AsyncIterable[RebuildProgress]", what: str = "rebuild") -> "AsyncIterator[RebuildProgress]":
    """The same steps, drawn as they go by. `what`: said before the bar."""
    if not sys.stderr.isatty():
        async for step in steps:
            yield step
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(what), total=None, rate=0.0)
        async for step in steps:
            words = f"{what}: {step.problem}" if step.problem else what
            bar.update(task, description=escape(words), completed=step.done, total=step.of, rate=step.rate)
            yield step
