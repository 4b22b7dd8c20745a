"""Runs from the command line.

python -m tests.simulation --seeds 2000 [--first 0] [--jobs 2]
python -m tests.simulation --seed 4711 [--trace] [--focus "host replaced"] …
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

from .faults import KINDS, READ_KINDS
from .read_side import PARTS
from .run import Failure, Outcome, attempt, simulate

JUDGED = {
    "subscription": "events given",
    "projection": "rows",
    "reaction": "effects",
    "reminder": "reminders set, fired or cancelled",
}


def main() -> int:
    """The exit code: 0 if every run went right."""
    arguments = _arguments()
    parts = None if arguments.part is None else tuple(part for part in arguments.part if part != "none")
    if arguments.seed is not None:
        return replay(arguments.seed, arguments.focus, arguments.partitions, parts, trace=arguments.trace)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return explore(seeds, arguments.jobs, arguments.focus, arguments.partitions, parts)


def replay(
    seed: int,
    focus: Sequence[str] = (),
    partitions: int = 1,
    parts: tuple[str, ...] | None = None,
    *,
    trace: bool = False,
) -> int:
    """One run, twice: the same number must be the same run."""
    results: list[tuple[str, str]] = []
    for listener in (print if trace else None, None):
        try:
            outcome = simulate(seed, listener, focus, partitions, parts)
        except Failure as failure:
            results.append(("went wrong", str(failure)))
        else:
            results.append(("went right", _described(outcome)))
    (verdict, first), (_, second) = results
    print(first)
    if first != second:
        print(second, f"seed {seed}: two runs of one seed differ", sep="\n")
        return 1
    print(f"seed {seed}: {verdict}, the same twice")
    return int(verdict != "went right")


def explore(
    seeds: range,
    jobs: int,
    focus: Sequence[str] = (),
    partitions: int = 1,
    parts: tuple[str, ...] | None = None,
) -> int:
    """Many runs. Prints what they went through, and each that went wrong with the command that replays it."""
    began, failures = time.monotonic(), list[Failure]()
    outcomes: list[Outcome] = []
    with _progress(len(seeds)) as advance:
        for result in _results(seeds, jobs, partial(attempt, focus=tuple(focus), partitions=partitions, parts=parts)):
            advance()
            if isinstance(result, Outcome):
                outcomes.append(result)
            else:
                failures.append(result)
                print(result, flush=True)
    _summary(outcomes, len(failures), time.monotonic() - began)
    return 1 if failures else 0


def _results(seeds: range, jobs: int, one: Callable[[int], Outcome | Failure]) -> Iterator[Outcome | Failure]:
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:  # a worker that fails ends it all
        yield from pool.map(one, seeds, chunksize=20)


def _summary(outcomes: Iterable[Outcome], failed: int, took_s: float) -> None:
    outcomes = list(outcomes)
    faults: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    schedules = len(outcomes) + failed
    print(f"{schedules} schedules, {failed} failed; {60 * schedules / took_s:,.0f} a minute")
    print(
        f"{sum(o.commands for o in outcomes):,} commands and {sum(o.queries for o in outcomes):,} queries, of which"
        f" {sum(o.done for o in outcomes):,} answered; {sum(o.events for o in outcomes):,} events,"
        f" {sum(o.messages for o in outcomes):,} messages, {sum(o.steps for o in outcomes):,} steps,"
        f" {sum(o.seconds for o in outcomes):,.0f} simulated seconds"
    )
    judged: Counter[str] = sum((outcome.judged for outcome in outcomes), Counter())
    for part in PARTS:
        runs = sum(part in outcome.judged for outcome in outcomes)
        print(f"{part}: {runs:,} runs, {judged[part]:,} {JUDGED[part]}")
    print(f"{faults.total():,} faults:")
    for kind, count in sorted(faults.items()):
        print(f"  {count:>9,}  {kind}")


def _described(outcome: Outcome) -> str:
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.faults.items())) or "none"
    return (
        f"seed {outcome.seed}: digest {outcome.digest}; {outcome.commands} commands, {outcome.queries} queries,"
        f" {outcome.done} answered, {outcome.events} events, {outcome.messages} messages, {outcome.steps} steps,"
        f" {outcome.seconds:.3f} simulated seconds; faults: {faults}"
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar, if somebody looks at a terminal. Gives what to call after each run."""
    if not sys.stdout.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("schedules"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("schedules", total=total)
        yield lambda: progress.advance(bar)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Deterministic simulation.")
    parser.add_argument("--seed", type=int, help="replay this run, twice")
    kinds = [*KINDS, *READ_KINDS]
    parser.add_argument(
        "--focus", action="append", default=[], choices=kinds, help="only faults of this kind, and often"
    )
    parser.add_argument("--partitions", type=int, default=1, help="of the journal (default: %(default)s)")
    parts = [*PARTS, "none"]
    parser.add_argument("--part", action="append", choices=parts, help="of the read side, instead of its own")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
