"""Positions: how far a reader of a whole journal has come, one number for each partition.

A journal without partitions has one position, an `int`; in one with partitions there is no order between them that a
single number could tell, so a checkpoint is a vector. It is frozen, prints as `17,4,0`, comes back from that by
`parse`, and goes through MessagePack as it is.

    at = Positions.start(runtime.partitions)
    async for event in runtime.read(after=at):
        ...                                     # do something about it
        at = at.past(event)                     # and keep how far that was: str(at)
"""

from collections.abc import Iterator
from typing import Protocol, Self

import msgspec

__all__ = ["Placed", "Positions"]


class Placed(Protocol):
    """Something that has a place in a journal: an event, as `runtime.read` gives it."""

    @property
    def partition(self) -> int:
        """The number of its partition."""
        ...

    @property
    def position(self) -> int:
        """Its position there."""
        ...


class Positions(msgspec.Struct, frozen=True, array_like=True):
    """One position for each partition, 0 for one that is at its beginning. `a <= b`: `a` is nowhere ahead of `b`; of
    two that are ahead of each other, neither is."""

    each: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.each or not all(isinstance(position, int) and position >= 0 for position in self.each):
            raise ValueError(f"positions are whole numbers from 0 on, one for each partition, not {self.each!r}")

    @classmethod
    def start(cls, partitions: int) -> Self:
        """The beginning of a journal of so many partitions."""
        return cls((0,) * partitions)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` made of one. Raises `ValueError`."""
        parts = text.split(",")
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(f"positions are written 17,4,0 and not {text!r}")
        return cls(tuple(map(int, parts)))

    def past(self, event: Placed) -> Self:
        """With this event behind: from here a reader goes on after it."""
        return self.moved(event.partition, event.position)

    def moved(self, partition: int, position: int) -> Self:
        """With another position in one partition."""
        each = list(self.each)
        each[partition] = position
        return type(self)(tuple(each))

    def __str__(self) -> str:
        return ",".join(map(str, self.each))

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[int]:
        return iter(self.each)

    def __getitem__(self, partition: int) -> int:
        return self.each[partition]

    def __le__(self, other: "Positions") -> bool:
        return all(mine <= theirs for mine, theirs in zip(self.each, other.each, strict=True))

    def __lt__(self, other: "Positions") -> bool:
        return self <= other and self.each != other.each

    def __ge__(self, other: "Positions") -> bool:
        return other <= self

    def __gt__(self, other: "Positions") -> bool:
        return other < self
