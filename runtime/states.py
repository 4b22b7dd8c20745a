"""States as they change: what an aggregate is, each time that its stream has grown."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

from holdfast.actors.definition import Definition
from holdfast.actors.hydrate import hydrate
from holdfast.journal.journal import Journal
from holdfast.journal.records import StreamId

from .subscription import Subscription

__all__ = ["states"]


class Subscribe(Protocol):
    """`Runtime.subscribe`, as far as it is used here."""

    def __call__(self, *, stream: tuple[str, str], after: Any) -> Subscription: ...


async def states(
    definition: Definition, stream: StreamId, journal: Journal, subscribe: Subscribe
) -> AsyncIterator[Any]:
    """Detached instances: the first at once, the others when events have come; several that came together make one.

    The subscription starts at the end that the journal had before the first state was read. So nothing can be missed,
    and what is in that state already is told by its version."""
    before = await journal.head()
    found = await hydrate(definition, stream, journal)
    instance, version = found.instance, found.version
    async with subscribe(stream=stream, after=before) as subscription, aclosing(subscription.batches()) as batches:
        state = definition.encode_state(instance)  # before it is the reader's
        yield instance
        async for batch in batches:
            new = [event.record for event in batch.events if event.version > version and event.part == 0]
            if new:
                instance = definition.new(stream.id)
                definition.restore(instance, state, version)
                definition.replay(instance, new)
                state, version = definition.encode_state(instance), new[-1].version
                yield instance
