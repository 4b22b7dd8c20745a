"""The built-in demo: a bank whose process is killed with `kill -9` in the middle of its work, again and again.

1. A process of its own (`demo_teller.py`) pays into five accounts, fifty deposits at once, and prints each that was
   acknowledged.
2. When it has acknowledged some hundreds it is killed. Another one starts, and sends everything again, with the same
   keys, from the first deposit on that was not acknowledged.
3. In the end each acknowledged deposit must be in the journal once, and the journal must verify.

It needs nothing but the library and a few seconds.
"""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.journal.errors import HoldfastError
from holdfast.journal.positions import Positions
from holdfast.journal.records import StreamId
from holdfast.journal.verify import open_sources, verify

from .demo_bank import Account
from .inspection import Inspection

__all__ = ["ACCOUNTS", "DemoFailed", "Deposit", "Life", "Outcome", "deposit", "run_demo"]

ACCOUNTS = ("alice", "bob", "carol", "dave", "erin")
ACKNOWLEDGED_MIN = 400
"""Deposits that a life acknowledges before it is killed, at least."""

START_S = 60.0


class DemoFailed(HoldfastError):
    """The process of the demo did not start, or ended by itself."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"the demo's process has ended: {self.problem}"


class Deposit(NamedTuple):
    """The deposit of a number: the same in every life."""

    key: str
    account: str
    amount: int


def deposit(number: int) -> Deposit:
    """What deposit `number` is."""
    return Deposit(f"deposit-{number}", ACCOUNTS[number % len(ACCOUNTS)], 1 + number % 100)


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One process, from its start to its end. `ready_s`: until the journal was open again; `first_s`: from there to
    its first acknowledgement, for which accounts came back into memory."""

    number: int
    ready_s: float
    first_s: float
    acknowledged: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `lost`, `doubled`: acknowledged deposits that are not there, deposits that are there twice.
    `unheard`: those that were durable when their process was killed, and that nobody had heard of. `problems`: what a
    verification of the journal found."""

    journal: str
    lives: tuple[Life, ...]
    acknowledged: int
    events: int
    unheard: int
    lost: int
    doubled: int
    balances: dict[str, int]
    problems: int

    @property
    def good(self) -> bool:
        """Nothing was lost, and nothing was done twice."""
        return not (self.lost or self.doubled or self.problems)


def run_demo(folder: Path, kills: int = 3, tell: Callable[[Life], None] = lambda life: None) -> Outcome:
    """Run it in a folder; `tell` is told of each life when it was killed. Raises `DemoFailed`."""
    url = f"sqlite:///{folder / 'bank.db'}"
    acknowledged: set[int] = set()
    lives: list[Life] = []
    for number in range(1, kills + 1):
        life = _live(url, number, acknowledged)
        lives.append(life)
        tell(life)
    return asyncio.run(_audit(url, tuple(lives), acknowledged))


def _live(url: str, number: int, acknowledged: set[int]) -> Life:
    """One life of the process. What it acknowledges is added."""
    first = next(each for each in range(len(acknowledged) + 1) if each not in acknowledged)
    before, started = len(acknowledged), time.perf_counter()
    command = [sys.executable, "-m", "holdfast.runtime.demo_teller", url, str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it was asked for"
        try:
            if process.stdout.readline() != "ready\n":
                raise DemoFailed(_last_words(process))
            ready = time.perf_counter()
            acknowledged.add(_number(process))
            heard = time.perf_counter()
            while len(acknowledged) - before < ACKNOWLEDGED_MIN:
                acknowledged.add(_number(process))
        finally:
            process.kill()
        # What it had said before it died was acknowledged as well; a line that was cut was not.
        acknowledged.update(int(line.split()[0]) for line in process.stdout if line.endswith("\n"))
    return Life(
        number=number,
        ready_s=ready - started,
        first_s=heard - ready,
        acknowledged=len(acknowledged) - before,
    )


def _number(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None, "it was asked for"
    line = process.stdout.readline()
    if not line.endswith("\n"):
        raise DemoFailed(_last_words(process))
    return int(line.split()[0])


def _last_words(process: "subprocess.Popen[str]") -> str:
    process.kill()
    said = process.stderr.read() if process.stderr else ""
    return said.strip().rpartition("\n")[2] or f"status {process.wait()}"


async def _audit(url: str, lives: tuple[Life, ...], acknowledged: set[int]) -> Outcome:
    """Hold what was acknowledged against what is there."""
    found: Counter[str] = Counter()
    balances: dict[str, int] = {}
    async with await Inspection.open(url, [Account]) as look:
        at = Positions.start(look.partitions)
        while (page := await look.after(at))[0]:
            events, at = page
            found.update(event.context.command_id for event in events)
        for account in ACCOUNTS:
            view = await look.state(StreamId("Account", account))
            balances[account] = view.fields["balance"] if view else 0
    keys = {deposit(number).key for number in acknowledged}
    report = await verify(await open_sources(url))
    return Outcome(
        journal=url,
        lives=lives,
        acknowledged=len(acknowledged),
        events=found.total(),
        unheard=len(found.keys() - keys),
        lost=len(keys - found.keys()),
        doubled=sum(count > 1 for count in found.values()),
        balances=balances,
        problems=report.problem_count,
    )
