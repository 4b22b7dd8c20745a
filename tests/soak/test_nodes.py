"""A journal in a file belongs to a machine: it comes up on another node of it, and on no other machine."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.ray
def test_a_journal_whose_node_is_lost_comes_up_on_another_node_of_its_machine() -> None:
    """Nobody opens anything anew: a host misses it, and starts it where its file is."""
    with tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "tests.soak.node_loss", folder]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ended.stdout)
    assert ended.returncode == 0
    assert "it goes on" in ended.stdout
