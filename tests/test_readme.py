"""The README is true: its programs run as they stand, and what it points to is there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TARGETS = re.findall(r"\$ make (\w+)", README)
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
PROOFS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)


@pytest.mark.ray
def test_the_program_of_the_readme_runs_as_it_stands_and_goes_on_when_it_is_run_again(tmp_path):
    """As a reader would paste it into a file; the second run goes on from the balance of the first."""
    (program,) = PROGRAMS
    (tmp_path / "readme.py").write_text(program)
    for balance in ("100", "200"):
        ran = subprocess.run(
            [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert [line for line in ran.stdout.splitlines() if not line.startswith("(")] == [balance]


def test_the_readme_stays_short():
    """What, why, a program, what is guaranteed, how to install; the rest is in the documents."""
    assert len(README) < 20_000
    assert len(PROGRAMS[0].splitlines()) <= 35


@pytest.mark.parametrize("target", TARGETS)
def test_each_make_target_of_the_readme_exists(target):
    """The two commands, at least."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_each_link_of_the_readme_leads_somewhere(link):
    """A moved file takes its links along."""
    assert (ROOT / link).exists()


@pytest.mark.parametrize(("file", "name"), PROOFS, ids=lambda part: str(part))
def test_each_guarantee_is_shown_by_a_test_that_exists(file, name):
    """The table of guarantees names its proofs."""
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


def test_every_guarantee_names_a_proof():
    """No row of the table is a bare claim."""
    table = README.split("| Holdfast guarantees that")[1].split("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) >= 8
    assert all("`tests/" in row for row in rows)
