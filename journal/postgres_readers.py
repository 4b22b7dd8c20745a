"""The sessions through which a PostgreSQL journal is read: a few, each made when it is first needed.

They cannot write. One that is lost fails the question that it was asked, and the next question makes another.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from .errors import CorruptRecord, JournalLost, JournalUnavailable, Unstorable
from .postgres_door import PostgresDoor
from .postgres_session import Row, Session, SessionLost, StatementFailed
from .postgres_turns import failure
from .records import StreamId

__all__ = ["Readers", "encoded"]

_ROTTEN = ("XX001", "XX002")
"""A damaged page, or a damaged index."""


class Readers:
    """At most `door.options.readers` questions at once; the others wait for their turn."""

    def __init__(self, door: PostgresDoor) -> None:
        self._door = door
        self._idle: list[Session] = []
        self._free = asyncio.Semaphore(door.options.readers)
        self._closed = False

    async def open(self) -> None:
        """Make the first session, so that what would keep it from being made is known now."""
        async with self._session():
            pass

    async def close(self) -> None:
        """End all sessions; one that is in use, when it has its answer."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Session, None]:
        async with self._free:
            session = self._idle.pop() if self._idle else None
            if session is None or session.closed:
                session = await self._connected()
            try:
                yield session
            finally:
                if self._closed:
                    await session.close()
                elif not session.closed:
                    self._idle.append(session)

    async def _connected(self) -> Session:
        return await self._door.look()

    async def ask(self, statement: str, *values: Any, about: StreamId | None = None) -> list[Row]:
        """The rows of one statement. `about`: the one stream that it concerns."""
        try:
            async with self._session() as session:
                return await session.fetch(statement, *values)
        except SessionLost as error:
            raise JournalUnavailable(f"{self._door.path}: {error}") from error
        except StatementFailed as error:
            if error.state in _ROTTEN:
                what = "the journal" if about is None else str(about)
                raise CorruptRecord(what, 0, 0, f"its tables cannot be read: {error}") from error
            told = failure(self._door.path, error)
            raise told if isinstance(told, JournalLost) else JournalUnavailable(str(error)) from error


def encoded(*texts: str) -> list[bytes]:
    """Text as the tables hold it. Raises `Unstorable` for what none of them can."""
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise Unstorable("what was asked for", str(error)) from error
