"""The picture: the run in four panels, as a PNG."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .domain import WorkItem
from .report import Run, outcomes

__all__ = ["draw"]

BIN_S = 0.5
BLUE, GREY, RED, GREEN, ORANGE = "#2b6cb0", "#b8c2cc", "#c53030", "#2f855a", "#c05621"


def draw(run: Run, path: Path) -> None:
    """Write the picture to `path`."""
    figure, ((rate, ends), (cost, history)) = plt.subplots(2, 2, figsize=(14, 9), layout="constrained")
    events, applications = run.statistics.journal.events, len(run.expected.applications)
    verdict = "nothing lost, nothing doubled" if all(check.holds for check in run.checks) else "NOT ALL CHECKS HOLD"
    figure.suptitle(
        f"{applications:,} loan applications, {events:,} events, {run.live('LoanApplication'):,} applications live, "
        f"{len(run.incidents)} kills, {verdict}",
        fontsize=14,
    )
    _rate(rate, run)
    _ends(ends, run)
    _cost(cost, run)
    _history(history, run)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _rate(axes: Axes, run: Run) -> None:
    answered = Counter(int(at / BIN_S) for at in run.answers.answered)
    bins = range(max(answered) + 1)
    axes.fill_between(
        [n * BIN_S for n in bins], [answered[n] / BIN_S for n in bins], step="post", color=BLUE, alpha=0.8
    )
    top = max(answered.values()) / BIN_S
    for incident in run.incidents:
        waited = max(run.answers.caught(incident), default=0.0)
        axes.axvline(incident.at, color=RED)
        axes.annotate(
            f"kill -9 {incident.name}" + ("" if incident.follower else f"\nlongest wait {waited:.1f} s"),
            (incident.at, top),
            xytext=(4, -2),
            textcoords="offset points",
            color=RED,
            va="top",
            fontsize=9,
        )
    axes.set(title="commands answered per second", xlabel="seconds into the feed", ylim=(0, top * 1.05))
    axes.margins(x=0)


def _ends(axes: Axes, run: Run) -> None:
    ends = outcomes(run.expected)
    live, total = run.live("LoanApplication"), len(run.expected.applications)
    rows = [*((end, n, color) for (end, n), color in zip(ends.items(), (GREEN, RED, ORANGE, GREY), strict=True))]
    rows += [("live", live, BLUE), ("historical", total - live, GREY)]
    at = [0, 1, 2, 3, 4.6, 5.6]
    axes.barh(at, [n for _, n, _ in rows], color=[color for _, _, color in rows])
    axes.set_yticks(at, [name for name, _, _ in rows])
    for y, (_, n, _) in zip(at, rows, strict=True):
        axes.annotate(f"{n:,}", (n, y), xytext=(4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set(title="what became of the applications, and where they are", xlim=(0, total * 1.05))


def _cost(axes: Axes, run: Run) -> None:
    ways = (("from its snapshot", run.from_snapshot, GREEN), ("from its first event", run.from_first, GREY))
    axes.barh([name for name, _, _ in ways], [way.ms for _, way, _ in ways], color=[color for _, _, color in ways])
    for name, way, _ in ways:
        axes.annotate(
            str(way),
            (way.ms, name),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.invert_yaxis()
    axes.set(
        title=f"hydrating application {run.longest}, {len(run.expected.accepted[run.longest]):,} events",
        xlabel="milliseconds",
        xlim=(0, max(way.ms for _, way, _ in ways) * 1.35),
    )


def _history(axes: Axes, run: Run) -> None:
    rows = [*(item.name.lower().replace("_", " ") for item in WorkItem), "offer", "application"]
    clerks = sorted({recorded.event.by or "not named" for recorded in run.history})
    for n, clerk in enumerate(clerks):
        theirs = [recorded for recorded in run.history if (recorded.event.by or "not named") == clerk]
        places = [rows.index(_row(recorded.type, recorded.event)) for recorded in theirs]
        days = [(recorded.event.at - run.history[0].event.at) / timedelta(days=1) for recorded in theirs]
        axes.scatter(days, places, s=36, color=f"C{n % 10}", label=clerk, zorder=2)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(axis="y", color="#e2e8f0", zorder=0)
    axes.legend(title="clerk", fontsize=8, loc="lower right")
    axes.set(
        title=f"application {run.history[0].id}: who did what, {len(run.history)} events",
        xlabel=f"days since {run.history[0].event.at:%d %B %Y}",
    )


def _row(type: str, event: object) -> str:
    item = getattr(event, "item", None)
    return item.name.lower().replace("_", " ") if isinstance(item, WorkItem) else type.partition(".")[0]
