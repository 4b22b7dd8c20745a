"""The writer's turns: one piece of work at a time, each under the right to write, and what is certain afterwards.

A piece of work runs to its end whether or not its caller waits for it. If the server refuses a statement of it,
nothing of that statement was written: `JournalFailed`. If the session is lost, what was under way is unknown:
`JournalUnavailable`; the next turn takes the journal anew. If another writer has taken it, nothing was written, and
`JournalLocked` says who it is. After each of these all that was remembered is forgotten.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .errors import JournalError, JournalFailed, JournalFull, JournalLost, JournalUnavailable
from .postgres_door import PostgresDoor, Taken
from .postgres_heads import Heads
from .postgres_session import Row, Session, SessionLost, StatementFailed

__all__ = ["ME", "Turns", "failure"]

T = TypeVar("T")

ME = "WITH me AS MATERIALIZED (SELECT epoch FROM writer WHERE epoch = $1 FOR SHARE)"
"""How a statement for `Turns.write` begins: `me` has one row if this writer is at the journal's epoch, else none."""

_GONE = ("42P01", "3F000")
_FULL = "53100"


class _Overtaken(Exception):
    """Another writer has taken the journal: nothing was written."""


class Turns:
    """Takes the journal through `door` when it is first needed, and after each loss. Forgets `heads` when it must."""

    def __init__(self, door: PostgresDoor, heads: Heads) -> None:
        self._door, self._heads = door, heads
        self._taken: Taken | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def close(self) -> None:
        """Finish what is under way, and let the next writer in."""
        async with self._turn:
            self._closed = True
            if self._taken is not None:
                await self._taken.session.close()
                self._taken = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it after what is under way, as a task of its own: who asks may be cancelled without it."""

        async def turn() -> T:
            async with self._turn:
                return await self._told(work)

        task = asyncio.get_running_loop().create_task(turn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _told(self, work: Callable[[], Awaitable[T]]) -> T:
        done = False
        try:
            result = await work()
            done = True
            return result
        except StatementFailed as error:
            raise failure(self._door.path, error) from error
        except SessionLost as error:
            raise JournalUnavailable(f"{self._door.path}: {error}") from error
        except _Overtaken:
            raise await self._overtaken() from None
        finally:
            if done:
                self._heads.trim()
            else:
                self._heads.forget()

    async def _overtaken(self) -> JournalError:
        taken, self._taken = self._taken, None
        assert taken is not None, "it was taken when it was overtaken"
        try:
            return await self._door.overtaken(taken.session)
        except SessionLost as error:
            return JournalUnavailable(f"{self._door.path}: {error}")
        finally:
            await taken.session.close()

    async def settled(self) -> None:
        """Nothing that a lost session of ours left behind can still be told before it is as durable as it should be:
        what a server committed while it awaited a standby in vain is shown to everybody, and is on no standby. The
        journal is taken anew before that is read, and this commit awaits the standby too."""
        if self._taken is None or self._taken.session.closed:
            await self.run(self.ready)

    # In a turn

    async def ready(self) -> Session:
        """The session that has the right to write. What was remembered under another one is forgotten."""
        return (await self._ready()).session

    async def _ready(self) -> Taken:
        if self._closed:
            raise JournalUnavailable(f"{self._door.path} is not open")
        if self._taken is None or self._taken.session.closed:
            self._heads.forget()
            self._taken = None
            self._taken = await self._door.take()
        return self._taken

    async def write(self, statement: str, *values: Any) -> Row:
        """Run a statement that begins with `ME`; its one row begins with the number of rows that `me` has."""
        taken = await self._ready()
        rows = await taken.session.fetch(statement, taken.epoch, *values)
        if not rows or not rows[0][0]:
            raise _Overtaken
        return rows[0]


def failure(path: str, error: StatementFailed) -> JournalError:
    """What the server said, as the error that tells what to do about it. Nothing was written."""
    if error.state in _GONE:
        return JournalLost(path, f"its tables are gone ({error})")
    if error.state == _FULL:
        return JournalFull(str(error))
    return JournalFailed(str(error))
