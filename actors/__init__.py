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
from .reminders import PendingReminder, ReminderCancelled, ReminderFired, ReminderSet

__all__ = [
    "Aggregate",
    "AggregateError",
    "CallCycle",
    "CommandAborted",
    "Context",
    "DeadlineExceeded",
    "DefinitionError",
    "HydrationFailed",
    "KeyReused",
    "NotInCommand",
    "NotSerializable",
    "Overloaded",
    "PendingReminder",
    "Rejected",
    "ReminderCancelled",
    "ReminderFired",
    "ReminderSet",
    "StateChangedOutsideHandler",
    "UnhandledEvent",
    "UnknownCommand",
    "VirtualClock",
    "command",
    "event",
    "on",
    "query",
]
