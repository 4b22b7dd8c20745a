"""Linearizability without a witness: is there any order of these calls that the model could have gone through?

Lowe's just-in-time form of Wing and Gong's search ("Testing for linearizability", 2016). It walks through calls and
returns in the order of time and keeps every configuration that the aggregate may be in: a state, and which of the
open calls have not taken effect yet. A call takes effect only when a return asks for it, or for one after it. A call
without an answer stays open for good: it may take effect at any time later, or never. One that was refused takes
none, so it is not here at all.

The memory of configurations is what makes it fast where few calls overlap. For long, busy histories see `witness`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .history import Operation
from .models import Model, agrees

__all__ = ["TooWide", "linearizable"]

Configuration = tuple[int, Any, frozenset[int]]
"""Version, state, and the numbers of the open calls that have not taken effect."""


class TooWide(AssertionError):
    """More calls overlap than the search can go through: nothing was found out."""


def linearizable(
    operations: Sequence[Operation], model: Model, *, versions: bool = True, configurations_max: int = 200_000
) -> None:
    """Raise AssertionError if no order of one aggregate's operations explains what their callers were told.

    `versions`: heed the versions in the answers. Without, the results alone must be explained.
    """
    told = [
        each for each in operations if each.outcome != "refused" and (each.kind, each.outcome) != ("query", "unknown")
    ]
    search = _Search(told, model, versions, configurations_max)
    reached: set[Configuration] = {(0, model.initial, frozenset())}
    for _, returns, number in _moments(told):
        if not returns:
            reached = {(version, state, open_ | {number}) for version, state, open_ in reached}
            continue
        reached = search.through(reached, number)
        assert reached, f"not linearizable: no order of the calls explains {told[number]}"


def _moments(operations: Sequence[Operation]) -> list[tuple[float, bool, int]]:
    """Calls and returns in the order of time; at one instant calls come first, which makes them concurrent."""
    calls = [(each.called, False, number) for number, each in enumerate(operations)]
    returns = [
        (each.returned, True, n)
        for n, each in enumerate(operations)
        if each.outcome == "done" and each.returned is not None
    ]
    return sorted([*calls, *returns])


class _Search:
    def __init__(self, operations: Sequence[Operation], model: Model, versions: bool, configurations_max: int) -> None:
        self._operations, self._model = operations, model
        self._versions, self._configurations_max = versions, configurations_max

    def through(self, reached: set[Configuration], number: int) -> set[Configuration]:
        """From these configurations to all in which call `number` has taken effect, and no more than it takes."""
        waiting, seen, found = list(reached), set(reached), set[Configuration]()
        while waiting:
            configuration = waiting.pop()
            if number not in configuration[2]:
                found.add(configuration)
                continue
            for following in self._following(configuration, number):
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
            if len(seen) > self._configurations_max:
                raise TooWide(f"more than {self._configurations_max} configurations at {self._operations[number]}")
        return found

    def _following(self, configuration: Configuration, target: int) -> Iterator[Configuration]:
        version, state, open_ = configuration
        for number in open_:
            each = self._operations[number]
            after, result = self._model.step(state, each.name, each.argument)
            at = version + (each.kind == "command")
            if self._beyond(at, target) or not self._told(each, at, result):
                continue
            yield at, after, open_ - {number}

    def _beyond(self, version: int, target: int) -> bool:
        """Versions only rise: past the one that the target was told, the target cannot follow any more."""
        return self._versions and version > self._operations[target].value[0]

    def _told(self, each: Operation, version: int, result: Any) -> bool:
        if each.outcome == "unknown":
            return True
        at, answer = each.value
        return agrees(each, answer, result) and (not self._versions or at == version)
