"""Metrics as samples: what a process has counted, read off every few seconds and handed on.

Nothing is recorded for a metric on a command's way: hosts, journals and followers count anyway, and time whole batches.
A `Sampler` looks at that, and gives samples to whatever takes them; `Runtime.metrics` looks when it is asked.

Before this: counters and histograms. After this: Prometheus, by way of the seam, or a list.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from typing import NamedTuple, TypeAlias

from holdfast.actors.host import Host
from holdfast.journal.histogram import Histogram
from holdfast.journal.journal import Journal
from holdfast.journal.server import JournalServer
from holdfast.journal.subject import Log, Subject

from .dispatcher import Dispatcher
from .follower import FollowerPhase, FollowerStatistics
from .metric_table import METRICS

__all__ = ["Put", "Sample", "Sampler", "of_follower", "of_host", "of_journal", "of_process", "summed"]

log = Log(__name__)


class Sample(NamedTuple):
    """One number of one series. `name`: of the table; a histogram's end in `_bucket`, `_sum` and `_count`, as those of
    Prometheus do, and the buckets have a label `le`. `labels`: sorted."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def metric(self) -> str:
        """The name in the table."""
        return self.name if self.name in METRICS else self.name.rpartition("_")[0]


Put: TypeAlias = Callable[[Sequence[Sample]], None]
"""Takes what was sampled."""


def of_host(host: Host) -> list[Sample]:
    """What a host has done, and holds."""
    counters, label = host.counters, ("type", host.definition.category)
    counts = {
        name: getattr(counters, name)
        for name in (
            "commands", "queries", "events", "rejections", "expired", "replays", "recoveries", "slow_commands",
            "hydrations", "hydration_rows", "passivations",
        )
    }  # fmt: skip
    counts["failures"] = counters.failures - counters.rejections
    counts["snapshots"] = host.snapshots.written
    samples = [_sample(f"{name}_total", label, count) for name, count in counts.items()]
    samples.append(_sample("live_aggregates", label, host.live_count))
    samples.append(_sample("queue_depth", ("queue", "host"), host.unanswered))
    if host.meters is not None:
        samples += _histogram("command_seconds", label, host.meters.command_seconds)
        samples += _histogram("gate_wait_seconds", label, host.meters.gate_wait_seconds)
        samples += _histogram("batch_commands", label, host.meters.batch_commands)
    return samples


def of_journal(server: JournalServer, partition: int) -> list[Sample]:
    """A partition's. None but the queue where its server keeps no meters."""
    label, meters = ("partition", str(partition)), server.meters
    samples = [_sample("queue_depth", ("queue", "commit"), server.waiting)]
    if meters is not None:
        for name in ("appends", "commits", "conflicts", "fenced"):
            samples.append(_sample(f"{name}_total", label, getattr(meters, name)))
        samples += _histogram("commit_appends", label, meters.commit_appends)
        samples += _histogram("commit_seconds", label, meters.commit_seconds)
        if (flushes := server.store.flushes) is not None:
            samples += _histogram("fsync_seconds", label, flushes)
    return samples


def of_follower(follower: FollowerStatistics) -> list[Sample]:
    """One follower's."""
    counts = {
        "lag_events": follower.lag,
        "events_total": follower.events,
        "errors_total": follower.errors,
        "retries_total": follower.retries,
        "dead_letters": follower.dead_letters,
        "stopped": int(follower.phase is FollowerPhase.STOPPED),
    }
    return [_sample(f"follower_{name}", ("follower", follower.name), count) for name, count in counts.items()]


def of_process(dispatcher: Dispatcher, journal: Journal) -> list[Sample]:
    """What every process has: lines to hosts, and a way to the journal."""
    return [
        _sample("queue_depth", ("queue", "line"), dispatcher.callers),
        _sample("queue_depth", ("queue", "append"), sum(part.waiting for part in journal.parts)),
        _sample("retries_total", ("of", "host"), dispatcher.retries),
        _sample("retries_total", ("of", "journal"), sum(part.retries for part in journal.parts)),
    ]


def summed(samples: Iterable[Sample]) -> list[Sample]:
    """Series of the same name and labels added up, in order of name and labels."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for name, labels, value in samples:
        sums[name, labels] = sums.get((name, labels), 0) + value
    return [Sample(name, labels, value) for (name, labels), value in sorted(sums.items())]


class Sampler:
    """Looks every `every_s` seconds. Lives in one event loop, from `start` to `stop`."""

    def __init__(self, look: Callable[[], Sequence[Sample]], put: Put, every_s: float) -> None:
        self._look, self._put, self._every_s = look, put, every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look now, and again."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._sample(), context=Context())

    def stop(self) -> None:
        """Look once more, so that the last seconds count too, and then no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._once()

    async def _sample(self) -> None:
        while True:
            self._once()
            await asyncio.sleep(self._every_s)

    def _once(self) -> None:
        try:
            self._put(self._look())
        except Exception:  # what is looked at goes on, whether or not it can be seen
            log.error(Subject("sampler"), "a bug in it", exc_info=True)


def _sample(name: str, label: tuple[str, str], value: float) -> Sample:
    return Sample(f"holdfast_{name}", (label,), value)


def _histogram(name: str, label: tuple[str, str], histogram: Histogram) -> list[Sample]:
    buckets = histogram.cumulative()
    series = f"holdfast_{name}"
    return [
        *(Sample(f"{series}_bucket", (("le", _bound(bound)), label), count) for bound, count in buckets),
        Sample(f"{series}_sum", (label,), histogram.sum),
        Sample(f"{series}_count", (label,), buckets[-1][1]),
    ]


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"
