"""Reading a whole journal: the partitions' events as one sequence, in bounded memory.

Within a partition events come in the order of their positions, always. Between partitions there is no order to be had:
they come by the time at which their commands ran, as their hosts' clocks told it, which is what a reader would want
and nothing to rely on. Of each partition one page is held, so memory does not grow with the journal.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from heapq import heapify, heappop, heappush

from .client import JournalClient
from .positions import Positions
from .records import Recorded

__all__ = ["merged", "starting_at"]


def starting_at(after: int | Positions, partitions: int) -> Positions:
    """A reader's checkpoint, as a position for each partition. Raises `ValueError` for what is none of this journal."""
    if isinstance(after, Positions):
        if len(after) != partitions:
            raise ValueError(f"{after} has {len(after)} positions, the journal has {partitions} partitions")
        return after
    if partitions > 1 and after:
        raise ValueError(
            f"the journal has {partitions} partitions, with positions of their own: read after 0 or after a Positions"
            f" of {partitions} numbers, not after {after}"
        )
    return Positions((max(after, 0),)) if partitions == 1 else Positions.start(partitions)


async def merged(
    parts: Sequence[JournalClient],
    after: Positions,
    *,
    category: str | None = None,
    limit: int | None = None,
    page: int = 1000,
) -> AsyncIterator[tuple[int, Recorded]]:
    """The events after a checkpoint, of one category or all, up to `limit` of them, each with its partition's number.
    Ends where each partition ended when its end was reached."""
    left = limit
    fronts = [_Front(part, at, category) for part, at in zip(parts, after, strict=True)]
    firsts = await asyncio.gather(*(front.next(_page(page, left)) for front in fronts))
    waiting = [(first.recorded_at, number, first) for number, first in enumerate(firsts) if first is not None]
    heapify(waiting)  # no two have one number, so records are never compared
    while waiting and left != 0:
        _, number, event = heappop(waiting)
        yield number, event
        left = None if left is None else left - 1
        if left != 0 and (following := await fronts[number].next(_page(page, left))) is not None:
            heappush(waiting, (following.recorded_at, number, following))


def _page(page: int, left: int | None) -> int:
    return page if left is None else min(page, left)


class _Front:
    """How far one partition has been read, and what was read ahead of it."""

    def __init__(self, part: JournalClient, after: int, category: str | None) -> None:
        self._part, self._after, self._category = part, after, category
        self._page: deque[Recorded] = deque()

    async def next(self, page: int) -> Recorded | None:
        """The next event; None at the end, which is an empty page and not a short one."""
        if not self._page and page > 0:
            self._page.extend(await self._part.read_all(after=self._after, limit=page, category=self._category))
        if not self._page:
            return None
        event = self._page.popleft()
        self._after = event.position
        return event
