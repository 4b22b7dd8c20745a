"""The keys of data subjects: one for each person, or whatever a subject is, in a store of their own.

The journal keeps for ever; the key store forgets. What is sealed under a key that was destroyed can be read by nobody
any more, wherever it was copied to, and reads as blank. A key that was destroyed is never made again: what is written
of the same subject later gets a key of another *generation*.

A stream has a key too, as a subject of kind `STREAM`: for what is made from its events and may hold anything of them,
its snapshots and replies. The store knows which subjects each stream has used, from before the first value sealed under
their keys is written, so destroying a subject's key destroys the keys of those streams with it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from .records import StreamId

__all__ = ["STREAM", "DataSubject", "Destroyed", "Key", "KeyId", "KeyStore", "Wanted", "stream_of"]

STREAM = "holdfast.stream"
"""The kind of subject that a stream is; its id is the stream's name."""


class DataSubject(NamedTuple):
    """Whose data it is: `customer`, `42`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


def stream_of(name: str) -> StreamId:
    """The stream that is called so: a category has no slash."""
    category, _, id = name.partition("/")
    return StreamId(category, id)


class KeyId(NamedTuple):
    """One key of a subject: `generation` counts its keys, from 1."""

    kind: str
    id: str
    generation: int

    def __str__(self) -> str:
        return f"{self.kind} {self.id}, generation {self.generation}"


class Key(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A key and what it is called. `secret`: 32 bytes, which no `repr` shows."""

    kind: str
    id: str
    generation: int
    secret: bytes

    def __repr__(self) -> str:
        return f"<key of {self.kind} {self.id}, generation {self.generation}>"


class Wanted(NamedTuple):
    """What a stream needs for writing: its own key, and those of these subjects.

    `generation`: of the stream's key that it goes by; 0, if it has none yet. Its state was read after that key was
    given out, so as long as it lives, nothing that the state holds was forgotten meanwhile."""

    stream: str
    generation: int
    subjects: tuple[DataSubject, ...] = ()


class Destroyed(msgspec.Struct, frozen=True, kw_only=True):
    """What was destroyed of a subject. `generation`: of its newest key ever (0: it had none). `streams`: those that
    have used it, ever; their own keys were destroyed with it."""

    generation: int
    streams: tuple[str, ...]


class KeyStore(ABC):
    """Where keys are kept. Used by the process of the journal alone, in one event loop.

    Every method is one transaction, durable when it returns. They raise `JournalFailed` where storage says no, and
    `JournalUnavailable` where it does not answer.
    """

    @abstractmethod
    async def open(self) -> None:
        """Make ready, and make the tables where there are none. Raises `JournalOpenError`s."""

    @abstractmethod
    async def close(self) -> None:
        """Release what it holds."""

    @abstractmethod
    async def prepare(self, wanted: Sequence[Wanted]) -> list[tuple[Key, ...] | None]:
        """The keys that each needs for writing: its own first, then those of its subjects, in order. Those that are
        not there are made, and that the stream uses them is recorded. None: the key that it goes by is destroyed."""

    @abstractmethod
    async def find(self, ids: Sequence[KeyId]) -> list[bytes | None]:
        """Their secrets, in order; empty for a key that was destroyed, None for one that never was."""

    @abstractmethod
    async def destroy(self, subject: DataSubject) -> Destroyed:
        """Destroy the subject's keys, and those of all streams that have used it. Nothing of them is left in the store
        when this returns. Doing it again is harmless."""
