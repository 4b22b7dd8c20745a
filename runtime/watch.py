"""The watchdog: while an answer takes long, see to it that somebody is there who can give it.

A slow answer is none of its business; callers have deadlines for that. A process that was stopped, or whose machine
has gone without a word, would never answer: it is told from a busy one by asking it something that needs no turn of
its event loop.
"""

import asyncio
from typing import Any

from .cluster import Peer, PeerSilent
from .config import Config

__all__ = ["watched"]


async def watched(peer: Peer, config: Config, method: str, *args: Any) -> Any:
    """Ask, as `peer.ask` does. Raises `PeerSilent` when the peer does not turn any more."""
    asking = asyncio.ensure_future(peer.ask(method, *args))
    try:
        while not asking.done():
            await asyncio.wait({asking}, timeout=config.suspect_s)
            if not asking.done() and not await peer.responds(config.paused_s):
                raise PeerSilent(peer.name, "it stopped responding")
        return asking.result()
    finally:
        asking.cancel()
        asking.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody else looks at it
