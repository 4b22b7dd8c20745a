"""What a host times of its commands, for whoever looks at it from outside. Made where metrics are wanted.

It must cost a command next to nothing, so it goes by turns of the event loop: whatever happens in one turn happens at
the moment at which that was first asked for. The calls of a request arrive in one turn and mostly run in it, and the
appends of a request to the journal are answered in one, so very many have the same times and are observed together.

Before this: an append is durable. After this: it is in the histograms, and its callers are told.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.journal.histogram import COUNTS, SECONDS, Histogram

from .calls import Call

__all__ = ["HostMeters"]


class HostMeters:
    """`command_seconds`: from a command's arrival at its host until its events were durable. `gate_wait_seconds`: from
    the first command of an append having run until the append was durable. `batch_commands`: commands in an append.
    They are complete between two turns of the loop."""

    __slots__ = (
        "_alike",
        "_arrived",
        "_clock",
        "_now",
        "_settled_at",
        "_since",
        "batch_commands",
        "command_seconds",
        "gate_wait_seconds",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: the host's, in seconds."""
        self.command_seconds = Histogram(SECONDS)
        self.gate_wait_seconds = Histogram(SECONDS)
        self.batch_commands = Histogram(COUNTS)
        self._clock = clock
        self._now: float | None = None  # when this turn of the loop was; None: nobody has asked in it
        self._alike = 0  # appends of a single command that were settled and not observed, with these times
        self._arrived: float = 0.0
        self._since: float = 0.0
        self._settled_at: float = 0.0

    def now(self) -> float:
        """When this turn of the loop is."""
        if self._now is None:
            self._now = self._clock()
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._now

    def settled(self, commands: Sequence[tuple[Call, Any]], since: float) -> None:
        """The append of these commands, the first of which had run at `since`, is durable."""
        now, arrived = self.now(), commands[0][0].arrived
        if len(commands) == 1:
            if since != self._since or arrived != self._arrived or now != self._settled_at:
                self._observe()
                self._since, self._arrived, self._settled_at = since, arrived, now
            self._alike += 1
            return
        self.batch_commands.observe(len(commands))
        self.gate_wait_seconds.observe(now - since)
        times, observe = 0, self.command_seconds.observe
        for call, _ in commands:
            if call.arrived == arrived:
                times += 1
            else:
                observe(now - arrived, times)
                arrived, times = call.arrived, 1
        observe(now - arrived, times)

    def _end_turn(self) -> None:
        self._now = None
        self._observe()

    def _observe(self) -> None:
        times, self._alike = self._alike, 0
        if times:
            self.batch_commands.observe(1, times)
            self.gate_wait_seconds.observe(self._settled_at - self._since, times)
            self.command_seconds.observe(self._settled_at - self._arrived, times)
