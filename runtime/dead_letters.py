"""Dead letters: events that a follower has set aside, because what it does with them keeps failing.

They are kept as everything is, as events: in a stream of the follower's own, `holdfast.dead_letters/reaction/Transfers`
say, which nobody but its current life can write. What is pending is what the stream says.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.journal.client import JournalClient
from holdfast.journal.codec import decode_plain, encode_plain
from holdfast.journal.errors import HoldfastError
from holdfast.journal.partition import partition_of
from holdfast.journal.records import Append, NewEvent, StreamId

from .follower import Desk

__all__ = ["DeadLetters", "Letter", "NoSuchLetter"]

CATEGORY = "holdfast.dead_letters"
SET_ASIDE, REPLAYED = "holdfast.dead_letter.set_aside", "holdfast.dead_letter.replayed"
PAGE, PROBLEM_MAX = 1000, 2000


class NoSuchLetter(HoldfastError):
    """No event of this place is set aside. List those that are."""

    def __init__(self, follower: str, partition: int, position: int) -> None:
        super().__init__(follower, partition, position)
        self.follower, self.partition, self.position = follower, partition, position

    def __str__(self) -> str:
        return f"{self.follower} has set aside no event of position {self.position} in partition {self.partition}"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside. `target`: whom it was for, empty if that could not be told. `problem`: what failed,
    the last time. `attempts`: how often. `at`: µs since 1970 UTC."""

    partition: int
    position: int
    type: str
    category: str
    id: str
    target: str
    problem: str
    attempts: int
    at: int

    @property
    def place(self) -> tuple[int, int]:
        """Partition and position of the event."""
        return self.partition, self.position


class DeadLetters:
    """The dead letters of one life of a follower. `pending`: by partition and position, oldest first."""

    def __init__(self, name: str, desk: Desk, wall: Callable[[], int] = time.time_ns) -> None:
        """`name`: of the follower."""
        self.name, self.pending = name, dict[tuple[int, int], Letter]()
        self._desk, self._wall = desk, wall
        self._stream, self._version = StreamId(CATEGORY, name), 0
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read what earlier lives have left."""
        while page := await self._part.read_stream(self._stream, after=self._version, limit=PAGE):
            for recorded in page:
                self._apply(recorded.type, decode_plain(recorded.payload))
                self._version = recorded.version

    async def set_aside(self, letter: Letter) -> None:
        """Keep one; again is harmless. Raises `Fenced`."""
        async with self._writing:
            if letter.place not in self.pending:
                await self._record(SET_ASIDE, msgspec.to_builtins(letter))

    async def replayed(self, letter: Letter) -> None:
        """It was done after all. Raises `Fenced`."""
        async with self._writing:
            if letter.place in self.pending:
                await self._record(REPLAYED, {"partition": letter.partition, "position": letter.position})

    def letter(self, partition: int, position: int, **more: Any) -> Letter:
        """A new one, of now."""
        return Letter(partition=partition, position=position, at=self._wall() // 1000, **more)

    @property
    def _part(self) -> JournalClient:
        parts = self._desk.parts
        return parts[partition_of(self._stream, len(parts))]

    async def _record(self, type: str, payload: dict[str, Any]) -> None:
        event = NewEvent(
            type=type,
            payload=encode_plain(payload),
            command_id=f"{self._desk.owner}:{self._desk.epoch}:{self._version + 1}",
            recorded_at=self._wall() // 1000,
        )
        append = Append(
            stream=self._stream,
            owner=self._desk.owner,
            epoch=self._desk.epoch,
            expected_version=self._version,
            events=(event,),
        )
        await self._part.append(append)
        self._version += 1
        self._apply(type, payload)

    def _apply(self, type: str, payload: dict[str, Any]) -> None:
        if type == SET_ASIDE:
            letter = msgspec.convert(payload, Letter)
            self.pending[letter.place] = letter
        else:
            self.pending.pop((payload["partition"], payload["position"]), None)
        self._desk.progress.dead_letters = len(self.pending)


def problem_of(error: BaseException) -> str:
    """An error in words, of a length that can be stored."""
    return f"{type(error).__name__}: {error}"[:PROBLEM_MAX]
