"""A PostgreSQL journal as an export reads it: one session that cannot write, beside the writer.

Each page is a statement, and a transaction, of its own. A backup asks for more: one snapshot of the database, the same
in all partitions, in which all pages are read (`REPEATABLE READ`). That makes it one moment of the whole journal; while
it lasts, the server keeps what VACUUM would clear away.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Self

from .archive import ArchivedKey, ArchivedSnapshot
from .archive_source import PAGE, ArchiveSource, key_of_row, snapshot_of_row
from .errors import CorruptRecord, JournalError, JournalOpenError, JournalUnavailable
from .pages import PAGE_BYTES_MAX, page_of
from .partition import Membership
from .postgres_door import PostgresDoor
from .postgres_reader import READ_ALL, READ_CATEGORY, read_any
from .postgres_session import Row, Session, SessionLost, StatementFailed
from .records import Recorded, StreamId

__all__ = ["PostgresArchiveSource"]

_CHECKPOINTS_SINCE = 2
"""The schema from which on there are checkpoints."""

_DAMAGED = ("XX", "42P01", "42703")
"""What a statement fails with when something stored is wrong: a page or an index, a table or a column that is gone."""

# In the order of names, and for each stream by its own index. The streams of a category are walked by theirs.
_OF_STREAMS = (
    "SELECT {columns}, s.id, (SELECT position FROM events WHERE stream = r.stream AND version = r.version)"
    " FROM streams AS s JOIN {table} AS r ON r.stream = s.key"
    " WHERE s.category = (SELECT key FROM categories WHERE name = $1) AND s.id >= $2"
    " AND (s.id > $2 OR ({order}) > ({marks})) AND ($4::bytea IS NULL OR s.id <= $4) ORDER BY s.id, {order} LIMIT $3"
)
# Of streams without any there may be millions: where such a walk ends, so that no statement takes long.
_WINDOW = 20_000
_UNTIL = (
    "SELECT id FROM streams WHERE category = (SELECT key FROM categories WHERE name = $1) AND id > $2"
    f" ORDER BY id OFFSET {_WINDOW - 1} LIMIT 1"
)
_KEYS = _OF_STREAMS.format(columns="{columns}", table="keyed_replies", order="r.key", marks="$5")
_SNAPSHOTS = _OF_STREAMS.format(columns="{columns}", table="snapshots", order="r.version, r.schema", marks="$5, $6")
_KEY_COLUMNS = "r.stream, r.key, r.version, r.fingerprint, r.reply, r.checksum"
_SNAPSHOT_COLUMNS = "r.stream, r.version, r.schema, r.payload, r.checksum"
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresArchiveSource(ArchiveSource):
    """One partition, read through one session."""

    def __init__(self, door: PostgresDoor, session: Session) -> None:
        self.name, self.membership = door.path, Membership()
        self._session, self._schema = session, 0

    @classmethod
    async def open(cls, door: PostgresDoor) -> Self:
        """Open for reading. Raises `JournalOpenError`s; `JournalUnavailable` where no server answers."""
        session = await door.look()
        source = cls(door, session)
        try:
            await source._identify(door)
        except BaseException:
            await session.close()
            raise
        return source

    async def _identify(self, door: PostgresDoor) -> None:
        try:
            self._schema = await door.identity(self._session)
            if not self._schema:
                raise JournalOpenError(self.name, f"there is no journal in its schema {door.options.schema}")
            self.membership = await door.recorded(self._session, self._schema)
        except SessionLost as error:
            raise JournalUnavailable(f"{self.name}: {error}") from error
        except StatementFailed as error:
            raise JournalOpenError(self.name, str(error)) from error

    async def hold(self, snapshot: str = "") -> str:
        """From here on all is read in one snapshot: a new one, whose name is returned, or the one with this name."""
        await self._run(_BEGIN)
        if snapshot:
            quoted = snapshot.replace("'", "''")
            await self._run(f"SET TRANSACTION SNAPSHOT '{quoted}'")
            return snapshot
        ((name,),) = await self._ask("SELECT pg_export_snapshot()")
        return str(name)

    async def close(self) -> None:
        await self._session.close()

    async def head(self) -> int:
        ((position,),) = await self._ask("SELECT max(position) FROM events")
        return position or 0

    async def events(self, after: int, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[Recorded]]:
        only = [next(iter(categories)).encode()] if len(categories) == 1 else []
        names: dict[int, tuple[StreamId, int]] = {}
        while after < upto and (page := await self._events(after, only, names)):
            self._check_contiguous(page, after, whole=not only)
            yield [
                event
                for event in page
                if event.position <= upto and (not categories or event.stream.category in categories)
            ]
            after = page[-1].position
            if len(names) > 100_000:
                names.clear()
        if after < upto and not only:
            raise CorruptRecord("the journal", 0, after + 1, "this position is missing")

    async def _events(self, after: int, only: list[bytes], names: dict[int, tuple[StreamId, int]]) -> list[Recorded]:
        rows = await self._ask(READ_CATEGORY if only else READ_ALL, after, PAGE, *only)
        return page_of(read_any(row, names) for row in rows)

    def _check_contiguous(self, page: Sequence[Recorded], after: int, *, whole: bool) -> None:
        for position, event in enumerate(page, after + 1):
            if whole and event.position != position:
                raise CorruptRecord("the journal", 0, position, "this position is missing")

    async def keyed_replies(
        self, upto: int, categories: Collection[str], after: tuple[str, str, str]
    ) -> AsyncIterator[Sequence[ArchivedKey]]:
        for category in await self._categories(categories):
            if category < after[0]:
                continue
            id, key = (after[1].encode(), after[2].encode()) if category == after[0] else (b"", b"")
            async for rows in self._walk(_KEYS, _KEY_COLUMNS, "r.reply", category, id, (key,)):
                page = [key_of_row(category, row, upto) for row in rows]
                yield [each for each in page if each is not None]

    async def snapshots(self, upto: int, categories: Collection[str]) -> AsyncIterator[Sequence[ArchivedSnapshot]]:
        for category in await self._categories(categories):
            async for rows in self._walk(_SNAPSHOTS, _SNAPSHOT_COLUMNS, "r.payload", category, b"", (0, b"")):
                page = [snapshot_of_row(category, row, upto) for row in rows]
                yield [each for each in page if each is not None]

    async def _walk(
        self, select: str, columns: str, heavy: str, category: str, id: bytes, at: tuple[Any, ...]
    ) -> AsyncIterator[list[Row]]:
        """Pages of what hangs on streams, after a place: of a category, stream by stream, so many at a time."""
        of, order = category.encode(), slice(1, 1 + len(at))
        while True:
            found = await self._ask(_UNTIL, of, id)
            until = found[0][0] if found else None
            while rows := await self._page(select, columns, heavy, (of, id), (until, *at)):
                yield rows
                id, at = rows[-1][-2], tuple(rows[-1][order])
            if until is None:
                return
            id, at = until, tuple(None for _ in at)  # nothing comes after nothing: the stream itself is done

    async def checkpoints(self) -> list[tuple[str, int]]:
        if self._schema < _CHECKPOINTS_SINCE:
            return []
        rows = await self._ask("SELECT name, position FROM checkpoints ORDER BY name")
        return [(name.decode(), position) for name, position in rows]

    async def _categories(self, wanted: Collection[str]) -> list[str]:
        names = [name.decode() for (name,) in await self._ask("SELECT name FROM categories")]
        return sorted(name for name in names if not wanted or name in wanted)

    async def _page(
        self, select: str, columns: str, heavy: str, of: tuple[bytes, bytes], at: tuple[Any, ...]
    ) -> list[Row]:
        """As many rows as are not too many bytes; at least one, if there is any. Asked in two steps, since one of them
        may be large."""
        left, count = PAGE_BYTES_MAX, 0
        for row in await self._ask(select.format(columns=f"octet_length({heavy})"), *of, PAGE, *at):
            left -= row[0]
            count += 1
            if left < 0:
                break
        return await self._ask(select.format(columns=columns), *of, count, *at) if count else []

    async def _run(self, statement: str) -> None:
        try:
            await self._session.run(statement)
        except (SessionLost, StatementFailed) as error:
            raise self._told(error) from error

    async def _ask(self, statement: str, *values: Any) -> list[Row]:
        try:
            return await self._session.fetch(statement, *values)
        except (SessionLost, StatementFailed) as error:
            raise self._told(error) from error

    def _told(self, error: SessionLost | StatementFailed) -> JournalError:
        if isinstance(error, StatementFailed) and error.state.startswith(_DAMAGED):
            return CorruptRecord("the journal", 0, 0, f"its tables cannot be read: {error}")
        return JournalUnavailable(f"{self.name}: {error}")
