"""Aggregates: what users write, and the activations that live from it.

from holdfast.actors import Aggregate, Rejected, command, event, on, query
"""

from .aggregate import Aggregate, command, event, on, query
from .clock import VirtualClock
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
from .reminders import PendingReminder, ReminderCancelled, ReminderFired, ReminderSet
from .upcasting import Upcast, upcast

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
    "PendingReminder",
    "Reaction",
    "RecordedEvent",
    "Rejected",
    "ReminderCancelled",
    "ReminderFired",
    "ReminderSet",
    "Retry",
    "StateChangedOutsideHandler",
    "Stop",
    "UnhandledEvent",
    "UnknownCommand",
    "Upcast",
    "VirtualClock",
    "apply",
    "command",
    "event",
    "on",
    "query",
    "upcast",
]
