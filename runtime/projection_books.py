"""The books of a read model: how far each projection is, which generation of its tables serves, what was set aside.

They stand in the read model's own database, so that they change in the transaction of the rows that they are about.

A **generation** is one building of a projection's tables, from the first event on. Its checkpoints, one for each part
of the projection and each partition of the journal, are rows of `holdfast_projections`:

    building ──▶ serving ──▶ (removed, when the next generation takes over)
                  │   ▲
                  ▼   │
                 sealed        its successor has all but caught up: it moves no further, so that it can be passed

**Fencing.** Every transaction begins by moving its checkpoint, if the epoch of whoever moves it is not below the one
that stands there, and the checkpoint is where it was left. That takes the row's lock. A stale owner finds a higher
epoch, and whatever it had prepared is undone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.journal.errors import Fenced
from holdfast.journal.records import Recorded

from .model import Model
from .model_errors import ReadModelUnavailable

__all__ = ["BUILDING", "SEALED", "SERVING", "Books", "Checkpoint", "Letter", "Retired", "letter_of"]

CHECKPOINTS, LETTERS = "holdfast_projections", "holdfast_dead_letters"
BUILDING, SERVING, SEALED = "building", "serving", "sealed"

_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS {CHECKPOINTS} (name TEXT NOT NULL, generation BIGINT NOT NULL, part BIGINT NOT NULL,"
    " partition BIGINT NOT NULL, parts BIGINT NOT NULL, version BIGINT NOT NULL, code TEXT NOT NULL,"
    " shape TEXT NOT NULL, tables TEXT NOT NULL, state TEXT NOT NULL, epoch BIGINT NOT NULL, position BIGINT NOT NULL,"
    " mark TEXT NOT NULL, PRIMARY KEY (name, generation, part, partition))",
    f"CREATE TABLE IF NOT EXISTS {LETTERS} (name TEXT NOT NULL, generation BIGINT NOT NULL, part BIGINT NOT NULL,"
    " partition BIGINT NOT NULL, position BIGINT NOT NULL, category TEXT NOT NULL, id TEXT NOT NULL,"
    " version BIGINT NOT NULL, type TEXT NOT NULL, problem TEXT NOT NULL, traceback TEXT NOT NULL,"
    " attempts BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (name, generation, partition, position))",
)
_FIELDS = "generation, part, partition, parts, version, code, shape, tables, state, epoch, position, mark"
_ROW = "name = ? AND generation = ? AND part = ? AND partition = ?"
_ADVANCE = (
    f"UPDATE {CHECKPOINTS} SET position = ?, mark = ?, epoch = ?"
    f" WHERE {_ROW} AND epoch <= ? AND position = ? AND state <> 'sealed' RETURNING state"
)
_STAND = f"UPDATE {CHECKPOINTS} SET epoch = ? WHERE {_ROW} AND epoch <= ? AND state <> 'sealed' RETURNING state"


class Retired(Exception):
    """This generation moves no further: another one serves, is about to, or was begun in its place. Look again."""


class Checkpoint(NamedTuple):
    """A row of the books. `tables`: names, with commas. `mark`: of the event at `position`, to know it again."""

    generation: int
    part: int
    partition: int
    parts: int
    version: int
    code: str
    shape: str
    tables: str
    state: str
    epoch: int
    position: int
    mark: str


class Letter(NamedTuple):
    """An event that was set aside: where it is in the journal, and what went wrong, the last time. `attempts`: how
    often; `at`: µs since 1970 UTC."""

    partition: int
    position: int
    category: str
    id: str
    version: int
    type: str
    problem: str
    traceback: str
    attempts: int
    at: int

    @property
    def place(self) -> tuple[int, int]:
        """Partition and position of the event."""
        return self.partition, self.position


class Books:
    """The books of one projection. All but `prepare` belongs into a transaction."""

    def __init__(self, model: Model, name: str) -> None:
        self._model, self._name = model, name

    def prepare(self) -> None:
        """Have the tables there, in a transaction of its own."""
        self._model.begin()
        try:
            self._model.lock("schema")
            for statement in _SCHEMA:
                self._model.execute(statement, ())
            self._model.commit()
        except BaseException:
            self._model.rollback()
            raise

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Let nobody else decide anything about this projection until the transaction ends."""
        self._model.lock(self._name)

    def rows(self) -> list[Checkpoint]:
        """All checkpoints of the projection, by generation, part and partition."""
        query = f"SELECT {_FIELDS} FROM {CHECKPOINTS} WHERE name = ? ORDER BY generation, part, partition"
        return [Checkpoint(*row) for row in self._model.fetch(query, (self._name,))]

    def hold(self) -> list[Checkpoint]:
        """The same, and they stay as they are until the transaction ends: pages under way are waited for."""
        self._model.execute(f"UPDATE {CHECKPOINTS} SET epoch = epoch WHERE name = ?", (self._name,))
        return self.rows()

    def add(self, rows: Sequence[Checkpoint]) -> None:
        """Write down a generation."""
        for row in rows:
            marks = ", ".join("?" * (len(row) + 1))
            self._model.execute(f"INSERT INTO {CHECKPOINTS} (name, {_FIELDS}) VALUES ({marks})", (self._name, *row))

    def remove(self, generation: int) -> None:
        """Strike it out, with what it set aside."""
        for table in (CHECKPOINTS, LETTERS):
            self._model.execute(f"DELETE FROM {table} WHERE name = ? AND generation = ?", (self._name, generation))

    def turn(self, generation: int, state: str) -> None:
        """A generation is in another state."""
        statement = f"UPDATE {CHECKPOINTS} SET state = ? WHERE name = ? AND generation = ?"
        self._model.execute(statement, (state, self._name, generation))

    def claim(self, generation: int, part: int, owner: str, epoch: int, code: str) -> dict[int, int]:
        """Make this epoch the one that moves the checkpoints of a part. Their positions, by partition. Raises
        `Fenced`."""
        statement = (
            f"UPDATE {CHECKPOINTS} SET epoch = ?, code = ? WHERE name = ? AND generation = ? AND part = ?"
            " AND epoch <= ? RETURNING partition, position"
        )
        moved = self._model.fetch(statement, (epoch, code, self._name, generation, part, epoch))
        mine = [row for row in self.rows() if (row.generation, row.part) == (generation, part)]
        newest = max((row.epoch for row in mine), default=0)
        if len(moved) < len(mine):
            raise Fenced(owner, epoch, newest)
        return {int(partition): int(position) for partition, position in moved}

    def advance(
        self, generation: int, part: int, partition: int, owner: str, epoch: int, after: int, to: int, mark: str
    ) -> str:
        """Move a checkpoint, as the first thing of a transaction, and say in which state its generation is. Raises
        `Fenced`, `Retired`, `ReadModelUnavailable` where it is not `after`."""
        where = (self._name, generation, part, partition)
        where = (self._name, generation, part, partition)
        moved = self._model.fetch(_ADVANCE, (to, mark, epoch, *where, epoch, after))
        return str(moved[0][0]) if moved else self._refuse(where, owner, epoch, after)

    def stand(self, generation: int, part: int, partition: int, owner: str, epoch: int) -> str:
        """The same, without moving: for a transaction about an event that is past."""
        where = (self._name, generation, part, partition)
        held = self._model.fetch(_STAND, (epoch, *where, epoch))
        return str(held[0][0]) if held else self._refuse(where, owner, epoch, None)

    def _refuse(self, where: tuple[Any, ...], owner: str, epoch: int, after: int | None) -> str:
        found = self._model.fetch(f"SELECT state, epoch, position FROM {CHECKPOINTS} WHERE {_ROW}", where)
        if not found or found[0][0] == SEALED:
            raise Retired(f"generation {where[1]}")
        _, current, position = found[0]
        if current > epoch:
            raise Fenced(owner, epoch, current)
        problem = f"the checkpoint of {self._name} is at {position} and was left at {after}: somebody has changed it"
        raise ReadModelUnavailable(self._model.name, problem)

    # -- dead letters --------------------------------------------------------------------------------------------

    def set_aside(self, generation: int, part: int, letter: Letter) -> None:
        """Keep an event that failed, in the place of an older note of it."""
        self.take_back(generation, letter.partition, letter.position)
        values = (self._name, generation, part, *letter)
        self._model.execute(f"INSERT INTO {LETTERS} VALUES ({', '.join('?' * len(values))})", values)

    def take_back(self, generation: int, partition: int, position: int) -> None:
        """It is dealt with."""
        statement = f"DELETE FROM {LETTERS} WHERE name = ? AND generation = ? AND partition = ? AND position = ?"
        self._model.execute(statement, (self._name, generation, partition, position))

    def letters(self, generation: int, part: int) -> list[Letter]:
        """What a part has set aside and nobody has dealt with, in the order of the journal."""
        query = (
            "SELECT partition, position, category, id, version, type, problem, traceback, attempts, at"
            f" FROM {LETTERS} WHERE name = ? AND generation = ? AND part = ? ORDER BY partition, position"
        )
        values: tuple[Any, ...] = (self._name, generation, part)
        return [Letter(*row) for row in self._model.fetch(query, values)]


def letter_of(recorded: Recorded, partition: int, problem: str, traceback: str, attempts: int, at: int) -> Letter:
    """A note of an event whose handler failed, of text that either database takes."""
    return Letter(
        partition=partition,
        position=recorded.position,
        category=recorded.stream.category,
        id=recorded.stream.id,
        version=recorded.version,
        type=recorded.type,
        problem=_text(problem),
        traceback=_text(traceback),
        attempts=attempts,
        at=at,
    )


def _text(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
