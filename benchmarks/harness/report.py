"""The report: the tables of benchmarks/README.md, between two marks, from the newest result of each question.

A result in full size goes before a quick one, and one of this machine before one of the record. With `--keep`, what the
tables are made of becomes the record, so that tables, lines and plots in git always belong together.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from .question import names
from .result import RECORD, RESULTS, Result, newest
from .tables import SUMMARY_COLUMNS, summary_rows

__all__ = ["BEGIN", "END", "between_marks", "report_text", "write_report"]

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- results: written by `python -m benchmarks report`, do not edit by hand -->"
END = "<!-- end of results -->"


def write_report(*, keep: bool, readme: Path = README) -> None:
    """Put the newest results into the README, and, if they are to be kept, into the record."""
    found = [result for name in names() if (result := _chosen(name)) is not None]
    readme.write_text(between_marks(readme.read_text(encoding="utf-8"), report_text(found)), encoding="utf-8")
    if keep:
        _keep(found)


def _chosen(name: str) -> Result | None:
    """Full size first, then this machine's."""
    there = [result for result in (newest(name), newest(name, RECORD)) if result is not None]
    return min(there, key=lambda result: result.quick, default=None)


def between_marks(text: str, inner: str) -> str:
    """The text with what stands between the marks replaced. Raises `ValueError` if it has no such marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n\n{inner}\n{END}{after}"


def report_text(results: Sequence[Result]) -> str:
    """Markdown: machines and versions, all figures, and those that miss their target once more."""
    if not results:
        return "Nothing has been measured yet.\n"
    rows = [(*row, _size(result)) for result in results for row in summary_rows([(result.question.name, result)])]
    missed = [row for row in rows if row[5] == "NO"]
    parts = [*_measured_on(results), "", *_table((*SUMMARY_COLUMNS, "run"), rows), ""]
    parts += [f"Targets missed: {len(missed)} of {sum(row[5] in ('yes', 'NO') for row in rows)}.", ""]
    parts += [f"- {result.question.name}: {note}" for result in results for note in result.notes]
    return "\n".join(parts) + "\n"


def _measured_on(results: Sequence[Result]) -> list[str]:
    machines = dict.fromkeys(str(result.machine) for result in results)
    versions = dict.fromkeys(", ".join(f"{n} {v}" for n, v in result.versions.items()) for result in results)
    commits = dict.fromkeys(result.commit for result in results if result.commit)
    at = sorted(result.at for result in results)
    return [
        f"Measured {at[0][:10]} to {at[-1][:10]} on: {'; '.join(machines)}.",
        f"Versions: {'; '.join(versions)}. Commits: {', '.join(commits) or 'unknown'}.",
    ]


def _size(result: Result) -> str:
    return f"{'quick' if result.quick else 'full'}, {max(len(c.ours) for c in result.comparisons)} rounds"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _keep(results: Sequence[Result]) -> None:
    """The lines, and their plots."""
    RECORD.mkdir(parents=True, exist_ok=True)
    for result in results:
        (RECORD / f"{result.question.name}.jsonl").write_bytes(result.line())
        plot = f"{result.question.name}{'-quick' if result.quick else ''}.png"
        if (RESULTS / plot).exists():
            shutil.copy(RESULTS / plot, RECORD / plot)
