"""Handlers: the only methods that change state. `@on(Deposited)` applies that event, live and in every replay."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

__all__ = ["handled_by", "on"]

A = TypeVar("A")
E = TypeVar("E")
E1 = TypeVar("E1")
E2 = TypeVar("E2")
E3 = TypeVar("E3")
E4 = TypeVar("E4")

ATTRIBUTE = "__handles__"


@overload
def on(event: type[E], /) -> Callable[[Callable[[A, E], None]], Callable[[A, E], None]]: ...
@overload
def on(e1: type[E1], e2: type[E2], /) -> Callable[[Callable[[A, E1 | E2], None]], Callable[[A, E1 | E2], None]]: ...
@overload
def on(
    e1: type[E1], e2: type[E2], e3: type[E3], /
) -> Callable[[Callable[[A, E1 | E2 | E3], None]], Callable[[A, E1 | E2 | E3], None]]: ...
@overload
def on(
    e1: type[E1], e2: type[E2], e3: type[E3], e4: type[E4], /
) -> Callable[[Callable[[A, E1 | E2 | E3 | E4], None]], Callable[[A, E1 | E2 | E3 | E4], None]]: ...
@overload
def on(*events: type[Any]) -> Callable[[Callable[[A, Any], None]], Callable[[A, Any], None]]: ...
def on(*events: Any) -> Any:
    """Have this method apply these events: `def _deposited(self, event: Deposited) -> None`.

    It is called with the event alone, now and at every replay for ever, so it must follow from state and event:
    no clock, no chance, no input from elsewhere, and no refusing; the event has happened.
    """

    def decorate(function: Any) -> Any:
        setattr(function, ATTRIBUTE, events)
        return function

    return decorate


def handled_by(function: Any) -> tuple[Any, ...] | None:
    """The events that a method applies; None if it is no handler."""
    handles: tuple[Any, ...] | None = getattr(function, ATTRIBUTE, None)
    return handles
