"""Placement: from an aggregate's identity to the name of the Ray actor that hosts it. That is all it does.

The name is a hint for where to call; who may write is decided by the journal's epochs. The journal records the
placement of each aggregate type on first use, and refuses another: two placements would mean two owners.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Dedicated", "Placement", "Placements", "Sharded"]


@runtime_checkable
class Placement(Protocol):
    """How the aggregates of one type are spread over hosts."""

    @property
    def live_max(self) -> int:
        """Aggregates of the type in memory at once; beyond it the least recently used idle ones leave."""
        ...

    @property
    def idle_s(self) -> float | None:
        """Seconds without a call after which one leaves memory (None: the configuration's)."""
        ...

    @property
    def recorded_as(self) -> str:
        """What the journal keeps: all that decides who owns what, and nothing else."""
        ...

    @property
    def hosts_max(self) -> int | None:
        """Hosts that may run at once (None: as many as there are names)."""
        ...

    def owner(self, category: str, id: str) -> str:
        """The name of the host of this aggregate; equal in every process, for ever."""
        ...

    def live_max_per_host(self) -> int:
        """This type's bound, as it falls to one host."""
        ...


def _check(live_max: int, idle_s: float | None) -> None:
    if live_max < 1:
        raise ValueError(f"live_max must be at least 1, got {live_max}")
    if idle_s is not None and not idle_s > 0:
        raise ValueError(f"idle_s must be above 0, got {idle_s}")


@dataclass(frozen=True, slots=True)
class Dedicated:
    """One Ray actor, so one process, for each live aggregate. The strongest isolation: about 40 MB each, and most
    of a second of CPU to start unless a spare is ready (`Config.spare_hosts`). For few, busy or untrusted ones."""

    live_max: int = 64
    idle_s: float | None = None

    def __post_init__(self) -> None:
        _check(self.live_max, self.idle_s)

    @property
    def recorded_as(self) -> str:
        return "dedicated"

    @property
    def hosts_max(self) -> int | None:
        return self.live_max

    def owner(self, category: str, id: str) -> str:
        return f"{category}/{id}"

    def live_max_per_host(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Sharded:
    """`hosts` Ray actors, each holding very many aggregates, spread by a stable hash. The same guarantees; a
    command that blocks, blocks its host. For populations. `hosts` is fixed by the first use in a journal."""

    hosts: int
    live_max: int = 1_000_000
    idle_s: float | None = None

    def __post_init__(self) -> None:
        if self.hosts < 1:
            raise ValueError(f"hosts must be at least 1, got {self.hosts}")
        _check(self.live_max, self.idle_s)

    @property
    def recorded_as(self) -> str:
        return f"sharded({self.hosts})"

    @property
    def hosts_max(self) -> int | None:
        return None

    def owner(self, category: str, id: str) -> str:
        return f"{category}#{zlib.crc32(id.encode()) % self.hosts}"

    def live_max_per_host(self) -> int:
        return max(1, -(-self.live_max // self.hosts))


@dataclass(frozen=True, slots=True)
class Placements:
    """Which placement each aggregate type has: its own, or the default."""

    default: Placement
    by_category: Mapping[str, Placement]

    def of(self, category: str) -> Placement:
        return self.by_category.get(category, self.default)
