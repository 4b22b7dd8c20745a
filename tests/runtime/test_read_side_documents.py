"""The pages on subscriptions, reactions, metrics and sight are true: their programs run as they stand."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SAID = {
    "subscriptions.md": ["1 alice Deposited(amount=5)", "2 alice Deposited(amount=7)", "next time after 2"],
    "metrics.md": ["holdfast_commands_total {'type': 'Account'} 1", "holdfast_live_aggregates {'type': 'Account'} 1"],
    "sight.md": [],
    "reactions.md": ["first confirmed", "second no lamp is left"],
}


@pytest.mark.parametrize("page", SAID)
async def test_the_programs_of_the_pages_on_subscription_reaction_and_metrics_run_as_they_stand(
    page: str, tmp_path: Any
) -> None:
    """One after the other, in a process of their own, with what the page says that they print."""
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL))
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == SAID[page]
