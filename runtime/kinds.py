"""The kinds of followers: from what users declare to what a cluster starts.

Each kind says in its own file how its declaration becomes plans (one for each process), and what these are called.
"""

from collections.abc import Sequence
from typing import Any

from .follower import FollowerPlan
from .publisher import Publisher, publisher_plan

__all__ = ["names_of", "plans_of"]


def plans_of(what: Any, *args: Any, **options: Any) -> Sequence[FollowerPlan]:
    """The processes that a declaration asks for. Raises `TypeError` for what declares none."""
    if isinstance(what, FollowerPlan) and not args and not options:
        return (what,)
    if isinstance(what, Publisher) and not args and not options:
        return (publisher_plan(what),)
    raise TypeError(f"a projection, a reaction or a publisher can be started, not {what!r}")


def names_of(what: Any) -> Sequence[str]:
    """What its followers are called."""
    if isinstance(what, FollowerPlan):
        return (what.name,)
    if isinstance(what, Publisher):
        return (publisher_plan(what).name,)
    raise TypeError(f"a projection, a reaction or a publisher has followers, not {what!r}")
