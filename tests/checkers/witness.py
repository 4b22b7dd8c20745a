"""Linearizability with a witness: the journal says in which order the commands of an aggregate took effect.

Fast enough for millions of calls. A command stands at its version in the journal, a query right behind the version
that it says it saw. That order is right if three things hold, and each is checked on its own:

1. what the journal says was done is what callers were told: the version, and the result that replay gives there;
2. each query was answered what the state at its version answers, and no version that never was;
3. time: who returned before another was called stands before it.

`search` finds the same without a journal, where few calls overlap; a property test holds them to one verdict.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .history import Operation, plain, version_and_result
from .models import Model, agrees

__all__ = ["in_order_of_time", "replies_are_replay", "witnessed"]


def witnessed(operations: Sequence[Operation], tokens: Sequence[str], model: Model) -> None:
    """Raise AssertionError unless the stream's order explains one aggregate's operations.

    `tokens`: those of the stream's events, in order of version.
    """
    versions = {token: version for version, token in enumerate(tokens, 1)}
    assert len(versions) == len(tokens), f"done more than once: {[t for t in versions if tokens.count(t) > 1][:5]}"
    for each in operations:
        if each.kind == "command" and each.outcome != "unknown":
            wanted = each.outcome == "done"
            assert (each.token in versions) == wanted, f"{'not' if wanted else 'yet'} in the journal: {each}"
    replies_are_replay(operations, tokens, model)
    in_order_of_time(operations, versions)


def replies_are_replay(operations: Sequence[Operation], tokens: Sequence[str], model: Model) -> None:
    """Steps 1 and 2: replay the stream once, and compare at each version what was told there."""
    commands = {each.token: each for each in operations if each.kind == "command"}
    queries: dict[int, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.kind == "query" and each.outcome == "done":
            queries[version_and_result(each)[0]].append(each)
    _queried(queries.pop(0, []), model, model.initial)
    state = model.initial
    for version, token in enumerate(tokens, 1):
        assert token in commands, f"version {version} was invented: nobody commanded {token!r}"
        command = commands[token]
        state, result = model.step(state, command.name, command.argument)
        if command.outcome == "done":
            at, answer = version_and_result(command)
            assert at == version, f"told version {at}, the journal has it at {version}: {command}"
            assert agrees(command, answer, result), f"replay says {result!r} at version {version}: {command}"
        _queried(queries.pop(version, []), model, state)
    never = [each for at in queries.values() for each in at]
    assert not never, f"a query saw a version beyond {len(tokens)}, the last: {never[0]}"


def _queried(queries: Sequence[Operation], model: Model, state: Any) -> None:
    for query in queries:
        version, answer = version_and_result(query)
        result = model.step(state, query.name, query.argument)[1]
        assert plain(answer) == plain(result), f"replay says {result!r} at version {version}: {query}"


def in_order_of_time(operations: Sequence[Operation], versions: Mapping[str, int]) -> None:
    """Step 3, in one sweep: behind everything that returned before it was called. `versions`: by token."""
    placed = [(place, each) for each in operations if (place := _place(each, versions)) is not None]
    calls = sorted(placed, key=lambda pair: pair[1].called)
    returns = sorted(
        (
            (each.returned, place, each)
            for place, each in placed
            if each.outcome == "done" and each.returned is not None
        ),
        key=lambda entry: entry[0],
    )
    newest, before, done = (-1, 0), None, 0
    for place, each in calls:
        while done < len(returns) and returns[done][0] < each.called:
            if returns[done][1] > newest:
                newest, before = returns[done][1], returns[done][2]
            done += 1
        assert place >= newest, f"out of order: {each} stands before {before}, which had returned when it was called"


def _place(each: Operation, versions: Mapping[str, int]) -> tuple[int, int] | None:
    """Where an operation took effect: its version, and queries behind the command of that version. None: nowhere."""
    if each.kind == "command":
        return (versions[each.token], 0) if each.token in versions else None
    return (version_and_result(each)[0], 1) if each.outcome == "done" else None
