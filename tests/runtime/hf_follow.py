"""A follower that writes a line for each event into a file, its checkpoint in the same line. A module that the
processes of followers import by its name."""

import os
from pathlib import Path
from typing import Any

from holdfast.journal.errors import Fenced
from holdfast.journal.positions import Positions
from holdfast.journal.wire import PackedPage
from holdfast.runtime.follower import Desk, FollowerPlan, FollowerStopped, PageFollower


class Scribe(PageFollower):
    """`path`: where it writes; its last line is its checkpoint. `stop_at`: a position that it refuses."""

    kind = "scribe"
    methods = frozenset({"pid"})

    def __init__(self, path: str, category: str | None = None, stop_at: int = 0) -> None:
        self.path, self.category, self.stop_at = Path(path), category, stop_at

    async def begin(self, desk: Desk) -> Positions:
        each = [0] * len(desk.parts)
        for line in lines(self.path):
            partition, position, *_ = line.split()
            each[int(partition)] = int(position)
        return Positions(tuple(each))

    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        events = page.unpacked()
        for event in events:
            if event.position == self.stop_at:
                raise FollowerStopped(desk.owner, f"position {event.position}")
        text = "".join(f"{partition} {e.position} {e.stream.id} {e.version}\n" for e in events)
        _write(self.path, text)
        return len(events)

    async def pid(self) -> int:
        return os.getpid()


class Failing(Scribe):
    """Fails as often as there are lines in the file beside it, then works."""

    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        _fail(Path(f"{self.path}.failures"))
        return await super().take(desk, partition, page)


class Succeeded(Scribe):
    """Finds that it was fenced, as long as the file beside it is there, which it removes."""

    async def take(self, desk: Desk, partition: int, page: PackedPage) -> int:
        if _remove(Path(f"{self.path}.fenced")):
            raise Fenced(desk.owner, desk.epoch, desk.epoch + 1)
        return await super().take(desk, partition, page)


def _write(path: Path, text: str) -> None:
    with path.open("a") as file:  # one write: a kill leaves all of a page or nothing
        os.write(file.fileno(), text.encode())


def _remove(path: Path) -> bool:
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _fail(left: Path) -> None:
    count = int(left.read_text() or "0")
    if count:
        left.write_text(str(count - 1))
        raise ZeroDivisionError(f"{count} to go")


def lines(path: Any) -> list[str]:
    """What has been written, whole lines only."""
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def plan(path: Any, *, name: str = "scribe/one", code: str = "1", kind: type[Scribe] = Scribe, **how: Any) -> Any:
    """A scribe's plan."""
    file = str(path)
    return FollowerPlan(name=name, code=code, make=lambda: kind(file, **how))
