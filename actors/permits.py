"""Permits: how many hydrations a host has under way at once.

A semaphore that hands each permit straight to whoever has waited longest, by calling it: nobody needs a task to wait
in. With a thousand waking aggregates, tasks and the looking for whose turn it is were a third of their cost.
"""

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Permits"]


class Permits:
    """`count` of them, first come, first served. Whoever was granted one gives it back, once. One event loop."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()

    def locked(self) -> bool:
        """All of them are out: who comes now has to wait."""
        return not self._free

    def ask(self, granted: Callable[[], None]) -> None:
        """Have `granted` called, which must not raise: now, or when a permit is given back."""
        if self._free:
            self._free -= 1  # nobody waits while one is free
            granted()
        else:
            self._waiting[granted] = None

    def withdraw(self, granted: Callable[[], None]) -> bool:
        """Stop waiting. False: it does not wait, it may have been granted one already."""
        waits = granted in self._waiting
        if waits:
            del self._waiting[granted]
        return waits

    def give_back(self) -> None:
        """The next one's turn."""
        if self._waiting:
            granted, _ = self._waiting.popitem(last=False)
            granted()
        else:
            self._free += 1
