"""Handlers: what happens at an event.

    @apply(Deposited)                     changes state by an event of its own, live and in every replay
    @on(Deposited)                        in an aggregate the same; in a reaction: reacts to an event of the journal
    @on(Deposited, by="account_id")       the instance of a reaction that is called so

One method may carry several: they add up.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from .recorded import RecordedEvent

__all__ = ["By", "applied_by", "apply", "correlated_by", "handled_by", "on"]

A = TypeVar("A")
E = TypeVar("E")
E1 = TypeVar("E1")
E2 = TypeVar("E2")
E3 = TypeVar("E3")
E4 = TypeVar("E4")
C = TypeVar("C")
R = TypeVar("R", bound=Coroutine[Any, Any, None] | None)

HANDLES, APPLIES, BY = "__handles__", "__applies__", "__handles_by__"

By: TypeAlias = str | Callable[[E, RecordedEvent], str | None] | None
"""Which instance of a reaction an event is for: the one whose id is in this field, or is what this function says (None:
no one's). Not given: the one whose id is that of the event's own stream."""


class Handling(Protocol[C]):
    """What `@on(…)` takes: a method for these events, which may ask for the record of the event as well."""

    @overload
    def __call__(self, function: Callable[[A, C], R], /) -> Callable[[A, C], R]: ...
    @overload
    def __call__(self, function: Callable[[A, C, RecordedEvent], R], /) -> Callable[[A, C, RecordedEvent], R]: ...


@overload
def on(event: type[E], /, *, by: By[E] = None) -> Handling[E]: ...
@overload
def on(e1: type[E1], e2: type[E2], /, *, by: By[E1 | E2] = None) -> Handling[E1 | E2]: ...
@overload
def on(e1: type[E1], e2: type[E2], e3: type[E3], /, *, by: By[E1 | E2 | E3] = None) -> Handling[E1 | E2 | E3]: ...
@overload
def on(
    e1: type[E1], e2: type[E2], e3: type[E3], e4: type[E4], /, *, by: By[E1 | E2 | E3 | E4] = None
) -> Handling[E1 | E2 | E3 | E4]: ...
@overload
def on(*events: type[Any], by: By[Any] = None) -> Handling[Any]: ...
def on(*events: Any, by: Any = None) -> Any:
    """In an aggregate: have this method apply these events, as `apply` does.

    In a `Reaction`: have this method, `def` or `async def`, react to these events of the journal, whoever emitted them.
    It is called with the event, or with the event and its `RecordedEvent`, as a command of the instance that the event
    is for (`by`, see `By`): so it may emit events, send commands to other aggregates, set reminders.
    """

    def decorate(function: Any) -> Any:
        _add(function, HANDLES, events)
        _add(function, BY, tuple(by for _ in events))
        return function

    return decorate


@overload
def apply(event: type[E], /) -> Callable[[Callable[[A, E], None]], Callable[[A, E], None]]: ...
@overload
def apply(e1: type[E1], e2: type[E2], /) -> Callable[[Callable[[A, E1 | E2], None]], Callable[[A, E1 | E2], None]]: ...
@overload
def apply(
    e1: type[E1], e2: type[E2], e3: type[E3], /
) -> Callable[[Callable[[A, E1 | E2 | E3], None]], Callable[[A, E1 | E2 | E3], None]]: ...
@overload
def apply(
    e1: type[E1], e2: type[E2], e3: type[E3], e4: type[E4], /
) -> Callable[[Callable[[A, E1 | E2 | E3 | E4], None]], Callable[[A, E1 | E2 | E3 | E4], None]]: ...
@overload
def apply(*events: type[Any]) -> Callable[[Callable[[A, Any], None]], Callable[[A, Any], None]]: ...
def apply(*events: Any) -> Any:
    """Have this method apply these events: `def _deposited(self, event: Deposited) -> None`.

    It is called with the event alone, now and at every replay for ever, so it must follow from state and event:
    no clock, no chance, no input from elsewhere, and no refusing; the event has happened.
    """

    def decorate(function: Any) -> Any:
        _add(function, APPLIES, events)
        return function

    return decorate


def handled_by(function: Any) -> tuple[Any, ...]:
    """The events of a method's `@on`."""
    return _found(function, HANDLES)


def applied_by(function: Any) -> tuple[Any, ...]:
    """The events of a method's `@apply`."""
    return _found(function, APPLIES)


def correlated_by(function: Any) -> tuple[Any, ...]:
    """What `by=` says, for each of the events of a method's `@on`."""
    return _found(function, BY)


def _add(function: Any, name: str, more: tuple[Any, ...]) -> None:
    """What stands above goes first."""
    setattr(function, name, (*more, *_found(function, name)))


def _found(function: Any, name: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(function, name, ())
    return found
