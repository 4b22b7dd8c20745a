"""A history: every call of a run, as its caller saw it. What the judges read, and all that a workload must keep.

Times come from one clock, simulated or monotonic. A call that returned at the very instant at which another was made
counts as concurrent with it; a simulation whose clock seldom moves had better count up with every reading.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["Operation", "by_aggregate", "merged", "plain", "version_and_result", "well_formed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call as its caller saw it.

    `client`: who called; one client makes one call at a time, or names its calls apart. `aggregate`: category/id.
    `name`: the method. `argument`: plain data. `token`: unlike any other command's, and carried by its event; empty
    for queries. A command sent again under its idempotency key has the token of the first.
    `called`, `returned`: the time of the call, and of its answer (None: no answer, or one that says "unknown").
    `outcome`: `refused` says that nothing was written. `value`: the answer of one that is done, `[version, result]`,
    where the version is that of the aggregate after a command, or as a query saw it.
    """

    client: str
    aggregate: str
    kind: Literal["command", "query"]
    name: str
    argument: Any
    token: str
    called: float
    returned: float | None
    outcome: Literal["done", "refused", "unknown"]
    value: Any = None

    def __str__(self) -> str:
        when = f"{self.called}..{'' if self.returned is None else self.returned}"
        said = f"{self.outcome} {self.value!r}" if self.outcome == "done" else self.outcome
        return f"{self.aggregate} {self.name}({self.argument!r}) {self.token} by {self.client} at {when}: {said}"


def version_and_result(operation: Operation) -> tuple[int, Any]:
    """What one that is done was answered."""
    version, result = operation.value
    return version, result


def plain(value: Any) -> Any:
    """The same data, hashable, whatever kind of sequence it came in: MessagePack turns tuples into lists."""
    if isinstance(value, Mapping):
        return frozenset((plain(key), plain(item)) for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(plain(item) for item in value)
    return value


def by_aggregate(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Each aggregate's operations, in the order in which they were called."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in sorted(history, key=lambda each: each.called):
        found[operation.aggregate].append(operation)
    return dict(found)


def well_formed(history: Sequence[Operation]) -> None:
    """A judge that is handed nonsense must not call it good."""
    for each in history:
        assert each.aggregate.count("/") >= 1, f"no category/id: {each}"
        assert each.outcome in ("done", "refused", "unknown"), f"no such outcome: {each}"
        assert bool(each.token) == (each.kind == "command"), f"commands have a token, queries none: {each}"
        assert each.returned is None or each.returned >= each.called, f"returned before it was called: {each}"
        if each.outcome == "done":
            assert each.returned is not None, f"done, and never returned: {each}"
            assert _is_pair(each.value), f"the value is no [version, result]: {each}"


def _is_pair(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return isinstance(value[0], int) and value[0] >= 0


def merged(history: Sequence[Operation]) -> list[Operation]:
    """One operation for each token: a command that was sent again under its key may act from its first call on, and
    has acted when the first of them is answered. Raises AssertionError if two answers differ."""
    found: dict[str, Operation] = {}
    queries = [each for each in history if each.kind == "query"]
    for each in history:
        if each.kind == "command":
            found[each.token] = _together(found[each.token], each) if each.token in found else each
    return [*found.values(), *queries]


def _together(one: Operation, other: Operation) -> Operation:
    same = (one.aggregate, one.name, plain(one.argument)) == (other.aggregate, other.name, plain(other.argument))
    assert same, f"one token for two commands: {one} and {other}"
    called = min(one.called, other.called)
    done = [each for each in (one, other) if each.outcome == "done"]
    if done:
        assert plain(done[0].value) == plain(done[-1].value), f"one command, two answers: {one} and {other}"
        first = min(done, key=lambda each: each.returned or 0.0)
        return replace(first, called=called)
    if one.outcome == other.outcome == "refused":
        return replace(one, called=called)
    return replace(one, called=called, outcome="unknown", returned=None)
