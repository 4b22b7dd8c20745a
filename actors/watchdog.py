"""The watchdog: reports a command that runs longer than its limit, once, with its stack.

A thread beside the event loop, since a command that blocks also blocks that. It costs commands nothing: now and then it
looks at what the loop's thread is doing (`sys._current_frames`), and finds the unit of work in whose frame it is; one
that it meets again has been running since. What awaits is looked at in the loop: the coroutines that it waits in.

Before this: a command has begun. After this: the log says which, for how long, and where it is.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from holdfast.journal.subject import Log, Subject

from .definition import Definition
from .unit import Unit

__all__ = ["Watchdog", "WatchedHost"]

log = Log(__name__)

Frames: TypeAlias = list[tuple[FrameType, int]]

LOOKS = 5
"""Looks within a limit: what is reported has run for its limit, and at most two fifths of that more."""

LOOK_MOST_S = 1.0
END_S = 1.0

_frames: Callable[[], dict[int, FrameType]] = getattr(sys, "_current_frames")  # noqa: B009  documented, if private


class WatchedHost(Protocol):
    """What the watchdog needs of a host."""

    definition: Definition

    @property
    def awaiting(self) -> Mapping[Any, Unit]:
        """What runs as a task, by its cell."""
        ...

    def holds(self, id: str) -> bool:
        """Whether the aggregate is here."""
        ...

    def was_slow(self) -> None:
        """One more command that was. In the event loop."""
        ...


class Watchdog(threading.Thread):
    """Of one event loop, for all hosts that live in it. `watch` starts it; it ends when it has none to watch."""

    _of: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Watchdog]"] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="holdfast-watchdog", daemon=True)
        self._loop, self._looked_at = loop, threading.get_ident()
        self._limits: dict[WatchedHost, float] = {}
        self._over = threading.Event()
        self._blocking: dict[Unit, float] = {}  # when what the thread is in was first met there
        self._awaiting: dict[Unit, float] = {}  # when what runs as a task was first met; written in the loop
        self._told: set[Unit] = set()
        self._asking = False

    @classmethod
    def watch(cls, host: WatchedHost, limit_s: float | None) -> None:
        """Watch the commands of a host of this event loop. A class may set a limit of its own, which counts first."""
        limit_s = host.definition.options.slow_command_s or limit_s
        if limit_s is None:
            return
        loop = asyncio.get_running_loop()
        dog = cls._of.get(loop)
        if dog is not None:
            dog._limits = {**dog._limits, host: limit_s}
            return
        dog = cls._of[loop] = cls(loop)
        dog._limits = {host: limit_s}
        dog.start()

    @classmethod
    def unwatch(cls, host: WatchedHost) -> None:
        """No more. In the event loop."""
        dog = cls._of.get(asyncio.get_running_loop())
        if dog is not None and host in dog._limits:
            dog._limits = {each: limit for each, limit in dog._limits.items() if each is not host}
            if not dog._limits:
                del cls._of[asyncio.get_running_loop()]
                dog._over.set()
                dog.join(END_S)  # it is asleep, or looks, which takes no time

    def run(self) -> None:
        while not self._over.wait(min(min(self._limits.values(), default=LOOK_MOST_S) / LOOKS, LOOK_MOST_S)):
            try:
                self._look()
            except Exception:  # whatever is looked at goes on, and may be seen the next time
                log.error(Subject("watchdog"), "a bug in it", exc_info=True)

    def _look(self) -> None:
        frame, now = _frames().get(self._looked_at), time.monotonic()
        found = None if frame is None else _unit_in(frame)
        if found is None:
            self._blocking = {}
        else:
            unit, inner = found
            since = self._awaiting.get(unit, self._blocking.get(unit, now))
            self._blocking = {unit: since}
            self._judge(unit, now - since, inner)
        if self._loop.is_closed():  # and nobody has said so
            self._over.set()
        elif not self._asking:
            self._asking = True  # it answers when it turns again
            self._in_loop(self._ask)

    def _ask(self) -> None:
        """In the loop: what awaits there."""
        self._asking, now = False, time.monotonic()
        tasks = {unit: cell.task for host in self._limits for cell, unit in host.awaiting.items()}
        self._awaiting = {unit: self._awaiting.get(unit, now) for unit in tasks}
        self._told &= tasks.keys() | self._blocking.keys()
        for unit, task in tasks.items():
            if task is not None:
                self._judge(unit, now - self._awaiting[unit], _awaited_by(task))

    def _judge(self, unit: Unit, seconds: float, frames: Frames) -> None:
        definition, id = unit.definition, unit.instance.id
        host = next((each for each in self._limits if each.definition is definition and each.holds(id)), None)
        limit_s = None if host is None else self._limits.get(host)
        if host is None or limit_s is None or seconds < limit_s or unit in self._told:
            return
        self._told.add(unit)
        method, where = unit.command.name, "".join(traceback.StackSummary.extract(iter(frames)).format())
        log.warning(
            Subject(
                unit.definition.category, id, version=unit.instance.version, method=method, seconds=seconds,
                limit_s=limit_s, stack=where,
            ),
            "%s has been running for %.3g s, its limit is %g s\n%s", method, seconds, limit_s, where.rstrip(),
        )  # fmt: skip
        self._in_loop(host.was_slow)

    def _in_loop(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it has just been closed
            self._loop.call_soon_threadsafe(call)


def _unit_in(frame: FrameType) -> tuple[Unit, Frames] | None:
    """The unit of work that a thread is in, and the frames of its command, outermost first."""
    inner: Frames = []
    here: FrameType | None = frame
    while here is not None:
        if here.f_code in _OURS:
            unit: Unit = here.f_locals["self"]
            return unit, inner[::-1]
        inner.append((here, here.f_lineno))
        here = here.f_back
    return None


def _awaited_by(task: "asyncio.Task[Any]") -> Frames:
    """The frames of the coroutines that a task waits in, those of the command only, outermost first."""
    frames: Frames = []
    waits: Any = task.get_coro()
    while waits is not None:
        frame: FrameType | None = _first(waits, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            break
        frames = [] if frame.f_code in _OURS else [*frames, (frame, frame.f_lineno)]
        waits = _first(waits, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _first(of: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(of, name, None)) is not None), None)


_OURS = frozenset({Unit.run.__code__, Unit.awaiting.__code__})
