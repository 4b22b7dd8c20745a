"""Tables in the terminal: of one question, and of all of them."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .comparison import Comparison
from .result import Result
from .units import told

__all__ = ["SUMMARY_COLUMNS", "print_result", "print_summary", "summary_rows"]

SUMMARY_COLUMNS = ("question", "figure", "compared with", "ratio", "target", "met")


def print_result(result: Result, console: Console) -> None:
    """Everything about one run; its last line is its verdict."""
    title = f"{result.question.name}{' (quick)' if result.quick else ''}: {result.question.asks}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("figure", "median", "spread", "compared with", "median", "spread", "ratio", "of each round"):
        table.add_column(column)
    for comparison in result.comparisons:
        table.add_row(*_row(comparison))
    console.print(table)
    for name, value in result.details.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    console.print(f"{result.machine}; seed {result.seed}; {result.took_s:.0f} s", markup=False, highlight=False)
    for comparison in result.comparisons:
        name = f"{result.question.name}{f', {comparison.of}' if comparison.of else ''}"
        line = f"{name}: {comparison.verdict()}"
        console.print(line, markup=False, highlight=False, style=_colour(comparison.met), soft_wrap=True)


def _row(comparison: Comparison) -> tuple[str, ...]:
    unit, theirs = comparison.unit, comparison.theirs
    return (
        _figure(comparison),
        told(comparison.median, unit),
        _spread(comparison.ours, unit),
        comparison.compared,
        told(comparison.compared_median, unit) if theirs else "",
        _spread(theirs, unit),
        _ratio(comparison),
        "  ".join(f"{ratio:,.3g}" for ratio in comparison.ratios),
    )


def summary_rows(results: Sequence[tuple[str, Result | None]]) -> list[tuple[str, ...]]:
    """One row per figure, missed targets among them; a question that failed has a row that says so."""
    rows: list[tuple[str, ...]] = []
    for name, result in results:
        if result is None:
            rows.append((name, "it failed: see above", "", "", "", "FAILED"))
            continue
        for comparison in result.comparisons:
            figure = f"{told(comparison.median, comparison.unit)} {_figure(comparison)}"
            theirs = f"{told(comparison.compared_median, comparison.unit)} " if comparison.theirs else ""
            met = {True: "yes", False: "NO", None: "-"}[comparison.met]
            target = str(comparison.target or "none")
            rows.append((name, figure, f"{theirs}{comparison.compared}", _ratio(comparison), target, met))
    return rows


def print_summary(results: Sequence[tuple[str, Result | None]], *, quick: bool, console: Console) -> None:
    """All questions in one table, and how many targets are missed."""
    rows = summary_rows(results)
    table = Table(title=f"All questions{' (quick)' if quick else ''}", title_justify="left", title_style="bold")
    for column in SUMMARY_COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*row, style={"NO": "yellow", "FAILED": "red"}.get(row[-1], ""))
    console.print(table)
    met, missed, failed = (sum(row[-1] == word for row in rows) for word in ("yes", "NO", "FAILED"))
    console.print(f"targets: {met} met, {missed} missed; questions that failed: {failed}", highlight=False)


def _figure(comparison: Comparison) -> str:
    return f"{comparison.figure}, {comparison.of}" if comparison.of else comparison.figure


def _spread(samples: Sequence[float], unit: str) -> str:
    return f"{told(min(samples), unit)} to {told(max(samples), unit)}" if len(samples) > 1 else ""


def _ratio(comparison: Comparison) -> str:
    return "" if comparison.ratio is None else f"{comparison.ratio:,.3g} x"


def _colour(met: bool | None) -> str:
    return {True: "green", False: "yellow", None: ""}[met]
