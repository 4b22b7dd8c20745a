"""What an aggregate, or the host it lives in, tells its caller.

    HoldfastError
    ├── DefinitionError (TypeError)        the class cannot be an aggregate or an event: names class and line
    ├── Rejected                           a command said no; nothing was written. Subclass it for your domain
    └── AggregateError
        ├── NotSerializable                an event, a reply or state does not survive MessagePack
        ├── UnhandledEvent                 a command emitted an event that none of its methods applies
        ├── StateChangedOutsideHandler     a command or query assigned to a field instead of emitting an event
        ├── NotInCommand                   emit() outside a running command
        ├── CommandAborted             a command raised what ends processes or tasks, not commands
        ├── UnknownCommand                 the host's definition has no such command or query
        ├── HydrationFailed                a stored event cannot be applied: names stream, version, position
        ├── KeyReused                      one idempotency key, two different commands
        ├── ReplyForgotten                 it was done, and what it answered was forgotten with a person's data
        ├── CallCycle                      a call chain came back to an aggregate that waits for it
        ├── Overloaded                     a bounded queue is full: wait and send again
        └── DeadlineExceeded               no answer in time; `outcome` says whether it may have happened

Every error keeps `args == constructor arguments`, so it crosses process boundaries as itself.
"""

from typing import Any, ClassVar

from holdfast.journal.errors import HoldfastError

__all__ = [
    "AggregateError",
    "CallCycle",
    "CommandAborted",
    "DeadlineExceeded",
    "DefinitionError",
    "HydrationFailed",
    "KeyReused",
    "NotInCommand",
    "NotSerializable",
    "Overloaded",
    "Rejected",
    "ReplyForgotten",
    "StateChangedOutsideHandler",
    "UnhandledEvent",
    "UnknownCommand",
]


class DefinitionError(HoldfastError, TypeError):
    """The class cannot be an aggregate or an event. Raised while the class is being made."""

    def __init__(self, subject: str, problem: str, where: str = "") -> None:
        super().__init__(subject, problem, where)
        self.subject, self.problem, self.where = subject, problem, where

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}" + (f" ({self.where})" if self.where else "")


class Rejected(HoldfastError):
    """A command said no. Nothing was written and no state changed. Raise it, or a subclass, from a command."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)


class AggregateError(HoldfastError):
    """A command or query could not be carried out."""


class NotSerializable(AggregateError):
    """A value does not survive MessagePack as the type it is declared with. Nothing was written."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


class UnhandledEvent(AggregateError):
    """A command emitted an event that no method applies: no `@on`, or, in a reaction, no `@apply`. Nothing was
    written."""

    def __init__(self, aggregate: str, event: str) -> None:
        super().__init__(aggregate, event)
        self.aggregate, self.event = aggregate, event

    def __str__(self) -> str:
        return f"{self.aggregate} emitted {self.event}, which none of its methods applies (@on; in a reaction @apply)"


class StateChangedOutsideHandler(AggregateError):
    """A command or query assigned to a field. Emit an event, and change state in its `@on` method only."""

    def __init__(self, aggregate: str, field: str) -> None:
        super().__init__(aggregate, field)
        self.aggregate, self.field = aggregate, field

    def __str__(self) -> str:
        return f"{self.aggregate}.{self.field} was assigned outside an @on method; emit an event and change it there"


class NotInCommand(AggregateError):
    """`emit()` was called while no command runs: in a query, in a handler, or after the command returned. The same
    goes for what else belongs to a command (`context`, `aggregate()`), which queries may use too."""

    def __init__(self, aggregate: str, what: str = "emit()") -> None:
        super().__init__(aggregate, what)
        self.aggregate, self.what = aggregate, what

    def __str__(self) -> str:
        return f"{self.aggregate}: {self.what} works only while one of its commands runs"


class CommandAborted(AggregateError):
    """A command, query or handler raised SystemExit, KeyboardInterrupt or CancelledError. Nothing was written. It is
    told as this, since the original would end the caller."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{self.what} was aborted by {self.problem}"


class UnknownCommand(AggregateError, AttributeError):
    """No such command or query. If the caller has it, the host runs older code."""

    def __init__(self, aggregate: str, command: str) -> None:
        super().__init__(aggregate, command)
        self.aggregate, self.command = aggregate, command

    def __str__(self) -> str:
        return f"{self.aggregate} has no command or query {self.command!r}"


class HydrationFailed(AggregateError):
    """A stored event cannot be applied, so this aggregate cannot be brought back; others go on."""

    def __init__(self, stream: str, version: int, position: int, problem: str) -> None:
        super().__init__(stream, version, position, problem)
        self.stream, self.version, self.position, self.problem = stream, version, position, problem

    def __str__(self) -> str:
        return f"{self.stream} version {self.version} (position {self.position}): {self.problem}"


class KeyReused(AggregateError):
    """This idempotency key was used for another command or other arguments. Use a new key."""

    def __init__(self, stream: str, key: str) -> None:
        super().__init__(stream, key)
        self.stream, self.key = stream, key

    def __str__(self) -> str:
        return f"{self.stream}: idempotency key {self.key!r} was used before, for something else"


class ReplyForgotten(AggregateError):
    """This command was done, once; what it answered is not known any more, since it was kept sealed, and a person whose
    data it may have held was forgotten. Do not send it under another key: it would be done again."""

    def __init__(self, stream: str, command_id: str) -> None:
        super().__init__(stream, command_id)
        self.stream, self.command_id = stream, command_id

    def __str__(self) -> str:
        return f"{self.stream}: command {self.command_id!r} was done, and its reply was forgotten"


class CallCycle(AggregateError):
    """A call came back to an aggregate that is waiting for it, and would wait for ever."""

    def __init__(self, chain: tuple[str, ...]) -> None:
        super().__init__(chain)
        self.chain = chain

    def __str__(self) -> str:
        return "call cycle: " + " → ".join(self.chain)


class Overloaded(AggregateError):
    """A bounded queue is full. Nothing was done; wait a little and send again."""

    retryable = True

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what, self.limit = what, limit

    def __str__(self) -> str:
        return f"{self.what} is full at its limit of {self.limit}"


class DeadlineExceeded(AggregateError, TimeoutError):
    """No answer in time. `outcome` is `"not sent"` (it did not happen) or `"unknown"` (it may have happened:
    send it again with the same idempotency key, or look)."""

    retryable = True
    NOT_SENT: ClassVar[str] = "not sent"
    UNKNOWN: ClassVar[str] = "unknown"

    def __init__(self, what: str, timeout_s: float, outcome: str, cause: str = "") -> None:
        super().__init__()  # TimeoutError is an OSError, which would keep two arguments only
        self.args = (what, timeout_s, outcome, cause)
        self.what, self.timeout_s, self.outcome, self.cause = what, timeout_s, outcome, cause

    def __str__(self) -> str:
        because = f"; last trouble: {self.cause}" if self.cause else ""
        return f"{self.what}: no answer within {self.timeout_s:g} s, outcome {self.outcome}{because}"
