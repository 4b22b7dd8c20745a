"""The catalogue of a journal in PostgreSQL: the store's reader, without a writer, with more questions.

Its sessions cannot write. Each question is one statement, or several that are each bounded, so no snapshot of the
database is held for long.
"""

from typing import Self

from .catalogue import INDEXED, Catalogue, Contents, Extents, Stored, Tally, contents_of
from .errors import JournalError, JournalOpenError, JournalUnavailable
from .pages import NUMBER_MAX, bounded, page_of
from .postgres_door import PostgresDoor
from .postgres_reader import PostgresReader, newest_page, read_any
from .postgres_readers import encoded
from .postgres_session import SessionLost, StatementFailed
from .records import Load, Loaded, Recorded, StreamId
from .verify_rows import text
from .verify_source import CheckpointRow

__all__ = ["PostgresCatalogue"]

_CATEGORY = "(SELECT key FROM categories WHERE name = ${})"
_NEWEST = newest_page("position < $1")
_NEWEST_OF = newest_page(f"category = {_CATEGORY.format(3)} AND position < $1")
_STREAMS_OF = (
    "SELECT s.id, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams AS s"
    f" WHERE s.category = {_CATEGORY.format(1)} AND s.id > $2 AND ($4::bytea IS NULL OR s.id <= $4)"
    " AND position($5::bytea IN s.id) > 0 ORDER BY s.id LIMIT $3"
)
_SEARCH = (
    "SELECT count(*), (array_agg(id))[count(*)::int], count(*) FILTER (WHERE position($2::bytea IN id) > 0)"
    f" FROM (SELECT id FROM streams WHERE category = {_CATEGORY.format(1)} AND id > $3 ORDER BY id LIMIT $4) AS i"
)
_TALLY = (
    "SELECT c.name, coalesce((SELECT n FROM new WHERE new.category = c.key), 0),"
    " (SELECT count(*) FROM events WHERE category = c.key AND position > $3 AND position <= $4) FROM categories AS c"
)
_NEW = "WITH new AS (SELECT category, count(*) AS n FROM streams WHERE key > $1 AND key <= $2 GROUP BY category) "
_SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace"
_ROWS_OF = "SELECT count(*) FROM {} WHERE stream > $1 AND stream <= $2"


class _Reader(PostgresReader):
    """The store's reader, and what only those ask who look."""

    async def newest(self, before: int, limit: int, category: str | None) -> list[Recorded]:
        """See `Catalogue.read_newest`."""
        before = bounded(before) or NUMBER_MAX
        statement = _NEWEST if category is None else _NEWEST_OF
        only = () if category is None else encoded(category)
        names: dict[int, tuple[StreamId, int]] = {}
        rows = await self._readers.ask(statement, before, bounded(limit), *only)
        return page_of(read_any(row, names) for row in rows)

    async def extents(self) -> Extents:
        """See `Catalogue.extents`."""
        ((head, streams),) = await self._readers.ask(
            "SELECT (SELECT max(position) FROM events), (SELECT max(key) FROM streams)"
        )
        return Extents(head or 0, streams or 0)

    async def categories(self) -> list[str]:
        """See `Catalogue.categories`."""
        return [row[0].decode() for row in await self._readers.ask("SELECT name FROM categories ORDER BY name")]

    async def streams_of(self, category: str, contains: str, after: str, upto: str | None, limit: int) -> list[Stored]:
        """See `Catalogue.streams_of`."""
        name, past, part = encoded(category, after, contains)
        last = None if upto is None else encoded(upto)[0]
        rows = await self._readers.ask(_STREAMS_OF, name, past, bounded(limit), last, part)
        return [Stored(StreamId(category, id.decode()), version or 0) for id, version in rows]

    async def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        """See `Catalogue.search`."""
        name, part, past = encoded(category, contains, after)
        ((seen, last, matches),) = await self._readers.ask(_SEARCH, name, part, past, size)
        return matches, last.decode() if seen == size else None

    async def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        """See `Catalogue.tally`."""
        values = after.streams, upto.streams, after.head, upto.head
        return {name.decode(): Tally(*counts) for name, *counts in await self._readers.ask(_NEW + _TALLY, *values)}

    async def rows_of(self, table: str, after: int, upto: int) -> int:
        """How many rows of a table belong to streams with these keys."""
        return int((await self._readers.ask(_ROWS_OF.format(table), after, upto))[0][0])

    async def checkpoints(self) -> list[CheckpointRow]:
        """See `Catalogue.checkpoints`."""
        rows = await self._readers.ask("SELECT name, owner, epoch, position FROM checkpoints ORDER BY name")
        return [CheckpointRow(text(name), text(owner), epoch, position) for name, owner, epoch, position in rows]

    async def size(self) -> int:
        """Bytes of its tables and indexes."""
        return int((await self._readers.ask(_SIZE, self._schema))[0][0] or 0)

    async def owners(self) -> int:
        """See `Catalogue.owners`."""
        return int((await self._readers.ask("SELECT count(DISTINCT owner) FROM owners"))[0][0])


class PostgresCatalogue(Catalogue):
    """The tables in one schema."""

    kind = "postgres"

    def __init__(self, door: PostgresDoor) -> None:
        super().__init__()
        self._door, self._reader = door, _Reader(door)
        self.name = door.path

    @classmethod
    async def open(cls, door: PostgresDoor) -> Self:
        """Open for reading. Raises `JournalOpenError`s; `JournalUnavailable` where no server answers."""
        catalogue = cls(door)
        try:
            session = await door.reader()
            try:
                catalogue.schema = await door.identity(session)
                if not catalogue.schema:
                    raise JournalOpenError(door.path, f"there is no journal in its schema {door.options.schema}")
                catalogue.membership = await door.recorded(session, catalogue.schema)
            finally:
                await session.close()
        except SessionLost as error:
            raise JournalUnavailable(f"{door.path}: {error}") from error
        except StatementFailed as error:
            raise JournalOpenError(door.path, str(error)) from error
        return catalogue

    async def close(self) -> None:
        await self._reader.close()

    async def load(self, load: Load) -> Loaded:
        (answer,) = await self._reader.load([load])
        if isinstance(answer, JournalError):
            raise answer
        return answer

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        return await self._reader.read_stream(stream, after, limit, backward)

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._reader.read_all(after, limit, category)

    async def read_newest(self, *, before: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._reader.newest(before, limit, category)

    async def extents(self) -> Extents:
        return await self._reader.extents()

    async def categories(self) -> list[str]:
        return await self._reader.categories()

    async def streams_of(
        self, category: str, *, contains: str = "", after: str = "", upto: str | None = None, limit: int = 1000
    ) -> list[Stored]:
        return await self._reader.streams_of(category, contains, after, upto, limit)

    async def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        return await self._reader.search(category, contains, after, size)

    async def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        return await self._reader.tally(after, upto)

    async def contents(self) -> Contents:
        return await contents_of(self.schema, (await self.extents()).streams, self._reader.rows_of)

    async def checkpoints(self) -> list[CheckpointRow]:
        return await self._reader.checkpoints() if self.schema >= INDEXED else []

    async def owners(self) -> int:
        return await self._reader.owners()

    async def size(self) -> tuple[int, int]:
        return await self._reader.size(), 0
