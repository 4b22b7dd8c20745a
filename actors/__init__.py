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
    ReplyForgotten,
    StateChangedOutsideHandler,
    UnhandledEvent,
    UnknownCommand,
)
from .forgotten import Forgotten
from .handlers import apply
from .personal import Personal
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
    "Forgotten",
    "HydrationFailed",
    "KeyReused",
    "NotInCommand",
    "NotSerializable",
    "Overloaded",
    "PendingReminder",
    "Personal",
    "Reaction",
    "RecordedEvent",
    "Rejected",
    "ReminderCancelled",
    "ReminderFired",
    "ReminderSet",
    "ReplyForgotten",
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
