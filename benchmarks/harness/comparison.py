"""A comparison: the samples of two systems that took turns, and what follows from them.

The ratio is the median of the ratios of each round. A round's two samples were taken one right after the other, so
what slows the machine down for a while slows both, and cancels out; the ratio of two medians would not have that.
"""

import statistics
from typing import Any

import msgspec

from .question import Target
from .units import told

__all__ = ["Comparison"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`of`: which case of the question, empty if it has one. `figure`, `unit`: what `ours` and `theirs` are samples
    of, one per round. `theirs` empty: the figure is judged by itself. `target`: None, if it is only reported."""

    figure: str
    unit: str
    ours: tuple[float, ...]
    compared: str
    theirs: tuple[float, ...] = ()
    target: Target | None = None
    of: str = ""

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"{self.figure}: there are no samples")
        if self.theirs and len(self.theirs) != len(self.ours):
            raise ValueError(f"{self.figure}: {len(self.ours)} samples against {len(self.theirs)}: rounds are pairs")

    @property
    def median(self) -> float:
        """Ours."""
        return statistics.median(self.ours)

    @property
    def compared_median(self) -> float | None:
        """Theirs; None where there is nothing to compare with."""
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours by theirs, round by round."""
        return tuple(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)) if self.theirs else ()

    @property
    def ratio(self) -> float | None:
        """The median of the ratios of each round."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def judged(self) -> float:
        """What the target is about: the ratio, or the figure itself."""
        ratio = self.ratio
        return self.median if ratio is None or (self.target and self.target.unit != "x") else ratio

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.is_met_by(self.judged)

    def in_full(self) -> dict[str, Any]:
        """For JSON: the samples, and what follows from them for whoever reads it without this code."""
        return {
            **msgspec.to_builtins(self),
            "median": self.median,
            "spread": [min(self.ours), max(self.ours)],
            "compared_median": self.compared_median,
            "compared_spread": [min(self.theirs), max(self.theirs)] if self.theirs else None,
            "ratios": list(self.ratios),
            "ratio": self.ratio,
            "met": self.met,
        }

    def verdict(self) -> str:
        """`31.2 x, target ≥ 25 x: met`: the last thing that a question prints."""
        figure = f"{told(self.median, self.unit)}" if self.ratio is None else f"{self.ratio:,.3g} x {self.compared}"
        if self.target is None:
            return f"{figure}, no target"
        return f"{figure}, target {self.target}: {'met' if self.met else 'missed'}"
