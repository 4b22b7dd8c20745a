"""Hydration from a PostgreSQL journal: many streams at once, each by its newest usable snapshot and a page of its tail.

A hundred loads are one statement, so one moment of the journal and one round trip. Their bytes are counted by the
server: what would take the answer over its bound is not even read there. Every event is checked on its way out; a
snapshot that is rotten costs its stream another round trip, for the one before it.
"""

from collections.abc import Sequence
from typing import Any

from .errors import CorruptRecord, Fenced, JournalBusy, JournalError, Unstorable
from .pages import LOADS_BYTES_MAX, NUMBER_MAX, PAGE_BYTES_MAX, bounded
from .postgres_readers import Readers, encoded
from .postgres_session import Row
from .records import Load, Loaded, Snapshot
from .rows import EVENT_COLUMNS, name_checksum, read_facts, read_snapshot

__all__ = ["Loads"]

_LOADS_AT_ONCE = 100
"""Loads in one round trip."""

_WEIGHT = "octet_length(e.payload) + octet_length(e.metadata) + coalesce(octet_length(e.reply), 0)"

# Loads, many at once: for each a row about its stream (kind 0), one of its newest snapshot (1), and its page (2).
# What would take the answer over its bytes is left out, whole loads of it, from the first such one on.
_LOAD = f"""
WITH named AS MATERIALIZED (
    SELECT a.*, (SELECT max(epoch) FROM owners WHERE owner = a.owner) AS current,
           (SELECT s.key FROM streams AS s
            WHERE s.category = (SELECT key FROM categories WHERE name = a.category) AND s.id = a.id) AS key
    FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[],
                $8::bigint[])
         WITH ORDINALITY AS a (category, id, owner, epoch, schema, newest, size, after, n)),
asked AS MATERIALIZED (
    SELECT *, (SELECT max(version) FROM events WHERE stream = named.key) AS head,
           key IS NOT NULL AND (owner = '' OR epoch = current) AS admitted
    FROM named),
cached AS MATERIALIZED (
    SELECT a.n, a.key, a.size, a.after, s.* FROM asked AS a LEFT JOIN LATERAL (
        SELECT version, schema, payload, checksum FROM snapshots WHERE stream = a.key AND schema = a.schema
        AND version <= least(a.newest, coalesce(a.head, 0)) ORDER BY version DESC LIMIT 1) AS s ON a.schema <> ''
    WHERE a.admitted),
page AS MATERIALIZED (
    SELECT s.n, e.* FROM cached AS s, LATERAL (
        SELECT *, {_WEIGHT} AS weight, sum({_WEIGHT}) OVER (ORDER BY version ROWS UNBOUNDED PRECEDING) AS total
        FROM (SELECT * FROM events WHERE stream = s.key AND version > coalesce(s.version, s.after)
              ORDER BY version LIMIT s.size) AS e) AS e
    WHERE e.total - e.weight <= {PAGE_BYTES_MAX}),
cost AS (
    SELECT n, sum(bytes) AS bytes
    FROM (SELECT n, 0 AS bytes FROM asked UNION ALL SELECT n, octet_length(payload) FROM cached
          UNION ALL SELECT n, weight FROM page WHERE total <= {PAGE_BYTES_MAX} OR total = weight) AS b GROUP BY n),
last AS MATERIALIZED (
    SELECT max(n) AS n FROM (SELECT n, sum(bytes) OVER (ORDER BY n) - coalesce(bytes, 0) AS before FROM cost) AS c
    WHERE coalesce(before, 0) <= $9)
SELECT 0 AS kind, n, current AS position, key AS stream, head AS version, (n <= (SELECT n FROM last))::int AS category,
       NULL::bytea AS type, NULL::bytea AS command_id, NULL::bytea AS payload, NULL::bytea AS metadata,
       NULL::bytea AS reply, (SELECT max(version) FROM snapshots WHERE stream = asked.key) AS recorded_at,
       NULL::bigint AS checksum
FROM asked
UNION ALL
SELECT 1, n, NULL, key, version, NULL, schema, NULL, payload, NULL, NULL, NULL, checksum
FROM cached WHERE version IS NOT NULL AND n <= (SELECT n FROM last)
UNION ALL
SELECT 2, n, {EVENT_COLUMNS} FROM page WHERE n <= (SELECT n FROM last)
"""


class Loads:
    """Answers loads. `rows_read`, `fenced`: how many rows it read, and how many owners it turned away."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.rows_read = self.fenced = 0

    async def load(self, batch: Sequence[Load]) -> list[Loaded | JournalError]:
        """See `Store.load`."""
        answers: list[Loaded | JournalError] = []
        left = LOADS_BYTES_MAX
        for start in range(0, len(batch), _LOADS_AT_ONCE):
            some = batch[start : start + _LOADS_AT_ONCE]
            if left < 0:
                answers += [_put_off() for _ in some]
                continue
            found = await self._load_each(some, left)
            answers += found
            left -= sum(_bytes_of(answer) for answer in found)
        return answers

    async def _load_each(self, loads: Sequence[Load], left: int) -> list[Loaded | JournalError]:
        try:
            return await self._load(loads, left)
        except (CorruptRecord, Unstorable) as error:
            # One of them cannot be read, or asked for: the others can.
            return [error] if len(loads) == 1 else [(await self._load_each([load], left))[0] for load in loads]

    async def _load(self, loads: Sequence[Load], left: int) -> list[Loaded | JournalError]:
        rows: list[list[Row]] = [[] for _ in loads]
        for kind, n, *row in await self._readers.ask(_LOAD, *_asked(loads), left, about=loads[0].stream):
            rows[int(n) - 1].append((kind, *row))
        answers: list[Loaded | JournalError] = []
        for load, found in zip(loads, rows, strict=True):
            answer = self._loaded(load, found)
            answers.append(await self._load_older(load, answer, left) if isinstance(answer, int) else answer)
        return answers

    def _loaded(self, load: Load, rows: list[Row]) -> Loaded | JournalError | int:
        """What the rows of one load come to. A number: the snapshot at that version is rotten."""
        ((_, current, _, head, fits, *_, snapshot_head, _),) = [row for row in rows if row[0] == 0]
        if load.owner and (fenced := self.fenced_unless(load.owner, load.epoch, current or 0)):
            return fenced
        if not fits:
            return _put_off()
        if (snapshot_head or 0) > (head or 0):  # its events are gone: new ones must not take their versions
            problem = f"there is a snapshot of version {snapshot_head}: the events up to it are missing"
            return CorruptRecord(str(load.stream), (head or 0) + 1, 0, problem)
        name = name_checksum(load.stream)
        snapshot: Snapshot | None = None
        for _, _, stream, version, _, schema, _, payload, *_, checksum in (row for row in rows if row[0] == 1):
            self.rows_read += 1
            snapshot = read_snapshot(load.stream, name, (stream, version, schema, payload, checksum))
            if snapshot is None:
                return int(version)
        try:
            tail = sorted(((row[1], *row[3:]) for row in rows if row[0] == 2), key=lambda row: row[1])
            events, _ = read_facts(load.stream, name, tail, snapshot.version if snapshot else bounded(load.after))
        except CorruptRecord as error:
            return error
        self.rows_read += len(events)
        return Loaded(snapshot=snapshot, events=tuple(events), head=head or 0)

    async def _load_older(self, load: Load, rotten: int, left: int) -> Loaded | JournalError:
        """The same, from the snapshots below a rotten one."""
        older = Load(
            stream=load.stream,
            owner=load.owner,
            epoch=load.epoch,
            schema=load.schema,
            snapshot_max=rotten - 1,
            limit=load.limit,
        )
        return (await self._load_each([older], left))[0]

    def fenced_unless(self, owner: str, epoch: int, current: int) -> Fenced | None:
        """Why this epoch is not the owner's, if it is not."""
        if current and epoch == current:
            return None
        self.fenced += 1
        return Fenced(owner, epoch, current)


def _asked(loads: Sequence[Load]) -> list[list[Any]]:
    """The loads as the columns of `_LOAD`."""
    rows = [
        (
            *encoded(load.stream[0], load.stream[1], load.owner),
            bounded(load.epoch),
            *encoded("" if load.after else load.schema),
            NUMBER_MAX if load.snapshot_max is None else max(min(load.snapshot_max, NUMBER_MAX), -1),
            bounded(load.limit),
            bounded(load.after),
        )
        for load in loads
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _put_off() -> JournalBusy:
    return JournalBusy("one batch of loads (bytes)", LOADS_BYTES_MAX)


def _bytes_of(answer: Loaded | JournalError) -> int:
    if not isinstance(answer, Loaded):
        return 0
    return sum(len(event.payload) for event in answer.events) + (len(answer.snapshot.payload) if answer.snapshot else 0)
