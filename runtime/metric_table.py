"""The metrics, all of them, in one table: what is not in it is not measured, and the documents are made from it.

Names and units are Prometheus' own (https://prometheus.io/docs/practices/naming): seconds, and `_total` for what only
grows. Labels are few and bounded: aggregate types, partitions, followers; never an aggregate.

    python -m holdfast.runtime.metric_table      prints the table of docs/metrics.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["METRICS", "Metric", "Sort", "as_markdown"]

Sort: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `of`: the process that has it. `labels`: what its series are told apart by. `says`: what it is."""

    name: str
    sort: Sort
    unit: str
    of: str
    labels: tuple[str, ...]
    says: str


def _of(of: str, label: str, *metrics: tuple[str, Sort, str, str]) -> tuple[Metric, ...]:
    return tuple(
        Metric(name=f"holdfast_{name}", sort=sort, unit=unit, of=of, labels=(label,), says=says)
        for name, sort, unit, says in metrics
    )


_ALL = (
    *_of(
        "host",
        "type",
        ("commands_total", "counter", "commands", "done; their events may still be on the way to the disk"),
        ("queries_total", "counter", "queries", "answered"),
        ("events_total", "counter", "events", "emitted by commands that were done"),
        ("rejections_total", "counter", "calls", "that raised `Rejected`, or a subclass of it"),
        ("failures_total", "counter", "calls", "that raised anything else"),
        ("expired_total", "counter", "calls", "whose deadline passed before they were done"),
        ("replays_total", "counter", "calls", "that came again, and got the reply that was stored"),
        ("recoveries_total", "counter", "times", "that tentative state was forgotten, and the journal read again"),
        ("slow_commands_total", "counter", "commands", "that ran longer than their limit, as the watchdog saw"),
        ("hydrations_total", "counter", "aggregates", "that came into memory"),
        ("hydration_rows_total", "counter", "rows", "of snapshots and events read for that"),
        ("passivations_total", "counter", "aggregates", "that left memory"),
        ("snapshots_total", "counter", "snapshots", "written"),
        ("live_aggregates", "gauge", "aggregates", "in memory now"),
        ("command_seconds", "histogram", "seconds", "from a command's arrival to its events being durable"),
        ("gate_wait_seconds", "histogram", "seconds", "that the first reply of an append waited for the disk"),
        ("batch_commands", "histogram", "commands", "in one append of one aggregate"),
    ),
    *_of(
        "journal",
        "partition",
        ("appends_total", "counter", "appends", "written, each with the events of some commands of one aggregate"),
        ("commits_total", "counter", "transactions", "each one group commit"),
        ("conflicts_total", "counter", "appends", "refused: another version than they expected"),
        ("fenced_total", "counter", "requests", "refused: of an owner that has a successor"),
        ("commit_appends", "histogram", "appends", "in one transaction"),
        ("commit_seconds", "histogram", "seconds", "of one transaction, from its first statement to durable"),
        ("fsync_seconds", "histogram", "seconds", "of one COMMIT, which flushes to the disk (SQLite)"),
    ),
    *_of(
        "follower",
        "follower",
        ("follower_lag_events", "gauge", "events", "of the journal that it has not been past yet"),
        ("follower_events_total", "counter", "events", "that it was concerned with, and is done with"),
        ("follower_errors_total", "counter", "failures", "those that a retry mended included"),
        ("follower_retries_total", "counter", "tries", "after a failure"),
        ("follower_dead_letters", "gauge", "events", "set aside"),
        ("follower_stopped", "gauge", "0 or 1", "1: it has stopped, and needs somebody to look"),
    ),
    *_of(
        "every process",
        "of",
        (
            "retries_total",
            "counter",
            "requests",
            'sent again: `of="host"` calls, `of="journal"` requests to it',
        ),
    ),
    *_of(
        "every process",
        "queue",
        (
            "queue_depth",
            "gauge",
            "items",
            "waiting: `line` callers in this process, `host` calls in a host, `append` appends on their way to the"
            " journal, `commit` requests in front of the disk",
        ),
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""By name."""


def as_markdown() -> str:
    """The table as it stands in docs/metrics.md."""
    lines = ["| name | type | unit | of | labels | meaning |", "|---|---|---|---|---|---|"]
    for m in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in m.labels)
        lines.append(f"| `{m.name}` | {m.sort} | {m.unit} | {m.of} | {labels} | {m.says} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
