"""What a subscriber was given, held against the journal: every event of its filter once, in order, and nothing else.

A subscriber may die and go on after the position that it had reached, as often as it likes: what all its lives were
given, one after the other, is judged as one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Seen", "every_event_once", "seen_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event, as the journal has it or as a subscriber was given it. `position`: in its partition."""

    partition: int
    position: int
    stream: str
    version: int
    type: str
    payload: bytes

    def __str__(self) -> str:
        return f"{self.partition}:{self.position} ({self.stream} version {self.version}, {self.type})"


def seen_of(event: Any, partition: int) -> Seen:
    """A record of the journal, as this compares it."""
    return Seen(
        partition=partition,
        position=event.position,
        stream=str(event.stream),
        version=event.version,
        type=event.type,
        payload=event.payload,
    )


def every_event_once(who: str, given: Iterable[Seen], wanted: Iterable[Seen]) -> int:
    """`wanted`: what the journal holds of the filter. Both in the order of positions, of each partition by itself.
    Returns how many there were. Raises AssertionError for a repeat, a gap, an order of its own, or a stranger."""
    theirs, ours = _by_partition(given), _by_partition(wanted)
    for partition in sorted(theirs.keys() | ours.keys()):
        _compare(f"{who}, partition {partition}", theirs.get(partition, ()), ours.get(partition, ()))
    return sum(map(len, theirs.values()))


def _compare(who: str, given: Sequence[Seen], wanted: Sequence[Seen]) -> None:
    twice = [str(each) for each, count in Counter(given).items() if count > 1]
    assert not twice, f"{who}: given more than once: {twice[:5]}"
    known = set(wanted)
    strange = [str(each) for each in given if each not in known]
    assert not strange, f"{who}: given, and not of its filter: {strange[:5]}"
    there = set(given)
    missing = [str(each) for each in wanted if each not in there]
    assert not missing, f"{who}: {len(missing)} of {len(wanted)} were never given: {missing[:5]}"
    for given_one, wanted_one in zip(given, wanted, strict=True):
        assert given_one == wanted_one, f"{who}: {given_one} was given where {wanted_one} was due"


def _by_partition(events: Iterable[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = defaultdict(list)
    for event in events:
        found[event.partition].append(event)
    return found
