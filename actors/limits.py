"""The bounds of a host. Each states its unit and what happens there; none is infinite."""

from dataclasses import dataclass

__all__ = ["HostLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """How much one host holds. Raise a bound knowingly: each is memory, or somebody's waiting time.

    - `live_max`: aggregates in memory; beyond it the least recently used idle ones are passivated, and when none is
      idle, busy ones after their turn. Only what a running command calls enters all the same: it may be what holds
      the place.
    - `idle_s`: seconds without a call after which an aggregate is passivated (a class may set its own).
    - `mailbox_max`: calls waiting for one aggregate; beyond it callers get `Overloaded`.
    - `inbox_max`: calls in the host, waiting or held for the disk; beyond it callers get `Overloaded`.
    - `ahead_bytes_max`: bytes of events that one aggregate may run ahead of the disk before it waits.
    - `hydrations_max`: aggregates loading at once; the others wait for a permit.
    - `page`: events read from the journal at once while hydrating, and by followers; a projection takes four times as
      many.
    - `command_window`: versions of a stream, newest first, among which a resent command is recognised.
    - `event_bytes_max`, `reply_bytes_max`, `snapshot_bytes_max`: beyond them `RecordTooLarge`, or no snapshot.
    - `metadata_bytes_max`: bytes of what the caller adds to a command, kept with each of its events; beyond it
      `RecordTooLarge`.
    - `command_bytes_max`: bytes of all events of one command, which are written whole or not at all, with some for
      each, however small; beyond it `RecordTooLarge`.
    - `linger_s`: seconds that a finished reply waits for slower ones of the same batch.
    - `session_idle_s`: seconds after which a silent client's unclaimed replies are dropped.
    """

    live_max: int = 100_000
    idle_s: float = 300.0
    mailbox_max: int = 10_000
    inbox_max: int = 100_000
    ahead_bytes_max: int = 8 << 20
    hydrations_max: int = 256
    page: int = 1000
    command_window: int = 10_000
    event_bytes_max: int = 16 << 20
    reply_bytes_max: int = 16 << 20
    snapshot_bytes_max: int = 256 << 20
    metadata_bytes_max: int = 64 << 10
    command_bytes_max: int = 64 << 20
    linger_s: float = 0.002
    session_idle_s: float = 120.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
