"""The one writer of a PostgreSQL journal: group commit, claims, registrations, snapshots.

It decides each append from what it remembers of the stream (there is no other writer, so that is the truth), and
writes a whole batch by one statement. The life of a batch:

1. What is not remembered is looked up, in one round trip.
2. Decide, gather. An append that is refused adds no rows, and its neighbours do not notice.
3. One statement, which is one transaction: it checks that this writer's epoch is the journal's, and inserts. A crash
   up to here leaves nothing; the answer comes when the server has the commit on its disk.
4. If no answer comes, what became of it is unknown, and said to be: `JournalUnavailable`. The next request takes the
   journal anew (`postgres_turns.py`), reads what is there, and recognises the batch if it is sent again.
"""

from collections.abc import Sequence
from typing import Any

from .errors import CorruptRecord, Fenced, JournalError, PlacementConflict, Unstorable, VersionConflict
from .postgres_batch import Batch
from .postgres_door import PostgresDoor
from .postgres_heads import Heads
from .postgres_session import Session, StatementFailed
from .postgres_turns import ME, Turns
from .records import Append, Appended, Checkpoint, Registration, Snapshot, StreamId
from .rows import SNAPSHOT_COLUMNS, read_snapshot, snapshot_row

__all__ = ["CLAIMS_KEPT", "PostgresWriter"]

CLAIMS_KEPT = 8
"""How many claims of one owner are remembered, so that a late repetition of one gets its old epoch."""

_CLAIM = f"""{ME},
known AS (SELECT max(epoch) AS newest, max(epoch) FILTER (WHERE incarnation = $3) AS own FROM owners WHERE owner = $2),
new AS (INSERT INTO owners (owner, epoch, incarnation)
        SELECT $2, CASE $4::bigint WHEN 0 THEN coalesce(newest, 0) + 1 ELSE $4 END, $3 FROM known
        WHERE CASE $4 WHEN 0 THEN own IS NULL ELSE coalesce(newest, 0) < $4 END AND EXISTS (SELECT FROM me)
        RETURNING epoch),
old AS (DELETE FROM owners AS o USING new WHERE o.owner = $2 AND o.epoch <= new.epoch - {CLAIMS_KEPT})
SELECT (SELECT count(*) FROM me), coalesce((SELECT epoch FROM new), own), coalesce((SELECT epoch FROM new), newest)
FROM known
"""
_REGISTER = f"""{ME},
known AS (SELECT placement, code, generation FROM aggregates WHERE category = $2),
new AS (INSERT INTO aggregates (category, placement, code, generation)
        SELECT $2, $3, $4, 1 WHERE NOT EXISTS (SELECT FROM known) AND EXISTS (SELECT FROM me)),
changed AS (UPDATE aggregates SET code = $4, generation = generation + 1
            WHERE category = $2 AND placement = $3 AND $4 NOT IN ('', code) AND EXISTS (SELECT FROM me))
SELECT (SELECT count(*) FROM me), placement, code, generation FROM me LEFT JOIN known ON true
"""
_SAVE_CHECKPOINT = f"""{ME},
known AS (SELECT max(epoch) AS newest FROM owners WHERE owner = $3),
saved AS (INSERT INTO checkpoints (name, owner, epoch, position)
          SELECT $2, $3, $4, $5 FROM known WHERE newest = $4 AND EXISTS (SELECT FROM me)
          ON CONFLICT (name) DO UPDATE
          SET owner = excluded.owner, epoch = excluded.epoch, position = excluded.position)
SELECT (SELECT count(*) FROM me), newest FROM known
"""
_SELECT_SNAPSHOTS = (
    "SELECT a.n, s.* FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])"
    " WITH ORDINALITY AS a (stream, version, schema, n), LATERAL"
    f" (SELECT {SNAPSHOT_COLUMNS} FROM snapshots"
    " WHERE stream = a.stream AND version = a.version AND schema = a.schema LIMIT 1) AS s"
)
# The order of the rows is the order of their keys: of two at one version the later one is the newer.
_INSERT_SNAPSHOTS = f"""{ME},
saved AS (INSERT INTO snapshots ({SNAPSHOT_COLUMNS})
          SELECT stream, version, schema, payload, checksum
          FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[])
               WITH ORDINALITY AS a (stream, version, schema, payload, checksum, n)
          WHERE EXISTS (SELECT FROM me) ORDER BY n
          ON CONFLICT (stream, version, schema) DO UPDATE
          SET key = excluded.key, payload = excluded.payload, checksum = excluded.checksum)
SELECT count(*) FROM me
"""
_TRIM_SNAPSHOTS = f"""{ME},
kept AS (SELECT s.key FROM unnest($2::bigint[]) AS a (stream), LATERAL
         (SELECT key FROM snapshots WHERE stream = a.stream ORDER BY version DESC, key DESC OFFSET $3) AS s),
trimmed AS (DELETE FROM snapshots WHERE key IN (SELECT key FROM kept) AND EXISTS (SELECT FROM me))
SELECT count(*) FROM me
"""

_UNWRITABLE = ("22", "23", "54", "XX")
"""Classes of SQLSTATE that one append alone may be the cause of: what it holds, or what its stream is damaged by."""


class PostgresWriter:
    """Everything that changes the journal. Takes it through `door` when it is first asked, and after each loss."""

    def __init__(self, door: PostgresDoor) -> None:
        self._heads = Heads()
        self._turns = Turns(door, self._heads)
        self.appends = self.commits = self.fenced = self.conflicts = 0

    async def open(self) -> None:
        """Take the journal. Raises `JournalOpenError`s, and `JournalUnavailable` where no server answers."""
        await self._turns.run(self._turns.ready)

    async def settled(self) -> None:
        """See `Turns.settled`: before anything is read."""
        await self._turns.settled()

    async def close(self) -> None:
        """Finish what is under way, and let the next writer in."""
        await self._turns.close()

    # Group commit

    async def append(self, appends: Sequence[Append]) -> list[Appended | JournalError]:
        """See `Store.append`."""
        return await self._turns.run(lambda: self._append(appends))

    async def _append(self, appends: Sequence[Append]) -> list[Appended | JournalError]:
        try:
            results, written = await self._append_batch(appends)
        except StatementFailed as error:
            if not error.state.startswith(_UNWRITABLE):
                raise
            results, written = await self._append_each(appends)
        self.appends += written
        self.commits += written > 0
        self.fenced += sum(type(result) is Fenced for result in results)
        self.conflicts += sum(type(result) is VersionConflict for result in results)
        return results

    async def _append_batch(self, appends: Sequence[Append]) -> tuple[list[Appended | JournalError], int]:
        """The results, and how many appends were written."""
        batch = Batch(self._heads, appends)
        await batch.look_up(await self._turns.ready())
        results = batch.decide()
        if batch.written:
            await self._turns.write(batch.statement, *batch.columns())
        return results, batch.written

    async def _append_each(self, appends: Sequence[Append]) -> tuple[list[Appended | JournalError], int]:
        """Something is there that should not be. Nothing was written: look again, and let the neighbours live."""
        session = await self._turns.ready()
        results: list[Appended | JournalError] = []
        written = 0
        await session.run("BEGIN")
        try:
            for append in appends:
                result, count = await self._append_alone(session, append)
                results.append(result)
                written += count
        except BaseException:
            session.terminate()
            raise
        if (came_to := await session.run("COMMIT")) != "COMMIT":
            raise StatementFailed("25P02", f"the transaction came to {came_to}")
        return results, written

    async def _append_alone(self, session: Session, append: Append) -> tuple[Appended | JournalError, int]:
        """One append inside a savepoint of its own, so that only itself is undone when it cannot be written."""
        self._heads.forget()
        await session.run("SAVEPOINT one")
        try:
            (result,), written = await self._append_batch([append])
        except StatementFailed as error:
            if not error.state.startswith(_UNWRITABLE):
                raise
            await session.run("ROLLBACK TO one")
            self._heads.forget()
            (result,), written = [CorruptRecord(str(append.stream), 0, 0, f"it cannot be appended to: {error}")], 0
        await session.run("RELEASE one")
        return result, written

    # Owners and aggregate types

    async def claim(self, owner: str, incarnation: str, epoch: int = 0) -> int:
        """See `Store.claim`. The answer is durable before it is given: an epoch is never handed out twice."""
        assert owner, "an owner has a name: the empty one means a bystander"
        answer = await self._turns.run(lambda: self._claim(owner, incarnation, epoch))
        if isinstance(answer, Fenced):  # only now: a turn that ends in an error forgets all that is remembered
            raise answer
        return answer

    async def _claim(self, owner: str, incarnation: str, epoch: int) -> int | Fenced:
        names = _bytes(f"owner {owner!r}", owner, incarnation)
        _, own, newest = await self._turns.write(_CLAIM, *names, epoch)
        self._heads.claimed(owner, newest)
        if epoch and not own == newest == epoch:
            return Fenced(owner, epoch, newest)
        return int(own)

    async def register(self, category: str, placement: str, code: str) -> Registration:
        """See `Store.register`."""
        return await self._turns.run(lambda: self._register(category, placement, code))

    async def _register(self, category: str, placement: str, code: str) -> Registration:
        values = _bytes(f"aggregate type {category!r}", category, placement, code)
        _, recorded, old, generation = await self._turns.write(_REGISTER, *values)
        if recorded is None:
            return Registration(category=category, placement=placement, code=code, generation=1)
        if recorded != values[1]:
            raise PlacementConflict(category, recorded.decode(), placement)
        changed = bool(code) and old != values[2]
        current = code if changed else old.decode()
        return Registration(category=category, placement=placement, code=current, generation=generation + changed)

    # Checkpoints

    async def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Store.save_checkpoint`."""
        current = await self._turns.run(lambda: self._save_checkpoint(checkpoint))
        if not current or current != checkpoint.epoch:
            self.fenced += 1
            raise Fenced(checkpoint.owner, checkpoint.epoch, current)

    async def _save_checkpoint(self, checkpoint: Checkpoint) -> int:
        """The current epoch of its owner. Any other one saved nothing."""
        names = _bytes(f"checkpoint {checkpoint.name!r}", checkpoint.name, checkpoint.owner)
        _, newest = await self._turns.write(_SAVE_CHECKPOINT, *names, checkpoint.epoch, checkpoint.position)
        return newest or 0

    # Snapshots

    async def save_snapshots(self, batch: Sequence[Snapshot], keep: int) -> None:
        """See `Store.save_snapshots`."""
        await self._turns.run(lambda: self._save_snapshots(batch, keep))

    async def _save_snapshots(self, batch: Sequence[Snapshot], keep: int) -> None:
        session = await self._turns.ready()
        await self._heads.recall(session, (snapshot.stream for snapshot in batch if _is_storable(snapshot)), ())
        wanted: dict[tuple[StreamId, int, str], Snapshot] = {}
        for snapshot in batch:
            if _is_storable(snapshot) and 0 <= snapshot.version <= self._heads.head(snapshot.stream).version:
                wanted.setdefault((snapshot.stream, snapshot.version, snapshot.schema), snapshot)
        new = await self._not_intact(session, [s for s in wanted.values() if self._heads.head(s.stream).key])
        if not new:
            return
        rows = [self._snapshot_row(snapshot) for snapshot in new]
        await self._turns.write(_INSERT_SNAPSHOTS, *(list(column) for column in zip(*rows, strict=True)))
        await self._turns.write(_TRIM_SNAPSHOTS, sorted({row[0] for row in rows}), keep)

    def _snapshot_row(self, snapshot: Snapshot) -> tuple[Any, ...]:
        head = self._heads.head(snapshot.stream)
        stream, version, schema, payload, checksum = snapshot_row(snapshot, head.key, head.name)
        return stream, version, schema.encode(), payload, checksum

    async def _not_intact(self, session: Session, batch: list[Snapshot]) -> list[Snapshot]:
        """Those that are not there yet, or are and are rotten."""
        if not batch:
            return []
        keys = [self._heads.head(snapshot.stream).key for snapshot in batch]
        versions, schemas = [s.version for s in batch], [s.schema.encode() for s in batch]
        intact: set[int] = set()
        for n, *row in await session.fetch(_SELECT_SNAPSHOTS, keys, versions, schemas):
            stream = batch[int(n) - 1].stream
            if read_snapshot(stream, self._heads.head(stream).name, tuple(row)) is not None:
                intact.add(n - 1)
        return [snapshot for place, snapshot in enumerate(batch) if place not in intact]


def _bytes(what: str, *texts: str) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise Unstorable(what.encode(errors="backslashreplace").decode(), str(error)) from error


def _is_storable(snapshot: Snapshot) -> bool:
    """What is not is passed over: it is only a cache."""
    try:
        return len(f"{snapshot.stream}{snapshot.schema}".encode()) <= 2000
    except UnicodeEncodeError:
        return False
