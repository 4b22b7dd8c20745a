"""Progress: what those who read a whole journal tell whoever watches, page by page.

Verifying, checking, exporting, importing and backing up all say it in the same way, so one bar can draw any of them.
"""

from collections.abc import Callable

__all__ = ["Progress", "unseen"]

Progress = Callable[[str, int, int], None]
"""Told as it goes on: the step, how far it is, and how far it will go (0: nobody knows)."""


def unseen(step: str, done: int, total: int) -> None:
    """Nobody watches."""
