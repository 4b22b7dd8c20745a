"""docs/evolution.md is true: its programs run as they stand, and print what it says."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "evolution.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(SAID,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_upcast_the_programs_of_the_document_about_changing_events_run_as_they_stand(tmp_path: Any) -> None:
    """One after the other, in one file."""
    assert len(PROGRAMS) == 4
    (tmp_path / "evolution.py").write_text("\n".join(PROGRAMS))
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "evolution.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == SAID


def test_check_the_command_that_the_document_shows_exists() -> None:
    """With the options that it names."""
    ran = subprocess.run(
        [sys.executable, "-m", "holdfast.runtime.cli", "check", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {"--module", "--all", "--json"} <= set(re.findall(r"--\w+", ran.stdout))
