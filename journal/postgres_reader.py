"""The reading side of a PostgreSQL journal: hydration, paging, looking up replies.

Each question is one statement, so what it returns is one moment of the journal and takes one round trip. A page is
cut to its bytes by the server: what lies beyond is not even read there. Every event is checked on its way out.
"""

from collections.abc import Sequence

from .errors import CorruptRecord, JournalError
from .pages import NUMBER_MAX, PAGE_BYTES_MAX, bounded, page_of
from .postgres_door import PostgresDoor
from .postgres_load import Loads
from .postgres_readers import Readers, encoded
from .postgres_session import Row
from .records import Load, Loaded, Recorded, Reminder, Snapshot, StoredReply, StreamId
from .rows import EVENT_COLUMNS, KEYED_COLUMNS, SNAPSHOT_COLUMNS, name_checksum, read_event, read_keyed, read_snapshot

__all__ = ["READ_ALL", "READ_CATEGORY", "PostgresReader", "newest_page", "read_any"]

_WEIGHT = "octet_length(e.payload) + octet_length(e.metadata) + coalesce(octet_length(e.reply), 0)"
_STREAM = (
    "(SELECT s.key FROM streams AS s WHERE s.category = (SELECT key FROM categories WHERE name = $1) AND s.id = $2)"
)

# The rows of a page in order, up to the first one that takes it over its bytes, which is at most one too many.
_PAGE = (
    f"SELECT {{columns}} FROM (SELECT *, sum({_WEIGHT}) OVER w - ({_WEIGHT}) AS before FROM (SELECT * FROM {{table}}"
    f" WHERE {{where}} ORDER BY {{order}} LIMIT {{limit}}) AS e"
    f" WINDOW w AS (ORDER BY {{order}} ROWS UNBOUNDED PRECEDING)) AS e {{join}} WHERE before <= {PAGE_BYTES_MAX}"
)


def _page_of_stream(where: str, order: str) -> str:
    condition = f"stream = {_STREAM} AND version {where}"
    return _PAGE.format(columns=EVENT_COLUMNS, table="events", where=condition, order=order, limit="$4", join="")


def _page_of_all(where: str, order: str = "position") -> str:
    columns = ", ".join(f"e.{column}" for column in EVENT_COLUMNS.split(", "))
    # LEFT JOIN: an event whose stream row is gone must raise, not vanish from the page.
    join = "LEFT JOIN streams AS s ON s.key = e.stream LEFT JOIN categories AS c ON c.key = s.category"
    return _PAGE.format(
        columns=f"{columns}, c.name, s.id", table="events", where=where, order=order, limit="$2", join=join
    )


def newest_page(where: str) -> str:
    """The statement for a page of the whole journal, backward: rows for `read_any`. $1: the position below which it
    begins, $2: how many."""
    return _page_of_all(where, "position DESC")


_READ_FORWARD = _page_of_stream("> $3", "version")
_READ_BACKWARD = _page_of_stream("< $3", "version DESC")
READ_ALL = _page_of_all("position > $1")
"""A page of all events: after a position, so many. Of one category, `READ_CATEGORY`: its name is the third value."""
READ_CATEGORY = _page_of_all("category = (SELECT key FROM categories WHERE name = $3) AND position > $1")

_FIND_REPLIES = (
    f"SELECT {EVENT_COLUMNS} FROM events WHERE stream = {_STREAM}"
    f" AND version > (SELECT max(version) FROM events WHERE stream = {_STREAM}) - $3::bigint"
    " AND reply IS NOT NULL AND command_id = ANY ($4::bytea[]) ORDER BY version"
)
_FIND_KEYED = f"SELECT {KEYED_COLUMNS} FROM keyed_replies WHERE stream = {_STREAM} AND key = ANY ($3::bytea[])"
_LIST_SNAPSHOTS = f"SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE stream = {_STREAM} ORDER BY version DESC, key DESC"
# One walk over one index, from where $4 to $7 say: who has a million of them pending pays for those that it gets.
_DUE = (
    "SELECT r.name, r.due, (SELECT id FROM streams WHERE key = r.stream), r.stream FROM reminders AS r"
    " WHERE r.category = (SELECT key FROM categories WHERE name = $1) AND r.due <= $2"
    " AND (r.due, r.stream, r.name) > ($4, coalesce((SELECT key FROM streams WHERE id = $5"
    " AND category = (SELECT key FROM categories WHERE name = $6)), 0), $7)"
    " ORDER BY r.due, r.stream, r.name LIMIT $3"
)
# Of each category a page: there are as many as aggregate types.
_LIST_STREAMS = (
    "SELECT c.name, s.id, (SELECT max(version) FROM events WHERE stream = s.key) FROM categories AS c, LATERAL"
    " (SELECT key, id FROM streams WHERE category = c.key"
    " AND id >= CASE WHEN c.name = $2 THEN $3 ELSE ''::bytea END ORDER BY id LIMIT $4) AS s"
    " WHERE ($1::bytea IS NULL OR c.name = $1) AND c.name >= $2 ORDER BY c.name, s.id LIMIT $4"
)
_COUNTS = (
    "SELECT (SELECT max(key) FROM streams), (SELECT max(position) FROM events), (SELECT count(*) FROM snapshots),"
    " (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::regnamespace)"
)


class PostgresReader:
    """Everything that only reads."""

    def __init__(self, door: PostgresDoor) -> None:
        self._schema = door.options.schema
        self._readers = Readers(door)
        self._loads = Loads(self._readers)
        self._rows_read = 0

    async def open(self) -> None:
        """Make the first session, so that what would keep it from being made is known now."""
        await self._readers.open()

    async def close(self) -> None:
        """End all sessions; one that is in use, when it has its answer."""
        await self._readers.close()

    @property
    def rows_read(self) -> int:
        """Events and snapshots that were read."""
        return self._rows_read + self._loads.rows_read

    @property
    def fenced(self) -> int:
        """Owners that were turned away."""
        return self._loads.fenced

    # Hydration

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        """See `Store.load`."""
        return await self._loads.load(batch)

    async def confirm(self, owner: str, epoch: int) -> None:
        """See `Store.confirm`."""
        ((current,),) = await self._readers.ask("SELECT max(epoch) FROM owners WHERE owner = $1", *encoded(owner))
        if fenced := self._loads.fenced_unless(owner, epoch, current or 0):
            raise fenced

    # Paging

    async def read_stream(self, stream: StreamId, after: int, limit: int, backward: bool) -> list[Recorded]:
        """See `Store.read_stream`."""
        after = bounded(after) or (NUMBER_MAX if backward else 0)
        statement = _READ_BACKWARD if backward else _READ_FORWARD
        rows = await self._readers.ask(statement, *encoded(*stream), after, bounded(limit), about=stream)
        name = name_checksum(stream)
        page = page_of(read_event(stream, name, tuple(row)) for row in rows)
        self._rows_read += len(page)
        return page

    async def read_all(self, after: int, limit: int, category: str | None) -> list[Recorded]:
        """See `Store.read_all`."""
        if category is None:
            rows = await self._readers.ask(READ_ALL, bounded(after), bounded(limit))
        else:
            rows = await self._readers.ask(READ_CATEGORY, bounded(after), bounded(limit), *encoded(category))
        names: dict[int, tuple[StreamId, int]] = {}
        page = page_of(read_any(row, names) for row in rows)
        self._rows_read += len(page)
        return page

    # Replies

    async def find_replies(self, stream: StreamId, ids: Sequence[str], window: int) -> dict[str, StoredReply]:
        """See `Store.find_replies`."""
        wanted = encoded(*ids)
        rows = await self._readers.ask(_FIND_REPLIES, *encoded(*stream), bounded(window), wanted, about=stream)
        name = name_checksum(stream)
        events = [read_event(stream, name, tuple(row)) for row in rows]
        self._rows_read += len(events)
        return {
            event.command_id: StoredReply(version=event.version, reply=event.reply)
            for event in events
            if event.reply is not None
        }

    async def find_keyed(self, stream: StreamId, keys: Sequence[str]) -> dict[str, StoredReply]:
        """See `Store.find_keyed`."""
        rows = await self._readers.ask(_FIND_KEYED, *encoded(*stream), encoded(*keys), about=stream)
        name = name_checksum(stream)
        return dict(read_keyed(stream, name, tuple(row)) for row in rows)

    # Followers

    async def find_checkpoint(self, name: str) -> int:
        """See `Store.find_checkpoint`."""
        rows = await self._readers.ask("SELECT position FROM checkpoints WHERE name = $1", *encoded(name))
        return int(rows[0][0]) if rows else 0

    async def due_reminders(self, category: str, until: int, limit: int, after: Reminder | None) -> list[Reminder]:
        """See `Store.due_reminders`."""
        until = max(min(until, NUMBER_MAX), -NUMBER_MAX)
        due, names = -NUMBER_MAX, ("", "", "")
        if after is not None:
            due, names = after.due, (after.stream.id, after.stream.category, after.name)
        rows = await self._readers.ask(_DUE, *encoded(category), until, bounded(limit), due, *encoded(*names))
        return [_read_reminder(category, row) for row in rows]

    # Catalogue

    async def list_snapshots(self, stream: StreamId) -> list[Snapshot]:
        """See `Store.list_snapshots`."""
        rows = await self._readers.ask(_LIST_SNAPSHOTS, *encoded(*stream), about=stream)
        self._rows_read += len(rows)
        name = name_checksum(stream)
        snapshots = (read_snapshot(stream, name, tuple(row)) for row in rows)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    async def list_streams(
        self, category: str | None, after: StreamId | None, limit: int
    ) -> list[tuple[StreamId, int]]:
        """See `Store.list_streams`."""
        only = None if category is None else encoded(category)[0]
        past, first = encoded(*after) if after else (b"", b"")
        if after:
            first += b"\0"  # the least bytes that come after these
        rows = await self._readers.ask(_LIST_STREAMS, only, past, first, bounded(limit))
        return [(StreamId(name.decode(), id.decode()), version or 0) for name, id, version in rows]

    async def head(self) -> int:
        """See `Store.head`."""
        ((position,),) = await self._readers.ask("SELECT max(position) FROM events")
        return position or 0

    async def counts(self) -> tuple[int, int, int, int]:
        """Streams, events and snapshots, and the bytes they take. The first two never leave and have no gaps."""
        ((streams, events, snapshots, size),) = await self._readers.ask(_COUNTS, self._schema)
        return streams or 0, events or 0, snapshots, int(size or 0)


def _read_reminder(category: str, row: Row) -> Reminder:
    name, due, id, stream = row
    if id is None:
        raise CorruptRecord(f"stream {stream}", 0, 0, f"it has a reminder {name!r}, and is not in the journal")
    return Reminder(stream=StreamId(category, id.decode()), name=name.decode(), due=due)


def read_any(row: Row, names: dict[int, tuple[StreamId, int]]) -> Recorded:
    """An event of those pages. `names`: of streams that were met, with where their checksums begin."""
    *event, category, id = row
    known = names.get(row[1])
    if known is None:
        if category is None or id is None:
            raise CorruptRecord(f"stream {row[1]}", row[2], row[0], "its stream is not in the journal")
        stream = StreamId(category.decode(errors="replace"), id.decode(errors="replace"))
        known = names[row[1]] = stream, name_checksum(stream)
    return read_event(*known, tuple(event))
