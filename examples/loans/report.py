"""The report: what happened, as tables on the terminal."""

import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from holdfast.runtime import RecordedEvent, Statistics

from .checks import Check
from .domain import Seal, WorkItem
from .feed import UNDER_WAY_MAX, Answers, Incident
from .fold import Expected
from .hydration import Cost
from .log import Log

__all__ = ["Run", "evening", "longest", "outcomes", "show", "telling"]

TELLING_EVENTS_MAX = 32
EVENING_ROWS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that is reported. `longest`: the application with most events, and what it costs to hydrate it from its
    snapshot and from its first event. `history`: of one application. `evening`: rows of the projection, of one day.
    `took`: seconds, from start to finish."""

    log: Log
    expected: Expected
    answers: Answers
    incidents: Sequence[Incident]
    statistics: Statistics
    longest: str
    from_snapshot: Cost
    from_first: Cost
    history: Sequence[RecordedEvent]
    evening: Sequence[Sequence[Any]]
    checks: Sequence[Check]
    took: float

    def live(self, category: str) -> int:
        """Aggregates of a type in memory at the end of the feed."""
        owned = (f"{category}#", f"{category}/")
        return sum(host.live for host in self.statistics.hosts if host.name.startswith(owned))


def longest(expected: Expected) -> str:
    """The number of the application with most events."""
    return max(expected.accepted, key=lambda case: len(expected.accepted[case]))


def telling(expected: Expected) -> str:
    """The number of an application whose history is worth a read: a loan after a second offer, in a page."""
    for case, facts in expected.applications.items():
        if len(facts["seals"]) == len(Seal) and len(facts["offers"]) > 1 and facts["version"] <= TELLING_EVENTS_MAX:
            return case
    return max(expected.accepted, key=lambda case: min(len(expected.accepted[case]), TELLING_EVENTS_MAX))


def outcomes(expected: Expected) -> dict[str, int]:
    """What became of the applications."""
    ends = Counter(
        "granted" if len(facts["seals"]) == len(Seal) else facts["stage"] for facts in expected.applications.values()
    )
    closed = {end: ends.pop(end, 0) for end in ("granted", "declined", "cancelled")}
    return closed | {"undecided": sum(ends.values())}


def evening(read_model: Path) -> list[Sequence[Any]]:
    """What the projection says of the day at the end of which most work was open, where that or most else was."""
    with closing(sqlite3.connect(f"file:{read_model}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT day, clerk, item, opened, closed, open FROM open_work"
            " WHERE day = (SELECT day FROM work_by_day ORDER BY open DESC, opened DESC, day LIMIT 1)"
            " ORDER BY open DESC, opened DESC, clerk, item LIMIT ?",
            (EVENING_ROWS_MAX,),
        ).fetchall()


def show(console: Console, run: Run) -> None:
    """Print it all."""
    console.print(_figures(run))
    console.print(_history(run))
    console.print(_evening(run))
    console.print(_checks(run.checks))


def _figures(run: Run) -> Table:
    table = Table(title=f"A bank's loan applications ({run.log.source})", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for title, rows in (
        ("what happened", _happened(run)),
        ("live and historical", _live(run)),
        ("what follows the journal", _followed(run)),
        ("killed on the way (SIGKILL)", _killed(run)),
    ):
        table.add_section()
        table.add_row(Text(title, style="cyan"), "")
        for name, value in rows:
            table.add_row(f"  {name}", value)
    return table


def _happened(run: Run) -> Iterable[tuple[str, str]]:
    answers, waits = run.answers, run.answers.waits()
    ends = outcomes(run.expected)
    reasons = Counter(type(rejection).__name__ for rejection in answers.rejected.values())
    journal = run.statistics.journal
    yield "applications", f"{len(run.expected.applications):,}: " + ", ".join(f"{n:,} {end}" for end, n in ends.items())
    yield (
        "events",
        f"{journal.events:,} in {journal.streams:,} streams, {journal.bytes_on_disk / 2**20:.0f} MiB on disk",
    )
    yield (
        "commands",
        f"{len(answers.versions):,} in {answers.lasted:.1f} s: {len(answers.versions) / answers.lasted:,.0f} a second",
    )
    yield (
        "commits",
        f"{journal.commits:,} since the journal was killed, each one flush to the disk, for "
        f"{journal.appends / max(1, journal.commits):,.0f} appends on average",
    )
    yield "offers", f"{len(run.expected.lapsed):,} lapsed, which nobody had answered within 30 days"
    yield "rejected", f"{len(answers.rejected):,}: " + ", ".join(f"{n:,} {why}" for why, n in reasons.most_common())
    yield (
        "a caller waited",
        f"{statistics.median(waits) * 1000:,.0f} ms in the middle, {waits[-1]:.2f} s at most "
        f"({UNDER_WAY_MAX:,} commands are under way at any time)",
    )
    yield "all of this took", f"{run.took:.0f} s"


def _live(run: Run) -> Iterable[tuple[str, str]]:
    applications, live = len(run.expected.applications), run.live("LoanApplication")
    shards = sum(host.name.startswith("LoanApplication#") for host in run.statistics.hosts)
    events = len(run.expected.accepted[run.longest])
    yield "applications", f"{live:,} live in {shards} host processes, {applications - live:,} historical: on disk alone"
    yield "clerks", f"{run.live('Clerk'):,} live, each in a process of its own"
    yield (
        "came and went",
        f"{run.statistics.hydrations:,} hydrated, {run.statistics.passivations:,} passivated by the hosts now running",
    )
    yield f"application {run.longest}", f"{events:,} events, the longest history. To bring it into memory:"
    yield "  from its snapshot", str(run.from_snapshot)
    yield "  from its first event", str(run.from_first)


def _followed(run: Run) -> Iterable[tuple[str, str]]:
    for seen in run.statistics.followers:
        did = f"{seen.events:,} events" if seen.kind != "reminders" else f"{seen.details['fired']:,} reminders fired"
        yield seen.name, f"{did} in its life number {seen.epoch}"


def _killed(run: Run) -> Iterable[tuple[str, str]]:
    for incident in run.incidents:
        if incident.follower:
            yield (
                incident.name,
                f"process {incident.pid}, {incident.at:.1f} s into the feed: another one went on from its checkpoint",
            )
            continue
        caught = run.answers.caught(incident)
        noticed = (
            f"{len(caught):,} callers were waiting, the longest for {caught[-1]:.2f} s" if caught else "nobody waited"
        )
        yield incident.name, f"process {incident.pid}, {incident.at:.1f} s into the feed: {noticed}; none saw an error"


def _history(run: Run) -> Table:
    case = run.history[0].id
    table = Table(title=f"Application {case}: who did what", title_justify="left")
    for name in ("version", "when", "clerk", "what"):
        table.add_column(name, justify="right" if name == "version" else "left")
    for recorded in run.history:
        event = recorded.event
        what = recorded.type.replace(".", " ").replace("_", " ")
        if isinstance(item := getattr(event, "item", None), WorkItem):
            what += f": {item.name.lower().replace('_', ' ')}"
        elif hasattr(event, "amount"):
            what += f": {event.amount:,} euros"
        table.add_row(str(recorded.version), f"{event.at:%d %b %Y %H:%M:%S}", event.by or "not named", what)
    return table


def _evening(run: Run) -> Table:
    day = run.evening[0][0] if run.evening else "no day"
    table = Table(title=f"Work of {day}, by clerk, as the projection has it", title_justify="left")
    for name in ("clerk", "work item", "taken up", "laid down", "open in the evening"):
        table.add_column(name, justify="left" if name in ("clerk", "work item") else "right")
    for _, clerk, item, *counts in run.evening:
        table.add_row(clerk or "not named", WorkItem(item).name.lower().replace("_", " "), *map(str, counts))
    return table


def _checks(checks: Sequence[Check]) -> Table:
    table = Table(title="Does it hold?", title_justify="left")
    for name in ("", "claim", "found"):
        table.add_column(name)
    for check in checks:
        mark = Text("yes", style="green") if check.holds else Text("NO", style="bold red")
        table.add_row(mark, check.claim, check.found)
    return table
