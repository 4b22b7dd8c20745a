"""A question: what is asked, what it is compared with, what is to be reached; and where questions are found.

After this: `run.py` carries one out.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, cast

import msgspec

import benchmarks

__all__ = ["Question", "QuestionModule", "Target", "at_least", "at_most", "below", "names", "question_module"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure is to reach. `unit`: `x` for a ratio to what is compared, else the unit of the figure itself."""

    sign: Literal["≥", "≤", "<"]
    value: float
    unit: str = "x"

    def is_met_by(self, figure: float) -> bool:
        """Whether it is reached; exactly on the mark counts, except for `<`."""
        if self.sign == "≥":
            return figure >= self.value
        return figure <= self.value if self.sign == "≤" else figure < self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:,g} {self.unit}"


def at_least(value: float, unit: str = "x") -> Target:
    """More is better."""
    return Target(sign="≥", value=value, unit=unit)


def at_most(value: float, unit: str = "x") -> Target:
    """Less is better."""
    return Target(sign="≤", value=value, unit=unit)


def below(value: float, unit: str = "x") -> Target:
    """Less is better, and this much is too much."""
    return Target(sign="<", value=value, unit=unit)


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`name`: of its file, its results and its plot. `compared`: what a user would otherwise have. `target`: of its
    figures, where a comparison names none of its own; None: it is reported, and nothing is promised.

    `own_ray`: it starts or looks into a Ray of its own, so it cannot share one. `in_quick`: it is asked when all are
    asked in small numbers; not what takes long in those too, or tells nothing then."""

    name: str
    asks: str
    compared: str
    target: Target | None
    own_ray: bool = False
    in_quick: bool = True


class QuestionModule(Protocol):
    """What a question's file declares. Sizes are frozen dataclasses, one class per question."""

    QUESTION: Question
    FULL: Any
    QUICK: Any
    measure: Callable[..., Awaitable[None]]


def names() -> list[str]:
    """All questions: the modules of `benchmarks` itself. What they share is in its packages."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    return sorted(module.name for module in found if not module.ispkg and not module.name.startswith("_"))


def question_module(name: str) -> QuestionModule:
    """The file of one question."""
    return cast(QuestionModule, importlib.import_module(f"benchmarks.{name}"))
