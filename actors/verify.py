"""Verifying what needs the code: whether streams replay, and snapshots are what their events say.

The journal verifies bytes; this gives it, for each aggregate class at hand, a way to turn them into state.
"""

from collections.abc import Iterable
from types import ModuleType

from holdfast.journal.compression import expanded
from holdfast.journal.marked import SEALED, is_marked
from holdfast.journal.records import Recorded, Snapshot, StreamId
from holdfast.journal.sealed import keyless

from .aggregate import Aggregate
from .definition import definition_of
from .errors import DefinitionError

__all__ = ["ClassReplay", "aggregates_in", "replays_of"]


class ClassReplay:
    """Replays the streams of one aggregate class, event by event. See `holdfast.journal.verify.Replay`."""

    def __init__(self, cls: type[Aggregate]) -> None:
        self._definition = definition_of(cls)
        self._instance = self._definition.new("")
        self.category = self._definition.category

    def start(self, stream: StreamId) -> None:
        """The state before the first event of another stream."""
        self._instance = self._definition.new(stream.id)

    def apply(self, event: Recorded) -> None:
        """Bring the state to the next version. Raises `HydrationFailed`, as hydration would. There are no keys here, so
        what is sealed counts as forgotten."""
        self._definition.replay(self._instance, (keyless(event),))

    def compare(self, snapshot: Snapshot) -> str | None:
        """How the snapshot parts from the state; empty if it does not. None: of another schema, which is passed over
        by hydration too; or sealed, which cannot be looked into here."""
        if snapshot.schema != self._definition.schema or is_marked(snapshot.payload, SEALED):
            return None
        copy = self._definition.new(snapshot.stream.id)
        try:
            self._definition.restore(copy, expanded(snapshot.payload), snapshot.version)
        except Exception as error:  # whatever a payload makes a codec raise, it is the payload that is wrong
            return f"it does not decode: {error}"
        return self._definition.state_difference(self._instance, copy)


def aggregates_in(module: ModuleType) -> list[type[Aggregate]]:
    """The aggregate classes that a module has by name, its own and imported ones; no abstract ones."""
    found = {
        id(thing): thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Aggregate) and thing is not Aggregate
    }
    return [cls for cls in found.values() if not cls.__holdfast_options__.abstract]


def replays_of(classes: Iterable[type[Aggregate]]) -> list[ClassReplay]:
    """One for each class. Raises `DefinitionError` if two of them have one category."""
    by_category: dict[str, type[Aggregate]] = {}
    for cls in classes:
        category = definition_of(cls).category
        other = by_category.setdefault(category, cls)
        if other is not cls:
            problem = f"category {category!r} belongs to {other.__module__}.{other.__qualname__} as well"
            raise DefinitionError(f"{cls.__module__}.{cls.__qualname__}", problem)
    return [ClassReplay(cls) for cls in by_category.values()]
