"""What storage did, watched from beside it: nothing was shown before it was durable, and no stale owner wrote."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .history import Operation, version_and_result

__all__ = ["Durable", "Written", "nothing_shown_early", "one_writer_per_epoch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """From `time` on (on the clock of the history) `stream` is on disk up to `version`."""

    time: float
    stream: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An append that storage took. `incarnation`: who really sent it, whatever owner and epoch it carried."""

    stream: str
    version: int
    owner: str
    epoch: int
    incarnation: str


def nothing_shown_early(history: Iterable[Operation], durable: Iterable[Durable]) -> None:
    """No answer shows a version that was not on disk when it came."""
    logs = _rising(durable)
    for each in history:
        if each.outcome != "done" or each.returned is None:
            continue
        version, _ = version_and_result(each)
        times, versions = logs.get(each.aggregate, ((), ()))
        at = bisect_right(times, each.returned)
        there = versions[at - 1] if at else 0
        assert version <= there, f"shown before it was durable (version {there} was by then): {each}"


def _rising(durable: Iterable[Durable]) -> Mapping[str, tuple[Sequence[float], Sequence[int]]]:
    """By stream: the times, and the highest version up to each."""
    logs: dict[str, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    for each in sorted(durable, key=lambda entry: entry.time):
        times, versions = logs[each.stream]
        times.append(each.time)
        versions.append(max(each.version, versions[-1] if versions else 0))
    return dict(logs)


def one_writer_per_epoch(written: Iterable[Written]) -> None:
    """In the order in which storage took them: the epochs of an owner never fall, one incarnation has each, a stream
    has one owner, and its versions rise."""
    epochs: dict[str, int] = {}
    incarnations: dict[tuple[str, int], str] = {}
    owners: dict[str, str] = {}
    versions: dict[str, int] = {}
    for each in written:
        newest = epochs.setdefault(each.owner, each.epoch)
        assert each.epoch >= newest, f"{each.stream}: {each.owner} wrote at epoch {each.epoch} after {newest}: {each}"
        epochs[each.owner] = each.epoch
        holder = incarnations.setdefault((each.owner, each.epoch), each.incarnation)
        assert holder == each.incarnation, f"{each.stream}: two writers at one epoch, {holder} and {each}"
        owner = owners.setdefault(each.stream, each.owner)
        assert owner == each.owner, f"{each.stream}: two owners, {owner} and {each}"
        last = versions.get(each.stream, 0)
        assert each.version > last, f"{each.stream}: version {each.version} was taken after {last}: {each}"
        versions[each.stream] = each.version
