"""The blocking twin: the same runtime for scripts and notebooks that have no event loop.

    with Runtime.open("sqlite:///bank.db") as runtime:
        print(runtime.get(Account, "alice").deposit(100))

It runs the asynchronous runtime in a thread of its own and waits for each answer. References block, too; sent to a
Ray task, they work there as they do here. Several threads may use it at once.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from holdfast.actors.aggregate import Aggregate
from holdfast.actors.recorded import RecordedEvent
from holdfast.journal.positions import Positions

from .errors import RuntimeClosed

if TYPE_CHECKING:
    from .forgetting import ForgottenReport
    from .runtime import Statistics

__all__ = ["BlockingRef", "BlockingRuntime"]

A = TypeVar("A", bound=Aggregate)
T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="holdfast", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there, wait here. Ctrl-C here cancels it there."""
        if not self.loop.is_running() and not self._thread.is_alive():
            work.close()
            raise RuntimeClosed("the blocking runtime")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


class BlockingRef:
    """A reference whose commands return their answers. Made by `BlockingRuntime.get`."""

    __slots__ = ("_loop", "_ref")

    def __init__(self, ref: Any, loop: "_Loop | None") -> None:
        self._ref, self._loop = ref, loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        send = getattr(self._ref, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            sending = send(*args, **kwargs)  # a wrong signature is told here, before anything is sent
            return (self._loop or _shared_loop()).wait(sending)

        return call

    def __dir__(self) -> list[str]:
        return dir(self._ref)

    def __repr__(self) -> str:
        return repr(self._ref)

    def __reduce__(self) -> Any:
        return BlockingRef, (self._ref, None)


class BlockingRuntime:
    """`Runtime`, waiting for every answer. See there for what each method does."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._loop = _Loop()
        try:
            self._runtime = self._loop.wait(opening())
        except BaseException:
            self._loop.stop()
            raise
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{self._runtime!r}, blocking"

    @property
    def partitions(self) -> int:
        """See `Runtime.partitions`."""
        return int(self._runtime.partitions)

    def get(self, type: type[Any], id: str, **how: Any) -> Any:
        """A reference whose commands return their answers instead of awaitables. See `Runtime.get`."""
        return BlockingRef(self._runtime.get(type, id, **how), self._loop)

    def register(self, *types: type[Aggregate]) -> None:
        """See `Runtime.register`."""
        self._loop.wait(self._runtime.register(*types))

    def read(self, type: type[Aggregate] | None = None, id: str | None = None, **how: Any) -> Iterator[RecordedEvent]:
        """See `Runtime.read`; a plain iterator."""
        return self._each(self._runtime.read(type, id, **how), lambda events: events.aclose())

    def subscribe(self, **how: Any) -> Iterator[RecordedEvent]:
        """See `Runtime.subscribe`; a plain iterator, which waits for the next event."""
        return self._each(self._runtime.subscribe(**how), lambda events: events.close())

    def watch(self, type: type[A], id: str) -> Iterator[A]:
        """See `Runtime.watch`; a plain iterator, which waits for the next change."""
        return self._each(self._runtime.watch(type, id), lambda states: states.aclose())

    def _each(self, found: Any, close: Callable[[Any], Coroutine[Any, Any, None]]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.wait(found.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            if not self._closed:
                self._loop.wait(close(found))

    def state_at(self, type: type[A], id: str, *, version: int | None = None) -> A:
        """See `Runtime.state_at`."""
        found: A = self._loop.wait(self._runtime.state_at(type, id, version=version))
        return found

    def passivate(self, type: type[Aggregate], id: str) -> bool:
        """See `Runtime.passivate`."""
        passivated: bool = self._loop.wait(self._runtime.passivate(type, id))
        return passivated

    def head(self) -> int | Positions:
        """See `Runtime.head`."""
        head: int | Positions = self._loop.wait(self._runtime.head())
        return head

    def start(self, what: Any, *args: Any, **options: Any) -> None:
        """See `Runtime.start`."""
        self._loop.wait(self._runtime.start(what, *args, **options))

    def stop(self, what: Any) -> bool:
        """See `Runtime.stop`."""
        stopped: bool = self._loop.wait(self._runtime.stop(what))
        return stopped

    def wait_for(self, what: Any, position: Any = None, *, timeout_s: float | None = None) -> None:
        """See `Runtime.wait_for`."""
        self._loop.wait(self._runtime.wait_for(what, position, timeout_s=timeout_s))

    def dead_letters(self, what: Any) -> list[Any]:
        """See `Runtime.dead_letters`."""
        found: list[Any] = self._loop.wait(self._runtime.dead_letters(what))
        return found

    def replay_dead_letters(self, what: Any, which: Any = None) -> list[Any]:
        """See `Runtime.replay_dead_letters`."""
        left: list[Any] = self._loop.wait(self._runtime.replay_dead_letters(what, which))
        return left

    def rebuild(self, what: Any) -> Iterator[Any]:
        """See `Runtime.rebuild`; a plain iterator."""
        return self._each(self._runtime.rebuild(what), lambda progress: progress.aclose())

    def forget(self, kind: str, id: str) -> "ForgottenReport":
        """See `Runtime.forget`."""
        report: ForgottenReport = self._loop.wait(self._runtime.forget(kind, id))
        return report

    def statistics(self) -> "Statistics":
        """See `Runtime.statistics`."""
        found: Statistics = self._loop.wait(self._runtime.statistics())
        return found

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of this runtime, and wait for it: to advance its clock, say."""
        return self._loop.wait(work)

    def metrics(self) -> Any:
        """See `Runtime.metrics`."""
        return self._loop.wait(self._runtime.metrics())

    def close(self) -> None:
        """See `Runtime.close`."""
        if not self._closed:
            self._closed = True
            try:
                self._loop.wait(self._runtime.close())
            finally:
                self._loop.stop()


_shared: _Loop | None = None
_sharing = threading.Lock()


def _shared_loop() -> _Loop:
    """For references that came by pickle into a process without a blocking runtime, a Ray task say."""
    global _shared
    with _sharing:
        if _shared is None:
            _shared = _Loop()
        return _shared
