"""The kinds of followers: from what users declare to what a cluster starts.

Each kind says in its own file how its declaration becomes plans (one for each process), and what these are called.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from holdfast.actors.reaction import Reaction

from . import reaction_follower
from .follower import FollowerPlan
from .projection_definition import is_projection, projection_of
from .projection_follower import projection_plans
from .publisher import Publisher, publisher_plan

__all__ = ["formers_of", "is_reaction", "names_of", "plans_of"]


def plans_of(what: Any, *args: Any, **options: Any) -> Sequence[FollowerPlan]:
    """The processes that a declaration asks for. Raises `TypeError` for what declares none."""
    if is_projection(what):
        return projection_plans(what, *args, **options)
    if is_reaction(what):
        return reaction_follower.plans_of(what, *args, **options)
    if not isinstance(what, Publisher | FollowerPlan):
        raise TypeError(f"a projection, a reaction or a publisher can be started, not {what!r}")
    if args or options:
        raise TypeError(f"{what!r} is started with nothing beside it, not with {args or options!r}")
    return (publisher_plan(what) if isinstance(what, Publisher) else what,)


def names_of(what: Any) -> Sequence[str]:
    """What its followers are called."""
    if is_projection(what):
        return projection_of(what).owners
    if is_reaction(what):
        return (reaction_follower.follower_name(what),)
    if isinstance(what, Publisher):
        return (publisher_plan(what).name,)
    if isinstance(what, FollowerPlan):
        return (what.name,)
    raise TypeError(f"a projection, a reaction or a publisher has followers, not {what!r}")


def is_reaction(what: object) -> TypeGuard[type[Reaction]]:
    """Whether it is a class of reactions, which live in hosts as aggregates do."""
    return isinstance(what, type) and issubclass(what, Reaction)


def formers_of(what: Any, names: Iterable[str]) -> Sequence[str]:
    """Those of these followers that an older version of it had, and that go on until the newer one has caught up."""
    if not is_projection(what):
        return ()
    return [name for name in names if projection_of(what).is_former(name)]
