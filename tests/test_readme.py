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
def test_the_programs_of_the_readme_run_as_they_stand(tmp_path):
    """One after the other, as a reader would paste them into one file; then once more, after the first run."""
    assert len(PROGRAMS) == 6
    (tmp_path / "readme.py").write_text("\n".join(PROGRAMS))
    first = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert first.returncode == 0, first.stderr
    lines = [line for line in first.stdout.splitlines() if not line.startswith("(")]
    assert lines[0] == "100"
    assert lines[1] == "ann has 12.50"
    assert lines[2] == "7.50 7.50"
    assert lines[-5].startswith("12.50 ")
    assert lines[-4] == "101"
    assert [line.split(maxsplit=1)[1] for line in lines[-3:]] == [
        f"alice Deposited(amount={amount})" for amount in (100, 1, 1)
    ]


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
