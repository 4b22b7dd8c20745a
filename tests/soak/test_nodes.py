"""A journal in a file belongs to a machine: it comes up on another node of it, and on no other machine."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from holdfast.runtime._ray import _node_of
from holdfast.runtime.cluster import PeerGone

ROOT = Path(__file__).parent.parent.parent


def node(name: str, machine: str, *, alive: bool = True) -> dict[str, object]:
    return {"NodeID": name, "NodeManagerHostname": machine, "Alive": alive}


def test_a_file_is_opened_on_a_live_node_of_its_own_machine() -> None:
    """This process's own node, if that is one."""
    nodes = [node("dead", "a", alive=False), node("other", "b"), node("one", "a"), node("two", "a")]
    assert _node_of("a", nodes, "two") == "two"
    assert _node_of("a", nodes, "other") == "one"
    assert _node_of("a", nodes, "dead") == "one"


def test_a_file_of_a_lost_machine_is_opened_nowhere() -> None:
    """The same path on another machine is another file: to open it would be to start again from nothing."""
    with pytest.raises(PeerGone, match="its file is on the machine a"):
        _node_of("a", [node("dead", "a", alive=False), node("other", "b")], "other")


@pytest.mark.ray
def test_a_journal_whose_node_is_lost_comes_up_on_another_node_of_its_machine() -> None:
    """Nobody opens anything anew: a host misses it, and starts it where its file is."""
    with tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "tests.soak.node_loss", folder]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ended.stdout)
    assert ended.returncode == 0
    assert "it goes on" in ended.stdout
