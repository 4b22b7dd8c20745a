"""What a figure was measured on: the machine, its disk, and the versions of what ran there."""

import os
import platform
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

__all__ = ["Machine", "commit", "filesystem", "machine", "versions"]

COMPARED = ("ray", "msgspec", "msgpack", "aiosqlite", "eventsourcing", "holdfast")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`cores`: that this process may use. `load`: of the minute before the run; well above 0, it was not idle."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    filesystem: str
    load: float

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / (1 << 30):.1f} GiB"
        return f"{self.cpu}, {self.cores} cores, {memory}, Linux {self.kernel}, data on {self.filesystem}"


def machine(folder: Path) -> Machine:
    """This machine, with its data in `folder`."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        filesystem=filesystem(folder),
        load=os.getloadavg()[0],
    )


def versions() -> dict[str, str]:
    """Of everything that a figure may depend on; what is not installed is not in it."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in COMPARED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the working tree, with a + if it has changes; empty outside of one."""
    try:
        found = _git("rev-parse", "--short=12", "HEAD")
        return found + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def filesystem(folder: Path) -> str:
    """The type of the file system that a folder is on: that of the longest mount point above it."""
    place, found = f"{folder.resolve()}/", ("", "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if place.startswith(point.rstrip("/") + "/") and len(point) >= len(found[0]):
            found = point, after.split()[0]  # of two on one point, the later one hides the other
    return found[1]


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(("git", *arguments), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
