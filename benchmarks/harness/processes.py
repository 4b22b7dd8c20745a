"""The processes of a Ray cluster on this machine: which is which, and what each has used, from /proc."""

import os
from pathlib import Path
from typing import Any

import ray

__all__ = ["JOURNAL", "actor_pids", "cpu_s", "proportional_bytes", "ray_pids", "resident_bytes"]

JOURNAL = "journal"
"""The name of the journal's actor. Hosts are called `host:` and their owner."""

_TICKS_S = os.sysconf("SC_CLK_TCK")


def actor_pids() -> dict[str, int]:
    """The processes of the named actors that are alive, by name."""
    table: Any = ray._private.state.actors()
    return {actor["Name"]: actor["Pid"] for actor in table.values() if actor["Name"] and actor["State"] == "ALIVE"}


def ray_pids() -> list[int]:
    """Ray's own processes of the cluster that this process has started: those that serve all actors."""
    node: Any = ray._private.worker._global_node
    started = node.all_processes
    return [info.process.pid for kind in ("gcs_server", "raylet") for info in started.get(kind, [])]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, in user and in system mode, with all its threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_S


def resident_bytes(pid: int) -> int:
    """Memory of a process, with what it shares with others."""
    return _kib(pid, "status", "VmRSS") << 10


def proportional_bytes(pid: int) -> int:
    """Memory of a process, where what several share is counted once, divided among them."""
    return _kib(pid, "smaps_rollup", "Pss") << 10


def _kib(pid: int, file: str, name: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
