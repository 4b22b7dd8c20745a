"""The demonstration: a bank's loan applications, with a host, a projection and the journal killed on the way.

    python -m examples.loans [--generated] [--cases N] [--seed N]

Ends with 0 if every check holds, with 1 if one does not, with 2 if it cannot run.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from holdfast.actors import Aggregate, VirtualClock
from holdfast.journal import JournalLocked, JournalOpenError, open_store
from holdfast.runtime import Dedicated, Placement, Runtime, Sharded, Statistics

from . import report, sabotage
from .board import Board
from .checks import check_all
from .domain import Clerk, LoanApplication
from .feed import PATIENCE_S, Answers, Incident, feed
from .fold import fold
from .hydration import costs
from .log import Log, load
from .open_work import OpenWork
from .unanswered import UnansweredOffers

OUT = Path(__file__).resolve().parents[2] / "out"
READ_MODEL = OUT / "loans-read.db"

# At most 908 applications of the real log are open at once: twice that is room enough, and most of the 13,087 are
# historical at any time. Each clerk is a process of some 40 MB.
PLACEMENT: Mapping[type[Aggregate], Placement] = {
    LoanApplication: Sharded(2, live_max=2_000),
    Clerk: Dedicated(live_max=68),
    UnansweredOffers: Sharded(1, live_max=2_000),
}
KILL_HOST_AT, KILL_PROJECTION_AT, KILL_JOURNAL_AT = 0.4, 0.55, 0.7  # of the log
PROJECTION = "projection/OpenWork@1"
SETTLE_S = 120.0  # for what falls due in a week, whatever is killed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. 0: every check holds."""
    parser = argparse.ArgumentParser(prog="python -m examples.loans", description=__doc__.partition("\n")[0])
    parser.add_argument("--generated", action="store_true", help="the generated log, also where the real one is")
    parser.add_argument("--cases", type=int, metavar="N", help="the first N applications only")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the generated log (default: 1)")
    options = parser.parse_args(arguments)
    if options.cases is not None and options.cases < 1:
        parser.error(f"--cases must be at least 1, got {options.cases}")
    started, console = time.perf_counter(), Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=120)
    log = load(generated=options.generated, cases=options.cases, seed=options.seed)
    console.print(f"{log.source}: {len(log.cases):,} applications, {len(log.lines):,} steps, {len(log.clerks)} clerks")
    try:
        run = asyncio.run(demonstrate(log, console, started))
    except JournalLocked as error:  # two demonstrations at once
        console.print(str(error))
        return 2
    report.show(console, run)

    from .picture import draw  # matplotlib takes a second to import: not while Ray starts

    picture = OUT / "loans.png"
    draw(run, picture)
    console.print(f"picture: {picture}")
    return 0 if all(check.holds for check in run.checks) else 1


async def demonstrate(log: Log, console: Console, started: float) -> report.Run:
    """Feed the log to a cluster and kill three of its processes; when the cluster has ended, look at the disk."""
    url = await _fresh_journal()
    expected = fold(log.lines)
    gc.freeze()  # the log stays: no need to look through it again and again for garbage
    incidents = _incidents(log, console)
    board = Board()
    answers, statistics = await _feed(url, log, incidents, console, board)
    console.print("every process of the cluster has ended; comparing what is on the disk")
    # By a clock that stands: by the machine's, all offers that are still out would lapse, being ten years overdue.
    clock = VirtualClock(log.lines[-1].at)
    async with Runtime.local(url, placement=PLACEMENT, clock=clock) as runtime:
        checks = await check_all(runtime, log, answers, expected, board, READ_MODEL)
        history = [recorded async for recorded in runtime.read(LoanApplication, report.telling(expected))]
    longest = report.longest(expected)
    from_snapshot, from_first = await costs(url, longest)
    return report.Run(
        log=log,
        expected=expected,
        answers=answers,
        incidents=incidents,
        statistics=statistics,
        longest=longest,
        from_snapshot=from_snapshot,
        from_first=from_first,
        history=history,
        evening=report.evening(READ_MODEL),
        checks=checks,
        took=time.perf_counter() - started,
    )


async def _feed(
    url: str, log: Log, incidents: list[Incident], console: Console, board: Board
) -> tuple[Answers, Statistics]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=console,
    )
    clock = VirtualClock(log.lines[0].at, settle_s=SETTLE_S)
    # Ray prints, to stdout, that processes die, which is the point here, and that sixty of them are many.
    with Live(Group(bar, board), console=console, redirect_stdout=False), contextlib.redirect_stdout(io.StringIO()):
        task = bar.add_task("starting Ray", total=len(log.lines))
        async with Runtime.open(url, placement=PLACEMENT, clock=clock) as runtime:
            await runtime.start(UnansweredOffers)
            await runtime.start(OpenWork, f"sqlite:///{READ_MODEL}")
            watching = asyncio.create_task(board.watch(runtime))
            bar.update(task, description="feeding the log")
            answers = await feed(runtime, clock, log, incidents, lambda lines: bar.advance(task, lines))
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            bar.update(task, description="waiting for the projection")
            await board.watch(runtime, until_caught_up=True)
            await runtime.wait_for(OpenWork, timeout_s=PATIENCE_S)
            statistics = await runtime.statistics()
            bar.update(task, description="ending Ray")
        bar.update(task, description="fed")
    return answers, statistics


def _incidents(log: Log, console: Console) -> list[Incident]:
    """A host, then a projection, then the journal, while thousands of commands are under way."""

    def strike(name: str, what: str) -> Callable[[], Awaitable[int]]:
        async def kill() -> int:
            pid = await sabotage.kill(name)
            console.print(f"kill -9 {pid}: {what}")
            return pid

        return kill

    def line(part: float) -> int:
        return int(len(log.lines) * part)

    owner = PLACEMENT[LoanApplication].owner("LoanApplication", log.lines[line(KILL_HOST_AT)].case)
    host = strike(sabotage.HOST.format(owner), f"the host {owner}")
    projection = strike(sabotage.FOLLOWER.format(PROJECTION), "the projection")
    return [
        Incident(line(KILL_HOST_AT), "a host", host),
        Incident(line(KILL_PROJECTION_AT), "the projection", projection, follower=PROJECTION),
        Incident(line(KILL_JOURNAL_AT), "the journal", strike(sabotage.JOURNAL, "the journal")),
    ]


async def _fresh_journal() -> str:
    """The URL of a journal that is not there yet. Raises `JournalLocked` while somebody writes the one of the last
    run: a file that is removed under its writer takes what was acknowledged with it."""
    OUT.mkdir(exist_ok=True)
    path = OUT / "loans.db"
    if path.exists():
        store = open_store(f"sqlite:///{path}?lock_wait_s=0")
        try:
            await store.open()
        except JournalLocked:
            raise
        except JournalOpenError:
            pass  # whatever it is, it goes
        finally:
            await store.close()
    for left in (*OUT.glob("loans.db*"), *OUT.glob(f"{READ_MODEL.name}*")):
        left.unlink()
    return f"sqlite:///{path}"


if __name__ == "__main__":
    sys.exit(main())
