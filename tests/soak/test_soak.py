"""A short soak, so that the long one is known to work, and the faults that matter most are met in every run."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
FAULTS = ["kill host", "kill journal", "pause host", "kill follower", "kill driver", "kill node"]


def test_faults_on_a_cluster_of_three_nodes_lose_and_double_nothing() -> None:
    """Hosts killed and paused, the journal, a follower, a driver and a node killed, under load, with both placements;
    subscriptions, a projection, a reaction and reminders among it. Over one kind of journal, which chance decides."""
    journal = random.choice(["sqlite", "postgres"])
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.125", "--journal", journal]
    command += ["--faults", ",".join(FAULTS)]
    soak = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(soak.stdout)  # its seed is in there
    assert soak.returncode == 0, "it says what is wrong, and how to run it again"
    assert re.search(r"subscriptions: 3 subscribers were given [1-9]", soak.stdout)
    assert re.search(r"projection: [1-9][\d,]* rows", soak.stdout)
    assert re.search(r"reaction: [1-9][\d,]* effects", soak.stdout)
    assert re.search(r"reminders: [1-9][\d,]* set, [1-9]", soak.stdout)
    for fault in FAULTS:
        assert re.search(rf"{fault} +│ +[1-9]", soak.stdout), f"there was no {fault}"
    assert "processes were left" not in soak.stdout
