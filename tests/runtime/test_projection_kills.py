"""kill -9 of a projection's process, at any step: each event counts once."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from hf_bank import Deposited
from hf_project import Ledger, Noise, Withdrawn, balances

from holdfast.journal.sqlite import SqliteStore

PROGRAM = Path(__file__).parent / "hf_kill.py"
EVENTS, KILLS = 600, 8


def run(journal: Path, url: str, page: int, steps: int) -> tuple[bool, int]:
    """One life, killed after so many steps. Whether it had reached the end, and how many pages it had begun."""
    command = [sys.executable, str(PROGRAM), str(journal), url, str(page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line.strip())
            if len(seen) >= steps or seen[-1] == "reached":
                process.kill()
                break
    assert seen, "it did not begin"
    return "reached" in seen, seen.count("committed")


async def test_kill_9_at_any_step_counts_each_event_once(tmp_path: Any, model_url: str) -> None:
    """Lives of a few pages each, killed at random steps; at the end the table is the fold."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    journal = tmp_path / "bank.db"
    ledger = Ledger(stores=[SqliteStore(journal)])
    server = ledger.links[0].server
    await server.start()
    while len(ledger.events) < EVENTS:
        kinds = [Deposited(chance.randint(0, 9)), Withdrawn(chance.randint(0, 9)), Noise()]
        await ledger.write(chance.choice("abcdefgh"), *chance.choices(kinds, k=chance.randint(1, 20)))
    await server.stop()
    lives, pages = 0, 0
    for _ in range(KILLS):
        # Books, look, seat and claim are the first twenty steps; some lives end there.
        reached, committed = run(journal, model_url, page=10, steps=chance.randint(5, 120))
        lives, pages = lives + 1, pages + committed
        if reached:
            break
    assert lives > 2
    assert pages > lives
    while not run(journal, model_url, page=50, steps=10**6)[0]:
        pass
    assert await balances(model_url) == ledger.balances()
