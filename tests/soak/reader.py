"""A driver's reading side: it has the followers run, subscribes, and sets reminders; and at the end sees that all of
them have done what is theirs.

What the subscriber is given it notes in a file of its role, an event at a time, before it takes the next; its next life
goes on after the last one that stands there. A last line cut short is no line.
"""

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from holdfast.journal import HoldfastError
from holdfast.runtime import Runtime

from .notes import Notes
from .reading import Diary, Mirror, Totals

__all__ = ["Reader", "given", "woken"]

DIARIES, AGAIN_S, SETTLED_S = 4, 0.2, 100.0
SEEN, WOKEN = ".seen", ".woken"


class Reader:
    """Of one life of a driver. `role`: what its lives have in common."""

    def __init__(self, name: str, role: str, folder: Path, read_url: str, runtime: Runtime, notes: Notes) -> None:
        self._name, self._read_url, self._runtime, self._notes = name, read_url, runtime, notes
        self._seen_at, self._woken_at = folder / f"{role}{SEEN}", folder / f"{role}{WOKEN}"
        self._position = max((place for place, *_ in given(self._seen_at)), default=0)
        self._subscribing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have the followers run, whoever else does; and subscribe."""
        self._subscribing = asyncio.create_task(self._subscribe())
        for what in ((Totals, self._read_url), (Mirror,)):
            await self._patiently(lambda what=what: self._runtime.start(*what))

    async def set_reminders(self, rng: random.Random, over: asyncio.Event) -> None:
        """Until it is over. What was answered stands in a file, for the judge."""
        number = 0
        file = os.open(self._woken_at, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        while not over.is_set():
            number += 1
            token, id, name = f"{self._name}.{number}", f"d{rng.randrange(DIARIES)}", f"{self._name}.{rng.randrange(3)}"
            try:
                await self._runtime.get(Diary, id).wake(token, name, int(1e6 * rng.uniform(0.0, 3.0)))
            except HoldfastError:
                continue  # it was set, or not: the journal tells
            else:
                os.write(file, json.dumps(token).encode() + b"\n")
            await asyncio.sleep(rng.uniform(0.1, 0.5))

    async def settle(self) -> None:
        """Nothing more is written by callers: wait until nothing is left to do."""
        async with asyncio.timeout(SETTLED_S):
            for number in range(DIARIES):
                while await self._patiently(lambda number=number: self._waiting(number)):
                    await asyncio.sleep(AGAIN_S)
            for what in (Mirror, Mirror, Totals):  # the reaction's own events are some of those that it reacts to
                await self._patiently(lambda what=what: self._runtime.wait_for(what, timeout_s=SETTLED_S))
            head = await self._patiently(self._runtime.head)
            while self._position < head:
                await asyncio.sleep(AGAIN_S)

    def close(self) -> None:
        """Subscribe no longer."""
        if self._subscribing is not None:
            self._subscribing.cancel()

    async def _waiting(self, number: int) -> int:
        count: int = await self._runtime.get(Diary, f"d{number}", linearizable=True).waiting()
        return count

    async def _subscribe(self) -> None:
        file = os.open(self._seen_at, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        _drop_what_was_cut_short(self._seen_at)
        while True:
            try:
                async for recorded in self._runtime.subscribe(after=self._position):
                    line = [recorded.position, f"{recorded.category}/{recorded.id}", recorded.version, recorded.type]
                    os.write(file, json.dumps(line).encode() + b"\n")
                    self._position = recorded.position
            except HoldfastError as error:
                if not error.retryable:
                    self._notes.problem(f"a subscription of {self._name}: {error!r}")
                await asyncio.sleep(AGAIN_S)

    async def _patiently(self, ask: Any) -> Any:
        while True:
            try:
                return await ask()
            except HoldfastError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(AGAIN_S)


def given(path: Path) -> Iterator[tuple[int, str, int, str]]:
    """What the subscriber of a role was given, in all its lives: position, stream, version, type."""
    for line in _lines(path):
        position, stream, version, type = json.loads(line)
        yield position, stream, version, type


def woken(path: Path) -> list[str]:
    """The tokens of reminders that a role was told are set."""
    return [json.loads(line) for line in _lines(path)]


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _drop_what_was_cut_short(path: Path) -> None:
    whole = path.read_bytes().rpartition(b"\n")
    os.truncate(path, len(whole[0]) + len(whole[1]))
