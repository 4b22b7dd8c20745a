"""The collector: how a process of ours looks for garbage without stopping for it.

Python looks through everything in memory for cycles of garbage now and then, and all else waits: with a million
aggregates live, for seconds; with nothing but what Ray and Holdfast import, for as long as a page of events takes. So
what has outlived one such look is set aside, and the next look is at what has come since. What becomes garbage there
later goes by reference counts, as nearly all does; the cycles among it are found when as much has been set aside as
there was at the last look at everything, which then comes again.

For processes that are ours alone: what is set aside is the whole process's.
"""

import gc
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Collector"]

WHOLE_LOOK_MIN = 1_000_000
"""Objects set aside before everything is looked at again, however little there was the last time."""


class Garbage(Protocol):
    """What is used of the module `gc`."""

    callbacks: list[Any]

    def freeze(self) -> None:
        """Set everything aside."""
        ...

    def unfreeze(self) -> None:
        """Take everything back."""
        ...

    def get_objects(self, generation: int | None = None) -> list[Any]:
        """The objects of a generation."""
        ...


class Collector:
    """Sets aside what survives, from `start` on, for as long as the process lives."""

    def __init__(self, garbage: Garbage = gc) -> None:
        self._gc = garbage
        self._aside = 0  # objects set aside since the last look at everything
        self._whole_look_at = WHOLE_LOOK_MIN
        self._is_whole = True  # the next look: nothing is set aside

    def start(self) -> None:
        """From now on, after each full collection."""
        self._gc.callbacks.append(self._collected)

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        if phase != "stop" or info["generation"] != 2:
            return
        survivors = len(self._gc.get_objects(generation=2))
        if self._is_whole:
            self._is_whole, self._aside = False, 0
            self._whole_look_at = max(survivors, WHOLE_LOOK_MIN)
        else:
            self._aside += survivors
        if self._aside >= self._whole_look_at:
            self._gc.unfreeze()
            self._is_whole = True
        else:
            self._gc.freeze()
