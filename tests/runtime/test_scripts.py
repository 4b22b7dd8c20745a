"""Programs as users write them: a file, a prompt, plain Python; killed, interrupted, started again."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hf_support import descendants, eventually, is_running, writer_pid

pytestmark = pytest.mark.ray

CLASSES = """
from holdfast.actors import Aggregate, Rejected, command, event, on, query
from holdfast.runtime import Runtime

class TooLittle(Rejected):
    def __init__(self, *, amount):
        super().__init__("amount must be positive")
        self.amount = amount

class Broken(Exception):
    def __init__(self, *, code):
        self.code = code

@event("account.deposited")
class Deposited:
    amount: int

class Account(Aggregate):
    balance: int = 0

    @command
    def deposit(self, amount: int) -> int:
        if amount <= 0:
            raise TooLittle(amount=amount)
        self.emit(Deposited(amount))
        return self.balance

    @command
    def fail(self) -> None:
        raise Broken(code=7)

    @query
    def statement(self) -> int:
        return self.balance

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount
"""

BODY = """
    account = runtime.get(Account, "alice")
    print("keyed", {wait}runtime.get(Account, "alice", idempotency_key="k").deposit(7), flush=True)
    print("balance", {wait}account.deposit(100), flush=True)
    try:
        {wait}account.deposit(-1)
    except TooLittle as error:
        print("refused", error.amount, flush=True)
    try:
        {wait}account.fail()
    except Broken as error:
        print("broken", error.code, flush=True)
"""

HOLD = """
    import os, time
    while os.path.exists("hold"):
        {pause}
"""


def program(kind: str) -> str:
    body = BODY + HOLD
    if kind == "file":
        text = body.format(wait="await ", pause="await asyncio.sleep(0.05)")
        main = f'import asyncio\nasync def main():\n  async with Runtime.open("sqlite:///bank.db") as runtime:{text}'
        return f"{CLASSES}\n{main}\nif __name__ == '__main__':\n    asyncio.run(main())\n"
    if kind == "blocking":
        text = body.format(wait="", pause="time.sleep(0.05)")
        return f'{CLASSES}\nwith Runtime.open("sqlite:///bank.db") as runtime:{text}'
    text = body.format(wait="await ", pause="await asyncio.sleep(0.05)")
    classes = CLASSES.replace("\n\n    ", "\n    ")  # at a prompt an empty line ends a class
    text = text.replace("\n\n", "\n")
    return f'{classes}\n\nimport asyncio\nasync with Runtime.open("sqlite:///bank.db") as runtime:{text}\n\n'


class Program:
    """A running script, in a process group of its own, as a terminal would start it."""

    def __init__(self, kind: str, folder: Path) -> None:
        source = folder / "program.py"
        source.write_text(program(kind))
        prompt = kind == "prompt"
        self.process = subprocess.Popen(
            [sys.executable, "-u", *(["-m", "asyncio"] if prompt else [str(source)])],
            cwd=folder,
            stdin=source.open("rb") if prompt else subprocess.DEVNULL,
            stdout=(folder / "out").open("wb"),
            stderr=(folder / "err").open("wb"),
            start_new_session=True,
        )
        self.out, self.err = folder / "out", folder / "err"
        self.family: set[int] = set()

    async def lines(self, count: int) -> list[str]:
        """What it has printed, once it is that much."""

        def printed() -> list[str]:
            lines = self.out.read_text().splitlines()  # at a prompt, `... ` stands before what is printed
            found = [m[0] for line in lines if (m := re.search(r"(keyed|balance|refused|broken) -?\d+$", line))]
            assert self.process.poll() is None or len(found) >= count, self.err.read_text()[-3000:]
            return found if len(found) >= count else []

        lines: list[str] = await eventually(printed, 120)
        return lines

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, 120)
        return int(self.process.returncode)

    def remember_family(self) -> set[int]:
        """The processes below it. Ray's two agents are not counted: after a SIGKILL they end by themselves, a minute
        later, when they have given up on telling the cluster, which is no more, that it is no more."""
        self.family |= descendants(self.process.pid)
        return {pid for pid in self.family if not command_line(pid).endswith("Agent")}

    def clear(self) -> None:
        for pid in {self.process.pid, *self.family, *descendants(self.process.pid)}:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start a program of a kind in the test's folder; whatever happens, it ends with the test."""
    programs: list[Program] = []

    def run(kind: str) -> Program:
        programs.append(Program(kind, tmp_path))
        return programs[-1]

    try:
        yield run
    finally:
        for each in programs:
            each.clear()


async def nobody_left(family: set[int], within_s: float = 15.0) -> None:
    await eventually(lambda: not any(map(is_running, family)), within_s)


@pytest.mark.parametrize(("kind", "next_kind"), [("file", "blocking"), ("blocking", "file"), ("prompt", "prompt")])
async def test_a_program_killed_after_its_first_balance_continues_from_it(
    start: Any, tmp_path: Path, kind: str, next_kind: str
) -> None:
    """SIGKILL takes its Ray along, the journal's process at once, and with that its lock; a key it used is known to the
    next cluster, of a program of whatever kind; a normal end leaves no process."""
    (tmp_path / "hold").touch()
    first = start(kind)
    assert await first.lines(4) == ["keyed 7", "balance 107", "refused -1", "broken 7"]
    family = first.remember_family()
    journal = writer_pid(tmp_path / "bank.db")
    assert len(family) > 3
    assert is_running(journal)
    os.kill(first.process.pid, signal.SIGKILL)
    (tmp_path / "hold").unlink()
    started = time.monotonic()
    second = start(next_kind)
    assert (await second.lines(2))[:2] == ["keyed 7", "balance 207"]
    print(f"reopened and answered {time.monotonic() - started:.1f} s after SIGKILL")
    await nobody_left({journal}, 10)
    await nobody_left(family)
    second.remember_family()
    assert await second.ended() == 0, second.err.read_text()[-3000:]
    await nobody_left(second.family)


@pytest.mark.parametrize("kind", ["file", "blocking"])
async def test_ctrl_c_leaves_no_process_behind(start: Any, tmp_path: Path, kind: str) -> None:
    """The terminal sends SIGINT to the whole group."""
    (tmp_path / "hold").touch()
    it = start(kind)
    assert (await it.lines(2))[1] == "balance 107"
    it.remember_family()
    os.killpg(it.process.pid, signal.SIGINT)
    assert await it.ended() != 0
    assert "KeyboardInterrupt" in it.err.read_text()
    await nobody_left(it.family)
