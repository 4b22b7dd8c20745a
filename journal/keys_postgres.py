"""A key store in a schema of a PostgreSQL database: its own, apart from the journal's, and better in another database.

What is destroyed is gone from the table at once, and from the pages of the table with a VACUUM, which runs before that
is reported. It waits for nobody: while a transaction is open that is older, the old row versions stay, until the next
VACUUM after that. The server's own log, standbys and backups keep what they keep: see docs/privacy.md.
"""

import asyncio
import re
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

from .errors import JournalFailed, JournalOpenError, JournalTooNew, JournalUnavailable
from .keys import DataSubject, Destroyed, Key, KeyId, KeyStore, Wanted
from .keys_script import FORMAT, SCHEMA, Script, begin, destroy, find, prepare
from .postgres_session import PostgresAddress, PostgresOptions, Session, SessionLost, StatementFailed
from .wrap import Wrap

__all__ = ["PostgresKeys"]

T = TypeVar("T")

ZEROS = "decode(repeat('00', length(secret)), 'hex')"


class PostgresKeys(KeyStore):
    """A `KeyStore` in `options.schema` of the database at `address`. A session that was lost is opened again."""

    def __init__(self, address: PostgresAddress, options: PostgresOptions, name: str, wrap: Wrap | None = None) -> None:
        """`name`: as errors call it; no secret may be in it."""
        self._address, self._options, self._name = address, options, name
        self._wrap = wrap or Wrap(name)
        self._session: Session | None = None
        self._turn = asyncio.Lock()  # a session runs one transaction at a time

    def __repr__(self) -> str:
        return f"<key store {self._name}>"

    async def open(self) -> None:
        """See `KeyStore.open`."""
        async with self._turn:
            session = await self._connected()
            try:
                await session.run(f'CREATE SCHEMA IF NOT EXISTS "{self._options.schema}"')
                await session.run(";".join(statement.format(blob="BYTEA") for statement in SCHEMA))
                found = await _run(begin(self._wrap), session)
                if found > FORMAT:
                    raise JournalTooNew(self._name, found, FORMAT)
            except StatementFailed as error:
                raise JournalOpenError(self._name, str(error)) from error
            except SessionLost as error:
                raise JournalUnavailable(f"the key store {self._name}: {error}") from error

    async def close(self) -> None:
        """See `KeyStore.close`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def prepare(self, wanted: Sequence[Wanted]) -> list[tuple[Key, ...] | None]:
        """See `KeyStore.prepare`."""
        return await self._transaction(prepare(wanted, self._wrap), writes=True)

    async def find(self, ids: Sequence[KeyId]) -> list[bytes | None]:
        """See `KeyStore.find`."""
        return await self._transaction(find(ids, self._wrap), writes=False)

    async def destroy(self, subject: DataSubject) -> Destroyed:
        """See `KeyStore.destroy`."""
        destroyed = await self._transaction(destroy(subject, ZEROS), writes=True)
        async with self._turn:
            try:
                await (await self._connected()).run(f'VACUUM "{self._options.schema}".keys')
            except (StatementFailed, SessionLost) as error:
                raise JournalFailed(f"the key store {self._name}: its old rows stay until a VACUUM: {error}") from error
        return destroyed

    async def _transaction(self, script: Script[T], *, writes: bool) -> T:
        async with self._turn:
            session = await self._connected()
            try:
                await session.run("BEGIN")
                if writes:  # another process that holds itself for the journal's may do the same
                    await session.run("LOCK TABLE keys IN EXCLUSIVE MODE")
                result = await _run(script, session)
                await session.run("COMMIT")
            except StatementFailed as error:
                self._let_go(session)
                raise JournalFailed(f"the key store {self._name}: {error}") from error
            except SessionLost as error:
                self._let_go(session)
                raise JournalUnavailable(f"the key store {self._name}: {error}") from error
            except BaseException:  # the transaction must not stay open
                self._let_go(session)
                raise
        return result

    async def _connected(self) -> Session:
        if self._session is None or self._session.closed:
            try:
                self._session = await Session.connect(self._address, self._options, self._name, writes=True)
            except SessionLost as error:
                raise JournalUnavailable(f"the key store {self._name}: {error}") from error
        return self._session

    def _let_go(self, session: Session) -> None:
        session.terminate()
        self._session = None


async def _run(script: Script[T], session: Session) -> T:
    rows: list[tuple[Any, ...]] | None = None
    while True:
        try:
            statement, values = next(script) if rows is None else script.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result
        rows = [tuple(row) for row in await session.fetch(_numbered(statement), *values)]


def _numbered(statement: str) -> str:
    """PostgreSQL counts the places of values."""
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
