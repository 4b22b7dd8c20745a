"""The catalogue of a journal in an SQLite file: the store's reader, beside the writer, with more questions.

It lives in one thread. A file that nobody had open is read as one that nobody may change; when somebody does, it is
opened again and the question asked again, so that an answer is always of one moment of the journal.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from .catalogue import INDEXED, Catalogue, Contents, Extents, Stored, Tally, contents_of
from .errors import HoldfastError, JournalError, JournalOpenError, JournalUnavailable
from .pages import NUMBER_MAX, bounded
from .records import Load, Loaded, Recorded, StreamId
from .rows import read_page, recorded_page
from .sqlite_beside import Beside
from .sqlite_file import recorded_membership
from .sqlite_reader import SqliteReader, category_names, select_all
from .verify_rows import text
from .verify_source import CheckpointRow

__all__ = ["SqliteCatalogue"]

_CACHE_KIB = 16 * 1024
_OPENINGS_MAX = 20
"""How often a question is asked again because the file was opened or closed by a writer meanwhile."""

_COLUMNS_MAX = 500
"""Of one statement."""

_T = TypeVar("_T")


class _Reader(SqliteReader):
    """The store's reader, and what only those ask who look."""

    def newest(self, before: int, limit: int, category: str | None) -> list[Recorded]:
        """See `Catalogue.read_newest`."""
        where, values = "e.position < ?", list[int | str]([bounded(before) or NUMBER_MAX])
        if category is not None:
            where = f"e.category = (SELECT key FROM categories WHERE name = ?) AND {where}"
            values = [category, *values]
        with self._transaction():
            select = select_all(where, "e.position DESC")
            rows = self._connection.execute(select, (*values, bounded(limit)))
            return recorded_page(read_page(rows, category_names(self._connection)))

    def extents(self) -> Extents:
        """See `Catalogue.extents`."""
        with self._transaction():
            head = self._number("SELECT max(position) FROM events")
            return Extents(head, self._number("SELECT max(key) FROM streams"))

    def categories(self) -> list[str]:
        """See `Catalogue.categories`."""
        with self._transaction():
            return [name for _, name in self._categories(None, None)]

    def streams_of(self, category: str, contains: str, after: str, upto: str | None, limit: int) -> list[Stored]:
        """See `Catalogue.streams_of`. One walk along the index of names."""
        select = (
            "SELECT s.id, (SELECT max(version) FROM events WHERE stream = s.key) FROM streams AS s"
            " WHERE s.category = (SELECT key FROM categories WHERE name = ?) AND s.id > ?"
            f"{'' if upto is None else ' AND s.id <= ?'}{' AND instr(s.id, ?)' if contains else ''}"
            " ORDER BY s.id LIMIT ?"
        )
        more = (*(() if upto is None else (upto,)), *((contains,) if contains else ()))
        with self._transaction():
            rows = self._connection.execute(select, (category, after, *more, bounded(limit))).fetchall()
            return [Stored(StreamId(category, id.decode()), version or 0) for id, version in rows]

    def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        """See `Catalogue.search`."""
        select = (
            "SELECT count(*), max(id), total(instr(id, ?) > 0) FROM (SELECT id FROM streams"
            " WHERE category = (SELECT key FROM categories WHERE name = ?) AND id > ? ORDER BY id LIMIT ?)"
        )
        with self._transaction():
            ((seen, last, matches),) = self._connection.execute(select, (contains, category, after, size)).fetchall()
        return int(matches), last.decode() if seen == size else None

    def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        """See `Catalogue.tally`. Streams are counted in one walk over their rows for all categories at once, events
        along their index."""
        events = "SELECT count(*) FROM events WHERE category = ? AND position > ? AND position <= ?"
        with self._transaction():
            found = dict[str, Tally]()
            categories = self._categories(None, None)
            for start in range(0, len(categories), _COLUMNS_MAX):
                some = categories[start : start + _COLUMNS_MAX]
                each = ", ".join(f"total(category = {int(key)})" for key, _ in some)
                streams = f"SELECT {each} FROM streams WHERE key > ? AND key <= ?"
                counts = self._connection.execute(streams, (after.streams, upto.streams)).fetchone()
                for (key, name), count in zip(some, counts, strict=True):
                    ((new,),) = self._connection.execute(events, (key, after.head, upto.head)).fetchall()
                    found[name] = Tally(int(count), new)
            return found

    def rows_of(self, table: str, after: int, upto: int) -> int:
        """How many rows of a table belong to streams with these keys."""
        with self._transaction():
            select = f"SELECT count(*) FROM {table} WHERE stream > ? AND stream <= ?"
            return int(self._connection.execute(select, (after, upto)).fetchone()[0])

    def checkpoints(self) -> list[CheckpointRow]:
        """See `Catalogue.checkpoints`."""
        with self._transaction():
            rows = self._connection.execute("SELECT name, owner, epoch, position FROM checkpoints ORDER BY name")
            return [CheckpointRow(text(name), text(owner), epoch, position) for name, owner, epoch, position in rows]

    def owners(self) -> int:
        """See `Catalogue.owners`."""
        with self._transaction():
            return self._number("SELECT count(DISTINCT owner) FROM owners")


class SqliteCatalogue(Catalogue):
    """One file. Beside it nothing is created."""

    kind = "sqlite"

    def __init__(self, beside: Beside) -> None:
        super().__init__()
        self.name, self._path = str(beside.path), beside.path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="holdfast-look")
        self._closed = False
        self._take(beside)

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open for reading. Raises `JournalOpenError`s."""
        return await asyncio.to_thread(lambda: cls(Beside(path)))

    def _take(self, beside: Beside) -> None:
        """Have this connection answer from now on."""
        self._beside = beside
        try:
            beside.connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
            (self.schema,) = beside.connection.execute("PRAGMA user_version").fetchone()
            self.membership = recorded_membership(beside.connection, beside.path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            beside.close()
            raise JournalOpenError(str(beside.path), f"it cannot be read: {error}") from error
        self._reader = _Reader(beside.connection, self._reopened)

    def _reopened(self) -> sqlite3.Connection:
        """For the reader, when its connection failed: what ails it may not ail the next one."""
        self._beside.close()
        self._beside = Beside(self._path)
        return self._beside.connection

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._thread.submit(lambda: self._beside.close())
            self._thread.shutdown(wait=False)

    async def _ask(self, question: Callable[[_Reader], _T]) -> _T:
        if self._closed:
            raise JournalUnavailable(f"{self.name} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def _answer(self, question: Callable[[_Reader], _T]) -> _T:
        """The answer of one moment, from the file that stands there."""
        for _ in range(_OPENINGS_MAX):
            if not self._beside.unchanged:
                self._beside.close()
                self._take(Beside(self._path))
            try:
                answer = question(self._reader)
            except HoldfastError:
                if self._beside.unchanged:
                    raise
                continue
            if self._beside.unchanged:
                return answer
        raise JournalUnavailable(f"{self.name} is opened and closed all the time")

    # Questions

    async def load(self, load: Load) -> Loaded:
        (answer,) = await self._ask(lambda reader: reader.load([load]))
        if isinstance(answer, JournalError):
            raise answer
        return answer

    async def read_stream(
        self, stream: StreamId, *, after: int = 0, limit: int = 1000, backward: bool = False
    ) -> list[Recorded]:
        return await self._ask(lambda reader: reader.read_stream(stream, after, limit, backward))

    async def read_all(self, *, after: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._ask(lambda reader: reader.read_all(after, limit, category))

    async def read_newest(self, *, before: int = 0, limit: int = 1000, category: str | None = None) -> list[Recorded]:
        return await self._ask(lambda reader: reader.newest(before, limit, category))

    async def extents(self) -> Extents:
        return await self._ask(_Reader.extents)

    async def categories(self) -> list[str]:
        return await self._ask(_Reader.categories)

    async def streams_of(
        self, category: str, *, contains: str = "", after: str = "", upto: str | None = None, limit: int = 1000
    ) -> list[Stored]:
        return await self._ask(lambda reader: reader.streams_of(category, contains, after, upto, limit))

    async def search(self, category: str, contains: str, after: str, size: int) -> tuple[int, str | None]:
        return await self._ask(lambda reader: reader.search(category, contains, after, size))

    async def tally(self, after: Extents, upto: Extents) -> dict[str, Tally]:
        return await self._ask(lambda reader: reader.tally(after, upto))

    async def contents(self) -> Contents:
        return await contents_of(self.schema, (await self.extents()).streams, self._rows_of)

    async def _rows_of(self, table: str, after: int, upto: int) -> int:
        return await self._ask(lambda reader: reader.rows_of(table, after, upto))

    async def checkpoints(self) -> list[CheckpointRow]:
        return await self._ask(_Reader.checkpoints) if self.schema >= INDEXED else []

    async def owners(self) -> int:
        return await self._ask(_Reader.owners)

    async def size(self) -> tuple[int, int]:
        return self._beside.size()
