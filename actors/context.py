"""Context: where a command comes from, carried along with it and stored with its events.

A command that another command sent has that one as its cause; all that follow from one request share its
correlation id. What the caller adds travels under `metadata`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from holdfast.journal.codec import CodecError, decode_plain, encode_plain

__all__ = ["Context"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

KEPT: dict[str, type] = {"correlation_id": str, "causation_id": str, "metadata": dict}
"""What the journal keeps of a context beside the event's own columns."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a command may know about itself, as `self.context`.

    `command_id`: generated, or the caller's idempotency key if `keyed`. `correlation_id`: of the first command of
    the chain. `causation_id`: of the command that sent this one; empty when a client did. `recorded_at`: µs since
    1970 UTC. `chain`: the aggregates that wait for this command, outermost first, this one last.
    `maybe_executed`: an earlier attempt's outcome was unknown. `sends_as`: what the ids of commands that this one sends
    are made from, where that is not its own id.
    """

    command_id: str
    correlation_id: str
    causation_id: str = ""
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    recorded_at: int = 0
    chain: tuple[str, ...] = ()
    keyed: bool = False
    maybe_executed: bool = False
    sends_as: str = ""

    @property
    def now(self) -> datetime:
        """When the command started, aware, UTC: the time its events are recorded with."""
        return EPOCH + timedelta(microseconds=self.recorded_at)

    @property
    def encoded(self) -> bytes:
        """What the journal keeps of it beside the event's own columns. Empty for a plain call by a client."""
        if not (self.causation_id or self.metadata) and self.correlation_id == self.command_id:
            return b""
        kept: dict[str, Any] = {}
        if self.correlation_id != self.command_id:
            kept["correlation_id"] = self.correlation_id
        if self.causation_id:
            kept["causation_id"] = self.causation_id
        if self.metadata:
            kept["metadata"] = dict(self.metadata)
        return encode_plain(kept)

    @classmethod
    def decode(cls, command_id: str, recorded_at: int, encoded: bytes) -> "Context":
        """The context of a recorded event, from what the journal keeps. Raises `CodecError` if it is no context."""
        kept: dict[str, Any] = {"correlation_id": command_id, **decode_plain(encoded)}
        for name, value in kept.items():
            if not isinstance(value, KEPT.get(name, ())):
                raise CodecError("metadata of an event", f"{name!r} is not what a context has there")
        return cls(command_id=command_id, recorded_at=recorded_at, **kept)
