"""The workload: a register, a counter and a list, each placed both ways, and a seeded plan of calls to them.

Each command has a token of its own, which its event carries, and answers `[version, result]`; a query answers the
version that it saw and the result. That is enough for the judges to know what must have happened.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.runtime import Dedicated, Sharded
from tests.checkers import MODELS as JUDGED

__all__ = ["DEDICATED", "MODELS", "PLACEMENTS", "SHARDED", "TYPES", "Plan", "patiently", "plans"]

PATIENCE_S = 60.0
GENERATION_S = 15.0  # a list is read whole, so after a while callers turn to a new one


@event("soak.written")
class Written:
    value: int
    token: str


@event("soak.added")
class Added:
    value: int
    token: str


@event("soak.appended")
class Appended:
    value: int
    token: str


class Register(Aggregate, snapshot_every=25):
    value: int | None = None

    @command
    def write(self, value: int, token: str) -> list[Any]:
        if value < 0:
            raise Rejected("no register takes a negative number")
        self.emit(Written(value, token))
        return [self.version, self.value]

    @query
    def read(self) -> list[Any]:
        return [self.version, self.value]

    @on(Written)
    def _written(self, event: Written) -> None:
        self.value = event.value


class Counter(Aggregate, snapshot_every=25):
    total: int = 0

    @command
    def add(self, value: int, token: str) -> list[Any]:
        self.emit(Added(value, token))
        if value < 0:
            raise Rejected("counters count up: what was emitted must leave no trace")
        return [self.version, self.total]

    @query
    def read(self) -> list[Any]:
        return [self.version, self.total]

    @on(Added)
    def _added(self, event: Added) -> None:
        self.total += event.value


class Series(Aggregate, snapshot_every=25):
    values: list[int] = []

    @command
    async def append(self, value: int, token: str) -> list[Any]:
        if value < 0:
            raise Rejected("no series takes a negative number")
        self.emit(Appended(value, token))
        return [self.version, len(self.values)]

    @query
    def read(self) -> list[Any]:
        return [self.version, list(self.values)]

    @on(Appended)
    def _appended(self, event: Appended) -> None:
        self.values.append(event.value)


class OwnRegister(Register):
    """A register in a process of its own."""


class OwnCounter(Counter):
    """A counter in a process of its own."""


class OwnSeries(Series):
    """A list in a process of its own."""


SHARDED: dict[type[Aggregate], Any] = {Register: Sharded(2), Counter: Sharded(1), Series: Sharded(1, live_max=5)}
DEDICATED: dict[type[Aggregate], Any] = {OwnRegister: Dedicated(), OwnCounter: Dedicated(), OwnSeries: Dedicated(2)}
PLACEMENTS = {"sharded": SHARDED, "dedicated": DEDICATED, "both": SHARDED | DEDICATED}
TYPES: dict[str, type[Aggregate]] = {cls.__name__: cls for cls in PLACEMENTS["both"]}
"""By category, which is the name."""

_KINDS = {Register: "register", Counter: "counter", Series: "list"}
MODELS = {name: JUDGED[kind] for base, kind in _KINDS.items() for name, cls in TYPES.items() if issubclass(cls, base)}
"""What judges go by, by category."""

_COMMANDS = {Register: "write", Counter: "add", Series: "append"}
_SPREAD = {Register: 20, Counter: 8, Series: 6, OwnRegister: 1, OwnCounter: 1, OwnSeries: 1}  # ids of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One call to make. `keyed`: under an idempotency key, the token, and sent again until there is an answer.
    `twice`: sent again although there was one. `timeout_s`: the deadline; `cancel_s`: when the caller gives up."""

    category: str
    id: str
    method: str
    argument: int | None
    token: str
    keyed: bool = False
    twice: bool = False
    linearizable: bool = False
    timeout_s: float = PATIENCE_S
    cancel_s: float | None = None

    @property
    def aggregate(self) -> str:
        return f"{self.category}/{self.id}"

    @property
    def is_query(self) -> bool:
        return not self.token


def patiently(plan: Plan) -> Plan:
    """The same command with all the time that it may take: how a keyed one is sent again."""
    return replace(plan, timeout_s=PATIENCE_S)


def plans(
    rng: random.Random, name: str, types: Sequence[type[Aggregate]], age_s: Callable[[], float]
) -> Iterator[Plan]:
    """Calls without end for a caller called `name`. `age_s`: of the whole run."""
    number = 0
    while True:
        number += 1
        cls = rng.choice(types)
        base = next(base for base in _COMMANDS if issubclass(cls, base))
        id = f"{rng.randrange(_SPREAD[cls])}"
        if base is Series:
            id += f".{int(age_s() / GENERATION_S)}"
        if rng.random() < 0.25:
            sure = rng.random() < 0.6
            yield Plan(category=cls.__name__, id=id, method="read", argument=None, token="", linearizable=sure)
            continue
        yield _command(rng, cls.__name__, id, _COMMANDS[base], f"{name}.{number}")


def _command(rng: random.Random, category: str, id: str, method: str, token: str) -> Plan:
    """Most are plain; some keyed, some in a hurry, some of callers who walk away, some of those that are rejected."""
    fate = rng.random()
    how: dict[str, Any] = {}
    if fate < 0.25:
        how = {"keyed": True, "twice": rng.random() < 0.3}
    elif fate < 0.30:
        how = {"keyed": True, "timeout_s": rng.uniform(0.01, 1.0)}
    elif fate < 0.36:
        how = {"timeout_s": rng.uniform(0.002, 0.5)}
    elif fate < 0.42:
        how = {"cancel_s": rng.uniform(0.0, 0.5)}
    argument = -1 if rng.random() < 0.04 else rng.randrange(1_000)
    return Plan(category=category, id=id, method=method, argument=argument, token=token, **how)
