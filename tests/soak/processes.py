"""Processes, as the system knows them: whose descendants they are, and signals to those that are ours and no others.

The soak adopts what its processes leave behind (`adopt_orphans`), so that everything it ever started, and nothing
else, is below it.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["adopt_orphans", "below", "die_with_parent", "end_all_below", "is_running", "send"]

_PDEATHSIG, _SUBREAPER = 1, 36  # of prctl


def adopt_orphans() -> None:
    """From now on whatever is orphaned below this process becomes its child."""
    _prctl(_SUBREAPER, 1)


def die_with_parent() -> None:
    """Get SIGTERM when the thread that started this process ends. For `preexec_fn`."""
    _prctl(_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    return _state(pid)[0] not in "ZX"


def below(pid: int) -> set[int]:
    """All processes below this one, without zombies."""
    parents = {each: _state(each)[1] for each in map(int, filter(str.isdigit, os.listdir("/proc")))}
    found: set[int] = set()
    wave = {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave} - found
        found |= wave
    return {each for each in found if is_running(each)}


def send(number: int, pids: Iterable[int]) -> list[int]:
    """Send a signal to those that are below this process. Returns whom it reached."""
    ours = below(os.getpid())
    reached = []
    for pid in pids:
        if pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached.append(pid)
    return reached


def end_all_below(pid: int, *, within_s: float = 20.0) -> set[int]:
    """Kill everything below, stopped or not, until there is nothing. Returns what resisted."""
    give_up = time.monotonic() + within_s
    while left := below(pid):
        for each in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        if time.monotonic() > give_up:
            return left
        time.sleep(0.02)
    return set()


def _state(pid: int) -> tuple[str, int]:
    """Its state, and its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0], int(fields[1])
