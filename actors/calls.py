"""One call on its way: what a client sends to a host, and the ways in which it is answered.

Calls cross processes as plain tuples, in batches: a thousand cost little more than one.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from holdfast.journal.records import StoredReply
from holdfast.journal.tracing import Served

__all__ = ["Answer", "Call", "CallWire", "Kind", "Trace"]


class Kind(enum.IntEnum):
    """How a call ended, as its host sees it."""

    DONE = 0  # a command's reply: MessagePack, as the journal keeps it
    ANSWER = 1  # a query's result, packed for the way
    ERROR = 2  # an exception, packed for the way: nothing of this call was written
    AGAIN = 3  # not done: send it again; the value tells whether it may have been executed all the same
    MOVED = 4  # the same, and this host serves no more: look for its successor


Answer: TypeAlias = tuple[int, int, Any]
"""A call's number, its `Kind`, and the value."""


class Trace(NamedTuple):
    """Where a call comes from, when that is more than "a client asked": None on the wire for plain calls."""

    correlation_id: str = ""
    causation_id: str = ""
    chain: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    linearizable: bool = False


CallWire: TypeAlias = tuple[int, str, str, tuple[Any, ...], Mapping[str, Any], str, bool, bool, float, Trace | None]
"""The fields of a `Call`, in order."""

PLAIN = Trace()


class Call:
    """A command or query as its host holds it. `number` is the client's; `command_id` is the world's.

    `keyed`: the id is the caller's idempotency key. `maybe_executed`: an earlier attempt's outcome is unknown, so
    the journal must be asked before running it. `arrived`, `deadline`: by the host's clock, in
    seconds.
    """

    __slots__ = (
        "args",
        "arrived",
        "checked",
        "command_id",
        "deadline",
        "fingerprint",
        "id",
        "keyed",
        "known",
        "kwargs",
        "maybe_executed",
        "method",
        "number",
        "resolve",
        "timeout_s",
        "trace",
    )

    def __init__(self, wire: CallWire, now: float, resolve: Callable[["Call", Kind, Any], None]) -> None:
        (
            self.number,
            self.id,
            self.method,
            self.args,
            self.kwargs,
            self.command_id,
            self.keyed,
            self.maybe_executed,
            self.timeout_s,
            trace,
        ) = wire
        self.trace = PLAIN if trace is None else trace
        self.arrived, self.deadline = now, now + self.timeout_s
        self.resolve = resolve  # called once, with this call's outcome
        self.checked: object = None  # the activation that asked the journal about this call
        self.known: StoredReply | None = None  # what the journal answered then
        self.fingerprint = b""

    def be_traced(self, category: str) -> None:
        """From now until it is answered there is a span, which is the parent of all that follows from it."""
        trace = self.trace
        served = Served(category, self.id, self.method, trace.metadata, self.resolve)
        self.resolve, self.trace = served, trace._replace(metadata=served.metadata)

    def __repr__(self) -> str:
        return f"<call {self.number} {self.id}.{self.method} {self.command_id}>"
