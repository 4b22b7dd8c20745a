"""What the runtime's tests share: waiting for conditions, and the judge of a run."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

Check = Callable[[], Any | Awaitable[Any]]


async def eventually(condition: Check, within_s: float = 60.0) -> Any:
    """Wait until the condition gives something true, and return that."""
    give_up = time.monotonic() + within_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < give_up, f"not within {within_s} s: {getattr(condition, '__name__', condition)}"
        await asyncio.sleep(0.01)


def texts(folder: Path, pattern: str) -> Iterator[str]:
    """What these files hold now, but for those that are renamed as they are read (Ray does that to its logs)."""
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            yield path.read_text()


def writer_pid(path: Path) -> int:
    """The process that writes this journal (0: none)."""
    try:
        return int(msgspec.json.decode(Path(f"{path}.writer").read_bytes())["pid"])
    except (FileNotFoundError, msgspec.DecodeError):
        return 0


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program(pid: int) -> str:
    """What a process runs; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    wave = {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave} - found
        found |= wave
    return {child for child in found if is_running(child)}


class Notes(dict[str, str]):
    """A key-value store in memory."""

    def add(self, key: str, value: str) -> bool:
        return self.setdefault(key, value) is value

    def put(self, key: str, value: str) -> None:
        self[key] = value

    def remove(self, key: str) -> None:
        self.pop(key, None)

    def keys(self) -> Any:
        return list(super().keys())


class Judge:
    """What callers were told, against what the journal file holds.

    Every command carries a note of its own. `told`: note -> the version(s) that its reply named. `unknown`: notes
    whose outcome the caller does not know. `refused`: notes that certainly did not happen.
    """

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], tuple[int, ...]] = {}
        self.unknown: set[tuple[str, str]] = set()
        self.refused: set[tuple[str, str]] = set()

    def check(self, path: Path) -> int:
        """Raise AssertionError unless the journal and the callers agree. Returns the number of events."""
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "SELECT e.position, e.version, e.payload, s.id FROM events e JOIN streams s ON s.key = e.stream"
            " ORDER BY e.position"
        ).fetchall()
        connection.close()
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1)), "positions have gaps"
        versions: dict[str, list[int]] = {}
        noted: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            id = row["id"]
            versions.setdefault(id, []).append(row["version"])
            note = msgspec.msgpack.decode(row["payload"]).get("note")
            noted.setdefault((id, note), []).append(row["version"])
        for id, found in versions.items():
            assert found == list(range(1, len(found) + 1)), f"{id}: versions {found}"
        for place, told in self.told.items():
            assert tuple(noted.get(place, ())) == told, f"{place}: told {told}, journal {noted.get(place)}"
        for place in self.refused:
            assert place not in noted, f"{place} was refused, and happened"
        for place, found in noted.items():
            assert place in self.told or place in self.unknown, f"{place}: nobody asked for {found}"
        for place in self.unknown:
            assert len(noted.get(place, ())) in (0, 1, 3), f"{place} happened twice"
        return len(rows)
