"""`holdfast demo` and `holdfast bench`: what there is to try, from an installed wheel, in a folder of its own."""

import asyncio
import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import click
import msgspec

from .cli_event import json_line
from .cli_report import show_table, shown
from .cli_status import PROBLEMS, told
from .demo import Life, Outcome, run_demo

__all__ = ["bench_command", "demo_command"]


@click.command("demo", short_help="A bank that is killed with kill -9, and loses nothing.")
@click.option("--kills", metavar="N", type=click.IntRange(1, 100), default=3, help="How often. [3]")
@click.option("--keep", "folder", metavar="FOLDER", type=click.Path(), help="Keep the journal in this (new) folder.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def demo_command(kills: int, folder: str | None, in_json: bool) -> None:
    """Run a small bank in a process of its own, kill that with kill -9 in the middle of fifty deposits at once, start
    it again, and hold what was acknowledged against what is in the journal. Takes some seconds.

    Status 1: something was lost, or done twice.

    \b
    Example:
      holdfast demo --kills 5 --keep bank
    """
    with told(), _in_folder(folder) as place:
        if not in_json:
            click.echo(f"A bank in {shown(str(place))}; its process is killed with kill -9, {kills} times.")
        outcome = run_demo(place, kills, (lambda life: None) if in_json else _tell)
        if in_json:
            click.echo(json_line({**msgspec.structs.asdict(outcome), "good": outcome.good}))
        else:
            _show(outcome, kept=folder is not None)
    sys.exit(0 if outcome.good else PROBLEMS)


@contextlib.contextmanager
def _in_folder(kept: str | None) -> Generator[Path, None, None]:
    """A folder that goes in the end, or a new one that stays."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            yield Path(folder)
        return
    place = Path(kept)
    try:
        place.mkdir()
    except OSError as error:
        raise click.UsageError(f"--keep {kept}: {error.strerror}") from error
    yield place.resolve()


def _tell(life: Life) -> None:
    came = f"journal open after {life.ready_s:.2f} s, first answer {life.first_s * 1000:.0f} ms later"
    click.echo(f"life {life.number}: {came}; {life.acknowledged:,} deposits acknowledged, then kill -9")


def _show(outcome: Outcome, *, kept: bool) -> None:
    click.echo(
        f"{outcome.acknowledged:,} deposits were acknowledged: {outcome.lost} of them are missing,"
        f" {outcome.doubled} are there twice."
    )
    click.echo(
        f"{outcome.unheard} more had been made durable when their process was killed, before anybody heard of it."
    )
    show_table(("account", "balance"), [(name, f"{amount:,}") for name, amount in outcome.balances.items()])
    click.echo("The journal verifies." if not outcome.problems else f"The journal has {outcome.problems} problems.")
    if kept:
        click.echo(f"  holdfast show {outcome.journal} Account/alice --diff --module holdfast.runtime.demo_bank")


@click.command("bench", short_help="A quick measurement of this machine.")
@click.option("--seconds", metavar="N", type=click.FloatRange(0.1), default=3.0, help="Of each measurement. [3]")
@click.option("--in-flight", metavar="N", type=click.IntRange(1, 20_000), default=1000, help="Calls at once. [1000]")
@click.option("--folder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False), help="On which disk.")
@click.option("--no-ray", is_flag=True, help="All in this process, without Ray.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def bench_command(seconds: float, in_flight: int, folder: str | None, no_ray: bool, in_json: bool) -> None:
    """Measure what one aggregate does on this machine and its disk: durable commands one at a time and many at once,
    and how fast its events are replayed. Starts a Ray of its own and ends it; takes about a quarter of a minute.

    \b
    Example:
      holdfast bench --folder /var/lib/holdfast
    """
    # It opens a runtime, and that takes Ray: most of a second that other commands need not wait for.
    bench = importlib.import_module(".bench", __package__)
    with told(), tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder) as place, _steps() as tell:
        figures = asyncio.run(
            bench.measure(Path(place), seconds=seconds, in_flight=in_flight, ray=not no_ray, tell=tell)
        )
    if in_json:
        click.echo(json_line(figures))
        return
    rows = [
        ("one write of 4 KiB and its flush, p50", f"{figures.flush_ms:.2f} ms"),
        ("durable commands, one at a time", f"{figures.one_s:,.0f} /s, p50 {figures.one_p50_ms:.2f} ms"),
        (f"durable commands, {figures.many_in_flight:,} in flight", f"{figures.many_s:,.0f} /s"),
        (f"replay of {figures.replay_events:,} events", f"{figures.replay_s:,.0f} events/s"),
    ]
    show_table((f"one aggregate, on {figures.on}, {figures.cores} cores", ""), rows)


@contextlib.contextmanager
def _steps() -> Generator[Callable[[str], None], None, None]:
    """What is being measured, on stderr, if somebody is there to see it."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("measuring") as status:
        yield lambda step: status.update(f"measuring: {step}")
