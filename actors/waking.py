"""Waking: how a cell comes by its state without a task of its own.

A permit, a request to the journal, an answer, the state. Mostly that one answer is all that it takes, and it is applied
the moment it comes, in the turn of the loop that brought it. A stream that takes more has a task for the rest.

Before this: the cell has a place in memory. After this: it is told its state, or why it has none.
"""

import asyncio
from collections.abc import Callable

from holdfast.journal.errors import JournalError
from holdfast.journal.journal import Journal
from holdfast.journal.records import Load, Loaded

from .definition import Definition
from .hydrate import Hydrated, at_once, rest
from .permits import Permits

__all__ = ["Waking"]


class Waking:
    """One hydration of one cell; `load` is what to ask the journal for. `done` is called once, with the state or the
    error, and never from within `start`; or not at all, after `cancel`."""

    __slots__ = ("_cancelled", "_definition", "_done", "_journal", "_load", "_permits", "_task")

    def __init__(
        self,
        definition: Definition,
        journal: Journal,
        permits: Permits,
        load: Load,
        done: Callable[[Hydrated | BaseException], None],
    ) -> None:
        self._definition, self._journal, self._permits = definition, journal, permits
        self._load, self._done = load, done
        self._cancelled = False
        self._task: asyncio.Task[Hydrated | BaseException] | None = None

    def start(self) -> None:
        """Ask for a permit, then the journal."""
        self._permits.ask(self._permitted)

    def cancel(self) -> None:
        """Nobody wants it any more. A permit is given back when the journal has answered: until then it is used."""
        self._cancelled = True
        self._permits.withdraw(self._permitted)
        if self._task is not None:
            self._task.cancel()

    def _permitted(self) -> None:
        try:
            self._journal.request(self._load, self._answered)
        except JournalError as error:  # its queue is full
            asyncio.get_running_loop().call_soon(self._answered, error)

    def _answered(self, answer: Loaded | Exception) -> None:
        if self._cancelled or isinstance(answer, Exception):
            self._end(answer)
            return
        try:
            hydrated = at_once(self._definition, self._load, answer)
        except BaseException as error:  # SystemExit too, from a handler
            self._end(error)
            return
        if hydrated is not None:
            self._end(hydrated)
            return
        self._task = asyncio.get_running_loop().create_task(self._rest(answer))
        self._task.add_done_callback(self._ended)

    async def _rest(self, first: Loaded) -> Hydrated | BaseException:
        try:
            return await rest(self._definition, self._journal, self._load, first)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # raised, it would end the loop
            return error

    def _ended(self, task: "asyncio.Task[Hydrated | BaseException]") -> None:
        self._end(asyncio.CancelledError() if task.cancelled() else task.result())

    def _end(self, outcome: Loaded | Hydrated | BaseException) -> None:
        """The permit goes first: whoever gets it asks the journal before this cell keeps the loop busy."""
        self._permits.give_back()
        if not self._cancelled:
            assert not isinstance(outcome, Loaded), "an answer is applied, unless nobody wants it any more"
            self._done(outcome)
