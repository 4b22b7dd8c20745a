"""The table: for each kind of fault what was done and what became of it, and the totals of the run.

"longest wait" is how long the slowest caller waited for an answer, counted from the fault if it had asked before it;
of those calls that were under way at the fault or were made before the next one.
"""

import bisect
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from .conductor import Run
from .nemesis import Fault
from .notes import Note

__all__ = ["printed", "summed", "waits"]


def printed(run: Run, console: Console) -> None:
    """Print what came out of a run."""
    assert run.verdict is not None, "judged"
    longest = waits(run.faults, run.notes)
    lost, doubled = _blamed(run.faults, run.verdict.lost), _blamed(run.faults, run.verdict.doubled)
    table = Table(title=f"{run.settings.journal} journal, {run.settings.placement} placement", title_justify="left")
    for column in ("fault", "injected", "survived", "lost", "doubled", "longest wait (s)"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    numbers = range(len(run.faults))
    for kind in sorted({fault.kind for fault in run.faults}):
        table.add_row(kind, *_row(run, [n for n in numbers if run.faults[n].kind == kind], longest, lost, doubled))
    table.add_section()
    table.add_row("all", *_row(run, list(numbers), longest, lost, doubled))
    console.print(table)
    console.print(_totals(run))
    for line in run.verdict.read_side:
        console.print(line, highlight=False)


def summed(runs: Sequence[Run], console: Console) -> None:
    """Print what came out of several runs together."""
    table = Table(title="all journals", title_justify="left")
    for column in ("journal", "injected", "survived", "lost", "doubled", "longest wait (s)"):
        table.add_column(column, justify="left" if column == "journal" else "right")
    for run in runs:
        table.add_row(run.settings.journal, *_all(run))
    table.add_section()
    cells = [_all(run) for run in runs]
    sums = [str(sum(int(row[n]) for row in cells)) for n in range(4)]
    table.add_row("all", *sums, f"{max(float(row[4]) for row in cells):.1f}")
    console.print(table)


def _all(run: Run) -> list[str]:
    assert run.verdict is not None, "judged"
    blamed = _blamed(run.faults, run.verdict.lost), _blamed(run.faults, run.verdict.doubled)
    return _row(run, list(range(len(run.faults))), waits(run.faults, run.notes), *blamed)


def _row(run: Run, mine: list[int], longest: list[float], lost: list[int], doubled: list[int]) -> list[str]:
    """The cells of some faults, given by number."""
    survived = sum(len(run.faults[n].served) == len(run.settings.placements) for n in mine)
    counts = (len(mine), survived, sum(n in mine for n in lost), sum(n in mine for n in doubled))
    return [*map(str, counts), f"{max((longest[n] for n in mine), default=0.0):.1f}"]


def _totals(run: Run) -> str:
    assert run.verdict is not None, "judged"
    commands = [note for note in run.notes if note.line["kind"] == "command"]
    queries = [note for note in run.notes if note.line["kind"] == "query" and note.done]
    count = {outcome: sum(note.outcome == outcome for note in commands) for outcome in ("done", "refused", "unknown")}
    keyed: dict[str, int] = {}
    for note in commands:
        if note.line["keyed"]:
            keyed[note.line["token"]] = keyed.get(note.line["token"], 0) + 1
    again = sum(times - 1 for times in keyed.values())
    return (
        f"{count['done']:,} commands acknowledged, {count['refused']:,} refused, {count['unknown']:,} unknown; "
        f"{again:,} sent again under their key; {len(queries):,} queries; "
        f"{run.verdict.stale:,} plain queries behind the newest; "
        f"{run.verdict.streams:,} streams, {run.verdict.events:,} events; {run.drivers} drivers; "
        f"seed {run.settings.seed}"
    )


def waits(faults: Sequence[Fault], notes: Iterable[Note]) -> list[float]:
    """For each fault the longest that a caller waited for an answer."""
    moments = [fault.at for fault in faults]
    longest = [max((at - fault.at for at in fault.served.values()), default=0.0) for fault in faults]
    for note in notes:
        if not (note.done and note.returned is not None):
            continue
        begin, end = bisect.bisect_right(moments, note.called), bisect.bisect_right(moments, note.returned)
        if begin:
            longest[begin - 1] = max(longest[begin - 1], note.returned - note.called)
        for number in range(begin, end):
            longest[number] = max(longest[number], note.returned - moments[number])
    return longest


def _blamed(faults: Sequence[Fault], times: Iterable[float]) -> list[int]:
    """The number of the last fault before each time."""
    moments = [fault.at for fault in faults]
    return [max(0, bisect.bisect_right(moments, at) - 1) for at in times]
