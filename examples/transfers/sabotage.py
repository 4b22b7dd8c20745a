"""Sabotage: SIGKILL to one process of the cluster after another, chosen by lot."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import ray

__all__ = ["sabotage"]

NAMESPACE = "holdfast-default"  # Ray's name for Holdfast's namespace "default"
ASK_S = 5.0


async def sabotage(chance: random.Random, tell: Callable[[str], None], *, every_s: tuple[float, float]) -> None:
    """Kill something every so many seconds, until cancelled: hosts, the followers of reaction and reminders, and the
    journal, each kind as often as the others."""
    while True:
        await asyncio.sleep(chance.uniform(*every_s))
        kinds: dict[str, list[str]] = {}
        for name in await asyncio.to_thread(_names):
            kinds.setdefault(name.partition(":")[0], []).append(name)
        name = chance.choice(kinds[chance.choice(sorted(kinds))])
        with contextlib.suppress(ValueError, TimeoutError, ray.exceptions.RayError):  # it is just dying by itself
            async with asyncio.timeout(ASK_S):
                pid = await _kill(name)
            tell(f"kill -9 {pid}: {name}")


def _names() -> list[str]:
    named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    return sorted(actor["name"] for actor in named if actor["namespace"] == NAMESPACE)


async def _kill(name: str) -> int:
    """The actor itself says which process it is."""
    actor: Any = await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
    pid: int = await asyncio.wrap_future(actor.__ray_call__.remote(lambda self: os.getpid()).future())
    os.kill(pid, signal.SIGKILL)
    return pid
