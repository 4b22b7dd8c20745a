"""Time and processes. A process is an event loop of its own; all of them share one clock, which only moves when
somebody does something, or when nobody has anything to do until later.

Each step of a process (one callback: what runs between two awaits) takes a little time, so whatever happens to a
process happens between two steps of it, any two. One that is killed takes no further step. One that is stopped takes
none until it goes on; what it was sent waits, and its timers are late.

What another process awaits cannot be awaited here: asyncio itself refuses a future of another loop. So nothing can
pass between two processes but by the network.
"""

import asyncio
import contextvars
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Clock", "Process", "Stuck"]


class Stuck(AssertionError):
    """The run does not come to its end."""


class Step:
    """A callback that waits for its turn, or its time. What asyncio calls a handle."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "process", "time")

    def __init__(
        self,
        process: "Process",
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        time: float = 0.0,
    ) -> None:
        self.process, self.callback, self.args, self.time = process, callback, args, time
        self.context = contextvars.copy_context() if context is None else context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.time

    def run(self) -> None:
        try:
            self.context.run(self.callback, *self.args)
        except Exception as error:
            self.process.call_exception_handler({"message": "a callback raised", "exception": error})


class Clock:
    """The agenda of a world. `now`: seconds since it began. `steps`: how many were taken."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = 0.0
        self.steps = 0
        self.problems: list[str] = []  # what processes could not handle: bugs
        self.over = False
        self.listener: Callable[[str], None] | None = None
        self.processes: list[Process] = []
        self.agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entries = 0

    def at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        """Do this then. Entries for one time are done in the order of entering."""
        self._entries += 1
        heapq.heappush(self.agenda, (when, self._entries, act, args))

    def after(self, seconds: float, act: Callable[..., None], *args: Any) -> None:
        """Do this in so many seconds."""
        self.at(self.now + seconds, act, *args)

    def tell(self, what: str, *args: Any) -> None:
        """Say what happens, if anybody listens. `what`: a format for `args`."""
        if self.listener is not None:
            self.listener(f"{self.now:10.6f}  {what % args}")

    def process(self, name: str, step_s: float) -> "Process":
        """A new process, each step of which takes up to `step_s`."""
        process = Process(name, self, step_s)
        self.processes.append(process)
        return process

    def run_until(self, done: Callable[[], bool], until_s: float, steps_max: int) -> None:
        """Let everything happen until it is done. Raises `Stuck` when it takes too long."""
        agenda = self.agenda
        while not done():
            if not agenda:
                raise Stuck("everything waits for something that will never come")
            if self.now > until_s or self.steps > steps_max:
                raise Stuck(f"not over after {self.now:.1f} s and {self.steps} steps")
            when, _, act, args = heapq.heappop(agenda)
            if when > self.now:
                self.now = when
            act(*args)

    def end(self) -> None:
        """Kill everybody, and take their unfinished tasks apart, in order: so that nothing of this world is left for
        the garbage collector, which would come whenever it likes."""
        self.over = True
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.take_apart()
        self.agenda.clear()


class Process(asyncio.AbstractEventLoop):
    """One process of the world: an event loop that can be killed and stopped."""

    def __init__(self, name: str, clock: Clock, step_s: float) -> None:
        self.name, self.clock, self.step_s = name, clock, step_s
        self.dead = self.stopped = False
        self.on_death: list[Callable[[], None]] = []
        self._ready: deque[Step] = deque()
        self._awake = False
        self._steps_left: int | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64

    def __repr__(self) -> str:
        return f"<process {self.name}>"

    # -- what happens to it --------------------------------------------------------------------------------------

    def kill(self) -> None:
        """It takes no further step."""
        if not self.dead:
            self.dead = True
            self.clock.tell("%s dies", self.name)
            self._ready.clear()
            on_death, self.on_death = self.on_death, []
            for tell in on_death:
                tell()

    def kill_after(self, steps: int) -> None:
        """It dies of itself, so many steps from now."""
        self._steps_left = steps

    def spare(self) -> None:
        """It does not die of itself after all."""
        self._steps_left = None

    def stop_process(self) -> None:
        """As SIGSTOP does."""
        self.clock.tell("%s is stopped", self.name)
        self.stopped = True

    def go_on(self) -> None:
        """As SIGCONT does."""
        self.clock.tell("%s goes on", self.name)
        self.stopped = False
        if self._ready and not self._awake:
            self._wake()

    def take_apart(self) -> None:
        """Close what its tasks were doing, and what they start while they are closed."""
        events._set_running_loop(self)
        try:
            while self._tasks:
                tasks, self._tasks = self._tasks, []
                for task in tasks:
                    if not task.done():
                        task._log_destroy_pending = False  # type: ignore[attr-defined]
                        try:
                            task.get_coro().close()  # type: ignore[union-attr]
                        except BaseException:  # it may object to being closed; it is dead
                            pass
        finally:
            events._set_running_loop(None)

    # -- its steps -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._awake = True
        clock = self.clock
        clock.at(clock.now + self.step_s * clock.chance.random(), self._turn)

    def _turn(self) -> None:
        """Take steps until somebody else is due."""
        clock, ready = self.clock, self._ready
        agenda, chance = clock.agenda, clock.chance.random
        events._set_running_loop(self)
        try:
            while ready and not self.stopped:
                step = ready.popleft()
                if step.is_cancelled:
                    continue
                clock.steps += 1
                step.run()
                clock.now += self.step_s * chance()
                if self._steps_left is not None:
                    self._count_down()
                if agenda and agenda[0][0] <= clock.now:
                    break
        finally:
            events._set_running_loop(None)
        self._awake = False
        if ready and not self.stopped:
            self._awake = True
            clock.at(clock.now, self._turn)

    def _count_down(self) -> None:
        assert self._steps_left is not None
        self._steps_left -= 1
        if self._steps_left <= 0:
            self._steps_left = None
            self.kill()

    # -- what asyncio wants of a loop ----------------------------------------------------------------------------

    def time(self) -> float:
        return self.clock.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        step = Step(self, callback, args, context)
        if not self.dead:
            self._ready.append(step)
            if not self._awake and not self.stopped:
                self._wake()
        return step

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.clock.now + max(delay, 0.0), callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        step = Step(self, callback, args, context, when)
        if not self.dead:
            self.clock.at(when, self._due, step)
        return step

    def _due(self, step: Step) -> None:
        if not (step.is_cancelled or self.dead):
            self._ready.append(step)
            if not self._awake and not self.stopped:
                self._wake()

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None, **_: Any) -> Any:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks.append(task)  # all of them: a task that nobody holds would be collected at any time
        if len(self._tasks) > self._prune_at:
            self._tasks = [each for each in self._tasks if not each.done()]
            self._prune_at = 2 * len(self._tasks) + 64
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":
        """In a thread: what runs there runs in one go, at one moment, and to its end, even if nobody waits any more."""
        future: asyncio.Future[Any] = self.create_future()
        self.call_later(self.step_s, self._run_there, future, func, args)
        return future

    @staticmethod
    def _run_there(future: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not (self.dead or self.clock.over):
            error = context.get("exception")
            self.clock.problems.append(f"{self.name}: {context.get('message')}: {error!r}")
