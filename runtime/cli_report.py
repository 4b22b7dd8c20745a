"""How the command line shows a verification: a table for people, lines for pipes.

Names in a journal are whatever its users chose, so nothing of them reaches a terminal as a control sequence.
"""

import contextlib
import sys
from collections.abc import Generator, Iterable, Sequence

import click

from holdfast.journal.progress import Progress
from holdfast.journal.verify import Problem, Report
from holdfast.journal.verify_report import COUNTED_LATER

__all__ = ["show", "show_table", "shown", "watched"]

COLUMNS = ("what", "where", "problem")

_ONE = {
    "events": "event",
    "streams": "stream",
    "keyed_replies": "keyed_reply",
    "snapshots": "snapshot",
    "owners": "owner",
    "checkpoints": "checkpoint",
    "reminders": "reminder",
    "events_replayed": "event_replayed",
    "snapshots_replayed": "snapshot_replayed",
}


def show(report: Report) -> None:
    """Write a report to stdout."""
    if report.problems:
        (_show_table if sys.stdout.isatty() else _show_lines)(report)
    unlisted = report.problem_count - len(report.problems)
    if unlisted:
        click.echo(f"… and {unlisted:,} more")
    for note in report.notes:
        click.echo(f"note: {shown(note)}")
    click.echo(_summary(report))


def _summary(report: Report) -> str:
    """What has no position is counted beside it: a writer may have added to it since."""
    later = {what: count for what, count in report.counts.items() if what in COUNTED_LATER}
    upto = {what: count for what, count in report.counts.items() if what not in COUNTED_LATER}
    of = f" (category {shown(report.category)})" if report.category else ""
    verdict = "no problem found" if report.good else f"PROBLEMS FOUND: {report.problem_count:,}"
    looked_at = f"up to {_far(report.upto)}: {_counted(upto)}; as of now: {_counted(later)}"
    parts = f" in {report.partitions} partitions" if report.partitions > 1 else ""
    return f"{shown(report.journal)}{parts}{of}, {looked_at}\n{verdict}"


def _far(upto: int | list[int]) -> str:
    if isinstance(upto, int):
        return f"position {upto:,}"
    return f"positions {' · '.join(f'{each:,}' for each in upto)}"


def _counted(counts: dict[str, int]) -> str:
    named = (f"{count:,} {_ONE.get(what, what) if count == 1 else what}" for what, count in counts.items())
    return ", ".join(named).replace("_", " ") or "nothing"


def _show_lines(report: Report) -> None:
    for problem in report.problems:
        click.echo("  ".join(_cells(problem)))


def _show_table(report: Report) -> None:
    _print_table(COLUMNS, map(_cells, report.problems))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells that are escaped already: a table on a terminal, lines with two spaces between cells elsewhere."""
    if sys.stdout.isatty():
        _print_table(columns, rows)
        return
    for row in (columns, *rows):
        click.echo("  ".join(row))


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, show_lines=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _cells(problem: Problem) -> tuple[str, str, str]:
    """A position's place is its number: what it is was said."""
    place = shown(problem.place.removeprefix(f"{problem.kind} "))
    return shown(problem.kind), place or "-", shown(problem.problem)


def shown(text: str) -> str:
    """What does not print is escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@contextlib.contextmanager
def watched() -> Generator[Progress, None, None]:
    """A progress bar on stderr while the block runs, if somebody is there to see it."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total or None)
