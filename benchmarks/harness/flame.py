"""Flame graphs: where client, host and journal spend their CPU time under the load of many aggregates.

py-spy looks into the three processes from outside, at the same time, while 1,000 aggregates on one host are kept busy
by one client. What waits is left out, so that the width of a frame is CPU time. It needs the right to trace other
processes: root, or `CAP_SYS_PTRACE`.
"""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

from benchmarks.subjects.counter import Counter
from holdfast.runtime import Runtime, Sharded

from .processes import JOURNAL, actor_pids
from .result import RESULTS
from .run import data_folder

__all__ = ["Untraceable", "record"]

AGGREGATES, SAMPLES_PER_S = 1000, 200
TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*(</text>)')


class Untraceable(Exception):
    """py-spy is missing, or may not look into a process. The message tells what it said."""


async def record(seconds: int, folder: Path = RESULTS) -> list[Path]:
    """Write `flame-client.svg`, `flame-host.svg` and `flame-journal.svg`. Raises `Untraceable`."""
    program = _py_spy()
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with data_folder() as data:
        async with Runtime.open(f"sqlite:///{data}/counters.db", placement=Sharded(1)) as runtime:
            counters = [runtime.get(Counter, f"{number}") for number in range(AGGREGATES)]
            await asyncio.gather(*(counter.add(1) for counter in counters))
            busy = asyncio.gather(*(_keep_busy(counter) for counter in counters))
            pids = actor_pids()
            processes = {"client": os.getpid(), "host": pids["host:Counter#0"], "journal": pids[JOURNAL]}
            try:
                recording = (_record(program, pid, seconds, folder / f"flame-{n}.svg") for n, pid in processes.items())
                return list(await asyncio.gather(*recording))
            finally:
                busy.cancel()
                await asyncio.gather(busy, return_exceptions=True)


def _py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise Untraceable("py-spy is not installed: pip install --group bench")
    return found


async def _keep_busy(counter: Counter) -> None:
    while True:
        await counter.add(1)


async def _record(program: str, pid: int, seconds: int, path: Path) -> Path:
    options = ("--duration", str(seconds), "--rate", str(SAMPLES_PER_S), "--format", "flamegraph", "--nonblocking")
    spy = await asyncio.create_subprocess_exec(
        program, "record", "--pid", str(pid), *options, "--output", str(path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await spy.communicate()
    if spy.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-3:]
        raise Untraceable(f"py-spy may not look into process {pid}, or cannot: {' '.join(last)}")
    await asyncio.to_thread(_entitle, path)
    return path


def _entitle(path: Path) -> None:
    """Call the picture what it is: py-spy writes its own command there, with the paths of this machine."""
    drawn = path.read_text(encoding="utf-8")
    path.write_text(TITLE.sub(rf"\g<1>{path.stem}\g<2>", drawn, count=1), encoding="utf-8")
