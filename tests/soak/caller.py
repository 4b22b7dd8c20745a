"""A caller: makes one call at a time, as planned, and notes what it was told.

What it is told is one of three: done, refused (nothing was written), unknown. An error that belongs to none of them
is a problem of the run. After an unknown call, which may still be under way, it goes on under a new name.
"""

import asyncio
import random
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from holdfast.actors import Rejected
from holdfast.journal import JournalFailed, JournalUnavailable
from holdfast.runtime import DeadlineExceeded, Overloaded

from .notes import Notes
from .workload import Plan, patiently

__all__ = ["Caller"]

KEYED_TRIES_MAX = 50
REFUSALS = (Rejected, Overloaded, JournalFailed)
ROUNDS = (Rejected, DeadlineExceeded, Overloaded, JournalFailed, JournalUnavailable)


class Caller:
    """`reference`: from a plan to the reference that it is made with."""

    def __init__(self, name: str, notes: Notes, reference: Callable[[Plan], Any]) -> None:
        self.name, self._notes, self._reference = name, notes, reference
        self._lives = 0

    @property
    def client(self) -> str:
        """A name under which one call is made at a time."""
        return f"{self.name}:{self._lives}"

    async def carry_out(self, plans: Iterable[Plan], rng: random.Random, *, pause_s: float) -> None:
        """Every plan in turn, with a breath after each."""
        for plan in plans:
            await self.settle(plan)
            await asyncio.sleep(rng.expovariate(1 / pause_s))

    async def settle(self, plan: Plan) -> None:
        """A plan with all its calls: keyed ones are sent until they are answered, and sometimes once more."""
        outcome = await self._call(plan)
        if not plan.keyed:
            return
        tries = 1
        patient = patiently(plan)
        while outcome == "unknown" and tries < KEYED_TRIES_MAX:
            tries += 1
            outcome = await self._call(patient)
        if outcome == "done" and plan.twice:
            await self._call(patient)

    async def _call(self, plan: Plan) -> str:
        arguments = () if plan.is_query else (plan.argument, plan.token)
        call = self._notes.called(self.client, plan)
        why = ""
        try:
            sending = getattr(self._reference(plan), plan.method)(*arguments)
            value = await (sending if plan.cancel_s is None else asyncio.wait_for(sending, plan.cancel_s))
        except asyncio.CancelledError:
            raise  # the call stays in the notes as one without an answer
        except Exception as error:
            outcome, value = _outcome(error), None
            why = type(error).__name__
            if outcome == "unknown":
                self._lives += 1
                why = f"{why}: {error}"
            if not isinstance(error, ROUNDS) and not (plan.cancel_s is not None and isinstance(error, TimeoutError)):
                self._notes.problem(f"{plan}: {''.join(traceback.format_exception(error))}")
        else:
            outcome = "done"
        self._notes.returned(call, outcome, value, why)
        return outcome


def _outcome(error: Exception) -> str:
    """What an error says of the call. `RuntimeClosed` and whatever is not foreseen leave it in doubt."""
    if isinstance(error, REFUSALS):
        return "refused"
    if isinstance(error, DeadlineExceeded) and error.outcome == DeadlineExceeded.NOT_SENT:
        return "refused"
    return "unknown"
