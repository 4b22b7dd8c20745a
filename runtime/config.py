"""The settings of a runtime: one frozen object, checked when it is made. Nothing is read from the environment."""

from dataclasses import dataclass, field

from holdfast.actors.limits import HostLimits

from .logs import LEVELS
from .sight import Sight

__all__ = ["Config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Times in seconds, bounds in counts. The defaults suit a small machine and a busy cluster alike.

    - `timeout_s`: how long a call may take, from the call to its answer, unless the reference says otherwise.
    - `batch_max`: calls that travel to a host as one Ray call. Larger: fewer Ray calls, coarser pipelining.
    - `batch_min`: calls that are worth another Ray call while one is under way.
    - `exchanges_max`: Ray calls under way between this process and one host.
    - `waiting_max`: calls waiting in this process for one host; beyond it callers get `Overloaded`.
    - `suspect_s`: silence after which a host is asked whether it is alive.
    - `paused_s`: silence after being asked, after which a host counts as dead and a successor takes over.
    - `journal_patience_s`: how long a host or a read asks an unreachable journal again.
    - `start_s`: how long a host may take to start, before another attempt is made.
    - `starting_max`: dedicated hosts that this process has started and that have not answered yet. More would only slow
      each other down, and the successors of hosts that died.
    - `spare_hosts`: processes that this runtime keeps ready to become dedicated hosts, from the first registration or
      call of a dedicated type on. Each is about 50 MB, and makes the first call of one aggregate a matter of
      milliseconds; the next is ready a second later. 0: every dedicated host starts from nothing.
    - `reminders_rate_max`: reminders of one type that are fired in any one second. After a long absence, when a great
      many are due at once, a smaller number leaves more of the cluster to other callers.
    - `reminders_in_flight_max`: reminders of one type that are being fired at once.
    - `link_idle_s`: silence after which this process forgets its line to a host.
    - `metrics`: whether hosts and journals time their batches, and all processes hand on what they count
      (docs/metrics.md).
    - `metrics_every_s`: how often they hand it on.
    - `slow_command_s`: how long a command may run before the watchdog reports it, with its stack, once (docs/sight.md).
      A class may set its own. None: no watchdog.
    - `tracing`: True has this process make OpenTelemetry spans by the provider that it has set up; `"module:function"`
      has every process of this runtime call that first, to set one up (docs/sight.md).
    - `log_level`, `log_json`: how the processes that this runtime starts log, by `holdfast.runtime.logs.configure`; by
      default Python's own way. The calling process is left alone.
    - `compress_from`: bytes from which on the payload of an event, a reply or a snapshot is compressed by zstd, where
      that saves an eighth; it takes the extra `compression`. 0: nothing is. What is compressed is read all the same.
    - `host`: the bounds of each host that this runtime starts.
    """

    timeout_s: float = 30.0
    batch_max: int = 500
    batch_min: int = 100
    exchanges_max: int = 4
    waiting_max: int = 100_000
    suspect_s: float = 5.0
    paused_s: float = 5.0
    journal_patience_s: float = 20.0
    start_s: float = 60.0
    starting_max: int = 4
    spare_hosts: int = 0
    reminders_rate_max: int = 2000
    reminders_in_flight_max: int = 200
    link_idle_s: float = 60.0
    metrics: bool = True
    metrics_every_s: float = 5.0
    slow_command_s: float | None = 5.0
    tracing: bool | str = False
    log_level: str | None = None
    log_json: bool = False
    compress_from: int = 0
    host: HostLimits = field(default_factory=HostLimits)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool):
                continue
            if name in ("spare_hosts", "compress_from"):
                if value < 0:
                    raise ValueError(f"{name} must be 0 or more, got {value!r}")
            elif isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value!r}")
        if self.log_level is not None and self.log_level not in LEVELS:
            raise ValueError(f"log_level is one of {', '.join(LEVELS)}, or None, not {self.log_level!r}")
        if isinstance(self.tracing, str) and not all(self.tracing.partition(":")):
            raise ValueError(f'tracing is True, False, or "module:function", not {self.tracing!r}')

    @property
    def sight(self) -> Sight:
        """What each process of the runtime is told of being looked at."""
        return Sight(
            metrics=self.metrics,
            metrics_every_s=self.metrics_every_s,
            tracing=self.tracing,
            log_level=self.log_level,
            log_json=self.log_json,
        )
