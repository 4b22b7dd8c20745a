"""The directory: which actor a host lives in, when that is not the one called after it.

A spare (`spares.py`) has a name of its own when it becomes a host, and Ray renames no actor. So its name is noted here
under the owner's, in a key-value store that every process of the cluster sees. A host that was started for its owner
bears its name, and is found without.

A note is a hint, as all placement is. One step is atomic: to note an actor for an owner that has no note. So of two
processes that adopt a spare for such an owner at once, one has the place and the other is told whose it is. All else is
several steps, and others may come between them:

- `leave` reads a note, then removes it; `actor_of` and `enter` do so with that of an actor that they found dead. If
  somebody else has replaced it meanwhile, what is removed is the note of a host that lives. Nobody finds that any more,
  and the next call starts a second one.
- A host under its owner's own name has no note, so `enter` knows nothing of it. Who adopts a spare looks for one
  before; one that is started in between is a second host too.

Two hosts of one owner are harmless, wherever they come from: the newest claim at the journal fences the other, which
then leaves, and its callers look here again.
"""

from collections.abc import Callable
from typing import Protocol

__all__ = ["Directory", "Notes"]


class Notes(Protocol):
    """A key-value store of text. Every method is one atomic step, and blocks."""

    def get(self, key: str) -> str | None:
        """The value, if the key has one."""
        ...

    def add(self, key: str, value: str) -> bool:
        """Give the key this value, unless it has one. Whether it was given."""
        ...

    def remove(self, key: str) -> None:
        """Forget the key."""
        ...

    def keys(self) -> list[str]:
        """All of them."""
        ...


class Directory:
    """From owners to the names of the actors that they live in. Its methods block."""

    def __init__(self, notes: Notes, is_alive: Callable[[str], bool]) -> None:
        """`is_alive`: whether there is an actor of this name."""
        self._notes, self._is_alive = notes, is_alive

    def actor_of(self, owner: str) -> str | None:
        """The actor that was noted for this owner, if it is still there."""
        actor = self._notes.get(owner)
        if actor is None or self._is_alive(actor):
            return actor
        self.leave(owner, actor)
        return None

    def enter(self, owner: str, actor: str) -> bool:
        """Note this actor, unless another one that is alive has the place. Whether it was noted."""
        return self._notes.add(owner, actor) or (self.actor_of(owner) is None and self._notes.add(owner, actor))

    def leave(self, owner: str, actor: str) -> None:
        """Strike out this actor; another one's note stays."""
        if self._notes.get(owner) == actor:
            self._notes.remove(owner)

    def owners(self) -> list[str]:
        """Those that have a note; a host that was killed keeps it until somebody looks for it."""
        return self._notes.keys()
