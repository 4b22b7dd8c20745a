"""What a check found: each stored type, whether it would load, and where the first event is that would not."""

import msgspec

__all__ = ["CheckReport", "Place", "SnapshotsFound", "TypeFound"]


class Place(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Where an event is."""

    position: int
    partition: int
    stream: str
    version: int

    def __str__(self) -> str:
        where = f", partition {self.partition}" if self.partition else ""
        return f"{self.stream} version {self.version} (position {self.position}{where})"


class TypeFound(msgspec.Struct, frozen=True, kw_only=True):
    """What a category has of one stored type. `name`, `version`: what it says. `opened`: how many were; `failed`: how
    many of those some reader could not take. `readers`: who reads them; none: nobody that was asked. `problem`: the
    first one, with `reader` and `place`; empty if there is none."""

    category: str
    type: str
    name: str
    version: int
    count: int
    first: Place
    last: Place
    opened: int
    failed: int
    readers: tuple[str, ...]
    problem: str = ""
    reader: str = ""
    place: Place | None = None


class SnapshotsFound(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of a category. `ignored`: of another schema than this code's; their events are replayed instead."""

    category: str
    count: int
    ignored: int


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `upto`: the newest position of each partition when it began. `unseen`: events of the code that the
    journal has none of, as `Account account.closed`. `unclaimed`: categories whose aggregate was not among the code."""

    journal: str
    upto: tuple[int, ...]
    types: tuple[TypeFound, ...]
    snapshots: tuple[SnapshotsFound, ...]
    unseen: tuple[str, ...]
    unclaimed: tuple[str, ...]

    @property
    def problems(self) -> tuple[TypeFound, ...]:
        """What would not load."""
        return tuple(found for found in self.types if found.problem)

    @property
    def good(self) -> bool:
        """All that was opened can be read by whoever reads it."""
        return not self.problems
