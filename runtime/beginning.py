"""Where a follower begins: at the beginning, now, or after positions that it was given; decided once, and kept.

A second checkpoint says that it was decided. A follower whose first life was killed before it had done anything would
else begin somewhere else in its second, and leave out what came meanwhile. The beginning stays where it is.

Before this: a follower has its name claimed. After this: it knows its checkpoint in each partition.
"""

from typing import Literal, TypeAlias

from holdfast.journal.client import JournalClient
from holdfast.journal.positions import Positions
from holdfast.journal.records import Checkpoint

from .follower import Desk, FollowerStopped

__all__ = ["After", "begin_after", "is_position", "save_position"]

After: TypeAlias = Positions | Literal["beginning", "now"]
"""With the first event of the journal, with the next one, or after these positions."""

_DECIDED = " has begun"


async def begin_after(desk: Desk, name: str, after: After) -> Positions:
    """The checkpoints called `name`, made in the first life. Raises `FollowerStopped` for positions of another number
    of partitions."""
    if isinstance(after, Positions) and len(after) != len(desk.parts):
        problem = f"it shall begin after {after}, and the journal has {len(desk.parts)} partitions"
        raise FollowerStopped(desk.owner, problem)
    return Positions(tuple([await _of(desk, partition, name, after) for partition in range(len(desk.parts))]))


async def _of(desk: Desk, partition: int, name: str, after: After) -> int:
    part: JournalClient = desk.parts[partition]
    position = await part.find_checkpoint(name)
    if position or after == "beginning" or await part.find_checkpoint(f"{name}{_DECIDED}"):
        return position
    position = after[partition] if isinstance(after, Positions) else await part.head()
    await save_position(desk, partition, name, position)
    await save_position(desk, partition, f"{name}{_DECIDED}", 1)
    return position


async def save_position(desk: Desk, partition: int, name: str, position: int) -> None:
    """Move a checkpoint. Raises `Fenced`."""
    checkpoint = Checkpoint(name=name, owner=desk.owner, epoch=desk.epoch, position=position)
    await desk.parts[partition].save_checkpoint(checkpoint)


def is_position(name: str) -> bool:
    """Whether a checkpoint of that name says how far a follower is, and not only that it has begun."""
    return not name.endswith(_DECIDED)
