"""The journal in a schema of a PostgreSQL database: for clusters, whose journal may then live on any node.

One session writes and a few read, so that a load never waits behind a commit. What is acknowledged is on the disk of
the server, and of the standbys that the server awaits: see `postgres_session.py` for what is insisted on, and
`postgres_door.py` for how there is one writer at a time, and what happens when it is lost.

The server must be reached directly, or through a pooler that gives each client a session of its own.
"""

from collections.abc import Sequence

from .errors import JournalError, JournalUnavailable
from .partition import WHOLE, Partition
from .postgres_door import PostgresDoor
from .postgres_reader import PostgresReader
from .postgres_session import PostgresAddress, PostgresOptions
from .postgres_writer import PostgresWriter
from .records import (
    Append,
    Appended,
    Checkpoint,
    Load,
    Loaded,
    Recorded,
    Registration,
    Reminder,
    Snapshot,
    StoredReply,
    StoreStatistics,
    StreamId,
)
from .store import Store
from .subject import Log, Subject

__all__ = ["PostgresStore"]

log = Log(__name__)


class PostgresStore(Store):
    """A `Store` in the database at `address`. Beside its own `JournalOpenError`s, `open` raises `JournalUnavailable`
    where no server answers: it may later."""

    def __init__(
        self,
        address: PostgresAddress,
        options: PostgresOptions | None = None,
        *,
        name: str = "",
        partition: Partition = WHOLE,
    ) -> None:
        """`options`: of the journal; `partition`: which one of it. `name`: how the journal is called in errors; no
        secret may be in it."""
        options = options or PostgresOptions()
        name = name or f"postgres://{address.host}:{address.port}/{address.database}?schema={options.schema}"
        self._name = f"{name} ({partition})" if partition.number else name
        self._door = PostgresDoor(address, options, self._name, partition)
        self._opened: tuple[PostgresWriter, PostgresReader] | None = None

    def __repr__(self) -> str:
        return f"<PostgresStore {self._name}>"

    @property
    def door(self) -> PostgresDoor:
        """The way in, for those who read beside the writer."""
        return self._door

    async def open(self) -> None:
        if self._opened is not None:
            return
        writer, reader = PostgresWriter(self._door), PostgresReader(self._door)
        try:
            await writer.open()
            await reader.open()
        except BaseException:
            await reader.close()
            await writer.close()
            raise
        self._opened = writer, reader
        log.info(Subject("journal", self._name), "open for writing")

    async def close(self) -> None:
        if self._opened is not None:
            (writer, reader), self._opened = self._opened, None
            try:
                await reader.close()
            finally:
                await writer.close()

    # Writing

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        return await self._writer().claim(owner, incarnation, epoch)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        return await self._writer().register(category, placement, code)

    async def append(self, batch: Sequence[Append]) -> list[Appended | JournalError]:
        return await self._writer().append(batch)

    async def save_snapshots(self, batch: Sequence[Snapshot], *, keep: int = 2) -> None:
        await self._writer().save_snapshots(batch, keep)

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        await self._writer().save_checkpoint(checkpoint)

    # Reading

    async def confirm(self, owner: str, epoch: int) -> None:
        await (await self._reader()).confirm(owner, epoch)

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        return await (await self._reader()).load(batch)

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        return await (await self._reader()).read_stream(stream, after, limit, backward)

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await (await self._reader()).read_all(after, limit, category)

    async def find_replies(self, stream: StreamId, ids: Sequence[str], *, window: int) -> dict[str, StoredReply]:
        return await (await self._reader()).find_replies(stream, ids, window)

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        return await (await self._reader()).find_keyed(stream, keys)

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        return await (await self._reader()).list_snapshots(stream)

    async def find_checkpoint(self, name: str) -> int:
        return await (await self._reader()).find_checkpoint(name)

    async def due_reminders(
        self, *, category: str, until: int, limit: int = 1000, after: Reminder | None = None
    ) -> list[Reminder]:
        return await (await self._reader()).due_reminders(category, until, limit, after)

    async def list_streams(
        self, *, category: str | None = None, after: StreamId | None = None, limit: int = 1000
    ) -> list[tuple[StreamId, int]]:
        return await (await self._reader()).list_streams(category, after, limit)

    async def head(self) -> int:
        return await (await self._reader()).head()

    async def statistics(self) -> StoreStatistics:
        writer, reader = self._writer(), await self._reader()
        streams, events, snapshots, size = await reader.counts()
        return StoreStatistics(
            streams=streams,
            events=events,
            snapshots=snapshots,
            bytes_on_disk=size,
            appends=writer.appends,
            commits=writer.commits,
            rows_read=reader.rows_read,
            fenced=writer.fenced + reader.fenced,
            conflicts=writer.conflicts,
        )

    def _writer(self) -> PostgresWriter:
        if self._opened is None:
            raise JournalUnavailable(f"{self._name} is not open")
        return self._opened[0]

    async def _reader(self) -> PostgresReader:
        if self._opened is None:
            raise JournalUnavailable(f"{self._name} is not open")
        writer, reader = self._opened
        await writer.settled()
        return reader
