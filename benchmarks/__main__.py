"""`python -m benchmarks NAME` answers one question, `python -m benchmarks all` every one; `report` writes the tables
of benchmarks/README.md, `flame` draws where the time goes."""

import asyncio
import sys

import click

from benchmarks.harness.asking import ask, console
from benchmarks.harness.flame import Untraceable, record
from benchmarks.harness.question import names
from benchmarks.harness.report import write_report
from benchmarks.harness.suite import run_all

quick_option = click.option("--quick", is_flag=True, help="Smaller numbers, same method.")
seed_option = click.option("--seed", type=int, help="Of what is random; a new one each time, and told, if not given.")


def asking(name: str) -> click.Command:
    """The command that answers one question."""

    @click.command(name, help=f"Answer {name}.")
    @quick_option
    @seed_option
    def command(quick: bool, seed: int | None) -> None:
        ask(name, quick=quick, seed=seed)

    return command


@click.group(help=__doc__)
def main() -> None: ...


@main.command("all", help="Answer every question, and sum up.")
@quick_option
@seed_option
def ask_all(quick: bool, seed: int | None) -> None:
    sys.exit(run_all(names(), quick=quick, seed=seed, console=console()))


@main.command(help="Write the tables of benchmarks/README.md from the newest results.")
@click.option("--keep", is_flag=True, help="Also keep the results that they are made of in results/record/.")
def report(keep: bool) -> None:
    write_report(keep=keep)


@main.command(help="Draw where client, host and journal spend their CPU time, as flame graphs.")
@click.option("--seconds", default=10, show_default=True, help="How long to look.")
def flame(seconds: int) -> None:
    try:
        for path in asyncio.run(record(seconds)):
            console().print(path, highlight=False, soft_wrap=True)
    except Untraceable as problem:
        raise click.ClickException(str(problem)) from problem


for each in names():
    main.add_command(asking(each))

if __name__ == "__main__":
    main()
