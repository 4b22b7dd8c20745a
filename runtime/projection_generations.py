"""Generations: which one a follower works on, how another is begun beside it, and how that takes its place.

A class whose `version` is above the one that serves builds the next generation, in tables with a number in their names,
as a follower of its own; the same version is built anew by the very follower that serves it. Both end in the same way:

1. The new generation has reached the end of the journal. In one transaction, with all checkpoints held so that nobody
   is in the middle of a page: if it is nowhere behind the one that serves, the old tables go, the new ones take their
   names, the old checkpoints go. Readers see the old tables before, and the new ones after.
2. If it is a little behind, since the other one has moved on meanwhile, that is sealed: it moves no further. The new
   one takes in what is missing, and step 1 follows.
3. If the old tables cannot go (in PostgreSQL, a view or a long query holds them), the old one goes on, and the new one
   tries again, later and later. So it does if the new one says nothing for a while.

A crash anywhere here undoes the transaction, or leaves it done: whoever comes back reads in the books where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .model import Model
from .model_errors import ReadModelConflict
from .projection_books import BUILDING, SEALED, SERVING, Books, Checkpoint, Retired
from .projection_definition import ProjectionDefinition, shadow

__all__ = ["Generations", "Seat"]

SEAL_AT = 2000
"""Positions that a new generation may be behind when the old one is sealed: a moment's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a follower is to work on. `rebuilds`: the generation in which its own version is being built anew beside it;
    0: none. `sealed`: another one has all but taken over, so there is nothing to be done just now."""

    generation: int
    state: str
    rebuilds: int = 0
    sealed: bool = False


class Generations:
    """The generations of one projection in one read model. Used by one thread."""

    def __init__(self, definition: ProjectionDefinition, model: Model, partitions: int) -> None:
        """`partitions`: of the journal."""
        self._definition, self._model, self._partitions = definition, model, partitions
        self._books = Books(model, definition.name)

    def take_seat(self) -> Seat:
        """In a transaction: which generation this version serves or builds; made if need be. Raises
        `ReadModelConflict`."""
        rows = self._held()
        serving, building = _served(rows), _built(rows)
        if serving is None:
            return self._begin(rows, SERVING)
        self._check_version(serving)
        if serving.version < self._definition.version:
            return self._seat_of_builder(rows, building)
        self._check_declaration(serving, rows)
        sealed = serving.state == SEALED
        if building is not None and building.version > self._definition.version:
            return Seat(generation=serving.generation, state=SERVING, sealed=sealed)
        if building is not None and self._is_ours(building, rows):
            return Seat(generation=serving.generation, state=SERVING, rebuilds=building.generation, sealed=sealed)
        self._drop(building)
        self._books.turn(serving.generation, SERVING)
        return Seat(generation=serving.generation, state=SERVING)

    def begin_rebuild(self) -> Seat:
        """In a transaction: begin to build this version anew, or join in if that has begun. Raises
        `ReadModelConflict`."""
        rows = self._held()
        serving = _served(rows)
        if serving is None or serving.version != self._definition.version:
            raise self._conflict("this version does not serve yet, so it cannot be built anew")
        return self._seat_of_builder(rows, _built(rows))

    def join(self, generation: int) -> Seat:
        """In a transaction: which state a generation is in. Raises `Retired` if it is gone."""
        found = next((row for row in self._books.rows() if row.generation == generation), None)
        if found is None:
            raise Retired(f"generation {generation}")
        return Seat(generation=generation, state=found.state)

    def abandon(self, generation: int) -> None:
        """In a transaction: give up building this generation; the one that serves goes on."""
        building = _built(self._held())
        if building is not None and building.generation == generation:
            self._drop(building)
            self.unseal()

    def unseal(self) -> None:
        """In a transaction: have the one that serves go on. Harmless at any time: it is only passed a little later."""
        serving = _served(self._held())
        if serving is not None and serving.state == SEALED:
            self._books.turn(serving.generation, SERVING)

    def try_swap(self, generation: int, *, seals: bool) -> bool:
        """In a transaction: let this generation take the place of the one that serves, if it has caught up with it.
        `seals`: have that one wait if it has not by a little. Whether it serves now. Raises `Retired` if it is gone."""
        rows = self._held()
        serving, building = _served(rows), _built(rows)
        if building is None or building.generation != generation or serving is None:
            if serving is None or serving.generation != generation:
                raise Retired(f"generation {generation}")
            return True
        behind = self._behind(rows, serving.generation, generation)
        if behind > 0:
            if seals and behind <= SEAL_AT:
                self._books.turn(serving.generation, SEALED)
            return False
        self._swap(serving, building)
        return True

    def near(self, generation: int, *, seals: bool) -> bool:
        """Whether `try_swap` is worth it, as far as can be seen without holding anybody up."""
        rows = self._books.rows()
        serving = _served(rows)
        if serving is None or serving.generation == generation:
            return True
        if not any(row.generation == generation for row in rows):
            return True
        return self._behind(rows, serving.generation, generation) <= (SEAL_AT if seals else 0)

    def _held(self) -> list[Checkpoint]:
        self._books.lock()
        return self._books.hold()

    # -- deciding ------------------------------------------------------------------------------------------------

    def _seat_of_builder(self, rows: Sequence[Checkpoint], building: Checkpoint | None) -> Seat:
        if building is not None and building.version > self._definition.version:
            raise self._conflict(f"version {building.version} is being built")
        if building is not None and self._is_ours(building, rows):
            return Seat(generation=building.generation, state=BUILDING)
        self._drop(building)
        serving = _served(rows)
        if serving is not None and serving.state == SEALED:
            self._books.turn(serving.generation, SERVING)
        return self._begin(rows, BUILDING)

    def _begin(self, rows: Sequence[Checkpoint], state: str) -> Seat:
        """A new generation, with empty tables, at the beginning of the journal."""
        definition = self._definition
        generation = max((row.generation for row in rows), default=0) + 1
        serving = _served(rows)
        names = definition.names(generation, serving=state == SERVING)
        taken = set(_tables(serving))
        for name, table in definition.tables.items():
            for each in {name, names[name]} - taken:
                if self._model.has_table(each):
                    raise self._conflict(f"a table {each} stands there that is none of its own")
            for statement in table.statements(names[name], generation):
                self._model.execute(statement, ())
        self._books.add(
            [
                self._checkpoint(generation, part, partition, state)
                for part in range(definition.parts)
                for partition in range(self._partitions)
            ]
        )
        return Seat(generation=generation, state=state)

    def _checkpoint(self, generation: int, part: int, partition: int, state: str) -> Checkpoint:
        definition = self._definition
        return Checkpoint(
            generation=generation,
            part=part,
            partition=partition,
            parts=definition.parts,
            version=definition.version,
            code=definition.code,
            shape=definition.shape,
            tables=",".join(definition.tables),
            state=state,
            epoch=0,
            position=0,
            mark="",
        )

    def _check_version(self, serving: Checkpoint) -> None:
        if serving.version > self._definition.version:
            problem = f"the read model is of version {serving.version}, the class of version {self._definition.version}"
            raise self._conflict(f"{problem}; to go back, build what it was as a higher one")

    def _check_declaration(self, serving: Checkpoint, rows: Sequence[Checkpoint]) -> None:
        """The same version has the same tables and parts, and the journal the same partitions."""
        self._check_partitions(serving, rows)
        if serving.parts != self._definition.parts:
            problem = (
                f"partitions={self._definition.parts}, and version {serving.version} was built with {serving.parts}"
            )
            raise self._conflict(f"{problem}; raise its version")
        if serving.shape != self._definition.shape:
            raise self._conflict(f"its tables are not those of version {serving.version} as it was built; raise it")

    def _check_partitions(self, serving: Checkpoint, rows: Sequence[Checkpoint]) -> None:
        found = len({row.partition for row in rows if row.generation == serving.generation})
        if found != self._partitions:
            raise self._conflict(f"it was built from a journal of {found} partitions, this one has {self._partitions}")

    def _is_ours(self, building: Checkpoint, rows: Sequence[Checkpoint]) -> bool:
        """Whether what is being built is what this code would build."""
        self._check_partitions(building, rows)
        ours = (self._definition.version, self._definition.parts, self._definition.shape, self._definition.code)
        return (building.version, building.parts, building.shape, building.code) == ours

    def _behind(self, rows: Sequence[Checkpoint], old: int, new: int) -> int:
        """By how many positions the slowest part of the new generation is behind the fastest of the old one."""
        most = 0
        for partition in range(self._partitions):
            reached = max(row.position for row in rows if (row.generation, row.partition) == (old, partition))
            slowest = min(row.position for row in rows if (row.generation, row.partition) == (new, partition))
            most = max(most, reached - slowest)
        return most

    # -- changing ------------------------------------------------------------------------------------------------

    def _swap(self, old: Checkpoint, new: Checkpoint) -> None:
        self._model.hold_tables(_tables(old))
        for name in _tables(old):
            self._model.execute(f"DROP TABLE {name}", ())
        for name in _tables(new):
            self._model.execute(f"ALTER TABLE {shadow(name, new.generation)} RENAME TO {name}", ())
        self._books.remove(old.generation)
        self._books.turn(new.generation, SERVING)

    def _drop(self, building: Checkpoint | None) -> None:
        if building is not None:
            for name in _tables(building):
                self._model.execute(f"DROP TABLE {shadow(name, building.generation)}", ())
            self._books.remove(building.generation)

    def _conflict(self, problem: str) -> ReadModelConflict:
        return ReadModelConflict(f"projection {self._definition.name} in {self._model.name}", problem)


def _served(rows: Sequence[Checkpoint]) -> Checkpoint | None:
    return next((row for row in rows if row.state in (SERVING, SEALED)), None)


def _built(rows: Sequence[Checkpoint]) -> Checkpoint | None:
    return next((row for row in rows if row.state == BUILDING), None)


def _tables(row: Checkpoint | None) -> list[str]:
    return row.tables.split(",") if row is not None and row.tables else []
