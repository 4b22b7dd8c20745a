"""Commands and queries: methods that callers reach through a reference.

    await runtime.get(Account, "alice").deposit(5)     through a reference: an awaitable of the result
    self.deposit(5)                                    in the aggregate itself: runs the method, there and then
    Account.deposit(self, 5)                           the same, typed as what the method returns

The type of an aggregate is also the type of a reference to it, so the second form has the first one's type.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from .errors import DefinitionError
from .place import place_of

__all__ = ["Command", "command", "query"]

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")


class Command(Generic[P, R, D]):
    """A command or query as it stands in its class: takes `P`, gives callers an `R`; called directly it gives `D`
    (a coroutine of `R` if it is `async def`)."""

    function: Callable[..., Any]
    is_query: bool

    def __init__(self, function: Callable[..., Any], *, is_query: bool) -> None:
        functools.update_wrapper(self, function)
        self.function, self.is_query = function, is_query

    @overload
    def __get__(self, instance: None, owner: type, /) -> "Command[P, R, D]": ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, instance: object, owner: type, /) -> Any:
        return self if instance is None else MethodType(self.function, instance)

    def __call__(self, aggregate: Any, /, *args: P.args, **kwargs: P.kwargs) -> D:
        """Run it on a live instance, as a method of a class is called."""
        result: D = self.function(aggregate, *args, **kwargs)
        return result


@overload
def command(
    function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /
) -> Command[P, R, Coroutine[Any, Any, R]]: ...
@overload
def command(function: Callable[Concatenate[A, P], R], /) -> Command[P, R, R]: ...
def command(function: Any, /) -> Any:
    """Let callers ask for a change. The method, `def` or `async def`, raises `Rejected` to refuse, or emits
    events; it never changes state itself. What it returns is stored with its events, so it must serialize.

    Commands of one aggregate run one at a time, in the order they arrive. Each is effectively done once: a retry
    gets the stored reply."""
    _check(function, "command")
    return Command[..., Any, Any](function, is_query=False)


@overload
def query(
    function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /
) -> Command[P, R, Coroutine[Any, Any, R]]: ...
@overload
def query(function: Callable[Concatenate[A, P], R], /) -> Command[P, R, R]: ...
def query(function: Any, /) -> Any:
    """Let callers read. The method sees the state and emits nothing; its result is not stored.

    An answer never shows what is not yet durable."""
    _check(function, "query")
    return Command[..., Any, Any](function, is_query=True)


def _check(function: Any, kind: str) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function):
        what = type(function).__name__
        raise DefinitionError(name, f"a {kind} is a method, def or async def, not a {what}")
    place = place_of(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(name, f"a {kind} returns its result; it cannot be a generator", place)
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional:
        raise DefinitionError(name, f"a {kind} is a method: its first parameter is self", place)
