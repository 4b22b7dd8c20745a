"""Answers: the replies that are awaited from one process, and the news that it is not up any more.

Ray tells of a process that died under a call, but of one that it starts again only after one to two seconds: it waits
whether that is for good. The process that asked knows much earlier that the other one is not up, if it looks.

Before this: a request was sent. After this: its reply is read, or `PeerGone` says that there will be none.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context

from .cluster import PeerGone

__all__ = ["Answers"]

LOOK_EVERY_S = 0.05


class Answers:
    """Awaits replies, and looks after the process every so often while there are any."""

    def __init__(self, name: str, is_up: Callable[[], bool]) -> None:
        """`name`: whom they come from. `is_up`: whether its process is, as far as this one has been told."""
        self._name, self._is_up = name, is_up
        self._awaited: dict[asyncio.Future[bytes], bool] = {}  # and whether the process was up when last looked at
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, reply: "asyncio.Future[bytes]") -> bytes:
        """The reply, or what it raises. `PeerGone`: the process was up, and is not any more."""
        asker = asyncio.current_task()
        assert asker is not None, "asked outside a task"
        cancelling = asker.cancelling()
        self._awaited[reply] = self._is_up()
        if self._timer is None:
            self._look_later()
        try:
            return await reply
        except asyncio.CancelledError:
            if reply not in self._awaited and asker.cancelling() <= cancelling:  # the look alone ended it
                raise PeerGone(self._name, "its process died under the call") from None
            raise
        finally:
            self._awaited.pop(reply, None)
            reply.cancel()
            if not self._awaited and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        is_up = self._is_up()
        for reply, was_up in list(self._awaited.items()):
            if was_up and not is_up and not reply.done():
                del self._awaited[reply]  # so its asker knows who has cancelled it
                reply.cancel()
            else:
                self._awaited[reply] = is_up
        self._look_later()

    def _look_later(self) -> None:
        # In a context of its own: what happens to be the asker's would live on here.
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look, context=Context())
