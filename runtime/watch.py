"""The watchdog: while an answer takes long, see to it that somebody is there who can give it.

A slow answer is none of its business; callers have deadlines for that. A process that was stopped, or whose machine
has gone without a word, would never answer: it is told from a busy one by asking it something that needs no turn of
its event loop.
"""

import asyncio
from typing import Any

from holdfast.journal.subject import Log, Subject

from .cluster import Peer, PeerSilent
from .config import Config

__all__ = ["watched"]

log = Log(__name__)


async def watched(peer: Peer, config: Config, method: str, *args: Any) -> Any:
    """Ask, as `peer.ask` does. Raises `PeerSilent` when the peer does not turn any more."""
    task = asyncio.current_task()
    assert task is not None, "asked outside a task"
    watch = _Watch(peer, config, task)
    try:
        return await peer.ask(method, *args)
    except asyncio.CancelledError:
        if watch.ended_it():
            raise PeerSilent(peer.name, "it stopped responding") from None
        raise
    finally:
        watch.stop()


class _Watch:
    """Over one request: a timer, and only when that has run out a task. It ends the request as `asyncio.timeout` does,
    by cancelling whoever waits, who tells the two apart by the count of cancellations."""

    __slots__ = ("_asker", "_cancelling", "_config", "_looking", "_over", "_peer", "_silent", "_timer")

    def __init__(self, peer: Peer, config: Config, asker: "asyncio.Task[Any]") -> None:
        self._peer, self._config, self._asker = peer, config, asker
        self._cancelling, self._silent = asker.cancelling(), False
        self._over = False
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(config.suspect_s, self._suspect)

    def ended_it(self) -> bool:
        """Whether the request was cancelled by this watch, and by nobody else."""
        return self._silent and self._asker.uncancel() <= self._cancelling

    def stop(self) -> None:
        """There is an answer, or nobody who waits for one."""
        self._over = True
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _suspect(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            responds = await self._peer.responds(self._config.paused_s)
        except Exception:  # that says nothing of the peer: the request stays watched
            log.error(Subject("resident", self._peer.name), "could not be asked whether it responds", exc_info=True)
            responds = True
        if self._over:
            return  # its cancellation got lost: `asyncio.wait_for` prefers an answer that has just come
        if responds:
            self._timer = asyncio.get_running_loop().call_later(self._config.suspect_s, self._suspect)
        else:
            self._silent = True
            self._looking = None
            self._asker.cancel()
