"""The frontier of a follower that does several things at once: up to where everything is done.

Events begin in the order of their positions and end in any order. The frontier stands before the first one that has
not ended, so a checkpoint there leaves nothing out, whatever has ended beyond it.
"""

import asyncio

__all__ = ["Frontier"]


class Frontier:
    """Of one partition, in one event loop. `reached`: everything up to there is done."""

    def __init__(self, start: int, ahead_max: int) -> None:
        """`ahead_max`: events between the frontier and the newest that may begin: what is done again after a crash, and
        what is remembered until then."""
        self.reached = start
        self._seen = start
        self._ahead_max = ahead_max
        self._left: dict[int, int] = {}  # parts that have not ended, from the first event on that has such
        self._room: asyncio.Future[None] | None = None

    async def begin(self, position: int, parts: int = 1) -> None:
        """An event begins, as soon as there is room; it ends as often as it has parts."""
        assert position > self._seen, f"position {position} comes after {self._seen}"
        while len(self._left) >= self._ahead_max:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._left[position] = parts
        self._seen = position

    def end(self, position: int) -> None:
        """It, or a part of it, is done."""
        self._left[position] -= 1
        done: list[int] = []
        for each, left in self._left.items():
            if left:
                break
            done.append(each)
        for each in done:
            del self._left[each]
        self._advance()

    def pass_by(self, position: int) -> None:
        """All events up to there have begun: there are no others."""
        self._seen = max(self._seen, position)
        self._advance()

    def _advance(self) -> None:
        self.reached = next(iter(self._left)) - 1 if self._left else self._seen
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
