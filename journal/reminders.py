"""Reminders, as the journal sees them: events of an aggregate's own stream, with reserved types.

An aggregate that wants to be woken later writes so into its stream, among the other events of the command: both are
durable or neither is.
"""

__all__ = ["CANCELLED", "FIRED", "REMINDER_TYPES", "RESERVED_PREFIX", "SET"]

RESERVED_PREFIX = "holdfast."
"""Event types that start with this are Holdfast's own."""

SET = "holdfast.reminder.set"
CANCELLED = "holdfast.reminder.cancelled"
FIRED = "holdfast.reminder.fired"
REMINDER_TYPES = frozenset((SET, CANCELLED, FIRED))
