"""Policies: what becomes of an event whose handler fails.

    class Transfers(Reaction, on_error=Retry(times=5, then="stop")): ...

Failures that say that the same may succeed later (`retryable`: a host that is away, a full queue, a deadline)
are no business of a policy: they are tried again for as long as it takes.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["DeadLetter", "Policy", "Retry", "Stop"]

Then: TypeAlias = Literal["dead letter", "stop"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Set the event aside at once, where it can be looked at and replayed, and go on with those after it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop at once: nothing after the event is looked at until somebody has mended the problem and started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again, `times` times, after `first_s` seconds, then after twice as long, and so on up to `most_s`; `then` set
    the event aside, or stop."""

    times: int = 8
    first_s: float = 0.1
    most_s: float = 10.0
    then: Then = "dead letter"

    def __post_init__(self) -> None:
        if type(self.times) is not int or self.times < 1:
            raise ValueError(f"times is a whole number from 1, not {self.times!r}")
        if not 0 < self.first_s <= self.most_s:
            raise ValueError(f"first_s is above 0 and not above most_s, got {self.first_s!r} and {self.most_s!r}")
        if self.then not in get_args(Then):
            raise ValueError(f"then is one of {get_args(Then)}, not {self.then!r}")

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, from 1."""
        return min(self.first_s * 2.0 ** min(failures - 1, 60), self.most_s)


Policy: TypeAlias = Retry | DeadLetter | Stop
