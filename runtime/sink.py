"""Sinks: where a publisher's events go. One for each kind of broker; users may write their own.

A sink is made where the publisher is declared, and used in the process where it runs: it is pickled, or copied, before
it is opened, and once for each partition of the journal. So what it holds when it is open stays out of its pickle.

    class Lines:                                        # a sink of one's own: a file with a line for each event
        def __init__(self, path: str) -> None:
            self.path = path

        async def open(self) -> None: ...

        async def send(self, batch: Sequence[CloudEvent]) -> None:
            with open(self.path, "ab") as file:
                file.writelines(event.json + b"\n" for event in batch)
                file.flush()
                os.fsync(file.fileno())                 # what is confirmed is never sent again, so it must be there

        async def close(self) -> None: ...
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from .cloud_events import CloudEvent
from .errors import EventRefused, SinkProblem, SinkUnavailable
from .together import together

__all__ = ["Declared", "SendLane", "Sink", "by_stream", "in_lanes"]

SendLane: TypeAlias = Callable[[Sequence[CloudEvent], list[str]], Awaitable[None]]
"""Sends the events of a lane one after the other, and puts the id of each into the list once it is confirmed."""


@runtime_checkable
class Sink(Protocol):
    """A way to a broker. Used by one publisher at a time, one batch after the other."""

    async def open(self) -> None:
        """Connect. Raises `SinkUnavailable`, or anything, when that is not possible now."""
        ...

    async def send(self, batch: Sequence[CloudEvent]) -> None:
        """Hand over a batch, and return when the broker has confirmed all of it: it is never sent again.

        **Order:** of two events of one stream the later one must not get there before the earlier one, whatever fails.
        Raises `EventRefused` for one that will never be taken, and `SinkUnavailable`, or anything else, for what
        may be taken later. It is then closed, opened and given the rest again.
        """
        ...

    async def close(self) -> None:
        """Give up what it holds, at once, whatever state that is in. May be opened again."""
        ...


class Declared:
    """What of a sink is pickled, or copied: what it was declared with. Whatever else it holds begins with `_`, and is
    as at first in the copy."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def by_stream(batch: Iterable[CloudEvent]) -> list[list[CloudEvent]]:
    """The events of each stream by themselves, in their order: the widest lanes that keep it."""
    lanes: dict[str, list[CloudEvent]] = {}
    for event in batch:
        lanes.setdefault(event.stream, []).append(event)
    return list(lanes.values())


async def in_lanes(sink: str, lanes: Iterable[Sequence[CloudEvent]], send: SendLane, *, width: int) -> None:
    """Send several lanes at once, at most `width`. A lane ends at its first failure, so that nothing overtakes what
    failed; the others go on. Raises one of the failures, with all that was confirmed in any lane."""
    free, done = asyncio.Semaphore(width), list[str]()

    async def one(lane: Sequence[CloudEvent]) -> SinkProblem | None:
        async with free:
            try:
                await send(lane, done)
            except SinkProblem as problem:
                return problem
        return None

    async with together() as group:  # a bug in one of them ends all
        tasks = [group.create_task(one(lane)) for lane in lanes]
    problems = [problem for task in tasks if (problem := task.result())]
    # What may be mended by waiting goes first: an event that is refused will be refused again.
    for problem in sorted(problems, key=lambda each: isinstance(each, EventRefused)):
        if isinstance(problem, SinkUnavailable):
            after_s = max(each.after_s for each in problems if isinstance(each, SinkUnavailable))
            raise SinkUnavailable(sink, problem.problem, problem.event, tuple(done), after_s) from problem
        raise EventRefused(sink, problem.problem, problem.event, tuple(done)) from problem
