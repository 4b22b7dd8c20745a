"""What goes wrong in a run, how often, and for how long: a random few of all kinds, each at a rate of its own.

Runs in which everything fails at once find less than runs in which a few things fail often: each run switches most
kinds off ("swarm testing", Groce and others, 2012). All of it ends at one moment, `heal`; after that every call must
be answered.
"""

import random
from collections import Counter
from collections.abc import Sequence

from .clock import Process

__all__ = ["AT_EVENTS", "AT_TIMES", "KINDS", "READ_AT_EVENTS", "READ_AT_TIMES", "READ_KINDS", "Faults"]

AT_EVENTS = {
    "request lost": 0.05,
    "answer lost": 0.05,
    "request late": 0.03,
    "request doubled": 0.2,
    "message slow": 0.1,
    "cluster trouble": 0.1,
    "disk fails": 0.1,
    "disk tears": 0.1,
    "disk commits unheard": 0.1,
    "journal dies at commit": 0.05,
    "late death": 0.7,
    "short deadline": 0.2,
    "caller cancelled": 0.1,
}
"""Kinds that may befall each message, write, end or call; and the highest chance of each."""

AT_TIMES = {
    "host killed": 2.0,
    "host stopped": 1.5,
    "host replaced": 2.0,
    "host retired": 3.0,
    "aggregate sent away": 4.0,
    "journal killed": 1.5,
    "journal stopped": 1.0,
    "client killed": 1.0,
    "client stopped": 1.0,
    "partition": 1.5,
    "disk full": 1.0,
    "disk slow": 1.0,
}
"""Kinds that come now and then; and how many times a second at most."""

READ_AT_EVENTS = {
    "read model fails": 0.1,
    "read model commits unheard": 0.1,
    "follower dies at commit": 0.1,
    "subscriber leaves": 0.1,
}
READ_AT_TIMES = {
    "follower killed": 3.0,
    "follower stopped": 1.5,
    "follower replaced": 1.5,
    "follower retired": 1.0,
}
"""The same of the read side, in runs that have one."""

MEETINGS = (
    ("host replaced",),
    ("host replaced", "message slow"),
    ("host replaced", "client killed"),
    ("host stopped", "late death"),
    ("host killed", "request doubled"),
    ("host retired", "request doubled"),
    ("aggregate sent away", "request doubled"),
    ("journal stopped",),
    ("journal stopped", "disk commits unheard"),
    ("disk slow",),
    ("disk slow", "host killed"),
    ("journal killed", "request late"),
    ("partition", "request late"),
    ("disk fails", "request late"),
    ("host killed", "caller cancelled"),
)
"""Kinds that are worth bringing together."""

KINDS = [*AT_EVENTS, *AT_TIMES]
READ_KINDS = [*READ_AT_EVENTS, *READ_AT_TIMES]


class Faults:
    """The faults of one run. `rates`: of the kinds that it has. `counted`: what happened."""

    def __init__(self, chance: random.Random, focus: Sequence[str] = ()) -> None:
        """`focus`: these kinds, often, and no others."""
        self.chance = chance
        self.healed = False
        self.counted: Counter[str] = Counter()
        self.disk_mode = ""  # full, or slow, for a while
        self._full_or_slow = 0
        if focus:
            self.rates = _often(focus)
        else:
            self.rates = _few_often(chance) if chance.random() < 0.4 else _any_of_all(chance)
        self.latency_s = chance.choice((0.0002, 0.001, 0.005))
        self.spread = chance.choice((0.0, 0.5, 3.0))  # of the latency: messages overtake each other
        self.write_s = chance.choice((0.0002, 0.002, 0.01))

    def spread_to_readers(self, chance: random.Random) -> None:
        """Have kinds of the read side too. `chance`: of their own, so that the others stay what they are."""
        share, most = chance.choice((0.0, 0.3, 0.6)), READ_AT_EVENTS | READ_AT_TIMES
        self.rates |= {kind: most[kind] * chance.uniform(0.1, 1.0) for kind in READ_KINDS if chance.random() < share}

    @property
    def calm(self) -> bool:
        """Nothing ever fails in this run; messages may overtake each other all the same."""
        return not self.rates.keys() - {"message slow", "disk slow"}

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self.healed = True
        self.disk_mode = ""

    def hits(self, kind: str) -> bool:
        """Whether this happens now."""
        rate = 0.0 if self.healed else self.rates.get(kind, 0.0)
        if rate == 0.0 or self.chance.random() >= rate:
            return False
        self.counted[kind] += 1
        return True

    # -- messages ------------------------------------------------------------------------------------------------

    def travel_s(self) -> float:
        """How long a message is on its way."""
        seconds = self.latency_s * (1.0 + self.spread * self.chance.random())
        return seconds + self.chance.uniform(0.01, 0.3) if self.hits("message slow") else seconds

    def again_s(self) -> float:
        """How long after the first copy of a message the second one comes."""
        return self.chance.choice((0.01, 0.1, 0.5)) * self.chance.random()

    def notice_s(self) -> float:
        """How long it takes until somebody hears that the other side is gone."""
        return self.chance.choice((0.001, 0.02, 0.2)) * self.chance.random()

    # -- the disk ------------------------------------------------------------------------------------------------

    def disk_open_s(self) -> float:
        return self.write_s * 2

    def disk_read_s(self) -> float:
        return self.write_s * 0.3 * self.chance.random() * (20 if self.disk_mode == "disk slow" else 1)

    def disk_write_s(self) -> float:
        return self.write_s * self.chance.uniform(0.5, 1.5) * (20 if self.disk_mode == "disk slow" else 1)

    def disk_trouble(self) -> str:
        """What becomes of a write: empty, or the kind of trouble."""
        if self.disk_mode == "disk full":
            return "disk full"
        return next((kind for kind in ("disk fails", "disk tears", "disk commits unheard") if self.hits(kind)), "")

    # -- the read model ------------------------------------------------------------------------------------------

    def model_trouble(self) -> str:
        """What becomes of a commit there: empty, or the kind of trouble."""
        return next((kind for kind in READ_AT_EVENTS if kind != "subscriber leaves" and self.hits(kind)), "")

    # -- the journal's commits -----------------------------------------------------------------------------------

    def committed(self, process: Process) -> None:
        """A transaction is on disk, and nobody knows yet."""
        if self.hits("journal dies at commit"):
            process.kill_after(self.chance.randint(1, 4))


def _any_of_all(chance: random.Random) -> dict[str, float]:
    """Each kind is there or not."""
    share = chance.choice((0.0, 0.1, 0.25, 0.5))
    most = AT_EVENTS | AT_TIMES
    return {kind: most[kind] * chance.uniform(0.1, 1.0) for kind in KINDS if chance.random() < share}


def _few_often(chance: random.Random) -> dict[str, float]:
    """Two or three kinds, and nothing else: a rare meeting of two needs calm around it."""
    return _often(chance.choice(MEETINGS) if chance.random() < 0.5 else chance.sample(KINDS, chance.randint(1, 3)))


def _often(kinds: Sequence[str]) -> dict[str, float]:
    most = AT_EVENTS | AT_TIMES | READ_AT_EVENTS | READ_AT_TIMES
    at_events = AT_EVENTS | READ_AT_EVENTS
    return {kind: min(0.8, 2 * most[kind]) if kind in at_events else 2 * most[kind] for kind in kinds}
