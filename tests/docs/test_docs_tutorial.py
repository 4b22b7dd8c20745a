"""The tutorial, done as a newcomer would: its files saved, its commands typed, in order, the kill included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hf_pages import blocks, write_files

END = "--- the next command ---"


def sessions() -> list[tuple[str, str]]:
    """The commands of the page with what it shows of each, from the first that is not about installing."""
    lines = [line for each in blocks("tutorial.md") if each.language == "console" for line in each.body.splitlines()]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(shown)) for command, shown in found[3:]]


@pytest.mark.ray
def test_docs_the_tutorial_works_as_printed_the_kill_included(tmp_path: Path) -> None:
    """One shell for all of it; each command prints what the page shows, and the balance outlives SIGKILL."""
    write_files("tutorial.md", tmp_path)
    script = "".join(f"{command}\necho '{END}'\n" for command, _ in sessions())
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (tmp_path / "err").open("w") as err:  # what Ray says meanwhile; a file, which nobody has to read to its end
        ran = subprocess.run(
            ["bash"],
            input=script,
            cwd=tmp_path,
            env={**os.environ, "PATH": tools},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            timeout=240,
            check=False,
        )
    said = ["\n".join(line for line in part.strip().splitlines() if line[:1] != "(") for part in ran.stdout.split(END)]
    assert said[:-1] == [shown for _, shown in sessions()], (tmp_path / "err").read_text()[-3000:]


def test_docs_the_tutorial_kills_its_program_with_kill_9() -> None:
    """It is what the page is about."""
    commands = [command for command, _ in sessions()]
    assert any(command.startswith("kill -9 ") for command in commands)
    assert commands[0] == "python bank.py"
