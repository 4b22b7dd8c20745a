"""Aggregates: what users write, and the activations that live from it.

from holdfast.actors import Aggregate, Rejected, command, event, on, query
"""

from .aggregate import Aggregate, command, event, on, query
from .context import Context
from .errors import (
    AggregateError,
    CallCycle,
    CommandAborted,
    DeadlineExceeded,
    DefinitionError,
    HydrationFailed,
    KeyReused,
    NotInCommand,
    NotSerializable,
    Overloaded,
    Rejected,
    StateChangedOutsideHandler,
    UnhandledEvent,
    UnknownCommand,
)
from .handlers import apply
from .policy import DeadLetter, Retry, Stop
from .reaction import Reaction
from .recorded import RecordedEvent

__all__ = [
    "Aggregate",
    "AggregateError",
    "CallCycle",
    "CommandAborted",
    "Context",
    "DeadLetter",
    "DeadlineExceeded",
    "DefinitionError",
    "HydrationFailed",
    "KeyReused",
    "NotInCommand",
    "NotSerializable",
    "Overloaded",
    "Reaction",
    "RecordedEvent",
    "Rejected",
    "Retry",
    "StateChangedOutsideHandler",
    "Stop",
    "UnhandledEvent",
    "UnknownCommand",
    "apply",
    "command",
    "event",
    "on",
    "query",
]
