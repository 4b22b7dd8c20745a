"""The harness: what every question shares, so that a question's file holds only what it measures.

A question is a module of `benchmarks` with three names (see `question.py`): `QUESTION` says what is asked, compared
and to be reached; `FULL` and `QUICK` are its sizes; `measure(run, sizes)` does it. The systems take turns
(`rounds.py`), the samples become ratios (`comparison.py`), the run becomes a line of JSON (`result.py`), a table
(`tables.py`), a plot (`plot.py`) and a part of benchmarks/README.md (`report.py`).
"""

from .comparison import Comparison
from .load import closed_loop, percentile, rate
from .question import Question, Target, at_least, at_most, below
from .rounds import alternate, order
from .run import Run

__all__ = [
    "Comparison",
    "Question",
    "Run",
    "Target",
    "alternate",
    "at_least",
    "at_most",
    "below",
    "closed_loop",
    "order",
    "percentile",
    "rate",
]
