"""Sabotage: SIGKILL to a process of the cluster, as the kernel's out-of-memory killer or a power cut would end it."""

import asyncio
import os
import signal
from typing import Any

import ray

__all__ = ["FOLLOWER", "HOST", "JOURNAL", "kill"]

NAMESPACE = "holdfast-default"  # Ray's name for Holdfast's namespace "default"
JOURNAL = "journal"
HOST = "host:{}"
FOLLOWER = "follower:{}"
POLL_S = 0.05


async def kill(name: str) -> int:
    """End the process of a named Ray actor at once, as soon as there is one, and return its id. The actor itself says
    which process it is."""
    actor = await _actor(name)
    pid: int = await asyncio.wrap_future(actor.__ray_call__.remote(lambda self: os.getpid()).future())
    os.kill(pid, signal.SIGKILL)
    return pid


async def _actor(name: str) -> Any:
    while True:
        try:
            return await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
        except ValueError:  # a short log is under way before its first host is
            await asyncio.sleep(POLL_S)
