"""`holdfast demo` and `holdfast bench`: they run, and the demo would tell if something were lost."""

import asyncio
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hf_look import Written

from holdfast.journal.records import NewEvent, StreamId
from holdfast.journal.url import open_store
from holdfast.runtime import demo
from holdfast.runtime.cli import cli


def test_cli_demo_kills_a_bank_and_finds_everything_again(tmp_path):
    """Kept, its journal can be looked at with the class that is installed along."""
    result = CliRunner().invoke(cli, ["demo", "--kills", "2", "--keep", str(tmp_path / "bank"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["good"] is True
    assert len(found["lives"]) == 2
    assert found["acknowledged"] >= 2 * demo.ACKNOWLEDGED_MIN
    assert found["events"] == found["acknowledged"] + found["unheard"]
    module = ("--module", "holdfast.runtime.demo_bank")
    shown = CliRunner().invoke(cli, ["show", found["journal"], "Account/alice", "--at", "now", "--json", *module])
    assert json.loads(shown.stdout)["state"]["balance"] == found["balances"]["alice"]
    again = CliRunner().invoke(cli, ["demo", "--keep", str(tmp_path / "bank")])
    assert again.exit_code == 2
    assert "--keep" in again.stderr


@pytest.mark.parametrize(
    ("written", "acknowledged", "lost", "doubled", "unheard"),
    [
        ((0, 1, 2), {0, 1, 2}, 0, 0, 0),
        ((0, 1), {0, 1, 2}, 1, 0, 0),
        ((0, 1, 1), {0, 1}, 0, 1, 0),
        ((0, 1, 2), {0}, 0, 0, 2),
    ],
)
def test_the_demo_tells_what_was_lost_and_what_was_done_twice(tmp_path, written, acknowledged, lost, doubled, unheard):
    """Held against a journal that somebody else wrote."""
    url = f"sqlite:///{tmp_path}/bank.db"

    async def audit():
        journal = await Written([open_store(url)]).start()
        for number in written:
            made = demo.deposit(number)
            new = NewEvent(
                type="demo.deposited", payload=b"\x81\xa6amount\x07", command_id=made.key, recorded_at=1, reply=b"\x01"
            )
            await journal.write(StreamId("Account", made.account), new)
        await journal.close()
        return await demo._audit(url, (), acknowledged)

    outcome = asyncio.run(audit())
    assert (outcome.lost, outcome.doubled, outcome.unheard) == (lost, doubled, unheard)
    assert outcome.good is not bool(lost or doubled)


def test_a_demo_whose_process_does_not_start_says_why(tmp_path, monkeypatch):
    """And leaves none behind."""
    monkeypatch.setattr(demo.sys, "executable", "/bin/false")
    with pytest.raises(demo.DemoFailed, match="status 1"):
        demo.run_demo(tmp_path)


def test_cli_bench_measures_in_this_process(tmp_path):
    """All figures are there, and the folder is empty again."""
    command = [sys.executable, "-m", "holdfast.runtime.cli", "bench", "--no-ray", "--seconds", "0.2", "--json"]
    done = subprocess.run([*command, "--folder", tmp_path], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["on"] == "this process"
    assert all(figures[name] > 0 for name in ("flush_ms", "one_s", "one_p50_ms", "many_s", "replay_events", "replay_s"))
    assert not list(tmp_path.iterdir())
