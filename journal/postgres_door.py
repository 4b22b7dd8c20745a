"""Taking a journal in PostgreSQL for writing: whose it is, creating and migrating it, and being the only one.

There is one writer. It holds an advisory lock, named after the schema, with the session that it writes through, so
that it ends with that session, and with it a standing number: the epoch in the row of `writer`. Every transaction
checks that row. A process that slept while its session was ended, and its place taken, can therefore write nothing,
nor can one whose lock was lost on the way (a pooler that lends sessions out does that).

A writer that has lost its session takes the journal anew through the same door. What its last transaction came to
is settled by then: the server gives a session's lock away after it has ended the session's transaction. And all
that it remembered is forgotten, for somebody else may have been the writer in between.

1. The lock. From here on nobody else changes anything.
2. The schema: looked at, created when it is missing or empty, migrated, each step one transaction. The first of
   several partitions creates all of them, in one transaction; so one that is missing beside it has been lost.
3. The epoch, raised by one: whoever wrote before does not any more.
"""

import asyncio
import hashlib
import os
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from .errors import (
    ForeignPartition,
    JournalError,
    JournalLocked,
    JournalOpenError,
    JournalReadOnly,
    JournalTooNew,
    JournalUnavailable,
    NotAJournal,
    PartitionConflict,
)
from .partition import PARTITIONS_MAX, WHOLE, Membership, Partition, new_journal_id
from .postgres_session import PostgresAddress, PostgresOptions, Session, SessionLost, StatementFailed

__all__ = ["PostgresDoor", "Taken", "ours"]

APPLICATION = "holdfast"

_MIGRATIONS = ("postgres.sql", "postgres_2.sql")
"""The script at index n takes a journal from schema n to n + 1. Append to it; never edit one that was released."""

_PARTITIONED = 2
"""The schema from which on a journal records which partition of which journal it is."""

_LOCK_RETRY_S = 0.05

_ANY = Partition(0, PARTITIONS_MAX)
"""The first one of as many as there can be."""

_TABLES = (
    "SELECT c.relname FROM pg_namespace AS n LEFT JOIN pg_class AS c ON c.relnamespace = n.oid WHERE n.nspname = $1"
)
_SCHEMAS = "SELECT nspname::text FROM pg_namespace WHERE nspname = ANY($1::text[])"
_HOLDER = (
    "SELECT l.pid, w.holder, w.epoch FROM pg_locks AS l LEFT JOIN writer AS w ON w.backend = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (l.classid::bigint << 32 | l.objid::bigint) = $1"
)
_TAKE = "UPDATE writer SET epoch = epoch + 1, backend = pg_backend_pid(), holder = $1 RETURNING epoch"
_MIGRATED = "UPDATE journal SET schema = {schema};"
_CREATED = "UPDATE journal SET partition = {0.number}, partitions = {0.count}, id = '\\x{1}';"
_RECORDED = 'SELECT partition, partitions, id FROM "{schema}".journal'

_END = "SELECT pg_terminate_backend($1, $2)"
_END_MS = 5000

_GONE = ("42P01", "3F000")
_FORBIDDEN = ("42501", "25006")
_FOREIGN = ("42703", "42P01", "42883")


@dataclass(frozen=True, slots=True)
class Taken:
    """The right to write: the session that holds the lock, and the epoch that it holds it at."""

    session: Session
    epoch: int


class PostgresDoor:
    """The way in to one journal. Remembers the epoch at which it was last taken through here."""

    def __init__(
        self, address: PostgresAddress, options: PostgresOptions, path: str, partition: Partition = WHOLE
    ) -> None:
        """`options`: of the journal; those of a partition have another schema. `path`: how it is called in errors."""
        self._journal, self.partition = options, partition
        self.address, self.options, self.path = address, _options_of(options, partition), path
        digest = hashlib.sha256(f"{APPLICATION}/{self.options.schema}".encode()).digest()
        self._lock = int.from_bytes(digest[:8], "big", signed=True)
        self._epoch = 0

    async def reader(self) -> Session:
        """A session that cannot write. Raises `JournalOpenError`s, `SessionLost`."""
        return await Session.connect(self.address, self.options, self.path, writes=False)

    async def look(self) -> Session:
        """The same, for who asks once. Raises `JournalOpenError`s; `JournalUnavailable` where no server answers."""
        try:
            return await self.reader()
        except SessionLost as error:
            raise JournalUnavailable(f"{self.path}: {error}") from error

    async def take(self) -> Taken:
        """Become the writer. Raises `JournalOpenError`s, and `SessionLost` where the server is not to be had."""
        session = await Session.connect(self.address, self.options, self.path, writes=True)
        try:
            await self._take_lock(session)
            await self._migrate(session)
            ((self._epoch,),) = await session.fetch(_TAKE, ours())
            return Taken(session, self._epoch)
        except StatementFailed as error:
            await session.close()
            kind = JournalReadOnly if error.state in _FORBIDDEN else JournalOpenError
            raise kind(self.path, str(error)) from error
        except BaseException:
            session.terminate()
            raise

    async def overtaken(self, session: Session) -> JournalError:
        """The error that says who writes now."""
        try:
            ((holder,),) = await session.fetch("SELECT holder FROM writer")
        except StatementFailed as error:
            return JournalOpenError(self.path, str(error))
        return JournalLocked(self.path, str(holder))

    # The lock

    async def _take_lock(self, session: Session) -> None:
        deadline = monotonic() + self.options.lock_wait_s
        while True:
            ((taken,),) = await session.fetch("SELECT pg_try_advisory_lock($1)", self._lock)
            if taken:
                return
            holder = await self._holder(session)
            if holder is None:
                continue
            if monotonic() >= deadline:
                raise JournalLocked(self.path, holder)
            await asyncio.sleep(_LOCK_RETRY_S)

    async def _holder(self, session: Session) -> str | None:
        """Who holds the lock. None: nobody any more, it was a session of ours, lost without the server knowing."""
        unknown = "a process that has not said who it is yet"
        try:
            found = await session.fetch(_HOLDER, self._lock)
        except StatementFailed as error:
            if error.state not in _GONE:
                raise
            return unknown
        if not found or found[0][1] is None:
            return unknown
        ((backend, holder, epoch),) = found
        if epoch == self._epoch and (await session.fetch(_END, backend, _END_MS))[0][0]:
            return None
        return str(holder)

    # The schema

    async def _migrate(self, session: Session) -> None:
        """Bring it to the newest schema: a new journal in one transaction, an older one in one for each step."""
        first = await self._check_made(session)
        found = await self.identity(session)
        if not found:
            await self._create(session)
            return
        recorded = await self.recorded(session, found)
        if recorded.partition != self.partition:
            raise PartitionConflict(self.path, str(recorded.partition), str(self.partition))
        if first and recorded.journal_id != first.journal_id:
            raise ForeignPartition(self.path, recorded.journal_id.hex(), first.journal_id.hex())
        for schema in range(found + 1, len(_MIGRATIONS) + 1):
            await session.run(_step(schema))

    async def _check_made(self, session: Session) -> Membership | None:
        """A partition other than the first is there if that one is, or has been lost. Returns what that one records."""
        if not self.partition.number:
            return None
        first = PostgresDoor(self.address, self._journal, self.path, Partition(0, self.partition.count))
        schema = await first.identity(session)  # looked at first: once it is there, all are
        if not schema:
            raise JournalUnavailable(f"{self.path}: its partitions have not been made yet")
        recorded = await first.recorded(session, schema)
        if recorded.partition != first.partition:
            raise PartitionConflict(self.path, str(recorded.partition), str(self.partition))
        if not any(await self._tables(session, self.options)):
            there, gone = self._journal.schema, self.options.schema
            raise JournalOpenError(self.path, f"it has been lost: the schema {there} is there, {gone} is not")
        return recorded

    async def _create(self, session: Session) -> None:
        """All partitions in one transaction: there are none, or all of them."""
        await self._check_unused(session)
        script, journal_id = "", new_journal_id().hex()
        for partition in (*self.partition.others, self.partition):
            schema = _options_of(self._journal, partition).schema
            tables = await self._tables(session, _options_of(self._journal, partition))
            if any(tables):
                raise JournalOpenError(self.path, f"it has been lost, or never was: there are tables in {schema}")
            script += "" if tables else f'CREATE SCHEMA "{schema}";\n'
            script += f"SELECT set_config('search_path', '\"{schema}\"', true);\n"
            script += "\n".join(_step(number) for number in range(1, len(_MIGRATIONS) + 1))
            script += _CREATED.format(partition, journal_id)
        await session.run(script)

    async def _check_unused(self, session: Session) -> None:
        """Whatever count is asked for now: beside another partition, which was made with it, the first one was lost."""
        others = [PostgresDoor(self.address, self._journal, self.path, other) for other in _ANY.others]
        there = {name for (name,) in await session.fetch(_SCHEMAS, [other.options.schema for other in others])}
        for other in others:
            if other.options.schema in there and (recorded := await other.recorded_if_readable(session)):
                problem = f"there is none in {self.options.schema}, and {recorded} is in {other.options.schema}"
                raise JournalOpenError(self.path, f"it has been lost: {problem}")

    async def recorded_if_readable(self, session: Session) -> Partition | None:
        """What `recorded` says; None if it is no partition that we know: not ours, or for who opens it to tell."""
        try:
            recorded = (await self.recorded(session, await self.identity(session))).partition
        except JournalOpenError:
            return None
        except StatementFailed as error:
            if error.state not in _FORBIDDEN:
                raise
            return None
        return recorded if recorded.number == self.partition.number else None

    async def _tables(self, session: Session, options: PostgresOptions) -> list[str | None]:
        """The tables in a schema; no name if it is empty, nothing if there is no such schema."""
        return [row[0] for row in await session.fetch(_TABLES, options.schema)]

    async def recorded(self, session: Session, schema: int) -> Membership:
        """Which partition of which journal it is, by its own word, if it has this schema."""
        if schema < _PARTITIONED:
            return Membership()
        ((number, count, journal_id),) = await session.fetch(_RECORDED.format(schema=self.options.schema))
        return Membership(Partition(number, count), journal_id)

    async def identity(self, session: Session) -> int:
        """Which schema it has; 0 if nothing stands there. Raises `NotAJournal`, `JournalTooNew`."""
        tables = await self._tables(session, self.options)
        if not any(tables):
            return 0
        what = f"its schema {self.options.schema} holds tables of another application"
        if "journal" not in tables:
            raise NotAJournal(self.path, what)
        try:
            # By its full name: in the search_path a schema that may not be used counts as not there.
            rows = await session.fetch(f'SELECT application, schema FROM "{self.options.schema}".journal')
        except StatementFailed as error:
            if error.state not in _FOREIGN:
                raise
            raise NotAJournal(self.path, what) from error
        if len(rows) != 1 or rows[0][0] != APPLICATION:
            raise NotAJournal(self.path, what)
        found = int(rows[0][1])
        if found > len(_MIGRATIONS):
            raise JournalTooNew(self.path, found, len(_MIGRATIONS))
        return found


def _step(schema: int) -> str:
    """What takes tables to this schema from the one before."""
    statements = (Path(__file__).parent / _MIGRATIONS[schema - 1]).read_text(encoding="utf-8")
    return f"{statements}\n{_MIGRATED.format(schema=schema)}\n"


def _options_of(journal: PostgresOptions, partition: Partition) -> PostgresOptions:
    """Those of one of its partitions: the tables of each are in a schema of their own."""
    return replace(journal, schema=f"{journal.schema}_{partition.suffix}") if partition.suffix else journal


def ours() -> str:
    """This process, as another one's error will name it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"pid {os.getpid()} on host {socket.gethostname()} since {now}"
