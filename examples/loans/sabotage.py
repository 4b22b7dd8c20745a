"""Sabotage: SIGKILL to a process of the cluster, as the kernel's out-of-memory killer or a power cut would end it."""

import asyncio
import os
import signal
from typing import Any

import ray

__all__ = ["HOST", "JOURNAL", "kill"]

NAMESPACE = "holdfast-default"  # Ray's name for Holdfast's namespace "default"
JOURNAL = "journal"
HOST = "host:{}"


async def kill(name: str) -> int:
    """End the process of a named Ray actor at once, and return its id. The actor itself says which one it is."""
    actor: Any = await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
    pid: int = await asyncio.wrap_future(actor.__ray_call__.remote(lambda self: os.getpid()).future())
    os.kill(pid, signal.SIGKILL)
    return pid
