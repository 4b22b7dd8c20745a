"""The stage: what a person sees of a soak. One run for each journal asked for, its progress, and what came out."""

import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .__main__ import arguments
from .conductor import Conductor, Run, Settings
from .processes import adopt_orphans, end_all_below
from .table import printed, summed

__all__ = ["main"]

LINE_EVERY_S = 10.0
PROBLEMS_SHOWN, PROBLEM_LENGTH = 10, 3000


def main() -> None:
    """The process: a folder to work in, and the arguments of `python -m tests.soak`."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    folder, asked = Path(sys.argv[1]), arguments(sys.argv[2:])
    kinds = ["sqlite", "postgres"] if asked.journal == "both" else [asked.journal]
    console = Console(soft_wrap=True)
    code = 1
    try:
        console.print(f"seed {asked.seed}")
        runs = []
        for kind in kinds:
            place = folder / kind
            place.mkdir()
            settings = Settings(
                seconds=asked.minutes * 60 / len(kinds),
                seed=asked.seed,
                placement=asked.placement,
                journal=kind,
                folder=str(place),
                faults=[each.strip() for each in asked.faults.split(",") if each.strip()],
            )
            runs.append(_run(settings, console))
        if len(runs) > 1 and all(run.verdict is not None for run in runs):
            summed(runs, console)
        code = int(any(run.problems for run in runs))
        console.print(f"again: {_again(asked)}")
    except KeyboardInterrupt:
        console.print("stopped")
        code = 130
    finally:
        end_all_below(os.getpid())
    os._exit(code)  # Ray's exit handlers would look for what has been ended


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(settings: Settings, console: Console) -> Run:
    with _Screen(settings, console) as screen:
        run = Conductor(settings, screen.show).carry_out()
    printed(run, console)
    for problem in run.problems[:PROBLEMS_SHOWN]:
        console.print(f"WRONG: {problem}"[:PROBLEM_LENGTH], markup=False, highlight=False)
    console.print("all is well" if not run.problems else f"{len(run.problems)} problems")
    return run


def _again(asked: object) -> str:
    """The command line of this run."""
    given = vars(asked)
    words = [f"--minutes {given['minutes']:g}", f"--seed {given['seed']}", f"--placement {given['placement']}"]
    words.append(f"--journal {given['journal']}")
    if given["faults"]:
        words.append(f"--faults {given['faults']!r}")
    return " ".join(["python -m tests.soak", *words])


class _Screen:
    """A bar on a terminal; elsewhere a line now and then."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings, self._console = settings, console
        self._progress: Progress | None = None
        self._next_at = 0.0

    def __enter__(self) -> "_Screen":
        if self._console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task("starting", total=self._settings.seconds)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, conductor: Conductor) -> None:
        """Where the run is."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + (0.2 if self._progress else LINE_EVERY_S)
        faults = conductor.nemesis.faults
        last = f", last: {faults[-1].kind} of {faults[-1].target}" if faults else ""
        text = f"{conductor.phase}: {len(faults)} faults, {conductor.answers:,} answers{last}"
        if self._progress is not None:
            self._progress.update(self._task, completed=now - conductor.began, description=text)
        else:
            self._console.print(f"{now - conductor.began:6.1f} s  {text}", markup=False, highlight=False)
