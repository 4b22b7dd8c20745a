"""What the aggregates of the workloads are, in a few lines each: the truth that histories are judged by.

A model starts as `initial` and `step`s: from a state, a method and its argument to the next state and the result. A
method that is no command leaves the state as it is. States are hashable: the search remembers where it has been.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from .history import Operation, plain

__all__ = ["MODELS", "AppendList", "Counter", "Model", "Register", "agrees"]


class Model(Protocol):
    """One kind of aggregate. `commands`: the methods that write one event each when they are done."""

    initial: Any
    commands: frozenset[str]

    def step(self, state: Any, name: str, argument: Any) -> tuple[Any, Any]:
        """The state after the call, and its result."""
        ...


class Register:
    """`write(v)` answers `v` (or nothing), `read` the last value written."""

    initial: Any = None
    commands = frozenset({"write"})

    def step(self, state: Any, name: str, argument: Any) -> tuple[Any, Any]:
        return {"write": (plain(argument), plain(argument)), "read": (state, state)}[name]


class Counter:
    """`add(n)` answers the total, `read` too."""

    initial: Any = 0
    commands = frozenset({"add"})

    def step(self, state: Any, name: str, argument: Any) -> tuple[Any, Any]:
        total = state + argument if name == "add" else state
        return {"add": (total, total), "read": (state, state)}[name]


class AppendList:
    """`append(x)` answers the length, `read` the list."""

    initial: Any = ()
    commands = frozenset({"append"})

    def step(self, state: Any, name: str, argument: Any) -> tuple[Any, Any]:
        if name == "append":
            state = (*state, plain(argument))
            return state, len(state)
        return {"read": (state, state)}[name]


MODELS: Mapping[str, Model] = {"register": Register(), "counter": Counter(), "list": AppendList()}
"""By category, as the workloads name them."""


def agrees(operation: Operation, answer: Any, result: Any) -> bool:
    """Whether the caller was answered the model's result. A command may answer nothing."""
    return plain(answer) == plain(result) or (operation.kind == "command" and answer is None)
