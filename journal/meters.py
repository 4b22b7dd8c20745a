"""What a journal server counts and times of its commits, for whoever looks at it from outside.

Made where metrics are wanted. It is told once per transaction, and looks at each result once.
"""

from collections.abc import Sequence

from .errors import Fenced, VersionConflict
from .histogram import COUNTS, SECONDS, Histogram

__all__ = ["JournalMeters"]


class JournalMeters:
    """Each only ever grows. `appends`: that were written; `conflicts`, `fenced`: that were refused, and why."""

    __slots__ = ("appends", "commit_appends", "commit_seconds", "commits", "conflicts", "fenced")

    def __init__(self) -> None:
        self.appends = self.commits = self.conflicts = self.fenced = 0
        self.commit_seconds = Histogram(SECONDS)
        self.commit_appends = Histogram(COUNTS)

    def committed(self, results: Sequence[object], seconds: float) -> None:
        """A transaction has ended."""
        refused = self.looked_at(results)
        self.commits += 1
        self.appends += len(results) - refused
        self.commit_appends.observe(len(results))
        self.commit_seconds.observe(seconds)

    def looked_at(self, results: Sequence[object]) -> int:
        """Count what was refused, of appends or of anything else."""
        refused = [result for result in results if isinstance(result, Exception)]
        for result in refused:
            self.fenced += isinstance(result, Fenced)
            self.conflicts += isinstance(result, VersionConflict)
        return len(refused)
