"""What the runtime needs of a cluster: named residents, a way to ask them, and news of their death.

`_ray` gives it on a Ray cluster, `local` inside one event loop. Everything above this line is the same for both.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.limits import HostLimits
from holdfast.journal.errors import HoldfastError

from .config import Config
from .placement import Placements
from .sight import Sight

__all__ = [
    "JOURNAL",
    "Cluster",
    "FollowerSpec",
    "HostSpec",
    "JournalSpec",
    "Peer",
    "PeerGone",
    "PeerSilent",
    "WireError",
    "incarnation",
    "journal_name",
]


class PeerGone(HoldfastError):
    """The resident died or cannot be reached. What it was asked may have happened, or not."""

    retryable = True

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name} is gone: {self.problem}"


class PeerSilent(PeerGone):
    """Its process does not turn: stopped, or out of reach. It may come back to life, so end it."""


class WireError(HoldfastError):
    """A request or an answer did not survive the way: something in it cannot be pickled, or not be imported on
    the other side. Nothing of the request was carried out."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"the way to {self.name}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSpec:
    """Which journal a namespace serves. `url` is absolute: the journal may live in another process. It may hold a
    password, so it is shown to nobody, and only the process that opens the journal gets it."""

    namespace: str
    url: str = field(repr=False)
    volatile: bool  # its events live in its process only: it must not be restarted as if nothing had been
    partitions: int = 1  # each lives, and is found, by itself
    sight: Sight = field(default_factory=Sight)
    keys: str = field(default="", repr=False)  # the URL of the store with the keys of personal data

    @property
    def mark(self) -> str:
        """Tells this journal from others, and tells nothing else."""
        return hashlib.sha256(self.url.encode()).hexdigest()

    def without_url(self) -> "JournalSpec":
        """For processes that ask the journal and never open it."""
        return replace(self, url="", keys="")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """All that a host needs to start: whom it is, what it hosts, and how it reaches the others."""

    owner: str
    type: type[Aggregate]
    journal: JournalSpec
    placements: Placements
    config: Config
    limits: HostLimits
    dedicated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerSpec:
    """All that a follower needs to start: whom it is, what makes it, and how it reaches the others. `make`: gives the
    `Follower`, in its process; it travels by value. `code`: a fingerprint of what that does."""

    name: str
    code: str
    make: Callable[[], Any]
    journal: JournalSpec
    placements: Placements
    config: Config


class Peer(Protocol):
    """One resident: a journal server or a host, wherever it lives. Equal to another if both are the same life of it,
    not only the same name."""

    name: str

    async def ask(self, method: str, *args: Any) -> Any:
        """Call a method. Raises what it raises; `PeerGone` when no answer will come; `WireError` when the
        request could not travel."""
        ...

    async def responds(self, within_s: float) -> bool:
        """Whether its process still turns, also while its event loop is busy. One that is starting does, and so does
        one that is known to be dead: asking it says so at once."""
        ...


class Cluster(Protocol):
    """Finds, starts and ends residents by name: at most one of each name, as far as a cluster can tell.
    `started_journals`: the partitions of the journal that were not there when they were last looked for, so they serve
    nobody else yet."""

    @property
    def started_journals(self) -> Collection[int]: ...

    async def journal(self, partition: int = 0) -> Peer:
        """The journal server of this namespace, or of a partition of it, started if none runs."""
        ...

    async def journals(self) -> Sequence[Peer]:
        """All journal servers that run in this namespace, of whatever journal they are partitions."""
        ...

    async def host(self, spec: HostSpec) -> Peer:
        """The host called `spec.owner`, started if none runs."""
        ...

    async def find_host(self, owner: str) -> Peer | None:
        """The host called `owner`, if one runs."""
        ...

    async def host_names(self) -> list[str]:
        """The owners that have a host running."""
        ...

    async def follower(self, spec: FollowerSpec) -> Peer:
        """The follower called `spec.name`, started if none runs. It is started again when it dies."""
        ...

    async def find_follower(self, name: str) -> Peer | None:
        """The follower called `name`, if one runs."""
        ...

    async def follower_names(self) -> list[str]:
        """The followers that run."""
        ...

    def expect(self, type: type[Aggregate], config: Config) -> None:
        """Dedicated hosts of this type will be wanted: have spares ready, as many as `config` says. Does not wait."""
        ...

    @property
    def spares(self) -> int:
        """How many processes are ready to become dedicated hosts."""
        ...

    async def end_spares(self) -> None:
        """Keep none ready any more."""
        ...

    async def kill(self, peer: Peer, *, for_good: bool = False) -> None:
        """See to it that a resident answers nothing any more, without asking it; its name is free afterwards, if it
        still had it. A journal that outlives its process comes up again by itself, unless `for_good`."""
        ...

    def unpack(self, value: Any) -> Any:
        """What `pack` on the other side made of a value."""
        ...

    async def close(self) -> None:
        """Let go. Ends everything if this cluster was started for this runtime alone."""
        ...


JOURNAL = "journal"


def journal_name(partition: int) -> str:
    """What a partition of the journal is called among the residents of its namespace."""
    return f"{JOURNAL}:{partition}" if partition else JOURNAL


def incarnation() -> str:
    """A name for one life of one process, unlike any other."""
    return secrets.token_hex(8)
