"""Reactions: events in, commands out, the effect once. Process managers and sagas.

    class Approvals(Reaction):
        asked: bool = False                                   # state of its own, made by events of its own

        @on(LoanRequested, by="customer")                     # an event of the journal, whoever emitted it
        async def requested(self, event: LoanRequested) -> None:
            score = await self.aggregate(Bureau, event.customer).score()
            self.emit(Asked(score))

        @apply(Asked)                                         # the only place where its state changes
        def _asked(self, event: Asked) -> None:
            self.asked = True

    await runtime.start(Approvals)

A reaction is an aggregate: an instance for each thing that it looks after, single in the cluster, with commands,
queries, snapshots and reminders of its own. What makes it one is that events of the journal reach it by themselves:
a follower delivers each, at least once, to the instance that it is for, in the order of positions.

**Once.** Every delivery carries a key that follows from reaction and position, and whatever its handler sends to other
aggregates carries keys that follow from that one, from whom it is sent to, and from how many were sent there before.
So a handler that is run again, after a crash at any moment and in whichever process, repeats what it has sent without
any second effect, and a handler that has ended is not run again. Should it send something else the second time (it took
the time of day along, or its code has changed), that is refused with `KeyReused` rather than done beside the first.

**Decide in one event, act at the next.** What a handler sends has its effect before what it emits is durable. If it is
run again, the state may have moved on meanwhile, by a reminder or another command; so may that of an aggregate that had
said no. Where it matters that what is done second fits what was done first, emit the decision, and let the handler of
that very event act on it: what it sends then follows from a fact.

Events that a reaction causes may be ones that it reacts to. That this comes to an end is for its author to see to.
"""

from typing import Unpack

from .aggregate import Aggregate
from .errors import DefinitionError
from .handlers import apply, on
from .options import ClassKeywords
from .place import defining_frame, place_of
from .policy import Policy

__all__ = ["Reaction", "apply", "on"]


class Reaction(Aggregate, abstract=True):
    """The base of every reaction. Class keywords are those of an aggregate, and `on_error`: what becomes of an event
    whose handler fails, a `Retry`, `DeadLetter` or `Stop`; inherited; a `Retry()` if nobody says."""

    __holdfast_reacts__ = True

    def __init_subclass__(cls, on_error: Policy | None = None, **options: Unpack[ClassKeywords]) -> None:
        if on_error is not None:
            if not isinstance(on_error, Policy):
                problem = f"on_error is a Retry, a DeadLetter or a Stop, not {on_error!r}"
                raise DefinitionError(cls.__qualname__, problem, place_of(cls, defining_frame(cls)))
            cls.__holdfast_on_error__ = on_error
        super().__init_subclass__(**options)
