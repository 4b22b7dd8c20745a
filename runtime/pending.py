"""Calls whose callers wait: what each has asked for, and until when it waits.

A caller waits for one future. Its deadline is watched together with all others of its line by a single timer: most
calls are answered long before, and a timer for each would cost more than sending it.

Before this: the caller's signature was checked. After this: the call is answered, or its caller was told why not.
"""

import asyncio
import math
import sys
from collections.abc import Collection, Mapping
from contextvars import Context
from typing import Any

from holdfast.actors.calls import CallWire, Kind, Trace
from holdfast.actors.errors import DeadlineExceeded

__all__ = ["Deadlines", "Pending"]


LOOK_APART_S = 1e-6
"""Seconds between two looks, for each caller: looking takes a tenth of that, so no more of the loop's time."""


class Pending:
    """A call whose caller waits. `future` gives the answer's kind and value. `sent`: it may have been executed, so
    without an answer its outcome is unknown."""

    __slots__ = (
        "args",
        "command_id",
        "deadline",
        "future",
        "id",
        "keyed",
        "kwargs",
        "maybe_executed",
        "method",
        "number",
        "retries",
        "sent",
        "timeout_s",
        "trace",
        "trouble",
    )

    def __init__(
        self,
        id: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        command_id: str,
        keyed: bool,
        maybe_executed: bool,
        timeout_s: float,
        trace: Trace | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id, self.method, self.args, self.kwargs = id, method, args, kwargs
        self.command_id, self.keyed, self.maybe_executed = command_id, keyed, maybe_executed
        self.timeout_s, self.trace = timeout_s, trace
        self.future: asyncio.Future[tuple[Kind, Any]] = loop.create_future()
        self.deadline = loop.time() + timeout_s
        self.number = 0
        self.retries = 0
        self.sent = False
        self.trouble = ""  # the last reason for sending it again

    def wire(self, now: float) -> CallWire:
        """As it travels: deadlines as the seconds left, since clocks differ."""
        return (
            self.number,
            self.id,
            self.method,
            self.args,
            self.kwargs,
            self.command_id,
            self.keyed,
            self.maybe_executed,
            self.deadline - now,
            self.trace,
        )

    @property
    def size(self) -> int:
        """Bytes of its arguments, about."""
        size = sum(map(sys.getsizeof, self.args))
        return size + sum(map(sys.getsizeof, self.kwargs.values())) if self.kwargs else size

    def answer(self, kind: Kind, value: Any) -> None:
        """Tell the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result((kind, value))

    def fail(self, error: Exception) -> None:
        """Tell the caller that there is no answer."""
        if not self.future.done():
            self.future.set_exception(error)

    def again(self, *, maybe_executed: bool, trouble: str) -> None:
        """It will be sent once more."""
        self.maybe_executed = self.sent = self.maybe_executed or maybe_executed
        self.trouble = trouble

    def expire(self) -> None:
        """Its deadline has passed."""
        outcome = DeadlineExceeded.UNKNOWN if self.sent else DeadlineExceeded.NOT_SENT
        self.fail(DeadlineExceeded(f"{self.id}.{self.method}", self.timeout_s, outcome, self.trouble))


class Deadlines:
    """The deadlines of `callers`, who come and go, under one timer: set for the earliest that it was told of, which may
    have been answered since. It then looks at all of them, tells those that are late, and is set anew."""

    def __init__(self, callers: Collection[Pending]) -> None:
        self._callers = callers
        self._earliest = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pending: Pending) -> None:
        """One that has just joined the callers."""
        if pending.deadline < self._earliest:
            self._set(pending.deadline)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._set(math.inf)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._earliest = at
        self._timer = None if at == math.inf else asyncio.get_running_loop().call_at(at, self._look, context=Context())

    def _look(self) -> None:
        now, earliest = asyncio.get_running_loop().time(), math.inf
        for pending in self._callers:
            if pending.deadline <= now:
                pending.expire()
            elif pending.deadline < earliest:
                earliest = pending.deadline
        self._set(max(earliest, now + len(self._callers) * LOOK_APART_S))
