"""The nemesis: does to a running cluster what hardware, kernels and operators do, by a seed, and notes when.

First each kind once, in a shuffled order, then by weight; everything at once when the run says so. Pauses last about
as long as fail-over takes, some longer, some shorter; they end by themselves while other faults go on. Only the faults
that take a node or everything wait until callers are served again, so that what is survived is known.
"""

import heapq
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .processes import is_running, send

__all__ = ["KINDS", "SHORT", "Fault", "Nemesis", "Victims"]

# By weight. "kill everything" has none: a run plans for it.
KINDS = {
    "kill host": 30,
    "pause host": 14,
    "kill journal": 12,
    "pause journal": 6,
    "kill host and journal": 8,
    "kill follower": 10,
    "pause follower": 5,
    "kill driver": 5,
    "kill node": 4,
    "pause node": 3,
    "kill database": 10,
}
SHORT = (
    "kill host",
    "kill journal",
    "pause host",
    "kill host and journal",
    "pause journal",
    "kill follower",
    "kill driver",
    "kill node",
)
"""What a run of less than a minute begins with; it has no time to start everything again."""

HEAVY = {"kill node", "pause node", "kill everything"}
GAP_S = (0.3, 2.6)
OPEN_MAX = 3  # faults that callers have not got over yet, before another is done


class Victims(Protocol):
    """What the nemesis may reach for. `lose_everything` also brings it back."""

    def residents(self) -> dict[str, int]: ...
    def drivers(self) -> dict[str, int]: ...
    def nodes(self) -> dict[str, list[int]]: ...
    def lose_everything(self) -> None: ...
    def lose_database(self, down_s: float) -> bool: ...


@dataclass(slots=True)
class Fault:
    """One that was done. `at`, and `served`: when a caller of each placement was first served by a call made after
    it. `over`: when what was paused was resumed."""

    kind: str
    target: str
    at: float
    over: float = 0.0
    served: dict[str, float] = field(default_factory=dict)


class Nemesis:
    """`placements`: those that callers use, each of which has to get over every fault."""

    def __init__(
        self,
        victims: Victims,
        rng: random.Random,
        placements: list[str],
        *,
        first: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faults: list[Fault] = []
        self._victims, self._rng, self._placements, self._clock = victims, rng, placements, clock
        self._kinds = _kinds(rng, first)
        self._owed = set(first)
        self._wanted = next(self._kinds)
        self._next_at = clock() + 1.0
        self._paused: list[tuple[float, int, list[int]]] = []  # until when, a number, who
        self._numbers = itertools.count()
        self._do: dict[str, Callable[[], str]] = {
            "kill host": lambda: self._kill(self._host()),
            "pause host": lambda: self._pause(self._host()),
            "kill journal": lambda: self._kill(self._journal()),
            "pause journal": lambda: self._pause(self._journal()),
            "kill host and journal": lambda: self._kill(self._host() | self._journal()),
            "kill follower": lambda: self._kill(self._follower()),
            "pause follower": lambda: self._pause(self._follower()),
            "kill driver": lambda: self._kill(self._one(self._victims.drivers())),
            "kill node": lambda: self._kill(self._node()),
            "pause node": lambda: self._pause(self._node(), 2.0),
            "kill database": lambda: "server" if victims.lose_database(rng.uniform(0.1, 3.0)) else "",
            "kill everything": self._everything,
        }

    @property
    def owes(self) -> bool:
        """Whether there are kinds that have not been done yet."""
        return not self._owed <= {fault.kind for fault in self.faults}

    @property
    def unserved(self) -> list[Fault]:
        """Faults that not all placements have got over yet."""
        return [fault for fault in self.faults[-20:] if len(fault.served) < len(self._placements)]

    def served(self, placement: str, called: float, returned: float) -> None:
        """A caller was served."""
        for fault in self.faults[-20:]:
            if called > fault.at and returned < fault.served.get(placement, float("inf")):
                fault.served[placement] = returned

    def next(self, kind: str) -> None:
        """Do this one before all others."""
        self._kinds = itertools.chain([self._wanted], self._kinds)
        self._wanted, self._next_at = kind, self._clock()

    def turn(self) -> Fault | None:
        """Resume whom it is time to resume; do the next fault if it is its time. Returns that one."""
        self.resume(self._clock())
        unserved = len(self.unserved)
        if self._clock() < self._next_at or unserved > (0 if self._wanted in HEAVY else OPEN_MAX - 1):
            return None
        at = self._clock()
        target = self._do[self._wanted]()
        if not target:  # nobody is there to suffer it: it keeps its place
            self._next_at = at + 0.2
            return None
        self.faults.append(Fault(self._wanted, target, at))
        self._wanted = next(self._kinds)
        self._next_at = self._clock() + self._rng.uniform(*GAP_S)
        return self.faults[-1]

    def resume(self, until: float = float("inf")) -> None:
        """Resume those whose pause ends by then; without an argument everybody."""
        while self._paused and self._paused[0][0] <= until:
            send(signal.SIGCONT, heapq.heappop(self._paused)[2])

    # -- what it does --------------------------------------------------------------------------------------------

    def _kill(self, victims: dict[str, list[int]]) -> str:
        pids = [pid for each in victims.values() for pid in each]
        reached = send(signal.SIGKILL, pids)
        return f"{', '.join(victims)} ({reached[0]})" if reached else ""

    def _pause(self, victims: dict[str, list[int]], times: float = 1.0) -> str:
        pids = [pid for each in victims.values() for pid in each]
        reached = send(signal.SIGSTOP, pids)
        if not reached:
            return ""
        for_s = self._rng.uniform(0.5, 5.0) * times
        heapq.heappush(self._paused, (self._clock() + for_s, next(self._numbers), reached))
        return f"{', '.join(victims)} ({reached[0]}) for {for_s:.1f} s"

    def _everything(self) -> str:
        self.resume()
        self._victims.lose_everything()
        return "drivers, nodes, hosts, journal"

    # -- whom ----------------------------------------------------------------------------------------------------

    def _awake(self) -> dict[str, int]:
        """Hosts, followers and journal that are up and not paused by us."""
        asleep = {pid for _, _, pids in self._paused for pid in pids}
        return {name: pid for name, pid in self._victims.residents().items() if pid not in asleep and is_running(pid)}

    def _host(self) -> dict[str, list[int]]:
        return self._one({name: pid for name, pid in self._awake().items() if name.startswith("host:")})

    def _follower(self) -> dict[str, list[int]]:
        return self._one({name: pid for name, pid in self._awake().items() if name.startswith("follower:")})

    def _journal(self) -> dict[str, list[int]]:
        return self._one({name: pid for name, pid in self._awake().items() if name == "journal"})

    def _node(self) -> dict[str, list[int]]:
        nodes = self._victims.nodes()
        ip = self._rng.choice(sorted(nodes)) if nodes else ""
        return {ip: nodes[ip]} if nodes else {}

    def _one(self, victims: dict[str, Any]) -> dict[str, list[int]]:
        if not victims:
            return {}
        name = self._rng.choice(sorted(victims))
        return {name: [victims[name]]}


def _kinds(rng: random.Random, first: list[str]) -> Iterator[str]:
    """What comes, in order: each of `first` once, then by weight among them."""
    yield from rng.sample(first, len(first))
    weights = [KINDS[kind] for kind in first]
    while True:
        yield from rng.choices(first, weights)
