"""The kinds of followers: from what users declare to what a cluster starts.

Each kind says in its own file how its declaration becomes plans (one for each process), and what these are called.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.actors.reaction import Reaction

from . import reaction_follower
from .follower import FollowerPlan
from .projection_definition import is_projection, projection_of
from .projection_follower import projection_plans

__all__ = ["formers_of", "names_of", "plans_of"]


def plans_of(what: Any, *args: Any, **options: Any) -> Sequence[FollowerPlan]:
    """The processes that a declaration asks for. Raises `TypeError` for what declares none."""
    if isinstance(what, FollowerPlan) and not args and not options:
        return (what,)
    if is_projection(what):
        return projection_plans(what, *args, **options)
    if isinstance(what, type) and issubclass(what, Reaction):
        return reaction_follower.plans_of(what, *args, **options)
    raise TypeError(f"a projection, a reaction or a publisher can be started, not {what!r}")


def names_of(what: Any) -> Sequence[str]:
    """What its followers are called."""
    if isinstance(what, FollowerPlan):
        return (what.name,)
    if is_projection(what):
        return projection_of(what).owners
    if isinstance(what, type) and issubclass(what, Reaction):
        return (reaction_follower.follower_name(what),)
    raise TypeError(f"a projection, a reaction or a publisher has followers, not {what!r}")


def formers_of(what: Any, names: Iterable[str]) -> Sequence[str]:
    """Those of these followers that an older version of it had, and that go on until the newer one has caught up."""
    if not is_projection(what):
        return ()
    return [name for name in names if projection_of(what).is_former(name)]
