"""The page on personal data is true: its programs run as they stand."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"


async def test_the_programs_of_the_page_on_forgetting_run_as_they_stand(tmp_path: Any) -> None:
    """One after the other, in a process of their own; what the page says that they print is what they print."""
    page = PAGE.read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["12 St James's Square, UK", "('Customer/42',) 1", "forgotten, UK"]
    assert all(f"`{line}`" in page for line in ran.stdout.splitlines())
    assert b"James" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
